package security_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway/internal/check/security"
	"slipway/internal/errs"
	"slipway/internal/imagefs"
)

// faulty is a tree with faults that every kind of image can carry.
func faulty() map[string]node {
	tree := sound()
	for name, n := range map[string]node{"etc/shadow": {text: "root::1::::::\n", mode: 0o400}, "opt/setuid": {text: "x", mode: 0o4755}, "opt/open": {folder: true, mode: 0o777}, "opt/key": {text: key},
		"opt/large": {text: strings.Repeat("some text\n", 60000) + key}, "root/.ssh/authorized_keys": {text: "ssh-ed25519 AAAA me\n"}} {
		tree[name] = n
	}
	return tree
}

var faults = []string{"block authorized-key:root/.ssh/authorized_keys", "block password:root", "block private-key:opt/key", "block private-key:opt/large", "block setuid:opt/setuid", "block world-writable:opt/open"}

// disk puts file systems into partitions.
func disk(t *testing.T, gpt bool, parts ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "disk.wic")
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	table := imagefs.Table{Disk: imagefs.MustGUID("11111111-2222-3333-4444-555555555555")}
	mbr := make([]byte, 512)
	mbr[510], mbr[511] = 0x55, 0xaa
	at := int64(imagefs.TableSpace)
	for i, p := range parts {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		size := int64(len(b)+imagefs.TableSpace-1) &^ (imagefs.TableSpace - 1)
		id := imagefs.MustGUID("11111111-2222-3333-4444-666666666666")
		id[0] = byte(i)
		table.Partitions = append(table.Partitions, imagefs.Partition{Type: imagefs.LinuxData, ID: id, Name: filepath.Base(p), Start: at, Size: size})
		e := mbr[446+16*i:]
		e[4] = 0x83
		for j := range 4 {
			e[8+j], e[12+j] = byte(at/512>>(8*j)), byte(size/512>>(8*j))
		}
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
		at += size
	}
	at += imagefs.TableSpace
	err = f.Truncate(at)
	if gpt {
		err = errors.Join(err, table.Write(f, at))
	} else {
		_, e := f.WriteAt(mbr, 0)
		err = errors.Join(err, e)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func ext(t *testing.T, kind, dir string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), kind)
	tool(t, "mke2fs", "-q", "-F", "-t", kind, "-d", dir, out, "12M")
	return out
}

// vfat makes a boot partition; mtools is not needed for an empty one.
func vfat(t *testing.T, bits string, files map[string]string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "boot")
	size := map[string]string{"12": "2048", "16": "16384", "32": "66000"}[bits]
	tool(t, "mkfs.vfat", "-C", "-F", bits, "-s", "1", "-n", "BOOT", out, size)
	for name, text := range files {
		from := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(from, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		at := ""
		for _, d := range strings.Split(filepath.Dir(name), "/") {
			if at += "/" + d; d != "." {
				tool(t, "mmd", "-D", "s", "-i", out, "::"+at)
			}
		}
		tool(t, "mcopy", "-i", out, from, "::/"+name)
	}
	return out
}

// TestKinds: the same faults are found in every kind of image.
func TestKinds(t *testing.T) {
	t.Parallel()
	dir := unpack(t, faulty())
	squash := func(args ...string) string {
		out := filepath.Join(t.TempDir(), "squash")
		tool(t, append([]string{"mksquashfs", dir, out, "-quiet", "-no-progress", "-all-root"}, args...)...)
		return out
	}
	packed := func(from, program, ending string) string {
		out := filepath.Join(t.TempDir(), "image"+ending)
		tool(t, "sh", "-c", program+" <"+from+" >"+out)
		return out
	}
	tarball := pack(t, faulty())
	ext4 := ext(t, "ext4", dir)
	boot := vfat(t, "16", map[string]string{"EFI/BOOT/grub.cfg": "linux /bzImage init=/bin/sh\n", "A long name.txt": "x"})
	for name, tt := range map[string]struct {
		file, kind string
		also       []string
	}{
		"folder":             {dir, "folder", nil},
		"tar":                {tarball, "tar", nil},
		"tar.gz":             {packed(tarball, "gzip", ".tar.gz"), "tar, gzip", nil},
		"tar.xz":             {packed(tarball, "xz", ".tar.xz"), "tar, xz", nil},
		"tar.zst":            {packed(tarball, "zstd -q", ".tar.zst"), "tar, zstd", nil},
		"tar.bz2":            {packed(tarball, "bzip2", ".tar.bz2"), "tar, bzip2", nil},
		"ext4":               {ext4, "ext4", nil},
		"ext3":               {ext(t, "ext3", dir), "ext3", nil},
		"ext2":               {ext(t, "ext2", dir), "ext2", nil},
		"ext4.gz":            {packed(ext4, "gzip", ".ext4.gz"), "ext4, gzip", nil},
		"squashfs":           {squash(), "squashfs", nil},
		"squashfs by xz":     {squash("-comp", "xz"), "squashfs", nil},
		"squashfs by zstd":   {squash("-comp", "zstd"), "squashfs", nil},
		"squashfs by lz4":    {squash("-comp", "lz4"), "squashfs", nil},
		"squashfs, no tails": {squash("-no-fragments", "-b", "4096", "-noI", "-noD"), "squashfs", nil},
		"wic":                {disk(t, true, ext4), "disk", nil},
		"wic.zst":            {packed(disk(t, true, ext4), "zstd -q", ".wic.zst"), "disk, zstd", nil},
		"wic with MBR":       {disk(t, false, squash()), "disk", nil},
		"wic with boot":      {disk(t, false, boot, ext4), "disk", []string{"block debug-shell:p1/EFI/BOOT/grub.cfg"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := examine(t, tt.file, security.Options{})
			want := slices.Clone(faults)
			if tt.also != nil {
				for i, id := range want {
					rule, object, _ := strings.Cut(id, ":")
					want[i] = rule + ":p2/" + object
				}
				want = append(want, tt.also...)
			}
			slices.Sort(want)
			if got := told(r); !slices.Equal(got, want) || r.Kind != tt.kind {
				t.Errorf("%s: %s", r.Kind, strings.Join(got, "\n"))
			}
			for _, f := range r.Findings {
				if f.Rule == "private-key" && f.Object == "opt/large" && f.Line != 60001 {
					t.Errorf("%+v", f)
				}
			}
		})
	}
}

// TestTwoRoots: a disk with two systems is judged for both.
func TestTwoRoots(t *testing.T) {
	t.Parallel()
	r := examine(t, disk(t, true, ext(t, "ext4", unpack(t, sound())), ext(t, "ext4", unpack(t, faulty()))), security.Options{})
	for i, id := range told(r) {
		rule, object, _ := strings.Cut(faults[i], ":")
		if want := rule + ":p2/" + object; id != want {
			t.Errorf("%s, not %s", id, want)
		}
	}
	if !r.Parts[0].Root || !r.Parts[1].Root || r.Parts[1].Name != "ext4" || len(r.Findings) != len(faults) {
		t.Errorf("%+v", r.Parts)
	}
}

// TestBad: what cannot be read is an error, whatever it is, and names the reason.
func TestBad(t *testing.T) {
	t.Parallel()
	dir := unpack(t, faulty())
	squash := filepath.Join(t.TempDir(), "squash")
	tool(t, "mksquashfs", dir, squash, "-quiet", "-no-progress", "-all-root")
	tarball := pack(t, faulty())
	zipped := filepath.Join(t.TempDir(), "x.tar.gz")
	tool(t, "sh", "-c", "gzip <"+tarball+" >"+zipped)
	ext4 := ext(t, "ext4", dir)
	wic := disk(t, true, ext4)
	boot := vfat(t, "12", nil)
	for _, file := range []string{squash, tarball, zipped, ext4, wic, boot} {
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, keep := range []int{0, 100, 512, len(whole) / 3, len(whole) / 2, len(whole) - 4096, len(whole) - 1024} {
			if keep < 0 || file == boot && keep == len(whole)-1024 {
				continue
			}
			cut := filepath.Join(t.TempDir(), filepath.Base(file))
			if err := os.WriteFile(cut, whole[:keep], 0o644); err != nil {
				t.Fatal(err)
			}
			if r, err := security.Examine(t.Context(), cut, security.Options{}); err == nil {
				t.Errorf("%s, cut to %d of %d bytes: %s, %v", filepath.Base(file), keep, len(whole), r.Status, told(r))
			} else if !errs.Is(err, errs.Invalid) {
				t.Errorf("%s, cut to %d bytes: %v", filepath.Base(file), keep, err)
			}
		}
	}
	with := func(at int, magic string) string {
		b := bytes.Repeat([]byte{7}, 128<<10)
		copy(b[at:], magic)
		out := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(out, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, tt := range []struct{ file, want string }{
		{with(0, "LUKS\xba\xbe"), "encrypted (LUKS)"},
		{with(3, "-FVE-FS-"), "BitLocker"},
		{with(0, "QFI\xfb"), "qemu-img convert"},
		{with(0x10040, "_BHRfS_M"), "btrfs"},
		{with(0, "070701"), "cpio"},
		{with(0, "hello"), "no file system that is known"},
		{with(0, "\x1f\x8b\x08"), "gzip data is damaged"},
		{filepath.Join(t.TempDir(), "none"), "no such file"},
		{os.DevNull, "neither a regular file nor a folder"},
	} {
		if _, err := security.Examine(t.Context(), tt.file, security.Options{}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.want, err)
		}
	}
}

// TestUnread: a partition that nobody can look into blocks, beside one that can be read.
func TestUnread(t *testing.T) {
	t.Parallel()
	luks := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(luks, append([]byte("LUKS\xba\xbe\x00\x02"), make([]byte, 8192)...), 0o644); err != nil {
		t.Fatal(err)
	}
	loader := filepath.Join(t.TempDir(), "loader")
	if err := os.WriteFile(loader, bytes.Repeat([]byte("uboot"), 2000), 0o644); err != nil {
		t.Fatal(err)
	}
	zeros := filepath.Join(t.TempDir(), "zeros")
	if err := os.WriteFile(zeros, make([]byte, 4096), 0o644); err != nil {
		t.Fatal(err)
	}
	image := disk(t, true, ext(t, "ext4", unpack(t, sound())), luks, loader, zeros)
	r := examine(t, image, security.Options{})
	if got := strings.Join(told(r), " "); got != "block unread:p2 warn unread:p3" {
		t.Error(got)
	}
	if r = examine(t, image, security.Options{Policy: security.Policy{Allow: map[string][]string{"unread": {"p*"}}}}); len(r.Findings) > 0 {
		t.Error(told(r))
	}
}
