package cycle

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"slipway/internal/check"
	"slipway/internal/config"
	"slipway/internal/distro"
)

func TestChosen(t *testing.T) {
	t.Parallel()
	var all []check.Origin
	for n := 1; n <= 12; n++ {
		o := check.Origin{Version: distro.NewVersion("1", n), Packages: []distro.PackageRecord{{Name: "p"}}}
		if n == 4 {
			o.Packages = nil // removed by law
		}
		all = append(all, o)
	}
	names := func(policy config.UpgradeFrom, seed uint64) string {
		var s []string
		for _, o := range chosen(all, policy, "1.1", "1.12", seed) {
			if o.Random != strings.HasPrefix(o.Name, "random-") {
				t.Errorf("%+v", o)
			}
			s = append(s, fmt.Sprintf("%s=%s", o.Name, o.Version))
		}
		return strings.Join(s, " ")
	}
	if got := names(config.UpgradeFrom{First: true, Last: true}, 1); got != "first=1.1 last=1.12" {
		t.Error(got)
	}
	if got := names(config.UpgradeFrom{}, 1); got != "" {
		t.Error(got)
	}
	three := config.UpgradeFrom{First: true, Last: true, Random: 3}
	seen := map[string]bool{}
	for seed := range uint64(40) {
		got := names(three, seed)
		if again := names(three, seed); again != got {
			t.Errorf("seed %d: %s, then %s", seed, got, again)
		}
		f := strings.Fields(got)
		if len(f) != 5 || slices.Contains(f, "random-1.1=1.1") || slices.Contains(f, "random-1.12=1.12") || slices.Contains(f, "random-1.4=1.4") || len(slices.Compact(f)) != 5 {
			t.Errorf("seed %d: %s", seed, got)
		}
		seen[got] = true
	}
	if len(seen) < 20 {
		t.Errorf("40 seeds choose only %d sets of releases", len(seen))
	}
	if got := names(config.UpgradeFrom{Random: 100}, 7); len(strings.Fields(got)) != 11 {
		t.Errorf("more than there are: %s", got)
	}
}
