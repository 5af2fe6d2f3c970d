package rpmmd

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/errs"
)

// index is a folder with what an Update wrote.
type index struct {
	dir    string
	state  *State
	loaded []string
	last   *Index
}

func newIndex(t *testing.T) *index { return &index{dir: t.TempDir()} }

// update makes the next index of the names and gives all its files.
func (x *index) update(t *testing.T, u Update, names []string) (map[string][]byte, error) {
	t.Helper()
	var open []*os.File
	defer func() {
		for _, f := range open {
			f.Close()
		}
	}()
	x.loaded = nil
	var mu sync.Mutex
	u.Last = x.state
	u.Open = func(name string) (io.ReaderAt, error) {
		f, err := os.Open(filepath.Join(x.dir, name))
		if err == nil {
			open = append(open, f)
		}
		return f, err
	}
	u.Load = func(_ context.Context, it Item) (Entry, error) {
		mu.Lock()
		defer mu.Unlock()
		x.loaded = append(x.loaded, it.ID)
		if strings.HasPrefix(it.ID, "bad") {
			return Entry{}, errs.Ef(errs.Invalid, "%s is bad", it.ID)
		}
		return entry(it.ID, "1-1", "noarch"), nil
	}
	md, err := u.Do(t.Context(), func(yield func(Item) bool) {
		for _, n := range names {
			if !yield(Item{ID: n, Href: n + ".rpm", Cut: n}) {
				return
			}
		}
	})
	if err != nil {
		return nil, err
	}
	x.last = md
	files := map[string][]byte{"repodata/repomd.xml": md.Repomd}
	for _, f := range md.Files {
		path := filepath.Join(x.dir, f.Name)
		out, err := os.CreateTemp(x.dir, "new")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteTo(out); err != nil {
			t.Fatal(err)
		}
		again, err := io.ReadAll(f.Reader())
		if err != nil {
			t.Fatal(err)
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
		if files[f.Href], err = os.ReadFile(out.Name()); err != nil || !bytes.Equal(again, files[f.Href]) {
			t.Fatalf("Reader and WriteTo differ: %v", err)
		}
		if err := os.Rename(out.Name(), path); err != nil {
			t.Fatal(err)
		}
	}
	if err := md.State.Stamp(u.Open); err != nil {
		t.Fatal(err)
	}
	var extra []byte
	if x.state, extra, err = DecodeState(md.State.Encode([]byte("mine"))); err != nil || string(extra) != "mine" {
		t.Fatalf("the state does not come back: %q, %v", extra, err)
	}
	if x.state.Packages() != len(names) {
		t.Fatalf("the state has %d packages, not %d", x.state.Packages(), len(names))
	}
	return files, nil
}

func list(from, to int) []string {
	var out []string
	for i := from; i < to; i++ {
		out = append(out, fmt.Sprintf("package-%d", i))
	}
	return out
}

// TestUpdateGivesWhatAllFromNothingGives: whatever was there before, only new
// packages are loaded, and the bytes are those of an index made from nothing.
func TestUpdateGivesWhatAllFromNothingGives(t *testing.T) {
	t.Parallel()
	for _, tt := range []Update{{Options: options}, {Options: options, NoOpenChecksum: true}, {Options: Options{Revision: "1", Compression: Gzip}}} {
		t.Run(fmt.Sprint(tt.Compression, tt.NoOpenChecksum), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(3, 4))
			x := newIndex(t)
			names := list(0, 1000)
			next := 1000
			for step := range 12 {
				was := map[string]bool{}
				if step > 0 {
					for _, n := range names {
						was[n] = true
					}
				}
				switch step {
				case 0, 1: // from nothing; the same again
				case 2, 3: // more at the end
					names, next = append(names, list(next, next+40)...), next+40
				case 4: // fewer in the middle
					names = slices.Delete(names, 700, 705)
				case 5: // fewer at the end
					names = names[:len(names)-300]
				case 6: // another first
					names = append([]string{"package-first"}, names...)
				case 7: // nearly nothing
					names = names[:3]
				case 8:
					names = nil
				case 9:
					names = list(0, 900)
				default: // here and there
					for range 8 {
						at := r.IntN(len(names))
						names[at] = fmt.Sprintf("package-%d", next)
						next++
					}
				}
				got, err := x.update(t, tt, names)
				if err != nil {
					t.Fatal(err)
				}
				want, err := newIndex(t).update(t, tt, names)
				if err != nil {
					t.Fatal(err)
				}
				if !maps.EqualFunc(got, want, bytes.Equal) {
					t.Fatalf("step %d: other bytes than from nothing", step)
				}
				for _, n := range x.loaded {
					if was[n] {
						t.Errorf("step %d: %s was read again", step, n)
					}
				}
				if x.last.Same != (step == 1) {
					t.Errorf("step %d: same: %v", step, x.last.Same)
				}
				if (step == 2 || step == 3) && x.last.Made > 2 {
					t.Errorf("step %d: %d frames made of %d for packages at the end", step, x.last.Made, x.last.Frames)
				}
				repo, err := ReadRepo(opener(got))
				if err != nil {
					t.Fatal(err)
				}
				var read []string
				for _, p := range repo.Primary {
					read = append(read, p.Name)
				}
				if diff := cmp.Diff(names, read); diff != "" && len(names) > 0 {
					t.Fatalf("step %d: %s", step, diff)
				}
			}
		})
	}
}

// A data file that is not what the state says is found, by its stamp and by its
// bytes; without the state all is made again.
func TestUpdateRefusesAChangedDataFile(t *testing.T) {
	t.Parallel()
	for _, doc := range []int{0, 1, 2} {
		x := newIndex(t)
		if _, err := x.update(t, Update{Options: options}, list(0, 600)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(x.dir, x.state.Records[doc].name())
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		touched := slices.Clone(data)
		for name, change := range map[string]func(){
			"changed": func() { data[len(data)/2] ^= 1 },
			"cut":     func() { data = data[:len(data)-1] },
			"longer":  func() { data = append(data, 0) },
			"gone":    func() { data = nil },
		} {
			data = slices.Clone(touched)
			change()
			if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if data != nil {
				if err := os.WriteFile(path, data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := x.update(t, Update{Options: options}, list(0, 601)); !errs.Is(err, errs.Conflict) {
				t.Errorf("%s %s: %v", documents[doc].kind, name, err)
			}
		}
		if err := os.WriteFile(path, touched, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := x.update(t, Update{Options: options}, list(0, 601)); err != nil || len(x.loaded) != 1 {
			t.Errorf("the same bytes in a new file: %v, %d loaded", err, len(x.loaded))
		}
	}
}

func TestUpdateGivesEveryErrorOfLoad(t *testing.T) {
	t.Parallel()
	x := newIndex(t)
	names := list(0, 700)
	names[3], names[650] = "bad-1", "bad-2"
	_, err := x.update(t, Update{Options: options}, names)
	if err == nil || err.Error() != "bad-1 is bad\nbad-2 is bad" {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	u := Update{Options: options, Load: func(context.Context, Item) (Entry, error) { return entry("a", "1-1", "noarch"), nil }}
	if _, err := u.Do(ctx, slices.Values([]Item{{Href: "a.rpm"}})); !errs.Is(err, errs.Interrupted) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestFramesAreOfBoundedSizeAndDoNotMove(t *testing.T) {
	t.Parallel()
	items := func(names []string) func(func(Item) bool) {
		return func(yield func(Item) bool) {
			for _, n := range names {
				if !yield(Item{Href: n}) {
					return
				}
			}
		}
	}
	names := list(0, 50_000)
	all, err := plan(items(names), nil)
	if err != nil {
		t.Fatal(err)
	}
	last := &State{}
	for i, p := range all {
		if n := len(p.known); n > maxFrame || n < minFrame && i < len(all)-1 {
			t.Errorf("frame %d has %d packages", i, n)
		}
		b := appendBlock(nil, p.known)
		last.frames = append(last.frames, frame{n: len(p.known), cut: p.known[0].cut, block: segment{data: b}, crc: crc32.Checksum(b, castagnoli)})
	}
	if len(all) < 900 || len(all) > 1200 {
		t.Errorf("%d frames of 50,000 packages", len(all))
	}
	again, err := plan(items(slices.Delete(names, 20_000, 20_001)), last)
	if err != nil {
		t.Fatal(err)
	}
	fresh := 0
	for _, p := range again {
		if p.old < 0 {
			fresh++
		}
	}
	if fresh > 4 {
		t.Errorf("%d frames are new when one package goes", fresh)
	}
}

func encodedState(t testing.TB) []byte {
	u := Update{Options: options, Load: func(_ context.Context, it Item) (Entry, error) { return entry(it.Href, "1-1", "noarch"), nil }}
	x, err := u.Do(context.Background(), slices.Values([]Item{{Href: "a"}, {Href: "b"}}))
	if err != nil {
		t.Fatal(err)
	}
	return x.State.Encode([]byte("extra"))
}

func TestDecodeStateRefuses(t *testing.T) {
	t.Parallel()
	good := encodedState(t)
	for i := range good {
		for _, b := range [][]byte{good[:i], append(slices.Clone(good[:i]), append([]byte{good[i] ^ 1}, good[i+1:]...)...)} {
			s, _, err := DecodeState(b)
			if err == nil { // damage of a block is found when the block is read
				for _, failed := range s.All() {
					err = failed
				}
				if !errs.Is(err, errs.Conflict) {
					t.Fatalf("byte %d: %v", i, err)
				}
			} else if !errs.Is(err, errs.Invalid) {
				t.Fatalf("byte %d: %v", i, err)
			}
		}
	}
}

func FuzzDecodeState(f *testing.F) {
	good := encodedState(f)
	front := stateFixed + int(binary.LittleEndian.Uint64(good[len(stateMagic)+1:]))
	block := good[front+32:]
	f.Add(good[:front])
	f.Add(good[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		// With a size and a sum that fit, so that what is behind them is reached.
		if len(b) >= stateFixed {
			b = slices.Clone(b)
			binary.LittleEndian.PutUint64(b[len(stateMagic)+1:], uint64(len(b)-stateFixed))
		}
		s, extra, err := DecodeState(append(withSum(b), block...))
		if err != nil {
			wantInvalid(t, err)
			return
		}
		for range s.All() {
		}
		if again, more, err := DecodeState(s.Encode(extra)); err != nil || !bytes.Equal(extra, more) || again.Packages() != s.Packages() {
			t.Errorf("does not come back: %v", err)
		}
	})
}
