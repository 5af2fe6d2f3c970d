package imagefs

import (
	"encoding/binary"
	"io"
	"io/fs"
	"sort"
	"strings"
	"time"
)

// Inode is what a file system knows of a file beside its name and content.
type Inode struct {
	Number                uint32
	Mode                  uint32 // type and permission bits as in stat(2)
	UID, GID              uint32
	Size                  int64
	Links                 uint16
	Rdev                  uint32 // major<<8 | minor, of a device
	ATime, CTime, MTime   time.Time
	Born                  time.Time // zero when the inode has no room for it
	flags                 uint32
	inner                 []byte   // what an inode holds of extended attributes itself
	acl                   uint64   // block with more of them; 0 for none
	block                 [60]byte // extent tree, or target of a short link
	extents               []extent
	extentsRead, oversize bool
}

const flagExtents = 0x80000

func parseInode(n uint32, raw []byte) *Inode {
	u16 := func(off int) uint16 { return binary.LittleEndian.Uint16(raw[off:]) }
	u32 := func(off int) uint32 { return binary.LittleEndian.Uint32(raw[off:]) }
	in := &Inode{Number: n, Mode: uint32(u16(0)), UID: uint32(u16(2)) | uint32(u16(0x78))<<16, GID: uint32(u16(0x18)) | uint32(u16(0x7a))<<16,
		Links: u16(0x1a), flags: u32(0x20)}
	size := uint64(u32(4)) | uint64(u32(0x6c))<<32
	if size > 1<<46 { // more than any ext4 file can have
		in.oversize, size = true, 1<<46
	}
	in.Size = int64(size)
	copy(in.block[:], raw[0x28:])
	in.acl = uint64(u32(0x68)) | uint64(u16(0x76))<<32
	extra := 0 // bytes in use beyond the first 128
	if len(raw) > 128 {
		extra = min(int(u16(0x80)), len(raw)-128)
		in.inner = raw[128+extra:]
	}
	when := func(off, more int) time.Time {
		sec, nsec := int64(int32(u32(off))), int64(0)
		if more+4 <= 128+extra {
			e := u32(more)
			sec, nsec = sec+int64(e&3)<<32, int64(e>>2)
		}
		return time.Unix(sec, nsec).UTC()
	}
	in.ATime, in.CTime, in.MTime = when(8, 0x8c), when(0xc, 0x84), when(0x10, 0x88)
	if 0x94 <= 128+extra {
		in.Born = when(0x90, 0x94)
	}
	if t := in.Mode & 0o170000; t == 0o020000 || t == 0o060000 {
		if old := binary.LittleEndian.Uint32(in.block[:]); old != 0 {
			in.Rdev = old
		} else {
			d := binary.LittleEndian.Uint32(in.block[4:])
			in.Rdev = d>>8&0xfff<<8 | d&0xff | d>>12&0xfff00<<12
		}
	}
	return in
}

// fileMode gives the bits of io/fs.
func (in *Inode) fileMode() fs.FileMode {
	m := fs.FileMode(in.Mode & 0o777)
	switch in.Mode & 0o170000 {
	case 0o040000:
		m |= fs.ModeDir
	case 0o120000:
		m |= fs.ModeSymlink
	case 0o010000:
		m |= fs.ModeNamedPipe
	case 0o140000:
		m |= fs.ModeSocket
	case 0o020000:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case 0o060000:
		m |= fs.ModeDevice
	case 0o100000:
	default:
		m |= fs.ModeIrregular
	}
	for bit, mode := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if in.Mode&bit != 0 {
			m |= mode
		}
	}
	return m
}

// extent is a run of blocks: count blocks of the file from first on lie at start.
type extent struct {
	first, count uint64
	start        uint64
	zero         bool // allocated and never written
}

// maxExtents bounds what one file may claim.
const maxExtents = 1 << 20

// load reads the extent tree once. It must be sorted, without overlap.
func (v *volume) load(in *Inode) error {
	if in.extentsRead {
		return nil
	}
	if in.oversize {
		return damaged("inode %d claims to be larger than a file can be", in.Number)
	}
	if in.flags&flagExtents == 0 {
		if err := v.blockMap(in); err != nil {
			return err
		}
		in.extentsRead = true
		return nil
	}
	nodes := 0
	if err := v.node(in, in.block[:], -1, &nodes); err != nil {
		return err
	}
	in.extentsRead = true
	return nil
}

func (v *volume) node(in *Inode, b []byte, depth int, nodes *int) error {
	entries, here := int(binary.LittleEndian.Uint16(b[2:])), int(binary.LittleEndian.Uint16(b[6:]))
	if depth < 0 {
		depth = here
	}
	*nodes++
	// Every node but the root fills a block: more nodes than blocks are a circle.
	if binary.LittleEndian.Uint16(b) != 0xf30a || here != depth || depth > 5 || 12+entries*12 > len(b) || uint64(*nodes) > v.blocks || *nodes > maxExtents {
		return damaged("inode %d: its extent tree is damaged", in.Number)
	}
	for i := range entries {
		e := b[12+i*12:]
		if depth > 0 {
			child := make([]byte, v.blockSize)
			at := uint64(binary.LittleEndian.Uint32(e[4:])) | uint64(binary.LittleEndian.Uint16(e[8:]))<<32
			if err := v.readBlocks(child, at); err != nil {
				return err
			}
			if err := v.node(in, child, depth-1, nodes); err != nil {
				return err
			}
			continue
		}
		x := extent{first: uint64(binary.LittleEndian.Uint32(e)), count: uint64(binary.LittleEndian.Uint16(e[4:])),
			start: uint64(binary.LittleEndian.Uint32(e[8:])) | uint64(binary.LittleEndian.Uint16(e[6:]))<<32}
		if x.count > 32768 {
			x.count, x.zero = x.count-32768, true
		}
		next := uint64(0)
		if n := len(in.extents); n > 0 {
			next = in.extents[n-1].first + in.extents[n-1].count
		}
		if x.count == 0 || x.first < next || x.start >= v.blocks || x.count > v.blocks-x.start || uint64(len(in.extents)) >= v.blocks || len(in.extents) >= maxExtents {
			return damaged("inode %d: extent of %d blocks at block %d of %d", in.Number, x.count, x.start, v.blocks)
		}
		in.extents = append(in.extents, x)
	}
	return nil
}

// readFileAt reads a file's bytes as io.ReaderAt does; holes are zeros.
func (v *volume) readFileAt(in *Inode, p []byte, off int64) (int, error) {
	if err := v.load(in); err != nil {
		return 0, err
	}
	if off >= in.Size {
		return 0, io.EOF
	}
	var eof error
	if int64(len(p)) > in.Size-off {
		p, eof = p[:in.Size-off], io.EOF
	}
	done := 0
	for done < len(p) {
		n, err := v.readRun(in, p[done:], uint64(off)+uint64(done))
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, eof
}

// readRun reads what lies in one run of blocks, or in one hole.
func (v *volume) readRun(in *Inode, p []byte, off uint64) (int, error) {
	bs := uint64(v.blockSize)
	block := off / bs
	i := sort.Search(len(in.extents), func(i int) bool { return in.extents[i].first+in.extents[i].count > block })
	if i == len(in.extents) || in.extents[i].first > block || in.extents[i].zero {
		end := ^uint64(0)
		if i < len(in.extents) {
			end = in.extents[i].first * bs
			if in.extents[i].first <= block {
				end = (in.extents[i].first + in.extents[i].count) * bs
			}
		}
		n := int(min(uint64(len(p)), end-off))
		clear(p[:n])
		return n, nil
	}
	x := in.extents[i]
	if whole := min(uint64(len(p))/bs, x.first+x.count-block); off%bs == 0 && whole > 0 {
		return int(whole * bs), v.readBlocks(p[:whole*bs], x.start+block-x.first)
	}
	const most = 256 // blocks at a time
	blocks := min((off%bs+uint64(len(p))+bs-1)/bs, x.first+x.count-block, most)
	buf := make([]byte, blocks*bs)
	if err := v.readBlocks(buf, x.start+block-x.first); err != nil {
		return 0, err
	}
	return copy(p, buf[off%bs:]), nil
}

// readAll reads a whole file of at most limit bytes.
func (v *volume) readAll(in *Inode, limit int64) ([]byte, error) {
	if in.Size > limit {
		return nil, damaged("inode %d has %d bytes, more than the %d that are read at once", in.Number, in.Size, limit)
	}
	b := make([]byte, in.Size)
	if _, err := v.readFileAt(in, b, 0); err != nil && err != io.EOF {
		return nil, err
	}
	return b, nil
}

// target gives where a symbolic link points.
func (v *volume) target(in *Inode) (string, error) {
	if in.flags&flagExtents == 0 && in.Size < int64(len(in.block)) {
		return string(in.block[:in.Size]), nil
	}
	b, err := v.readAll(in, 4096)
	if err != nil {
		return "", err
	}
	if strings.ContainsRune(string(b), 0) {
		return "", damaged("inode %d: a symbolic link with a zero byte", in.Number)
	}
	return string(b), nil
}
