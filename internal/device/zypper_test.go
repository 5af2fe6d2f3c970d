package device

import (
	"os"
	"strings"
	"testing"
)

func TestUpdateWithZypper(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.file("root", "etc/slipway-device.conf", "frontend = zypper\n")
	if out := b.must("update", "--dry-run"); !strings.Contains(out, "libknot") || strings.Contains(out, "anchor") {
		t.Errorf("dry run: %s", out)
	}
	b.consistent(1)
	if out := b.must("update", "--security"); !strings.Contains(out, "nothing to do") {
		t.Errorf("security: %s", out)
	}
	b.must("update")
	b.consistent(2)
	if out := b.must("update"); !strings.Contains(out, "nothing to do") {
		t.Errorf("again: %s", out)
	}
	b.must("pin", "1.1")
	b.must("update")
	b.consistent(1)
}

// zypper runs one rpm a package: a cut leaves packages whose dependencies are not met.
func TestPowerCutWithZypper(t *testing.T) {
	t.Parallel()
	sample := []string{"libknot-1.1-post"}
	if os.Getenv("SLIPWAY_TEST") == "full" {
		sample = cuts
	}
	for _, at := range sample {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			b.file("root", "etc/slipway-device.conf", "frontend = zypper\n")
			b.file("root", "cut", at+"\n")
			if code, out := b.device("update"); code != -1 {
				t.Fatalf("not killed: %d\n%s", code, out)
			}
			b.server.Close()
			b.must("resume")
			b.consistent(2)
		})
	}
}
