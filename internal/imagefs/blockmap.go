package imagefs

import (
	"encoding/binary"
)

// flags of inodes whose block field is neither a map nor a tree.
const (
	flagEncrypt = 0x800
	flagInline  = 0x10000000
)

// blockMap reads the block map that ext2 and ext3 have in place of an extent tree:
// twelve blocks, then a block of blocks, one of those, and one of those.
func (v *volume) blockMap(in *Inode) error {
	if in.flags&(flagEncrypt|flagInline) != 0 {
		return damaged("inode %d is encrypted, or inside its inode (flags %#x)", in.Number, in.flags)
	}
	m := mapReader{v: v, in: in, end: (uint64(in.Size) + uint64(v.blockSize) - 1) / uint64(v.blockSize)}
	for i := range 15 {
		if err := m.add(binary.LittleEndian.Uint32(in.block[4*i:]), max(0, i-11)); err != nil {
			return err
		}
	}
	return nil
}

type mapReader struct {
	v     *volume
	in    *Inode
	at    uint64 // block of the file
	end   uint64
	nodes int
}

// add takes one pointer; depth is how many blocks of pointers are below it.
func (m *mapReader) add(p uint32, depth int) error {
	span := uint64(1)
	for range depth {
		span *= uint64(m.v.blockSize) / 4
	}
	switch {
	case m.at >= m.end:
		return nil
	case p == 0:
		m.at += span
		return nil
	case uint64(p) >= m.v.blocks:
		return damaged("inode %d: block %d of %d", m.in.Number, p, m.v.blocks)
	case depth > 0:
		if m.nodes++; uint64(m.nodes) > m.v.blocks || m.nodes > maxExtents {
			return damaged("inode %d: its block map goes in circles", m.in.Number)
		}
		b := make([]byte, m.v.blockSize)
		if err := m.v.readBlocks(b, uint64(p)); err != nil {
			return err
		}
		for ; len(b) > 0; b = b[4:] {
			if err := m.add(binary.LittleEndian.Uint32(b), depth-1); err != nil {
				return err
			}
		}
		return nil
	}
	if n := len(m.in.extents); n > 0 {
		if x := &m.in.extents[n-1]; x.first+x.count == m.at && x.start+x.count == uint64(p) {
			x.count++
			m.at++
			return nil
		}
	}
	if len(m.in.extents) >= maxExtents {
		return damaged("inode %d: more than %d runs of blocks", m.in.Number, maxExtents)
	}
	m.in.extents = append(m.in.extents, extent{first: m.at, count: 1, start: uint64(p)})
	m.at++
	return nil
}
