package report

import (
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"slipway/internal/chart"
	"slipway/internal/check/results"
	"slipway/internal/cycle"
	"slipway/internal/distro"
)

// mostReasons is how many findings of a level the page shows in full; more are counted.
const mostReasons = 150

// checkPage is what check.html shows.
type checkPage struct {
	Title string
	R     cycle.Report
	Most  int // points of the riskiest component

	Boards  []boardLine
	Blocks  findings
	Waived  []distro.Reason
	Warns   findings
	Notes   findings
	Checks  []checkLine
	Charts  []figure
	Upgrade []bedTable
	Boots   []bedTable
	Replay  string // the command that repeats the random upgrades
	Asked   int
	Logs    []logLine
	Next    []string // commands

	anchors map[string]string // of logs on the page
}

type boardLine struct {
	Name        string
	Status      distro.Status
	Block, Warn int
}

type findings struct {
	Shown []distro.Reason
	More  int
}

type checkLine struct {
	distro.CheckResult
	Block, Warn, Info int
	Off               bool
}

// figure is a chart with the table of its numbers.
type figure struct {
	SVG   template.HTML
	Title string
	Head  []string
	Rows  [][]string
}

// bedTable are the trials of one board and image.
type bedTable struct {
	Title  string
	Head   []string
	Trials []distro.Trial
}

type logLine struct {
	cycle.LogEnd
	ID string
}

// Check writes the page of a candidate: the verdict, then all that it stands on.
func Check(out io.Writer, r cycle.Report) error {
	p := checkPage{Title: r.Title, R: r, Most: 1, anchors: map[string]string{}}
	for _, c := range r.Review.Components {
		p.Most = max(p.Most, c.Score)
	}
	p.reasons()
	for _, c := range r.Build.Candidate.Checks {
		p.Asked += c.Asked
	}
	p.charts()
	for _, t := range r.Trials {
		tables := group(t)
		if strings.Contains(t.Check, "upgrade") {
			p.Upgrade = append(p.Upgrade, tables...)
		} else {
			p.Boots = append(p.Boots, tables...)
		}
	}
	name := r.Build.ID.Candidate()
	if r.Build.Candidate.Seed != 0 {
		p.Replay = "slipway test " + name + " --replay"
	}
	for i, l := range r.Logs {
		id := fmt.Sprintf("log-%d", i+1)
		p.anchors[l.Name] = id
		p.Logs = append(p.Logs, logLine{l, id})
	}
	switch {
	case r.Status == distro.Blocked:
		p.Next = []string{"slipway waive " + name + " FINDING --by NAME --because TEXT --expires DATE", "slipway reject " + name + " --because TEXT"}
	case r.Status == distro.Ready:
		p.Next = []string{"slipway approve " + name + " --by NAME"}
	case r.Status == distro.Stale, r.Status == distro.Rejected:
		p.Next = []string{"slipway build"}
	}
	return execute(out, "check.html", &p)
}

// reasons sorts the verdict's by what they ask of a person.
func (p *checkPage) reasons() {
	of := map[string]int{}
	for i, c := range p.R.Build.Candidate.Checks {
		p.Checks = append(p.Checks, checkLine{CheckResult: c})
		of[c.Spec.ID] = i
	}
	add := func(to *findings, r distro.Reason) {
		if len(to.Shown) < mostReasons {
			to.Shown = append(to.Shown, r)
		} else {
			to.More++
		}
	}
	boards := make([]boardLine, len(p.R.Boards))
	for i, b := range p.R.Boards {
		boards[i] = boardLine{Name: b, Status: p.R.Verdict.Boards[b]}
	}
	for _, r := range p.R.Verdict.Reasons {
		i, ran := of[r.Finding.Check]
		if !ran { // off, or did not run
			i = len(p.Checks)
			of[r.Finding.Check] = i
			p.Checks = append(p.Checks, checkLine{CheckResult: distro.CheckResult{Spec: distro.CheckSpec{ID: r.Finding.Check}, Note: r.Finding.Text}, Off: true})
		}
		line := &p.Checks[i]
		here := func(count func(b *boardLine)) {
			for i := range boards {
				if len(r.Finding.Boards) == 0 || slices.Contains(r.Finding.Boards, boards[i].Name) {
					count(&boards[i])
				}
			}
		}
		switch {
		case r.Decides:
			line.Block++
			here(func(b *boardLine) { b.Block++ })
			add(&p.Blocks, r)
		case r.Waived != nil:
			p.Waived = append(p.Waived, r)
		case r.Finding.Level == distro.Block, r.Finding.Level == distro.Warn:
			line.Warn++
			here(func(b *boardLine) { b.Warn++ })
			add(&p.Warns, r)
		default:
			line.Info++
			add(&p.Notes, r)
		}
	}
	p.Boards = boards
}

func (p *checkPage) charts() {
	for _, l := range p.R.Sizes {
		var bars []chart.Size
		f := figure{Title: "Size of " + l.Name, Head: []string{"Release", "Size"}}
		if !l.Image {
			f = figure{Title: "Size of all packages in the feeds", Head: []string{"Release", "Size", "Packages"}}
		}
		for _, s := range l.Points {
			bars = append(bars, chart.Size{Label: string(s.Version), Bytes: s.Bytes})
			row := []string{string(s.Version), chart.Bytes(s.Bytes)}
			if !l.Image {
				row = append(row, fmt.Sprint(s.Count))
			}
			f.Rows = append(f.Rows, row)
		}
		f.SVG = drawing(chart.Sizes(f.Title, bars))
		p.Charts = append(p.Charts, f)
	}
	bars := results.Bars(p.R.Results)
	if len(bars) == 0 {
		return
	}
	f := figure{Title: "Tests by release", Head: []string{"Release", "Passed", "Skipped", "Failed"}}
	for _, b := range bars {
		f.Rows = append(f.Rows, []string{b.Label, fmt.Sprint(b.Passed), fmt.Sprint(b.Skipped), fmt.Sprint(b.Failed)})
	}
	f.SVG = drawing(chart.Results(f.Title, bars))
	p.Charts = append(p.Charts, f)
}

// drawing takes the name space off, which an element inside HTML does not need. Package
// chart escapes every text in it.
func drawing(svg string) template.HTML {
	return template.HTML(strings.Replace(svg, ` xmlns="http://www.w3.org/2000/svg"`, "", 1))
}

// group makes a table of the trials of each board and image.
func group(all cycle.Trials) []bedTable {
	var out []bedTable
	for _, t := range all.Trials {
		title := "Install roots"
		switch {
		case t.Image != "":
			title = t.Board + ", image " + t.Image
		case t.Board != "":
			title = t.Board + ", install roots"
		}
		if all.Check == "selfupgrades" {
			title += ", by its own dnf"
		}
		i := slices.IndexFunc(out, func(b bedTable) bool { return b.Title == title })
		if i < 0 {
			out, i = append(out, bedTable{Title: title}), len(out)
		}
		b := &out[i]
		for _, s := range t.Steps {
			if !slices.Contains(b.Head, s.Name) {
				b.Head = append(b.Head, s.Name)
			}
		}
		for _, m := range t.Measures {
			if !slices.Contains(b.Head, m.Name) {
				b.Head = append(b.Head, m.Name)
			}
		}
		b.Trials = append(b.Trials, t)
	}
	return out
}

// cell is what a trial has below a heading of its table.
type cell struct {
	Head, Text, Class string
	Log               string // name of a log
}

// Short reports whether it stands on one line.
func (c cell) Short() bool { return len(c.Text) < 16 }

// Headlines are the first of what blocks, for the top of the page.
func (f findings) Headlines() []distro.Reason { return f.Shown[:min(len(f.Shown), 12)] }

// Beyond is how many more there are.
func (f findings) Beyond() int { return len(f.Shown) + f.More - len(f.Headlines()) }

// Cells gives a trial's cells, one for each heading.
func (b bedTable) Cells(t distro.Trial) []cell {
	out := make([]cell, len(b.Head))
	for i, h := range b.Head {
		out[i] = cell{Head: h, Text: "-"}
		for _, s := range t.Steps {
			if s.Name != h {
				continue
			}
			switch s.Outcome {
			case distro.StepGood:
				out[i] = cell{h, "good", "done", s.Log}
			case distro.StepBad:
				out[i] = cell{h, "bad", "block", s.Log}
			default:
				out[i] = cell{h, "not reached", "soft", ""}
			}
		}
		for _, m := range t.Measures {
			if m.Name != h {
				continue
			}
			text := m.Text
			if text == "" {
				text = strings.TrimSpace(fmt.Sprintf("%.4g %s", m.Value, m.Unit))
			}
			out[i] = cell{Head: h, Text: text}
		}
	}
	return out
}

// Shown is how many bytes of the log are on the page.
func (l logLine) Shown() int64 { return int64(len(l.Text)) }

// Anchor gives the id of a log on the page; "" when it is not there.
func (p *checkPage) Anchor(log string) string { return p.anchors[log] }

// Said is a check's outcome in words.
func (c checkLine) Said() string {
	var parts []string
	blocks := "that block"
	if c.Block == 1 {
		blocks = "that blocks"
	}
	for _, n := range []struct {
		n    int
		word string
	}{{c.Block, blocks}, {c.Warn, "to look at"}, {c.Info, "to know"}} {
		if n.n > 0 {
			parts = append(parts, count(n.n, "finding")+" "+n.word)
		}
	}
	switch {
	case c.Error != "":
		return "did not come to its end: " + c.Error
	case c.Off:
		return c.Note
	case len(parts) > 0:
		return strings.Join(parts, ", ")
	case len(c.Findings) > 0: // all of them waived
		return count(len(c.Findings), "finding") + ", waived"
	case c.Asked == 0:
		return "asked nothing"
	}
	return "clean"
}

// Class colours it.
func (c checkLine) Class() string {
	switch {
	case c.Block > 0 || c.Error != "":
		return "block"
	case c.Warn > 0 || c.Off:
		return "warn"
	case c.Asked == 0:
		return "soft"
	}
	return "done"
}
