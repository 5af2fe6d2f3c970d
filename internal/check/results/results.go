// Package results compares the test results that were imported for a candidate
// (testresults.json of testimage, ptest, oe-selftest, and our own) with those of the
// releases before it: nothing that passed may fail now, and nothing that was tested may
// be left out unseen.
//
// A test is known by its name and by what it ran on ([testresults.Run.Key]). Several
// runs of one candidate count together: a test has failed when it failed in any.
package results

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"slipway/internal/chart"
	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/testresults"
)

// ID is the check's id.
const ID = "results"

// The limits of one candidate: what is beyond them is counted, and in the evidence.
const (
	maxNamed  = 500 // findings of one kind that have a name of their own
	maxListed = 20  // names in a finding of many
	maxLines  = 8   // lines of a log in a finding
)

// New gives the check.
func New() check.Check { return results{} }

type results struct{}

func (results) Spec() distro.CheckSpec {
	return distro.CheckSpec{ID: ID, Level: distro.Block,
		Asks: "does every test that passed before still pass, and is every test still asked?",
		Cure: "read the test's log; mend what it found. A test that is known to be flaky: gate.quarantine, with a reason and a day"}
}

// Run asks once for each test of the candidate, and each that is missing.
func (results) Run(ctx context.Context, bed *check.Bed) (check.Result, error) {
	var res check.Result
	if bed.Results == nil {
		res.Note = "nobody keeps results of tests here"
		return res, nil
	}
	all, err := bed.Results(ctx)
	if err != nil {
		return res, err
	}
	if !slices.ContainsFunc(all, func(t check.Tested) bool { return len(t.Runs) > 0 }) {
		res.Note = "no results were imported, for this candidate or a release before it (slipway test --results FILE)"
		return res, nil
	}
	c := &comparison{bed: bed, res: &res, history: make([]tested, len(all))}
	for i, t := range all {
		c.history[i] = gather(t)
	}
	c.empty(all[0].Runs)
	keys := map[string]bool{}
	for _, h := range c.history {
		for k := range h.cells {
			keys[k] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if err := ctx.Err(); err != nil {
			return res, err
		}
		if err := c.compare(key); err != nil {
			return res, err
		}
	}
	if err := c.trends(); err != nil {
		return res, err
	}
	return res, nil
}

// cell is what came of one test in all runs of one candidate or release.
type cell struct {
	worst, best testresults.Outcome
	runs        int
	failed      int
	log         string // of a failure
	suite       string
	ptest       bool
}

func (c cell) mixed() bool { return c.worst == testresults.Fail && c.best == testresults.Pass }

// tested is check.Tested by key and name.
type tested struct {
	version distro.Version
	cells   map[string]map[string]*cell
	machine map[string]string        // by key
	content map[string]distro.Digest // of binary packages, by name
}

func gather(t check.Tested) tested {
	out := tested{version: t.Version, cells: map[string]map[string]*cell{}, machine: map[string]string{}, content: map[string]distro.Digest{}}
	for _, p := range check.Binary(t.Packages) {
		out.content[p.Name] = p.Content
	}
	for _, r := range t.Runs {
		key := r.Key()
		out.machine[key] = r.Machine()
		if out.cells[key] == nil {
			out.cells[key] = map[string]*cell{}
		}
		for _, test := range r.All() {
			o := testresults.OutcomeOf(test.Status)
			x := out.cells[key][test.Name]
			if x == nil {
				x = &cell{worst: o, best: o}
				x.suite, x.ptest = r.Suite(test.Name)
				out.cells[key][test.Name] = x
			}
			x.worst, x.best, x.runs = max(x.worst, o), min(x.best, o), x.runs+1
			if o == testresults.Fail {
				x.failed++
				if x.log == "" {
					x.log = test.Log
				}
			}
		}
	}
	return out
}

type comparison struct {
	bed     *check.Bed
	res     *check.Result
	history []tested // the candidate first
}

func (c *comparison) add(f distro.Finding) { c.res.Findings = append(c.res.Findings, f) }

// boards gives the board that a machine is, for a finding; none is all.
func (c *comparison) boards(machine string) []string {
	if slices.ContainsFunc(c.bed.Boards, func(b distro.Board) bool { return b.Name == machine }) {
		return []string{machine}
	}
	return nil
}

// empty tells of runs of the candidate without a single test.
func (c *comparison) empty(runs []testresults.Run) {
	for _, r := range runs {
		if len(r.Tests)+len(r.Sections) == 0 {
			c.add(distro.Finding{ID: r.Key() + ":empty:" + r.ID, Object: r.ID, Boards: c.boards(r.Machine()),
				Text: fmt.Sprintf("run %s has no test: it ended before its first one", r.ID), Cure: "run the tests again, and import what comes of it"})
		}
	}
}

// before gives the newest release before the candidate that has results of a key.
func (c *comparison) before(key string) (tested, bool) {
	for _, h := range c.history[1:] {
		if len(h.cells[key]) > 0 {
			return h, true
		}
	}
	return tested{}, false
}

// level is of a finding that the policy weighs; "" leaves it out.
func level(l distro.Level) distro.Level {
	switch l {
	case distro.Block, distro.Warn, distro.Info:
		return l
	case distro.Off:
		return ""
	}
	return distro.Warn
}

func (c *comparison) compare(key string) error {
	now, old := c.history[0].cells[key], map[string]*cell{}
	prior, has := c.before(key)
	machine := c.history[0].machine[key]
	if has {
		old = prior.cells[key]
		machine = prior.machine[key]
	}
	boards := c.boards(machine)
	if len(now) == 0 {
		c.res.Asked++
		l := distro.Block
		if prior.version != c.history[1].version { // the last release went out without, and a person said so
			l = distro.Warn
		}
		c.add(distro.Finding{ID: key + ":none", Level: l, Object: key, Boards: boards,
			Text: fmt.Sprintf("no results of %s: release %s had %s", key, prior.version, check.Count(len(old), "test")), Cure: "run the tests, and slipway test --results FILE"})
		return nil
	}
	var regressed, fresh, known, vanished, skipped, flaky []string
	names := map[string]bool{}
	for n := range now {
		names[n] = true
	}
	for n := range old {
		names[n] = true
	}
	c.res.Asked += len(names)
	for _, n := range slices.Sorted(maps.Keys(names)) {
		x, was := now[n], old[n]
		switch {
		case x == nil && was.best != testresults.Skip:
			vanished = append(vanished, n)
		case x == nil:
		case x.worst == testresults.Fail && was != nil && was.best == testresults.Pass:
			regressed = append(regressed, n)
		case x.worst == testresults.Fail && was != nil && was.worst == testresults.Fail:
			known = append(known, n)
		case x.worst == testresults.Fail:
			fresh = append(fresh, n)
		case x.best != testresults.Pass && was != nil && was.best == testresults.Pass:
			skipped = append(skipped, n)
		}
		if x != nil && len(c.flips(key, n)) > 0 {
			flaky = append(flaky, n)
		}
	}
	log, err := c.transcript(key, prior, has, []part{{"passed before, fail now", regressed}, {"fail, and have no predecessor", fresh}, {"failed before, and fail", known},
		{"are gone", vanished}, {"passed before, are skipped now", skipped}, {"flip with nothing changed", flaky}})
	if err != nil {
		return err
	}
	since := "before"
	if has {
		since = "in release " + string(prior.version)
	}
	c.each(key, "regressed", distro.Block, regressed, boards, log, "passed "+since+", and fails")
	c.each(key, "new", level(c.bed.ResultsPolicy.New), fresh, boards, log, "fails, and "+since+" there was no such test that passed or failed")
	many := func(id string, l distro.Level, list []string, text, cure string) {
		if len(list) == 0 || l == "" {
			return
		}
		c.add(distro.Finding{ID: key + ":" + id, Level: l, Object: key, Boards: boards, Text: check.Count(len(list), "test") + " " + text, Cure: cure, Evidence: check.Few(list, maxListed), Log: log})
	}
	many("vanished", level(c.bed.ResultsPolicy.Vanished), vanished, since+" and not asked any more", "find out why; a test that was renamed is one that is new, too")
	many("skipped", level(c.bed.ResultsPolicy.Vanished), skipped, "passed "+since+" and skipped now", "find out what they miss: a package, a feature, a tool")
	many("known", distro.Info, known, "failed "+since+", too", "mend them when there is time")
	many("flaky", distro.Warn, flaky, "with another outcome though nothing changed", "mend the test, or put it into gate.quarantine with a reason and a day")
	return nil
}

// each makes one finding for each test, so that each can be waived and quarantined by
// its name; what is beyond the limit is one that cannot be.
func (c *comparison) each(key, id string, l distro.Level, tests, boards []string, log, text string) {
	if l == "" {
		return
	}
	named := tests[:min(len(tests), maxNamed)]
	for _, n := range named {
		x := c.history[0].cells[key][n]
		f := distro.Finding{ID: key + ":" + id + ":" + n, Level: l, Object: n, Boards: boards, Text: n + " " + text, Evidence: tail(x.log, maxLines), Log: log, Source: c.source(x)}
		if x.runs > 1 {
			f.Text += fmt.Sprintf(", in %d of %d runs", x.failed, x.runs)
		}
		if flips := c.flips(key, n); len(flips) > 0 {
			f.Text += "; it is flaky: " + strings.Join(flips, "; ")
		}
		c.add(f)
	}
	if rest := len(tests) - len(named); rest > 0 {
		c.add(distro.Finding{ID: key + ":" + id, Level: l, Object: key, Boards: boards, Text: check.Count(rest, "more test") + " " + text, Log: log})
	}
}

// source gives the recipe or spec whose package brings a ptest.
func (c *comparison) source(x *cell) string {
	if !x.ptest {
		return ""
	}
	for _, p := range c.bed.Packages {
		if p.Name == x.suite || p.Name == x.suite+"-ptest" || p.SourceName == x.suite {
			return p.SourceName
		}
	}
	return ""
}

// flips says where a test had another outcome though nothing changed: in several runs of
// one candidate, or, of a package's own tests, in two releases with the same package.
func (c *comparison) flips(key, name string) []string {
	var out []string
	var last *cell
	var of tested
	for i, h := range c.history {
		x := h.cells[key][name]
		if x == nil {
			continue
		}
		where := "release " + string(h.version)
		if i == 0 {
			where = "this candidate"
		}
		if x.mixed() {
			out = append(out, fmt.Sprintf("%s passed and failed in %d of %d runs", where, x.failed, x.runs))
		}
		if last != nil && x.ptest && x.worst != last.worst && x.worst != testresults.Skip && last.worst != testresults.Skip && same(h, of, x.suite) {
			out = append(out, fmt.Sprintf("it %s with the same package in %s", x.worst, where))
		}
		last, of = x, h
	}
	return out
}

// same reports whether both have the suite's packages, with equal content.
func same(a, b tested, suite string) bool {
	found := false
	for _, n := range []string{suite, suite + "-ptest"} {
		x, y := a.content[n], b.content[n]
		if x != y {
			return false
		}
		found = found || x != ""
	}
	return found
}

type part struct {
	title string
	tests []string
}

// transcript keeps all names, and the logs of what fails, as evidence.
func (c *comparison) transcript(key string, prior tested, has bool, parts []part) (string, error) {
	var out strings.Builder
	fmt.Fprintf(&out, "results of %s, candidate of %s", key, c.history[0].version)
	if has {
		fmt.Fprintf(&out, ", beside release %s", prior.version)
	}
	out.WriteString("\n")
	some := false
	for _, p := range parts {
		if len(p.tests) == 0 {
			continue
		}
		some = true
		fmt.Fprintf(&out, "\n%s %s:\n", check.Count(len(p.tests), "test"), p.title)
		for _, n := range p.tests {
			fmt.Fprintf(&out, "  %s\n", n)
			if x := c.history[0].cells[key][n]; x != nil && x.log != "" && out.Len() < 8<<20 {
				fmt.Fprintf(&out, "    | %s\n", strings.ReplaceAll(strings.TrimRight(x.log, "\n"), "\n", "\n    | "))
			}
			for _, f := range c.flips(key, n) {
				fmt.Fprintf(&out, "    flaky: %s\n", f)
			}
		}
	}
	if !some {
		return "", nil
	}
	return c.keep(fileName(key)+".txt", out.String())
}

func (c *comparison) keep(name, text string) (string, error) {
	f, err := c.bed.Transcript(name, text)
	if err == nil {
		c.res.Evidence = append(c.res.Evidence, f)
	}
	return f.Log, err
}

// trends keeps the numbers over releases, as data and as a chart.
func (c *comparison) trends() error {
	points := trend(c.history)
	if _, err := c.keep("trend.json", string(distro.CanonicalJSON(points))+"\n"); err != nil {
		return err
	}
	var svg strings.Builder
	svg.WriteString(chart.Results("Tests by release", Bars(points)))
	if svg.Len() == 0 {
		return nil
	}
	_, err := c.keep("trend.svg", svg.String())
	return err
}

// fileName makes a key a name of a file.
func fileName(key string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '_'
	}, key) + "-" + distro.DigestOf([]byte(key)).Short()
}

// tail gives the last lines of a log.
func tail(log string, n int) []string {
	log = strings.TrimRight(log, "\n")
	if log == "" {
		return nil
	}
	lines := strings.Split(log, "\n")
	lines = lines[max(0, len(lines)-n):]
	for i, l := range lines {
		if len(l) > 300 {
			lines[i] = strings.ToValidUTF8(l[:300], "") + "..."
		}
	}
	return lines
}
