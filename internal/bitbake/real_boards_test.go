package bitbake

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"slipway/internal/distro"
)

// TestRealBitBakeBoards builds for two boards in one TMPDIR, one of them of an SoC
// family, and for the other an image by OE-Core's own classes, out of packages that a dnf
// installs.
func TestRealBitBakeBoards(t *testing.T) {
	b, rev, seed, dir := fixture(t, Options{Targets: []string{"packagegroup-fixture"}, Images: map[string][]string{"fixture-a": {"fixture-image"}}})
	// As a BSP layer has it: the family is appended to what OE-Core has for the tune.
	b.opt.Conf += "PACKAGE_EXTRA_ARCHS:append:fixture-b = \" fixture-family\"\nPACKAGE_ARCH:pn-fixture-board:fixture-b = \"fixture-family\"\n"
	seed.Boards = append(seed.Boards, distro.Board{Name: "fixture-b"})
	if err := b.Prepare(t.Context(), rev, seed, dir); err != nil {
		t.Fatal(err)
	}
	boards, findings, err := b.Describe(t.Context(), dir)
	if err != nil || len(boards) != 2 || len(findings) != 0 || boards[0].SoCFamily != "" || boards[1].SoCFamily != "fixture_family" || boards[1].MachineArch != "fixture_b" || boards[1].Arch != "core2_64" || boards[1].Compatible != "x86_64" {
		t.Errorf("boards %+v, findings %+v, %v", boards, findings, err)
	}
	compiled := map[string]int{}
	if err := b.Build(t.Context(), dir, func(e distro.BuildEvent) {
		if e.Type == "start" && strings.HasSuffix(e.Task, ":do_install") {
			compiled[e.Task]++
		}
	}); err != nil {
		t.Fatal(err)
	}
	if compiled["hello-1.0-r0:do_install"] != 1 || compiled["fixture-board-1.0-r0:do_install"] != 2 {
		t.Errorf("built for two boards: %v", compiled)
	}
	files := map[string]string{}
	packages := map[string]bool{}
	for o, err := range b.Collect(t.Context(), dir) {
		if err != nil {
			t.Fatal(err)
		}
		if o.Class == distro.Images {
			files[o.Name] = o.Path
		}
		packages[o.Name] = o.Class == distro.Packages
	}
	for _, p := range []string{"core2_64/hello-1.0-r0.0.core2_64.rpm", "fixture_a/fixture-board-1.0-r0.0.fixture_a.rpm", "fixture_family/fixture-board-1.0-r0.0.fixture_family.rpm", "fixture_b/packagegroup-fixture-1.0-r0.0.fixture_b.rpm"} {
		if !packages[p] {
			t.Errorf("there is no %s", p)
		}
	}
	const name = "fixture-a/fixture-image-fixture-a.rootfs-1.1"
	manifest, err := os.ReadFile(files[name+".manifest"])
	if err != nil {
		t.Fatalf("%v; images: %v", err, files)
	}
	for _, line := range []string{"hello core2_64 1.0\n", "libgreet1 core2_64 1.0\n", "fixture-board fixture_a 1.0\n", "fixture-config noarch 1.0\n"} {
		if !strings.Contains(string(manifest), line) {
			t.Errorf("%q is not in the manifest:\n%s", line, manifest)
		}
	}
	out, err := exec.Command("tar", "-tzf", files[name+".tar.gz"]).CombinedOutput()
	if list := strings.Fields(string(out)); err != nil || !slices.Contains(list, "./usr/bin/hello") || !slices.Contains(list, "./etc/fixture-board") {
		t.Errorf("the image holds %v\n%s", err, out)
	}
	for file := range files {
		if !strings.HasPrefix(file, name+".") {
			t.Errorf("%s lacks the version", file)
		}
	}
}
