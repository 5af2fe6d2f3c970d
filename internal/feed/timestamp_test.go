package feed

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/timestamp"
)

func (b *bed) pointer() timestamp.Timestamp {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.dir, "1/timestamp.json"))
	if err != nil {
		b.t.Fatal(err)
	}
	t, err := timestamp.Parse(data)
	if err != nil {
		b.t.Fatal(err)
	}
	return t
}

func (b *bed) sound(when string) {
	b.t.Helper()
	if r, err := b.verify(); err != nil || len(r.Findings) > 0 {
		b.t.Fatalf("%s: %+v, %v", when, r, err)
	}
}

func TestPointerFollowsPublishAndRefresh(t *testing.T) {
	b := setup(t)
	b.p.Support = Support{Ends: "2031-12-01"}
	b.release(1, [3]string{"a", "1.0", "one"})
	b.sound("published")
	first := b.pointer()
	snapshot, err := os.ReadFile(filepath.Join(b.dir, "1/snapshots/1/snapshot.json"))
	if err != nil {
		t.Fatal(err)
	}
	at := testStart.Add(time.Hour)
	if first.Serial != 1 || first.Release != "1.1" || first.Snapshot != distro.DigestOf(snapshot) || !first.Issued.Equal(at) || !first.Expires.Equal(at.Add(timestamp.Life)) || first.Ends != "2031-12-01" {
		t.Errorf("%+v", first)
	}

	later := testStart.Add(20 * 24 * time.Hour)
	if _, err := b.p.RefreshTimestamp(t.Context(), 1, later); err != nil {
		t.Fatal(err)
	}
	b.sound("refreshed")
	if p := b.pointer(); !p.Issued.Equal(later) || p.Serial != 1 {
		t.Errorf("refreshed: %+v", p)
	}
	// A publish that is repeated takes no refresh back, and writes nothing.
	before := sums(t, b.dir)
	b.p = b.publisher(b.tree)
	b.p.Support = Support{Ends: "2031-12-01"}
	b.release(1, [3]string{"a", "1.0", "one"})
	for name, sum := range sums(t, b.dir) {
		if before[name] != sum {
			t.Errorf("%s changed", name)
		}
	}
	b.release(2, [3]string{"a", "1.1", "two"})
	b.sound("the next release")
	if p := b.pointer(); p.Serial != 2 || p.Issued.Before(later) {
		t.Errorf("next: %+v", p)
	}
}

// Refresh signs for what the caller's records say, not for what lies in the tree.
func TestRefreshSignsNoOldPointer(t *testing.T) {
	b := setup(t)
	b.release(1, [3]string{"a", "1.0", "one"})
	name := filepath.Join(b.dir, "1/current.json")
	old, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b.release(2, [3]string{"a", "1.1", "two"})
	if err := os.WriteFile(name, old, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := b.p.RefreshTimestamp(t.Context(), 2, testStart.Add(time.Hour)); !errs.Is(err, errs.Conflict) {
		t.Errorf("current.json put back: %v", err)
	}
	if _, err := b.p.RefreshTimestamp(t.Context(), 1, testStart.Add(time.Hour)); err != nil {
		t.Errorf("serial 1 is what the tree says: %v", err)
	}
	if _, err := b.p.RefreshTimestamp(t.Context(), 7, testStart.Add(time.Hour)); !errs.Is(err, errs.NotFound) {
		t.Errorf("no such serial: %v", err)
	}
}

// An old pointer is signed, too: putting it back is a change.
func TestVerifyFindsAnOldPointerPutBack(t *testing.T) {
	b := setup(t)
	b.release(1, [3]string{"a", "1.0", "one"})
	old := map[string][]byte{}
	for _, name := range []string{"1/timestamp.json", "1/timestamp.json.asc"} {
		old[name], _ = os.ReadFile(filepath.Join(b.dir, name))
	}
	b.release(2, [3]string{"a", "1.1", "two"})
	for name, data := range old {
		if err := os.WriteFile(filepath.Join(b.dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := b.verify(); err != nil || !strings.Contains(strings.Join(r.Findings, "\n"), "an old pointer was put back") {
		t.Errorf("%+v, %v", r, err)
	}
}

// A date that somebody else wrote into the pointer does not move the next one.
func TestForeignPointerChoosesNoDate(t *testing.T) {
	b := setup(t)
	b.release(1, [3]string{"a", "1.0", "one"})
	p := b.pointer()
	p.Issued, p.Expires = p.Issued.AddDate(50, 0, 0), p.Expires.AddDate(50, 0, 0)
	data, _ := json.Marshal(p)
	if err := os.WriteFile(filepath.Join(b.dir, "1/timestamp.json"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	b.release(2, [3]string{"a", "1.1", "two"})
	if p := b.pointer(); p.Issued.Year() != testStart.Year() {
		t.Errorf("%+v", p)
	}
}
