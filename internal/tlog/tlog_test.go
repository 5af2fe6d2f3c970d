package tlog_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/store"
	"slipway/internal/tlog"
)

const origin = "feeds.example.org/halyard"

func key(t testing.TB, n byte) (tlog.Signer, tlog.Verifier) {
	t.Helper()
	k := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, 32))
	pub := k.Public().(ed25519.PublicKey)
	s, err := tlog.NewSigner(origin, pub, func(m []byte) ([]byte, error) { return ed25519.Sign(k, m), nil })
	if err != nil {
		t.Fatal(err)
	}
	v, err := tlog.NewVerifier(origin, pub)
	if err != nil {
		t.Fatal(err)
	}
	return s, v
}

func content(l tlog.Leaf) []byte { return []byte(`{"at":"` + l.At.Format(time.RFC3339) + `"}`) }

// leaf gives the n-th leaf: releases and snapshots in turn, a day apart.
func leaf(n int) tlog.Leaf {
	at := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, n)
	l := tlog.Leaf{Type: tlog.Release, Series: "1", Version: distro.Version(fmt.Sprint("1.", n)), At: at, File: fmt.Sprintf("1/releases/1.%d/release.json", n)}
	if n%2 == 0 {
		l = tlog.Leaf{Type: tlog.Snapshot, Series: "1", Serial: n, At: at, File: fmt.Sprintf("1/snapshots/%d/snapshot.json", n)}
	}
	l.Digest = distro.DigestOf(content(l))
	return l
}

func leaves(from, to int) (l []tlog.Leaf) {
	for n := from; n <= to; n++ {
		l = append(l, leaf(n))
	}
	return l
}

// publication makes a folder with the files of leaves 1 to n.
func publication(t testing.TB, n int) (string, store.Tree) {
	t.Helper()
	dir := t.TempDir()
	for _, l := range leaves(1, n) {
		p := filepath.Join(dir, l.File)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, content(l), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tr, err := store.OpenTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, tr
}

func add(t testing.TB, tr store.Tree, s tlog.Signer, l ...tlog.Leaf) tlog.Checkpoint {
	t.Helper()
	c, err := tlog.Append(t.Context(), tr, s, l...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func verify(t testing.TB, tr store.Tree, v tlog.Verifier, seen *tlog.Checkpoint) (*tlog.Log, *tlog.Report) {
	t.Helper()
	l, r, err := tlog.Verify(t.Context(), tr, []tlog.Verifier{v}, seen)
	if err != nil {
		t.Fatal(err)
	}
	return l, r
}

func listing(t testing.TB, tr store.Tree) string {
	t.Helper()
	var out strings.Builder
	for n, err := range tr.List(t.Context(), "log/") {
		if err != nil {
			t.Fatal(err)
		}
		f, err := tr.Open(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		d, err := store.Hash(f)
		f.Close()
		fmt.Fprintln(&out, n, d.Short(), err)
	}
	return out.String()
}

// TestAppend goes through sizes around those of tiles, and proves every leaf.
func TestAppend(t *testing.T) {
	t.Parallel()
	const most = 520
	s, v := key(t, 1)
	_, tr := publication(t, most)
	var seen *tlog.Checkpoint
	from := 1
	for _, to := range []int{1, 2, 3, 10, 255, 256, 257, 512, most} {
		c := add(t, tr, s, leaves(from, to)...)
		from = to + 1
		if c.Size != int64(to) {
			t.Fatalf("%d leaves, want %d", c.Size, to)
		}
		l, r := verify(t, tr, v, seen)
		if len(r.Findings) != 0 || len(r.Unlogged) != most-to || !slices.Equal(l.Leaves, leaves(1, to)) {
			t.Fatalf("after %d: %v, %d unlogged", to, r.Findings, len(r.Unlogged))
		}
		seen = &c
		before := listing(t, tr)
		if again := add(t, tr, s, leaves(max(1, to-3), to)...); !bytes.Equal(again.Note, c.Note) || listing(t, tr) != before {
			t.Fatal("the same again changed the log")
		}
	}
	l, _ := verify(t, tr, v, seen)
	for _, leaf := range l.Leaves {
		p, err := l.Prove(leaf.File)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := tlog.CheckLeaf(p, leaf.Digest, v); err != nil || c.Size != most {
			t.Fatal(err)
		}
	}
	p, _ := l.Prove(leaf(7).File)
	if _, err := tlog.CheckLeaf(p, leaf(8).Digest, v); !errs.Is(err, errs.Denied) {
		t.Errorf("other digest: %v", err)
	}
	p.Leaf.Version = "1.8"
	if _, err := tlog.CheckLeaf(p, p.Leaf.Digest, v); !errs.Is(err, errs.Denied) {
		t.Errorf("other leaf: %v", err)
	}
	other := leaf(3)
	other.Digest = distro.DigestOf([]byte("other"))
	if _, err := tlog.Append(t.Context(), tr, s, other); !errs.Is(err, errs.Conflict) {
		t.Errorf("other content of a release: %v", err)
	}
}

// TestTamper: what anybody does to published bytes or to the log is found, and
// named. With the log key in the wrong hands, what was seen before still tells.
func TestTamper(t *testing.T) {
	t.Parallel()
	s, v := key(t, 1)
	other, _ := key(t, 2)
	write := func(dir, name, text string) error {
		os.Remove(filepath.Join(dir, name))
		return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)
	}
	read := func(dir, name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	// relog writes the whole log anew, with the log key.
	relog := func(dir string, s tlog.Signer, l ...tlog.Leaf) error {
		if err := os.RemoveAll(filepath.Join(dir, "log")); err != nil {
			return err
		}
		tr, err := store.OpenTree(dir)
		if err == nil {
			_, err = tlog.Append(context.Background(), tr, s, l...)
		}
		return err
	}
	backdated := leaf(5)
	backdated.At = leaf(1).At
	backdated.Digest = distro.DigestOf(content(backdated))
	for _, tt := range []struct {
		name string
		do   func(dir string) error
		says string
	}{
		{"a statement removed", func(dir string) error { return os.Remove(filepath.Join(dir, leaf(3).File)) }, "1/releases/1.3/release.json: removed; release 1.3 is in the log"},
		{"a statement replaced", func(dir string) error { return write(dir, leaf(3).File, "{}") }, "1/releases/1.3/release.json: replaced"},
		{"a snapshot back-dated", func(dir string) error {
			return write(dir, leaf(4).File, strings.Replace(string(content(leaf(4))), "2026", "2025", 1))
		}, "1/snapshots/4/snapshot.json: replaced"},
		{"an entry changed", func(dir string) error {
			n := "log/tile/entries/000.p/5"
			return write(dir, n, strings.Replace(read(dir, n), `"1.3"`, `"1.9"`, 1))
		}, "the entries are not those that the checkpoint of 5 leaves signs"},
		{"an entry cut", func(dir string) error {
			n := "log/tile/entries/000.p/5"
			return write(dir, n, read(dir, n)[:100])
		}, "log/tile/entries/000.p/5: entry"},
		{"a tile changed", func(dir string) error {
			n := "log/tile/0/000.p/5"
			return write(dir, n, strings.Repeat("x", len(read(dir, n))))
		}, "log/tile/0/000.p/5: not what the entries make"},
		{"a tile removed", func(dir string) error { return os.Remove(filepath.Join(dir, "log/tile/0/000.p/5")) }, "log/tile/0/000.p/5: no file"},
		{"the log removed", func(dir string) error { return os.RemoveAll(filepath.Join(dir, "log")) }, "a checkpoint of 5 leaves was seen before"},
		{"a checkpoint of another key", func(dir string) error { return relog(dir, other, leaves(1, 5)...) }, "not signed by its key"},
		{"a size in the checkpoint", func(dir string) error {
			return write(dir, "log/checkpoint", strings.Replace(read(dir, "log/checkpoint"), "\n5\n", "\n4\n", 1))
		}, "not signed by its key"},
		{"with the key: cut back", func(dir string) error { return relog(dir, s, leaves(1, 4)...) }, "it was cut back: a checkpoint of 5 leaves was seen before, now there are 4"},
		{"with the key: rewritten", func(dir string) error {
			l := leaf(2)
			l.Digest = distro.DigestOf([]byte("new"))
			return errors.Join(write(dir, l.File, "new"), relog(dir, s, append([]tlog.Leaf{leaf(1), l}, leaves(3, 5)...)...))
		}, "it was rewritten: its first 5 leaves"},
		{"with the key: slipped in", func(dir string) error {
			l := backdated
			l.Version, l.File = "1.0", "1/releases/1.0/release.json"
			os.MkdirAll(filepath.Join(dir, filepath.Dir(l.File)), 0o755)
			return errors.Join(write(dir, l.File, string(content(l))), relog(dir, s, append([]tlog.Leaf{l}, leaves(1, 5)...)...))
		}, "it was rewritten: its first 5 leaves"},
		{"with the key: back-dated", func(dir string) error {
			l := backdated
			l.Version, l.File = "1.7", "1/releases/1.7/release.json"
			os.MkdirAll(filepath.Join(dir, filepath.Dir(l.File)), 0o755)
			tr, err := store.OpenTree(dir)
			if err == nil {
				err = write(dir, l.File, string(content(l)))
			}
			if err == nil {
				_, err = tlog.Append(context.Background(), tr, s, l)
			}
			return err
		}, "1/releases/1.7/release.json: back-dated: release 1.7 of 2026-12-02T00:00:00Z came into the log after release 1.5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir, tr := publication(t, 5)
			seen := add(t, tr, s, leaves(1, 5)...)
			if _, r := verify(t, tr, v, &seen); len(r.Findings)+len(r.Unlogged) != 0 {
				t.Fatal(r)
			}
			if err := tt.do(dir); err != nil {
				t.Fatal(err)
			}
			_, r := verify(t, tr, v, &seen)
			if got := strings.Join(r.Findings, "\n"); !strings.Contains(got, tt.says) {
				t.Errorf("found %q, want %q", got, tt.says)
			}
		})
	}
}

// failing is a tree whose n-th write fails, before or after it is done.
type failing struct {
	store.Tree
	left  int
	after bool
}

var errStop = errors.New("stopped here")

func (f *failing) step(do func() error) error {
	f.left--
	if f.left < 0 || f.left == 0 && !f.after {
		return errStop
	}
	if err := do(); err != nil {
		return err
	}
	if f.left == 0 {
		return errStop
	}
	return nil
}

func (f *failing) Create(ctx context.Context, name string, r io.Reader) error {
	return f.step(func() error { return f.Tree.Create(ctx, name, r) })
}

func (f *failing) Swap(ctx context.Context, name string, data []byte) error {
	return f.step(func() error { return f.Tree.Swap(ctx, name, data) })
}

// TestCutOff ends an append at every write. Then the old log or the new one is
// there, and the same append, or another one, goes on.
func TestCutOff(t *testing.T) {
	t.Parallel()
	s, v := key(t, 1)
	for _, other := range []bool{false, true} {
		for _, after := range []bool{false, true} {
			for n := 1; ; n++ {
				_, tr := publication(t, 262)
				old := add(t, tr, s, leaves(1, 254)...)
				_, err := tlog.Append(t.Context(), &failing{tr, n, after}, s, leaves(255, 260)...)
				if err == nil {
					if n < 6 {
						t.Errorf("an append of %d writes", n-1)
					}
					break
				}
				l, r := verify(t, tr, v, &old)
				if !errors.Is(err, errStop) || len(r.Findings) != 0 || l.Checkpoint.Size != 254 && l.Checkpoint.Size != 260 {
					t.Fatalf("write %d: %v, %v", n, err, r)
				}
				next := leaves(255, 260)
				if other { // the first was given up: what it wrote is taken in
					next = leaves(261, 262)
				}
				add(t, tr, s, next...)
				l, r = verify(t, tr, v, &old)
				if len(r.Findings) != 0 || !slices.Contains(l.Leaves, next[0]) || !slices.Contains(l.Leaves, next[len(next)-1]) {
					t.Errorf("write %d, after the next append: %v, %d leaves", n, r.Findings, len(l.Leaves))
				}
			}
		}
	}
}

func TestPlantedEntryIsNotSigned(t *testing.T) {
	t.Parallel()
	s, _ := key(t, 1)
	dir, tr := publication(t, 3)
	add(t, tr, s, leaves(1, 2)...)
	dir2, tr2 := publication(t, 4)
	add(t, tr2, s, leaves(1, 4)...) // of which 4 is not published in dir
	b, err := os.ReadFile(filepath.Join(dir2, "log/tile/entries/000.p/4"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "log/tile/entries/000.p/4"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := tlog.Append(t.Context(), tr, s, leaf(3)); !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), "entries/000.p/4") {
		t.Errorf("error %v", err)
	}
	other, _ := key(t, 2)
	if _, err := tlog.Append(t.Context(), tr2, other); !errs.Is(err, errs.Denied) {
		t.Errorf("another key: %v", err)
	}
}

func TestFilesOfAStatement(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 7, 64, 100} {
		var files []tlog.File
		for i := range n {
			files = append(files, tlog.File{Path: fmt.Sprintf("1/pool/rpm/noarch/1/p%d.rpm", i), SHA256: distro.DigestOf([]byte{byte(i)})})
		}
		root, err := tlog.Root(files)
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(files)
		if again, _ := tlog.Root(files); again != root {
			t.Error("the root depends on the order")
		}
		for _, f := range files {
			p, err := tlog.Prove(files, f.Path)
			if err != nil {
				t.Fatal(err)
			}
			if err := tlog.CheckFile(p, root); err != nil {
				t.Error(err)
			}
			p.File.SHA256 = distro.DigestOf([]byte("other"))
			if err := tlog.CheckFile(p, root); !errs.Is(err, errs.Denied) {
				t.Errorf("other bytes: %v", err)
			}
		}
		if _, err := tlog.Prove(files, "1/pool/none"); !errs.Is(err, errs.NotFound) {
			t.Error(err)
		}
		if _, err := tlog.Root(append(files, files[0])); !errs.Is(err, errs.Conflict) {
			t.Error(err)
		}
	}
}

func TestRemember(t *testing.T) {
	t.Parallel()
	s, v := key(t, 1)
	_, tr := publication(t, 3)
	home := t.TempDir()
	file := tlog.SeenFile(func(n string) string { return map[string]string{"HOME": home}[n] }, origin)
	if c, err := tlog.ReadSeen(file, v); c != nil || err != nil {
		t.Fatal(c, err)
	}
	two := add(t, tr, s, leaves(1, 2)...)
	three := add(t, tr, s, leaf(3))
	for _, c := range []tlog.Checkpoint{two, three, two} {
		if err := tlog.Remember(file, c, v); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := tlog.ReadSeen(file, v); err != nil || c == nil || c.Size != 3 {
		t.Errorf("%v, %v", c, err)
	}
	_, wrong := key(t, 2)
	if _, err := tlog.ReadSeen(file, wrong); !errs.Is(err, errs.Denied) {
		t.Error(err)
	}
}

func FuzzCheckpoint(f *testing.F) {
	s, v := key(f, 1)
	_, tr := publication(f, 1)
	c, err := tlog.Append(context.Background(), tr, s, leaf(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(c.Note)
	f.Add([]byte("x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := tlog.ParseCheckpoint(b, v); err == nil && (got.Size != 1 || got.Root != c.Root) {
			t.Errorf("%q was taken", b)
		}
	})
}

// TestFormat compares the bytes with the examples of docs/format/tlog.md.
func TestFormat(t *testing.T) {
	t.Parallel()
	s, _ := key(t, 1)
	dir, tr := publication(t, 2)
	c := add(t, tr, s, leaves(1, 2)...)
	doc, err := os.ReadFile("../../docs/format/tlog.md")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "log/tile/entries/000.p/2"))
	if err != nil {
		t.Fatal(err)
	}
	first := b[2 : 2+int(b[0])<<8+int(b[1])]
	for _, want := range []string{string(first), string(c.Note)} {
		if !bytes.Contains(doc, []byte("\n"+strings.TrimRight(want, "\n")+"\n")) {
			t.Errorf("docs/format/tlog.md does not show\n%s", want)
		}
	}
}
