package rpm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"sync"

	"slipway/internal/errs"
)

// Types of header entries.
const (
	typeChar        = 1
	typeInt8        = 2
	typeInt16       = 3
	typeInt32       = 4
	typeInt64       = 5
	typeString      = 6
	typeBin         = 7
	typeStringArray = 8
	typeI18NString  = 9
)

// Limits of rpm itself (header.cc): more is refused before anything is allocated.
const (
	leadSize       = 96
	entrySize      = 16
	maxTags        = 0xffff
	maxData        = 256 << 20
	maxSigTags     = 32
	maxSigData     = 64 << 20
	headerIntro    = 16
	headerMagicLen = 8
)

var (
	leadMagic   = []byte{0xed, 0xab, 0xee, 0xdb}
	headerMagic = []byte{0x8e, 0xad, 0xe8, 0x01, 0, 0, 0, 0}
)

// entry is one tag of a header. data is a window of the header's bytes, exactly
// as long as type and count make it.
type entry struct {
	tag, typ, count uint32
	data            []byte
}

// header is a checked header: every entry's data lies inside it.
type header struct {
	what    string // for messages: "signature header", "main header"
	start   int64  // in the file
	raw     []byte // magic, counts, index, data
	entries []entry
}

func (h *header) end() int64 { return h.start + int64(len(h.raw)) }

// layout is where the parts of one RPM file lie.
type layout struct {
	sig, main *header
	size      int64
}

func (l *layout) payload(r io.ReaderAt) *io.SectionReader {
	return io.NewSectionReader(r, l.main.end(), l.size-l.main.end())
}

// damaged is the error of a file that is no sound RPM.
func damaged(name, format string, args ...any) error {
	return errs.E(errs.Invalid, fmt.Sprintf("%s: %s", name, fmt.Sprintf(format, args...)),
		errs.Hint("the file is no sound RPM: fetch or build it again"))
}

// readLayout reads lead, signature header and main header.
func readLayout(r io.ReaderAt, size int64, name string) (*layout, error) {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	r = newBeginning(r, size, buf)
	var lead [leadSize]byte
	if err := readAt(r, lead[:], 0, size, name, "lead"); err != nil {
		return nil, err
	}
	if !bytes.Equal(lead[:4], leadMagic) {
		return nil, damaged(name, "no RPM: the first bytes are %x, not %x", lead[:4], leadMagic)
	}
	if lead[4] < 3 || lead[4] > 4 {
		return nil, damaged(name, "RPM format %d, only 3 and 4 are known", lead[4])
	}
	if t := binary.BigEndian.Uint16(lead[78:]); t != 5 {
		return nil, damaged(name, "signature type %d in the lead, only 5 is known", t)
	}
	sig, err := readHeader(r, size, leadSize, name, "signature header", sigRegion, maxSigTags, maxSigData)
	if err != nil {
		return nil, err
	}
	start := (sig.end() + 7) &^ 7
	main, err := readHeader(r, size, start, name, "main header", tagHeaderImmutable, maxTags, maxData)
	if err != nil {
		return nil, err
	}
	return &layout{sig: sig, main: main, size: size}, nil
}

// beginning reads the first bytes of a file at once, which hold the headers of most
// packages: seven small reads become one.
type beginning struct {
	io.ReaderAt
	have []byte
}

const bufferSize = 16 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

func newBeginning(r io.ReaderAt, size int64, buf *[bufferSize]byte) io.ReaderAt {
	n, _ := r.ReadAt(buf[:min(max(size, 0), bufferSize)], 0) // what fails is read again where it is needed
	return &beginning{r, buf[:max(n, 0)]}
}

func (b *beginning) ReadAt(p []byte, off int64) (int, error) {
	if off >= 0 && off <= int64(len(b.have)) && int64(len(p)) <= int64(len(b.have))-off {
		return copy(p, b.have[off:]), nil
	}
	return b.ReaderAt.ReadAt(p, off)
}

// readAt fills b, or says that the file ends too early.
func readAt(r io.ReaderAt, b []byte, off, size int64, name, what string) error {
	if size-off < int64(len(b)) {
		return damaged(name, "truncated in the %s: %d bytes needed at offset %d, the file has %d", what, len(b), off, size)
	}
	if n, err := r.ReadAt(b, off); n < len(b) {
		if err == io.EOF {
			return damaged(name, "truncated in the %s at offset %d", what, off+int64(n))
		}
		return errs.E(errs.Unavailable, fmt.Sprintf("read %s at offset %d", name, off), err)
	}
	return nil
}

func readHeader(r io.ReaderAt, size, start int64, name, what string, region, tags, data uint32) (*header, error) {
	var intro [headerIntro]byte
	if err := readAt(r, intro[:], start, size, name, what); err != nil {
		return nil, err
	}
	if !bytes.Equal(intro[:headerMagicLen], headerMagic) {
		return nil, damaged(name, "no %s at offset %d: found %x", what, start, intro[:headerMagicLen])
	}
	n, dl := binary.BigEndian.Uint32(intro[8:]), binary.BigEndian.Uint32(intro[12:])
	if n == 0 || n > tags || dl > data {
		return nil, damaged(name, "%s at offset %d claims %d tags and %d bytes of data; at most %d and %d are allowed", what, start, n, dl, tags, data)
	}
	length := headerIntro + int64(n)*entrySize + int64(dl)
	if size-start < length {
		return nil, damaged(name, "truncated in the %s: it claims %d bytes at offset %d, the file has %d", what, length, start, size)
	}
	// A size that lies is found before the header's length is allocated.
	var last [1]byte
	if err := readAt(r, last[:], start+length-1, size, name, what); err != nil {
		return nil, err
	}
	h := &header{what: what, start: start, raw: make([]byte, length)}
	if err := readAt(r, h.raw, start, size, name, what); err != nil {
		return nil, err
	}
	return h, h.index(name, int(n), region)
}

// index checks every entry of the index and cuts its data out. The checks are
// those of rpm: known types, alignment, no data outside, none shared. A region of
// 0 is a header without one: a key in rpm's database.
func (h *header) index(name string, n int, region uint32) error {
	index := h.raw[headerIntro : headerIntro+n*entrySize]
	data := h.raw[headerIntro+n*entrySize:]
	h.entries = make([]entry, 0, n)
	end := 0
	for i := range n {
		b := index[i*entrySize:]
		e := entry{tag: binary.BigEndian.Uint32(b), typ: binary.BigEndian.Uint32(b[4:]), count: binary.BigEndian.Uint32(b[12:])}
		off := binary.BigEndian.Uint32(b[8:])
		bad := func(why string) error {
			return damaged(name, "%s at offset %d, entry %d (tag %d): %s", h.what, h.start, i, e.tag, why)
		}
		if uint64(off) > uint64(len(data)) {
			return bad(fmt.Sprintf("data at %d, the header has %d bytes", off, len(data)))
		}
		// Before the length, which reads the data: entries that share their
		// data would make that quadratic.
		if i > 0 && int(off) < end {
			return bad(fmt.Sprintf("data at %d overlaps the entry before, which ends at %d", off, end))
		}
		length, ok := dataLength(e.typ, e.count, data[off:])
		if !ok {
			return bad(fmt.Sprintf("type %d, count %d at %d does not fit into %d bytes of data", e.typ, e.count, off, len(data)))
		}
		if a := alignment(e.typ); int(off)%a != 0 {
			return bad(fmt.Sprintf("data at %d is not aligned to %d", off, a))
		}
		e.data = data[off:][:length:length]
		if i == 0 && region != 0 {
			if e.tag != region || e.typ != typeBin || length != entrySize || int(off)+entrySize != len(data) {
				return bad(fmt.Sprintf("no region (tag %d) over the whole header; rpm before 4.0 made this file, or it is damaged", region))
			}
			want := binary.BigEndian.AppendUint32(nil, region)
			want = binary.BigEndian.AppendUint32(want, typeBin)
			want = binary.BigEndian.AppendUint32(want, uint32(-int32(n*entrySize)))
			want = binary.BigEndian.AppendUint32(want, entrySize)
			if !bytes.Equal(e.data, want) {
				return bad(fmt.Sprintf("the region's trailer is %x, not %x", e.data, want))
			}
		} else {
			if e.tag < 100 {
				return bad("reserved tag")
			}
			if end = int(off) + length; region != 0 && end > len(data)-entrySize {
				return bad("data overlaps the region's trailer")
			}
		}
		h.entries = append(h.entries, e)
	}
	return nil
}

func alignment(typ uint32) int {
	switch typ {
	case typeInt16:
		return 2
	case typeInt32:
		return 4
	case typeInt64:
		return 8
	}
	return 1
}

// dataLength gives how many bytes of data an entry has; false if they are not there.
func dataLength(typ, count uint32, data []byte) (int, bool) {
	var unit uint64
	switch typ {
	case typeChar, typeInt8, typeBin:
		unit = 1
	case typeInt16, typeInt32, typeInt64:
		unit = uint64(alignment(typ))
	case typeString, typeStringArray, typeI18NString:
		if count == 0 || typ == typeString && count != 1 || uint64(count) > uint64(len(data)) {
			return 0, false
		}
		pos := 0
		for range count {
			i := bytes.IndexByte(data[pos:], 0)
			if i < 0 {
				return 0, false
			}
			pos += i + 1
		}
		return pos, true
	default:
		return 0, false
	}
	length := uint64(count) * unit
	return int(length), count > 0 && length <= uint64(len(data))
}

func (h *header) find(tag uint32) *entry {
	for i := range h.entries {
		if h.entries[i].tag == tag {
			return &h.entries[i]
		}
	}
	return nil
}

func (h *header) has(tag uint32) bool { return h.find(tag) != nil }

// strings gives the values of a tag with strings, nil for anything else.
func (h *header) strings(tag uint32) []string {
	e := h.find(tag)
	if e == nil || e.typ != typeString && e.typ != typeStringArray && e.typ != typeI18NString {
		return nil
	}
	out := make([]string, e.count)
	text := string(e.data) // one allocation; the values share it
	for i := range out {
		out[i], text, _ = strings.Cut(text, "\x00")
	}
	return out
}

// str gives the first string of a tag: of translated texts that is locale C.
func (h *header) str(tag uint32) string {
	e := h.find(tag)
	if e == nil || e.typ != typeString && e.typ != typeStringArray && e.typ != typeI18NString {
		return ""
	}
	return string(e.data[:bytes.IndexByte(e.data, 0)])
}

// ints gives the values of a tag with integers of 16, 32 or 64 bits, nil for anything else.
func (h *header) ints(tag uint32) []uint64 {
	e := h.find(tag)
	if e == nil {
		return nil
	}
	switch e.typ {
	case typeInt16, typeInt32, typeInt64:
	default:
		return nil
	}
	out := make([]uint64, e.count)
	for i := range out {
		switch e.typ {
		case typeInt16:
			out[i] = uint64(binary.BigEndian.Uint16(e.data[2*i:]))
		case typeInt32:
			out[i] = uint64(binary.BigEndian.Uint32(e.data[4*i:]))
		case typeInt64:
			out[i] = binary.BigEndian.Uint64(e.data[8*i:])
		}
	}
	return out
}

// integer gives the first value of the first tag that is there, else 0.
func (h *header) integer(tags ...uint32) int64 {
	for _, tag := range tags {
		if v := h.ints(tag); len(v) > 0 {
			return int64(v[0])
		}
	}
	return 0
}
