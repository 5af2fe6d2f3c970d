package cycle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/internal/check"
	"slipway/internal/check/results"
	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/state"
	"slipway/internal/store"
	"slipway/internal/testresults"
)

// silent is a Talk that nobody hears.
type silent struct{}

func (silent) Step(string) Task          { return silent{} }
func (silent) Progress(int, int, string) {}
func (silent) Note(string)               {}
func (silent) Done(string)               {}
func (silent) Failed(string)             {}

// resultsOf writes a testresults.json of board m.
func resultsOf(t *testing.T, id, commit string, tests ...string) string {
	t.Helper()
	r := testresults.Run{ID: id, Configuration: map[string]any{"TEST_TYPE": "runtime", "MACHINE": "m", "IMAGE_BASENAME": "img", "LAYERS": map[string]any{"meta": map[string]any{"commit": commit}}}}
	for _, x := range tests {
		name, status, _ := strings.Cut(x, "=")
		r.Tests = append(r.Tests, testresults.Test{Name: name, Status: status, Log: "log of " + name})
	}
	var out bytes.Buffer
	if err := testresults.Write(&out, []testresults.Run{r}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "testresults.json")
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// resultsWorkspace makes a workspace with a release 1.1 and a candidate 1.2-c1.
func resultsWorkspace(t *testing.T) (*Workspace, *time.Time) {
	t.Helper()
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	w := &Workspace{Dir: t.TempDir(), Definition: &config.Definition{Distribution: "halyard", Series: config.Series{Name: "1"}, Boards: []config.Board{{Name: "m"}}}, Settings: &config.Settings{}}
	w.Definition.Gate.Quarantine = []config.Quarantine{{Test: "net.*", Reason: "the lab's switch", Until: "2026-12-10"}}
	w.Talk, w.Clock, w.Checks = silent{}, func() time.Time { return now }, []check.Check{results.New()}
	var err error
	if w.State, err = state.Open(t.Context(), filepath.Join(w.Dir, "state.db"), w.Clock); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.State.Close() })
	if w.Blobs, err = store.OpenBlobs(filepath.Join(w.Dir, "store")); err != nil {
		t.Fatal(err)
	}
	for i, v := range []distro.Version{"1.1", "1.2"} {
		b := Build{ID: distro.NewBuildID(v, 1), Version: v, Series: "1", Status: distro.Candidate, Created: now, Candidate: Candidate{Status: distro.Testing}}
		b.Revision = distro.Revision{Distribution: "halyard", Layers: []distro.LayerPin{{Name: "openembedded-core", Path: "meta", Commit: fmt.Sprintf("%040d", i+1)}}}
		if _, err := state.Upsert(t.Context(), w.State, kindBuild, string(b.ID), func(x *Build) error { *x = b; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	return w, &now
}

func (w *Workspace) askResults(t *testing.T, b Build) distro.Verdict {
	t.Helper()
	release := Release{Version: "1.1", Build: distro.NewBuildID("1.1", 1), Status: distro.Published}
	bed := &check.Bed{Dir: t.TempDir(), Boards: []distro.Board{{Name: "m"}}}
	all, err := w.tested(t.Context(), b, []Release{release})
	if err != nil {
		t.Fatal(err)
	}
	bed.Results = func(context.Context) ([]check.Tested, error) { return all, nil }
	out, err := check.Run(t.Context(), bed, w.Checks, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.update(t.Context(), b.ID, "tested", func(x *Build) error {
		x.Candidate.Checks, x.Candidate.Tested = []distro.CheckResult{out[0].Result}, w.now()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	b, err = w.Build(t.Context(), string(b.ID))
	if err != nil {
		t.Fatal(err)
	}
	return w.Judge(b)
}

func TestImportResults(t *testing.T) {
	t.Parallel()
	w, now := resultsWorkspace(t)
	ctx := t.Context()
	first, err := w.Build(ctx, "1.1-c1")
	if err != nil {
		t.Fatal(err)
	}
	one, two := fmt.Sprintf("%040d", 1), fmt.Sprintf("%040d", 2)
	if first, err = w.importResults(ctx, first, []string{resultsOf(t, "r1", one, "ssh.a=PASSED", "net.b=PASSED")}); err != nil {
		t.Fatal(err)
	}
	b, err := w.Build(ctx, "1.2-c1")
	if err != nil {
		t.Fatal(err)
	}
	if v := w.askResults(t, b); v.Status != distro.Blocked || v.Boards["m"] != distro.Blocked || v.Reasons[0].Finding.ID != "runtime/m/img:none" {
		t.Errorf("no results where the last release had some: %+v", v)
	}

	// One of another build, one that is none: both are told, nothing is kept.
	bad := filepath.Join(t.TempDir(), "x.json")
	if err := os.WriteFile(bad, []byte(`{"r": {"configuration": {"TEST_TYPE": "runtime"}}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	good := resultsOf(t, "r2", two, "ssh.a=FAILED", "net.b=FAILED")
	_, err = w.importResults(ctx, b, []string{good, bad, resultsOf(t, "r3", one, "ssh.a=PASSED"), "/nowhere/x.json"})
	var list errs.List
	if !errors.As(err, &list) || len(list) != 3 || !strings.Contains(list[0].Error(), "x.json:1:25: ") || !strings.Contains(list[1].Error(), "is of another build: it has layer meta at 000000000000") || !errs.Is(list[2], errs.NotFound) {
		t.Fatalf("%v", err)
	}
	if b, err = w.Build(ctx, "1.2-c1"); err != nil || len(b.Artifacts) != 0 {
		t.Fatalf("%v %+v", err, b.Artifacts)
	}

	// The same file twice is one run; the quarantine holds for net.b alone, until its day.
	for range 2 {
		if b, err = w.importResults(ctx, b, []string{good, good}); err != nil || len(b.Artifacts) != 2 {
			t.Fatalf("%v %+v", err, b.Artifacts)
		}
	}
	if logs := w.Logs(b); len(logs) != 2 || !strings.HasPrefix(logs[0].Name, "testresults/") {
		t.Errorf("%+v", logs)
	}
	deciding := func(v distro.Verdict) (out []string) {
		for _, r := range v.Reasons {
			if r.Decides {
				out = append(out, r.Finding.Object)
			}
		}
		return out
	}
	v := w.askResults(t, b)
	if got := deciding(v); !slices.Equal(got, []string{"ssh.a"}) {
		t.Errorf("%q %+v", got, v)
	}
	i := slices.IndexFunc(v.Reasons, func(r distro.Reason) bool { return r.Finding.Object == "net.b" })
	if i < 0 || v.Reasons[i].Waived == nil || !strings.Contains(v.Reasons[i].Note, "waived by gate.quarantine (net.*) until 2026-12-10: the lab's switch") {
		t.Errorf("%+v", v.Reasons)
	}
	if b, err = w.Build(ctx, "1.2-c1"); err != nil {
		t.Fatal(err)
	}
	*now = time.Date(2026, 12, 10, 0, 0, 0, 0, time.UTC)
	if got := deciding(w.Judge(b)); !slices.Equal(got, []string{"net.b", "ssh.a"}) {
		t.Errorf("after the day of the quarantine: %q", got)
	}

	// Our own verdict in the same form, read again.
	var out bytes.Buffer
	if err := testresults.Write(&out, w.ExportResults(b)); err != nil {
		t.Fatal(err)
	}
	runs, err := testresults.Read(&out, "own.json")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, x := range runs[0].All() {
		names = append(names, x.Name+"="+x.Status)
	}
	want := []string{"slipway.results=FAILED", "slipway.results.runtime/m/img:regressed:net.b=FAILED", "slipway.results.runtime/m/img:regressed:ssh.a=FAILED"}
	if len(runs) != 1 || runs[0].Key() != "runtime/m/slipway-checks" || !slices.Equal(names, want) {
		t.Errorf("%s: %q", runs[0].Key(), names)
	}

	// What is kept and was changed is no answer.
	if err := w.Blobs.Delete(ctx, first.Artifacts[1].Digest); err != nil {
		t.Fatal(err)
	}
	if _, err := w.tested(ctx, b, []Release{{Version: "1.1", Build: first.ID, Status: distro.Published}}); err == nil {
		t.Error("results of the last release are gone, and nobody says so")
	}
}

// A release's statement is public: logs of tests are not.
func TestStatementHasNoLogsOfTests(t *testing.T) {
	t.Parallel()
	f := distro.Finding{Check: resultsCheck, ID: "k:regressed:t", Object: "t", Text: "t fails", Evidence: []string{"lab-host-7"}}
	b := Build{Candidate: Candidate{Checks: []distro.CheckResult{{Spec: distro.CheckSpec{ID: resultsCheck}, Findings: []distro.Finding{f}}}, Verdict: &distro.Verdict{Reasons: []distro.Reason{{Finding: f}}}}}
	if text := string(distro.CanonicalJSON(statement(Release{}, b, distro.PublicPolicy{}))); strings.Contains(text, "lab-host-7") || !strings.Contains(text, "t fails") {
		t.Error(text)
	}
}
