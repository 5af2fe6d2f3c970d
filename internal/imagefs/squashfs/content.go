package squashfs

import (
	"encoding/binary"
	"io"

	"slipway/internal/errs"
)

const uncompressed = 1 << 24

// Content gives the bytes of a regular file, in order.
func (s *FS) Content(f *File) io.Reader {
	return &content{s: s, in: &f.in, at: f.in.start, left: f.in.size}
}

type content struct {
	s    *FS
	in   *inode
	n    int // of the block that comes next
	at   uint64
	left uint64 // bytes of the file that are not given yet
	data []byte
	err  error
}

func (c *content) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(c.data) == 0 {
		if c.err == nil && c.left == 0 {
			c.err = io.EOF
		}
		if c.err == nil {
			c.data, c.err = c.next()
		}
		if c.err != nil {
			return 0, c.err
		}
	}
	n := copy(p, c.data)
	c.data = c.data[n:]
	c.left -= uint64(n)
	return n, nil
}

// next gives the next block, or the tail of the file from its fragment.
func (c *content) next() ([]byte, error) {
	want := int(min(c.left, uint64(c.s.blockSize)))
	if c.n == len(c.in.blocks) {
		part, err := c.s.fragment(c.in.fragment)
		if err != nil {
			return nil, err
		}
		if uint64(c.in.offset)+uint64(want) > uint64(len(part)) {
			return nil, damaged("inode %d: its tail is %d bytes at %d of a fragment of %d", c.in.number, want, c.in.offset, len(part))
		}
		return part[c.in.offset:][:want], nil
	}
	word := c.in.blocks[c.n]
	c.n++
	if word == 0 { // a hole
		return make([]byte, want), nil
	}
	b, err := c.s.block(c.at, word)
	if err != nil {
		return nil, errs.Wrap(err, "inode %d", c.in.number)
	}
	c.at += uint64(word &^ uncompressed)
	if len(b) != want {
		return nil, damaged("inode %d: a block has %d bytes, not %d", c.in.number, len(b), want)
	}
	return b, nil
}

// block reads a data block of the size that word tells.
func (s *FS) block(at uint64, word uint32) ([]byte, error) {
	size := word &^ uncompressed
	if size == 0 || size > s.blockSize || at > uint64(s.size) {
		return nil, damaged("a block of %d bytes at %d", size, at)
	}
	b := make([]byte, size)
	if err := s.readAt(b, int64(at)); err != nil {
		return nil, err
	}
	if word&uncompressed != 0 {
		return b, nil
	}
	out, err := s.unpack(b, int(s.blockSize))
	if err != nil {
		return nil, damaged("block at %d: %v", at, err)
	}
	return out, nil
}

const keptFragments = 8

// fragment gives a block that holds the tails of several files.
func (s *FS) fragment(n uint32) ([]byte, error) {
	if b, ok := s.parts[n]; ok {
		return b, nil
	}
	if n >= s.fragments {
		return nil, damaged("fragment %d of %d", n, s.fragments)
	}
	const each, perBlock = 16, metaSize / 16
	start, err := s.pointer(s.fragTable, int(n/perBlock))
	if err != nil {
		return nil, err
	}
	m := s.reader(start, int(n%perBlock)*each)
	at, word := m.u64(), m.u32()
	if m.err != nil {
		return nil, m.err
	}
	b, err := s.block(at, word)
	if err != nil {
		return nil, errs.Wrap(err, "fragment %d", n)
	}
	if len(s.parts) >= keptFragments {
		clear(s.parts)
	}
	s.parts[n] = b
	return b, nil
}

// xattrs are the tables of extended attributes.
type xattrs struct {
	values int64  // where the names and values begin
	count  uint32 // of sets
	index  int64  // the list of blocks of the sets' index
}

func (s *FS) readXattrs() (*xattrs, error) {
	var b [16]byte
	if err := s.readAt(b[:], s.xattrTable); err != nil {
		return nil, err
	}
	x := &xattrs{count: binary.LittleEndian.Uint32(b[8:]), index: s.xattrTable + 16}
	start := binary.LittleEndian.Uint64(b[:])
	if start < superSize || start > uint64(s.size) {
		return nil, damaged("attributes at %d of %d bytes", start, s.size)
	}
	x.values = int64(start)
	return x, nil
}

const (
	xattrSecurity = 2     // prefix "security."
	xattrApart    = 0x100 // the value is a reference to another one
	maxCapability = 64    // bytes; struct vfs_ns_cap_data has 24
)

// capability gives security.capability of a set of attributes, nil without.
func (s *FS) capability(set uint32) ([]byte, error) {
	if s.xattrs == nil || set >= s.xattrs.count {
		return nil, damaged("attributes number %d are not there", set)
	}
	const each, perBlock = 16, metaSize / 16
	start, err := s.pointer(s.xattrs.index, int(set/perBlock))
	if err != nil {
		return nil, err
	}
	m := s.reader(start, int(set%perBlock)*each)
	ref, count := m.u64(), m.u32()
	if m.err != nil {
		return nil, m.err
	}
	if m, err = s.valueReader(ref); err != nil {
		return nil, err
	}
	for range min(count, 65536) {
		kind, name := m.u16(), make([]byte, m.u16())
		_ = m.read(name) // the error stays in m
		size := m.u32()
		if m.err != nil {
			return nil, m.err
		}
		mine := kind&0xff == xattrSecurity && string(name) == "capability"
		if mine && kind&xattrApart != 0 {
			ref := m.u64()
			if m.err != nil {
				return nil, m.err
			}
			if m, err = s.valueReader(ref); err != nil {
				return nil, err
			}
			size = m.u32()
		}
		if size > 65536 || mine && size > maxCapability {
			return nil, damaged("an attribute of %d bytes", size)
		}
		value := make([]byte, size)
		if m.read(value) != nil || mine {
			return value, m.err
		}
	}
	return nil, m.err
}

func (s *FS) valueReader(ref uint64) (*metaReader, error) {
	if ref>>48 != 0 {
		return nil, damaged("an attribute's place is %#x", ref)
	}
	m := s.reader(s.xattrs.values+int64(ref>>16&0xffffffff), int(ref&0xffff))
	return m, m.err
}
