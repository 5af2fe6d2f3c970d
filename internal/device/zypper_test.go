package device

import (
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
	b.must("update")
	b.consistent(2)
	if out := b.must("update"); !strings.Contains(out, "nothing to do") {
		t.Errorf("again: %s", out)
	}
	b.must("pin", "1.1")
	b.must("update")
	b.consistent(1)
}
