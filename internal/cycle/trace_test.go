package cycle

import (
	"testing"
	"time"

	"slipway/internal/distro"
)

func TestLastGood(t *testing.T) {
	t.Parallel()
	day := func(n int) time.Time { return time.Date(2026, 12, n, 0, 0, 0, 0, time.UTC) }
	build := func(id string, n int, r distro.CheckResult) Build {
		r.Spec.ID = "installs"
		return Build{ID: distro.BuildID(id), Created: day(n), Status: distro.Candidate, Candidate: Candidate{Checks: []distro.CheckResult{r}}}
	}
	f := distro.Finding{Check: "installs", ID: "zlib.x86_64", Level: distro.Block}
	bad, good := distro.CheckResult{Asked: 3, Findings: []distro.Finding{f}}, distro.CheckResult{Asked: 3, Findings: []distro.Finding{{ID: "other"}}}
	now := build("1.3-b5", 9, bad)
	failed := build("1.3-b4", 8, good)
	failed.Status = distro.BuildFail
	newestFirst := []Build{build("1.4-b1", 10, good), now, failed, build("1.3-b3", 7, distro.CheckResult{Asked: 3, Error: "crashed"}), build("1.3-b2", 6, bad), build("1.3-b1", 5, distro.CheckResult{Note: "first"}),
		build("1.2-b2", 4, good), build("1.2-b1", 3, good)}
	if x, ok := lastGood(newestFirst, now, f); !ok || x.ID != "1.2-b2" {
		t.Errorf("%s %v", x.ID, ok)
	}
	if x, ok := lastGood(newestFirst[:6], now, f); ok {
		t.Errorf("%s was good", x.ID)
	}
}
