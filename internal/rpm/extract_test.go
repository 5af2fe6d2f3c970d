package rpm

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/errs"
)

// tree lists a folder: one line per entry with mode, links, and size or target.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		st, err := os.Lstat(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		what := ""
		switch {
		case st.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			what = "-> " + target
		case st.Mode().IsRegular():
			what = fmt.Sprintf("%d bytes, %d", st.Size(), st.ModTime().Unix())
		}
		fmt.Fprintf(&b, "%v %s %s\n", st.Mode(), name, what)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// scratch is a folder that can be removed by those who are not root, whatever
// permissions a package gave to its folders.
func scratch(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				err = os.Chmod(path, 0o700)
			}
			return err
		})
	})
	return dir
}

func extract(t testing.TB, path, dir string) error {
	t.Helper()
	b := load(t, path)
	return Extract(bytes.NewReader(b), int64(len(b)), dir)
}

func TestExtractAsCpioDoes(t *testing.T) {
	t.Parallel()
	tool(t, "rpm2cpio", "rpm2cpio")
	tool(t, "cpio", "cpio")
	for _, payload := range payloads {
		for _, prefix := range []string{"rich-1.0~rc1-3.noarch", "rich-sub", "rich-empty", "rich-1.0~rc1-3.src"} {
			t.Run(payload+"/"+prefix, func(t *testing.T) {
				t.Parallel()
				path := pick(t, build(t, "rich", payload), prefix)
				theirs, ours := scratch(t), scratch(t)
				c := exec.CommandContext(t.Context(), "sh", "-c", `rpm2cpio "$0" | cpio --quiet -idm`, path)
				c.Dir = theirs
				if out, err := c.CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				if err := extract(t, path, ours); err != nil {
					t.Fatal(err)
				}
				// cpio gives the set-id bit, Extract on purpose does not.
				want := strings.ReplaceAll(tree(t, theirs), "urwxr-x---", "-rwxr-x---")
				// What no package owns has the umask of the moment.
				if diff := cmp.Diff(want, tree(t, ours)); diff != "" {
					t.Errorf("cpio, we:\n%s", diff)
				}
				if out, err := exec.CommandContext(t.Context(), "diff", "-r", "--no-dereference", theirs, ours).CombinedOutput(); err != nil {
					t.Errorf("%s", out)
				}
			})
		}
	}
}

func TestExtractKeepsHardLinks(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	if err := extract(t, pick(t, build(t, "rich", "w9.gzdio"), "rich-1"), dir); err != nil {
		t.Fatal(err)
	}
	for _, set := range [][]string{{"one", "two", "dir/three"}, {"empty", "empty2"}} {
		first, err := os.Stat(filepath.Join(dir, "usr/share/rich", set[0]))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range set[1:] {
			if st, err := os.Stat(filepath.Join(dir, "usr/share/rich", name)); err != nil || !os.SameFile(first, st) {
				t.Errorf("%s is not the same file as %s: %v", name, set[0], err)
			}
		}
	}
}

func TestExtractIntoWhatIsThere(t *testing.T) {
	t.Parallel()
	path := pick(t, build(t, "rich", "w9.gzdio"), "rich-1")
	dir, outside := scratch(t), scratch(t)
	if err := os.MkdirAll(filepath.Join(dir, "usr/share"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "usr/share/rich")); err != nil {
		t.Fatal(err)
	}
	err := extract(t, path, dir)
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "nothing is written through it") {
		t.Errorf("a symbolic link to outside: %v", err)
	}
	if files, _ := os.ReadDir(outside); len(files) != 0 {
		t.Errorf("written outside: %v", files)
	}

	dir = scratch(t)
	if err := extract(t, path, dir); err != nil {
		t.Fatal(err)
	}
	if err := extract(t, path, dir); !errs.Is(err, errs.Conflict) {
		t.Errorf("unpacked over itself: %v", err)
	}
	if err := extract(t, path, filepath.Join(dir, "missing")); !errs.Is(err, errs.Unavailable) {
		t.Errorf("into no folder: %v", err)
	}
}

// evil is one entry of an archive; the header lists what list says.
type evil struct {
	name string
	mode uint32
	data string
}

func newc(entries ...evil) []byte {
	var b bytes.Buffer
	for i, e := range append(entries, evil{name: "TRAILER!!!"}) {
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", i+1, e.mode, 0, 0, 1, 0, len(e.data), 0, 0, 0, 0, len(e.name)+1, 0)
		b.WriteString(e.name + "\x00")
		for (b.Len())%4 != 0 {
			b.WriteByte(0)
		}
		b.WriteString(e.data)
		for (b.Len())%4 != 0 {
			b.WriteByte(0)
		}
	}
	return b.Bytes()
}

// unpack runs an archive against the list of files that it has itself, so that
// only the names are wrong.
func unpack(t *testing.T, dir string, archive []byte, files []File) error {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	x := newExtractor(root, files)
	return x.run(&cpioReader{r: bytes.NewReader(archive), files: files})
}

func TestExtractRefusesEvilNames(t *testing.T) {
	t.Parallel()
	const link, file = typeSymlink | 0o777, typeRegular | 0o644
	for name, tt := range map[string]struct {
		entries []evil
		want    string
	}{
		"parent":           {[]evil{{"./../evil", file, "x"}}, "leaves the folder"},
		"deep parent":      {[]evil{{"./a/../../evil", file, "x"}}, "leaves the folder"},
		"double slash":     {[]evil{{"./a//b", file, "x"}}, "leaves the folder"},
		"dots only":        {[]evil{{"..", file, "x"}}, "leaves the folder"},
		"nul":              {[]evil{{"./a\x00b", file, "x"}}, "leaves the folder"},
		"absolute link":    {[]evil{{"./a", link, "OUTSIDE"}, {"./a/evil", file, "x"}}, `"a" is needed as a folder`},
		"relative link":    {[]evil{{"./a", link, "../outside"}, {"./a/evil", file, "x"}}, `"a" is needed as a folder`},
		"link inside":      {[]evil{{"./b", typeDir | 0o755, ""}, {"./a", link, "b"}, {"./a/evil", file, "x"}}, `"a" is needed as a folder`},
		"link as the file": {[]evil{{"./a", link, "OUTSIDE/evil"}, {"./a", file, "x"}}, "file exists"},
		"link then folder": {[]evil{{"./a", link, "OUTSIDE"}, {"./a", typeDir | 0o700, ""}}, `"a" is needed as a folder`},
		"long link":        {[]evil{{"./a", link, strings.Repeat("x", maxPath+1)}}, "a symbolic link of 4097 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			top := scratch(t)
			dir, outside := filepath.Join(top, "in"), filepath.Join(top, "outside")
			for _, d := range []string{dir, outside} {
				if err := os.Mkdir(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			var files []File
			for i := range tt.entries {
				e := &tt.entries[i]
				e.data = strings.Replace(e.data, "OUTSIDE", outside, 1)
				files = append(files, File{Path: strings.TrimPrefix(e.name, "."), Mode: e.mode, Size: int64(len(e.data))})
			}
			// A list has one line per name: the last wins, so both modes are let through.
			err := unpack(t, dir, newc(tt.entries...), files)
			if err == nil || !strings.Contains(err.Error(), tt.want) && !strings.Contains(err.Error(), "the header says") {
				t.Errorf("%v, want %s", err, tt.want)
			}
			if got := tree(t, outside); got != "" {
				t.Errorf("written outside: %s", got)
			}
			if files, _ := os.ReadDir(top); len(files) != 2 {
				t.Errorf("written outside: %v", files)
			}
		})
	}
}

func TestExtractHoldsPayloadToTheHeader(t *testing.T) {
	t.Parallel()
	one := []File{{Path: "/a", Mode: typeRegular | 0o644, Size: 1}}
	whole := newc(evil{"./a", typeRegular | 0o644, "x"})
	for name, tt := range map[string]struct {
		archive []byte
		files   []File
		want    string
	}{
		"not listed":  {whole, nil, "not in the header's list"},
		"other type":  {whole, []File{{Path: "/a", Mode: typeDir}}, "the header says"},
		"other size":  {whole, []File{{Path: "/a", Mode: typeRegular, Size: 2}}, "has 1 bytes, the header says 2"},
		"no archive":  {[]byte("hello, world"), one, `no cpio entry: found "hello,"`},
		"no trailer":  {whole[:116], one, "unexpected EOF"},
		"cut in data": {whole[:112], one, "unexpected EOF"},
		"no number":   {append([]byte("070701zzzzzzzz"), whole[14:]...), one, "where a number belongs"},
		"long name":   {bytes.Replace(whole, []byte("00000004"+"00000000"), []byte("ffffffff"+"00000000"), 1), one, "a name of 4294967295 bytes"},
		"no index":    {[]byte("07070X00000001\x00\x00"), one, "file 1 of 1"},
	} {
		if err := unpack(t, scratch(t), tt.archive, tt.files); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
}

// TestStrippedEntries: rpm's own form of the archive, for packages with files of
// more than 4 GiB, takes everything but the data from the header.
func TestStrippedEntries(t *testing.T) {
	t.Parallel()
	files := []File{
		{Path: "/d", Mode: typeDir | 0o555}, // filled all the same, by those who are not root too
		{Path: "/d/a", Mode: typeRegular | 0o644, Size: 3, Inode: 2},
		{Path: "/d/b", Mode: typeRegular | 0o644, Size: 3, Inode: 2},
		{Path: "/d/c", Mode: typeRegular | 0o600, Size: 5, Inode: 3},
		{Path: "/d/l", Mode: typeSymlink | 0o777, Link: "c", Size: 1},
	}
	archive := "07070X00000000\x00\x00" + "07070X00000001\x00\x00" + "07070X00000002\x00\x00abc\x00" +
		"07070X00000003\x00\x00hello\x00\x00\x00" + "07070X00000004\x00\x00c\x00\x00\x00" + string(newc())
	dir := scratch(t)
	if err := unpack(t, dir, []byte(archive), files); err != nil {
		t.Fatal(err)
	}
	want := "dr-xr-xr-x d \n-rw-r--r-- d/a 3 bytes, 0\n-rw-r--r-- d/b 3 bytes, 0\n-rw------- d/c 5 bytes, 0\nLrwxrwxrwx d/l -> c\n"
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Error(diff)
	}
}

func TestDecompressRefuses(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"unknown": "hello",
		"empty":   "",
		// Dictionary 40: 4 GiB - 1, in the first block of an otherwise sound stream.
		"xz dictionary": "\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4\x46\x02\x00\x21\x01\x28\x00\x00\x00\x8f\x98\x41\x9c",
		"xz filter":     "\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4\x46\x02\x00\x04\x00\x21\x01\x16\x00\x00\x00\x00\x00",
		"zstd window":   "\x28\xb5\x2f\xfd\x00\xff\x00\x00\x00\x00",
	} {
		r, err := decompress(strings.NewReader(in))
		if err == nil {
			_, err = r.Read(make([]byte, 1))
		}
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
