// Package storetest is what every implementation of store.Blobs and store.Tree
// must pass.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/store"
)

// all collects a list and stops the test at an error.
func all[T any](t *testing.T, seq iter.Seq2[T, error]) []T {
	t.Helper()
	var out []T
	for v, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

func wantKind(t *testing.T, err error, kind errs.Kind) {
	t.Helper()
	if !errs.Is(err, kind) {
		t.Errorf("error %v, want kind %s", err, kind)
	}
}

// onlyReader hides Seek.
type onlyReader struct{ io.Reader }

// Blobs tests an implementation; open gives an empty store, each time another.
func Blobs(t *testing.T, open func(t *testing.T) store.Blobs) {
	text := strings.Repeat("anchors aweigh\n", 30_000) // more than one buffer
	t.Run("put and read", func(t *testing.T) {
		b := open(t)
		for _, content := range []string{text, "", "x"} {
			for _, r := range []io.Reader{strings.NewReader(content), onlyReader{strings.NewReader(content)}, iotest.DataErrReader(strings.NewReader(content))} {
				d, n, err := b.Put(t.Context(), r)
				if err != nil || d != distro.DigestOf([]byte(content)) || n != int64(len(content)) {
					t.Fatalf("Put = %s, %d, %v", d, n, err)
				}
			}
			d := distro.DigestOf([]byte(content))
			f, err := b.Open(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if f.Size() != int64(len(content)) {
				t.Errorf("size %d", f.Size())
			}
			if err := iotest.TestReader(io.NewSectionReader(f, 0, f.Size()), []byte(content)); err != nil {
				t.Error(err)
			}
			if got, err := io.ReadAll(f); err != nil || string(got) != content {
				t.Errorf("read %d bytes, %v", len(got), err)
			}
			if err := store.Check(t.Context(), b, d); err != nil {
				t.Error(err)
			}
		}
		if got := len(all(t, b.List(t.Context()))); got != 3 {
			t.Errorf("%d blobs, want 3", got)
		}
	})
	t.Run("put from the middle of a file", func(t *testing.T) {
		b := open(t)
		for range 2 {
			r := strings.NewReader("head tail")
			r.Seek(5, io.SeekStart)
			if d, _, err := b.Put(t.Context(), r); err != nil || d != distro.DigestOf([]byte("tail")) {
				t.Errorf("%s, %v", d, err)
			}
		}
	})
	t.Run("absent", func(t *testing.T) {
		b := open(t)
		d := distro.DigestOf([]byte("never put"))
		_, err := b.Open(t.Context(), d)
		wantKind(t, err, errs.NotFound)
		_, err = b.Stat(t.Context(), d)
		wantKind(t, err, errs.NotFound)
		wantKind(t, store.Check(t.Context(), b, d), errs.NotFound)
		if ok, err := store.Has(t.Context(), b, d); ok || err != nil {
			t.Errorf("Has = %t, %v", ok, err)
		}
		if err := b.Delete(t.Context(), d); err != nil {
			t.Error(err)
		}
		if got := all(t, b.List(t.Context())); len(got) != 0 {
			t.Errorf("List = %v", got)
		}
	})
	t.Run("no digest", func(t *testing.T) {
		b := open(t)
		for _, d := range []distro.Digest{"", "sha256:ab", "../../etc/passwd", distro.Digest("sha256:" + strings.Repeat("AB", 32))} {
			_, err := b.Open(t.Context(), d)
			wantKind(t, err, errs.Invalid)
			_, err = b.Stat(t.Context(), d)
			wantKind(t, err, errs.Invalid)
			wantKind(t, b.Delete(t.Context(), d), errs.Invalid)
		}
	})
	t.Run("list is sorted, delete removes", func(t *testing.T) {
		b := open(t)
		var want []distro.Digest
		for i := range 300 {
			d, _, err := b.Put(t.Context(), strings.NewReader(fmt.Sprint(i)))
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, d)
		}
		slices.Sort(want)
		if err := b.Delete(t.Context(), want[7]); err != nil {
			t.Fatal(err)
		}
		want = slices.Delete(want, 7, 8)
		if got := all(t, b.List(t.Context())); !slices.Equal(got, want) {
			t.Errorf("List gives %d digests, not the %d that were put, or not sorted", len(got), len(want))
		}
		for range b.List(t.Context()) {
			break // must not panic
		}
	})
	t.Run("a failing reader leaves nothing", func(t *testing.T) {
		b := open(t)
		boom := errors.New("boom")
		_, _, err := b.Put(t.Context(), io.MultiReader(strings.NewReader(text), iotest.ErrReader(boom)))
		if !errors.Is(err, boom) {
			t.Errorf("error %v", err)
		}
		if got := all(t, b.List(t.Context())); len(got) != 0 {
			t.Errorf("List = %v", got)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		b := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, _, err := b.Put(ctx, onlyReader{strings.NewReader(text)})
		wantKind(t, err, errs.Interrupted)
		_, _, err = b.Put(ctx, strings.NewReader(text))
		wantKind(t, err, errs.Interrupted)
	})
	t.Run("many at once", func(t *testing.T) {
		b := open(t)
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				content := strings.Repeat(fmt.Sprint(i%4), 1000)
				d, _, err := b.Put(t.Context(), onlyReader{strings.NewReader(content)})
				if err == nil {
					err = store.Check(t.Context(), b, d)
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := len(all(t, b.List(t.Context()))); got != 4 {
			t.Errorf("%d blobs, want 4", got)
		}
	})
}

func read(t *testing.T, tr store.Tree, name string) string {
	t.Helper()
	f, err := tr.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil || int64(len(b)) != f.Size() {
		t.Fatalf("%s: %d bytes of %d, %v", name, len(b), f.Size(), err)
	}
	return string(b)
}

// Tree tests an implementation; open gives an empty tree, each time another.
func Tree(t *testing.T, open func(t *testing.T) store.Tree) {
	create := func(t *testing.T, tr store.Tree, name, content string) {
		t.Helper()
		if err := tr.Create(t.Context(), name, onlyReader{strings.NewReader(content)}); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("create and read", func(t *testing.T) {
		tr := open(t)
		big := bytes.Repeat([]byte("0123456789abcdef"), 50_000)
		create(t, tr, "1/pool/rpm/a.rpm", string(big))
		create(t, tr, "empty", "")
		if err := tr.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		if read(t, tr, "1/pool/rpm/a.rpm") != string(big) || read(t, tr, "empty") != "" {
			t.Error("other bytes")
		}
		if n, err := tr.Stat(t.Context(), "1/pool/rpm/a.rpm"); n != int64(len(big)) || err != nil {
			t.Errorf("Stat = %d, %v", n, err)
		}
		f, err := tr.Open(t.Context(), "1/pool/rpm/a.rpm")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		p := make([]byte, 6)
		if _, err := f.ReadAt(p, 10); err != nil || string(p) != "abcdef" {
			t.Errorf("ReadAt = %q, %v", p, err)
		}
	})
	t.Run("write once", func(t *testing.T) {
		tr := open(t)
		create(t, tr, "a/b", "first")
		create(t, tr, "a/b", "first")
		for _, other := range []string{"other", "first and more", "fir", ""} {
			err := tr.Create(t.Context(), "a/b", strings.NewReader(other))
			wantKind(t, err, errs.Conflict)
			if err != nil && !strings.Contains(err.Error(), "a/b") {
				t.Errorf("the conflict does not name the file: %v", err)
			}
		}
		if got := read(t, tr, "a/b"); got != "first" {
			t.Errorf("content %q", got)
		}
	})
	t.Run("many at once", func(t *testing.T) {
		tr := open(t)
		const n = 150 // more than are waited for together
		create(t, tr, "m/7", "content 7")
		many := func(stop int, last error) error {
			return store.CreateAll(t.Context(), tr, func(yield func(store.NewFile, error) bool) {
				for i := range n {
					if i == stop {
						yield(store.NewFile{}, last)
						return
					}
					if !yield(store.NewFile{Name: fmt.Sprintf("m/%d", i), Content: onlyReader{strings.NewReader(fmt.Sprint("content ", i))}}, nil) {
						return
					}
				}
			})
		}
		stopped := errors.New("no more")
		if err := many(100, stopped); err != stopped {
			t.Errorf("%v, want the error that the files gave", err)
		}
		if err := many(n, nil); err != nil {
			t.Fatal(err)
		}
		if err := tr.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if got := read(t, tr, fmt.Sprintf("m/%d", i)); got != fmt.Sprint("content ", i) {
				t.Errorf("m/%d is %q", i, got)
			}
		}
		err := store.CreateAll(t.Context(), tr, func(yield func(store.NewFile, error) bool) {
			_ = yield(store.NewFile{Name: "m/new", Content: strings.NewReader("new")}, nil) && yield(store.NewFile{Name: "m/7", Content: strings.NewReader("other")}, nil)
		})
		wantKind(t, err, errs.Conflict)
		if got := read(t, tr, "m/7"); got != "content 7" {
			t.Errorf("replaced by %q", got)
		}
		wantKind(t, store.CreateAll(t.Context(), tr, func(yield func(store.NewFile, error) bool) {
			yield(store.NewFile{Name: "../m", Content: strings.NewReader("")}, nil)
		}), errs.Invalid)
	})
	t.Run("one of many writers wins", func(t *testing.T) {
		tr := open(t)
		var mu sync.Mutex
		won := map[string]bool{}
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				content := fmt.Sprint("writer ", i%5)
				err := tr.Create(t.Context(), "x/y/z", onlyReader{strings.NewReader(content)})
				if err == nil {
					mu.Lock()
					won[content] = true
					mu.Unlock()
				} else if !errs.Is(err, errs.Conflict) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 || !won[read(t, tr, "x/y/z")] {
			t.Errorf("winners %v", won)
		}
	})
	t.Run("swap", func(t *testing.T) {
		tr := open(t)
		create(t, tr, "snapshots/1/repomd.xml", "<1/>")
		for _, v := range []string{"1", "2", "", "2"} {
			if err := tr.Swap(t.Context(), "1/current.json", []byte(v)); err != nil {
				t.Fatal(err)
			}
			if got := read(t, tr, "1/current.json"); got != v {
				t.Errorf("content %q, want %q", got, v)
			}
		}
	})
	t.Run("an open file stays as it was", func(t *testing.T) {
		tr := open(t)
		if err := tr.Swap(t.Context(), "p", []byte("old")); err != nil {
			t.Fatal(err)
		}
		f, err := tr.Open(t.Context(), "p")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := tr.Swap(t.Context(), "p", []byte("newer")); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(f); err != nil || string(b) != "old" {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("readers see old or new", func(t *testing.T) {
		tr := open(t)
		old, new := strings.Repeat("o", 5000), strings.Repeat("n", 7000)
		if err := tr.Swap(t.Context(), "p", []byte(old)); err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if f, err := tr.Open(t.Context(), "p"); err != nil {
					t.Error(err)
				} else {
					if b, err := io.ReadAll(f); err != nil || string(b) != old && string(b) != new {
						t.Errorf("%d bytes, %v", len(b), err)
					}
					f.Close()
				}
			}
		})
		for i := range 30 {
			if err := tr.Swap(t.Context(), "p", []byte([]string{new, old}[i%2])); err != nil {
				t.Error(err)
			}
		}
		close(stop)
		wg.Wait()
	})
	t.Run("list", func(t *testing.T) {
		tr := open(t)
		names := []string{"a", "a-b", "a.d/x", "a/b", "a/c/d", "a0", "b/.hidden", "ü/x y"}
		for _, n := range names {
			if n == "a" { // a file and a folder of one name do not go together
				continue
			}
			create(t, tr, n, n)
		}
		names = names[1:]
		for _, tt := range []struct {
			prefix string
			want   []string
		}{
			{"", names},
			{"a", []string{"a-b", "a.d/x", "a/b", "a/c/d", "a0"}},
			{"a/", []string{"a/b", "a/c/d"}},
			{"a/c", []string{"a/c/d"}},
			{"a/c/d", []string{"a/c/d"}},
			{"a/c/d/", nil},
			{"nothing/here", nil},
			{"b/", []string{"b/.hidden"}},
		} {
			if got := all(t, tr.List(t.Context(), tt.prefix)); !slices.Equal(got, tt.want) {
				t.Errorf("List(%q) = %q, want %q", tt.prefix, got, tt.want)
			}
		}
		if !slices.IsSorted(all(t, tr.List(t.Context(), ""))) {
			t.Error("not sorted")
		}
		for range tr.List(t.Context(), "") {
			break // must not panic
		}
	})
	t.Run("absent", func(t *testing.T) {
		tr := open(t)
		create(t, tr, "a/b", "x")
		for _, n := range []string{"b", "a/c", "a", "a/b/c"} {
			_, err := tr.Open(t.Context(), n)
			wantKind(t, err, errs.NotFound)
			_, err = tr.Stat(t.Context(), n)
			wantKind(t, err, errs.NotFound)
		}
	})
	t.Run("bad names", func(t *testing.T) {
		tr := open(t)
		for _, n := range BadNames {
			wantKind(t, tr.Create(t.Context(), n, strings.NewReader("x")), errs.Invalid)
			wantKind(t, tr.Swap(t.Context(), n, []byte("x")), errs.Invalid)
			_, err := tr.Open(t.Context(), n)
			wantKind(t, err, errs.Invalid)
			_, err = tr.Stat(t.Context(), n)
			wantKind(t, err, errs.Invalid)
		}
		if got := all(t, tr.List(t.Context(), "")); len(got) != 0 {
			t.Errorf("bad names made %q", got)
		}
		if got := all(t, tr.List(t.Context(), "../")); len(got) != 0 {
			t.Errorf("List(../) = %q", got)
		}
	})
	t.Run("long names", func(t *testing.T) {
		tr := open(t)
		create(t, tr, strings.Repeat("n", 255), "x")
		create(t, tr, "d/"+strings.Repeat("n", 255), "x")
	})
	t.Run("a failing reader leaves nothing", func(t *testing.T) {
		tr := open(t)
		boom := errors.New("boom")
		err := tr.Create(t.Context(), "a/b", io.MultiReader(strings.NewReader("half"), iotest.ErrReader(boom)))
		if !errors.Is(err, boom) {
			t.Errorf("error %v", err)
		}
		if got := all(t, tr.List(t.Context(), "")); len(got) != 0 {
			t.Errorf("List = %q", got)
		}
		create(t, tr, "a/b", "whole")
	})
	t.Run("cancelled", func(t *testing.T) {
		tr := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		wantKind(t, tr.Create(ctx, "a", strings.NewReader("x")), errs.Interrupted)
		wantKind(t, tr.Swap(ctx, "a", []byte("x")), errs.Interrupted)
		if got := all(t, tr.List(t.Context(), "")); len(got) != 0 {
			t.Errorf("List = %q", got)
		}
	})
}

// BadNames are no names of a tree.
var BadNames = []string{"", "/", "/abs", "a//b", "a/", ".", "..", "../x", "a/../b", "a/./b", "a\nb", "a\x00b", "a\x7fb", "\tx", "a\xff",
	".tmp-1", "a/.tmp-x/b", strings.Repeat("n", 256), "d/" + strings.Repeat("n", 256), strings.Repeat("n/", 600) + "n"}
