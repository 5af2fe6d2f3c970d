package squashfs

import (
	"io/fs"
	"strings"

	"slipway/internal/errs"
)

// inode is what the inode table holds of a file.
type inode struct {
	kind     uint16 // of the basic kinds: 1 folder, 2 file, 3 link, 4 block, 5 character device, 6 pipe, 7 socket
	perm     uint16
	uid, gid uint32
	number   uint32
	size     uint64
	link     string
	xattr    uint32
	// Of a folder: its listing. Of a file: its blocks.
	block, offset uint32
	start         uint64
	fragment      uint32
	blocks        []uint32
}

// readInode reads the inode of a reference: place of the block, then offset in it.
func (s *FS) readInode(ref uint64) (inode, error) {
	m := s.reader(s.inodeTable+int64(ref>>16&0xffffffff), int(ref&0xffff))
	if ref>>48 != 0 {
		return inode{}, damaged("an inode's place is %#x", ref)
	}
	in := inode{kind: m.u16(), perm: m.u16(), xattr: none32}
	uid, gid := int(m.u16()), int(m.u16())
	m.u32() // time
	in.number = m.u32()
	if m.err != nil {
		return in, m.err
	}
	if uid >= len(s.ids) || gid >= len(s.ids) {
		return in, damaged("inode %d: owner %d of %d", in.number, max(uid, gid), len(s.ids))
	}
	in.uid, in.gid = s.ids[uid], s.ids[gid]
	extended := in.kind > 7
	if extended {
		in.kind -= 7
	}
	switch in.kind {
	case 1:
		if extended {
			m.u32() // links
			in.size, in.block = uint64(m.u32()), m.u32()
			m.u32() // parent
			m.u16() // entries of the index
			in.offset = uint32(m.u16())
			in.xattr = m.u32()
		} else {
			in.block = m.u32()
			m.u32()
			in.size, in.offset = uint64(m.u16()), uint32(m.u16())
			m.u32()
		}
	case 2:
		s.regular(&in, m, extended)
	case 3:
		m.u32()
		n := m.u32()
		if n > 65535 {
			return in, damaged("inode %d: a symbolic link of %d bytes", in.number, n)
		}
		b := make([]byte, n)
		_ = m.read(b) // the error stays in m
		if in.link = string(b); strings.ContainsRune(in.link, 0) {
			return in, damaged("inode %d: a symbolic link with a zero byte", in.number)
		}
		in.size = uint64(n)
	case 4, 5, 6, 7:
		m.u32()
		if in.kind < 6 {
			m.u32() // number of the device
		}
		if extended {
			in.xattr = m.u32()
		}
	default:
		return in, damaged("inode %d is of kind %d", in.number, in.kind)
	}
	return in, m.err
}

func (s *FS) regular(in *inode, m *metaReader, extended bool) {
	if extended {
		in.start, in.size = m.u64(), m.u64()
		m.u64() // sparse bytes
		m.u32() // links
		in.fragment, in.offset, in.xattr = m.u32(), m.u32(), m.u32()
	} else {
		in.start = uint64(m.u32())
		in.fragment, in.offset, in.size = m.u32(), m.u32(), uint64(m.u32())
	}
	bs := uint64(s.blockSize)
	n := in.size / bs
	if in.fragment == none32 && in.size%bs != 0 {
		n++
	}
	if m.err == nil && n > maxFileBlocks {
		m.err = damaged("inode %d claims %d bytes", in.number, in.size)
	}
	for range n {
		if m.err != nil { // nothing is allocated for blocks that are not there
			return
		}
		in.blocks = append(in.blocks, m.u32())
	}
}

func (in *inode) mode() fs.FileMode {
	m := fs.FileMode(in.perm & 0o777)
	for _, b := range []struct {
		bit  uint16
		mode fs.FileMode
	}{{0o4000, fs.ModeSetuid}, {0o2000, fs.ModeSetgid}, {0o1000, fs.ModeSticky}} {
		if in.perm&b.bit != 0 {
			m |= b.mode
		}
	}
	switch in.kind {
	case 1:
		m |= fs.ModeDir
	case 3:
		m |= fs.ModeSymlink
	case 4:
		m |= fs.ModeDevice
	case 5:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case 6:
		m |= fs.ModeNamedPipe
	case 7:
		m |= fs.ModeSocket
	}
	return m
}

type entry struct {
	name string
	ref  uint64
}

// list reads a folder; the format keeps names sorted.
func (s *FS) list(in *inode) ([]entry, error) {
	if in.size < 3 {
		return nil, damaged("folder %d has %d bytes", in.number, in.size)
	}
	var out []entry
	m := s.reader(s.dirTable+int64(in.block), int(in.offset))
	if in.size == 3 {
		return nil, nil // an empty one may point behind the table
	}
	for left := int64(in.size) - 3; left > 0; {
		count, start := int64(m.u32())+1, uint64(m.u32())
		m.u32()
		left -= 12
		if m.err == nil && count > 256 {
			m.err = damaged("folder %d: %d entries in a row", in.number, count)
		}
		for ; count > 0 && m.err == nil; count-- {
			offset := m.u16()
			m.u16()
			m.u16()
			n := int(m.u16()) + 1
			if left -= int64(8 + n); n > 256 || left < 0 {
				return nil, damaged("folder %d: a name of %d bytes", in.number, n)
			}
			b := make([]byte, n)
			if m.read(b) != nil {
				break
			}
			name := string(b)
			if name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || len(out) > 0 && out[len(out)-1].name >= name {
				return nil, damaged("folder %d: a file named %q", in.number, name)
			}
			out = append(out, entry{name, start<<16 | uint64(offset)})
		}
		if m.err != nil {
			return nil, errs.Wrap(m.err, "folder %d", in.number)
		}
	}
	return out, nil
}

// Walk shows every file, folders before what they hold, in the order of names.
func (s *FS) Walk(visit func(*File) error) error {
	w := walker{s: s, visit: visit, seen: map[uint64]bool{}}
	return w.show(".", s.root, 0)
}

type walker struct {
	s     *FS
	visit func(*File) error
	seen  map[uint64]bool // folders
	files int
}

func (w *walker) show(name string, ref uint64, depth int) error {
	if w.files++; w.files > maxFiles || depth > maxDepth {
		return damaged("more files or folders than can be")
	}
	in, err := w.s.readInode(ref)
	if err != nil {
		return errs.Wrap(err, "%s", name)
	}
	if depth == 0 && in.kind != 1 {
		return damaged("the root is no folder")
	}
	f := &File{Path: name, Mode: in.mode(), UID: in.uid, GID: in.gid, Size: int64(in.size), Inode: in.number, Link: in.link, in: in}
	if in.xattr != none32 && in.kind == 2 {
		if f.Caps, err = w.s.capability(in.xattr); err != nil {
			return errs.Wrap(err, "%s", name)
		}
	}
	if err := w.visit(f); err != nil || in.kind != 1 {
		return err
	}
	if w.seen[ref] {
		return damaged("%s: folders go in circles", name)
	}
	w.seen[ref] = true
	entries, err := w.s.list(&in)
	if err != nil {
		return errs.Wrap(err, "%s", name)
	}
	for _, e := range entries {
		below := e.name
		if depth > 0 {
			below = name + "/" + e.name
		}
		if err := w.show(below, e.ref, depth+1); err != nil {
			return err
		}
	}
	return nil
}
