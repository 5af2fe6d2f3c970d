package bitbake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/prserv/fork"
)

// buildUser is who real BitBake runs as when the tests run as root; it is made
// if it is not there. docs/builder-bitbake.md says so.
const buildUser = "slipway-build"

// checkouts gives BitBake (tag yocto-6.0.2) and OE-Core (branch wrynose).
func checkouts(t *testing.T) (bitbake, core string) {
	t.Helper()
	bitbake, core = os.Getenv("SLIPWAY_TEST_BITBAKE"), os.Getenv("SLIPWAY_TEST_OECORE")
	if bitbake == "" || core == "" {
		t.Skip("SKIPPED: real BitBake: SLIPWAY_TEST_BITBAKE and SLIPWAY_TEST_OECORE name no checkouts")
	}
	return bitbake, core
}

// fixture is a builder over the fixture layer, its revision and seed.
func fixture(t *testing.T, opt Options) (*Builder, distro.Revision, distro.Seed, string) {
	t.Helper()
	bitbake, core := checkouts(t)
	for _, tool := range [][2]string{{"gawk", "gawk"}, {"chrpath", "chrpath"}, {"diffstat", "diffstat"}, {"pseudo", "pseudo"}, {"debugedit", "debugedit"}, {"quilt", "quilt"}, {"dwz", "dwz"}, {"createrepo_c", "createrepo-c"}, {"dnf", "dnf"}, {"lz4", "lz4"}, {"pigz", "pigz"}, {"eu-readelf", "elfutils"}, {"rpcgen", "rpcsvc-proto"}} {
		if _, err := exec.LookPath(tool[0]); err != nil {
			t.Fatalf("apt-get install %s", tool[1])
		}
	}
	dir := t.TempDir()
	if os.Geteuid() == 0 {
		opt.User = buildUser
		if _, err := user.Lookup(buildUser); err != nil {
			if out, err := exec.Command("useradd", "--system", "--create-home", "--shell", "/bin/sh", buildUser).CombinedOutput(); err != nil {
				t.Fatalf("useradd %s: %v\n%s", buildUser, err, out)
			}
		}
		// t.TempDir's parent is for its owner alone.
		for _, d := range []string{dir, filepath.Dir(dir)} {
			if err := os.Chmod(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	layer := filepath.Join(dir, "layers", "meta-fixture")
	if err := os.CopyFS(layer, os.DirFS("testdata/meta-fixture")); err != nil {
		t.Fatal(err)
	}
	opt.Release, opt.Path, opt.Offline = "wrynose", []string{filepath.Join(layer, "host-tools")}, true
	// Parse little: what the fixture needs of OE-Core.
	opt.Conf = `DISTRO = "fixture"
SANITY_TESTED_DISTROS = ""
BBMASK = "/meta/recipes-(?!core/meta/|core/base-files/|core/base-passwd/|kernel/linux/linux-dummy|extended/images/|devtools/run-postinsts/)"
`
	rev := distro.Revision{Schema: 1, Layers: []distro.LayerPin{{Name: "bitbake"}, {Name: "openembedded-core", Path: "meta"}, {Name: "meta-fixture"}}}
	seed := distro.Seed{Version: "1.1", Build: "1.1-b1", Boards: []distro.Board{{Name: "fixture-a"}},
		Layers: map[string]string{"bitbake": bitbake, "openembedded-core": filepath.Join(core, "meta"), "meta-fixture": layer}}
	return New(opt), rev, seed, filepath.Join(dir, "build")
}

// TestRealBitBakeBuild goes the whole way of a Builder with the series' own servers:
// prepared, asked about its board, stopped in the middle, gone on with, collected.
func TestRealBitBakeBuild(t *testing.T) {
	checkouts(t)
	base, err := fork.Open(filepath.Join(t.TempDir(), "series.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	overlays := t.TempDir()
	overlay := func(id distro.BuildID) string { return filepath.Join(overlays, string(id)) }
	b, rev, seed, dir := fixture(t, Options{Targets: []string{"packagegroup-fixture"}, Servers: func(ctx context.Context, id distro.BuildID) (Servers, error) {
		f, err := base.Fork(ctx, overlay(id))
		if err != nil {
			return Servers{}, err
		}
		return Servers{Hash: f.HashServer, PR: f.PRServer, Close: f.Close}, nil
	}})
	ctx := t.Context()
	if err := b.Prepare(ctx, rev, seed, dir); err != nil {
		t.Fatal(err)
	}
	e, err := b.Environment(ctx, dir, "fixture-a")
	if err != nil {
		t.Fatal(err)
	}
	board, err := e.DescribeBoard("")
	if err != nil || board.Arch != "core2_64" || board.MachineArch != "fixture_a" || e.Vars["DISTRO_VERSION"] != "1.1" || e.Vars["IMAGE_VERSION_SUFFIX"] != "-1.1" || e.Vars["SDK_VERSION"] != "1.1" {
		t.Errorf("board %+v of version %q, %v", board, e.Vars["DISTRO_VERSION"], err)
	}
	if found := Assert([]*Environment{e}, true); len(found) != 0 {
		t.Errorf("the generated configuration has findings: %+v", found)
	}
	for out, err := range b.Collect(ctx, dir) {
		if !errs.Is(err, errs.Conflict) {
			t.Fatalf("collected before it was built: %+v, %v", out, err)
		}
	}

	stopped, stop := context.WithCancel(ctx)
	err = b.Build(stopped, dir, func(e distro.BuildEvent) {
		if e.Done >= 10 {
			stop()
		}
	})
	stop()
	if !errs.Is(err, errs.Interrupted) {
		t.Fatalf("a stopped build says %v", err)
	}
	t.Log(err)
	if pids := (&run{dir: dir}).servers(); len(pids) > 0 {
		t.Errorf("BitBake's server %d is left after a stop", pids)
	}

	counts := map[string]int{}
	var last distro.BuildEvent
	err = b.Build(ctx, dir, func(e distro.BuildEvent) { counts[e.Type]++; last = e })
	if err != nil {
		t.Fatal(err)
	}
	if counts["plan"] != 1 || counts["start"] == 0 || counts["start"] != counts["done"] || counts["failed"] != 0 || last.Total < 90 {
		t.Errorf("events %v, last %+v", counts, last)
	}
	t.Log("events", counts)
	seed.Packages, seed.Numbers = collected(ctx, t, b, dir)

	// The next release, from an empty folder, with the first one's sstate as mirror.
	if n, err := base.Promote(ctx, overlay("1.1-b1")); err != nil || n.Numbers == 0 || n.Hashes == 0 {
		t.Fatalf("promoted %+v, %v", n, err)
	}
	opt := b.opt
	opt.SState = filepath.Join(dir, "topdir", "sstate")
	next := New(opt)
	seed.Version, seed.Build = "1.2", "1.2-b1"
	again := filepath.Join(filepath.Dir(dir), "build-2")
	if err := next.Prepare(ctx, rev, seed, again); err != nil {
		t.Fatal(err)
	}
	var plan string
	rebuilt := 0
	err = next.Build(ctx, again, func(e distro.BuildEvent) {
		switch {
		case e.Type == "plan":
			plan = e.Text
		case e.Type == "start" && strings.HasSuffix(e.Task, ":do_compile"):
			rebuilt++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(plan, "and", rebuilt, "compiled")
	if rebuilt != 0 {
		t.Errorf("%d recipes were compiled again: %s", rebuilt, plan)
	}
	kept := 0
	for o, err := range next.Collect(ctx, again) {
		if err != nil {
			t.Fatal(err)
		}
		if o.Class == distro.Packages {
			if !o.Package.Kept || o.Path != "" {
				t.Errorf("package %s is not the base's", o.Name)
			}
			kept++
		}
	}
	if kept == 0 {
		t.Error("no package was restored")
	}
	t.Log(kept, "packages kept")

	// A source changes: its recipe alone gets the next number of the series.
	source := filepath.Join(seed.Layers["meta-fixture"], "recipes-fixture", "hello", "files", "hello.c")
	text, err := os.ReadFile(source)
	if err == nil {
		err = os.WriteFile(source, append(text, "int changed = 1;\n"...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := next.Build(ctx, again, nil); err != nil {
		t.Fatal(err)
	}
	made := map[string]bool{} // package -> kept
	for o, err := range next.Collect(ctx, again) {
		if err != nil {
			t.Fatal(err)
		}
		if o.Class == distro.Packages {
			made[o.Package.Name+"-"+o.Package.EVR()] = o.Package.Kept
		}
	}
	t.Log("after a change", made)
	if kept, ok := made["hello-1.0-r0.1"]; !ok || kept || !made["fixture-board-1.0-r0.0"] {
		t.Errorf("after a change of hello: %v", made)
	}
}

func collected(ctx context.Context, t *testing.T, b *Builder, dir string) (records []distro.PackageRecord, rows []distro.NumberRow) {
	t.Helper()
	classes := map[distro.Class]int{}
	names := map[string]distro.Output{}
	for o, err := range b.Collect(ctx, dir) {
		if err != nil {
			t.Fatal(err)
		}
		key := string(o.Class) + " " + o.Name
		if _, twice := names[key]; twice {
			t.Errorf("%s is given twice", key)
		}
		classes[o.Class]++
		names[key] = o
		if o.Package != nil {
			records = append(records, *o.Package)
		}
	}
	t.Log("collected", classes)
	for _, want := range []string{"packages core2_64/libgreet1-1.0-r0.0.core2_64.rpm", "packages noarch/fixture-config-1.0-r0.0.noarch.rpm", "packages fixture_a/fixture-board-1.0-r0.0.fixture_a.rpm",
		"console-log console.log", "console-log events/fixture-a.json", "task-log core2-64-fixture-linux/hello/1.0/log.do_compile", "pr-database numbers.json",
		"configuration bitbake/local.conf", "buildhistory packages/core2-64-fixture-linux/hello/latest", "buildhistory pkgdata/fixture-a/runtime/hello",
		"sources x86_64-fixture-linux/hello-1.0-r0/hello.c", "sbom cve/packagegroup-fixture_cve.json", "sbom licenses/fixture_a/packagegroup-fixture/recipeinfo"} {
		if _, ok := names[want]; !ok {
			t.Errorf("not collected: %s", want)
		}
	}
	var packages []string
	for _, p := range records {
		packages = append(packages, p.Name)
	}
	slices.Sort(packages)
	if got := strings.Join(packages, " "); got != "fixture-board fixture-board-dbg fixture-board-dev fixture-config fixture-config-dbg fixture-config-dev hello hello-dbg hello-dev hostlibc hostshell libgcc-s1 libgreet1 packagegroup-fixture packagegroup-fixture-dbg packagegroup-fixture-dev" {
		t.Errorf("%d packages: %s", len(packages), got)
	}
	if classes[distro.SState] < 50 || classes[distro.SBOM] < 5 {
		t.Errorf("collected %v", classes)
	}
	if p := names["packages core2_64/libgreet1-1.0-r0.0.core2_64.rpm"].Package; p == nil || p.SourceName != "hello" || p.Scope != "core2_64" || p.License != "MIT" {
		t.Errorf("record %+v", p)
	}
	data, err := os.ReadFile(names["pr-database numbers.json"].Path)
	if err == nil {
		err = json.Unmarshal(data, &rows)
	}
	var of []string
	for _, r := range rows {
		of = append(of, r.String())
	}
	if err != nil || len(rows) != 6 {
		t.Errorf("numbers of %q, %v", of, err)
	}
	for key := range names {
		if strings.Contains(key, "slipway-machine.conf") {
			t.Error("the ports of a run were collected")
		}
	}
	return records, rows
}

func TestPrepareReportsAllAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"core/meta/conf/layer.conf": "LAYERSERIES_CORENAMES = \"scarthgap\"\n", "core/meta/conf/bitbake.conf": "", "old/conf/layer.conf": "LAYERSERIES_COMPAT_old = \"kirkstone\"\n", "none/README": ""} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	rev := distro.Revision{Layers: []distro.LayerPin{{Name: "core"}, {Name: "old"}, {Name: "none"}}}
	seed := distro.Seed{Layers: map[string]string{"core": filepath.Join(dir, "core/meta"), "old": filepath.Join(dir, "old"), "none": filepath.Join(dir, "none")}, Boards: []distro.Board{{Name: "m"}}}
	err := New(Options{Release: "wrynose", User: "no-such-user-of-slipway"}).Prepare(t.Context(), rev, seed, filepath.Join(dir, "build"))
	for _, want := range []string{"OE-Core is of scarthgap, not of wrynose", "layer old is for kirkstone", "layer none has no conf/layer.conf", "no layer is BitBake", "nothing to build for board m", "no-such-user-of-slipway does not exist", "without its scripts"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not told: %v", want, err)
		}
	}
	if exists(dir, "build") {
		t.Error("a refused build left a folder")
	}
}

func TestNumbersAndNames(t *testing.T) {
	t.Parallel()
	for release, want := range map[string]int{"r0.1": 1, "r0.0": 0, "r0": 0, "r3.12": 12, "r0.x": 0} {
		if got := number(release); got != want {
			t.Errorf("%s: %d", release, got)
		}
	}
	if s := sourceName("libx-dev-1.0-r0.1.src.rpm"); s != "libx-dev" {
		t.Error(s)
	}
	recipe, name := ParsePkgdata("libgreet", []byte("PN: hello\nPV: 1.0\nPKG:libgreet: libgreet1\n"))
	if recipe != "hello" || name != "libgreet1" {
		t.Error(recipe, name)
	}
}

func TestCollectFollowsNoLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	secret := filepath.Join(dir, "secret")
	top := filepath.Join(dir, "top")
	err := errors.Join(os.MkdirAll(filepath.Join(top, "images"), 0o755), os.WriteFile(secret, []byte("x"), 0o600), os.WriteFile(filepath.Join(top, "images", "a"), nil, 0o644),
		os.Symlink(secret, filepath.Join(top, "images", "b")), os.Symlink(dir, filepath.Join(top, "sdk")), os.Symlink(dir, filepath.Join(top, "images", "c")))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := walk(t.Context(), top, "images", func(rel, _ string) error { got = append(got, rel); return nil }); err != nil || !slices.Equal(got, []string{"a"}) {
		t.Error(got, err)
	}
	if err := walk(t.Context(), top, "sdk", func(string, string) error { return fmt.Errorf("followed") }); !errs.Is(err, errs.Denied) {
		t.Error(err)
	}
	if err := walk(t.Context(), top, "none", nil); err != nil {
		t.Error(err)
	}
}
