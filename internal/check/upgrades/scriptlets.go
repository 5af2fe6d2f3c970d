package upgrades

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"slipway/internal/check"
	"slipway/internal/distro"
)

// scriptlets says how those of a foreign architecture ran: in an emulator here, else not
// at all, and whether the guest runs them then.
func scriptlets(bed *check.Bed, journeys []*journey, res *check.Result) {
	all, how := map[string]bool{}, ""
	for _, j := range journeys {
		if j == nil || j.root == nil {
			continue
		}
		maps.Copy(all, j.notRun)
		how = j.root.Runs()
	}
	if how == "emulated" {
		res.Note += "scriptlets and tests of " + bed.Arch + " ran by qemu-user here. "
	}
	if len(all) == 0 {
		return
	}
	list := slices.Sorted(maps.Keys(all))
	f := distro.Finding{ID: "scriptlets", Level: distro.Warn, Object: check.Count(len(list), "scriptlet"), Evidence: check.Few(list, 20),
		Text: fmt.Sprintf("%s of %s cannot run on this machine, so that no scriptlet of those transactions ran, and no guest runs them: %s", check.Count(len(list), "scriptlet"), bed.Arch, strings.Join(check.Few(list, 3), ", ")),
		Cure: "install qemu-user-static where binfmt works; or boot: {upgrade: IMAGE}, so that a guest of the board upgrades itself; or write them in Lua (%post -p <lua>)"}
	for _, u := range bed.SelfUpgrades {
		if u.Board == bed.Board && u.Path != "" {
			f.Level = distro.Info
			f.Text = fmt.Sprintf("%s of %s cannot run on this machine: they run in the guest, in the check selfupgrades, image %s", check.Count(len(list), "scriptlet"), bed.Arch, u.Image)
		}
	}
	res.Findings = append(res.Findings, f)
}
