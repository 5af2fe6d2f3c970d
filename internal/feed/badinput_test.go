package feed

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/rpmpack"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpm"
	"slipway/internal/store"
)

// odd makes a package of files with those paths.
func (b *bed) odd(name string, paths ...string) (distro.PackageRecord, []byte) {
	b.t.Helper()
	p, err := rpmpack.NewRPM(rpmpack.RPMMetaData{Name: name, Version: "1", Release: "1", Arch: "noarch", Summary: name, Licence: "MIT", Compressor: "gzip", BuildTime: testStart})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, path := range paths {
		p.AddFile(rpmpack.RPMFile{Name: path, Mode: 0o100644, Body: []byte("x"), Owner: "root", Group: "root"})
	}
	var out bytes.Buffer
	if err := p.Write(&out); err != nil {
		b.t.Fatal(err)
	}
	r := rec("noarch", name, "1-1")
	r.SourceName, r.Digest, r.Size = name, distro.DigestOf(out.Bytes()), int64(out.Len())
	if h, err := rpm.Read(bytes.NewReader(out.Bytes()), int64(out.Len()), name); err == nil {
		r.HeaderDigest = h.HeaderDigest
	}
	return r, out.Bytes()
}

// TestManyAndOddFiles: 2,000 files, a path with a newline and one of 300 characters are
// published as they are, and every index says of them what the header says.
func TestManyAndOddFiles(t *testing.T) {
	b := setup(t)
	var paths []string
	for i := range 2000 {
		paths = append(paths, fmt.Sprintf("/usr/share/many/%d/%d", i%50, i))
	}
	paths = append(paths, "/etc/a\nb", "/etc/<&>\"'", "/etc/"+strings.Repeat("n", 100)+"/"+strings.Repeat("n", 200), "/etc/umlaut-\xc3\xa4")
	r, file := b.odd("many", paths...)
	r, err := b.p.AddPackage(t.Context(), r, bytes.NewReader(file), int64(len(file)), testStart)
	if err != nil {
		t.Fatal(err)
	}
	list := []distro.PackageRecord{r}
	e := Edition{Serial: 1, Release: "1.1", At: testStart, Index: list, History: list}
	s, err := b.p.WriteSnapshot(t.Context(), e)
	if err == nil {
		err = b.p.WriteStatement(t.Context(), distro.Statement{Schema: 1, Series: "1", Version: "1.1", Serial: 1, At: testStart, Packages: list})
	}
	if err == nil {
		err = b.p.Switch(t.Context(), e, s)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := b.inspect(b.tree, b.trust(), Inspection{}); len(got.Findings) > 0 || got.Packages != 1 {
		t.Errorf("%+v", got)
	}
}

// TestOddNames: a package whose name is no file's name is refused, named, and nothing is
// written.
func TestOddNames(t *testing.T) {
	b := setup(t)
	for _, name := range []string{"../evil", "a\nb", strings.Repeat("n", 300), "a/b", ""} {
		r, file := b.odd(name, "/etc/x")
		_, err := b.p.AddPackage(t.Context(), r, bytes.NewReader(file), int64(len(file)), testStart)
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "name") {
			t.Errorf("%.20q: %v", name, err)
		}
	}
	if entries, err := os.ReadDir(b.dir); err != nil || len(entries) > 0 {
		t.Errorf("something was written: %v, %v", entries, err)
	}
}

// TestTwoPublishers: two that believe to be the only one make the same serial, each of
// its own. The second is refused before any pointer moves, and what is there is sound.
func TestTwoPublishers(t *testing.T) {
	b := setup(t)
	b.release(1, [3]string{"a", "1.0", "one"})
	tree, err := store.OpenTree(b.dir)
	if err != nil {
		t.Fatal(err)
	}
	second := b.publisher(tree)
	known := b.all
	b.release(2, [3]string{"a", "1.1", "two"})
	r, file := b.pkg("b", "1.0", "three")
	at := testStart.Add(2 * time.Hour)
	if r, err = second.AddPackage(t.Context(), r, bytes.NewReader(file), int64(len(file)), at); err != nil {
		t.Fatal(err)
	}
	list := Union(known, []distro.PackageRecord{r})
	_, err = second.WriteSnapshot(t.Context(), Edition{Serial: 2, Release: "1.2", At: at, Index: list, History: list})
	if !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "1/snapshots/2/") {
		t.Errorf("the second of one serial: %v", err)
	}
	if got := b.inspect(b.tree, b.trust(), Inspection{}); len(got.Findings) > 0 || got.Serial != 2 || got.Packages != 2 {
		t.Errorf("%+v", got)
	}
	again, other := b.pkg("a", "1.1", "another two")
	if err := second.Conflicts(t.Context(), []distro.PackageRecord{again}); !errs.Is(err, errs.Conflict) {
		t.Errorf("the name of another's package: %v", err)
	}
	if _, err := second.AddPackage(t.Context(), again, bytes.NewReader(other), int64(len(other)), at); !errs.Is(err, errs.Conflict) {
		t.Errorf("the name of another's package, without asking first: %v", err)
	}
}
