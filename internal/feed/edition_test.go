package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/distro"
	"slipway/internal/store"
)

// stamps gives size, time and inode of all files: what a write changes.
func stamps(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, dir := range dirs {
		if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			st, err := e.Info()
			if err == nil {
				out[path] = fmt.Sprint(st.Size(), st.ModTime().UnixNano())
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

var errNoLists = errors.New("the lists are needed")

// TestWhatIsNewSaysAll: a publisher that is told what is new writes, byte for
// byte, what one writes that is given all lists and remembers nothing. It asks
// for the lists only where what is new cannot say all.
func TestWhatIsNewSaysAll(t *testing.T) {
	plain := setup(t)
	b := *plain
	b.dir = t.TempDir()
	tree, err := store.OpenTree(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	b.tree = tree
	cache := t.TempDir()
	var all []distro.PackageRecord
	gone := map[string]bool{} // withdrawn: not in the default index
	index := func() []distro.PackageRecord {
		var left []distro.PackageRecord
		for _, r := range all {
			if !gone[r.File] {
				left = append(left, r)
			}
		}
		return Newest(left)
	}
	pkg := func(name, version, source string) func(*bed) distro.PackageRecord {
		return func(b *bed) distro.PackageRecord {
			r, file := b.pkg(name, version, "x")
			if source != "" {
				r.SourceName = source
			}
			r, err := b.p.AddPackage(t.Context(), r, bytes.NewReader(file), int64(len(file)), testStart)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
	}
	other := func(name string) func(*bed) distro.PackageRecord { // a scope of its own
		return func(b *bed) distro.PackageRecord {
			r, file := b.pkg(name, "1.0", "y")
			r.Scope = "board"
			r, err := b.p.AddPackage(t.Context(), r, bytes.NewReader(file), int64(len(file)), testStart)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
	}
	var first []func(*bed) distro.PackageRecord
	for i := range 70 {
		first = append(first, pkg(fmt.Sprintf("p%03d", i), "1.0", fmt.Sprintf("r%02d", i/5)))
	}
	type list = []func(*bed) distro.PackageRecord
	serial := 0
	for _, tt := range []struct {
		name  string
		new   list
		lists bool // needed
		do    func()
	}{
		{name: "the first", new: first, lists: true},
		{name: "new versions, lower in the text too", new: list{pkg("p007", "1.10", "r01"), pkg("p008", "1.9", "r01"), pkg("p060", "0.9", "r12")}},
		{name: "a new name", new: list{pkg("new", "1.0", "r13"), pkg("p008", "1.10", "r01")}},
		{name: "two of one name at once", new: list{pkg("p010", "1.1", "r02"), pkg("p010", "1.2", "r02")}},
		{name: "another recipe makes it", new: list{pkg("p011", "2.0", "zz")}},
		{name: "nothing"},
		{name: "published before", new: list{pkg("p011", "2.0", "zz"), pkg("p012", "2.0", "r02")}, lists: true},
		{name: "a new scope", new: list{other("b1")}, lists: true},
		{name: "into both", new: list{other("b2"), pkg("p012", "2.1", "r02")}},
		{name: "one is withdrawn", lists: true, do: func() { gone["p012-2.1-1.noarch.rpm"] = true }},
		{name: "after that", new: list{pkg("p013", "2.1", "r02")}},
		{name: "the cache is gone", new: list{pkg("p014", "2.1", "r02")}, lists: true, do: func() { os.RemoveAll(cache) }},
		{name: "the cache is damaged", new: list{pkg("p015", "2.1", "r03")}, lists: true, do: func() { spoil(t, cache, 0) }},
		{name: "a data file is gone", new: list{pkg("p016", "2.1", "r03")}, lists: true, do: func() {
			if err := os.RemoveAll(filepath.Join(b.dir, "1/snapshots", fmt.Sprint(serial-1), "noarch")); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "at last", new: list{pkg("p017", "2.1", "r03")}},
	} {
		serial++
		if tt.do != nil {
			tt.do()
		}
		withdraws := tt.lists && len(tt.new) == 0
		at := testStart.Add(time.Duration(serial) * time.Hour)
		e := Edition{Serial: serial, Release: distro.NewVersion("1", serial), At: at}
		var fresh []distro.PackageRecord
		b.p, plain.p = b.publisher(b.tree), plain.publisher(plain.tree)
		for _, f := range tt.new {
			r := f(plain)
			f(&b)
			fresh = append(fresh, r)
		}
		all = Append(all, InOrder(fresh))
		e.Index, e.History = index(), all
		publish := func(b *bed, e Edition, again bool) {
			b.p.Cache = map[bool]string{true: cache}[e.Lists != nil || b != plain]
			s, err := b.p.WriteSnapshot(t.Context(), e)
			if err == nil && again { // a new process goes on
				b.p = b.publisher(b.tree)
				b.p.Cache = cache
			}
			if err == nil {
				err = b.p.Switch(t.Context(), e, s)
			}
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
		}
		publish(plain, e, false)
		asked := false
		d := Edition{Serial: serial, Release: e.Release, At: at, Base: serial - 1, New: fresh, Lists: func(context.Context) ([]distro.PackageRecord, []distro.PackageRecord, error) {
			asked = true
			return index(), all, nil
		}}
		if withdraws {
			d, asked = e, true
		}
		publish(&b, d, serial%2 == 0)
		if asked != tt.lists {
			t.Errorf("%s: lists were asked for: %v", tt.name, asked)
		}
		want, got := sums(t, plain.dir), sums(t, b.dir)
		if tt.name == "a data file is gone" || tt.name == "at last" {
			for name := range want {
				if _, ok := got[name]; !ok {
					delete(want, name)
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s: %s", tt.name, diff)
		}
		if !withdraws {
			d.Lists = func(context.Context) ([]distro.PackageRecord, []distro.PackageRecord, error) {
				return nil, nil, errNoLists
			}
			before := stamps(t, b.dir, cache)
			b.p = b.publisher(b.tree)
			publish(&b, d, false)
			for path, is := range stamps(t, b.dir, cache) {
				if st, err := os.Stat(path); err == nil && !st.IsDir() && before[path] != is {
					t.Errorf("%s: the same again wrote %s", tt.name, path)
				}
			}
		}
	}
}
