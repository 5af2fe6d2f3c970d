package distro

import (
	"os"
	"strings"
	"testing"

	"slipway/internal/errs"
)

// Each package architecture of OE-Core's tunes has the family that BitBake gives it.
func TestArchFamilyOfEveryTune(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/tunes.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		arch, want, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || arch == "#" {
			continue
		}
		n++
		if got, _ := ArchFamily(arch); got != want {
			t.Errorf("%s is %q, want %q", arch, got, want)
		}
	}
	if n < 400 {
		t.Errorf("%d tunes only", n)
	}
	for _, no := range []string{"noarch", "", "imx8", "qemux86_64", "raspberrypi4_64", "intel_corei7_64", "armchair!", "x86_64_v9"} {
		if got, ok := ArchFamily(no); ok {
			t.Errorf("%s is of %s", no, got)
		}
	}
}

var boards = []Board{
	{Name: "qemux86-64", Arch: "core2-64", Compatible: "x86_64"},
	{Name: "imx8mm-evk", Arch: "cortexa53", Compatible: "aarch64 armv8a armv8a-crc", SoCFamily: "imx8"},
	{Name: "odd", Arch: "vendorcore"},
}

func TestScopeOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		arch, name, family string
		kind               ScopeKind
	}{
		{"all", "noarch", "", ScopeNoarch},
		{"noarch", "noarch", "", ScopeNoarch},
		{"core2-64", "core2_64", "x86_64", ScopeArch},
		{"core2_64", "core2_64", "x86_64", ScopeArch},
		{"armv7vet2hf-neon", "armv7vet2hf_neon", "arm", ScopeArch},
		{"qemux86-64", "qemux86_64", "", ScopeMachine},
		{"imx8", "imx8", "", ScopeSoC},
		{"imx8mm_evk", "imx8mm_evk", "", ScopeMachine},
		{"vendorcore", "vendorcore", "", ScopeArch}, // the board table knows it
	} {
		s, err := ScopeOf(tt.arch, boards)
		if err != nil || s.Name != tt.name || s.Kind != tt.kind || s.Family != tt.family {
			t.Errorf("%s: %+v %v", tt.arch, s, err)
		}
	}
	if _, err := ScopeOf("nobody", boards); !errs.Is(err, errs.NotFound) {
		t.Errorf("nobody: %v", err)
	}
	if _, err := ScopeOf("x86-64", []Board{{Name: "x86-64", Arch: "x86_64"}}); !errs.Is(err, errs.Invalid) {
		t.Errorf("a machine that is named as an architecture: %v", err)
	}
}

func TestBoardScopes(t *testing.T) {
	t.Parallel()
	if got := strings.Join(boards[1].Scopes(), " "); got != "noarch aarch64 armv8a armv8a_crc cortexa53 imx8 imx8mm_evk" {
		t.Error(got)
	}
	if got := boards[0].RPMPlatform(); got != "qemux86_64-pkg-linux\ncore2_64-.*-linux.*\nx86_64-.*-linux.*\nnoarch-.*-linux.*\n" {
		t.Error(got)
	}
}

func TestParts(t *testing.T) {
	t.Parallel()
	for _, tt := range [][3]string{
		{"libknot", "core2-64", "core2_64"}, {"libknot-dbg", "core2-64", "core2_64-dbg"}, {"libknot-debuginfo", "x86_64", "x86_64-dbg"},
		{"libknot-src", "all", "noarch-src"}, {"libknot-dev", "x86_64", "x86_64"}, {"-dbg", "all", "noarch-dbg"}, {"xdbg", "all", "noarch"},
	} {
		if got := SplitScope(tt[1], tt[0], []string{"dbg", "src"}); got != tt[2] {
			t.Errorf("%s: %s", tt[0], got)
		}
	}
	for scope, want := range map[string][2]string{"core2_64": {"core2_64", ""}, "core2_64-dbg": {"core2_64", "dbg"}, "a-other": {"a-other", ""}} {
		if arch, part := ScopePart(scope); arch != want[0] || part != want[1] {
			t.Errorf("%s: %s %s", scope, arch, part)
		}
	}
}
