package imagefs

import (
	"io"
	"io/fs"

	"slipway/internal/errs"
)

// File is one name of a file system, as [Part.Walk] shows it. Hard links are
// several files of one Inode.
type File struct {
	Path     string // "etc/shadow"; "." is the root
	Mode     fs.FileMode
	UID, GID uint32
	Size     int64
	Inode    uint64 // 0 when the format has none
	Link     string // where a symbolic link points, as written
	Hard     string // of a tar archive: the file before it that this is another name of
	Caps     []byte // the extended attribute security.capability, nil without

	open func() (io.Reader, error)
}

// Open gives the content of a regular file, to be read while [Part.Walk] shows
// the file, and not later.
func (f *File) Open() (io.Reader, error) {
	if !f.Mode.IsRegular() || f.open == nil {
		return nil, errs.E(errs.Invalid, f.Path+" is no regular file")
	}
	return f.open()
}

// What one walk takes part in at most; a file system that claims more is damaged.
const (
	maxFiles = 10_000_000
	maxName  = 4096 // bytes of a path
)

// Walk shows every file, folders before what they hold, in the order of names.
// The error of visit ends it.
func (img *Image) Walk(visit func(*File) error) error {
	root, err := img.v.readInode(rootInode)
	if err != nil {
		return err
	}
	w := &walker{v: img.v, visit: visit, seen: map[uint32]bool{}}
	return w.show(".", root)
}

type walker struct {
	v     *volume
	visit func(*File) error
	seen  map[uint32]bool // folders
	files int
}

func (w *walker) show(name string, in *Inode) error {
	if w.files++; w.files > maxFiles || len(name) > maxName {
		return damaged("more files than can be, or a path of %d bytes", len(name))
	}
	f := &File{Path: name, Mode: in.fileMode(), UID: in.UID, GID: in.GID, Size: in.Size, Inode: uint64(in.Number)}
	var err error
	switch {
	case f.Mode.IsRegular():
		if f.Caps, err = w.v.capability(in); err != nil {
			return errs.Wrap(err, "%s", name)
		}
		f.open = func() (io.Reader, error) {
			if err := w.v.load(in); err != nil {
				return nil, errs.Wrap(err, "%s", name)
			}
			return &stream{v: w.v, in: in}, nil
		}
	case f.Mode&fs.ModeSymlink != 0:
		if f.Link, err = w.v.target(in); err != nil {
			return errs.Wrap(err, "%s", name)
		}
	}
	if err := w.visit(f); err != nil || !f.Mode.IsDir() {
		return err
	}
	if w.seen[in.Number] {
		return damaged("%s: folders go in circles", name)
	}
	w.seen[in.Number] = true
	entries, _, err := w.v.readDirectory(in)
	if err != nil {
		return errs.Wrap(err, "%s", name)
	}
	for _, e := range entries {
		child, err := w.v.readInode(e.inode)
		if err != nil {
			return errs.Wrap(err, "%s", name)
		}
		if child.fileMode().IsDir() != (e.kind == kindFolder) && e.kind != 0 {
			return damaged("%q: the folder and inode %d differ on what it is", e.name, e.inode)
		}
		below := e.name
		if name != "." {
			below = name + "/" + e.name
		}
		if err := w.show(below, child); err != nil {
			return err
		}
	}
	return nil
}

// stream reads a file from its begin to its end.
type stream struct {
	v   *volume
	in  *Inode
	off int64
}

func (s *stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := s.v.readFileAt(s.in, p, s.off)
	s.off += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}
