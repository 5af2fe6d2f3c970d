package results

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/chart"
	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/testresults"
)

const key = "runtime/m/img"

// run makes one of "name=STATUS" each.
func run(machine string, tests ...string) testresults.Run {
	r := testresults.Run{ID: strings.Join(tests, " "), Configuration: map[string]any{"TEST_TYPE": "runtime", "MACHINE": machine, "IMAGE_BASENAME": "img"}}
	for _, t := range tests {
		name, status, _ := strings.Cut(t, "=")
		x := testresults.Test{Name: name, Status: status}
		if status == "FAILED" {
			x.Log = "log of " + name + "\nassert failed\n"
		}
		r.Tests = append(r.Tests, x)
	}
	return r
}

func release(v string, content string, runs ...testresults.Run) check.Tested {
	return check.Tested{Version: distro.Version(v), Runs: runs, Packages: []distro.PackageRecord{{Name: "zlib-ptest", Arch: "core2_64", SourceName: "zlib", Content: distro.Digest(content)}}}
}

// ask gives "LEVEL ID [boards]: text" of each finding.
func ask(t *testing.T, policy check.ResultsPolicy, history ...check.Tested) (check.Outcome, []string) {
	t.Helper()
	bed := &check.Bed{Dir: t.TempDir(), Boards: []distro.Board{{Name: "m"}}, Packages: history[0].Packages, ResultsPolicy: policy,
		Results: func(context.Context) ([]check.Tested, error) { return history, nil }}
	out, err := check.Run(t.Context(), bed, []check.Check{New()}, nil)
	if err != nil || out[0].Result.Error != "" {
		t.Fatalf("%v %+v", err, out)
	}
	var got []string
	for _, f := range out[0].Result.Findings {
		got = append(got, fmt.Sprintf("%s %s %v: %s", f.Level, strings.TrimPrefix(f.ID, key+":"), f.Boards, f.Text))
	}
	return out[0], got
}

func TestCompare(t *testing.T) {
	t.Parallel()
	one := func(tests ...string) []testresults.Run { return []testresults.Run{run("m", tests...)} }
	for _, tt := range []struct {
		name    string
		policy  check.ResultsPolicy
		history []check.Tested
		want    []string
	}{
		{"the same", check.ResultsPolicy{}, []check.Tested{release("1.2", "", one("a=PASSED", "b=SKIPPED")...), release("1.1", "", one("a=PASSED", "b=SKIPPED")...)}, nil},
		{"regressed", check.ResultsPolicy{}, []check.Tested{release("1.2", "", one("a=FAILED", "b=ERROR", "c=PASSED")...), release("1.1", "", one("a=PASSED", "b=PASSED", "c=FAILED")...)},
			[]string{"block regressed:a [m]: a passed in release 1.1, and fails", "block regressed:b [m]: b passed in release 1.1, and fails"}},
		{"known", check.ResultsPolicy{}, []check.Tested{release("1.2", "", one("a=FAILED")...), release("1.1", "", one("a=FAILED")...)}, []string{"info known [m]: 1 test failed in release 1.1, too"}},
		{"first results", check.ResultsPolicy{}, []check.Tested{release("1.2", "", one("a=FAILED", "b=PASSED")...), release("1.1", "")}, []string{"warn new:a [m]: a fails, and before there was no such test that passed or failed"}},
		{"skipped before, fails", check.ResultsPolicy{New: distro.Block}, []check.Tested{release("1.2", "", one("a=FAILED")...), release("1.1", "", one("a=SKIPPED")...)},
			[]string{"block new:a [m]: a fails, and in release 1.1 there was no such test that passed or failed"}},
		{"new ones off", check.ResultsPolicy{New: distro.Off}, []check.Tested{release("1.2", "", one("a=FAILED")...)}, nil},
		{"vanished and skipped", check.ResultsPolicy{}, []check.Tested{release("1.2", "", one("b=SKIPPED", "c=PASSED")...), release("1.1", "", one("a=PASSED", "b=PASSED", "d=SKIPPED", "e=FAILED")...)},
			[]string{"warn skipped [m]: 1 test passed in release 1.1 and skipped now", "warn vanished [m]: 2 tests in release 1.1 and not asked any more"}},
		{"none", check.ResultsPolicy{}, []check.Tested{release("1.2", ""), release("1.1", "", one("a=PASSED")...)}, []string{"block none [m]: no results of runtime/m/img: release 1.1 had 1 test"}},
		{"none since long", check.ResultsPolicy{}, []check.Tested{release("1.3", ""), release("1.2", ""), release("1.1", "", one("a=PASSED")...)}, []string{"warn none [m]: no results of runtime/m/img: release 1.1 had 1 test"}},
		{"one machine is missing", check.ResultsPolicy{}, []check.Tested{release("1.2", "", one("a=PASSED")...), release("1.1", "", run("m", "a=PASSED"), run("other", "a=PASSED"))},
			[]string{"block runtime/other/img:none []: no results of runtime/other/img: release 1.1 had 1 test"}},
		{"beside the release before the last", check.ResultsPolicy{}, []check.Tested{release("1.3", "", one("a=FAILED")...), release("1.2", ""), release("1.1", "", one("a=PASSED")...)},
			[]string{"block regressed:a [m]: a passed in release 1.1, and fails"}},
		{"an empty run", check.ResultsPolicy{}, []check.Tested{release("1.2", "", run("m"), run("m", "a=PASSED"))}, []string{"block empty: [m]: run  has no test: it ended before its first one"}},
		{"flaky in one candidate", check.ResultsPolicy{}, []check.Tested{release("1.2", "", run("m", "a=PASSED"), run("m", "a=FAILED")), release("1.1", "", one("a=PASSED")...)},
			[]string{"warn flaky [m]: 1 test with another outcome though nothing changed",
				"block regressed:a [m]: a passed in release 1.1, and fails, in 1 of 2 runs; it is flaky: this candidate passed and failed in 1 of 2 runs"}},
		{"a ptest flips, the package is the same", check.ResultsPolicy{}, []check.Tested{release("1.2", "x", one("ptestresult.zlib.t=FAILED")...), release("1.1", "x", one("ptestresult.zlib.t=PASSED")...)},
			[]string{"warn flaky [m]: 1 test with another outcome though nothing changed",
				"block regressed:ptestresult.zlib.t [m]: ptestresult.zlib.t passed in release 1.1, and fails; it is flaky: it passed with the same package in release 1.1"}},
		{"a ptest fails, the package is another", check.ResultsPolicy{}, []check.Tested{release("1.2", "y", one("ptestresult.zlib.t=FAILED")...), release("1.1", "x", one("ptestresult.zlib.t=PASSED")...)},
			[]string{"block regressed:ptestresult.zlib.t [m]: ptestresult.zlib.t passed in release 1.1, and fails"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o, got := ask(t, tt.policy, tt.history...)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
			if o.Result.Asked == 0 {
				t.Error("nothing asked")
			}
		})
	}
}

// TestEvidence: a regression of a package's own test names the recipe, the end of its log
// and the transcript.
func TestEvidence(t *testing.T) {
	t.Parallel()
	o, _ := ask(t, check.ResultsPolicy{}, release("1.2", "y", run("m", "ptestresult.zlib.t=FAILED", "b=PASSED")), release("1.1", "x", run("m", "ptestresult.zlib.t=PASSED")))
	f := o.Result.Findings[0]
	if f.Source != "zlib" || !slices.Equal(f.Evidence, []string{"log of ptestresult.zlib.t", "assert failed"}) || !strings.HasPrefix(f.Log, "test/results/runtime_m_img-") {
		t.Errorf("%+v", f)
	}
	files := map[string]string{}
	for _, e := range o.Files {
		data, err := os.ReadFile(e.Path)
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name] = string(data)
	}
	if text := files[filepath.Base(f.Log)]; !strings.Contains(text, "1 test passed before, fail now:\n  ptestresult.zlib.t\n    | log of") {
		t.Errorf("%s", text)
	}
	var points []Point
	if err := json.Unmarshal([]byte(files["trend.json"]), &points); err != nil {
		t.Fatal(err)
	}
	want := []Point{{"1.1", key, 1, 0, 0}, {"1.2", key, 1, 1, 0}}
	if d := cmp.Diff(want, points); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]chart.Bar{{Label: "1.1", Passed: 1}, {Label: "1.2", Passed: 1, Failed: 1}}, Bars(points)); d != "" {
		t.Error(d)
	}
	if !strings.HasPrefix(files["trend.svg"], "<svg ") {
		t.Errorf("%q", files["trend.svg"])
	}
}

// TestMany: what has no finding of its own blocks all the same.
func TestMany(t *testing.T) {
	t.Parallel()
	var failed, passed []string
	for i := range maxNamed + 7 {
		failed, passed = append(failed, fmt.Sprintf("t%04d=FAILED", i)), append(passed, fmt.Sprintf("t%04d=PASSED", i))
	}
	_, got := ask(t, check.ResultsPolicy{}, release("1.2", "", run("m", failed...)), release("1.1", "", run("m", passed...)))
	if len(got) != maxNamed+1 || got[0] != "block regressed [m]: 7 more tests passed in release 1.1, and fails" {
		t.Errorf("%d findings, %s", len(got), got[0])
	}
}

func TestNothingToAsk(t *testing.T) {
	t.Parallel()
	o, _ := ask(t, check.ResultsPolicy{}, release("1.2", ""), release("1.1", ""))
	if o.Result.Note == "" || o.Result.Asked != 0 {
		t.Errorf("%+v", o.Result)
	}
	broken := &check.Bed{Dir: t.TempDir(), Results: func(context.Context) ([]check.Tested, error) { return nil, errs.E(errs.Denied, "damaged") }}
	out, err := check.Run(t.Context(), broken, []check.Check{New()}, nil)
	if err != nil || out[0].Result.Error == "" {
		t.Errorf("results that cannot be read are an answer: %v %+v", err, out)
	}
}
