package hashpg

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/crashtest"
	"slipway/internal/errs"
	"slipway/internal/hashserv/hashdb"
	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) {
	crashtest.Main(map[string]func(string) error{"report": reporter})
	postgrestest.Main(m)
}

func h(n int) string { return fmt.Sprintf("%064x", n) }

func open(t *testing.T, url string, o Options) *DB {
	t.Helper()
	d, err := Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func report(t *testing.T, d *DB, task, out, offer int) string {
	t.Helper()
	u, err := d.Report(t.Context(), "m", h(task), h(out), h(offer), hashdb.Extra{})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// stream looks a task up as a burst of a client does.
func stream(t *testing.T, d *DB, method, task string) string {
	t.Helper()
	if err := d.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, ok, err := d.AppendUnihash(t.Context(), nil, []byte(method), []byte(task))
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		a, err := d.Unihashes(t.Context(), [][]byte{[]byte(method + " " + task)})
		if err != nil {
			t.Fatal(err)
		}
		return string(a[0])
	}
	return string(b)
}

func TestHashesAreStoredAsTheyAre(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, s := range []string{"", "a", h(1), strings.ToUpper(h(10)), strings.Repeat("x", 31), strings.Repeat("x", 32), strings.Repeat("x", 33), strings.Repeat("\x01", 32), strings.Repeat("a", 64), "\x01" + strings.Repeat("x", 31), strings.Repeat("a", 40), "ä"} {
		b := stored(s)
		if got := text(b); got != s {
			t.Errorf("%q is %q", s, got)
		}
		if other, ok := seen[string(b)]; ok {
			t.Errorf("%q and %q are stored alike", s, other)
		}
		seen[string(b)] = s
	}
}

// What one process has answered, every other sees: reports, removals, sweeps.
func TestProcessesSeeEachOther(t *testing.T) {
	t.Parallel()
	url := postgrestest.Schema(t)
	a, b := open(t, url, Options{}), open(t, url, Options{})
	a.WaitIndex(t.Context())
	b.WaitIndex(t.Context())
	for i := range 20 {
		if u := report(t, a, i, 1000+i, i); u != h(i) {
			t.Fatal(u)
		}
		if u := stream(t, b, "m", h(i)); u != h(i) {
			t.Fatalf("%d: the other process says %q", i, u)
		}
	}
	if u := report(t, b, 100, 1003, 100); u != h(3) {
		t.Error("the same output by the other process:", u)
	}
	if n, err := b.Remove(t.Context(), hashdb.Where{"taskhash": h(5)}); err != nil || n != 2 {
		t.Error(n, err)
	}
	if u := stream(t, a, "m", h(5)); u != "" {
		t.Error("removed by the other process:", u)
	}
	if _, err := a.Mark(t.Context(), "keep", hashdb.Where{"taskhash": h(7)}); err != nil {
		t.Fatal(err)
	}
	if u := report(t, b, 200, 1200, 200); u != h(200) {
		t.Error(u)
	}
	if n, err := b.Sweep(t.Context(), "keep"); err != nil || n != 19 {
		t.Error(n, err)
	}
	if n, err := a.Sweep(t.Context(), "keep"); err != nil || n != 19 {
		t.Error("a sweep repeated at the other process:", n, err)
	}
	for task, want := range map[int]string{7: h(7), 8: "", 200: h(200), 100: ""} {
		if u := stream(t, a, "m", h(task)); u != want {
			t.Errorf("%d after the sweep: %q", task, u)
		}
	}
	// Another method's name, made there.
	if _, err := b.Assign(t.Context(), "other", h(7), h(70)); err != nil {
		t.Fatal(err)
	}
	if u := stream(t, a, "other", h(7)); u != h(70) {
		t.Error("a new method:", u)
	}
}

// A journal that was trimmed past a process, a restart of the database, or one put
// back from a backup: the index begins anew.
func TestTheIndexBeginsAnew(t *testing.T) {
	t.Parallel()
	c := postgrestest.New(t)
	a, b := open(t, c.URL(), Options{}), open(t, c.URL(), Options{})
	report(t, a, 1, 1001, 1)
	if u := stream(t, b, "m", h(1)); u != h(1) {
		t.Fatal(u)
	}
	report(t, a, 2, 1002, 2)
	report(t, a, 3, 1003, 3)
	c.SQL(t, `DELETE FROM hash_journal WHERE seq <= 3`)
	for i := 1; i <= 3; i++ {
		if u := stream(t, b, "m", h(i)); u != h(i) {
			t.Errorf("%d behind the journal: %q", i, u)
		}
	}
	b.WaitIndex(t.Context())
	c.SQL(t, fmt.Sprintf(`DELETE FROM hash_unihash WHERE task = '\x%s'; UPDATE hash_state SET seq = 2`, h(2))) // as a backup from before would be
	if u := stream(t, b, "m", h(2)); u != "" {
		t.Error("a row that the database no longer has:", u)
	}
	b.WaitIndex(t.Context())
	c.Stop()
	if err := b.Ready(t.Context()); !errs.Is(err, errs.Unavailable) {
		t.Error("the database is down:", err)
	}
	if _, err := b.Report(t.Context(), "m", h(9), h(9), h(9), hashdb.Extra{}); !errs.Is(err, errs.Unavailable) {
		t.Error("a report while the database is down:", err)
	}
	c.Restart(t)
	c.SQL(t, fmt.Sprintf(`DELETE FROM hash_unihash WHERE task = '\x%s'`, h(3)))
	for task, want := range map[int]string{1: h(1), 3: ""} {
		if u := stream(t, b, "m", h(task)); u != want {
			t.Errorf("%d after the restart: %q", task, u)
		}
	}
	if u := report(t, b, 9, 9, 9); u != h(9) {
		t.Error(u)
	}
}

// An index that may not grow is no index that says no.
func TestABoundedIndex(t *testing.T) {
	t.Parallel()
	url := postgrestest.Schema(t)
	d := open(t, url, Options{IndexBytes: 1})
	var rows []hashdb.Row
	for i := range 3000 {
		rows = append(rows, hashdb.Row{Method: "m", Taskhash: h(i), Unihash: h(i / 2)})
	}
	if err := d.Insert(t.Context(), rows...); err != nil {
		t.Fatal(err)
	}
	again := open(t, url, Options{IndexBytes: 1})
	for _, i := range []int{0, 1, 1500, 2999} {
		for _, x := range []*DB{d, again} {
			if u := stream(t, x, "m", h(i)); u != h(i/2) {
				t.Errorf("%d: %q", i, u)
			}
		}
	}
	if e, err := d.Exist(t.Context(), [][]byte{[]byte(h(1499)), []byte(h(1500))}); err != nil || string(e[0]) != "true" || e[1] != nil {
		t.Errorf("%q %v", e, err)
	}
}

// The same questions in the same order get the same answers as on a file, in
// groups or alone: a model test with few names, so that everything meets.
func TestAsOnAFile(t *testing.T) {
	t.Parallel()
	file, err := hashdb.Open(filepath.Join(t.TempDir(), "h.db"), hashdb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	pg := open(t, postgrestest.Schema(t), Options{})
	r := rand.New(rand.NewPCG(1, 2))
	for range 12 {
		// A group, as one transaction on PostgreSQL and one after the other there.
		var adds []*add
		var want []string
		m, err := pg.method(t.Context(), "m")
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			task, out, offer := h(r.IntN(30)), h(1000+r.IntN(12)), h(r.IntN(60))
			if r.IntN(6) == 0 {
				u, err := file.Assign(t.Context(), "m", task, offer)
				if err != nil {
					t.Fatal(err)
				}
				adds, want = append(adds, &add{method: m, task: task, offer: offer}), append(want, u)
				continue
			}
			u, err := file.Report(t.Context(), "m", task, out, offer, hashdb.Extra{PN: "p"})
			if err != nil {
				t.Fatal(err)
			}
			adds, want = append(adds, &add{method: m, task: task, out: out, created: pg.now(), extra: hashdb.Extra{PN: "p"}, offer: offer, join: true}), append(want, u)
		}
		if err := pg.add(t.Context(), adds...); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range adds {
			got = append(got, a.uni)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
		w := hashdb.Where{"unihash": h(r.IntN(60))}
		if r.IntN(2) == 0 {
			w = hashdb.Where{"taskhash": h(r.IntN(30)), "method": "m"}
		}
		if r.IntN(3) == 0 {
			// Tasks without a unihash that still have outputs.
			w = hashdb.Where{"gc_mark": ""}
		}
		x, err1 := file.Remove(t.Context(), w)
		y, err2 := pg.Remove(t.Context(), w)
		if x != y || err1 != nil || err2 != nil {
			t.Fatal(w, x, y, err1, err2)
		}
	}
	x, err1 := file.Usage(t.Context())
	y, err2 := pg.Usage(t.Context())
	if d := cmp.Diff(x, y); d != "" || err1 != nil || err2 != nil {
		t.Error(d, err1, err2)
	}
}

// From a file to PostgreSQL and back, users and marks included.
func TestToAndFro(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := t.TempDir()
	file, err := hashdb.Open(filepath.Join(dir, "h.db"), hashdb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for i := range 700 {
		file.Report(ctx, "m", h(i), h(1000+i/3), h(i), hashdb.Extra{PN: "zlib", Siginfo: strings.Repeat("s ", 100)})
	}
	file.Assign(ctx, "odd", "task with no hex", "odd unihash")
	file.AddUser(ctx, hashdb.User{Name: "bob", Token: "sha256:0:1", Permissions: []string{"@read", "@report"}})
	pg := open(t, postgrestest.Schema(t), Options{})
	for range 2 { // the second time adds nothing
		if n, err := pg.Import(ctx, filepath.Join(dir, "h.db")); err != nil || n.Unihashes != 701 || n.Outhashes != 700 {
			t.Fatal(n, err)
		}
	}
	if _, err := pg.Mark(ctx, "now", hashdb.Where{"taskhash": h(0)}); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "out.db")
	if err := pg.Export(ctx, out); err != nil {
		t.Fatal(err)
	}
	if err := pg.Export(ctx, out); !errs.Is(err, errs.Conflict) {
		t.Error("an export over a file:", err)
	}
	back, err := hashdb.Open(out, hashdb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	all := func(d *hashdb.DB) []string {
		rows, err := d.All(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, r := range rows {
			list = append(list, fmt.Sprint(r))
		}
		slices.Sort(list)
		return list
	}
	if d := cmp.Diff(all(file), all(back)); d != "" {
		t.Error(d)
	}
	users, err := back.Users(ctx)
	if d := cmp.Diff([]hashdb.User{{Name: "bob", Token: "sha256:0:1", Permissions: []string{"@read", "@report"}}}, users); d != "" || err != nil {
		t.Error(d, err)
	}
	if s, err := back.Status(ctx); err != nil || s.Mark != "now" || s.Keep != 1 || s.Remove != 700 {
		t.Error(s, err)
	}
}

// Many processes report, sweep and look at once; what was answered holds.
func TestManyProcessesAtOnce(t *testing.T) {
	t.Parallel()
	url := postgrestest.Schema(t)
	var dbs []*DB
	for range 3 {
		dbs = append(dbs, open(t, url, Options{}))
	}
	const tasks = 60
	var mu sync.Mutex
	said := map[int]string{}
	var wg sync.WaitGroup
	for g := range 9 {
		wg.Go(func() {
			d := dbs[g%len(dbs)]
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for range 25 {
				i := r.IntN(tasks)
				u, err := d.Report(t.Context(), "m", h(i), h(1000+i%7), h(5000+g), hashdb.Extra{})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if was := said[i]; was != "" && was != u {
					t.Errorf("task %d was %s and is %s", i, was, u)
				}
				said[i] = u
				mu.Unlock()
				if got := stream(t, dbs[r.IntN(len(dbs))], "m", h(i)); got != u {
					t.Errorf("task %d: %s was answered, and another process says %q", i, u, got)
				}
			}
		})
	}
	wg.Wait()
	// All tasks with one output have one unihash.
	for i, u := range said {
		for j, v := range said {
			if i%7 == j%7 && u != v {
				t.Errorf("tasks %d and %d had the same output, and have %s and %s", i, j, u, v)
			}
		}
	}
}

// A read-only process sees what is written, and writes nothing.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	url := postgrestest.Schema(t)
	if _, err := Open(t.Context(), url, Options{ReadOnly: true}); !errs.Is(err, errs.Conflict) {
		t.Error("no tables:", err)
	}
	w := open(t, url, Options{})
	r := open(t, url, Options{ReadOnly: true})
	report(t, w, 1, 2, 1)
	if u := stream(t, r, "m", h(1)); u != h(1) {
		t.Error(u)
	}
	_, e1 := r.Report(t.Context(), "m", h(2), h(2), h(2), hashdb.Extra{})
	_, e2 := r.AddUser(t.Context(), hashdb.User{Name: "x"})
	_, e3 := r.Remove(t.Context(), hashdb.Where{"method": "m"})
	_, e4 := r.Mark(t.Context(), "m", hashdb.Where{"method": "m"})
	for i, err := range []error{e1, e2, e3, e4, r.Insert(t.Context(), hashdb.Row{Method: "m", Taskhash: "x", Unihash: "y"})} {
		if !errs.Is(err, errs.Denied) {
			t.Error(i, err)
		}
	}
}

// A process that hangs in the middle of a transaction is cut off; the others go on.
func TestOneThatHangs(t *testing.T) {
	t.Parallel()
	url := postgrestest.Schema(t) + "&idle_in_transaction_session_timeout=300ms"
	d := open(t, url, Options{})
	hang := open(t, url, Options{})
	began := make(chan struct{})
	end := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		once := sync.OnceFunc(func() { close(began) })
		done <- hang.transact(context.Background(), nil, hangs(once, end))
	}()
	<-began
	start := time.Now()
	if u := report(t, d, 1, 2, 1); u != h(1) {
		t.Error(u)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Error("the others waited for", took)
	}
	close(end)
	if err := <-done; err != nil && !errs.Is(err, errs.Unavailable) {
		t.Error(err)
	}
}

func hangs(once func(), end chan struct{}) func(context.Context, *postgres.Conn, *state) (*postgres.Batch, []hashdb.Change, error) {
	return func(context.Context, *postgres.Conn, *state) (*postgres.Batch, []hashdb.Change, error) {
		once()
		<-end
		return &postgres.Batch{}, nil, nil
	}
}

// bitbakeTables is what BitBake's server makes on PostgreSQL, with a few rows.
const bitbakeTables = `
CREATE TABLE unihashes_v3 (id serial PRIMARY KEY, method text NOT NULL, taskhash text NOT NULL, unihash text NOT NULL, gc_mark text NOT NULL);
CREATE TABLE outhashes_v2 (id serial PRIMARY KEY, method text NOT NULL, taskhash text NOT NULL, outhash text NOT NULL, created timestamp, owner text, "PN" text, "PV" text, "PR" text, task text, outhash_siginfo text);
CREATE TABLE users (id serial PRIMARY KEY, username text NOT NULL, token text NOT NULL, permissions text);
CREATE TABLE config (id serial PRIMARY KEY, name text NOT NULL, value text);
INSERT INTO unihashes_v3 (method, taskhash, unihash, gc_mark) VALUES ('m', lpad('1', 64, '0'), lpad('1', 64, '0'), ''), ('m', lpad('2', 64, '0'), lpad('1', 64, '0'), 'now'), ('odd', repeat('x', 32), 'U', '');
INSERT INTO outhashes_v2 (method, taskhash, outhash, created, "PN") VALUES ('m', lpad('1', 64, '0'), lpad('a', 64, '0'), '2026-01-02 03:04:05.5', 'zlib'), ('other', 't', 'o', NULL, NULL);
INSERT INTO users (username, token, permissions) VALUES ('bob', 'sha256:0:1', '@read @report');
INSERT INTO config (name, value) VALUES ('gc-mark', 'now');`

func TestTablesOfBitBake(t *testing.T) {
	t.Parallel()
	c := postgrestest.Shared(t)
	url := c.Schema(t)
	name := url[strings.LastIndex(url, "=")+1:]
	c.SQL(t, "SET search_path = "+name+"; "+bitbakeTables)
	for range 2 { // taken over once
		d := open(t, url, Options{})
		for task, want := range map[string]string{"m " + h(1): h(1), "m " + h(2): h(1), "odd " + strings.Repeat("x", 32): "U"} {
			method, hash, _ := strings.Cut(task, " ")
			if u := stream(t, d, method, hash); u != want {
				t.Errorf("%s: %q", task, u)
			}
		}
		row, err := d.ByTask(t.Context(), "m", h(1))
		if err != nil || row == nil || row.PN != "zlib" || !row.Created.Equal(time.Date(2026, 1, 2, 3, 4, 5, 500_000_000, time.UTC)) {
			t.Error(row, err)
		}
		if s, err := d.Status(t.Context()); err != nil || s != (hashdb.Status{Keep: 1, Remove: 2, Mark: "now"}) {
			t.Error(s, err)
		}
		if u, err := d.User(t.Context(), "bob"); err != nil || u == nil || len(u.Permissions) != 2 {
			t.Error(u, err)
		}
	}
}
