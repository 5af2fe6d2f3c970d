package imagefs

import (
	"encoding/binary"
	"io"

	"slipway/internal/errs"
)

const maxLogical = 128

// readMBR reads the partitions of an MBR, logical ones with their container's;
// false when there is none. A table that claims what the image has not is errs.Invalid.
func readMBR(r io.ReaderAt, size int64) ([]Partition, bool, error) {
	sector := make([]byte, Sector)
	if n, err := r.ReadAt(sector, 0); n < Sector {
		if err == io.EOF {
			err = nil
		}
		return nil, false, err
	}
	if sector[510] != 0x55 || sector[511] != 0xaa {
		return nil, false, nil
	}
	le := binary.LittleEndian
	var out []Partition
	add := func(e []byte, base int64) error {
		p := Partition{Start: (base + int64(le.Uint32(e[8:]))) * Sector, Size: int64(le.Uint32(e[12:])) * Sector}
		if p.Start+p.Size > size {
			return errs.Ef(errs.Invalid, "partition table: image is truncated: partition %d ends at %d, there are %d bytes", len(out)+1, p.Start+p.Size, size)
		}
		out = append(out, p)
		return nil
	}
	var extended []int64
	for i := range 4 {
		e := sector[446+16*i:][:16]
		if e[0]&0x7f != 0 {
			return nil, false, nil // boot code of a file system, and no table
		}
		switch e[4] {
		case 0:
		case 0x05, 0x0f, 0x85:
			extended = append(extended, int64(le.Uint32(e[8:])))
		default:
			if le.Uint32(e[12:]) == 0 {
				return nil, false, nil
			}
			if err := add(e, 0); err != nil {
				return nil, true, err
			}
		}
	}
	for _, first := range extended {
		for at, n := first, 0; ; n++ {
			if n >= maxLogical {
				return nil, true, errs.E(errs.Invalid, "partition table: its logical partitions go in circles")
			}
			if _, err := r.ReadAt(sector, at*Sector); err != nil || sector[510] != 0x55 || sector[511] != 0xaa {
				return nil, true, errs.Ef(errs.Invalid, "partition table: no table of logical partitions at sector %d", at)
			}
			if e := sector[446:][:16]; e[4] != 0 {
				if err := add(e, at); err != nil {
					return nil, true, err
				}
			}
			next := sector[462:][:16]
			if next[4] == 0 || le.Uint32(next[8:]) == 0 {
				break
			}
			at = first + int64(le.Uint32(next[8:]))
		}
	}
	return out, len(out) > 0, nil
}
