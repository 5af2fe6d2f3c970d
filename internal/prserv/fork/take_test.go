package fork

import (
	"path/filepath"
	"testing"

	"slipway/internal/hashserv/hashdb"
	"slipway/internal/prserv/prdb"
)

// TestTake: what another server gave goes into the overlay, as far as the series does not
// have it, and is burned at once.
func TestTake(t *testing.T) {
	t.Parallel()
	ctx, dir := t.Context(), t.TempDir()
	pr, hash := filepath.Join(dir, "prserv.sqlite3"), filepath.Join(dir, "hashserv.db")
	known := prdb.Row{Version: "hello-1.0-r0", Pkgarch: "core2-64", Checksum: "aa", Value: "0"}
	fresh := prdb.Row{Version: "hello-1.0-r0", Pkgarch: "core2-64", Checksum: "bb", Value: "4"}
	if _, err := prdb.WriteBitBake(ctx, pr, []prdb.Row{known, fresh}); err != nil {
		t.Fatal(err)
	}
	theirs, err := hashdb.Open(filepath.Join(dir, "theirs"), hashdb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	old := []hashdb.Row{{Method: "m", Taskhash: h(1), Unihash: h(1)}, {Method: "m", Taskhash: h(1), Outhash: h(11)}}
	if err := theirs.Insert(ctx, append(old, hashdb.Row{Method: "m", Taskhash: h(2), Unihash: h(1)}, hashdb.Row{Method: "m", Taskhash: h(2), Outhash: h(12)})...); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Export(ctx, hash); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	b := open(t, filepath.Join(dir, "series.db"))
	if err := b.PR.Put(ctx, known); err != nil {
		t.Fatal(err)
	}
	if err := b.Hash.Insert(ctx, old...); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it may be repeated
		if err := b.Take(ctx, filepath.Join(dir, "one"), pr, hash); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Take(ctx, filepath.Join(dir, "none"), "", ""); err != nil {
		t.Fatal(err)
	}
	if err := b.Take(ctx, filepath.Join(dir, "none"), hash, ""); err == nil {
		t.Error("a hash database was taken for one of numbers")
	}
	if n, err := b.PR.Reserve(ctx, known.Version, known.Pkgarch, 0); err != nil || n != 5 {
		t.Errorf("number %d after 4 was given elsewhere, %v", n, err)
	}
	if u, _ := b.Hash.Unihash(ctx, "m", h(2)); u != "" {
		t.Error("the series has what was not approved")
	}
	if n, err := b.Promote(ctx, filepath.Join(dir, "one")); err != nil || n != (Promoted{2, 1}) {
		t.Errorf("%+v %v", n, err)
	}
	if u, err := b.Hash.Unihash(ctx, "m", h(2)); err != nil || u != h(1) {
		t.Error(u, err)
	}
	if v, err := b.PR.Find(ctx, fresh.Version, fresh.Pkgarch, "bb", false); err != nil || v != "4" {
		t.Error(v, err)
	}
}
