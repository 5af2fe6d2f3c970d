package upgrades

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/dnf"
)

func TestWhoRunsScriptlets(t *testing.T) {
	t.Parallel()
	journeys := []*journey{nil, {root: &dnf.Root{}, notRun: map[string]bool{"b: %post by /bin/sh": true, "a: %pre by /bin/sh": true}}, {root: &dnf.Root{}, notRun: map[string]bool{"a: %pre by /bin/sh": true}}}
	var res check.Result
	bed := &check.Bed{Arch: "aarch64", Board: "tiny", SelfUpgrades: []check.SelfUpgrade{{BootImage: check.BootImage{Board: "tiny", Image: "full", Path: "/x"}}}}
	scriptlets(bed, journeys, &res)
	if f := res.Findings; len(f) != 1 || f[0].Level != distro.Info || !strings.Contains(f[0].Text, "2 scriptlets of aarch64 cannot run on this machine: they run in the guest, in the check selfupgrades, image full") {
		t.Errorf("%+v", f)
	}
	bed.SelfUpgrades[0].Path, res = "", check.Result{} // no release has published it
	if scriptlets(bed, journeys, &res); res.Findings[0].Level != distro.Warn {
		t.Errorf("%+v", res.Findings)
	}
	if scriptlets(bed, nil, &res); len(res.Findings) != 1 {
		t.Errorf("%+v", res.Findings)
	}
}

func TestServicesOf(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	link := func(to, at string) {
		at = filepath.Join(root, at)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, at); err != nil {
			t.Fatal(err)
		}
	}
	link("/usr/lib/systemd/system/sshd.service", "etc/systemd/system/multi-user.target.wants/sshd.service")
	link("/dev/null", "etc/systemd/system/telnet.service")
	link("/usr/lib/systemd/system/graphical.target", "etc/systemd/system/default.target")
	link("../init.d/dropbear", "etc/rc5.d/S10dropbear")
	link("../init.d/dropbear", "etc/rc0.d/K05dropbear")
	for name, text := range map[string]string{"etc/inittab": "# x\n::respawn:/sbin/getty\n", "etc/systemd/system-preset/1.preset": "enable ssh*\ndisable *\n# enable no\n", "etc/rc5.d/README": ""} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := servicesOf(root)
	want := declared{{"sshd.service", "systemd system, multi-user.target.wants"}: "enabled", {"telnet.service", "systemd system"}: "masked", {"default.target", "systemd system"}: "stands for graphical.target",
		{"dropbear", "rc5.d"}: "S10", {"dropbear", "rc0.d"}: "K05", {"::respawn:/sbin/getty", "/etc/inittab"}: "a line"}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(service{})); d != "" || err != nil {
		t.Error(d, err)
	}
	if d := cmp.Diff([]string{"ssh*"}, presets(root)); d != "" {
		t.Error(d)
	}
}

func TestParseTests(t *testing.T) {
	t.Parallel()
	got := parseTests("PASS: a b\nFAIL: c\r\nSKIP: d\nPASS:e\nPASS: twice\nFAIL: twice\nXFAIL: x\nXPASS: y\nERROR: z\nPASS:\n PASS: indented\nfail: lower\n")
	want := map[string]string{"a b": "PASSED", "c": "FAILED", "d": "SKIPPED", "e": "PASSED", "twice": "FAILED", "x": "PASSED", "y": "FAILED", "z": "ERROR"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
