package hashdb

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/hashserv/litefile"
)

// old makes a database as BitBake's server of some version would.
func old(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "old.db")
	f, err := litefile.Open(path, litefile.Options{}, litefile.Schema{Name: "x", Steps: []string{script}})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Write(t.Context(), func(tx *litefile.Tx) error { return tx.Script(`DROP TABLE slipway`) }); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

const v2 = `CREATE TABLE unihashes_v2 (id INTEGER PRIMARY KEY AUTOINCREMENT, method TEXT NOT NULL, taskhash TEXT NOT NULL, unihash TEXT NOT NULL, UNIQUE(method, taskhash));
CREATE TABLE outhashes_v2 (id INTEGER PRIMARY KEY AUTOINCREMENT, method TEXT NOT NULL, taskhash TEXT NOT NULL, outhash TEXT NOT NULL, created DATETIME,
	owner TEXT, PN TEXT, PV TEXT, PR TEXT, task TEXT, outhash_siginfo TEXT, UNIQUE(method, taskhash, outhash));
CREATE TABLE tasks_v2 (id INTEGER);`

func rows(version string) string {
	mark := ""
	if version == "v3" {
		mark = ", 'M'"
	}
	s := fmt.Sprintf("INSERT INTO unihashes_%[1]s VALUES (1, 'm', '%[3]s', '%[3]s'%[2]s), (2, 'm', '%[4]s', '%[3]s'%[2]s), (3, 'n', 'odd', 'ODD'%[2]s);", version, mark, h(1), h(2))
	return s + fmt.Sprintf(`INSERT INTO outhashes_v2 VALUES (1, 'm', '%s', '%s', '2026-11-23T00:02:42.620234+00:00', NULL, NULL, NULL, NULL, NULL, NULL),
		(2, 'm', '%s', '%[2]s', '2026-11-23T00:02:43+00:00', 'bob', 'zlib', '1.3', 'r0', 'do_package', 'sig'), (3, 'n', 'odd', 'out', '2026-11-22 00:02:42.62', NULL, NULL, NULL, NULL, NULL, NULL);`, h(1), h(101), h(2))
}

func TestOldDatabases(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"v2": v2 + rows("v2"),
		"v3": bitbakeSchema + rows("v3") + `INSERT INTO users (username, token, permissions) VALUES ('bob', 'sha256:a:b', '@read @report'); INSERT INTO config (name, value) VALUES ('gc-mark', 'M');`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, source := old(t, script), old(t, script)
			d := open(t, path, Options{})
			check := func(d *DB) {
				t.Helper()
				if get(t, d, h(2)) != h(1) {
					t.Error(get(t, d, h(2)))
				}
				if u, _ := d.Unihash(t.Context(), "n", "odd"); u != "ODD" {
					t.Error(u)
				}
				r, err := d.ByTask(t.Context(), "m", h(2))
				want := &Row{"m", h(2), h(101), time.Date(2026, 11, 23, 0, 2, 43, 0, time.UTC), Extra{"bob", "zlib", "1.3", "r0", "do_package", "sig"}, h(1), ""}
				if r != nil {
					r.Mark = ""
				}
				if d := cmp.Diff(want, r); err != nil || d != "" {
					t.Error(err, d)
				}
				if r, _ := d.ByTask(t.Context(), "m", h(1)); r == nil || FormatTime(r.Created) != "2026-11-23T00:02:42.620234+00:00" {
					t.Error(r)
				}
				if r, _ := d.ByTask(t.Context(), "n", "odd"); r == nil || r.Created.Year() != 2026 || r.Created.Nanosecond() != 620_000_000 {
					t.Error(r)
				}
			}
			check(d)
			if name == "v3" {
				if s, err := d.Status(t.Context()); err != nil || s != (Status{3, 0, "M"}) {
					t.Error(s, err)
				}
				if u, err := d.User(t.Context(), "bob"); err != nil || u == nil || u.Token != "sha256:a:b" || len(u.Permissions) != 2 {
					t.Error(u, err)
				}
			}
			imported := fresh(t)
			if n, err := imported.Import(t.Context(), source); err != nil || n.Unihashes != 3 || n.Outhashes != 3 {
				t.Fatal(n, err)
			}
			check(imported)
			// To BitBake's form and back.
			out := filepath.Join(t.TempDir(), "out.db")
			if err := d.Export(t.Context(), out); err != nil {
				t.Fatal(err)
			}
			again := open(t, out, Options{})
			check(again)
			a, _ := d.All(t.Context())
			b, _ := again.All(t.Context())
			if !slices.Equal(a, b) {
				t.Error(cmp.Diff(a, b))
			}
			// Ours into ours.
			ours := fresh(t)
			if n, err := ours.Import(t.Context(), path); err != nil || n.Unihashes != 3 {
				t.Fatal(n, err)
			}
			check(ours)
		})
	}
}

// TestIndexAgainstMaps: whatever comes and goes, the index says what maps say.
func TestIndexAgainstMaps(t *testing.T) {
	t.Parallel()
	x, r := newIndex(), rand.New(rand.NewPCG(1, 2))
	type key struct {
		m uint32
		t string
	}
	want := map[key]string{}
	name := func() string {
		n := r.IntN(3000)
		if n%50 == 0 {
			return fmt.Sprint("odd", n)
		}
		return h(n)
	}
	for range 60_000 {
		k := key{uint32(r.IntN(3)), name()}
		if r.IntN(3) == 0 {
			x.dropText(k.m, k.t)
			delete(want, k)
			continue
		}
		u := k.t
		if r.IntN(2) == 0 {
			u = name()
		}
		x.putText(k.m, k.t, u)
		if _, ok := want[k]; !ok {
			want[k] = u
		}
	}
	used := map[string]bool{}
	for k, u := range want {
		used[u] = true
		if got, ok := x.getText(k.m, k.t); !ok || got != u {
			t.Fatalf("%v: %s, want %s", k, got, u)
		}
	}
	for n := range 3000 {
		for _, s := range []string{h(n), fmt.Sprint("odd", n)} {
			if got := x.existsText(s); got != used[s] {
				t.Fatalf("exists %s: %v", s, got)
			}
			for m := range uint32(3) {
				_, ok := want[key{m, s}]
				if _, got := x.getText(m, s); got != ok {
					t.Fatalf("get %d %s: %v", m, s, got)
				}
			}
		}
	}
	if x.count.Load() != int64(len(want)) {
		t.Error(x.count.Load(), len(want))
	}
	for k := range want {
		x.dropText(k.m, k.t)
	}
	for i := range x.rows {
		if x.rows[i].used != 0 || x.unis[i].used != 0 {
			t.Fatal("something is left")
		}
	}
}

func FuzzJournal(f *testing.F) {
	f.Add(encodeChanges([]change{
		{method: 1, task: h(1), uni: h(1)}, {method: 300, task: h(2), uni: h(3)}, {drop: true, method: 5, task: "odd"}, {method: 2, task: "odd", uni: "even"},
		{method: 1, task: h(1), uni: h(2), rec: &record{out: h(3), created: 1 << 50, extra: 7, mark: 3}}, {method: 1, task: "odd", rec: &record{out: "o", created: -1, bare: true}},
	}))
	f.Add([]byte{0, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := decodeChanges(b)
		if err != nil {
			return
		}
		again, err := decodeChanges(encodeChanges(list))
		if err != nil || len(again) != len(list) {
			t.Fatal(err, len(list), len(again))
		}
		for i, c := range list {
			if c.drop {
				c.uni = c.task
			}
			if again[i].task != c.task || again[i].method != c.method || again[i].drop != c.drop || !c.drop && again[i].uni != c.uni {
				t.Fatalf("%+v became %+v", c, again[i])
			}
			if (c.rec == nil) != (again[i].rec == nil) || c.rec != nil && *c.rec != *again[i].rec {
				t.Fatalf("%+v became %+v", c.rec, again[i].rec)
			}
		}
	})
}

func TestStoredHashes(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "a", "ab", "AB", "0g", h(1), "abc", "zz", "é"} {
		v := stored(s)
		if got := text(v); got != s {
			t.Errorf("%q became %q", s, got)
		}
		if b, ok := v.([]byte); ok && hex.EncodeToString(b) != s {
			t.Errorf("%q", s)
		}
	}
}
