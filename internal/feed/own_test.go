package feed_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/rpmpack"

	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/rpm"
	"slipway/internal/sign"
)

func ownPackage(t *testing.T, name, version, body string) string {
	t.Helper()
	p, err := rpmpack.NewRPM(rpmpack.RPMMetaData{Name: name, Version: version, Release: "1", Arch: "noarch", Summary: name, Licence: "MIT", Compressor: "gzip", BuildTime: time.Unix(1700000000, 0)})
	if err != nil {
		t.Fatal(err)
	}
	p.AddFile(rpmpack.RPMFile{Name: "/usr/share/" + name, Mode: 0o100644, Body: []byte(body), Owner: "root", Group: "root"})
	var out bytes.Buffer
	if err := p.Write(&out); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name+".rpm")
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func ownKey(t *testing.T, at time.Time) *sign.Key {
	t.Helper()
	k, err := sign.Generate(sign.Options{Name: "my-boat", Created: at})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestOwn(t *testing.T) {
	t.Parallel()
	ctx, at := t.Context(), time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	key := ownKey(t, at)
	dir := filepath.Join(t.TempDir(), "feed")
	o := feed.Own{Name: "my-boat", Title: "My boat", BaseURL: "https://feeds.example.org/my-boat/", Priority: 120, Dir: dir}
	if err := feed.CreateOwn(ctx, o, key, at); err != nil {
		t.Fatal(err)
	}
	if err := feed.CreateOwn(ctx, o, key, at); !errs.Is(err, errs.Conflict) {
		t.Errorf("a second time: %v", err)
	}
	o, err := feed.OpenOwn(dir)
	if err != nil {
		t.Fatal(err)
	}
	signed := func() {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, "repodata/repomd.xml"))
		if err != nil {
			t.Fatal(err)
		}
		asc, err := os.ReadFile(filepath.Join(dir, "repodata/repomd.xml.asc"))
		if err != nil {
			t.Fatal(err)
		}
		sig, err := sign.Dearmor(asc)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sign.Verify([]*sign.Public{key.Public()}, bytes.NewReader(data), sig); err != nil {
			t.Error(err)
		}
	}
	signed()

	one := ownPackage(t, "anchor", "1.0", "iron")
	r, err := o.Add(ctx, key, []string{one}, at)
	if err != nil || len(r.New) != 1 || r.Packages != 1 {
		t.Fatalf("%+v %v", r, err)
	}
	signed()
	mine := filepath.Join(dir, "packages/anchor-1.0-1.noarch.rpm")
	p, err := rpm.ReadFile(mine)
	if err != nil || len(p.Signatures) == 0 {
		t.Fatalf("%v, signatures %d", err, len(p.Signatures))
	}
	if r, err = o.Add(ctx, key, []string{one, one}, at); err != nil || len(r.New) != 0 || len(r.There) != 2 {
		t.Errorf("the same again: %+v %v", r, err)
	}

	// All or nothing: one with other content, one that is no package.
	two := ownPackage(t, "rope", "1.0", "hemp")
	junk := filepath.Join(t.TempDir(), "junk.rpm")
	if err := os.WriteFile(junk, []byte("junk"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = o.Add(ctx, key, []string{two, ownPackage(t, "anchor", "1.0", "steel"), junk}, at)
	if err == nil || !strings.Contains(err.Error(), "anchor-1.0-1.noarch is in the feed with other content") || !strings.Contains(err.Error(), "junk") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "packages/rope-1.0-1.noarch.rpm")); err == nil {
		t.Error("rope is in the feed")
	}
	if _, err := o.Add(ctx, ownKey(t, at), []string{two}, at); !errs.Is(err, errs.Denied) {
		t.Errorf("another key: %v", err)
	}

	// A crash between index and signature: the next call signs it.
	if err := os.Remove(filepath.Join(dir, "repodata/repomd.xml.asc")); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Add(ctx, key, nil, at); err != nil {
		t.Fatal(err)
	}
	signed()
	// Signed by somebody else before.
	if r, err = o.Add(ctx, key, []string{two}, at); err != nil || len(r.Resigned) != 0 {
		t.Errorf("%+v %v", r, err)
	}
	other := feed.Own{Name: "other", Title: "x", BaseURL: "file:///x", Priority: 99, Dir: filepath.Join(t.TempDir(), "other")}
	second := ownKey(t, at)
	if err := feed.CreateOwn(ctx, other, second, at); err != nil {
		t.Fatal(err)
	}
	if other, err = feed.OpenOwn(other.Dir); err != nil {
		t.Fatal(err)
	}
	if r, err = other.Add(ctx, second, []string{mine}, at); err != nil || len(r.Resigned) != 1 {
		t.Errorf("%+v %v", r, err)
	}
}

func TestOwnBadInput(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	o := feed.Own{Name: "../x", Title: "a\nenabled=0", BaseURL: "ftp://x $y", Priority: 0, Dir: filepath.Join(t.TempDir(), "f")}
	err := feed.CreateOwn(t.Context(), o, ownKey(t, at), at)
	if err == nil {
		t.Fatal("made")
	}
	for _, want := range []string{`"../x" is no name`, "priority 0", "is no address", "several lines"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	if _, err := os.Stat(o.Dir); err == nil {
		t.Error("something was written")
	}
	if _, err := feed.OpenOwn(t.TempDir()); !errs.Is(err, errs.NotFound) {
		t.Errorf("%v", err)
	}
}
