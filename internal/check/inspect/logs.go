package inspect

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/errs"
)

// issue is something that a log complains of. Two builds have the same issue when all
// of it is equal: paths, line numbers and addresses are taken out of the text.
type issue struct {
	Source string `json:"source"` // recipe or spec; "" is the build itself
	Kind   string `json:"kind"`   // "error", "warning", "compiler", "qa:already-stripped"
	Text   string `json:"text"`
}

// issues is what is kept of a build's logs for the next: issuesName.
type issues struct {
	Schema int                `json:"schema"` // 1
	Issues map[string][]issue `json:"issues"` // by source; a source that was not built has those of the builds before
}

const issuesName = "issues.json"

// keptLine is in a task log of the embedded builder when nothing was built.
const keptLine = " kept, not built: "

// limits of one build: more is told, and not kept.
const (
	maxLine   = 64 << 10 // bytes of a line that are looked at
	maxIssues = 20000
)

var (
	bitbakeLine = regexp.MustCompile(`^(WARNING|ERROR): (?:(\S+) (do_\w+): )?(.*)$`)
	qaLine      = regexp.MustCompile(`QA Issue: (.*?)(?: \[([a-z0-9_-]+)\])?$`)
	gccLine     = regexp.MustCompile(`^([^\s:][^:]*):\d+(?::\d+)?: warning: (.*)$`)
	rpmLine     = regexp.MustCompile(`^warning: (.*)$`)

	paths   = regexp.MustCompile(`(?:/[^\s/:;,'"()\[\]]+){2,}/?`)
	lineNos = regexp.MustCompile(`:\d+\b`)
	hexes   = regexp.MustCompile(`\b(?:0x[0-9a-f]+|[0-9a-f]{12,})\b`)
	pids    = regexp.MustCompile(`\[\d+\]`)
)

// parseLine finds what a line complains of; recipe is the one whose task wrote it, for
// lines that name none.
func parseLine(line, recipe string) (issue, bool) {
	if m := bitbakeLine.FindStringSubmatch(line); m != nil {
		i := issue{Source: recipe, Kind: strings.ToLower(m[1]), Text: m[4]}
		if m[2] != "" {
			i.Source = recipeOf(m[2])
		}
		if q := qaLine.FindStringSubmatch(m[4]); q != nil {
			i.Kind, i.Text = "qa:"+q[2], q[1]
		}
		i.Text = plain(i.Text)
		return i, true
	}
	if m := gccLine.FindStringSubmatch(line); m != nil {
		return issue{recipe, "compiler", plain(path.Base(m[1]) + ": " + m[2])}, true
	}
	if m := rpmLine.FindStringSubmatch(line); m != nil {
		return issue{recipe, "warning", plain(m[1])}, true
	}
	return issue{}, false
}

// recipeOf takes version and release off "hello-1.0-r0".
func recipeOf(pf string) string {
	parts := strings.Split(pf, "-")
	if len(parts) < 3 {
		return pf
	}
	return strings.Join(parts[:len(parts)-2], "-")
}

// plain takes out what differs from build to build, and keeps bytes that are no UTF-8
// as \xNN.
func plain(s string) string {
	if !utf8.ValidString(s) {
		var b strings.Builder
		for len(s) > 0 {
			r, n := utf8.DecodeRuneInString(s)
			if r == utf8.RuneError && n == 1 {
				fmt.Fprintf(&b, `\x%02x`, s[0])
			} else {
				b.WriteString(s[:n])
			}
			s = s[n:]
		}
		s = b.String()
	}
	s = paths.ReplaceAllStringFunc(s, func(p string) string {
		dir, base := path.Split(strings.TrimSuffix(p, "/"))
		return ".../" + path.Join(path.Base(dir), base)
	})
	s = lineNos.ReplaceAllString(s, ":N")
	s = pids.ReplaceAllString(s, "[N]")
	return strings.TrimSpace(hexes.ReplaceAllString(s, "HEX"))
}

// scan reads a log line by line. Of a line that is longer than maxLine only the
// beginning is looked at.
func scan(r io.Reader, do func(line string)) error {
	b := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := b.ReadSlice('\n')
		if len(line) > 0 {
			do(strings.TrimRight(string(line), "\r\n"))
		}
		for err == bufio.ErrBufferFull {
			_, err = b.ReadSlice('\n')
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// sourceOf gives the recipe or spec whose task wrote a log: BitBake's
// "core2_64/hello/1.0/log.do_compile", the embedded builder's "libknot.x86_64.log".
func sourceOf(a check.Artifact) string {
	if a.Class != distro.TaskLog {
		return ""
	}
	if parts := strings.Split(a.Name, "/"); len(parts) >= 3 {
		return parts[len(parts)-3]
	}
	name := strings.TrimSuffix(a.Name, ".log")
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		return name[:i]
	}
	return name
}

func isLog(a check.Artifact) bool {
	return a.Class == distro.ConsoleLog && path.Base(a.Name) == "console.log" || a.Class == distro.TaskLog && !strings.HasSuffix(a.Name, ".json") && !strings.HasPrefix(a.Name, "test/")
}

// gathered is what the logs of one build say.
type gathered struct {
	by   map[issue]string // issue -> log that has it first
	seen map[string]bool  // sources that have a log
	logs int
	full bool
}

func gather(ctx context.Context, all []check.Artifact, tell func(done, total int, name string)) (*gathered, error) {
	g := &gathered{by: map[issue]string{}, seen: map[string]bool{}}
	logs := slices.DeleteFunc(slices.Clone(all), func(a check.Artifact) bool { return !isLog(a) })
	// Task logs first: they know their recipe, and are what a person wants to read.
	slices.SortStableFunc(logs, func(a, b check.Artifact) int {
		return strings.Compare(string(b.Class)+a.Name, string(a.Class)+b.Name)
	})
	for i, a := range logs {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		tell(i, len(logs), a.Name)
		source := sourceOf(a)
		if source != "" {
			g.seen[source] = true
		}
		f, err := a.Open(ctx)
		if errs.Is(err, errs.NotFound) { // collected as garbage
			continue
		}
		if err != nil {
			return nil, errs.Wrap(err, "log %s", a.Name)
		}
		g.logs++
		err = scan(f, func(line string) {
			if strings.Contains(line, keptLine) {
				delete(g.seen, source)
			}
			x, ok := parseLine(line, source)
			if !ok {
				return
			}
			if _, there := g.by[x]; !there {
				if len(g.by) >= maxIssues {
					g.full = true
					return
				}
				g.by[x] = a.Name
			}
		})
		f.Close()
		if err != nil {
			return nil, errs.Wrap(err, "log %s", a.Name)
		}
	}
	return g, nil
}

// known gives the issues that earlier builds had.
func known(ctx context.Context, base []check.Artifact) (map[string][]issue, error) {
	if i := slices.IndexFunc(base, func(a check.Artifact) bool { return a.Name == "test/inspect/"+issuesName }); i >= 0 {
		f, err := base[i].Open(ctx)
		if err == nil {
			defer f.Close()
			var old issues
			if err := json.NewDecoder(f).Decode(&old); err != nil || old.Schema != 1 {
				return nil, errs.E(errs.Denied, "the issues that the last release left cannot be read", err)
			}
			return old.Issues, nil
		}
		if !errs.Is(err, errs.NotFound) {
			return nil, err
		}
	}
	g, err := gather(ctx, base, func(int, int, string) {})
	if err != nil {
		return nil, err
	}
	out := map[string][]issue{}
	for x := range g.by {
		out[x.Source] = append(out[x.Source], x)
	}
	return out, nil
}

// logs compares what the logs complain of with what those of the last release did.
func (in *inspection) logs(ctx context.Context) (string, error) {
	now, err := gather(ctx, in.bed.Artifacts, func(done, total int, name string) { in.bed.Tell(done, total, name) })
	if err != nil {
		return "", err
	}
	old, err := known(ctx, in.bed.BaseArtifacts)
	if err != nil {
		return "", err
	}
	in.res.Asked += now.logs
	was := map[issue]bool{}
	keep := issues{Schema: 1, Issues: map[string][]issue{}}
	for source, list := range old {
		for _, x := range list {
			was[x] = true
		}
		if source != "" && !now.seen[source] { // not built this time
			keep.Issues[source] = list
		}
	}
	type group struct{ source, kind string }
	fresh := map[group][]issue{}
	for x := range now.by {
		keep.Issues[x.Source] = append(keep.Issues[x.Source], x)
		if !was[x] {
			fresh[group{x.Source, x.Kind}] = append(fresh[group{x.Source, x.Kind}], x)
		}
	}
	for _, list := range keep.Issues {
		slices.SortFunc(list, func(a, b issue) int { return strings.Compare(a.Kind+"\x00"+a.Text, b.Kind+"\x00"+b.Text) })
	}
	file, err := in.bed.Transcript(issuesName, string(distro.CanonicalJSON(keep)))
	if err != nil {
		return "", err
	}
	in.res.Evidence = append(in.res.Evidence, file)
	note := fmt.Sprintf("%s complain of %s", check.Count(now.logs, "log"), check.Count(len(now.by), "thing"))
	if now.full {
		note += fmt.Sprintf(", and of more: %d are the most that is kept", maxIssues)
	}
	if len(in.bed.Base) == 0 {
		return note + ", which is where the next release begins", nil
	}
	for g, list := range fresh {
		slices.SortFunc(list, func(a, b issue) int { return strings.Compare(a.Text, b.Text) })
		var texts []string
		for _, x := range list {
			texts = append(texts, x.Text)
		}
		who := g.source
		if who == "" {
			who = "the build"
		}
		f := distro.Finding{Level: distro.Warn, Object: who, Source: g.source, Evidence: check.Few(texts, 20), Log: now.by[list[0]]}
		what, id := g.kind, g.kind
		switch qa, isQA := strings.CutPrefix(g.kind, "qa:"); {
		case isQA:
			what = "QA issue"
			f.Cure = "mend it; or say in the recipe why it is right, INSANE_SKIP"
			if qa != "" {
				what = "QA issue of the kind " + qa
			}
		case g.kind == "compiler":
			f.Level, what = distro.Info, "warning of the compiler"
		}
		f.ID = fmt.Sprintf("log:%s:%s", strings.ReplaceAll(who, " ", "-"), id)
		f.Text = fmt.Sprintf("%s has %d new in its logs: %s: %s", who, len(list), what, short(texts[0]))
		in.add(f)
	}
	return note, nil
}

// short cuts a text for one line.
func short(s string) string {
	if r := []rune(s); len(r) > 160 {
		return string(bytes.TrimSpace([]byte(string(r[:157])))) + "..."
	}
	return s
}
