package imagefs

import (
	"encoding/binary"

	"slipway/internal/errs"
)

// replayed says where the journal holds the newer self of a block.
type replayed struct {
	block uint64 // in the file system
	// escaped: the block begins with the journal's magic number, which the journal
	// holds as zeros.
	escaped bool
}

const (
	journalMagic = 0xc03b3998
	maxJournal   = 1 << 18 // blocks

	journal64bit      = 0x2
	journalCsumV2     = 0x8
	journalCsumV3     = 0x10
	journalFastCommit = 0x20
	journalReadable   = 0x1 | journal64bit | 0x4 | journalCsumV2 | journalCsumV3

	tagEscaped  = 1
	tagSameUUID = 2
	tagLast     = 8
)

// journalReader walks the blocks of the journal file, a ring.
type journalReader struct {
	v           *volume
	in          *Inode
	first, end  uint64 // the ring, in blocks of the file
	at, visited uint64
	features    uint32
}

// read gives block n of the journal file and its place in the file system.
func (j *journalReader) read(n uint64) ([]byte, uint64, error) {
	for _, x := range j.in.extents {
		if n >= x.first && n < x.first+x.count {
			b := make([]byte, j.v.blockSize)
			at := x.start + n - x.first
			return b, at, j.v.readBlocks(b, at)
		}
	}
	return nil, 0, damaged("journal has no block %d", n)
}

func (j *journalReader) next() ([]byte, uint64, error) {
	if j.visited++; j.visited > j.end-j.first {
		return nil, 0, damaged("journal goes in circles")
	}
	n := j.at
	if j.at++; j.at == j.end {
		j.at = j.first
	}
	return j.read(n)
}

// loadJournal finds what committed transactions hold for which block. As the
// kernel does: an unfinished transaction at the end does not count, nor does a
// block that the same or a later transaction revokes.
func (v *volume) loadJournal() error {
	in, err := v.readInode(v.journal)
	if err != nil {
		return err
	}
	if err := v.load(in); err != nil {
		return err
	}
	j := &journalReader{v: v, in: in}
	sb, _, err := j.read(0)
	if err != nil {
		return err
	}
	be := binary.BigEndian
	if be.Uint32(sb) != journalMagic || int64(be.Uint32(sb[12:])) != v.blockSize {
		return damaged("journal is damaged")
	}
	if be.Uint32(sb[4:]) == 4 {
		j.features = be.Uint32(sb[0x28:])
	}
	if j.features&^journalReadable != 0 {
		return damaged("journal has features %#x, not supported here", j.features)
	}
	j.first, j.end, j.at = uint64(be.Uint32(sb[20:])), uint64(be.Uint32(sb[16:])), uint64(be.Uint32(sb[28:]))
	if j.at == 0 {
		return nil
	}
	if j.first == 0 || j.end <= j.first || j.end > maxJournal || int64(j.end)*v.blockSize > in.Size || j.at < j.first || j.at >= j.end {
		return damaged("journal of %d blocks begins at %d", j.end, j.at)
	}
	type write struct {
		to       uint64
		from     replayed
		sequence uint32
	}
	var done, open []write
	revoked, openRevoked := map[uint64]uint32{}, []uint64{}
	for sequence := be.Uint32(sb[24:]); ; {
		b, _, err := j.next()
		if err != nil {
			if errs.Is(err, errs.Invalid) && j.visited > j.end-j.first {
				break // the whole ring is one log
			}
			return err
		}
		if be.Uint32(b) != journalMagic || be.Uint32(b[8:]) != sequence {
			break
		}
		switch be.Uint32(b[4:]) {
		case 1: // which blocks follow
			tags, err := j.tags(b)
			if err != nil {
				return err
			}
			for _, t := range tags {
				_, at, err := j.next()
				if err != nil {
					return err
				}
				open = append(open, write{t.block, replayed{at, t.escaped}, sequence})
			}
		case 2: // commit
			done = append(done, open...)
			for _, n := range openRevoked {
				revoked[n] = sequence
			}
			open, openRevoked = nil, nil
			sequence++
		case 5: // revoke
			list, err := j.revokes(b)
			if err != nil {
				return err
			}
			openRevoked = append(openRevoked, list...)
		default:
			return damaged("journal has a block of type %d", be.Uint32(b[4:]))
		}
	}
	v.replay = map[uint64]replayed{}
	for _, w := range done {
		if by, ok := revoked[w.to]; ok && int32(w.sequence-by) <= 0 {
			continue
		}
		if w.to >= v.blocks {
			return damaged("journal writes to block %d of %d", w.to, v.blocks)
		}
		v.replay[w.to] = w.from
	}
	return nil
}

// tags reads a descriptor block.
func (j *journalReader) tags(b []byte) ([]replayed, error) {
	size, tail := 8, 0
	switch {
	case j.features&journalCsumV3 != 0:
		size, tail = 16, 4
	case j.features&journalCsumV2 != 0:
		size, tail = 10, 4
	}
	if j.features&journal64bit != 0 && j.features&journalCsumV3 == 0 {
		size += 4
	}
	var tags []replayed
	for at := 12; at+size <= len(b)-tail; {
		t := b[at:]
		flags := uint32(binary.BigEndian.Uint16(t[6:]))
		if j.features&journalCsumV3 != 0 {
			flags = binary.BigEndian.Uint32(t[4:])
		}
		block := uint64(binary.BigEndian.Uint32(t))
		if j.features&journal64bit != 0 {
			block |= uint64(binary.BigEndian.Uint32(t[8:])) << 32
		}
		tags = append(tags, replayed{block, flags&tagEscaped != 0})
		if at += size; flags&tagSameUUID == 0 {
			at += 16
		}
		if flags&tagLast != 0 {
			return tags, nil
		}
	}
	return nil, damaged("journal has a descriptor without an end")
}

func (j *journalReader) revokes(b []byte) ([]uint64, error) {
	used, each := int(binary.BigEndian.Uint32(b[12:])), 4
	if j.features&journal64bit != 0 {
		each = 8
	}
	if used < 16 || used > len(b) {
		return nil, damaged("journal revokes %d bytes in a block", used)
	}
	var list []uint64
	for at := 16; at+each <= used; at += each {
		if each == 8 {
			list = append(list, binary.BigEndian.Uint64(b[at:]))
		} else {
			list = append(list, uint64(binary.BigEndian.Uint32(b[at:])))
		}
	}
	return list, nil
}

// fromJournal replaces block n by its newer self, if there is one.
func (v *volume) fromJournal(b []byte, n uint64) error {
	r, ok := v.replay[n]
	if !ok {
		return nil
	}
	if _, err := v.r.ReadAt(b, int64(r.block)*v.blockSize); err != nil {
		return errs.Wrap(err, "read block %d of the journal", r.block)
	}
	if r.escaped {
		binary.BigEndian.PutUint32(b, journalMagic)
	}
	return nil
}
