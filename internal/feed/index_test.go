package feed

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/rpm"
	"slipway/internal/store"
)

// poolReads counts the packages that are opened.
type poolReads struct {
	store.Tree
	mu    sync.Mutex
	names []string
}

func (r *poolReads) Open(ctx context.Context, name string) (store.Blob, error) {
	if strings.HasSuffix(name, ".rpm") {
		r.mu.Lock()
		r.names = append(r.names, filepath.Base(name))
		r.mu.Unlock()
	}
	return r.Tree.Open(ctx, name)
}

// The cache spares reading what is published, and decides no byte: with it,
// without it, and with a damaged one the publication comes out the same.
func TestTheCacheDecidesNoByte(t *testing.T) {
	plain := setup(t)
	other := func() *bed {
		b := *plain
		b.dir = t.TempDir()
		tree, err := store.OpenTree(b.dir)
		if err != nil {
			t.Fatal(err)
		}
		b.tree = tree
		return &b
	}
	cached, damaged := other(), other()
	cache := map[*bed]string{cached: t.TempDir(), damaged: t.TempDir()}
	var first [][3]string
	for i := range 150 {
		first = append(first, [3]string{fmt.Sprintf("p%d", i), "1.0", "x"})
	}
	for serial, packages := range [][][3]string{first, {{"p7", "1.1", "y"}, {"new", "1.0", "z"}}, {{"p7", "1.2", "y"}}, {}} {
		for _, b := range []*bed{plain, cached, damaged} {
			reads := &poolReads{Tree: b.tree}
			b.p = b.publisher(reads)
			b.p.Cache = cache[b]
			if b == damaged {
				spoil(t, b.p.Cache, serial)
			}
			b.release(serial+1, packages...)
			// What the publisher wrote itself it needs not read again.
			if b == cached && serial > 0 && len(reads.names) > 0 {
				t.Errorf("serial %d: read from the pool: %v", serial+1, reads.names)
			}
		}
		want := sums(t, plain.dir)
		for name, b := range map[string]*bed{"cached": cached, "damaged": damaged} {
			if diff := cmp.Diff(want, sums(t, b.dir)); diff != "" {
				t.Fatalf("serial %d, %s: %s", serial+1, name, diff)
			}
		}
	}
	if r, err := cached.verify(); err != nil || len(r.Findings) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// Metadata that is signed and well formed, but not what the packages say, is found.
func TestVerifyMakesTheMetadataAgain(t *testing.T) {
	b := setup(t)
	b.release(1, [3]string{"a", "1.0", "one"})
	b.p = b.publisher(b.tree)
	// The publisher believes this header; the file in the pool says otherwise.
	name := b.p.Layout.Pool("noarch", KeyEpoch, "a-1.0-1.noarch.rpm")
	h, err := b.p.header(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	lie := *h
	lie.Requires = append(lie.Requires, rpm.Dep{Name: "b"})
	b.p.headers[name] = &lie
	b.release(2, [3]string{"b", "1.0", "two"})
	r, err := b.verify()
	if err != nil || !strings.Contains(strings.Join(r.Findings, "\n"), "primary.xml does not say of 1/pool/rpm/noarch/1/a-1.0-1.noarch.rpm what its header says") {
		t.Errorf("%+v, %v", r, err)
	}
}

// spoil changes every file of a cache, another way each time.
func spoil(t *testing.T, dir string, how int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		switch how % 3 {
		case 0:
			data[len(data)/2] ^= 1
		case 1:
			data = data[:len(data)/2]
		case 2:
			data = nil
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
