package feed

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/dnf"
	"slipway/internal/errs"
	"slipway/internal/store"
	"slipway/internal/store/s3"
	"slipway/internal/store/s3/s3test"
)

func (b *bed) exported(to store.Tree, o ExportOptions) Exported {
	b.t.Helper()
	e, err := Export(b.t.Context(), b.tree, to, o)
	if err != nil {
		b.t.Fatal(err)
	}
	return e
}

func folder(t *testing.T) (string, store.Tree) {
	t.Helper()
	dir := t.TempDir()
	tr, err := store.OpenTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, tr
}

func TestExportIsTheSameBytesAndRepeatsAsNothing(t *testing.T) {
	b := setup(t)
	b.release(1, [3]string{"a", "1.0", "one"}, [3]string{"b", "1.0", "two"})
	dir, to := folder(t)
	for range 2 {
		b.exported(to, ExportOptions{Workers: 4})
		if d := cmp.Diff(sums(t, b.dir), sums(t, dir)); d != "" {
			t.Fatal(d)
		}
		if e := b.exported(to, ExportOptions{}); e.New != 0 || e.Pointers != 0 || e.Files == 0 {
			t.Errorf("the same again: %+v", e)
		}
		b.release(2, [3]string{"a", "1.1", "three"})
	}
	linked, to := folder(t)
	if e := b.exported(to, ExportOptions{Link: true}); e.Bytes != 0 {
		t.Errorf("linked, and copied %d bytes", e.Bytes)
	}
	if d := cmp.Diff(sums(t, b.dir), sums(t, linked)); d != "" {
		t.Error(d)
	}
	if e := b.exported(to, ExportOptions{Check: true}); e.Bytes == 0 {
		t.Errorf("checked nothing: %+v", e)
	}
}

func TestExportRefuses(t *testing.T) {
	b := setup(t)
	_, to := folder(t)
	if _, err := Export(t.Context(), b.tree, to, ExportOptions{}); !errs.Is(err, errs.NotFound) {
		t.Errorf("nothing to export: %v", err)
	}
	b.release(1, [3]string{"a", "1.0", "one"})
	b.release(2, [3]string{"a", "1.1", "two"})
	b.exported(to, ExportOptions{})
	older := *b
	older.dir, older.tree = folder(t)
	older.p = older.publisher(older.tree)
	older.all = nil
	older.release(1, [3]string{"a", "1.0", "one"})
	if _, err := Export(t.Context(), older.tree, to, ExportOptions{}); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "ahead") {
		t.Errorf("an older publication over a newer copy: %v", err)
	}
	if _, err := Export(t.Context(), b.tree, to, ExportOptions{Series: []string{"9"}}); !errs.Is(err, errs.NotFound) {
		t.Errorf("no such series: %v", err)
	}
}

// cut is a tree whose n-th write fails.
type cut struct {
	store.Tree
	left int
}

var errCut = errors.New("cut off")

func (c *cut) Create(ctx context.Context, name string, r io.Reader) error {
	if c.left--; c.left < 0 {
		return errCut
	}
	return c.Tree.Create(ctx, name, r)
}

func (c *cut) Swap(ctx context.Context, name string, data []byte) error {
	if c.left--; c.left < 0 {
		return errCut
	}
	return c.Tree.Swap(ctx, name, data)
}

// A copy is sound whenever the export was cut off: clients see the old release or
// the new one, and the next export finishes.
func TestExportCutOff(t *testing.T) {
	b := setup(t)
	b.release(1, [3]string{"a", "1.0", "one"})
	home := b.tree
	base, to := folder(t)
	b.exported(to, ExportOptions{})
	b.release(2, [3]string{"a", "1.1", "two"})
	for n := 0; ; n++ {
		dir, to := folder(t)
		if err := os.CopyFS(dir, os.DirFS(base)); err != nil {
			t.Fatal(err)
		}
		_, err := Export(t.Context(), home, &cut{to, n}, ExportOptions{})
		b.tree = to
		r, verr := b.verify()
		if verr != nil || r.Serial != 1 && r.Serial != 2 {
			t.Fatalf("after %d writes: %v, %+v", n, verr, r)
		}
		for _, f := range r.Findings {
			// Between the pointers a copy is what a publish is.
			if !strings.Contains(f, "at.json") && !strings.Contains(f, "timestamp.json") && !strings.Contains(f, "current/") {
				t.Errorf("after %d writes: %s", n, f)
			}
		}
		b.tree = home
		if err == nil {
			if n < 10 {
				t.Errorf("an export of %d writes", n)
			}
			return
		}
		if !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		b.exported(to, ExportOptions{})
		if d := cmp.Diff(sums(t, b.dir), sums(t, dir)); d != "" {
			t.Fatalf("after %d writes and another export:\n%s", n, d)
		}
	}
}

// The same to an object store, which a device then reads over HTTP: the bucket is
// served as it is.
func TestExportToAnObjectStore(t *testing.T) {
	b := setup(t)
	b.release(1, [3]string{"a", "1.0", "one"}, [3]string{"b", "1.0", "two"})
	s := s3test.Start(t)
	bucket, err := s3.Open(t.Context(), s3.Location{Bucket: s.Bucket, Prefix: "test"}, s3.Options{Endpoint: s.Endpoint, Region: s3test.Region, Getenv: s3test.Getenv})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		first := b.exported(bucket.Tree(), ExportOptions{Workers: 8})
		if e := b.exported(bucket.Tree(), ExportOptions{}); e.New != 0 || e.Pointers != 0 || e.Files != first.Files {
			t.Errorf("%+v, and the same again %+v", first, e)
		}
		local := b.tree
		b.tree = bucket.Tree()
		if r, err := b.verify(); err != nil || len(r.Findings) > 0 {
			t.Errorf("%v, %+v", err, r)
		}
		b.tree = local
		got := sums(t, filepath.Join(s.Root, s.Bucket, "test"))
		delete(got, ".tmp-conditional-write")
		if d := cmp.Diff(sums(t, b.dir), got); d != "" {
			t.Error(d)
		}
		b.release(2, [3]string{"a", "1.1", "three"})
	}
}

// A device that changes only $slipway_url lives on an export: real dnf installs
// from the publication, which then is gone, and goes on from the copy.
func TestDeviceUsesAnExport(t *testing.T) {
	b := setup(t)
	b.release(1, [3]string{"a", "1.0", "one"})
	home := filepath.Join(t.TempDir(), "home")
	if err := os.Rename(b.dir, home); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(b.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tool, err := dnf.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key.asc")
	if err := os.WriteFile(key, b.key.PublicArmored(), 0o644); err != nil {
		t.Fatal(err)
	}
	vars := map[string]string{"slipway_url": "file://" + home, "slipway_snapshot": "current"}
	root, err := tool.NewRoot(t.Context(), filepath.Join(t.TempDir(), "device"), dnf.Options{Vars: vars, Repos: []dnf.Repo{
		{ID: "test-noarch", BaseURL: "$slipway_url/1/$slipway_snapshot/noarch", GPGKeys: []string{key}, Enabled: true}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Remove() })
	if _, err := root.Install(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if b.tree, err = store.OpenTree(home); err != nil {
		t.Fatal(err)
	}
	b.p = b.publisher(b.tree)
	b.release(2, [3]string{"a", "1.1", "two"})
	dir, to := folder(t)
	b.exported(to, ExportOptions{Link: true})
	if err := os.RemoveAll(home); err != nil {
		t.Fatal(err)
	}
	vars["slipway_url"] = "file://" + dir
	if err := root.SetVars(vars); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Upgrade(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := root.Installed(t.Context())
	if err != nil || len(got) != 1 || got[0].EVR() != "1.1-1" {
		t.Errorf("%v, %v", got, err)
	}
}
