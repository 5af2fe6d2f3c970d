package feed

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/dnf"
	"slipway/internal/errs"
	"slipway/internal/sign"
	"slipway/internal/store"
)

func (b *bed) exportedRelease(to store.Tree, what string) (Exported, ExportedRelease) {
	b.t.Helper()
	e, doc, err := ExportRelease(b.t.Context(), b.tree, to, "1", what, ExportOptions{Workers: 4})
	if err != nil {
		b.t.Fatal(err, errs.Hints(err))
	}
	return e, doc
}

func verified(t *testing.T, dir string, key *sign.Key) *Report {
	t.Helper()
	r, err := Verify(t.Context(), store.ReadTree(dir), "1", []*sign.Public{key.Public()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestExportOfOneRelease: the same bytes at any time; a stranger verifies it; a device
// that follows current and changes only $slipway_url has that release.
func TestExportOfOneRelease(t *testing.T) {
	b := setup(t)
	b.release(1, [3]string{"a", "1.0", "one"}, [3]string{"b", "1.0", "two"}, [3]string{"c", "1.0", "three"})
	b.release(2, [3]string{"a", "1.1", "four"})
	early, to := folder(t)
	b.exportedRelease(to, "1.2")
	b.release(3, [3]string{"a", "1.2", "five"}, [3]string{"b", "1.1", "six"})
	dir, to := folder(t)
	e, doc := b.exportedRelease(to, "1.2")
	if doc.Serial != 2 || doc.Release != "1.2" || e.New != e.Files || e.Files < 10 {
		t.Errorf("%+v %+v", doc, e)
	}
	if d := cmp.Diff(sums(t, early), sums(t, dir)); d != "" {
		t.Errorf("the export depends on when it was made:\n%s", d)
	}
	for name := range sums(t, dir) {
		if strings.Contains(name, "a-1.2") || strings.Contains(name, "a-1.0") || strings.Contains(name, "b-1.1") || strings.Contains(name, "snapshots/3") || strings.Contains(name, "history") || strings.Contains(name, "timestamp") {
			t.Errorf("%s is of another release", name)
		}
	}
	if e, _ := b.exportedRelease(to, "snapshots/2"); e.New != 0 || e.Bytes != 0 {
		t.Errorf("the same again: %+v", e)
	}
	if r := verified(t, dir, b.key); len(r.Findings) > 0 || r.Serial != 2 || r.Packages != 3 || len(r.Notes) == 0 {
		t.Errorf("%+v", r)
	}

	tool, err := dnf.Find(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key.asc")
	if err := os.WriteFile(key, b.key.PublicArmored(), 0o644); err != nil {
		t.Fatal(err)
	}
	vars := map[string]string{"slipway_url": "file://" + b.dir, "slipway_snapshot": "current"}
	root, err := tool.NewRoot(t.Context(), filepath.Join(t.TempDir(), "device"), dnf.Options{Vars: vars, Repos: []dnf.Repo{
		{ID: "test-noarch", BaseURL: "$slipway_url/1/$slipway_snapshot/noarch", GPGKeys: []string{key}, Enabled: true}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Remove() })
	vars["slipway_url"] = "file://" + dir
	if err := root.SetVars(vars); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Install(t.Context(), "a", "b", "c"); err != nil {
		t.Fatal(err)
	}
	got, err := root.Installed(t.Context())
	if err != nil || len(got) != 3 || got[0].EVR() != "1.1-1" || got[1].EVR() != "1.0-1" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestExportOfOneReleaseRefuses(t *testing.T) {
	b := setup(t)
	b.release(1, [3]string{"a", "1.0", "one"})
	b.release(2, [3]string{"a", "1.1", "two"}, [3]string{"b", "1.0", "three"})
	whole, to := folder(t)
	b.exported(to, ExportOptions{})
	refused := func(what string, kind errs.Kind, says string, from, to store.Tree, release string) {
		t.Helper()
		if _, _, err := ExportRelease(t.Context(), from, to, "1", release, ExportOptions{}); !errs.Is(err, kind) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", what, err)
		}
	}
	refused("over a whole copy", errs.Conflict, "a whole publication", b.tree, to, "1.1")
	_, to = folder(t)
	b.exportedRelease(to, "1.1")
	refused("over another release", errs.Conflict, "another snapshot", b.tree, to, "1.2")
	if _, err := Export(t.Context(), b.tree, to, ExportOptions{}); !errs.Is(err, errs.Conflict) {
		t.Errorf("a whole copy over one release: %v", err)
	}
	_, to = folder(t)
	refused("no such release", errs.NotFound, "no release 1.7", b.tree, to, "1.7")

	// What is not what was published goes nowhere; other releases do not mind.
	pkg := filepath.Join(whole, "1/pool/rpm/noarch/1/b-1.0-1.noarch.rpm")
	data, err := os.ReadFile(pkg)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-5]++
	if err := os.Chmod(pkg, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pkg, data, 0o644); err != nil {
		t.Fatal(err)
	}
	dir, to := folder(t)
	refused("a changed package", errs.Denied, "b-1.0-1.noarch.rpm is not what was published", store.ReadTree(whole), to, "1.2")
	if files := sums(t, dir); len(files) > 0 {
		t.Errorf("copied all the same: %v", files)
	}
	if _, _, err := ExportRelease(t.Context(), store.ReadTree(whole), to, "1", "1.1", ExportOptions{}); err != nil {
		t.Error(err)
	}
	// Nobody takes a changed export for a good one.
	for _, name := range []string{"1/pool/rpm/noarch/1/a-1.0-1.noarch.rpm", "1/snapshots/1/snapshot.json", "1/releases/1.1/release.json", "1/current/noarch/repodata/repomd.xml", "export.json"} {
		copied := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		b2, err := os.ReadFile(filepath.Join(copied, name))
		if err != nil {
			t.Fatal(err)
		}
		bad := strings.Replace(string(b2), "1", "2", 1)
		if strings.HasSuffix(name, ".rpm") {
			b2[len(b2)/2]++
			bad = string(b2)
		}
		if err := os.WriteFile(filepath.Join(copied, name), []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := Verify(t.Context(), store.ReadTree(copied), "1", []*sign.Public{b.key.Public()}, nil)
		if err == nil && len(r.Findings) == 0 {
			t.Errorf("%s was changed, and verify has no finding", name)
		}
		if err := os.Remove(filepath.Join(copied, name)); err != nil {
			t.Fatal(err)
		}
		if r, err := Verify(t.Context(), store.ReadTree(copied), "1", []*sign.Public{b.key.Public()}, nil); err == nil && len(r.Findings) == 0 {
			t.Errorf("%s is gone, and verify has no finding", name)
		}
	}
}

// TestExportOfOneReleaseCutOff: whatever was written, the same call makes it whole.
func TestExportOfOneReleaseCutOff(t *testing.T) {
	b := setup(t)
	b.release(1, [3]string{"a", "1.0", "one"})
	b.release(2, [3]string{"a", "1.1", "two"})
	want, to := folder(t)
	b.exportedRelease(to, "1.1")
	for n := 0; ; n++ {
		dir, to := folder(t)
		_, _, err := ExportRelease(t.Context(), b.tree, &cut{to, n}, "1", "1.1", ExportOptions{})
		b.exportedRelease(to, "1.1")
		if d := cmp.Diff(sums(t, want), sums(t, dir)); d != "" {
			t.Fatalf("after %d writes:\n%s", n, d)
		}
		if err == nil {
			if n < 10 {
				t.Errorf("an export of %d writes", n)
			}
			return
		}
	}
}
