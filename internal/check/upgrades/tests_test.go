package upgrades_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/check"
	"slipway/internal/check/upgrades"
	"slipway/internal/distro"
	"slipway/internal/dnf"
	"slipway/internal/dnf/dnftest"
	"slipway/internal/testresults"
)

// shell is a package with a static busybox, by which scripts of the device run.
func shell(version int) string { return fmt.Sprintf(shellSpec, version) }

const shellSpec = `Name: busybox
Version: %d
Release: 1
BuildArch: noarch
%%global _binaries_in_noarch_packages_terminate_build 0
%%install
mkdir -p %%{buildroot}/bin
cp $(command -v busybox) %%{buildroot}/bin/busybox
for a in sh cat sleep grep touch; do ln -s busybox %%{buildroot}/bin/$a; done
%%files
/bin/*
`

// ptest is a package with its own tests.
func ptest(name string, version int, script string) string {
	return fmt.Sprintf(`Name: %[1]s-ptest
Version: %[2]d
Release: 1
BuildArch: noarch
%%install
mkdir -p %%{buildroot}/usr/lib/ptest/%[1]s %%{buildroot}/usr/share/x
echo %[2]d > %%{buildroot}/usr/share/x/%[1]s
cat > %%{buildroot}/usr/lib/ptest/%[1]s/run-ptest <<'END'
#!/bin/sh
%[3]s
END
chmod 755 %%{buildroot}/usr/lib/ptest/%[1]s/run-ptest
%%files
/usr/lib/ptest/%[1]s
/usr/share/x/%[1]s
`, name, version, script)
}

// daemon starts by an init link that its scriptlet makes when it is installed, and only then.
func daemon(name string, version int, link string) string {
	return fmt.Sprintf(`Name: %[3]s
Version: %[1]d
Release: 1
BuildArch: noarch
%%install
mkdir -p %%{buildroot}/etc/init.d %%{buildroot}/etc/rc5.d
echo %[1]d > %%{buildroot}/etc/init.d/%[3]s
%%post -p <lua>
if tonumber(arg[2]) == 1 then posix.symlink("../init.d/%[3]s", "/etc/rc5.d/%[2]s%[3]s") end
%%files
/etc/init.d
/etc/rc5.d
`, version, link, name)
}

func trial(t *testing.T, from, to release, edit func(*check.Bed)) check.Outcome {
	t.Helper()
	bed := &check.Bed{Dir: t.TempDir(), Tool: dnftest.Find(t), Jobs: 2, Candidate: check.Feed{Repos: []dnf.Repo{to.repo}}, Packages: to.records, Board: "tiny", Version: "1.2", TestTime: 3 * time.Second,
		Origins: []check.Origin{{Name: "last", Version: "1.1", Feed: check.Feed{Repos: []dnf.Repo{from.repo}}, Packages: from.records}}}
	if edit != nil {
		edit(bed)
	}
	out, err := check.Run(t.Context(), bed, []check.Check{upgrades.New()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out[0]
}

// Planted: a test that fails only after the upgrade, one that never ends, a team's own
// that fails, a service that an upgrade starts otherwise than a fresh install.
func TestTestsAndServices(t *testing.T) {
	t.Parallel()
	key := dnftest.NewKey(t, "feed")
	one := make1(t, key, shell(1), daemon("daemon", 1, "S20"),
		ptest("knots", 1, "touch /usr/share/x/a-test-may-write; echo PASS: bowline; echo PASS: reef knot; echo FAIL: sheet bend; echo SKIP: hitch"),
		ptest("endless", 1, "echo PASS: begin"), ptest("whole", 1, "exit 0"))
	two := make1(t, key, shell(2), daemon("daemon", 2, "S30"),
		ptest("knots", 2, "echo PASS: bowline; echo slack; echo FAIL: reef knot; echo FAIL: sheet bend; echo FAIL: new"),
		ptest("endless", 2, "echo PASS: begin; sleep 1000"), ptest("whole", 2, "exit 3"))
	dir := t.TempDir()
	for name, script := range map[string]string{"version.sh": "#!/bin/sh\ngrep -q 1 /usr/share/x/knots\n", "sees-nothing.sh": "#!/bin/sh\n[ ! -e /work ] && [ ! -e /etc/shadow ] && ! cat /proc/net/route | grep -q 0\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	o := trial(t, one, two, func(b *check.Bed) { b.DeviceTests = dir })
	want := []string{"block last:up:device-tests:version", "block last:up:service:daemon",
		"block last:up:tests:endless", "warn last:up:tests:knots:new", "block last:up:tests:knots:reef-knot", "block last:up:tests:whole"}
	got := show(o)
	if d := cmp.Diff(want, got); d != "" || o.Result.Error != "" {
		t.Fatalf("%s\n%+v", d, o.Result)
	}
	wantTrial := []distro.Trial{{Board: "tiny", Name: "last", Version: "1.1", Steps: []distro.TrialStep{{Name: "install", Outcome: distro.StepGood},
		{Name: "up", Outcome: distro.StepBad, Log: "test/upgrades/last-up.txt"}, {Name: "back", Outcome: distro.StepGood, Log: "test/upgrades/last-back.txt"}},
		Measures: []distro.Measure{{Name: "tests", Text: "2 pass, 3 fail"}}}}
	if d := cmp.Diff(wantTrial, o.Result.Trials); d != "" {
		t.Error(d)
	}
	for _, f := range o.Result.Findings {
		if strings.HasPrefix(f.ID, "last:up:tests:") && (f.Log != "test/upgrades/last-testresults.json" || len(f.Evidence) == 0) || f.Cure == "" {
			t.Errorf("%+v", f)
		}
		if f.ID == "last:up:tests:knots:reef-knot" && cmp.Diff([]string{"PASS: bowline", "slack", "FAIL: reef knot"}, f.Evidence) != "" {
			t.Errorf("%q", f.Evidence)
		}
		t.Log(f.Text)
	}
	if took := time.Since(began); took > 2*time.Minute {
		t.Errorf("a test that never ends took %v", took)
	}
	for _, f := range o.Files {
		if f.Name != "last-testresults.json" {
			continue
		}
		r, err := os.Open(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		runs, err := testresults.Read(r, f.Name)
		if err != nil || len(runs) != 2 || len(runs[1].Sections) != 3 || len(runs[1].Tests) != 7 || runs[0].Machine() != "tiny" {
			t.Errorf("%v: %+v", err, runs)
		}
		return
	}
	t.Error("no testresults.json is kept")
}

// What the policy names may differ; a preset that names a service is told.
func TestServicesByPolicy(t *testing.T) {
	t.Parallel()
	key := dnftest.NewKey(t, "feed")
	preset := func(version int) string {
		return fmt.Sprintf("Name: presets\nVersion: %d\nRelease: 1\nBuildArch: noarch\n%%install\nmkdir -p %%{buildroot}/usr/lib/systemd/system-preset\nprintf 'enable daemon\\nenable *\\n' > %%{buildroot}/usr/lib/systemd/system-preset/9.preset\n%%files\n/usr/lib/systemd\n", version)
	}
	one := make1(t, key, preset(1), daemon("daemon", 1, "S20"), daemon("meant", 1, "S20"))
	two := make1(t, key, preset(2), daemon("daemon", 2, "S30"), daemon("meant", 2, "S30"))
	if d := cmp.Diff([]string{"info last:up:service:daemon"}, show(trial(t, one, two, func(b *check.Bed) { b.Services = []string{"mea*"} }))); d != "" {
		t.Error(d)
	}
}

// Scriptlets of another architecture that nothing here runs are told, and who runs them.
func TestForeignScriptlets(t *testing.T) {
	t.Parallel()
	key := dnftest.NewKey(t, "feed")
	script := "%post\nexit 0\n"
	one := make1(t, key, spec("a", 1, "", script, "/usr/share/x/a"), shell(1))
	two := make1(t, key, spec("a", 2, "", script, "/usr/share/x/a"), shell(2))
	o := trial(t, one, two, func(b *check.Bed) { b.Arch = "riscv64" })
	if d := cmp.Diff([]string{"warn scriptlets"}, show(o)); d != "" || !strings.Contains(o.Result.Findings[0].Text, "no guest runs them: a: %post by /bin/sh") {
		t.Errorf("%s %+v", d, o.Result)
	}
}
