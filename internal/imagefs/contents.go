package imagefs

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"slipway/internal/errs"
	"slipway/internal/imagefs/squashfs"
)

// Contents is all that a file holds, whatever its kind: a disk with partitions,
// one file system, an archive, or a plain folder.
type Contents struct {
	Kind  string // "disk", "ext4", "squashfs", "vfat", "tar", "OCI archive, layers: 2", "folder"; with the compression around it, "tar, gzip"
	Size  int64  // of the file, bytes; 0 of a folder
	Parts []Part // of a disk, its partitions in order; else one

	closers []func()
}

// Part is one file system, or a place where none was found.
type Part struct {
	Number int    // of the partition, from 1; 0 when there are none
	Name   string // that the partition table or the file system gives; may be ""
	// Kind is "ext4", "ext3", "ext2", "squashfs", "vfat", "tar", "folder"; of what is
	// not read "empty", "swap", "luks", "verity", "boot code", "unknown", or what was found.
	Kind         string
	Offset, Size int64 // bytes
	// Why is empty when the part can be read, else why it is not.
	Why string
	// Harmless is a part that is not read, and holds no files: swap, zeros, hashes.
	Harmless bool

	walk func(ctx context.Context, visit func(*File) error) error
}

// Readable reports whether there are files to walk.
func (p *Part) Readable() bool { return p.walk != nil }

// Walk shows every file. For a tar archive the order is the archive's, a file may
// come twice (the last one counts), and folders may be missing. The error of visit
// ends it. Errors are errs.Invalid for what is damaged or truncated.
func (p *Part) Walk(ctx context.Context, visit func(*File) error) error {
	if p.walk == nil {
		return errs.E(errs.Invalid, p.String()+" cannot be read: "+p.Why)
	}
	n := 0
	return p.walk(ctx, func(f *File) error {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		return visit(f)
	})
}

func (p *Part) String() string {
	switch {
	case p.Number == 0:
		return "the file system"
	case p.Name == "":
		return fmt.Sprintf("partition %d", p.Number)
	}
	return fmt.Sprintf("partition %d (%s)", p.Number, p.Name)
}

// Close closes what [OpenContents] opened, and removes what it unpacked.
func (c *Contents) Close() {
	for _, f := range c.closers {
		f()
	}
	c.closers = nil
}

// OpenContents looks at a file or folder. What is compressed (gzip, bzip2, xz,
// zstd) is unpacked to a temporary file, unless it is a tar archive, which is read
// as it comes. An image of which nothing can be read is errs.Invalid, and the
// message names what it is.
func OpenContents(ctx context.Context, name string) (_ *Contents, err error) {
	f, err := os.Open(name)
	if err != nil {
		kind := errs.Unavailable
		if os.IsNotExist(err) {
			kind = errs.NotFound
		}
		return nil, errs.E(kind, "open image", err)
	}
	c := &Contents{closers: []func(){func() { _ = f.Close() }}}
	defer func() {
		if err != nil {
			c.Close()
			err = errs.Wrap(err, "image %s", name)
		}
	}()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case st.IsDir():
		c.Kind = "folder"
		c.Parts = []Part{{Kind: "folder", walk: walkFolder(name)}}
		return c, nil
	case !st.Mode().IsRegular():
		return nil, errs.E(errs.Invalid, "it is neither a regular file nor a folder")
	}
	c.Size = st.Size()
	return c, c.look(ctx, f, st.Size())
}

// look fills in what an open file is.
func (c *Contents) look(ctx context.Context, f *os.File, size int64) error {
	how, err := compression(f)
	if err != nil {
		return err
	}
	if how == "" {
		return c.raw(ctx, f, size)
	}
	r, err := decompress(f, how)
	if err != nil {
		return errs.E(errs.Invalid, how+" data is damaged", err)
	}
	head := make([]byte, 512)
	n, err := io.ReadFull(r, head)
	_ = r.Close()
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return errs.E(errs.Invalid, how+" data is damaged or truncated", err)
	}
	if isTar(head[:n]) {
		if isDockerArchive(head) || isOCIName(firstName(head)) {
			return errs.E(errs.Invalid, "it is a compressed archive of container layers", errs.Hintf("unpack it first: %s -d", how))
		}
		c.Kind = "tar, " + how
		c.Parts = []Part{{Kind: "tar", walk: walkTar(func() (io.ReadCloser, error) {
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return nil, err
			}
			return decompress(f, how)
		})}}
		return nil
	}
	plain, unpacked, err := spool(ctx, f, how)
	if err != nil {
		return err
	}
	c.closers = append(c.closers, func() { _ = plain.Close() })
	if err := c.raw(ctx, plain, unpacked); err != nil {
		return errs.Wrap(err, "unpacked from %s", how)
	}
	c.Kind += ", " + how
	return nil
}

// raw is look for what is not compressed.
func (c *Contents) raw(ctx context.Context, r io.ReaderAt, size int64) error {
	head := make([]byte, 512)
	n, err := r.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return errs.Wrap(err, "read")
	}
	switch {
	case !isTar(head[:n]):
	case looksLikeOCI(r, size):
		layers, err := readOCI(r, size)
		if err != nil {
			return err
		}
		c.Kind = fmt.Sprintf("OCI archive, layers: %d", len(layers))
		c.Parts = []Part{{Kind: "tar", Size: size, walk: walkLayers(layers)}}
		return nil
	case isDockerArchive(head[:n]):
		return errs.E(errs.Invalid, "it is an archive of docker save, whose layers are not read", errs.Hint("skopeo copy docker-archive:FILE oci-archive:OTHER makes an OCI archive, which is read"))
	default:
		c.Kind = "tar"
		c.Parts = []Part{{Kind: "tar", Size: size, walk: walkTar(func() (io.ReadCloser, error) {
			return io.NopCloser(io.NewSectionReader(r, 0, size)), nil
		})}}
		return nil
	}
	table, err := ReadTable(r, size)
	switch {
	case err == nil:
		c.Kind = "disk"
		for i, p := range table.Partitions {
			c.Parts = append(c.Parts, c.part(r, i+1, p))
		}
		if len(c.Parts) == 0 {
			return errs.E(errs.Invalid, "the partition table has no partition")
		}
	case !errs.Is(err, errs.NotFound):
		return err
	default:
		whole, err := filesystem(r, size)
		if err != nil {
			return err
		}
		if whole.Kind == "" || !whole.Readable() {
			if parts, isMBR, err := readMBR(r, size); err != nil {
				return err
			} else if isMBR {
				c.Kind = "disk"
				for i, p := range parts {
					c.Parts = append(c.Parts, c.part(r, i+1, p))
				}
				break
			}
		}
		if whole.Kind == "" {
			return errs.E(errs.Invalid, "no file system that is known: "+found(r, size), errs.Hint("known are ext2, ext3, ext4, squashfs, vfat, disks of those with a GPT or MBR, tar, and folders"))
		}
		c.Kind, c.Parts = whole.Kind, []Part{whole}
	}
	for i := range c.Parts {
		if c.Parts[i].Readable() {
			return nil
		}
	}
	var why []string
	for _, p := range c.Parts {
		why = append(why, fmt.Sprintf("%s: %s", p.String(), p.Why))
	}
	return errs.E(errs.Invalid, "nothing in it can be read: "+strings.Join(why, "; "))
}

func (c *Contents) part(r io.ReaderAt, number int, p Partition) Part {
	s := io.NewSectionReader(r, p.Start, p.Size)
	part, err := filesystem(s, p.Size)
	if err != nil {
		part = Part{Kind: "damaged", Why: err.Error()}
	}
	if part.Kind == "" {
		part = Part{Kind: "unknown", Why: "no file system that is known: " + found(s, p.Size)}
		if p.Type == biosBoot {
			part = Part{Kind: "boot code", Why: "the boot loader's own", Harmless: true}
		}
	}
	if p.Name != "" {
		part.Name = p.Name
	}
	part.Number, part.Offset, part.Size = number, p.Start, p.Size
	return part
}

var biosBoot = MustGUID("21686148-6449-6e6f-744e-656564454649")

// filesystem tells what a range of bytes is. Its Kind is "" when nothing is known.
// An error is one of a file system that is known and damaged.
func filesystem(r io.ReaderAt, size int64) (Part, error) {
	if kind, why, harmless := special(r, size); kind != "" {
		return Part{Kind: kind, Size: size, Why: why, Harmless: harmless}, nil
	}
	head := make([]byte, 512)
	if n, err := r.ReadAt(head, 0); err != nil && err != io.EOF {
		return Part{}, errs.Wrap(err, "read")
	} else if n >= 4 && string(head[:4]) == squashfs.Magic {
		s, err := squashfs.New(r, size)
		if err != nil {
			return Part{}, err
		}
		return Part{Kind: "squashfs", Size: size, walk: walkSquashfs(s)}, nil
	}
	v, err := readSuperblock(r, size)
	if err != nil {
		return Part{}, err
	}
	if v != nil {
		img, err := mount(v, &Image{})
		if err != nil {
			return Part{}, err
		}
		return Part{Kind: v.kind, Name: v.label, Size: size, walk: func(_ context.Context, visit func(*File) error) error { return img.Walk(visit) }}, nil
	}
	if f, err := readFAT(r, size); err != nil || f != nil {
		if err != nil {
			return Part{}, err
		}
		return Part{Kind: "vfat", Name: f.label, Size: size, walk: func(_ context.Context, visit func(*File) error) error { return f.walk(visit) }}, nil
	}
	return Part{}, nil
}

func walkSquashfs(s *squashfs.FS) func(context.Context, func(*File) error) error {
	return func(_ context.Context, visit func(*File) error) error {
		return s.Walk(func(f *squashfs.File) error {
			return visit(&File{Path: f.Path, Mode: f.Mode, UID: f.UID, GID: f.GID, Size: f.Size, Inode: uint64(f.Inode), Link: f.Link, Caps: f.Caps,
				open: func() (io.Reader, error) { return s.Content(f), nil }})
		})
	}
}

// special knows what holds no files that could be read.
func special(r io.ReaderAt, size int64) (kind, why string, harmless bool) {
	b := make([]byte, min(size, 64<<10+4096))
	n, _ := r.ReadAt(b, 0)
	b = b[:n]
	has := func(at int, magic string) bool {
		return len(b) >= at+len(magic) && string(b[at:][:len(magic)]) == magic
	}
	switch {
	case has(0, "LUKS\xba\xbe"):
		return "luks", "it is encrypted (LUKS)", false
	case has(3, "-FVE-FS-"):
		return "bitlocker", "it is encrypted (BitLocker)", false
	case has(0, "verity\x00\x00"):
		return "verity", "hashes of dm-verity", true
	case has(0x218, "LVM2 001"):
		return "lvm", "it is part of an LVM volume group", false
	case has(4086, "SWAPSPACE2"), has(4086, "SWAP-SPACE"):
		return "swap", "swap space", true
	case has(0x10040, "_BHRfS_M"):
		return "btrfs", "btrfs is not read here", false
	case has(0, "XFSB"):
		return "xfs", "xfs is not read here", false
	case has(1024, "\xe2\xe1\xf5\xe0"):
		return "erofs", "erofs is not read here", false
	case has(1024, "\x10\x20\xf5\xf2"):
		return "f2fs", "f2fs is not read here", false
	case has(0, "UBI#"), has(0, "\x31\x18\x10\x06"):
		return "ubi", "UBI is not read here", false
	case has(0, "\x85\x19"):
		return "jffs2", "jffs2 is not read here", false
	case has(32769, "CD001"):
		return "iso9660", "iso9660 is not read here", false
	case has(0, "QFI\xfb"):
		return "qcow2", "qcow2; convert it: qemu-img convert -O raw", false
	case has(0, "KDMV"), has(0, "# Disk DescriptorFile"):
		return "vmdk", "vmdk; convert it: qemu-img convert -O raw", false
	case has(0, "07070"):
		return "cpio", "a cpio archive is not read here", false
	}
	if size > 0 && zeros(r, size) {
		return "empty", "nothing but zeros", true
	}
	return "", "", false
}

// zeros reports whether a range holds nothing else; it ends at the first other byte.
func zeros(r io.ReaderAt, size int64) bool {
	b := make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(b)) {
		n, err := r.ReadAt(b[:min(int64(len(b)), size-at)], at)
		for _, x := range b[:n] {
			if x != 0 {
				return false
			}
		}
		if err != nil {
			return err == io.EOF && at+int64(n) == size
		}
	}
	return true
}
