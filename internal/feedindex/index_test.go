package feedindex

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/rpmpack"

	"slipway/internal/errs"
	"slipway/internal/rpmmd"
)

// bed is a folder of packages.
type bed struct {
	t   *testing.T
	dir string
	at  time.Time
}

func setup(t *testing.T) *bed {
	t.Helper()
	t.Parallel()
	return &bed{t: t, dir: t.TempDir(), at: time.Unix(1_700_000_000, 0)}
}

// add writes a package to a file below the folder; equal arguments, equal bytes.
func (b *bed) add(file, name, version string) {
	b.t.Helper()
	p, err := rpmpack.NewRPM(rpmpack.RPMMetaData{Name: name, Version: version, Release: "1", Arch: "noarch", Summary: name, Licence: "MIT", Compressor: "gzip", BuildTime: b.at})
	if err != nil {
		b.t.Fatal(err)
	}
	p.AddFile(rpmpack.RPMFile{Name: "/usr/share/" + name, Mode: 0o100644, Body: []byte(version), Owner: "root", Group: "root"})
	var out bytes.Buffer
	if err := p.Write(&out); err != nil {
		b.t.Fatal(err)
	}
	b.write(file, out.Bytes())
}

func (b *bed) write(file string, data []byte) {
	b.t.Helper()
	path := filepath.Join(b.dir, file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) path(name string) string { return filepath.Join(b.dir, name) }

// index runs Index, an hour later each time.
func (b *bed) index(o Options) (*Result, error) {
	b.at = b.at.Add(time.Hour)
	o.At = b.at
	return Index(b.t.Context(), b.dir, o)
}

func (b *bed) must(o Options) *Result {
	b.t.Helper()
	r, err := b.index(o)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// packages reads the index with every check that there is.
func (b *bed) packages() []string {
	b.t.Helper()
	repo, err := rpmmd.ReadRepo(func(name string) (io.ReadCloser, error) { return os.Open(b.path(name)) })
	if err != nil {
		b.t.Fatal(err)
	}
	var out []string
	for _, p := range repo.Primary {
		out = append(out, p.Href+" "+p.EVR())
	}
	return out
}

// repodata gives every file with bytes, times and inode: what a write changes.
func (b *bed) repodata() map[string]string {
	b.t.Helper()
	out := map[string]string{}
	if err := filepath.WalkDir(b.path("repodata"), func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := os.Stat(path)
		if err != nil {
			return err
		}
		data, _ := os.ReadFile(path)
		sys := st.Sys().(*syscall.Stat_t)
		out[e.Name()] = fmt.Sprintf("%x %v %v %d", data, sys.Mtim, sys.Ctim, sys.Ino)
		return nil
	}); err != nil {
		b.t.Fatal(err)
	}
	return out
}

func (b *bed) names() []string {
	b.t.Helper()
	entries, err := os.ReadDir(b.path("repodata"))
	if err != nil {
		b.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestNewGoneAndChanged(t *testing.T) {
	b := setup(t)
	b.add("a.rpm", "a", "1")
	b.add("sub/b.rpm", "b", "1")
	b.write("notes.txt", []byte("no package"))
	b.write(".hidden/c.rpm", []byte("not looked at"))
	if r := b.must(Options{}); !r.Written || r.New != 2 || r.Packages != 2 || r.Rebuilt != "" {
		t.Errorf("%+v", r)
	}
	before := b.repodata()
	if r := b.must(Options{}); r.Written || r.Packages != 2 || r.Bytes == 0 {
		t.Errorf("nothing new: %+v", r)
	}
	if diff := cmp.Diff(before, b.repodata()); diff != "" {
		t.Errorf("nothing was new, but:\n%s", diff)
	}
	b.add("a.rpm", "a", "20")
	b.add("0.rpm", "z", "1")
	if err := os.Remove(b.path("sub/b.rpm")); err != nil {
		t.Fatal(err)
	}
	if r := b.must(Options{}); r.New != 1 || r.Changed != 1 || r.Gone != 1 || r.Rebuilt != "" {
		t.Errorf("%+v", r)
	}
	if diff := cmp.Diff([]string{"0.rpm 1-1", "a.rpm 20-1"}, b.packages()); diff != "" {
		t.Error(diff)
	}
	if got := b.names(); len(got) != 6 { // lock, three data files, state, repomd.xml
		t.Errorf("left in repodata: %q", got)
	}
	if r := b.must(Options{Compression: rpmmd.Gzip}); !r.Written {
		t.Errorf("another compression: %+v", r)
	}
	if diff := cmp.Diff([]string{"0.rpm 1-1", "a.rpm 20-1"}, b.packages()); diff != "" {
		t.Error(diff)
	}
}

func TestKeepKeepsSoManyOlderIndexes(t *testing.T) {
	b := setup(t)
	for i := range 5 {
		b.add(fmt.Sprintf("%d.rpm", i), "p", fmt.Sprint(i))
		b.must(Options{Keep: 2})
	}
	if got := b.names(); len(got) != 6+2*3 {
		t.Errorf("%d files: %q", len(got), got)
	}
	b.add("6.rpm", "p", "6")
	b.must(Options{})
	if got := b.names(); len(got) != 6 {
		t.Errorf("%d files without --keep: %q", len(got), got)
	}
}

// Whatever is wrong, all of it is named, and the index is as it was.
func TestBadInputLeavesTheIndex(t *testing.T) {
	b := setup(t)
	b.add("good.rpm", "good", "1")
	b.must(Options{})
	good, err := os.ReadFile(b.path("good.rpm"))
	if err != nil {
		t.Fatal(err)
	}
	before := b.repodata()
	b.write("cut.rpm", good[:len(good)/3])
	b.write("empty.rpm", nil)
	b.write("text.rpm", []byte(strings.Repeat("no package ", 100)))
	b.write("new\nline.rpm", good)
	b.write("per%20cent.rpm", good)
	b.write("latin-\xe4.rpm", good)
	b.write(strings.Repeat("n", 251)+".rpm", good[:100])
	_, err = b.index(Options{})
	if err == nil {
		t.Fatal("indexed")
	}
	for _, name := range []string{"cut.rpm", "empty.rpm", "text.rpm", `new\nline.rpm`, "per%20cent.rpm", `latin-\xe4.rpm`, "nnnn.rpm"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named:\n%v", name, err)
		}
	}
	if strings.Contains(err.Error(), "good.rpm") || !errs.Is(err, errs.Invalid) {
		t.Errorf("%v", err)
	}
	if diff := cmp.Diff(before, b.repodata()); diff != "" {
		t.Errorf("the index changed:\n%s", diff)
	}
	if err := os.Symlink("nowhere", b.path("dangling.rpm")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.index(Options{}); !errs.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "dangling.rpm") {
		t.Errorf("%v", err)
	}
}

func TestABadFirstPackageLeavesNothing(t *testing.T) {
	b := setup(t)
	b.write("bad.rpm", []byte("x"))
	if _, err := b.index(Options{}); err == nil {
		t.Fatal("indexed")
	}
	if _, err := os.Stat(b.path("repodata")); !os.IsNotExist(err) {
		t.Errorf("repodata is there: %v", err)
	}
	if _, err := Index(t.Context(), b.path("nowhere"), Options{}); !errs.Is(err, errs.NotFound) {
		t.Errorf("%v", err)
	}
}

func TestTwoAtOnce(t *testing.T) {
	b := setup(t)
	b.add("a.rpm", "a", "1")
	b.must(Options{})
	unlock, err := lock(b.path("repodata"), b.dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.index(Options{}); !errs.Is(err, errs.Locked) {
		t.Errorf("%v", err)
	}
	unlock()
	if _, err := b.index(Options{}); err != nil {
		t.Error(err)
	}
}

// A state or data file that is not as it was is found: the index is made anew,
// with a notice, and right.
func TestDamageIsMadeGood(t *testing.T) {
	b := setup(t)
	for i := range 300 {
		b.add(fmt.Sprintf("%03d.rpm", i), fmt.Sprintf("p%d", i), "1")
	}
	b.must(Options{})
	for i, name := range b.names() {
		if name == ".slipway.lock" {
			continue
		}
		for _, damage := range []string{"flip", "cut", "remove"} {
			// What is in place now: names change as the index is made anew.
			name := b.names()[i]
			data, err := os.ReadFile(b.path("repodata/" + name))
			if err != nil {
				t.Fatal(err)
			}
			switch damage {
			case "flip":
				data[len(data)/2] ^= 4
				b.write("repodata/"+name, data)
			case "cut":
				b.write("repodata/"+name, data[:len(data)-9])
			case "remove":
				if err := os.Remove(b.path("repodata/" + name)); err != nil {
					t.Fatal(err)
				}
			}
			r := b.must(Options{})
			if got := b.packages(); len(got) != 300 {
				t.Errorf("%s, %s: %d packages", name, damage, len(got))
			}
			if !r.Written || r.Rebuilt == "" && !(name == "repomd.xml" && damage == "remove") {
				// A flipped bit in a field that nobody needs is repaired by the next change.
				if name != "repomd.xml" {
					t.Errorf("%s, %s: %+v", name, damage, r)
				}
			}
		}
	}
}

// A kill between any two writes leaves the old or the new index; what it left is
// cleaned by the next run that writes.
func TestWhatACrashLeftIsCleaned(t *testing.T) {
	b := setup(t)
	b.add("a.rpm", "a", "1")
	b.must(Options{})
	orphan := strings.Repeat("a", 64) + "-primary.xml.zst"
	for _, name := range []string{tempPrefix + "123", orphan, "slipway-0123456789abcdef.state", "mine.txt", strings.Repeat("b", 64) + "-comps.xml"} {
		b.write("repodata/"+name, []byte("x"))
	}
	b.add("b.rpm", "b", "1")
	b.must(Options{})
	got := b.names()
	if slices.Contains(got, orphan) || !slices.Contains(got, "mine.txt") || len(got) != 8 {
		t.Errorf("%q", got)
	}
}

// Records of other tools stay; data bases of createrepo_c go, since they would
// tell of other packages; and a signature of the old index goes.
func TestForeignRecords(t *testing.T) {
	b := setup(t)
	b.add("a.rpm", "a", "1")
	b.must(Options{})
	text, err := os.ReadFile(b.path("repodata/repomd.xml"))
	if err != nil {
		t.Fatal(err)
	}
	md, err := rpmmd.ReadRepomd(text)
	if err != nil {
		t.Fatal(err)
	}
	primary, _ := md.Record("primary")
	comps, db := primary, primary
	comps.Type, comps.Href = "group", "repodata/comps.xml"
	db.Type, db.Href = "primary_db", "repodata/x-primary.sqlite.bz2"
	b.write("repodata/comps.xml", []byte("<comps/>"))
	b.write("repodata/x-primary.sqlite.bz2", []byte("x"))
	b.write("repodata/repomd.xml", rpmmd.EncodeRepomd("9", append(md.Records, comps, db)))
	b.write("repodata/repomd.xml.asc", []byte("signature"))
	if r := b.must(Options{}); r.Written {
		t.Errorf("records of others are no reason to write: %+v", r)
	}
	b.add("b.rpm", "b", "1")
	if r := b.must(Options{}); !r.Unsigned || r.Rebuilt != "" {
		t.Errorf("%+v", r)
	}
	text, err = os.ReadFile(b.path("repodata/repomd.xml"))
	if err != nil {
		t.Fatal(err)
	}
	if md, err = rpmmd.ReadRepomd(text); err != nil {
		t.Fatal(err)
	}
	if got, ok := md.Record("group"); !ok || got != comps {
		t.Errorf("comps: %+v", got)
	}
	if _, ok := md.Record("primary_db"); ok || slices.Contains(b.names(), "x-primary.sqlite.bz2") || slices.Contains(b.names(), "repomd.xml.asc") || !slices.Contains(b.names(), "comps.xml") {
		t.Errorf("%q", b.names())
	}
}

func FuzzRemember(f *testing.F) {
	m := memory{state: &rpmmd.State{Compression: rpmmd.Zstd}, files: []file{{"a.rpm", 1, 2}}, older: [][]string{{"x"}}}
	f.Add(m.list())
	f.Fuzz(func(t *testing.T, b []byte) {
		var m memory
		if !m.readList(b) {
			return
		}
		var again memory
		if !again.readList(m.list()) || !slices.Equal(m.files, again.files) || len(m.older) != len(again.older) {
			t.Error("does not come back")
		}
	})
}
