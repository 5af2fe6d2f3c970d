package rpmbuild

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// twoBoards adds two boards, and a machine package for them, to a layer that is
// built for two architectures.
func twoBoards(b *bed) {
	b.opt.Arches = []string{"x86_64", "aarch64"}
	b.seed.Boards = []distro.Board{{Name: "qemux86-64", Arch: "x86_64"}, {Name: "qemuarm64", Arch: "aarch64", MachineArch: "qemuarm64"}}
}

func archLayer() map[string]string {
	files := tinyLayer()
	for _, name := range []string{"libtie/libtie.spec", "tiectl/tiectl.spec"} {
		files[name] = strings.NewReplacer("host(gcc)", "host(%{slipway_cc})", "\ngcc ", "\n%{slipway_cc} ").Replace(files[name])
	}
	files["machine/machine.spec"] = specText("machine", "BuildArch: %{slipway_machine_arch}\nSource0: main.c\nBuildRequires: host(%{slipway_cc}), libtie-devel, motd",
		"%build\n%{slipway_cc} %{optflags} -I%{slipway_sysroot}/usr/include -L%{slipway_sysroot}/usr/lib64 -o knot %{SOURCE0} -ltie\n"+
			"%install\ninstall -D knot %{buildroot}/usr/bin/knot\necho '%{slipway_machine} %{slipway_machine_arch} %{slipway_deb_arch} %{slipway_deb_triplet} %{_arch}' > %{buildroot}/usr/bin/machine\n"+
			"grep . %{slipway_sysroot}/etc/motd %{buildroot}/usr/bin/machine", "/usr/bin/*")
	files["machine/main.c"] = files["tiectl/main.c"]
	return files
}

func TestArchitecturesAndMachines(t *testing.T) {
	b := setup(t, archLayer())
	twoBoards(b)
	first := b.mustBuild()
	want := "libtie-1.0-1.aarch64, libtie-devel-1.0-1.aarch64, tiectl-1.0-1.aarch64, motd-1.0-1.noarch, machine-1.0-1.qemuarm64, machine-1.0-1.qemux86_64, " +
		"libtie-1.0-1.x86_64, libtie-devel-1.0-1.x86_64, tiectl-1.0-1.x86_64"
	if got := evrs(first); got != want {
		t.Errorf("packages %s", got)
	}
	for task, says := range map[string]string{
		"machine.qemuarm64":  "qemuarm64 qemuarm64 arm64 aarch64-linux-gnu aarch64\n",
		"machine.qemux86_64": "qemux86-64 qemux86_64 amd64 x86_64-linux-gnu x86_64\n",
	} {
		if log := b.log(task); !strings.Contains(log, "/usr/bin/machine:"+says) || !strings.Contains(log, "motd:welcome") {
			t.Errorf("%s\n%s", task, log)
		}
	}
	if log := b.log("tiectl.aarch64"); strings.Contains(log, ".x86_64.rpm") || !strings.Contains(log, "sysroot: libtie-devel-1.0-1.aarch64.rpm") {
		t.Error(log)
	}
	for _, r := range records(first) {
		if r.Scope != r.Arch {
			t.Errorf("%s is in the feed of %s", r.NEVRA(), r.Scope)
		}
	}

	// Other folders, jobs and sandbox; and for one board alone the rest is the same.
	for _, change := range []func(){
		func() { b.opt = Options{Jobs: 5, Sandbox: "none"}; twoBoards(b) },
		func() {
			b.opt = Options{Arches: []string{"aarch64"}}
			b.seed.Boards = b.seed.Boards[1:]
		},
	} {
		change()
		b.numbers = &numbers{}
		b.opt.Numbers = b.numbers
		b.again("1.1-b1")
		had := map[string]distro.PackageRecord{}
		for _, r := range records(first) {
			had[r.NEVRA()] = r
		}
		again := records(b.mustBuild())
		if len(again) != 9 && len(again) != 5 {
			t.Errorf("%d packages", len(again))
		}
		for _, r := range again {
			if had[r.NEVRA()] != r {
				t.Errorf("%+v is not\n%+v", r, had[r.NEVRA()])
			}
		}
	}
}

// A number belongs to a scope: a change for one board leaves the others' files.
func TestNumbersOfScopes(t *testing.T) {
	conf := func(pc string) string {
		return specText("conf", "BuildArch: %{slipway_machine_arch}", "%install\nmkdir -p %{buildroot}/etc\n%ifarch qemux86_64\necho "+pc+" > %{buildroot}/etc/conf\n%else\necho other > %{buildroot}/etc/conf\n%endif", "/etc/conf")
	}
	b := setup(t, map[string]string{"conf/conf.spec": conf("one")})
	twoBoards(b)
	b.mustBuild()
	b.next("1.2-b1")
	b.write(map[string]string{"conf/conf.spec": conf("two")})
	if got := evrs(b.mustBuild()); got != "conf-1.0-1.qemuarm64 kept, conf-1.0-2.qemux86_64" {
		t.Error(got)
	}
}

func TestFindingsOfTargets(t *testing.T) {
	b := setup(t, map[string]string{
		"a/a.spec":       specText("a", "BuildRequires: conf", "%install\n", "%files"),
		"cc/cc.spec":     shell("cc", "x", "BuildRequires: host(%{slipway_cc})"),
		"conf/conf.spec": specText("conf", "BuildArch: %{slipway_machine_arch}", "", ""),
		"lib/lib.spec":   specText("lib", "", "", ""),
		"n/n.spec":       shell("n", "x", "BuildRequires: lib"),
		"odd/odd.spec":   specText("odd", "BuildArch: noarch", "%install\necho %{slipway_machine}", ""),
		"mix/mix.spec":   specText("mix", "", "%package doc\nSummary: x\nBuildArch: noarch\n%description doc\nx\n%files doc", ""),
		"only/only.spec": specText("only", "ExclusiveArch: aarch64", "%package doc\nSummary: x\nBuildArch: noarch\n%description doc\nx\n%files doc", ""),
	})
	twoBoards(b)
	want := strings.TrimSpace(`
invalid: base/specs/cc/cc.spec:7: %{slipway_cc} in a noarch spec: its packages would differ between architectures [take BuildArch: noarch out]
invalid: base/specs/mix/mix.spec:12: package mix-doc is noarch, but its spec is built for x86_64 and aarch64 [make it in a spec of its own, or give it the architecture of the others]
invalid: base/specs/odd/odd.spec:6: package odd has the architecture noarch, not qemux86_64 [a spec that uses the machine's macros has BuildArch: %{slipway_machine_arch}]`)
	if got := findings(b.prepare()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, gone := range []string{"cc", "mix", "odd"} {
		if err := os.RemoveAll(filepath.Join(b.layer, "specs", gone)); err != nil {
			t.Fatal(err)
		}
	}
	want = strings.TrimSpace(`
invalid: base/specs/a/a.spec:6: a for x86_64 needs conf to build, which the layers make for qemux86_64, qemuarm64 only [a sysroot holds packages of the spec's own architecture, of its own machine, and noarch]
invalid: base/specs/a/a.spec:6: a for aarch64 needs conf to build, which the layers make for qemux86_64, qemuarm64 only [a sysroot holds packages of the spec's own architecture, of its own machine, and noarch]
invalid: base/specs/n/n.spec:7: n for noarch needs lib to build, which the layers make for x86_64, aarch64 only [a sysroot holds packages of the spec's own architecture, of its own machine, and noarch]`)
	if got := findings(b.prepare()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestBadTargets(t *testing.T) {
	b := setup(t, map[string]string{"a/a.spec": shell("a", "x", "")})
	b.opt.Arches = []string{"x86_64", "arm64", "x86_64"}
	b.seed.Boards = []distro.Board{{Name: "a", Arch: "aarch64"}, {Name: "b-1", Arch: "x86_64"}, {Name: "b_1", Arch: "x86_64"}, {Name: "c", Arch: "x86_64", MachineArch: "aarch64"}}
	want := strings.TrimSpace(`
invalid: there is no architecture "arm64" [known: x86_64, aarch64, armv7hl, i686, ppc64le, riscv64, s390x]
invalid: architecture x86_64 is there twice
invalid: board a has the architecture "aarch64", which is not built [builder: {kind: rpmbuild, arches: [x86_64, arm64, x86_64, aarch64]}]
invalid: the boards b-1 and b_1 have one machine architecture, b_1 [give one of them another machine_arch]
invalid: board c has the machine architecture "aarch64", which is no name for one [machine_arch: letters, digits and _, and no architecture of generic packages]`)
	if got := findings(b.prepare()); got != want {
		t.Errorf("got\n%s", got)
	}
}

// A series without boards leaves machine specs out, and says so.
func TestNoBoard(t *testing.T) {
	b := setup(t, map[string]string{
		"a/a.spec":       shell("a", "x", ""),
		"conf/conf.spec": specText("conf", "BuildArch: %{slipway_machine_arch}", "", ""),
		"only/only.spec": specText("only", "ExclusiveArch: aarch64", "", ""),
	})
	if got := evrs(b.mustBuild()); got != "a-1.0-1.noarch" {
		t.Error(got)
	}
	var notes []string
	for _, e := range b.events {
		if e.Type == "note" {
			notes = append(notes, e.Text)
		}
	}
	if got := strings.Join(notes, "; "); got != "spec conf is not built: it is of a machine, and there is no board for it; spec only is not built: its ExclusiveArch or ExcludeArch leaves out all that is built for" {
		t.Error(got)
	}
}

func TestPinsOfArchitectures(t *testing.T) {
	text := strings.Replace(specText("k", "Source0: linux-2-%{slipway_deb_arch}.deb",
		"%install\necho '%{slipway_source_package} %{slipway_source_version linux-2-%{slipway_deb_arch}.deb} %{slipway_source_package linux-2-amd64.deb}'", ""),
		"Version: 1.0", "Version: %{slipway_source_version}", 1)
	b := setup(t, map[string]string{"k/k.spec": text, "k/sources.yaml": "- {name: \"linux-{n}-{arch}.deb\", deb: \"linux-*-{arch}\", newest: 2}\n"})
	b.opt.Arches = []string{"x86_64", "aarch64"}
	b.seed.Sources = t.TempDir()
	for _, p := range []struct{ name, version, origin string }{
		{"linux-1-amd64.deb", "7.1-1", "deb:linux-7-amd64_7.1-1_amd64"}, {"linux-1-arm64.deb", "7.2-1", "deb:linux-7-arm64_7.2-1_arm64"},
		{"linux-2-amd64.deb", "6.1-1", "deb:linux-6-amd64_6.1-1_amd64"}, {"linux-2-arm64.deb", "6.2-1", "deb:linux-6-arm64_6.2-1_arm64"},
	} {
		d := distro.DigestOf([]byte(p.name))
		b.rev.Sources = append(b.rev.Sources, distro.SourcePin{Spec: "k", Name: p.name, Version: p.version, Origin: p.origin, Digest: d})
		if err := os.WriteFile(filepath.Join(b.seed.Sources, d.Hex()), []byte(p.name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := evrs(b.mustBuild()); got != "k-7.2-1.aarch64, k-7.1-1.x86_64" {
		t.Error(got)
	}
	if log := b.log("k.aarch64"); !strings.Contains(log, "\nlinux-7-arm64 6.2 linux-6-amd64\n") {
		t.Error(log)
	}
	b.rev.Sources = b.rev.Sources[:1]
	if got := findings(b.prepare()); !strings.Contains(got, "k.spec:6: the source linux-2-amd64.deb is missing [its sources.yaml wants it, but sources.lock does not pin it]") && !strings.Contains(got, "pins no source") {
		t.Error(got)
	}
}

func TestCrossTools(t *testing.T) {
	t.Parallel()
	for _, a := range []string{"x86_64", "aarch64"} {
		if err := CrossTools(a); err != nil {
			t.Errorf("%s: %v %v", a, err, errs.Hints(err))
		}
	}
	if err := CrossTools("s390x"); !errs.Is(err, errs.Unavailable) || strings.Join(errs.Hints(err), "") != "apt-get install gcc-s390x-linux-gnu libc6-dev-s390x-cross" {
		t.Errorf("%v %q", err, errs.Hints(err))
	}
	if err := CrossTools("arm64"); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
}

// A spec of SoC families is built once for each family, and seen by its machines.
func TestSoCFamilies(t *testing.T) {
	b := setup(t, map[string]string{
		"fw/fw.spec": specText("fw", "BuildArch: %{slipway_soc_arch}", "%install\nmkdir -p %{buildroot}/etc\necho '%{slipway_soc_family} %{slipway_soc_arch} %{slipway_deb_arch}' > %{buildroot}/etc/fw", "/etc/fw"),
		"id/id.spec": specText("id", "BuildArch: %{slipway_machine_arch}\n%{?slipway_soc_arch:BuildRequires: fw}", "%install\nmkdir -p %{buildroot}/etc\n"+
			"echo %{slipway_machine} %{?slipway_soc_arch}%{!?slipway_soc_arch:%{slipway_machine_arch}} > %{buildroot}/etc/id\ncat %{slipway_sysroot}/etc/fw || true", "/etc/id"),
	})
	b.seed.Boards = []distro.Board{{Name: "wand", Arch: "x86_64", SoCFamily: "imx-6"}, {Name: "stick", Arch: "x86_64", SoCFamily: "imx-6"}, {Name: "plain", Arch: "x86_64"}}
	if got := evrs(b.mustBuild()); got != "fw-1.0-1.imx_6, id-1.0-1.plain, id-1.0-1.stick, id-1.0-1.wand" {
		t.Error(got)
	}
	if log := b.log("id.wand"); !strings.Contains(log, "imx-6 imx_6 amd64") {
		t.Errorf("the family's package is not in the machine's sysroot:\n%s", log)
	}
	if log := b.log("id.plain"); strings.Contains(log, "imx-6") {
		t.Errorf("the family's package is in another machine's sysroot:\n%s", log)
	}

	b.seed.Boards = []distro.Board{{Name: "a", Arch: "x86_64", SoCFamily: "imx"}, {Name: "b", Arch: "aarch64", SoCFamily: "imx"}, {Name: "c", Arch: "x86_64", SoCFamily: "b"}, {Name: "d", Arch: "x86_64", SoCFamily: "aarch64"}}
	b.opt.Arches = []string{"x86_64", "aarch64"}
	want := strings.TrimSpace(`
invalid: the SoC family imx has boards of x86_64 and of aarch64 (b): its packages are of one [give them families of their own: imx-aarch64]
invalid: board c has the SoC family b, and the machine architecture of board b is the same [each has its own feed: give the board another machine_arch]
invalid: board d has the SoC family "aarch64", which is no name for one [soc_family: letters, digits, - and _, and no architecture of generic packages]`)
	b.again("1.1-b2")
	if got := findings(b.prepare()); got != want {
		t.Errorf("got\n%s", got)
	}
}
