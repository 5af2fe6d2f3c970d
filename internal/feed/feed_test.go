package feed

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/rpmpack"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpm"
	"slipway/internal/sign"
	"slipway/internal/store"
	"slipway/internal/tlog"
)

var testStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func rec(scope, name, evr string) distro.PackageRecord {
	version, release, _ := strings.Cut(evr, "-")
	return distro.PackageRecord{Name: name, Version: version, Release: release, Arch: scope, Scope: scope, File: name + "-" + evr + "." + scope + ".rpm"}
}

func names(l []distro.PackageRecord) string {
	var out []string
	for _, r := range l {
		out = append(out, r.Scope+"/"+r.Name+"-"+r.EVR())
	}
	return strings.Join(out, " ")
}

func TestNewestIsOneOfEachNameInEachScope(t *testing.T) {
	t.Parallel()
	all := []distro.PackageRecord{rec("noarch", "b", "1.10-1"), rec("noarch", "b", "1.9-3"), rec("x86_64", "b", "1.2-1"), rec("noarch", "a", "1-1"), rec("noarch", "b", "1.10-2")}
	if got, want := names(Newest(all)), "noarch/a-1-1 noarch/b-1.10-2 x86_64/b-1.2-1"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestUnionKeepsTheFirst(t *testing.T) {
	t.Parallel()
	published, again := rec("noarch", "a", "1-1"), rec("noarch", "a", "1-1")
	published.Size, again.Size = 1, 2
	u := Union([]distro.PackageRecord{published}, []distro.PackageRecord{again, rec("noarch", "b", "1-1")})
	if len(u) != 2 || u[0].Size != 1 {
		t.Errorf("%+v", u)
	}
}

func TestRepoFile(t *testing.T) {
	t.Parallel()
	got := RepoFile(RepoOptions{Distribution: "halyard", Title: "Halyard Linux", Series: "1", Scopes: []string{"x86_64"}, Keys: []string{"file:///k1", "file:///k2"}})
	want := `[halyard-x86_64]
name=Halyard Linux 1 - x86_64
baseurl=$slipway_url/1/$slipway_snapshot/x86_64
enabled=1
gpgcheck=1
repo_gpgcheck=1
gpgkey=file:///k1
       file:///k2

[halyard-x86_64-history]
name=Halyard Linux 1 - x86_64 - every version
baseurl=$slipway_url/1/history/x86_64
enabled=0
gpgcheck=1
repo_gpgcheck=1
gpgkey=file:///k1
       file:///k2
`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	pinned := RepoFile(RepoOptions{Distribution: "h", Title: "H", Series: "1", Scopes: []string{"noarch"}, URL: "http://127.0.0.1:1", Snapshot: "snapshots/3"})
	if !strings.Contains(pinned, "baseurl=http://127.0.0.1:1/1/snapshots/3/noarch\n") {
		t.Error(pinned)
	}
}

// bed is a publication in a folder, with a publisher and what it published.
type bed struct {
	t    *testing.T
	dir  string
	tree store.Tree
	p    *Publisher
	key  *sign.Key
	all  []distro.PackageRecord

	artifacts []distro.Artifact // what the statement of the next release answers for beside its packages
}

func setup(t *testing.T) *bed {
	t.Helper()
	t.Parallel()
	b := &bed{t: t, dir: t.TempDir()}
	var err error
	if b.tree, err = store.OpenTree(b.dir); err != nil {
		t.Fatal(err)
	}
	if b.key, err = sign.Generate(sign.Options{Name: "Test", Created: testStart}); err != nil {
		t.Fatal(err)
	}
	b.p = b.publisher(b.tree)
	return b
}

func (b *bed) publisher(tree store.Tree) *Publisher {
	return &Publisher{Tree: tree, Layout: Layout{Series: "1"}, Distribution: "test", Title: "Test", Package: b.key, Metadata: b.key, Scopes: []string{"noarch"}}
}

// pkg makes a small package and its record.
func (b *bed) pkg(name, version, body string) (distro.PackageRecord, []byte) {
	b.t.Helper()
	p, err := rpmpack.NewRPM(rpmpack.RPMMetaData{Name: name, Version: version, Release: "1", Arch: "noarch", Summary: name, Licence: "MIT", Compressor: "gzip", BuildTime: testStart})
	if err != nil {
		b.t.Fatal(err)
	}
	p.AddFile(rpmpack.RPMFile{Name: "/usr/share/" + name, Mode: 0o100644, Body: []byte(body), Owner: "root", Group: "root"})
	var out bytes.Buffer
	if err := p.Write(&out); err != nil {
		b.t.Fatal(err)
	}
	r, err := rpm.Read(bytes.NewReader(out.Bytes()), int64(out.Len()), name)
	if err != nil {
		b.t.Fatal(err)
	}
	record := rec("noarch", name, version+"-1")
	record.SourceName, record.HeaderDigest, record.Digest, record.Size = name, r.HeaderDigest, distro.DigestOf(out.Bytes()), int64(out.Len())
	return record, out.Bytes()
}

// release publishes packages (name, version, body) as release 1.<serial>.
func (b *bed) release(serial int, packages ...[3]string) {
	b.t.Helper()
	at := testStart.Add(time.Duration(serial) * time.Hour)
	var mine []distro.PackageRecord
	for _, x := range packages {
		r, file := b.pkg(x[0], x[1], x[2])
		r, err := b.p.AddPackage(b.t.Context(), r, bytes.NewReader(file), int64(len(file)), at)
		if err != nil {
			b.t.Fatal(err)
		}
		mine = append(mine, r)
	}
	b.publish(serial, mine)
}

// publish publishes packages that are in the pool as release 1.<serial>.
func (b *bed) publish(serial int, mine []distro.PackageRecord) {
	b.t.Helper()
	at := testStart.Add(time.Duration(serial) * time.Hour)
	b.all = Union(b.all, mine)
	e := Edition{Serial: serial, Release: distro.NewVersion("1", serial), At: at, Index: Newest(b.all), History: b.all}
	s, err := b.p.WriteSnapshot(b.t.Context(), e)
	if err == nil {
		err = b.p.WriteKeys(b.t.Context())
	}
	if err == nil {
		s := distro.Statement{Schema: 1, Series: "1", Version: e.Release, Serial: serial, At: at, Packages: mine, Artifacts: b.artifacts}
		if s.FilesRoot, err = tlog.Root(b.p.Layout.Files(s)); err == nil {
			err = b.p.WriteStatement(b.t.Context(), s)
		}
	}
	if err == nil {
		err = b.p.Switch(b.t.Context(), e, s)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) verify() (*Report, error) {
	b.t.Helper()
	keys, err := sign.ParsePublic(b.key.PublicArmored())
	if err != nil {
		b.t.Fatal(err)
	}
	return Verify(b.t.Context(), store.ReadTree(b.dir), "1", keys, nil)
}

// Every file that a client relies on: whatever byte of it changes, or when it is
// gone, verify says so.
func TestVerifyFindsEveryChange(t *testing.T) {
	b := setup(t)
	b.release(1, [3]string{"a", "1.0", "one"}, [3]string{"b", "1.0", "two"})
	b.release(2, [3]string{"a", "1.1", "three"})
	if r, err := b.verify(); err != nil || len(r.Findings) > 0 || r.Packages != 3 || r.Releases != 2 || r.Snapshots != 2 {
		t.Fatalf("a sound publication: %+v, %v", r, err)
	}
	var files []string
	if err := filepath.WalkDir(b.dir, func(path string, e fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(b.dir, path)
		// What an old current needed stays for clients in the middle of a refresh; nothing
		// names it any more. The public keys are what a stranger brings along.
		if err == nil && !e.IsDir() && !strings.HasPrefix(rel, "keys/") && !(strings.Contains(rel, "repodata/") && !strings.Contains(rel, "snapshots/") && !strings.Contains(rel, "repomd")) {
			files = append(files, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Fatalf("only %d files", len(files))
	}
	for _, path := range files {
		was, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int{0, len(was) / 2, len(was) - 1, -1} {
			bad := append([]byte(nil), was...)
			if at >= 0 {
				bad[at] ^= 0x20
			}
			os.Chmod(path, 0o644)
			if at < 0 {
				err = os.Remove(path)
			} else {
				err = os.WriteFile(path, bad, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			r, verr := b.verify()
			// Armour does not care for some of its bytes: what it says is the same.
			if verr == nil && len(r.Findings) == 0 && !sameArmour(was, bad, at) {
				t.Errorf("%s: byte %d of %d changed and was not found", path, at, len(was))
			}
			if err := os.WriteFile(path, was, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// An old index is signed, too: putting it back is a change.
func TestVerifyFindsAnOldIndexPutBack(t *testing.T) {
	b := setup(t)
	b.release(1, [3]string{"a", "1.0", "one"})
	old := map[string][]byte{}
	for _, name := range []string{"repomd.xml", "repomd.xml.asc"} {
		data, err := os.ReadFile(filepath.Join(b.dir, "1/current/noarch/repodata", name))
		if err != nil {
			t.Fatal(err)
		}
		old[name] = data
	}
	b.release(2, [3]string{"a", "1.1", "two"})
	for name, data := range old {
		if err := os.WriteFile(filepath.Join(b.dir, "1/current/noarch/repodata", name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r, err := b.verify()
	if err != nil || !strings.Contains(strings.Join(r.Findings, "\n"), "an old index was put back") {
		t.Errorf("%+v, %v", r, err)
	}
}

func sameArmour(was, bad []byte, at int) bool {
	if at < 0 {
		return false
	}
	a, err := sign.Dearmor(was)
	b, berr := sign.Dearmor(bad)
	return err == nil && berr == nil && bytes.Equal(a, b)
}

func TestConflictsAreFoundBeforeAnythingIsWritten(t *testing.T) {
	b := setup(t)
	b.release(1, [3]string{"a", "1.0", "one"})
	same, _ := b.pkg("a", "1.0", "one")
	if err := b.p.Conflicts(t.Context(), []distro.PackageRecord{same}); err != nil {
		t.Errorf("the same content again: %v", err)
	}
	other, file := b.pkg("a", "1.0", "other")
	fresh := b.publisher(b.tree)
	if err := fresh.Conflicts(t.Context(), []distro.PackageRecord{other}); !errs.Is(err, errs.Conflict) || !strings.Contains(fmt.Sprint(errs.Hints(err)), "raise Version or Release of a") {
		t.Errorf("other content under the same name: %v, hints %v", err, errs.Hints(err))
	}
	if _, err := fresh.AddPackage(t.Context(), other, bytes.NewReader(file), int64(len(file)), testStart); !errs.Is(err, errs.Conflict) {
		t.Errorf("added all the same: %v", err)
	}
	if r, err := b.verify(); err != nil || len(r.Findings) > 0 {
		t.Errorf("the publication changed: %+v, %v", r, err)
	}
}

func TestOnlyWhatWasTestedIsSigned(t *testing.T) {
	b := setup(t)
	r, _ := b.pkg("a", "1.0", "tested")
	_, other := b.pkg("a", "1.0", "swapped")
	if _, err := b.p.AddPackage(t.Context(), r, bytes.NewReader(other), int64(len(other)), testStart); !errs.Is(err, errs.Denied) {
		t.Errorf("another package was signed: %v", err)
	}
	if _, err := b.tree.Stat(t.Context(), b.p.Layout.Pool("noarch", KeyEpoch, r.File)); !errs.Is(err, errs.NotFound) {
		t.Errorf("something is in the pool: %v", err)
	}
}

// watched asks after every switched pointer whether the repomd.xml that is there
// has a good signature.
type watched struct {
	store.Tree
	after func(name string)
}

func (w watched) Swap(ctx context.Context, name string, data []byte) error {
	err := w.Tree.Swap(ctx, name, data)
	w.after(name)
	return err
}

func TestASwitchedRepomdAlwaysHasAGoodSignature(t *testing.T) {
	b := setup(t)
	b.release(1, [3]string{"a", "1.0", "one"})
	keys, err := sign.ParsePublic(b.key.PublicArmored())
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	b.p = b.publisher(watched{b.tree, func(name string) {
		repomd, isRepomd := strings.CutSuffix(name, ".asc")
		if !isRepomd && !strings.HasSuffix(name, "repomd.xml") && !strings.HasSuffix(name, "timestamp.json") {
			return
		}
		data, err := ReadFile(t.Context(), b.tree, repomd)
		if err != nil {
			t.Fatal(err)
		}
		armored, err := ReadFile(t.Context(), b.tree, repomd+".asc")
		if err != nil {
			t.Fatal(err)
		}
		sigs, err := sign.Dearmor(armored)
		if err != nil {
			t.Fatal(err)
		}
		good := false
		// Both signatures are by one key, and as long as each other.
		for _, n := range []int{len(sigs), len(sigs) / 2} {
			for from := 0; from+n <= len(sigs); from += n {
				if _, err := sign.Verify(keys, bytes.NewReader(data), sigs[from:from+n]); err == nil {
					good = true
				}
			}
		}
		if !good {
			t.Errorf("after %s: no signature fits", name)
		}
		asked++
	}})
	b.release(2, [3]string{"a", "1.1", "two"})
	if asked != 9 { // three swaps each for history, current and the pointer
		t.Errorf("%d pointers were asked about", asked)
	}
}

func TestPublishingTwiceGivesTheSameBytes(t *testing.T) {
	b := setup(t)
	other := *b
	other.dir = t.TempDir()
	var err error
	if other.tree, err = store.OpenTree(other.dir); err != nil {
		t.Fatal(err)
	}
	other.p = other.publisher(other.tree)
	for _, x := range []*bed{b, &other} {
		x.release(1, [3]string{"a", "1.0", "one"}, [3]string{"b", "1.0", "two"})
		x.release(2, [3]string{"b", "1.1", "three"})
	}
	if d := cmp.Diff(sums(t, b.dir), sums(t, other.dir)); d != "" {
		t.Error(d)
	}
	before := sums(t, b.dir)
	b.p = b.publisher(b.tree)
	b.release(2, [3]string{"b", "1.1", "three"})
	if d := cmp.Diff(before, sums(t, b.dir)); d != "" {
		t.Errorf("publishing again changed something:\n%s", d)
	}
}

func sums(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		out[rel] = string(distro.DigestOf(data))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return out
}
