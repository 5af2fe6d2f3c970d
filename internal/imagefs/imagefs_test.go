package imagefs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"slipway/internal/errs"
	"slipway/internal/imagefs"
)

// tool runs a program of e2fsprogs or gdisk.
func tool(t testing.TB, argv ...string) string {
	t.Helper()
	path, err := exec.LookPath("/usr/sbin/" + argv[0])
	if err != nil {
		t.Fatalf("%s is not installed: apt-get install %s", argv[0], map[string]string{"sgdisk": "gdisk"}[argv[0]]+" e2fsprogs")
	}
	cmd := exec.Command(path, argv[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "E2FSPROGS_FAKE_TIME=1767614400")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// files makes a small tree with what is easily read wrongly.
func files(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write("boot/vmlinuz-6.1", strings.Repeat("kernel", 50000))
	write("boot/holes", "begin"+strings.Repeat("\x00", 300000)+"middle"+strings.Repeat("\x00", 100000)+"end")
	write("boot/empty", "")
	write("usr/bin/tool", "tool\n")
	for i := range 300 {
		write(fmt.Sprintf("many/a-name-that-is-not-short-%03d", i), fmt.Sprint(i))
	}
	for name, to := range map[string]string{"bin": "usr/bin", "boot/vmlinuz": "/boot/vmlinuz-6.1", "up": "../../../usr/bin/tool", "loop": "loop2", "loop2": "/loop",
		"long": strings.Repeat("./", 100) + "usr/bin/tool", "dangling": "/nowhere", "through": "/bin/tool/../x"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// bare makes an ext4 file system of 8 MiB with those files.
func bare(t testing.TB, options ...string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "bare.img")
	tool(t, append(append([]string{"mke2fs", "-q", "-F", "-t", "ext4", "-U", "11111111-2222-3333-4444-555555555555", "-L", "fs", "-d", files(t)}, options...), image, "8M")...)
	return image
}

func open(t testing.TB, name string) *imagefs.Image {
	t.Helper()
	img, err := imagefs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = img.Close() })
	return img
}

func TestRead(t *testing.T) {
	t.Parallel()
	for _, options := range [][]string{nil, {"-b", "1024"}, {"-b", "4096", "-I", "128", "-O", "^64bit,^metadata_csum"}, {"-O", "metadata_csum_seed,^has_journal", "-b", "2048"}} {
		t.Run(strings.Join(options, " "), func(t *testing.T) {
			t.Parallel()
			img := open(t, bare(t, options...))
			if img.Label != "fs" || img.UUID.String() != "11111111-2222-3333-4444-555555555555" || img.Table != nil || img.Replayed != 0 {
				t.Errorf("%+v", img)
			}
			kernel := strings.Repeat("kernel", 50000)
			for name, want := range map[string]string{"boot/vmlinuz-6.1": kernel, "boot/vmlinuz": kernel, "bin/tool": "tool\n", "up": "tool\n", "long": "tool\n", "boot/empty": "",
				"many/a-name-that-is-not-short-299": "299", "boot/holes": "begin" + strings.Repeat("\x00", 300000) + "middle" + strings.Repeat("\x00", 100000) + "end"} {
				if got, err := img.ReadFile(name); err != nil || string(got) != want {
					t.Errorf("%s: %d bytes, %v", name, len(got), err)
				}
			}
			f, err := img.Open("boot/holes")
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 20)
			if n, err := f.(io.ReaderAt).ReadAt(b, 300000); err != nil || n != 20 || string(b) != "\x00\x00\x00\x00\x00middle\x00\x00\x00\x00\x00\x00\x00\x00\x00" {
				t.Errorf("%q %v", b, err)
			}
			if n, err := f.(io.ReaderAt).ReadAt(b, 400005); n != 9 || err != io.EOF || string(b[:n]) != "\x00\x00\x00\x00\x00\x00end" {
				t.Errorf("%q %v", b[:n], err)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	img := open(t, bare(t))
	for name, kind := range map[string]errs.Kind{"nowhere": errs.NotFound, "dangling": errs.NotFound, "boot/nowhere/x": errs.NotFound, "usr/bin/tool/x": errs.NotFound, "through": errs.NotFound,
		"loop": errs.Invalid, "loop/x": errs.Invalid, "boot": errs.Invalid, "/boot/vmlinuz": errs.Invalid, "../x": errs.Invalid} {
		_, err := img.ReadFile(name)
		if !errs.Is(err, kind) || errors.Is(err, fs.ErrNotExist) != (kind == errs.NotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if to, err := img.ReadLink("dangling"); to != "/nowhere" || err != nil {
		t.Error(to, err)
	}
	if fi, err := img.Lstat("loop"); err != nil || fi.Mode()&fs.ModeSymlink == 0 {
		t.Error(fi, err)
	}
	if _, err := imagefs.Open(filepath.Join(t.TempDir(), "none")); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
}

func TestFS(t *testing.T) {
	t.Parallel()
	image := bare(t)
	// fstest opens each name: the links of the tree that lead nowhere go first.
	tool(t, "debugfs", "-w", "-R", "rm dangling", image)
	tool(t, "debugfs", "-w", "-R", "rm loop", image)
	tool(t, "debugfs", "-w", "-R", "rm loop2", image)
	tool(t, "debugfs", "-w", "-R", "rm through", image)
	if err := fstest.TestFS(open(t, image), "boot/vmlinuz-6.1", "usr/bin/tool", "many/a-name-that-is-not-short-000"); err != nil {
		t.Error(err)
	}
}

// TestJournal: what a guest's journal holds and its file system does not yet.
func TestJournal(t *testing.T) {
	t.Parallel()
	for _, options := range [][]string{{"-b", "4096"}, {"-b", "1024", "-O", "^64bit"}, {"-b", "4096", "-O", "^metadata_csum"}} {
		t.Run(strings.Join(options, " "), func(t *testing.T) {
			t.Parallel()
			image := bare(t, options...)
			block := strings.TrimSpace(tool(t, "debugfs", "-R", "bmap /usr/bin/tool 0", image))
			block = block[strings.LastIndexByte(block, '\n')+1:]
			size := 4096
			if options[1] == "1024" {
				size = 1024
			}
			dir := t.TempDir()
			journal := func(text string, revoke bool) {
				data := filepath.Join(dir, "data")
				if err := os.WriteFile(data, append([]byte(text), make([]byte, size-len(text))...), 0o644); err != nil {
					t.Fatal(err)
				}
				how := "jw -b " + block + " " + data
				if revoke {
					how = "jw -r " + block
				}
				script := filepath.Join(dir, "script")
				if err := os.WriteFile(script, []byte("jo\n"+how+"\njc\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				tool(t, "debugfs", "-w", "-f", script, image)
			}
			for _, step := range []struct {
				text   string
				revoke bool
				want   string
			}{{"TOOL\n", false, "TOOL\n"}, {"last\n", false, "last\n"}, {"", true, "tool\n"}, {"\xc0\x3b\x39\x98\n", false, "\xc0\x3b\x39\x98\n"}} {
				journal(step.text, step.revoke)
				img := open(t, image)
				got, err := img.ReadFile("usr/bin/tool")
				if err != nil || string(got) != step.want || !step.revoke && img.Replayed != 1 {
					t.Errorf("after %q: %q, %d blocks, %v", step.text, got, img.Replayed, err)
				}
			}
			// The kernel's own tool agrees.
			tool(t, "e2fsck", "-E", "journal_only", "-fy", image)
			img := open(t, image)
			if got, err := img.ReadFile("usr/bin/tool"); err != nil || string(got) != "\xc0\x3b\x39\x98\n" || img.Replayed != 0 {
				t.Errorf("after e2fsck: %q, %d, %v", got, img.Replayed, err)
			}
		})
	}
}

func TestUnknownAndTruncated(t *testing.T) {
	t.Parallel()
	whole, err := os.ReadFile(bare(t))
	if err != nil {
		t.Fatal(err)
	}
	with := func(at int, text string) []byte {
		b := make([]byte, 8192)
		copy(b[at:], text)
		return b
	}
	flipped := bytes.Clone(whole)
	flipped[1024+0x20] ^= 1
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "the file is empty"},
		{"zeros", make([]byte, 5000), "5000 bytes that begin with zeros"},
		{"gzip", with(0, "\x1f\x8b\x08"), "it is gzip; unpack it first"},
		{"squashfs", with(0, "hsqs"), "squashfs"},
		{"qcow2", with(0, "QFI\xfb"), "qemu-img"},
		{"tar", with(257, "ustar"), "a tar archive"},
		{"mbr", with(510, "\x55\xaa"), "an MBR partition table"},
		{"text", []byte("hello, world"), `begin with "hello, w"`},
		{"truncated", whole[:1<<20], "image is truncated: the file system has 8388608 bytes, there are 1048576"},
		{"superblock only", whole[:2048], "truncated"},
		{"damaged superblock", flipped, "checksum of the superblock"},
	} {
		_, err := imagefs.New(bytes.NewReader(tt.data), int64(len(tt.data)))
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	inline := filepath.Join(t.TempDir(), "inline")
	tool(t, "mke2fs", "-q", "-F", "-t", "ext4", "-O", "inline_data", inline, "8M")
	if _, err := imagefs.Open(inline); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "inline_data") {
		t.Error(err)
	}
}

// TestLies: folders that go in circles, and files larger than their image.
func TestLies(t *testing.T) {
	t.Parallel()
	for name, commands := range map[string][]string{
		"circle": {"ln usr usr/again"},
		"twice":  {"ln usr usr2"},
		"huge":   {"set_inode_field /usr/bin/tool size 70368744177664"},
		"folder": {"set_inode_field /usr/bin size 70368744177664"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			image := bare(t)
			for _, c := range commands {
				tool(t, "debugfs", "-w", "-R", c, image)
			}
			if err := visit(open(t, image)); !errs.Is(err, errs.Invalid) {
				t.Errorf("%v", err)
			}
		})
	}
}

// visit reads all that an image holds.
func visit(img *imagefs.Image) error {
	return fs.WalkDir(img, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type().IsRegular() {
			_, err = img.ReadFile(name)
		} else if d.Type()&fs.ModeSymlink != 0 {
			_, err = img.ReadLink(name)
		}
		return err
	})
}

func FuzzImage(f *testing.F) {
	// Without checksums, or nothing would come further than those.
	image := filepath.Join(f.TempDir(), "small.img")
	dir := f.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte(name), 3000), 0o644); err != nil {
			f.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "d"), 0o755), os.Symlink("d/../a", filepath.Join(dir, "l"))); err != nil {
		f.Fatal(err)
	}
	tool(f, "mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-N", "32", "-O", "^metadata_csum,^has_journal,^resize_inode", "-d", dir, image, "128K")
	base, err := os.ReadFile(image)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Add([]byte{0x04, 0x18, 1, 0x04, 0x58, 0}) // superblock: block size, inode size
	f.Add([]byte{0x14, 0x80, 9, 0x14, 0xa8, 0xff})
	f.Fuzz(func(t *testing.T, patches []byte) {
		b := bytes.Clone(base)
		for ; len(patches) >= 3; patches = patches[3:] {
			b[(int(patches[0])<<8|int(patches[1]))%len(b)] = patches[2]
		}
		img, err := imagefs.New(bytes.NewReader(b), int64(len(b)))
		if err == nil {
			err = visit(img)
		}
		if err != nil && !errs.Is(err, errs.Invalid) && !errs.Is(err, errs.NotFound) {
			t.Errorf("%v", err)
		}
	})
}
