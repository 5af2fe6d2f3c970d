package imagefs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"slipway/internal/errs"
)

// volume is one ext4 file system: its blocks and its inodes.
type volume struct {
	r         io.ReaderAt // of the file system alone, begins at its first byte
	size      int64
	blockSize int64
	blocks    uint64
	perGroup  uint32 // inodes
	inodes    uint32
	inodeSize int64
	descSize  int64
	firstData uint64 // block of the superblock
	uuid      GUID
	label     string
	kind      string // ext2, ext3, ext4
	checksums bool
	seed      uint32
	journal   uint32              // inode of the journal, when it has to be replayed
	replay    map[uint64]replayed // block -> its newer self in the journal
	tables    blockCache
}

// blockCache keeps blocks of inode tables and group descriptors, of which each
// holds many inodes that are asked for one after the other.
type blockCache struct {
	mu     sync.Mutex
	blocks map[uint64][]byte
}

const cachedBlocks = 512

// tableBlock gives block n; nobody may write into it.
func (v *volume) tableBlock(n uint64) ([]byte, error) {
	v.tables.mu.Lock()
	b := v.tables.blocks[n]
	v.tables.mu.Unlock()
	if b != nil {
		return b, nil
	}
	b = make([]byte, v.blockSize)
	if err := v.readBlocks(b, n); err != nil {
		return nil, err
	}
	v.tables.mu.Lock()
	if v.tables.blocks == nil || len(v.tables.blocks) >= cachedBlocks {
		v.tables.blocks = map[uint64][]byte{}
	}
	v.tables.blocks[n] = b
	v.tables.mu.Unlock()
	return b, nil
}

// Features that change how a file system must be read.
const (
	incompatFiletype = 0x2
	incompatRecover  = 0x4
	incompatExtents  = 0x40
	incompat64bit    = 0x80
	incompatMMP      = 0x100
	incompatFlexBG   = 0x200
	incompatEAInode  = 0x400
	incompatCsumSeed = 0x2000
	incompatLargeDir = 0x4000
	readable         = incompatFiletype | incompatRecover | incompatExtents | incompat64bit | incompatMMP | incompatFlexBG |
		incompatEAInode | incompatCsumSeed | incompatLargeDir
	roCompatMetadataCsum = 0x400
	compatHasJournal     = 0x4
)

var incompatNames = map[uint32]string{0x1: "compression", 0x8: "a journal device", 0x10: "meta_bg", 0x1000: "dirdata", 0x8000: "inline_data", 0x10000: "encrypt", 0x20000: "casefold"}

const (
	superblockAt   = 1024
	superblockSize = 1024
)

// crc is crc32c as ext4 uses it: from a seed, without the last inversion.
func crc(seed uint32, data []byte) uint32 { return ^crc32.Update(^seed, castagnoli, data) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func damaged(format string, args ...any) error {
	return errs.E(errs.Invalid, "ext4: "+fmt.Sprintf(format, args...))
}

// readSuperblock gives nil without an error when there is no ext4 at all.
func readSuperblock(r io.ReaderAt, size int64) (*volume, error) {
	sb := make([]byte, superblockSize)
	if size < superblockAt+superblockSize {
		return nil, nil
	}
	if _, err := r.ReadAt(sb, superblockAt); err != nil && err != io.EOF {
		return nil, errs.Wrap(err, "read superblock")
	}
	u16 := func(off int) uint16 { return binary.LittleEndian.Uint16(sb[off:]) }
	u32 := func(off int) uint32 { return binary.LittleEndian.Uint32(sb[off:]) }
	if u16(0x38) != 0xef53 {
		return nil, nil
	}
	incompat, roCompat := u32(0x60), u32(0x64)
	v := &volume{r: r, size: size, uuid: GUID(sb[0x68:0x78]), label: string(bytes.TrimRight(sb[0x78:0x88], "\x00")), inodeSize: 128, descSize: 32,
		blocks: uint64(u32(4)), perGroup: u32(0x28), inodes: u32(0), firstData: uint64(u32(0x14)), checksums: roCompat&roCompatMetadataCsum != 0}
	if v.checksums {
		if got := crc(^uint32(0), sb[:0x3fc]); got != u32(0x3fc) {
			return nil, damaged("checksum of the superblock is %08x, not %08x", got, u32(0x3fc))
		}
	}
	if u32(0x18) > 6 {
		return nil, damaged("block size 2^%d", 10+uint64(u32(0x18)))
	}
	v.blockSize = 1024 << u32(0x18)
	if u32(0x4c) > 0 {
		v.inodeSize = int64(u16(0x58))
	}
	if incompat&incompat64bit != 0 {
		v.blocks |= uint64(u32(0x150)) << 32
		v.descSize = int64(u16(0xfe))
	}
	if unknown := incompat &^ readable; unknown != 0 {
		low := unknown & -unknown
		name := incompatNames[low]
		if name == "" {
			name = fmt.Sprintf("%#x", low)
		}
		return nil, damaged("feature %s is not supported here", name)
	}
	switch {
	case incompat&incompatExtents != 0:
		v.kind = "ext4"
	case u32(0x5c)&compatHasJournal != 0:
		v.kind = "ext3"
	default:
		v.kind = "ext2"
	}
	if v.inodeSize < 128 || v.inodeSize > v.blockSize || v.inodeSize&(v.inodeSize-1) != 0 || v.descSize < 32 || v.descSize > v.blockSize ||
		(incompat&incompat64bit != 0 && v.descSize < 64) ||
		v.perGroup == 0 || u32(0x20) == 0 || v.inodes < 11 || v.firstData > 1 || v.blocks == 0 || v.blocks > 1<<48 {
		return nil, damaged("superblock makes no sense: inodes of %d bytes, %d per group, %d blocks", v.inodeSize, v.perGroup, v.blocks)
	}
	if want := int64(v.blocks) * v.blockSize; want > size {
		return nil, damaged("image is truncated: the file system has %d bytes, there are %d", want, size)
	}
	v.seed = crc(^uint32(0), v.uuid[:])
	if incompat&incompatCsumSeed != 0 {
		v.seed = u32(0x270)
	}
	if incompat&incompatRecover != 0 {
		if v.journal = u32(0xe0); v.journal == 0 {
			return nil, damaged("the journal is on another device")
		}
	}
	return v, nil
}

// readBlocks fills b, whole blocks, from block n on.
func (v *volume) readBlocks(b []byte, n uint64) error {
	count := uint64(int64(len(b)) / v.blockSize)
	if n >= v.blocks || count > v.blocks-n {
		return damaged("block %d of %d", n+count-1, v.blocks)
	}
	if _, err := v.r.ReadAt(b, int64(n)*v.blockSize); err != nil && err != io.EOF {
		return errs.Wrap(err, "read block %d", n)
	}
	if len(v.replay) == 0 {
		return nil
	}
	for i := range count {
		if err := v.fromJournal(b[int64(i)*v.blockSize:][:v.blockSize], n+i); err != nil {
			return err
		}
	}
	return nil
}

// readAt reads bytes that lie inside one block.
func (v *volume) readAt(b []byte, off int64) error {
	block, err := v.tableBlock(uint64(off / v.blockSize))
	if err != nil {
		return err
	}
	if copy(b, block[off%v.blockSize:]) != len(b) {
		return damaged("%d bytes at %d cross a block", len(b), off)
	}
	return nil
}

// readInode reads and checks one inode.
func (v *volume) readInode(n uint32) (*Inode, error) {
	if n == 0 || n > v.inodes {
		return nil, damaged("inode %d of %d", n, v.inodes)
	}
	group, index := int64((n-1)/v.perGroup), int64((n-1)%v.perGroup)
	desc := make([]byte, v.descSize)
	perBlock := v.blockSize / v.descSize
	if err := v.readAt(desc, (int64(v.firstData)+1+group/perBlock)*v.blockSize+group%perBlock*v.descSize); err != nil {
		return nil, errs.Wrap(err, "inode %d", n)
	}
	table := uint64(binary.LittleEndian.Uint32(desc[8:]))
	if v.descSize >= 64 {
		table |= uint64(binary.LittleEndian.Uint32(desc[0x28:])) << 32
	}
	if table == 0 || table >= v.blocks {
		return nil, damaged("inode %d: its table is at block %d of %d", n, table, v.blocks)
	}
	raw := make([]byte, v.inodeSize)
	if err := v.readAt(raw, int64(table)*v.blockSize+index*v.inodeSize); err != nil {
		return nil, errs.Wrap(err, "inode %d", n)
	}
	if v.checksums {
		if err := v.checkInode(n, raw); err != nil {
			return nil, err
		}
	}
	return parseInode(n, raw), nil
}

func (v *volume) checkInode(n uint32, raw []byte) error {
	b := bytes.Clone(raw)
	want, mask := uint32(binary.LittleEndian.Uint16(b[0x7c:])), uint32(0xffff)
	b[0x7c], b[0x7d] = 0, 0
	if len(b) > 128 && binary.LittleEndian.Uint16(b[0x80:]) >= 4 {
		want |= uint32(binary.LittleEndian.Uint16(b[0x82:])) << 16
		mask = ^uint32(0)
		b[0x82], b[0x83] = 0, 0
	}
	var number [4]byte
	binary.LittleEndian.PutUint32(number[:], n)
	if got := crc(crc(crc(v.seed, number[:]), b[0x64:0x68]), b) & mask; got != want {
		return damaged("checksum of inode %d is %08x, not %08x", n, got, want)
	}
	return nil
}
