package prserv

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBitBakesOwnSuite runs BitBake's own tests of its server against ours, in
// the foreground and as a daemon. It needs a checkout.
func TestBitBakesOwnSuite(t *testing.T) {
	bitbake := os.Getenv("SLIPWAY_TEST_BITBAKE")
	if bitbake == "" {
		t.Skip("SKIPPED: BitBake's own suite: SLIPWAY_TEST_BITBAKE names no checkout of BitBake")
	}
	program := filepath.Join(t.TempDir(), "slipway")
	if out, err := exec.Command("go", "build", "-o", program, "slipway/cmd/slipway").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	shim, err := filepath.Abs("testdata/prserv_external.py")
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"foreground", "daemon"} {
		cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "-W", "ignore", shim, bitbake, program+" prserv serve")
		cmd.Env = append(os.Environ(), "PR_MODE="+mode)
		out, err := cmd.CombinedOutput()
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		t.Log(mode, lines[len(lines)-1])
		if err != nil || !strings.HasSuffix(lines[len(lines)-1], " passed, 0 failed") {
			t.Fatalf("%s: %v\n%s", mode, err, out)
		}
	}
}
