package cycle

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/state"
)

// TestEvidenceOfAnEarlierAnswerStands: an image that booted for 1.1-c1 is not booted
// again for 1.2-c1, and the log of its kernel is kept with both.
func TestEvidenceOfAnEarlierAnswerStands(t *testing.T) {
	t.Parallel()
	w, _ := resultsWorkspace(t)
	evidence := func(name, text string) distro.Artifact {
		t.Helper()
		d, n, err := w.Blobs.Put(t.Context(), strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return distro.Artifact{Class: distro.TaskLog, Name: name, Digest: d, Size: n}
	}
	kept := evidence("test/boots/tiny-light-kernel.log", "an old error")
	lost := distro.Artifact{Class: distro.TaskLog, Name: "test/boots/tiny-light-1.log", Digest: distro.DigestOf([]byte("collected")), Size: 9}
	other := evidence("test/boots/tiny-full-kernel.log", "of another image")
	if _, err := state.Upsert(t.Context(), w.State, kindBuild, "1.1-b1", func(b *Build) error {
		b.Candidate.Checks = []distro.CheckResult{
			{Spec: distro.CheckSpec{ID: "boots"}, Evidence: []distro.Artifact{kept, lost, other}},
			{Spec: distro.CheckSpec{ID: "installs"}, Evidence: []distro.Artifact{evidence("test/installs/tiny-light-x", "of another check")}},
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	inputs := distro.DigestOf([]byte("the image"))
	if err := w.remember(t.Context(), "1.1-b1", []distro.Digest{inputs}, nil); err != nil {
		t.Fatal(err)
	}

	bed := &check.Bed{}
	used, err := w.answered(t.Context(), bed)
	if err != nil {
		t.Fatal(err)
	}
	if c, ok := bed.Answered(inputs); !ok || c != "1.1-c1" {
		t.Fatal(c, ok)
	}
	_, _ = bed.Answered(inputs)
	a := used()
	if d := cmp.Diff([]distro.BuildID{"1.1-b1"}, a.builds); d != "" {
		t.Error(d)
	}
	own := evidence("test/boots/report.txt", "of this test")
	r := distro.CheckResult{Spec: distro.CheckSpec{ID: "boots"}, Evidence: []distro.Artifact{own}}
	o := check.Outcome{Result: r, Stands: []string{"tiny-light-"}}
	gone := distro.BuildID("1.1-b9") // its record was collected
	if err := w.stands(t.Context(), Build{ID: "1.2-b1"}, append(a.builds, gone), o, &r); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]distro.Artifact{own, kept}, r.Evidence); d != "" {
		t.Error(d)
	}
}
