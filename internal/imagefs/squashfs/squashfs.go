// Package squashfs reads squashfs 4.0 file systems, without mounting them and
// without a program.
//
//	fs, err := squashfs.New(r, size)
//	err = fs.Walk(func(f *squashfs.File) error { ... })
//
// What a file system claims is checked before it is believed or allocated; what
// is damaged or truncated is errs.Invalid. Compression by gzip, xz, lz4 and zstd
// is read; lzma and lzo are refused by name, as are xz filters for programs (-Xbcj).
//
// The format: the kernel's fs/squashfs/squashfs_fs.h and
// Documentation/filesystems/squashfs.rst.
package squashfs

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math/bits"

	"slipway/internal/errs"
)

// Magic is what a file system begins with.
const Magic = "hsqs"

const (
	superSize     = 96
	metaSize      = 8192 // of an uncompressed metadata block
	minBlock      = 4096
	maxBlock      = 1 << 20
	none32        = 0xffffffff
	none64        = 0xffffffffffffffff
	maxFiles      = 10_000_000
	maxDepth      = 1024
	maxFileBlocks = 1 << 22
)

// Compressors by their numbers.
var compressors = map[uint16]string{1: "gzip", 2: "lzma", 3: "lzo", 4: "xz", 5: "lz4", 6: "zstd"}

func damaged(format string, args ...any) error {
	return errs.E(errs.Invalid, "squashfs: "+fmt.Sprintf(format, args...))
}

// FS is one file system. It must not be used by several goroutines at once.
type FS struct {
	Compressor string // "gzip", "zstd", ...
	Used       int64  // bytes

	r                               io.ReaderAt
	size                            int64
	blockSize                       uint32
	inodes                          uint32
	root                            uint64
	inodeTable, dirTable, fragTable int64
	xattrTable                      int64 // -1 without
	fragments                       uint32
	ids                             []uint32
	xattrs                          *xattrs
	unpack                          decompressor
	meta                            map[int64]metaBlock
	parts                           map[uint32][]byte // fragments
}

// New reads the superblock and the tables of a file system of at most size bytes.
func New(r io.ReaderAt, size int64) (*FS, error) {
	sb := make([]byte, superSize)
	if size < superSize {
		return nil, damaged("%d bytes are no file system", size)
	}
	if _, err := r.ReadAt(sb, 0); err != nil && err != io.EOF {
		return nil, errs.Wrap(err, "read superblock")
	}
	le := binary.LittleEndian
	if string(sb[:4]) != Magic {
		return nil, damaged("it does not begin with %q", Magic)
	}
	if major, minor := le.Uint16(sb[28:]), le.Uint16(sb[30:]); major != 4 || minor != 0 {
		return nil, damaged("version %d.%d, only 4.0 is known", major, minor)
	}
	s := &FS{r: r, inodes: le.Uint32(sb[4:]), blockSize: le.Uint32(sb[12:]), fragments: le.Uint32(sb[16:]), root: le.Uint64(sb[32:]),
		meta: map[int64]metaBlock{}, parts: map[uint32][]byte{}}
	if s.blockSize < minBlock || s.blockSize > maxBlock || bits.OnesCount32(s.blockSize) != 1 || 1<<le.Uint16(sb[22:]) != s.blockSize {
		return nil, damaged("blocks of %d bytes", s.blockSize)
	}
	used := le.Uint64(sb[40:])
	if used > uint64(size) {
		return nil, damaged("it is truncated: the file system has %d bytes, there are %d", used, size)
	}
	if used < superSize {
		return nil, damaged("it claims to have %d bytes", used)
	}
	s.Used, s.size = int64(used), int64(used)
	s.Compressor = compressors[le.Uint16(sb[20:])]
	var err error
	if s.unpack, err = newDecompressor(s.Compressor); err != nil {
		if s.Compressor == "" {
			err = damaged("compressor number %d is not known", le.Uint16(sb[20:]))
		}
		return nil, err
	}
	at := func(off int) (int64, error) {
		n := le.Uint64(sb[off:])
		if n == none64 {
			return -1, nil
		}
		if n < superSize || n > used {
			return 0, damaged("a table is at %d of %d bytes", n, used)
		}
		return int64(n), nil
	}
	var ids int64
	for _, t := range []struct {
		to       *int64
		off      int
		required bool
	}{{&ids, 48, true}, {&s.xattrTable, 56, false}, {&s.inodeTable, 64, true}, {&s.dirTable, 72, true}, {&s.fragTable, 80, s.fragments > 0}} {
		if *t.to, err = at(t.off); err != nil {
			return nil, err
		}
		if t.required && *t.to < 0 {
			return nil, damaged("a table is missing")
		}
	}
	if s.ids, err = s.idTable(ids, int(le.Uint16(sb[26:]))); err != nil {
		return nil, err
	}
	if s.xattrTable >= 0 {
		if s.xattrs, err = s.readXattrs(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// idTable reads the list of user and group numbers.
func (s *FS) idTable(at int64, count int) ([]uint32, error) {
	out := make([]uint32, 0, count)
	for i := 0; i < count; i += metaSize / 4 {
		start, err := s.pointer(at, i/(metaSize/4))
		if err != nil {
			return nil, err
		}
		m := s.reader(start, 0)
		b := make([]byte, min(count-i, metaSize/4)*4)
		if err := m.read(b); err != nil {
			return nil, errs.Wrap(err, "ids")
		}
		for ; len(b) > 0; b = b[4:] {
			out = append(out, binary.LittleEndian.Uint32(b))
		}
	}
	return out, nil
}

// pointer gives number n of a list of places of metadata blocks.
func (s *FS) pointer(table int64, n int) (int64, error) {
	var b [8]byte
	if err := s.readAt(b[:], table+int64(n)*8); err != nil {
		return 0, err
	}
	p := binary.LittleEndian.Uint64(b[:])
	if p < superSize || p >= uint64(s.size) {
		return 0, damaged("a block of a table is at %d of %d bytes", p, s.size)
	}
	return int64(p), nil
}

func (s *FS) readAt(b []byte, off int64) error {
	if off < 0 || off > s.size || int64(len(b)) > s.size-off {
		return damaged("%d bytes at %d of %d", len(b), off, s.size)
	}
	if n, err := s.r.ReadAt(b, off); n < len(b) {
		if err == io.EOF {
			return damaged("it is truncated at %d", off+int64(n))
		}
		return errs.Wrap(err, "read at %d", off)
	}
	return nil
}

// metaBlock is an unpacked metadata block, and where the next one begins.
type metaBlock struct {
	data []byte
	next int64
}

const keptMeta = 256 // blocks

func (s *FS) metadata(at int64) (metaBlock, error) {
	if m, ok := s.meta[at]; ok {
		return m, nil
	}
	var head [2]byte
	if err := s.readAt(head[:], at); err != nil {
		return metaBlock{}, err
	}
	word := binary.LittleEndian.Uint16(head[:])
	size := int(word & 0x7fff)
	if size == 0 || size > metaSize {
		return metaBlock{}, damaged("a metadata block of %d bytes at %d", size, at)
	}
	b := make([]byte, size)
	if err := s.readAt(b, at+2); err != nil {
		return metaBlock{}, err
	}
	if word&0x8000 == 0 {
		var err error
		if b, err = s.unpack(b, metaSize); err != nil {
			return metaBlock{}, damaged("metadata block at %d: %v", at, err)
		}
	}
	m := metaBlock{b, at + 2 + int64(size)}
	if len(s.meta) >= keptMeta {
		clear(s.meta)
	}
	s.meta[at] = m
	return m, nil
}

// metaReader reads metadata, which goes on from block to block.
type metaReader struct {
	s    *FS
	at   int64 // of the block that is read next
	off  int   // in the current block
	data []byte
	err  error
}

func (s *FS) reader(block int64, offset int) *metaReader {
	m := &metaReader{s: s, at: block}
	if m.fill(); m.err == nil {
		if offset > len(m.data) {
			m.err = damaged("offset %d of a metadata block of %d bytes", offset, len(m.data))
		}
		m.off = offset
	}
	return m
}

func (m *metaReader) fill() {
	b, err := m.s.metadata(m.at)
	m.data, m.at, m.off, m.err = b.data, b.next, 0, err
}

func (m *metaReader) read(b []byte) error {
	for m.err == nil && len(b) > 0 {
		if m.off == len(m.data) {
			if m.fill(); m.err == nil && len(m.data) == 0 {
				m.err = damaged("an empty metadata block")
			}
			continue
		}
		n := copy(b, m.data[m.off:])
		m.off += n
		b = b[n:]
	}
	return m.err
}

func (m *metaReader) u16() uint16 {
	var b [2]byte
	if m.read(b[:]) != nil {
		return 0
	}
	return binary.LittleEndian.Uint16(b[:])
}

func (m *metaReader) u32() uint32 {
	var b [4]byte
	if m.read(b[:]) != nil {
		return 0
	}
	return binary.LittleEndian.Uint32(b[:])
}

func (m *metaReader) u64() uint64 {
	var b [8]byte
	if m.read(b[:]) != nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b[:])
}

// File is one name. Content is read by [FS.Content].
type File struct {
	Path     string // "etc/shadow"; "." is the root
	Mode     fs.FileMode
	UID, GID uint32
	Size     int64
	Inode    uint32
	Link     string // of a symbolic link
	Caps     []byte // security.capability

	in inode
}
