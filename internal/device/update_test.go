package device

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestUpdatePinAndBack(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.consistent(1)
	var s Status
	if err := json.Unmarshal([]byte(b.must("status", "--json")), &s); err != nil {
		t.Fatal(err)
	}
	if s.Release != "1.1" || s.Newest.Release != "1.2" || s.Newest.Serial != 2 || !s.UpdateWaits || s.SupportEnds != "2031-12-01" || !s.Supported || s.Problem != "" {
		t.Errorf("status: %+v", s)
	}
	out := b.must("update", "--dry-run")
	if !strings.Contains(out, "to serial 2, release 1.2") || !strings.Contains(out, "libknot") || strings.Contains(out, "anchor") {
		t.Errorf("dry run: %s", out)
	}
	b.consistent(1)
	if out := b.must("update"); !strings.Contains(out, "done: serial 2, release 1.2") {
		t.Errorf("update: %s", out)
	}
	b.consistent(2)
	if out := b.must("update"); !strings.Contains(out, "nothing to do") {
		t.Errorf("again: %s", out)
	}
	if out := b.must("pin", "1.1"); !strings.Contains(out, "pinned to serial 1, release 1.1") {
		t.Errorf("pin: %s", out)
	}
	if out := b.must("status"); !strings.Contains(out, "pinned     to serial 1") || !strings.Contains(out, "nothing waits") && !strings.Contains(out, "slipway-device update") {
		t.Errorf("status: %s", out)
	}
	b.must("update")
	b.consistent(1)
	b.must("unpin")
	b.must("pin", "2026-11-01") // at the end of that day 1.2 was current
	b.must("update")
	b.consistent(2)
	if code, out := b.device("pin", "1.9"); code != 5 || !strings.Contains(out, "1.1 (2026-11-01)") {
		t.Errorf("pin 1.9: %d %s", code, out)
	}
	if out := b.must("resume"); !strings.Contains(out, "no update was interrupted") {
		t.Errorf("resume: %s", out)
	}
}
