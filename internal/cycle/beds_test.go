package cycle

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/check"
	"slipway/internal/distro"
)

// What a check found on two boards is one answer: alike findings name both, what was
// tried and its logs are there once for each.
func TestMergeBoards(t *testing.T) {
	t.Parallel()
	all := map[string]*check.Outcome{}
	for _, board := range []string{"a", "b"} {
		o := check.Outcome{Files: []check.File{{Name: "first-up.txt"}}, Result: distro.CheckResult{Spec: distro.CheckSpec{ID: "upgrades"}, Asked: 2, Note: "n",
			Findings: []distro.Finding{{Check: "upgrades", ID: "x", Log: "test/upgrades/first-up.txt"}},
			Trials:   []distro.Trial{{Name: "first", Steps: []distro.TrialStep{{Name: "up", Outcome: distro.StepBad, Log: "test/upgrades/first-up.txt"}}}}}}
		if board == "b" {
			o.Result.Findings = append(o.Result.Findings, distro.Finding{Check: "upgrades", ID: "y"})
		}
		merge(all, board, o)
	}
	trial := func(board string) distro.Trial {
		return distro.Trial{Board: board, Name: "first", Steps: []distro.TrialStep{{Name: "up", Outcome: distro.StepBad, Log: "test/upgrades/" + board + "/first-up.txt"}}}
	}
	got := *all["upgrades"]
	want := check.Outcome{Files: []check.File{{Name: "a/first-up.txt"}, {Name: "b/first-up.txt"}}, Result: distro.CheckResult{Spec: distro.CheckSpec{ID: "upgrades"}, Asked: 4, Note: "a: n; b: n",
		Findings: []distro.Finding{{Check: "upgrades", ID: "x", Boards: []string{"a", "b"}, Log: "test/upgrades/a/first-up.txt"}, {Check: "upgrades", ID: "y", Boards: []string{"b"}}},
		Trials:   []distro.Trial{trial("a"), trial("b")}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
