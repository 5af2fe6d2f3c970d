package rpmmd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway/internal/errs"
)

// kept is where a test keeps an index and its state between Updates.
type kept struct {
	t    *testing.T
	dir  string
	open []*os.File
}

func (f *kept) Open(name string) (io.ReaderAt, error) {
	r, err := os.Open(filepath.Join(f.dir, name))
	if err == nil {
		f.open = append(f.open, r)
	}
	return r, err
}

func (f *kept) close() {
	for _, r := range f.open {
		r.Close()
	}
	f.open = nil
}

func (f *kept) state() *State {
	r, err := f.Open("state")
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		f.t.Fatal(err)
	}
	size, err := r.(*os.File).Seek(0, io.SeekEnd)
	if err != nil {
		f.t.Fatal(err)
	}
	s, extra, err := ReadState(r, size)
	if err != nil || string(extra) != "mine" {
		f.t.Fatalf("%q, %v", extra, err)
	}
	return s
}

// write writes all files and the state, as their users do, and gives what both
// repodata folders hold.
func (f *kept) write(x *Index) map[string][]byte {
	f.t.Helper()
	files := map[string][]byte{"repomd.xml": x.Repomd, "twin/repomd.xml": x.TwinRepomd}
	for i, list := range [][]*DataFile{x.Files, x.TwinFiles} {
		for _, d := range list {
			path := filepath.Join(f.dir, d.Name)
			out, err := os.Create(path + ".new")
			if err != nil {
				f.t.Fatal(err)
			}
			_, err = d.WriteTo(out)
			if err == nil {
				err = os.Rename(path+".new", path)
			}
			if err == nil {
				files[fmt.Sprint(i, d.Name)], err = os.ReadFile(path)
			}
			if err != nil {
				f.t.Fatal(err)
			}
			out.Close()
		}
	}
	out, err := os.Create(filepath.Join(f.dir, "state.new"))
	if err == nil {
		err = x.State.Stamp(f.Open)
	}
	if err == nil {
		_, err = x.State.WriteTo(out, []byte("mine"))
	}
	if err == nil {
		err = os.Rename(out.Name(), filepath.Join(f.dir, "state"))
	}
	if err != nil {
		f.t.Fatal(err)
	}
	out.Close()
	f.close()
	return files
}

func (f *kept) update(twin bool) Update {
	u := Update{Options: options, NoOpenChecksum: twin, Last: f.state(), Open: f.Open}
	if twin {
		u.Twin = &Twin{From: "../../../pool/", To: "../../pool/", Open: f.Open}
	}
	u.Load = func(_ context.Context, it Item) (Entry, error) {
		name, version, ok := strings.Cut(it.ID, " ")
		if !ok {
			return Entry{}, errs.E(errs.Internal, "read although it was there")
		}
		return entry(name, version, "noarch"), nil
	}
	return u
}

func sortedItem(recipe, name, version string) Item {
	return Item{ID: name + " " + version, Href: "../../../pool/" + name + "-" + version + ".rpm", Cut: name, Sort: recipe + "\x00" + name + "\x00" + version, Note: version}
}

// TestChangeGivesWhatAllFromNothingGives: new packages, new versions, packages
// that go, that move to another recipe, at frames' ends and anywhere.
func TestChangeGivesWhatAllFromNothingGives(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 1))
		f := &kept{t: t, dir: t.TempDir()}
		is := map[string]Item{} // by name
		put := func(recipe, name string, n int) Item {
			it := sortedItem(recipe, name, fmt.Sprintf("%d-1", n))
			is[name] = it
			return it
		}
		all := func(yield func(Item) bool) {
			for _, it := range slices.SortedFunc(maps.Values(is), func(a, b Item) int { return strings.Compare(a.Sort, b.Sort) }) {
				if !yield(it) {
					return
				}
			}
		}
		for i := range 400 {
			put(fmt.Sprintf("r%03d", i/4), fmt.Sprintf("p%03d", i), 1)
		}
		x, err := f.update(true).Do(t.Context(), all)
		if err != nil {
			t.Fatal(err)
		}
		f.write(x)
		for step := range 25 {
			var add []Item
			var remove []string
			names := slices.Sorted(maps.Keys(is))
			for range r.IntN(12) {
				name := names[r.IntN(len(names))]
				if _, there := is[name]; !there || slices.Contains(remove, is[name].Sort) || slices.ContainsFunc(add, func(it Item) bool { return it.Cut == name }) {
					continue
				}
				recipe, _, _ := strings.Cut(is[name].Sort, "\x00")
				switch r.IntN(5) {
				case 0: // goes
					remove = append(remove, is[name].Sort)
					delete(is, name)
				case 1: // moves
					remove = append(remove, is[name].Sort)
					add = append(add, put(fmt.Sprintf("r%03d", r.IntN(100)), name, 100+step))
				case 2: // is new
					if _, there := is[fmt.Sprintf("%s-%d", name, step)]; there {
						continue
					}
					add = append(add, put(recipe, fmt.Sprintf("%s-%d", name, step), 1))
				default: // another version, before or behind the last
					remove = append(remove, is[name].Sort)
					add = append(add, put(recipe, name, 100-step+r.IntN(2)*50))
				}
			}
			if step == 20 { // nearly all go
				for _, name := range slices.Sorted(maps.Keys(is))[5:] {
					if !slices.ContainsFunc(add, func(it Item) bool { return it.Cut == name }) {
						remove = append(remove, is[name].Sort)
						delete(is, name)
					}
				}
			}
			u := f.update(true)
			for _, sort := range remove {
				prefix := sort[:strings.LastIndex(sort, "\x00")+1]
				if found, err := u.Last.Begins(prefix); err != nil || len(found) != 1 || found[0].Sort != sort {
					t.Fatalf("%q: %v, %v", prefix, found, err)
				}
			}
			x, err := u.Change(t.Context(), add, remove)
			if err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
			made := x.Made
			got := f.write(x)
			g := &kept{t: t, dir: t.TempDir()}
			if x, err = g.update(true).Do(t.Context(), all); err != nil {
				t.Fatal(err)
			}
			if !maps.EqualFunc(got, g.write(x), bytes.Equal) {
				t.Fatalf("seed %d, step %d: other bytes than from nothing", seed, step)
			}
			if changes := len(add) + len(remove); step < 20 && made > 3*changes {
				t.Errorf("seed %d, step %d: %d frames made for %d changes", seed, step, made, changes)
			}
			n := 0
			for k, err := range f.state().All() {
				if err != nil || k.Note == "" {
					t.Fatal(k, err)
				}
				n++
			}
			if n != len(is) {
				t.Fatalf("the state knows %d packages, not %d", n, len(is))
			}
			f.close()
		}
	}
}

// TestChangeAppends: an index in the order of its growth.
func TestChangeAppends(t *testing.T) {
	t.Parallel()
	f := &kept{t: t, dir: t.TempDir()}
	var all []Item
	next := func(n int) []Item {
		var out []Item
		for range n {
			name := fmt.Sprintf("p%d", len(all)+len(out))
			out = append(out, Item{ID: name + " 1-1", Href: name + ".rpm"})
		}
		return out
	}
	for step, n := range []int{0, 1, 300, 1, 0, 20, 700, 1, 1} {
		add := next(n)
		u := f.update(false)
		if step > 0 {
			if has, err := u.Last.HasAny(append(slices.Clone(add), sortedItem("a", "b", "c"))); err != nil || has {
				t.Fatal(has, err)
			}
			if has, err := u.Last.HasAny(append(slices.Clone(add), all[:min(1, len(all))]...)); err != nil || has != (len(all) > 0) {
				t.Fatal(has, err)
			}
		}
		all = append(all, add...)
		var x *Index
		var err error
		if step == 0 {
			x, err = u.Do(t.Context(), slices.Values(all))
		} else {
			x, err = u.Change(t.Context(), add, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		if step > 0 && x.Same != (n == 0) {
			t.Errorf("step %d: same %v", step, x.Same)
		}
		got := f.write(x)
		g := &kept{t: t, dir: t.TempDir()}
		if x, err = g.update(false).Do(t.Context(), slices.Values(all)); err != nil {
			t.Fatal(err)
		}
		if !maps.EqualFunc(got, g.write(x), bytes.Equal) {
			t.Fatalf("step %d: other bytes than from nothing", step)
		}
	}
	if _, err := (Update{Options: options}).Change(t.Context(), nil, nil); !errs.Is(err, errs.Conflict) {
		t.Errorf("without a last index: %v", err)
	}
}
