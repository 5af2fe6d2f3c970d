package device

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/dnf/dnftest"
	"slipway/internal/errs"
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
	if out := b.must("update", "--security"); !strings.Contains(out, "nothing to do") { // no advisory names anything
		t.Errorf("security: %s", out)
	}
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
	if out := b.must("pin", "2026-11-01"); !strings.Contains(out, "serial 2") { // the end of that day
		t.Errorf("pin to a day: %s", out)
	}
	if code, out := b.device("pin", "1.9"); code != 5 || !strings.Contains(out, "1.1 (2026-11-01)") {
		t.Errorf("pin 1.9: %d %s", code, out)
	}
	if out := b.must("resume"); !strings.Contains(out, "no update was interrupted") {
		t.Errorf("resume: %s", out)
	}
}

// A release whose scriptlet fails leaves half of itself, and trying again does not
// help; the next release does.
func TestAReleaseThatCannotBeInstalledIsLeftBehind(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.file("root", "cut", "fail knotctl-1.1-pre\n")
	if code, out := b.device("update"); code != 1 || !strings.Contains(out, "slipway-device resume") {
		t.Fatalf("update: %d %s", code, out)
	}
	if code, out := b.device("resume"); code != 1 {
		t.Fatalf("resume: %d %s", code, out)
	}
	if code, out := b.device("update", "--dry-run"); code != 6 {
		t.Errorf("dry run: %d %s", code, out)
	}
	b.sh("rm", "-rf", b.pub)
	b.sh("cp", "-a", b.w.dir, b.pub)
	if out := b.must("update"); !strings.Contains(out, "going on to 3") {
		t.Errorf("update: %s", out)
	}
	b.consistent(3)
}

// A full file system is found before anything is downloaded, or installed.
func TestNoSpace(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	for _, x := range []struct{ full, want string }{{"cache", "not enough space at /var/cache/slipway-device"}, {"usr/share", "not enough space at /usr/share"}} {
		d := b.open()
		d.free = func(dir string) (int64, uint64, error) {
			if strings.HasPrefix(dir, filepath.Join(b.root, "usr/share")) {
				return map[bool]int64{true: reserve, false: 1 << 40}[x.full == "usr/share"], 2, nil
			}
			return map[bool]int64{true: reserve, false: 1 << 40}[x.full == "cache"], 1, nil
		}
		_, err := d.Update(t.Context(), UpdateOptions{})
		if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v", x.full, err)
		}
		if exists(d.path(journalFile)) {
			t.Errorf("%s: a journal is left", x.full)
		}
	}
	if got := b.packages(); got != content[1] {
		t.Errorf("changed: %s", got)
	}
}

// Ctrl-C while it downloads leaves nothing.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := b.open().Update(ctx, UpdateOptions{}); !errs.Is(err, errs.Interrupted) && !errs.Is(err, errs.Unavailable) {
		t.Error(err)
	}
	if exists(filepath.Join(b.root, journalFile)) {
		t.Error("a journal is left")
	}
}

func TestOnlyOneAtATime(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	release, err := b.open().lock()
	if err != nil {
		t.Fatal(err)
	}
	if code, out := b.device("update"); code != 6 || !strings.Contains(out, "another slipway-device is at work") {
		t.Errorf("update: %d %s", code, out)
	}
	b.must("check") // reading never waits
	release()
	b.must("pin", "1.1")
}

// What dnf's own test of a transaction finds leaves the device as it was: nothing
// is there to resume.
func TestATransactionThatCannotBegin(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	// The same bytes as in libknot-1.0, but not as in 1.1.
	clash := dnftest.Build(t, "Name: clash\nVersion: 1\nRelease: 1\nBuildArch: noarch\n%install\nmkdir -p %{buildroot}/usr/share/libknot\necho 1.0 0 > %{buildroot}/usr/share/libknot/0\n%files\n/usr/share/libknot/0\n")
	d := b.open()
	if out, err := d.rpm(t.Context(), "-i", "--nosignature", clash[0]); err != nil {
		t.Fatal(out, err)
	}
	before := b.packages()
	if code, out := b.device("update"); code != 1 || !strings.Contains(out, "conflicts with file from package clash") {
		t.Errorf("%d %s", code, out)
	}
	if got := b.packages(); got != before || exists(d.path(journalFile)) {
		t.Errorf("%s, was %s; or a journal is left", got, before)
	}
}
