// Package testresults reads and writes testresults.json, in which OE-Core's testimage,
// testsdk, oe-selftest and ptest tell what came of each test.
//
//	runs, err := testresults.Read(f, "testresults.json")
//
// The format: an object of runs, by id; a run has "configuration" and "result"; a result
// has for each test a status, and where known its duration, log and tags. Beside tests
// stand "ptestresult.sections" (one suite each: duration, exit code, whether it came to
// its end) and raw logs, which are passed by. Written by meta/lib/oeqa/core/runner.py
// and meta/lib/oeqa/runtime/cases/ptest.py, read by scripts/lib/resulttool (OE-Core,
// wrynose; read, not copied).
package testresults

import (
	"cmp"
	"slices"
	"strings"

	"slipway/internal/distro"
)

// Outcome is what a status means.
type Outcome int

// The outcomes, the worst last.
const (
	Unknown Outcome = iota // no status of any suite that is known
	Pass
	Skip // not run, or without an answer
	Fail
)

// String gives "passed", "skipped", "failed".
func (o Outcome) String() string {
	return [...]string{"unknown", "passed", "skipped", "failed"}[o]
}

// outcomes are the words of oeqa, ptest, LTP, DejaGnu and manual tests.
var outcomes = map[string]Outcome{
	"PASSED": Pass, "PASS": Pass, "passed": Pass, "XFAIL": Pass, "EXPECTEDFAIL": Pass,
	"FAILED": Fail, "FAIL": Fail, "failed": Fail, "ERROR": Fail, "error": Fail, "UNKNOWN": Fail, "XPASS": Fail,
	"SKIPPED": Skip, "skipped": Skip, "UNSUPPORTED": Skip, "UNTESTED": Skip, "UNRESOLVED": Skip, "BLOCKED": Skip,
}

// OutcomeOf gives what a status means.
func OutcomeOf(status string) Outcome { return outcomes[status] }

// Run is one run of tests on one machine.
type Run struct {
	ID            string         // "runtime_core-image-sato_qemux86-64_20261128080000"
	Configuration map[string]any // TEST_TYPE, MACHINE and what else the writer noted
	Tests         []Test         // sorted by name
	Sections      []Section      // sorted by group and name
}

// Test is what came of one test.
type Test struct {
	Name     string   // "ssh.SSHTest.test_ssh", "ptestresult.zlib.minigzip"
	Status   string   // a word that [OutcomeOf] knows
	Duration float64  // seconds; 0 is not known
	Log      string   // its last [MaxLog] bytes; of tests that passed none
	Tags     []string // oetags
}

// Section is a suite that ran as a whole.
type Section struct {
	Group    string // "ptestresult", "ltpresult", "ltpposixresult"
	Name     string // "zlib"
	Duration string // seconds, as written; "" is not known
	ExitCode string // "" is 0
	Timeout  bool   // it did not come to its end
	Log      string // its last [MaxLog] bytes, when it failed
}

// test is the section as a test of its own.
func (s Section) test() Test {
	t := Test{Name: s.Group + "." + s.Name, Status: "PASSED", Log: s.Log}
	if s.Timeout {
		t.Status = "ERROR"
	} else if s.ExitCode != "" && s.ExitCode != "0" {
		t.Status = "FAILED"
	}
	return t
}

func (r *Run) text(key string) string { s, _ := r.Configuration[key].(string); return s }

// Machine is the board that the tests ran on.
func (r *Run) Machine() string { return r.text("MACHINE") }

// keyParts says for each type of test what else two runs must have in common.
var keyParts = map[string][]string{
	"runtime":    {"MACHINE", "IMAGE_BASENAME"},
	"sdk":        {"MACHINE", "IMAGE_BASENAME", "SDKMACHINE"},
	"sdkext":     {"MACHINE", "IMAGE_BASENAME", "SDKMACHINE"},
	"manual":     {"MACHINE", "IMAGE_BASENAME", "TEST_MODULE"},
	"oeselftest": {"MACHINE"},
}

// Types lists the types of tests that are known, sorted.
func Types() []string { return sortedKeys(keyParts) }

// Key names what runs may be compared with each other: "runtime/qemux86-64/core-image-sato".
// Runs of oe-selftest over other sets of tests (OESELFTEST_METADATA) have other keys.
func (r *Run) Key() string {
	parts := []string{r.text("TEST_TYPE")}
	for _, k := range keyParts[parts[0]] {
		parts = append(parts, r.text(k))
	}
	if m := r.Configuration["OESELFTEST_METADATA"]; m != nil {
		parts = append(parts, distro.DigestOf(distro.CanonicalJSON(m)).Short())
	}
	return strings.Join(parts, "/")
}

// All gives the run's tests and, as tests of their own ("ptestresult.zlib"), its
// sections: what timed out or ended with an exit code has failed, whatever its tests say.
// Names are as [Stable] gives them, each once with its worst status; sorted.
func (r *Run) All() []Test {
	at := map[string]int{}
	var out []Test
	add := func(t Test) {
		t.Name = Stable(t.Name)
		i, ok := at[t.Name]
		if !ok {
			at[t.Name] = len(out)
			out = append(out, t)
			return
		}
		if OutcomeOf(t.Status) > OutcomeOf(out[i].Status) {
			out[i] = t
		}
	}
	for _, t := range r.Tests {
		add(t)
	}
	for _, s := range r.Sections {
		add(s.test())
	}
	slices.SortFunc(out, func(a, b Test) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Suite gives the suite of a test and whether it is a package's own (ptest): "zlib" and
// true, "ssh" and false.
func (r *Run) Suite(name string) (suite string, ptest bool) {
	group, rest, _ := strings.Cut(name, ".")
	if !strings.HasSuffix(group, "result") || rest == "" {
		return group, false
	}
	best := ""
	for _, s := range r.Sections { // a name of a suite may have dots: glib-2.0
		if s.Group == group && len(s.Name) > len(best) && (rest == s.Name || strings.HasPrefix(rest, s.Name+".")) {
			best = s.Name
		}
	}
	if best == "" {
		best, _, _ = strings.Cut(rest, ".")
	}
	return best, group == "ptestresult"
}

// unstable are suites whose tests have names with numbers, paths and times of one run;
// what stands from the mark on is left out. OE-Core's resulttool compares them alike.
var unstable = []struct{ prefix, has, cut string }{
	{"ptestresult.lttng-tools.", "_-_", "_-_"},
	{"ptestresult.babeltrace.", "_-_", "_-_"},
	{"ptestresult.babeltrace2", "_-_", "_-_"},
	{"ptestresult.curl.", "__", "__"},
	{"ptestresult.dbus.", "__", "__"},
	{"ptestresult.binutils", "build-st-", " "},
}

// Stable gives the part of a test's name that is the same in each run.
func Stable(name string) string {
	for _, u := range unstable {
		if strings.HasPrefix(name, u.prefix) && strings.Contains(name, u.has) {
			before, _, _ := strings.Cut(name, u.cut)
			return before
		}
	}
	if strings.HasPrefix(name, "ptestresult.gcc") && strings.Contains(name, "/tmp/runtest.") {
		return strings.Join(strings.SplitN(name, ".", 3)[:2], ".")
	}
	return name
}

// Strip removes logs: what is needed to compare stays.
func Strip(runs []Run) []Run {
	out := slices.Clone(runs)
	for i := range out {
		out[i].Tests = slices.Clone(out[i].Tests)
		for j := range out[i].Tests {
			out[i].Tests[j].Log = ""
		}
		out[i].Sections = slices.Clone(out[i].Sections)
		for j := range out[i].Sections {
			out[i].Sections[j].Log = ""
		}
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
