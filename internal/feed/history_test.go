package feed

import (
	"fmt"
	"strings"
	"testing"

	"slipway/internal/errs"
)

func TestHistoryOfAPackage(t *testing.T) {
	b := setup(t)
	b.release(1, [3]string{"a", "1.0", "one"}, [3]string{"b", "1.0", "two"})
	b.release(2, [3]string{"a", "1.1", "three"})
	b.release(3, [3]string{"c", "1.0", "four"})
	list, err := History(t.Context(), b.tree, "1", "a")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range list {
		if _, err := b.tree.Stat(t.Context(), x.File); err != nil {
			t.Error(err)
		}
		got = append(got, fmt.Sprintf("%s in %s, snapshot %d, %s, now in %s", x.EVR, x.Release, x.Serial, x.At.Format("15:04"), x.Where))
	}
	want := "1.0-1 in 1.1, snapshot 1, 01:00, now in history\n1.1-1 in 1.2, snapshot 2, 02:00, now in current"
	if strings.Join(got, "\n") != want {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	if _, err := History(t.Context(), b.tree, "1", "d"); !errs.Is(err, errs.NotFound) {
		t.Errorf("no such package: %v", err)
	}
	if _, err := History(t.Context(), b.tree, "2", "a"); !errs.Is(err, errs.NotFound) {
		t.Errorf("no such series: %v", err)
	}
}

func TestCompareSnapshots(t *testing.T) {
	b := setup(t)
	b.release(1, [3]string{"a", "1.0", "one"}, [3]string{"b", "1.0", "two"})
	b.release(2, [3]string{"a", "1.1", "three"}, [3]string{"c", "1.0", "four"})
	for _, tt := range []struct{ a, b, want string }{
		{"1.1", "current", "up a 1.0-1 1.1-1, added c  1.0-1, 1 same"},
		{"current", "2026-01-01T01:30:00Z", "down a 1.1-1 1.0-1, gone c 1.0-1 , 1 same"},
		{"snapshots/2", "2026-01-01", "3 same"},
	} {
		d, err := Compare(t.Context(), b.tree, "1", tt.a, tt.b)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		bytes := int64(0)
		for _, p := range d.Packages {
			got += fmt.Sprintf("%s %s %s %s, ", p.Change, p.Name, p.Old, p.New)
			bytes += p.Bytes
		}
		if got += fmt.Sprint(d.Same, " same"); got != tt.want || d.Bytes != bytes {
			t.Errorf("%s to %s: %s, want %s; %d bytes", tt.a, tt.b, got, tt.want, d.Bytes)
		}
	}
	for _, bad := range []string{"1.3", "2025-12-31", "snapshots/9"} {
		if _, err := Compare(t.Context(), b.tree, "1", bad, "current"); !errs.Is(err, errs.NotFound) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if _, err := Compare(t.Context(), b.tree, "1", "snapshots/x", "current"); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
}
