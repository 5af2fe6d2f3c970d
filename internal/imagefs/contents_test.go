package imagefs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"slipway/internal/errs"
	"slipway/internal/imagefs"
)

// run is tool for programs that are not of e2fsprogs.
func run(t testing.TB, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v (apt-get install squashfs-tools dosfstools mtools attr)\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// listed are the files of the first part of an image, with content.
func listed(t testing.TB, path string) map[string]string {
	t.Helper()
	c, err := imagefs.OpenContents(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	out := map[string]string{}
	err = c.Parts[0].Walk(t.Context(), func(f *imagefs.File) error {
		s := fmt.Sprintf("%s %q %x ", f.Mode, f.Link, f.Caps)
		if f.Mode.IsRegular() && f.Hard == "" {
			r, err := f.Open()
			if err != nil {
				return err
			}
			b, err := io.ReadAll(r)
			if err != nil || int64(len(b)) != f.Size {
				return fmt.Errorf("%s: %d of %d bytes, %w", f.Path, len(b), f.Size, err)
			}
			s += string(b)
		}
		out[f.Path] = s
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func same(t *testing.T, name string, got, want map[string]string) {
	t.Helper()
	short := func(s string) string { return s[:min(len(s), 60)] }
	for n, w := range want {
		if g, ok := got[n]; g != w {
			t.Errorf("%s: %s is %v %q (%d), not %q (%d)", name, n, ok, short(g), len(g), short(w), len(w))
		}
	}
	for n := range got {
		if _, ok := want[n]; !ok && n != "lost+found" {
			t.Errorf("%s: %s is too much", name, n)
		}
	}
}

// TestContents: the same tree from a folder, as the kernel shows it, and from each
// kind of file system, as its own tools made it.
func TestContents(t *testing.T) {
	t.Parallel()
	dir := files(t)
	if err := errors.Join(os.Chmod(filepath.Join(dir, "usr/bin/tool"), 0o755|fs.ModeSetuid), os.Link(filepath.Join(dir, "usr/bin/tool"), filepath.Join(dir, "hard")), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	want := listed(t, dir)
	if len(want) < 300 || !strings.HasPrefix(want["hard"], "urwxr-xr-x") {
		t.Fatal(len(want), want["hard"])
	}
	for _, args := range [][]string{{"-t", "ext4"}, {"-t", "ext4", "-b", "1024", "-I", "128"}, {"-t", "ext3"}, {"-t", "ext2", "-b", "1024"}, {"-t", "ext4", "-O", "^extents,^64bit"}} {
		image := filepath.Join(t.TempDir(), "image")
		tool(t, append(append([]string{"mke2fs", "-q", "-F", "-d", dir}, args...), image, "8M")...)
		same(t, strings.Join(args, " "), listed(t, image), want)
	}
	for _, args := range [][]string{nil, {"-comp", "xz"}, {"-comp", "zstd", "-b", "4096"}, {"-comp", "lz4"}, {"-comp", "lz4", "-Xhc"}, {"-noI", "-noD", "-noF", "-noX"}, {"-no-fragments"}, {"-always-use-fragments", "-b", "1M"}} {
		image := filepath.Join(t.TempDir(), "image")
		run(t, append([]string{"mksquashfs", dir, image, "-quiet", "-no-progress", "-all-root"}, args...)...)
		same(t, strings.Join(args, " "), listed(t, image), want)
	}
	for _, program := range []string{"cat", "gzip", "xz", "zstd -q", "bzip2"} {
		image := filepath.Join(t.TempDir(), "image")
		run(t, "sh", "-c", "tar -C "+dir+" -c . | "+program+" >"+image)
		got := listed(t, image)
		for _, n := range []string{"hard", "usr/bin/tool"} { // one of them is a hard link to the other: no content of its own
			if strings.HasSuffix(got[n], " ") {
				got[n] = want[n]
			}
		}
		same(t, "tar, "+program, got, want)
	}
}

// TestCapabilities: attributes in the inode, in a block of their own, and of squashfs.
func TestCapabilities(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	value := filepath.Join(t.TempDir(), "value")
	const caps = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "ping"), []byte("x"), 0o755), os.WriteFile(value, []byte(caps), 0o644)); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%x", caps)
	for _, size := range []string{"128", "256"} {
		image := filepath.Join(t.TempDir(), "image")
		tool(t, "mke2fs", "-q", "-F", "-t", "ext4", "-I", size, "-d", dir, image, "8M")
		tool(t, "debugfs", "-w", "-R", "ea_set -f "+value+" ping security.capability", image)
		if got := listed(t, image)["ping"]; !strings.Contains(got, want) {
			t.Errorf("inodes of %s bytes: %q", size, got)
		}
	}
	image := filepath.Join(t.TempDir(), "image")
	// In a user namespace, so that who is not root may set the attribute, too.
	run(t, "unshare", "-r", "sh", "-c", "setfattr -n security.capability -v 0x"+want+" "+dir+"/ping && setfattr -n user.other -v x "+dir+"/ping && mksquashfs "+dir+" "+image+" -quiet -no-progress -all-root")
	if got := listed(t, image)["ping"]; !strings.Contains(got, want) {
		t.Errorf("squashfs: %q", got)
	}
}

// TestSecondOpinion: what unsquashfs says of modes, owners and sizes.
func TestSecondOpinion(t *testing.T) {
	t.Parallel()
	image := filepath.Join(t.TempDir(), "image")
	run(t, "mksquashfs", files(t), image, "-quiet", "-no-progress", "-root-owned", "-p", "dev/null c 666 0 0 1 3", "-p", "dev d 755 0 0", "-p", "pipe i 600 5 7 f", "-p", "huge f 4711 1000 70000 head -c 3000000 /dev/zero")
	c, err := imagefs.OpenContents(t.Context(), image)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var got, want []string
	err = c.Parts[0].Walk(t.Context(), func(f *imagefs.File) error {
		mode := strings.ToLower(f.Mode.String())
		got = append(got, fmt.Sprintf("%s %d/%d %s", mode[len(mode)-9:], f.UID, f.GID, f.Path))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(run(t, "unsquashfs", "-lln", image)) {
		if w := strings.Fields(line); len(w) >= 6 && len(w[0]) == 10 {
			name := strings.TrimPrefix(strings.TrimPrefix(w[len(w)-1], "squashfs-root"), "/")
			if i := strings.Index(line, " -> "); i >= 0 {
				name = strings.TrimPrefix(strings.Fields(line[strings.Index(line, "squashfs-root/"):i])[0], "squashfs-root/")
			}
			if name == "" {
				name = "."
			}
			mode := strings.NewReplacer("s", "x", "t", "x").Replace(w[0][1:])
			want = append(want, fmt.Sprintf("%s %s %s", mode, w[1], name))
		}
	}
	sort.Strings(got)
	sort.Strings(want)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("we say\n%s\nunsquashfs says\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestFAT(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	large := strings.Repeat("0123456789abcdef", 20000)
	for name, text := range map[string]string{"a long name, with a point.conf": "long", "SHORT.TXT": "short", "large": large, "empty": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, bits := range []string{"12", "16", "32"} {
		image := filepath.Join(t.TempDir(), "image")
		run(t, "mkfs.vfat", "-C", "-F", bits, "-s", "1", "-n", "BOOT", image, map[string]string{"12": "2048", "16": "16384", "32": "66000"}[bits])
		run(t, "mmd", "-i", image, "::/efi", "::/efi/boot")
		for _, name := range []string{"a long name, with a point.conf", "large", "empty"} {
			run(t, "mcopy", "-i", image, filepath.Join(dir, name), "::/efi/boot/"+name)
		}
		run(t, "mcopy", "-i", image, filepath.Join(dir, "SHORT.TXT"), "::/SHORT.TXT")
		for i := range 12 { // a folder of several clusters
			run(t, "mcopy", "-i", image, filepath.Join(dir, "SHORT.TXT"), fmt.Sprintf("::/efi/a name of many letters, number %d", i))
		}
		run(t, "mdel", "-i", image, "::/efi/a name of many letters, number 3")
		got := listed(t, image)
		if len(got) != 1+2+3+1+11 || !strings.HasSuffix(got["efi/boot/large"], large) || !strings.HasSuffix(got["SHORT.TXT"], " short") || !strings.HasSuffix(got["efi/boot/a long name, with a point.conf"], " long") {
			t.Errorf("FAT%s: %d %v", bits, len(got), got["SHORT.TXT"])
		}
		if c, err := imagefs.OpenContents(t.Context(), image); err != nil || c.Kind != "vfat" || c.Parts[0].Name != "BOOT" {
			t.Errorf("%+v %v", c, err)
		} else {
			c.Close()
		}
	}
}

// TestMBR: partitions as sfdisk writes them, logical ones too.
func TestMBR(t *testing.T) {
	t.Parallel()
	fsImage, err := os.ReadFile(bare(t))
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "disk")
	b := make([]byte, 64<<20)
	put := func(at uint32, typ byte, start, sectors uint32, slot int) {
		e := b[at*512+446+uint32(slot)*16:]
		e[4] = typ
		for i := range 4 {
			e[8+i], e[12+i] = byte(start>>(8*i)), byte(sectors>>(8*i))
		}
		b[at*512+510], b[at*512+511] = 0x55, 0xaa
	}
	put(0, 0x83, 2048, 16384, 0)
	put(0, 0x05, 20480, 100000, 1)
	put(20480, 0x83, 2048, 16384, 0)
	put(20480, 0x05, 30000, 20000, 1)
	put(20480+30000, 0x83, 2048, 16384, 0)
	for _, at := range []int{2048, 20480 + 2048, 20480 + 30000 + 2048} {
		copy(b[at*512:], fsImage)
	}
	if err := os.WriteFile(image, b, 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := imagefs.OpenContents(t.Context(), image)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if len(c.Parts) != 3 || c.Parts[2].Offset != (20480+30000+2048)*512 || c.Parts[2].Kind != "ext4" || !c.Parts[1].Readable() {
		t.Errorf("%+v", c.Parts)
	}
	for name, change := range map[string]func(){
		"truncated": func() { put(0, 0x83, 2048, 1<<24, 0) },
		"circle":    func() { put(0, 0x83, 2048, 16384, 0); put(20480+30000, 0x05, 30000, 20000, 1) },
		"no table":  func() { put(0, 0x05, 40000, 100000, 1) },
	} {
		change()
		if err := os.WriteFile(image, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if c, err := imagefs.OpenContents(t.Context(), image); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %+v %v", name, c, err)
		}
	}
}

// everything reads all that an image holds, as far as a fuzzer has time for.
func everything(ctx context.Context, path string) error {
	c, err := imagefs.OpenContents(ctx, path)
	if err != nil {
		return err
	}
	defer c.Close()
	for i := range c.Parts {
		if !c.Parts[i].Readable() {
			continue
		}
		n := 0
		err := c.Parts[i].Walk(ctx, func(f *imagefs.File) error {
			if n++; n > 5000 {
				return io.EOF
			}
			if !f.Mode.IsRegular() {
				return nil
			}
			r, err := f.Open()
			if err != nil {
				return err
			}
			_, err = io.CopyN(io.Discard, r, 1<<20)
			if err == io.EOF {
				err = nil
			}
			return err
		})
		if err != nil && err != io.EOF {
			return err
		}
	}
	return nil
}

// FuzzContents: images whose bytes were changed are read, or refused.
func FuzzContents(f *testing.F) {
	dir := f.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "a"), bytes.Repeat([]byte("some text "), 2000), 0o644), os.MkdirAll(filepath.Join(dir, "d/e"), 0o755), os.WriteFile(filepath.Join(dir, "d/e/b"), []byte("b"), 0o644), os.Symlink("a", filepath.Join(dir, "l"))); err != nil {
		f.Fatal(err)
	}
	run(f, "setfattr", "-n", "user.other", "-v", "x", filepath.Join(dir, "a"))
	var bases [][]byte
	add := func(path string) {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		bases = append(bases, b)
		for _, p := range [][]byte{nil, {0, 10, 255}, {0, 40, 1, 0, 96, 3}} {
			f.Add(byte(len(bases)-1), p)
		}
	}
	for _, args := range [][]string{nil, {"-comp", "lz4"}, {"-noI", "-noD", "-noF", "-noX"}} {
		image := filepath.Join(f.TempDir(), "image")
		run(f, append([]string{"mksquashfs", dir, image, "-quiet", "-no-progress", "-all-root", "-nopad"}, args...)...)
		add(image)
	}
	fat := filepath.Join(f.TempDir(), "image")
	run(f, "mkfs.vfat", "-C", "-s", "1", fat, "128")
	run(f, "mmd", "-i", fat, "::/d")
	run(f, "mcopy", "-i", fat, filepath.Join(dir, "a"), "::/d/a long name of a file")
	add(fat)
	tarball := filepath.Join(f.TempDir(), "image")
	run(f, "tar", "-C", dir, "-cf", tarball, ".")
	add(tarball)
	f.Fuzz(func(t *testing.T, which byte, patches []byte) {
		b := bytes.Clone(bases[int(which)%len(bases)])
		for ; len(patches) >= 3; patches = patches[3:] {
			b[(int(patches[0])<<8|int(patches[1]))%len(b)] = patches[2]
		}
		path := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := everything(t.Context(), path); err != nil && !errs.Is(err, errs.Invalid) && !errs.Is(err, errs.NotFound) {
			t.Errorf("%v", err)
		}
	})
}
