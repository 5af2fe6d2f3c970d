package heap

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestPatientUntilTheFirstCollection(t *testing.T) {
	t.Setenv("GOGC", "")
	usual := debug.SetGCPercent(120)
	defer debug.SetGCPercent(usual)
	Patient()
	if got := debug.SetGCPercent(patience); got != patience {
		t.Fatalf("before the first collection: GC percent %d", got)
	}
	runtime.GC()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		got := debug.SetGCPercent(120)
		if got == 120 {
			return
		}
		debug.SetGCPercent(got)
		if time.Now().After(deadline) {
			t.Fatalf("after a collection: GC percent %d", got)
		}
	}
}

func TestGOGCIsObeyed(t *testing.T) {
	t.Setenv("GOGC", "50")
	usual := debug.SetGCPercent(50)
	defer debug.SetGCPercent(usual)
	Patient()
	if got := debug.SetGCPercent(50); got != 50 {
		t.Errorf("GC percent %d", got)
	}
}

func TestRoomy(t *testing.T) {
	t.Setenv("GOGC", "")
	usual := debug.SetGCPercent(120)
	defer debug.SetGCPercent(usual)
	back := Roomy()
	if got := debug.SetGCPercent(roomy); got != roomy {
		t.Errorf("GC percent %d", got)
	}
	back()
	if got := debug.SetGCPercent(120); got != 120 {
		t.Errorf("GC percent %d afterwards", got)
	}
}
