package hashdb

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// clock gives times that only rise, the same for each run.
func clock() func() time.Time {
	t := time.Unix(1_700_000_000, 0)
	return func() time.Time { t = t.Add(time.Second); return t }
}

// TestAnswersDoNotDependOnTheMerge gives the same random calls to databases that
// move their reports into the tables after each, now and then, or never; one of
// them is used through two handles in turn, as by two processes. All answers and
// the whole contents are the same.
func TestAnswersDoNotDependOnTheMerge(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			mergeDiffers(t, rand.New(rand.NewPCG(seed, 1)), 400)
		})
	}
}

func mergeDiffers(t *testing.T, rnd *rand.Rand, calls int) {
	type db struct {
		handles []*DB
		merge   int // once in so many calls; 0: never
	}
	var dbs []*db
	for i, merge := range []int{1, 0, 7, 3} {
		path, now := filepath.Join(t.TempDir(), "h.db"), clock()
		o := Options{Now: now}
		if i == 2 {
			o.IndexBytes = -1
		}
		x := &db{[]*DB{open(t, path, o)}, merge}
		if i >= 2 {
			x.handles = append(x.handles, open(t, path, Options{Now: now, IndexBytes: o.IndexBytes}))
		}
		dbs = append(dbs, x)
	}
	key := func(n int) string {
		if k := rnd.IntN(n); k > 0 {
			return h(k)
		}
		return "odd"
	}
	mark := 0
	for n := range calls {
		task, out, offer, kind := key(40), key(25), key(60), rnd.IntN(40)
		extra := Extra{}
		if rnd.IntN(3) == 0 {
			extra = Extra{PN: "zlib", Siginfo: fmt.Sprint(n)}
		}
		if kind == 0 {
			mark++
		}
		var want any
		for i, x := range dbs {
			d := x.handles[n%len(x.handles)]
			var got any
			var err error
			ctx := t.Context()
			row := func(r *Row, err error) (any, error) {
				if r == nil {
					return "none", err
				}
				return *r, err
			}
			name := ""
			switch {
			case kind == 0:
				name = "mark"
				got, err = d.Mark(ctx, fmt.Sprint(mark), Where{"taskhash": task}, Where{"method": "m", "unihash": offer})
			case kind == 1:
				name = "sweep"
				var count int64
				count, err = d.Sweep(ctx, fmt.Sprint(mark))
				if got = count; err == ErrNotCurrent {
					got, err = "refused", nil
				}
			case kind == 2:
				name = "remove"
				got, err = d.Remove(ctx, Where{"outhash": out})
			case kind == 3:
				name = "remove task"
				got, err = d.Remove(ctx, Where{"taskhash": task})
			case kind == 4:
				name = "clean"
				got, err = d.CleanUnused(ctx, 20*time.Second)
			case kind == 5:
				name = "status"
				got, err = d.Status(ctx)
			case kind == 6:
				name = "usage"
				got, err = d.Usage(ctx)
			case kind < 9:
				name = "assign"
				got, err = d.Assign(ctx, "m", task, offer)
			case kind < 11:
				name = "insert"
				err = d.Insert(ctx, Row{Method: "m", Taskhash: task, Outhash: out, Created: time.Unix(1_600_000_000+int64(n), 0), Extra: extra, Unihash: offer})
			case kind < 14:
				name = "by task"
				got, err = row(d.ByTask(ctx, "m", task))
			case kind < 17:
				name = "by output"
				got, err = row(d.ByOutput(ctx, "m", out, kind == 15))
			case kind < 19:
				name = "settled"
				got, err = d.Settled(ctx, "m", task, out)
			case kind < 22:
				name = "get"
				got, err = d.Unihash(ctx, "m", task)
			case kind < 25:
				name = "exists"
				got, err = d.Exists(ctx, []byte(offer))
				if err == nil {
					err = d.Ready(ctx)
				}
				if err == nil {
					got, err = d.Exists(ctx, []byte(offer))
				}
			default:
				name = "report"
				got, err = d.Report(ctx, "m", task, out, offer, extra)
			}
			if err != nil {
				t.Fatalf("call %d, %s, database %d: %v", n, name, i, err)
			}
			if i == 0 {
				want = got
			} else if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("call %d, %s of %s and %s, database %d: %s", n, name, task, out, i, diff)
			}
			if x.merge > 0 && n%x.merge == 0 {
				if err := d.merge(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for i, x := range dbs {
		all := contents(t, x.handles[0])
		if i > 0 {
			if diff := cmp.Diff(contents(t, dbs[0].handles[0]), all); diff != "" {
				t.Errorf("database %d holds something else: %s", i, diff)
			}
		}
		// Again from the file.
		again := open(t, x.handles[0].f.Path(), Options{})
		if diff := cmp.Diff(all, contents(t, again)); diff != "" {
			t.Errorf("database %d opened again: %s", i, diff)
		}
	}
}

func contents(t *testing.T, d *DB) []string {
	t.Helper()
	rows, err := d.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, r := range rows {
		list = append(list, fmt.Sprint(r.Taskhash, r.Outhash, r.Created.Unix(), r.Extra, r.Unihash, r.Mark))
	}
	slices.Sort(list)
	return list
}

// TestWhatWaitsIsSeen: a server that only reads, an export and an import see
// reports that nobody has moved yet.
func TestWhatWaitsIsSeen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "h.db")
	d := open(t, path, Options{})
	for i := range 10 {
		if _, err := d.Report(t.Context(), "m", h(i), h(100+i/2), h(i), Extra{PN: "zlib"}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(d.recent.Load().rows); n != 10 {
		t.Fatalf("%d wait", n)
	}
	reader := open(t, path, Options{ReadOnly: true})
	for _, o := range []*DB{reader, open(t, path, Options{ReadOnly: true, IndexBytes: -1})} {
		if u := get(t, o, h(3)); u != h(2) {
			t.Errorf("get: %q", u)
		}
		if ok, err := o.Exists(t.Context(), []byte(h(2))); err != nil || !ok {
			t.Error("exists:", ok, err)
		}
		r, err := o.ByOutput(t.Context(), "m", h(101), true)
		if err != nil || r == nil || r.Taskhash != h(2) || r.Unihash != h(2) || r.PN != "zlib" {
			t.Error("by output:", r, err)
		}
		if r, err = o.ByTask(t.Context(), "m", h(3)); err != nil || r == nil || r.Outhash != h(101) || r.Unihash != h(2) {
			t.Error("by task:", r, err)
		}
		if n, err := o.Usage(t.Context()); err != nil || n["unihashes_v3"] != 10 || n["outhashes_v2"] != 10 {
			t.Error("usage:", n, err)
		}
	}
	bb := filepath.Join(t.TempDir(), "bitbake.db")
	if err := reader.Export(t.Context(), bb); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{path, bb} {
		to := fresh(t)
		if n, err := to.Import(t.Context(), from); err != nil || n.Unihashes != 10 || n.Outhashes != 10 {
			t.Error(from, n, err)
		}
		if r, err := to.ByTask(t.Context(), "m", h(3)); err != nil || r == nil || r.Unihash != h(2) || r.PN != "zlib" {
			t.Error(from, r, err)
		}
	}
	// A reader goes on when the writer moves them.
	if err := d.merge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := reader.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(reader.recent.Load().rows); n != 0 {
		t.Errorf("%d wait at the reader", n)
	}
	if r, err := reader.ByTask(t.Context(), "m", h(3)); err != nil || r == nil || r.Unihash != h(2) {
		t.Error(r, err)
	}
}

// TestHalfAMergeIsDoneAgain leaves a merge in each of its transactions.
func TestHalfAMergeIsDoneAgain(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "h.db")
	d := open(t, path, Options{})
	for i := range 700 {
		if _, err := d.Report(t.Context(), "m", h(i), h(1000+i/3), h(i), Extra{PN: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	want := contents(t, d)
	steps := 0
	for stop := 1; ; stop++ {
		ctx, cancel := context.WithCancel(t.Context())
		d.mergeStep = func(n int) {
			if steps = n; n == stop {
				cancel()
			}
		}
		err := d.merge(ctx)
		cancel()
		if diff := cmp.Diff(want, contents(t, d)); diff != "" {
			t.Fatalf("after %d transactions: %s", steps, diff)
		}
		again := open(t, path, Options{})
		if diff := cmp.Diff(want, contents(t, again)); diff != "" {
			t.Fatalf("after %d transactions, opened again: %s", steps, diff)
		}
		again.Close()
		if err == nil {
			break
		}
	}
	if steps < 6 {
		t.Errorf("only %d transactions", steps)
	}
	if n := len(d.recent.Load().rows); n != 0 {
		t.Errorf("%d wait", n)
	}
	if u := report(t, d, h(5000), h(1001), h(5000)); u != h(3) {
		t.Errorf("an old output: %s", u)
	}
}
