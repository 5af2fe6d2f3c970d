package hashserv

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBitBakesOwnSuite runs BitBake's own tests of its server against ours. It
// needs a checkout, and Debian's python3-websockets. The short form takes one
// transport; SLIPWAY_TEST=full takes them all, and BitBake's client program.
func TestBitBakesOwnSuite(t *testing.T) {
	t.Parallel()
	bitbake := os.Getenv("SLIPWAY_TEST_BITBAKE")
	if bitbake == "" {
		t.Skip("SKIPPED: BitBake's own suite: SLIPWAY_TEST_BITBAKE names no checkout of BitBake")
	}
	if err := exec.Command("/usr/bin/python3", "-c", "import websockets").Run(); err != nil {
		t.Fatal("apt-get install python3-websockets: ", err)
	}
	program := filepath.Join(t.TempDir(), "slipway")
	if out, err := exec.Command("go", "build", "-o", program, "slipway/cmd/slipway").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	shim, err := filepath.Abs("testdata/hashserv_external.py")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-W", "ignore", shim, bitbake, program + " hashserv serve"}
	env := append(os.Environ(), "HS_EXTERNAL=", "HS_KEEPLOGS="+t.TempDir())
	if os.Getenv("SLIPWAY_TEST") == "full" {
		env[len(env)-2] = "HS_EXTERNAL=unix tcp ws"
	} else {
		args = append(args, "TestHashEquivalenceUnixServer")
	}
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", args...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	t.Log(lines[len(lines)-1])
	if err != nil || !strings.HasSuffix(lines[len(lines)-1], " passed, 0 failed") {
		t.Fatalf("%v\n%s", err, out)
	}
}
