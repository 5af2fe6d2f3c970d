package feed

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/keyring"
	"slipway/internal/sign"
	"slipway/internal/store"
	"slipway/internal/timestamp"
)

const removedName = "1/pool/rpm/noarch/1/a-1.1-1.noarch.rpm"

// removal is a removal of a-1.1 as serial 3, of what b published.
func (b *bed) removal() Removal {
	b.t.Helper()
	r := b.all[slices.IndexFunc(b.all, func(r distro.PackageRecord) bool { return r.Version == "1.1" })]
	return Removal{Schema: 1, Distribution: "test", Series: "1", Serial: 3, At: testStart.Add(3 * time.Hour), By: "Ada", Because: "court order",
		Files: []RemovedFile{{File: removedName, Digest: r.Digest, Size: r.Size, Package: r.NEVRA(), HeaderDigest: r.HeaderDigest, Releases: []distro.Version{"1.2"}}}}
}

// remove publishes the removal as a new serial, up to the bytes themselves.
func (b *bed) remove(r Removal) {
	b.t.Helper()
	ctx := b.t.Context()
	var left []distro.PackageRecord
	for _, p := range b.all {
		if b.p.Layout.Package(p) != removedName {
			left = append(left, p)
		}
	}
	e := Edition{Serial: 3, Release: "1.2", At: r.At, Index: Newest(left), History: left, Removed: []Removed{{Serial: 3, Notice: distro.DigestOf(r.Encode())}}}
	err := b.p.WriteRemoval(ctx, r)
	var s Snapshot
	if err == nil {
		s, err = b.p.WriteSnapshot(ctx, e)
	}
	if err == nil && b.p.Log != nil {
		err = b.p.WriteLog(ctx, e)
	}
	if err == nil {
		err = b.p.Switch(ctx, e, s)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) write(name string, data []byte) {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	os.Remove(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) read(name string) []byte {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		b.t.Fatal(err)
	}
	return data
}

// roles is trust in the bed's key for metadata and the log, and in its package key.
func (b *bed) roles() Trust {
	b.t.Helper()
	ring := keyring.New("test")
	keys, err := sign.ParsePublic(b.p.Package.PublicArmored())
	if err == nil {
		_, err = ring.Add(keyring.Package, keys[0], testStart)
	}
	if err == nil {
		_, err = ring.Add(keyring.Metadata, b.key.Public(), testStart)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return Trust{Package: keys, Metadata: []*sign.Public{b.key.Public()}, Log: []*sign.Public{b.key.Public()}, Ring: ring}
}

func removalBed(t *testing.T) *bed {
	b := setup(t)
	pk, err := sign.Generate(sign.Options{Name: "Packages", Created: testStart})
	if err != nil {
		t.Fatal(err)
	}
	b.p.Package = pk
	if err := b.p.WriteDistribution(t.Context(), map[string]any{"series": []map[string]string{{"name": "1"}}}); err != nil {
		t.Fatal(err)
	}
	b.release(1, [3]string{"a", "1.0", "one"})
	b.release(2, [3]string{"a", "1.1", "two"}, [3]string{"b", "1.0", "three"})
	return b
}

// TestRemovalIsNoDamage: what a signed, listed notice took away is told as that, over
// HTTP, too, and the roots of the releases hold; before and while the bytes go nothing is
// wrong.
func TestRemovalIsNoDamage(t *testing.T) {
	b := removalBed(t)
	r := b.removal()
	b.remove(r)
	bytesOf := b.read(removedName)
	got := b.inspect(b.tree, b.roles(), Inspection{Workers: 3})
	if len(got.Findings) > 0 || len(got.Removed) > 0 || len(got.Notes) != 1 || !strings.Contains(got.Notes[0], "its bytes are still here") {
		t.Fatalf("%+v", got)
	}
	for range 2 {
		if err := b.p.Remove(t.Context(), r, nil); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(b.read(removedName), r.Encode()) {
		t.Fatal("the notice is not in the place of the bytes")
	}
	for name, tree := range map[string]store.Tree{"folder": b.tree, "http": b.serve(nil)} {
		got := b.inspect(tree, b.roles(), Inspection{})
		if len(got.Findings)+len(got.Notes) > 0 || len(got.Removed) != 1 || got.Removed[0].File != removedName || got.Removed[0].Why != "court order" || got.Packages != 3 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// Its name is taken for ever, and the reason is said.
	again, _ := b.pkg("a", "1.1", "two")
	if err := b.publisher(b.tree).Conflicts(t.Context(), []distro.PackageRecord{again}); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "removed by law") {
		t.Error(err)
	}
	// Somebody puts the notice where nobody removed anything, or something else where it was.
	b.write("1/pool/rpm/noarch/1/b-1.0-1.noarch.rpm", r.Encode())
	b.wantFinding(b.inspect(b.tree, b.roles(), Inspection{}), "1/pool/rpm/noarch/1/b-1.0-1.noarch.rpm: digest ")
	b.write(removedName, []byte("{}"))
	b.wantFinding(b.inspect(b.tree, b.roles(), Inspection{}), removedName+": digest ")
	if err := b.p.Remove(t.Context(), r, nil); !errs.Is(err, errs.Denied) {
		t.Errorf("bytes that were never published were removed: %v", err)
	}
	b.write(removedName, bytesOf)
	if err := b.p.Remove(t.Context(), r, nil); err != nil {
		t.Error(err)
	}
}

// TestForgedTombstone: a notice counts when the metadata role signed it, the newest
// snapshot lists it and the log holds it. Nothing less removes a byte, here or in a copy.
func TestForgedTombstone(t *testing.T) {
	key := func(t *testing.T) *sign.Key {
		k, err := sign.Generate(sign.Options{Name: "Other", Created: testStart})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	for _, c := range []struct {
		name string
		do   func(b *bed, r Removal)
		want string
	}{
		{name: "not signed", do: func(b *bed, r Removal) { os.Remove(filepath.Join(b.dir, "1/removals/3.json.asc")) }, want: "1/removals/3.json: not signed"},
		{name: "signed by a stranger", do: func(b *bed, r Removal) {
			sig, err := key(b.t).Sign(b.t.Context(), bytes.NewReader(r.Encode()), r.At)
			if err != nil {
				b.t.Fatal(err)
			}
			b.write("1/removals/3.json.asc", sign.Armor(sig))
		}, want: "1/removals/3.json: signature"},
		{name: "another reason", do: func(b *bed, r Removal) {
			r.Because = "none of your business"
			sig, err := b.key.Sign(b.t.Context(), bytes.NewReader(r.Encode()), r.At)
			if err != nil {
				b.t.Fatal(err)
			}
			b.write("1/removals/3.json", r.Encode())
			b.write("1/removals/3.json.asc", sign.Armor(sig))
			b.write(removedName, r.Encode())
		}, want: "1/removals/3.json: signed, but not the one that snapshot 3 lists"},
		{name: "gone", do: func(b *bed, r Removal) { os.Remove(filepath.Join(b.dir, "1/removals/3.json")) }, want: "1/removals/3.json: "},
		{name: "one more than was listed", do: func(b *bed, r Removal) {
			r.Serial = 2
			if err := b.p.WriteRemoval(b.t.Context(), r); err != nil {
				b.t.Fatal(err)
			}
		}, want: "1/removals/2.json: no snapshot lists it"},
		{name: "not in the log", do: func(b *bed, r Removal) {
			signer, _ := b.logSigner(b.key)
			b.p.Log = signer
			// The serials before it alone: the removal was slipped in.
			if err := b.p.WriteLog(b.t.Context(), Edition{Serial: 2, Release: "1.2", At: testStart.Add(2 * time.Hour)}); err != nil {
				b.t.Fatal(err)
			}
		}, want: "1/removals/3.json: not in the log: nothing was removed by it"},
		{name: "signed by the package key", do: func(b *bed, r Removal) {
			sig, err := b.p.Package.Sign(b.t.Context(), bytes.NewReader(r.Encode()), r.At)
			if err != nil {
				b.t.Fatal(err)
			}
			b.write("1/removals/3.json.asc", sign.Armor(sig))
		}, want: "1/removals/3.json: signature: made by the key package-1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := removalBed(t)
			r := b.removal()
			b.remove(r)
			copied := t.TempDir()
			to, err := store.OpenTree(copied)
			if err != nil {
				t.Fatal(err)
			}
			before := b.read(removedName)
			if err := os.MkdirAll(filepath.Join(copied, filepath.Dir(removedName)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(copied, removedName), before, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := b.p.Remove(t.Context(), r, nil); err != nil {
				t.Fatal(err)
			}
			c.do(b, r)
			got := b.inspect(b.tree, b.roles(), Inspection{})
			b.wantFinding(got, c.want)
			if c.name == "one more than was listed" || c.name == "not in the log" {
				return // the listed one is good: a copy follows it
			}
			if len(got.Removed) > 0 {
				t.Errorf("believed: %+v", got.Removed)
			}
			b.wantFinding(got, removedName+": ") // it is damage then
			if _, err := Export(t.Context(), b.tree, to, ExportOptions{Trust: func(string) (Trust, error) { return b.roles(), nil }}); err == nil {
				t.Error("it was exported")
			}
			if now, err := os.ReadFile(filepath.Join(copied, removedName)); err != nil || !bytes.Equal(now, before) {
				t.Errorf("the copy lost bytes: %v", err)
			}
		})
	}
}

// An export of one release brings the notice in the place of what was removed since, and
// one that was made before loses the bytes.
func TestExportOfAReleaseFollowsARemoval(t *testing.T) {
	b := removalBed(t)
	if err := b.p.WriteKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	export := func(dir string) Exported {
		t.Helper()
		to, err := store.OpenTree(dir)
		if err != nil {
			t.Fatal(err)
		}
		done, _, err := ExportRelease(t.Context(), b.tree, to, "1", "1.2", ExportOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	before, after := t.TempDir(), t.TempDir()
	export(before)
	r := b.removal()
	b.remove(r)
	if err := b.p.Remove(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{before, after} {
		to, err := store.OpenTree(dir)
		if err != nil {
			t.Fatal(err)
		}
		done, _, err := ExportRelease(t.Context(), b.tree, to, "1", "snapshots/2", ExportOptions{})
		if err != nil || done.Removed != 1 {
			t.Fatalf("%+v, %v", done, err)
		}
		for _, name := range []string{removedName, "1/removals/3.json"} {
			if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, r.Encode()) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// A removal is never taken back: a later snapshot that forgets it is found.
func TestForgottenRemoval(t *testing.T) {
	b := removalBed(t)
	r := b.removal()
	b.remove(r)
	if err := b.p.Remove(t.Context(), r, nil); err != nil {
		t.Fatal(err)
	}
	e := Edition{Serial: 4, Release: "1.2", At: testStart.Add(4 * time.Hour), Index: Newest(b.all[:1]), History: b.all[:1]}
	s, err := b.p.WriteSnapshot(t.Context(), e)
	if err == nil {
		err = b.p.Switch(t.Context(), e, s)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.wantFinding(b.inspect(b.tree, b.roles(), Inspection{}), "1/snapshots/4/snapshot.json: removal 3 was listed before, and is not any more")
}

func FuzzParseRemoval(f *testing.F) {
	f.Add([]byte(`{"schema":1,"distribution":"d","series":"1","serial":3,"at":"2026-01-01T00:00:00Z","by":"a","because":"b","files":[{"file":"1/pool/rpm/noarch/1/a.rpm","digest":"sha256:` + strings.Repeat("0", 64) + `","size":1,"releases":["1.1"]}]}`))
	f.Add([]byte(`{"schema":1,"series":"1","serial":3,"files":[{"file":"1/../x"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := timestamp.ParseRemoval(b)
		if err != nil {
			return
		}
		for _, x := range r.Files {
			if !strings.HasPrefix(x.File, r.Series+"/pool/") && !strings.HasPrefix(x.File, r.Series+"/images/") {
				t.Errorf("%q can be removed", x.File)
			}
		}
		if again, err := timestamp.ParseRemoval(r.Encode()); err != nil || len(again.Files) != len(r.Files) {
			t.Errorf("%v: %s", err, r.Encode())
		}
	})
}
