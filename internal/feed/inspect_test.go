package feed

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/sign"
	"slipway/internal/store"
	"slipway/internal/tlog"
)

// serve gives the publication over loopback HTTP, through what a test puts before
// its handler.
func (b *bed) serve(before func(http.Handler) http.Handler) store.Tree {
	b.t.Helper()
	h := http.FileServer(http.Dir(b.dir))
	if before != nil {
		h = before(h)
	}
	s := httptest.NewServer(h)
	b.t.Cleanup(s.Close)
	tree, err := Open(s.URL + "/")
	if err != nil {
		b.t.Fatal(err)
	}
	return tree
}

func (b *bed) trust() Trust {
	b.t.Helper()
	keys, err := sign.ParsePublic(b.key.PublicArmored())
	if err != nil {
		b.t.Fatal(err)
	}
	return Trust{Package: keys, Metadata: keys}
}

func (b *bed) inspect(tree store.Tree, trust Trust, o Inspection) *Report {
	b.t.Helper()
	r, err := Inspect(b.t.Context(), tree, "1", trust, o)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

func (b *bed) wantFinding(r *Report, text string) {
	b.t.Helper()
	if !strings.Contains(strings.Join(r.Findings, "\n"), text) {
		b.t.Errorf("no finding %q in\n%s", text, strings.Join(r.Findings, "\n"))
	}
}

func TestInspectOverHTTP(t *testing.T) {
	b := setup(t)
	b.release(1, [3]string{"a", "1.0", "one"}, [3]string{"b+c", "1.0~rc1^2", "two"})
	b.release(2, [3]string{"a", "1.1", strings.Repeat("three", 1<<20)})
	web, folder := b.inspect(b.serve(nil), b.trust(), Inspection{Workers: 4}), b.inspect(store.ReadTree(b.dir), b.trust(), Inspection{})
	if len(web.Findings)+len(folder.Findings) > 0 || web.Packages != 3 || web.Releases != 2 || web.Snapshots != 2 || folder.Packages != 3 {
		t.Fatalf("%+v\n%+v", web, folder)
	}
	// A key of another role does not count.
	other, err := sign.Generate(sign.Options{Name: "Other", Created: testStart})
	if err != nil {
		t.Fatal(err)
	}
	wrong := b.trust()
	wrong.Package = []*sign.Public{other.Public()}
	b.wantFinding(b.inspect(b.serve(nil), wrong, Inspection{Workers: 4}), "a-1.0-1.noarch.rpm: signature: ")

	name := filepath.Join(b.dir, "1/pool/rpm/noarch/1/a-1.1-1.noarch.rpm")
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-9] ^= 1
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	b.wantFinding(b.inspect(b.serve(nil), b.trust(), Inspection{Workers: 4}), "1/pool/rpm/noarch/1/a-1.1-1.noarch.rpm: digest ")
}

// What the network does is an error and no finding; what comes back after a moment
// is neither.
func TestInspectTellsTheNetworkFromTampering(t *testing.T) {
	b := setup(t)
	b.release(1, [3]string{"a", "1.0", "one"}, [3]string{"b", "1.0", "two"})
	var n atomic.Int64
	failing := func(every int64) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, ".rpm") && n.Add(1)%every == 0 {
					w.Header().Set("Content-Length", "1000")
					io.WriteString(w, "cut")
					return
				}
				h.ServeHTTP(w, r)
			})
		}
	}
	if r := b.inspect(b.serve(failing(2)), b.trust(), Inspection{}); len(r.Findings) > 0 {
		t.Error(r.Findings)
	}
	if _, err := Inspect(t.Context(), b.serve(failing(1)), "1", b.trust(), Inspection{Workers: 2}); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a server that cuts every package: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := Inspect(ctx, b.serve(nil), "1", b.trust(), Inspection{}); err == nil {
		t.Errorf("cancelled: %+v", r)
	}
}

// A publication that is switched while it is read is read again.
func TestInspectWhileASwitchIsAtWork(t *testing.T) {
	b := setup(t)
	b.release(1, [3]string{"a", "1.0", "one"})
	switched := false
	tree := b.serve(func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/1/current/noarch/repodata/repomd.xml") && !switched {
				switched = true
				b.release(2, [3]string{"a", "1.1", "two"})
			}
			h.ServeHTTP(w, r)
		})
	})
	if r := b.inspect(tree, b.trust(), Inspection{}); len(r.Findings) > 0 || r.Serial != 2 {
		t.Errorf("%+v", r)
	}
}

func TestInspectOnePackage(t *testing.T) {
	b := setup(t)
	b.release(1, [3]string{"a", "1.0", "one"}, [3]string{"b", "1.0", "two"})
	b.release(2, [3]string{"a", "1.1", "three"})
	ask := func(data []byte) *Report {
		return b.inspect(store.ReadTree(b.dir), b.trust(), Inspection{File: memoryBlob{bytes.NewReader(data)}, FileName: "x.rpm"})
	}
	old, err := os.ReadFile(filepath.Join(b.dir, "1/pool/rpm/noarch/1/a-1.0-1.noarch.rpm"))
	if err != nil {
		t.Fatal(err)
	}
	r := ask(old)
	if p := r.Package; len(r.Findings) > 0 || r.Packages != 1 || p == nil || p.Release != "1.1" || p.Serial != 1 || p.Where != InHistory || p.Name != "1/pool/rpm/noarch/1/a-1.0-1.noarch.rpm" {
		t.Errorf("%+v, %+v", r, r.Package)
	}
	_, unsigned := b.pkg("a", "1.0", "one")
	b.wantFinding(ask(unsigned), "x.rpm: the package is 1/pool/rpm/noarch/1/a-1.0-1.noarch.rpm of release 1.1, but the file is not")
	_, other := b.pkg("a", "1.0", "other")
	b.wantFinding(ask(other), "x.rpm: not what was published under its name")
	_, never := b.pkg("c", "1.0", "one")
	b.wantFinding(ask(never), "x.rpm: no release of series 1 published it")

	// A second statement gives the name to something else.
	claims := rec("noarch", "a", "1.0-1")
	claims.HeaderDigest, claims.Digest = distro.DigestOf([]byte("header")), distro.DigestOf([]byte("file"))
	if err := b.p.WriteStatement(t.Context(), distro.Statement{Schema: 1, Series: "1", Version: "1.0", Serial: 2, At: testStart, Packages: []distro.PackageRecord{claims}}); err != nil {
		t.Fatal(err)
	}
	b.wantFinding(ask(old), "x.rpm: release 1.0 claims its name for other content")
}

// With a log every statement and snapshot is proved, and what was seen stays seen.
func TestInspectWithALog(t *testing.T) {
	b := setup(t)
	logKey, err := sign.Generate(sign.Options{Name: "Log", Created: testStart})
	if err != nil {
		t.Fatal(err)
	}
	const origin = "feeds.example.org/test"
	bare, _ := logKey.Public().Ed25519()
	signer, err := tlog.NewSigner(origin, bare, logKey.SignPlain)
	if err != nil {
		t.Fatal(err)
	}
	appended := func(serial int) {
		at := testStart.Add(time.Duration(serial) * time.Hour)
		var leaves []tlog.Leaf
		for _, l := range []tlog.Leaf{
			{Type: tlog.Release, Series: "1", Version: distro.NewVersion("1", serial), At: at, File: b.p.Layout.Statement(distro.NewVersion("1", serial))},
			{Type: tlog.Snapshot, Series: "1", Serial: serial, At: at, File: b.p.Layout.Snapshot(serial) + "/snapshot.json"},
		} {
			data, err := ReadFile(t.Context(), b.tree, l.File)
			if err != nil {
				t.Fatal(err)
			}
			l.Digest = distro.DigestOf(data)
			leaves = append(leaves, l)
		}
		if _, err := tlog.Append(t.Context(), b.tree, signer, leaves...); err != nil {
			t.Fatal(err)
		}
	}
	memory := t.TempDir()
	trust := b.trust()
	trust.Log = []*sign.Public{logKey.Public()}
	o := Inspection{Workers: 2, SeenLog: func(o string) string { return filepath.Join(memory, filepath.Base(o)) }}

	if err := b.p.WriteDistribution(t.Context(), map[string]any{"series": []map[string]string{{"name": "1"}}}); err != nil {
		t.Fatal(err)
	}
	b.release(1, [3]string{"a", "1.0", "one"})
	appended(1)
	b.release(2, [3]string{"a", "1.1", "two"})
	b.wantFinding(b.inspect(b.serve(nil), trust, o), "1/releases/1.2/release.json: published, but not in the log")
	appended(2)
	r := b.inspect(b.serve(nil), trust, o)
	if len(r.Findings) > 0 || r.Logged != 4 || r.LogOrigin != origin {
		t.Fatalf("%+v", r)
	}
	data, err := os.ReadFile(filepath.Join(b.dir, "1/pool/rpm/noarch/1/a-1.1-1.noarch.rpm"))
	if err != nil {
		t.Fatal(err)
	}
	one := o
	one.File, one.FileName = memoryBlob{bytes.NewReader(data)}, "x.rpm"
	if r := b.inspect(b.serve(nil), trust, one); len(r.Findings) > 0 || r.Package.Leaf != 2 || r.Package.Size != 4 {
		t.Errorf("%+v %+v", r, r.Package)
	}

	// Without the log's key, and with keys that were named without their roles.
	b.wantFinding(b.inspect(b.serve(nil), b.trust(), o), "no log key is trusted")
	unnamed := o
	unnamed.LogOptional = true
	if r := b.inspect(b.serve(nil), b.trust(), unnamed); len(r.Findings) > 0 || len(r.Notes) != 1 {
		t.Errorf("%+v", r)
	}

	// Who holds the log key cuts the log back, or takes it away.
	if err := os.RemoveAll(filepath.Join(b.dir, "log")); err != nil {
		t.Fatal(err)
	}
	gone := o
	gone.LogOrigin = origin
	b.wantFinding(b.inspect(b.serve(nil), trust, gone), "log/checkpoint: gone; a log of "+origin+" was seen here before")
	appended(1)
	b.wantFinding(b.inspect(b.serve(nil), trust, o), "it was cut back: a checkpoint of 4 leaves was seen before, now there are 2")
}
