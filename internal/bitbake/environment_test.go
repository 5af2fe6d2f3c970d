package bitbake

import (
	"os"
	"strings"
	"testing"

	"slipway/internal/errs"
)

func TestParseEnvironment(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/environment-wrynose.txt") // of BitBake 2.18, cut to some variables
	if err != nil {
		t.Fatal(err)
	}
	e, err := ParseEnvironment(data)
	if err != nil {
		t.Fatal(err)
	}
	if e.Vars["BB_HASHSERVE"] != "unix:///build/hashserve.sock" || !e.Has("INHERIT", "archiver") || e.Has("INHERIT", "arch") {
		t.Errorf("vars %v", e.Vars)
	}
	// The weak defaults of the class come later in the history and do not win.
	for flag, want := range map[string]string{"src": "original", "recipe": "1", "srpm": "1", "diff": "0", "dumpdata": "0", "compression": "xz"} {
		if got := e.Flags["ARCHIVER_MODE"][flag]; got != want {
			t.Errorf("ARCHIVER_MODE[%s] is %q, want %q", flag, got, want)
		}
	}
	b, err := e.DescribeBoard("")
	if err != nil || b.Name != "fixture-a" || b.Arch != "core2_64" || b.MachineArch != "fixture_a" || b.Compatible != "x86_64" || b.SoCFamily != "" {
		t.Errorf("board %+v, %v", b, err)
	}
}

func TestDescribeBoard(t *testing.T) {
	t.Parallel()
	vars := func(archs string) *Environment {
		return &Environment{Board: "imx8mm-evk", Vars: map[string]string{"TUNE_PKGARCH": "armv8a", "MACHINE_ARCH": "imx8mm_evk", "PACKAGE_EXTRA_ARCHS": "aarch64 armv8a", "PACKAGE_ARCHS": archs}}
	}
	for _, tt := range []struct{ archs, want, soc, fails string }{
		{"all any noarch aarch64 armv8a imx8mm_evk", "", "", ""},
		{"all any noarch aarch64 armv8a armv8a-mx8mm imx8mm_evk", "", "armv8a_mx8mm", ""},
		{"all any noarch aarch64 armv8a armv8a-mx8m armv8a-mx8mm imx8mm_evk", "", "", "armv8a_mx8m, armv8a_mx8mm"},
		{"all any noarch aarch64 armv8a armv8a-mx8m armv8a-mx8mm imx8mm_evk", "armv8a-mx8mm", "armv8a_mx8mm", ""},
		{"all any noarch aarch64 armv8a imx8mm_evk", "rk3588", "", "soc_family rk3588"},
	} {
		b, err := vars(tt.archs).DescribeBoard(tt.want)
		if tt.fails != "" {
			if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("%s: %v", tt.archs, err)
			}
			continue
		}
		if err != nil || b.SoCFamily != tt.soc || b.Compatible != "aarch64" {
			t.Errorf("%s: %+v, %v", tt.archs, b, err)
		}
	}
	// A BSP layer appends its family to what OE-Core has for the tune.
	bsp := vars("all any noarch aarch64 armv8a armv8a-mx8mm imx8mm_evk")
	bsp.Vars["DEFAULTTUNE"], bsp.Vars["PACKAGE_EXTRA_ARCHS:tune-armv8a"] = "armv8a", "aarch64 armv8a"
	bsp.Vars["PACKAGE_EXTRA_ARCHS"] += " armv8a-mx8mm"
	if b, err := bsp.DescribeBoard(""); err != nil || b.SoCFamily != "armv8a_mx8mm" || b.Compatible != "aarch64" {
		t.Errorf("a family in PACKAGE_EXTRA_ARCHS: %+v, %v", b, err)
	}
	if _, err := (&Environment{}).DescribeBoard(""); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
}

func TestParseEnvironmentValues(t *testing.T) {
	t.Parallel()
	e, err := ParseEnvironment([]byte("export A=\"1 \\\n  2\"\nB=\"say \\\"x\\\"\"\nf() {\nC=\"not a variable\"\n}\nD:x=\"\"\n"))
	if err != nil || e.Vars["A"] != "1 \n  2" || e.Vars["B"] != `say "x"` || e.Vars["C"] != "" || len(e.Vars) != 3 {
		t.Errorf("%q, %v", e, err)
	}
	if _, err := ParseEnvironment([]byte("ERROR: no\n")); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
}

func FuzzParseEnvironment(f *testing.F) {
	data, _ := os.ReadFile("testdata/environment-wrynose.txt")
	f.Add(data)
	f.Add([]byte("A=\"\\"))
	f.Add([]byte("f() {\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := ParseEnvironment(data)
		if (err == nil) != (e != nil) {
			t.Fatal("one of the two")
		}
		if err == nil {
			_, _ = e.DescribeBoard("")
			Assert([]*Environment{e}, true)
		}
	})
}

// TestLostClass: what BitBake 2.0, 2.8 and 2.18 say on their console, and in the log of
// their server.
func TestLostClass(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]string{
		"bb.parse.ParseError: ParseError in configuration INHERITs: Could not inherit file classes/reproducible_build.bbclass\n":                                        "reproducible_build",
		`Sending reply (None, 'bb.BBHandledException() bb.parse.ParseError: ParseError in configuration INHERITs: Could not inherit file classes/no-such.bbclass\n\n')`: "no-such",
		"ParseError at /l/meta/classes/a.bbclass:3: Could not inherit file classes/b.bbclass":                                                                           "",
	} {
		got := ""
		if m := reLost.FindStringSubmatch(said); m != nil {
			got = m[1]
		}
		if got != want {
			t.Errorf("%q: %q", said, got)
		}
	}
}
