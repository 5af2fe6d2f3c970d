package imagefs

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"slipway/internal/errs"
)

// Image is an open image; an fs.FS of its root file system. Several goroutines
// may use it at once.
type Image struct {
	// Table is nil for a bare file system.
	Table *Table
	// Offset is where the file system begins, bytes.
	Offset int64
	// UUID and Label are the file system's.
	UUID  GUID
	Label string
	// Replayed is how many blocks come from the journal, because the guest did not
	// unmount.
	Replayed int

	v      *volume
	closer io.Closer
}

var (
	_ fs.ReadDirFS  = (*Image)(nil)
	_ fs.ReadFileFS = (*Image)(nil)
	_ fs.StatFS     = (*Image)(nil)
	_ fs.ReadLinkFS = (*Image)(nil)
)

// MaxFile is the largest file that [Image.ReadFile] reads, bytes. Larger ones
// can be read through [Image.Open].
const MaxFile = 256 << 20

// Open opens an image file. Close it after use.
func Open(name string) (*Image, error) {
	f, err := os.Open(name)
	if err != nil {
		kind := errs.Unavailable
		if os.IsNotExist(err) {
			kind = errs.NotFound
		}
		return nil, errs.E(kind, "open image", err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errs.E(errs.Invalid, "not a regular file")
	}
	var img *Image
	if err == nil {
		img, err = New(f, st.Size())
	}
	if err != nil {
		_ = f.Close()
		return nil, errs.Wrap(err, "image %s", name)
	}
	img.closer = f
	return img, nil
}

// New reads an image of size bytes. r must stay readable as long as it is used.
func New(r io.ReaderAt, size int64) (*Image, error) {
	table, err := ReadTable(r, size)
	switch {
	case errs.Is(err, errs.NotFound):
		v, err := readSuperblock(r, size)
		if err != nil {
			return nil, err
		}
		if v == nil {
			return nil, errs.E(errs.Invalid, "neither a partition table nor an ext4 file system: "+found(r, size))
		}
		return mount(v, &Image{})
	case err != nil:
		return nil, err
	}
	var names []string
	for _, p := range table.Partitions {
		v, err := readSuperblock(io.NewSectionReader(r, p.Start, p.Size), p.Size)
		if err != nil {
			return nil, errs.Wrap(err, "partition %q", p.Name)
		}
		if v != nil {
			return mount(v, &Image{Table: &table, Offset: p.Start})
		}
		names = append(names, fmt.Sprintf("%q: %s", p.Name, found(io.NewSectionReader(r, p.Start, p.Size), p.Size)))
	}
	if names == nil {
		names = []string{"no partition"}
	}
	return nil, errs.E(errs.Invalid, "no ext4 file system in any partition ("+strings.Join(names, "; ")+")")
}

func mount(v *volume, img *Image) (*Image, error) {
	if v.journal != 0 {
		if err := v.loadJournal(); err != nil {
			return nil, errs.Wrap(err, "not unmounted cleanly, and the journal cannot be read")
		}
		// The journal may hold a newer superblock; what we use of it does not change
		// while a file system is mounted.
	}
	root, err := v.readInode(rootInode)
	if err != nil {
		return nil, errs.Wrap(err, "root folder")
	}
	if !root.fileMode().IsDir() {
		return nil, damaged("the root is no folder")
	}
	img.v, img.UUID, img.Label, img.Replayed = v, v.uuid, v.label, len(v.replay)
	return img, nil
}

const rootInode = 2

// found says what a file is that is no image of ours.
func found(r io.ReaderAt, size int64) string {
	if size == 0 {
		return "the file is empty"
	}
	b := make([]byte, min(size, 4096))
	n, _ := r.ReadAt(b, 0)
	b = b[:n]
	for _, k := range []struct {
		at          int
		magic, name string
	}{{0, "\x1f\x8b", "gzip; unpack it first"}, {0, "\xfd7zXZ\x00", "xz; unpack it first"}, {0, "\x28\xb5\x2f\xfd", "zstd; unpack it first"}, {0, "BZh", "bzip2; unpack it first"},
		{0, "hsqs", "squashfs"}, {0, "QFI\xfb", "qcow2; convert it with qemu-img"}, {257, "ustar", "a tar archive"}, {0, "\x7fELF", "an ELF file"},
		{0, "\xed\xab\xee\xdb", "an RPM package"}, {510, "\x55\xaa", "an MBR partition table"}} {
		if len(b) >= k.at+len(k.magic) && string(b[k.at:][:len(k.magic)]) == k.magic {
			return "it is " + k.name
		}
	}
	if len(bytes.Trim(b, "\x00")) == 0 {
		return fmt.Sprintf("%d bytes that begin with zeros", size)
	}
	return fmt.Sprintf("%d bytes that begin with %q", size, b[:min(8, len(b))])
}

// Close closes the file that [Open] opened.
func (img *Image) Close() error {
	if img.closer == nil {
		return nil
	}
	return img.closer.Close()
}

type node struct {
	name string
	in   *Inode
}

func notThere(op, name string) error {
	return errs.E(errs.NotFound, op+" "+name, fs.ErrNotExist)
}

// walk finds the file of a name; follow is for a link in the last place.
func (img *Image) walk(op, name string, follow bool) (node, error) {
	if !fs.ValidPath(name) {
		return node{}, errs.E(errs.Invalid, fmt.Sprintf("%s %q", op, name), fs.ErrInvalid)
	}
	root, err := img.v.readInode(rootInode)
	if err != nil {
		return node{}, err
	}
	stack, todo := []node{{".", root}}, strings.Split(name, "/")
	for links, steps := 0, 0; len(todo) > 0; {
		if steps++; steps > 4096 {
			return node{}, damaged("%s: symbolic links make the path too long", name)
		}
		c := todo[0]
		todo = todo[1:]
		top := stack[len(stack)-1]
		switch c {
		case "", ".":
			continue
		case "..":
			stack = stack[:max(1, len(stack)-1)]
			continue
		}
		if !top.in.fileMode().IsDir() {
			return node{}, notThere(op, name)
		}
		entries, parent, err := img.v.readDirectory(top.in)
		if err != nil {
			return node{}, errs.Wrap(err, "%s", name)
		}
		above := uint32(rootInode)
		if len(stack) > 1 {
			above = stack[len(stack)-2].in.Number
		}
		// So that folders are a tree, and who walks them comes to an end.
		if parent != above {
			return node{}, damaged("%s: a folder says that %d is above it, not %d", name, parent, above)
		}
		in := (*Inode)(nil)
		for _, e := range entries {
			if e.name == c {
				if in, err = img.v.readInode(e.inode); err != nil {
					return node{}, errs.Wrap(err, "%s", name)
				}
			}
		}
		if in == nil {
			return node{}, notThere(op, name)
		}
		if in.fileMode()&fs.ModeSymlink != 0 && (follow || len(todo) > 0) {
			target, err := img.v.target(in)
			if err != nil {
				return node{}, errs.Wrap(err, "%s", name)
			}
			if links++; links > 40 || target == "" {
				return node{}, damaged("%s: symbolic links go in circles", name)
			}
			if path.IsAbs(target) {
				stack = stack[:1]
			}
			todo = append(strings.Split(target, "/"), todo...)
			continue
		}
		for _, n := range stack {
			if n.in.Number == in.Number {
				return node{}, damaged("%s: folders go in circles", name)
			}
		}
		stack = append(stack, node{c, in})
	}
	last := stack[len(stack)-1]
	last.name = path.Base(name)
	return last, nil
}

// Open opens a file or folder, following links. A regular file is also an
// io.ReaderAt and an io.Seeker.
func (img *Image) Open(name string) (fs.File, error) {
	n, err := img.walk("open", name, true)
	if err != nil {
		return nil, err
	}
	if n.in.fileMode().IsDir() {
		entries, err := img.list(n.in)
		if err != nil {
			return nil, errs.Wrap(err, "%s", name)
		}
		return &folder{info: info{n}, entries: entries}, nil
	}
	// Now, so that reading changes nothing and several may read at once.
	if err := img.v.load(n.in); err != nil {
		return nil, errs.Wrap(err, "%s", name)
	}
	f := &file{info: info{n}, img: img}
	f.SectionReader = io.NewSectionReader(f, 0, n.in.Size)
	return f, nil
}

// ReadFile reads a whole file of at most [MaxFile] bytes, following links.
func (img *Image) ReadFile(name string) ([]byte, error) {
	n, err := img.walk("open", name, true)
	if err != nil {
		return nil, err
	}
	if !n.in.fileMode().IsRegular() {
		return nil, errs.E(errs.Invalid, name+" is no regular file")
	}
	b, err := img.v.readAll(n.in, MaxFile)
	return b, errs.Wrap(err, "%s", name)
}

// ReadDir lists a folder, sorted by name.
func (img *Image) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := img.walk("readdir", name, true)
	if err != nil {
		return nil, err
	}
	if !n.in.fileMode().IsDir() {
		return nil, errs.E(errs.Invalid, name+" is no folder")
	}
	entries, err := img.list(n.in)
	return entries, errs.Wrap(err, "%s", name)
}

func (img *Image) list(in *Inode) ([]fs.DirEntry, error) {
	entries, _, err := img.v.readDirectory(in)
	if err != nil {
		return nil, err
	}
	out := make([]fs.DirEntry, 0, len(entries))
	for _, e := range entries {
		child, err := img.v.readInode(e.inode)
		if err != nil {
			return nil, err
		}
		if child.fileMode().IsDir() != (e.kind == kindFolder) && e.kind != 0 {
			return nil, damaged("%q: the folder and inode %d differ on what it is", e.name, e.inode)
		}
		out = append(out, fs.FileInfoToDirEntry(info{node{e.name, child}}))
	}
	return out, nil
}

// Stat follows links; Sys of the answer is an *[Inode].
func (img *Image) Stat(name string) (fs.FileInfo, error) { return img.stat("stat", name, true) }

// Lstat does not follow a link in the last place.
func (img *Image) Lstat(name string) (fs.FileInfo, error) { return img.stat("lstat", name, false) }

func (img *Image) stat(op, name string, follow bool) (fs.FileInfo, error) {
	n, err := img.walk(op, name, follow)
	if err != nil {
		return nil, err
	}
	return info{n}, nil
}

// ReadLink gives where a symbolic link points, as it is written.
func (img *Image) ReadLink(name string) (string, error) {
	n, err := img.walk("readlink", name, false)
	if err != nil {
		return "", err
	}
	if n.in.fileMode()&fs.ModeSymlink == 0 {
		return "", errs.E(errs.Invalid, name+" is no symbolic link", fs.ErrInvalid)
	}
	return img.v.target(n.in)
}

// info is a file's fs.FileInfo.
type info struct{ node }

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.in.Size }
func (i info) Mode() fs.FileMode  { return i.in.fileMode() }
func (i info) ModTime() time.Time { return i.in.MTime }
func (i info) IsDir() bool        { return i.Mode().IsDir() }
func (i info) Sys() any           { return i.in }

// file is an open file that is no folder.
type file struct {
	*io.SectionReader
	info info
	img  *Image
}

func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *file) Close() error               { return nil }

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	return f.img.v.readFileAt(f.info.in, p, off)
}

// folder is an open folder.
type folder struct {
	info    info
	entries []fs.DirEntry
}

func (d *folder) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *folder) Close() error               { return nil }

func (d *folder) Read([]byte) (int, error) {
	return 0, errs.E(errs.Invalid, d.info.name+" is a folder")
}

func (d *folder) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(d.entries)
	} else if len(d.entries) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.entries))
	out := d.entries[:n]
	d.entries = d.entries[n:]
	return out, nil
}
