package imagefs

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"sort"
	"unicode/utf16"

	"slipway/internal/errs"
)

// Sector is the unit of a GPT, bytes.
const Sector = 512

// TableSpace is what a table takes at each end of an image, bytes: protective
// MBR, header and 128 entries, rounded up to the alignment of partitions.
const TableSpace = 1 << 20

const (
	entryCount = 128
	entrySize  = 128
	arraySize  = entryCount * entrySize
	maxArray   = 1 << 20 // bytes of entries that we are willing to read
)

// GUID is in the order in which it is written down; on disk the first three
// groups are little-endian.
type GUID [16]byte

// Types of partitions.
var (
	LinuxData      = MustGUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
	LinuxRootX8664 = MustGUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
	LinuxRootARM64 = MustGUID("b921b045-1df0-41c3-af44-4c6f280d3fae")
)

// MustGUID reads a GUID that stands in our own source, and panics otherwise.
func MustGUID(s string) GUID {
	var g GUID
	b, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(s), []byte("-"), nil)))
	if err != nil || copy(g[:], b) != 16 || len(b) != 16 {
		panic("no GUID: " + s)
	}
	return g
}

// String gives the usual form, lower case.
func (g GUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", g[0:4], g[4:6], g[6:8], g[8:10], g[10:16])
}

func (g GUID) disk() GUID {
	return GUID{g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6], g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]}
}

// Partition is one entry. Start and Size are bytes.
type Partition struct {
	Type, ID    GUID
	Name        string // at most 36 UTF-16 units
	Start, Size int64
}

// Table is a GUID partition table. Entries that are not used are left out, so
// that an index is no partition number unless all before it are used.
type Table struct {
	Disk       GUID
	Partitions []Partition
}

// Write writes protective MBR, both headers and both arrays of entries of an
// image of size bytes, and nothing else. The same table gives the same bytes.
func (t Table) Write(w io.WriterAt, size int64) error {
	last := size/Sector - 1
	if size%Sector != 0 || size < 2*TableSpace || len(t.Partitions) > entryCount {
		return errs.Ef(errs.Invalid, "an image of %d bytes cannot carry a partition table with %d partitions", size, len(t.Partitions))
	}
	array := make([]byte, arraySize)
	firstUsable, lastUsable := int64(2+arraySize/Sector), last-arraySize/Sector-1
	for i, p := range t.Partitions {
		name := utf16.Encode([]rune(p.Name))
		if p.Start%Sector != 0 || p.Size%Sector != 0 || p.Size <= 0 || p.Start/Sector < firstUsable || (p.Start+p.Size)/Sector-1 > lastUsable || len(name) > 36 {
			return errs.Ef(errs.Invalid, "partition %d (%q, %d bytes at %d) does not fit into an image of %d bytes", i+1, p.Name, p.Size, p.Start, size)
		}
		e := array[i*entrySize:]
		typ, id := p.Type.disk(), p.ID.disk()
		copy(e, typ[:])
		copy(e[16:], id[:])
		binary.LittleEndian.PutUint64(e[32:], uint64(p.Start/Sector))
		binary.LittleEndian.PutUint64(e[40:], uint64((p.Start+p.Size)/Sector-1))
		for j, u := range name {
			binary.LittleEndian.PutUint16(e[56+2*j:], u)
		}
	}
	header := func(me, other, entries int64) []byte {
		h := make([]byte, Sector)
		copy(h, "EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00")
		for off, v := range map[int]int64{24: me, 32: other, 40: firstUsable, 48: lastUsable, 72: entries} {
			binary.LittleEndian.PutUint64(h[off:], uint64(v))
		}
		disk := t.Disk.disk()
		copy(h[56:], disk[:])
		binary.LittleEndian.PutUint32(h[80:], entryCount)
		binary.LittleEndian.PutUint32(h[84:], entrySize)
		binary.LittleEndian.PutUint32(h[88:], crc32.ChecksumIEEE(array))
		binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
		return h
	}
	mbr := make([]byte, Sector)
	copy(mbr[446:], []byte{0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0})
	binary.LittleEndian.PutUint32(mbr[458:], uint32(min(last, 0xffffffff)))
	mbr[510], mbr[511] = 0x55, 0xaa
	backup := last - arraySize/Sector
	for _, part := range []struct {
		at   int64
		data []byte
	}{{0, mbr}, {Sector, header(1, last, 2)}, {2 * Sector, array}, {backup * Sector, array}, {last * Sector, header(last, 1, backup)}} {
		if _, err := w.WriteAt(part.data, part.at); err != nil {
			return err
		}
	}
	return nil
}

// ReadTable reads the table of an image of size bytes. A damaged first copy is
// replaced by the one at the end. Without a sound table: errs.Invalid; no trace
// of one is errs.NotFound.
func ReadTable(r io.ReaderAt, size int64) (Table, error) {
	t, err := readHeader(r, size, 1)
	if err == nil {
		return t, nil
	}
	if t, e := readHeader(r, size, size/Sector-1); e == nil {
		return t, nil
	}
	return Table{}, err
}

func readHeader(r io.ReaderAt, size, at int64) (Table, error) {
	h := make([]byte, Sector)
	if at < 1 || (at+1)*Sector > size {
		return Table{}, errs.E(errs.NotFound, "no partition table")
	}
	if _, err := r.ReadAt(h, at*Sector); err != nil && err != io.EOF {
		return Table{}, errs.Wrap(err, "read partition table")
	}
	if string(h[:8]) != "EFI PART" {
		return Table{}, errs.E(errs.NotFound, "no partition table")
	}
	bad := func(format string, args ...any) (Table, error) {
		return Table{}, errs.E(errs.Invalid, "partition table: "+fmt.Sprintf(format, args...))
	}
	u32 := func(off int) uint32 { return binary.LittleEndian.Uint32(h[off:]) }
	u64 := func(off int) uint64 { return binary.LittleEndian.Uint64(h[off:]) }
	if u32(8) != 0x10000 || u32(12) < 92 || u32(12) > Sector {
		return bad("unknown revision %#x", u32(8))
	}
	sum := u32(16)
	clear(h[16:20])
	if got := crc32.ChecksumIEEE(h[:u32(12)]); got != sum {
		return bad("checksum of the header is %08x, not %08x", got, sum)
	}
	if u64(24) != uint64(at) {
		return bad("header at sector %d says that it is at %d", at, u64(24))
	}
	sectors := uint64(size / Sector)
	if other := max(u64(32), u64(48)); other >= sectors && other < 1<<54 {
		return bad("image is truncated: the table is for %d bytes, there are %d", (other+1)*Sector, size)
	}
	first, last, entries := u64(40), u64(48), u64(72)
	count, each := uint64(u32(80)), uint64(u32(84))
	if each < 128 || each > 4096 || each&(each-1) != 0 || count == 0 || count*each > maxArray {
		return bad("%d entries of %d bytes", count, each)
	}
	if first > last || last >= sectors || entries < 1 || entries >= sectors || entries*Sector+count*each > uint64(size) {
		return bad("sectors %d to %d, entries at %d, of %d sectors", first, last, entries, sectors)
	}
	array := make([]byte, count*each)
	if _, err := r.ReadAt(array, int64(entries)*Sector); err != nil && err != io.EOF {
		return Table{}, errs.Wrap(err, "read partition table")
	}
	if got := crc32.ChecksumIEEE(array); got != u32(88) {
		return bad("checksum of the entries is %08x, not %08x", got, u32(88))
	}
	t := Table{Disk: GUID(h[56:72]).disk()}
	for i := range count {
		e := array[i*each:][:each]
		typ := GUID(e[:16])
		if typ == (GUID{}) {
			continue
		}
		a, b := binary.LittleEndian.Uint64(e[32:]), binary.LittleEndian.Uint64(e[40:])
		if a < first || b > last || a > b {
			return bad("partition %d has sectors %d to %d, outside of %d to %d", i+1, a, b, first, last)
		}
		name := make([]uint16, 0, 36)
		for j := 56; j < 128; j += 2 {
			u := binary.LittleEndian.Uint16(e[j:])
			if u == 0 {
				break
			}
			name = append(name, u)
		}
		t.Partitions = append(t.Partitions, Partition{Type: typ.disk(), ID: GUID(e[16:32]).disk(), Name: string(utf16.Decode(name)),
			Start: int64(a) * Sector, Size: int64(b-a+1) * Sector})
	}
	byStart := append([]Partition(nil), t.Partitions...)
	sort.Slice(byStart, func(i, j int) bool { return byStart[i].Start < byStart[j].Start })
	for i := 1; i < len(byStart); i++ {
		if p := byStart[i-1]; p.Start+p.Size > byStart[i].Start {
			return bad("partitions %q and %q overlap", p.Name, byStart[i].Name)
		}
	}
	return t, nil
}
