package bitbake

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway/internal/distro"
)

// TestRealYoctoKirkstone and TestRealYoctoScarthgap ask older releases what they have:
// the same conf gets the findings of each. Nothing is built.
func TestRealYoctoKirkstone(t *testing.T) {
	// No vex in kirkstone: nothing is asked for it.
	askSeries(t, "kirkstone", "distro open-debug-tweaks")
}

func TestRealYoctoScarthgap(t *testing.T) {
	askSeries(t, "scarthgap", "distro open-debug-tweaks")
}

func askSeries(t *testing.T, release, want string) {
	t.Helper()
	suffix := strings.ToUpper(release)
	bitbake, core := os.Getenv("SLIPWAY_TEST_BITBAKE_"+suffix), os.Getenv("SLIPWAY_TEST_OECORE_"+suffix)
	if bitbake == "" || core == "" {
		t.Skipf("SKIPPED: BitBake of %s: SLIPWAY_TEST_BITBAKE_%s and SLIPWAY_TEST_OECORE_%s name no checkouts", release, suffix, suffix)
	}
	dir := t.TempDir()
	opt := Options{Release: release, Targets: []string{"x"}, Offline: true, Conf: "SANITY_TESTED_DISTROS = \"\"\nEXTRA_IMAGE_FEATURES = \"debug-tweaks\"\n"}
	if os.Geteuid() == 0 {
		opt.User = buildUser
		if _, err := user.Lookup(buildUser); err != nil {
			if out, err := exec.Command("useradd", "--system", "--create-home", buildUser).CombinedOutput(); err != nil {
				t.Fatalf("useradd: %v\n%s", err, out)
			}
		}
		for _, d := range []string{dir, filepath.Dir(dir)} {
			if err := os.Chmod(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	rev := distro.Revision{Schema: 1, Layers: []distro.LayerPin{{Name: "bitbake"}, {Name: "openembedded-core", Path: "meta"}}}
	seed := distro.Seed{Version: "1.1", Build: "1.1-b1", Boards: []distro.Board{{Name: "qemux86-64"}}, Layers: map[string]string{"bitbake": bitbake, "openembedded-core": filepath.Join(core, "meta")}}
	b := New(opt)
	build := filepath.Join(dir, "build")
	if err := b.Prepare(t.Context(), rev, seed, build); err != nil {
		t.Fatal(err)
	}
	boards, findings, err := b.Describe(t.Context(), build)
	if err != nil {
		t.Fatal(err)
	}
	if len(boards) != 1 || boards[0].Arch != "core2_64" || boards[0].MachineArch != "qemux86_64" {
		t.Errorf("boards %+v", boards)
	}
	var got []string
	for _, f := range findings {
		got = append(got, f.ID)
	}
	if !slices.Equal(got, strings.Fields(want)) {
		t.Errorf("findings %v, want %s", got, want)
	}
}
