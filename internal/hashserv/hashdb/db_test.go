package hashdb

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

func h(n int) string { return fmt.Sprintf("%064x", n) }

func open(t *testing.T, path string, o Options) *DB {
	t.Helper()
	d, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func fresh(t *testing.T) *DB { return open(t, filepath.Join(t.TempDir(), "h.db"), Options{}) }

func report(t *testing.T, d *DB, task, out, offer string) string {
	t.Helper()
	u, err := d.Report(t.Context(), "m", task, out, offer, Extra{})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func get(t *testing.T, d *DB, task string) string {
	t.Helper()
	u, err := d.Unihash(t.Context(), "m", task)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// everyway runs a test with the index, without it, and with one that is too small.
func everyway(t *testing.T, fn func(t *testing.T, o Options)) {
	for name, o := range map[string]Options{"index": {}, "none": {IndexBytes: -1}, "small": {IndexBytes: 1}} {
		t.Run(name, func(t *testing.T) { t.Parallel(); fn(t, o) })
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	everyway(t, func(t *testing.T, o Options) {
		d := open(t, filepath.Join(t.TempDir(), "h.db"), o)
		for i, tt := range []struct{ task, out, offer, want string }{
			{h(1), h(101), h(1), h(1)},                         // the first of its output
			{h(2), h(101), h(2), h(1)},                         // the same output
			{h(2), h(102), h(3), h(1)},                         // has one already
			{h(3), h(102), h(3), h(1)},                         // equal to task 2, which has h(1)
			{"odd", h(103), "alsoodd", "alsoodd"},              // any text
			{"odd2", h(103), h(9), "alsoodd"},                  //
			{h(4), "oddout", h(77), h(77)},                     // unihash is not the task
			{strings.ToUpper(h(0xa)), h(104), h(0xa), h(0xa)},  // case matters
			{h(0xa), h(105), h(0xb), h(0xb)},                   //
			{strings.Repeat("ab", 20), h(106), h(200), h(200)}, // 40 digits
		} {
			if got := report(t, d, tt.task, tt.out, tt.offer); got != tt.want {
				t.Errorf("%d: %s, want %s", i, got, tt.want)
			}
			if got := get(t, d, tt.task); got != tt.want {
				t.Errorf("%d: get %s, want %s", i, got, tt.want)
			}
		}
		for u, want := range map[string]bool{h(1): true, h(2): false, h(3): false, h(77): true, h(4): false, "alsoodd": true, "odd": false, h(200): true, h(0xb): true} {
			if got, err := d.Exists(t.Context(), []byte(u)); err != nil || got != want {
				t.Errorf("exists %s: %v, %v", u, got, err)
			}
		}
		if got := get(t, d, h(5)); got != "" {
			t.Error(got)
		}
		if u, _ := d.Unihash(t.Context(), "other", h(1)); u != "" {
			t.Error("another method:", u)
		}
		row, err := d.ByOutput(t.Context(), "m", h(101), true)
		if err != nil || row == nil || row.Taskhash != h(1) || row.Unihash != h(1) {
			t.Fatal(row, err)
		}
		row, err = d.ByTask(t.Context(), "m", h(2))
		if err != nil || row.Outhash != h(101) || row.Unihash != h(1) {
			t.Fatal(row, err)
		}
	})
}

func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	everyway(t, func(t *testing.T, o Options) {
		path := filepath.Join(t.TempDir(), "h.db")
		a, b := open(t, path, o), open(t, path, o)
		for i := range 200 {
			w, r := a, b
			if i%3 == 0 {
				w, r = b, a
			}
			report(t, w, h(i), h(1000+i), h(i))
			if get(t, r, h(i)) != h(i) {
				t.Fatalf("%d: not seen", i)
			}
			if i%10 == 0 {
				if _, err := w.Remove(t.Context(), Where{"taskhash": h(i)}); err != nil {
					t.Fatal(err)
				}
				if get(t, r, h(i)) != "" {
					t.Fatalf("%d: still seen", i)
				}
			}
		}
	})
}

func TestCollection(t *testing.T) {
	t.Parallel()
	everyway(t, func(t *testing.T, o Options) {
		path := filepath.Join(t.TempDir(), "h.db")
		d := open(t, path, o)
		for i := range 1200 {
			report(t, d, h(i), h(5000+i), h(i%600))
		}
		counts, err := d.Mark(t.Context(), "M", Where{"unihash": h(1)}, Where{"taskhash": h(5)}, Where{}, Where{"nonsense": "x"})
		if err != nil || fmt.Sprint(counts) != "[2 1 0 0]" {
			t.Fatal(counts, err)
		}
		report(t, d, h(9000), h(9000), h(9000))
		s, err := d.Status(t.Context())
		if err != nil || s != (Status{4, 1197, "M"}) {
			t.Fatal(s, err)
		}
		if _, err := d.Sweep(t.Context(), "N"); err != ErrNotCurrent {
			t.Fatal(err)
		}
		for range 2 { // the second time it is remembered
			n, err := d.Sweep(t.Context(), "M")
			if err != nil || n != 1197 {
				t.Fatal(n, err)
			}
		}
		for i, want := range map[int]bool{1: true, 601: true, 5: true, 9000: true, 2: false, 1199: false} {
			if got := get(t, d, h(i)) != ""; got != want {
				t.Errorf("%d: %v", i, got)
			}
		}
		if n, err := d.CleanUnused(t.Context(), 0); err != nil || n != 1197 {
			t.Fatal(n, err)
		}
		// A mark of the same name keeps nothing that it kept before.
		if _, err := d.Mark(t.Context(), "M", Where{"taskhash": h(5)}); err != nil {
			t.Fatal(err)
		}
		if s, err := d.Status(t.Context()); err != nil || s != (Status{1, 3, "M"}) {
			t.Fatal(s, err)
		}
		if counts, err := d.Mark(t.Context(), "M", Where{"method": "m"}); err != nil || counts[0] != 4 {
			t.Fatal(counts, err)
		}
		// A healed report: the output was kept, the unihash was swept.
		if got := report(t, d, h(5), h(5005), h(5)); got != h(5) {
			t.Fatal(got)
		}
		again := open(t, path, o)
		again.WaitIndex()
		if get(t, again, h(5)) != h(5) || get(t, again, h(2)) != "" {
			t.Error("a new index differs")
		}
	})
}
