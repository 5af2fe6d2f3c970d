package compose

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Tags of a package header as the rpm database keeps it (rpmtag.h).
const (
	tagRegion      = 63
	tagSigPGP      = 259
	tagSigGPG      = 262
	tagDSAHeader   = 267
	tagRSAHeader   = 268
	tagSHA256      = 273
	tagOpenPGP     = 278
	tagName        = 1000
	tagVersion     = 1001
	tagRelease     = 1002
	tagEpoch       = 1003
	tagInstallTime = 1008
	tagArch        = 1022
	tagFileMTimes  = 1034
	tagSourceRPM   = 1044
	tagDirIndexes  = 1116
	tagBaseNames   = 1117
	tagDirNames    = 1118
	tagInstallTID  = 1128
)

// signatures tell of a key, not of the package; the database keeps them outside
// of the region.
var signatures = []uint32{tagSigPGP, tagSigGPG, tagDSAHeader, tagRSAHeader, tagOpenPGP}

// header is one header of "rpmdb --exportdb". Its entries are those of the
// package (the region, whose bytes have a digest and stay as they are) and what
// rpm added when it installed.
type header struct {
	region []byte // index entries of the region, the region's own first
	store  []byte // data of the region
	added  []entry
	values map[uint32]entry // all of them
}

type entry struct {
	tag, kind, count uint32
	data             []byte
}

const (
	headerMagic = "\x8e\xad\xe8\x01\x00\x00\x00\x00"
	maxEntries  = 1 << 16
	maxStore    = 256 << 20
)

func badHeader(what string) error {
	return errs.E(errs.Invalid, "rpm database: "+what, errs.Hint("the install root is damaged: remove it and install again"))
}

// readHeaders reads a header list to its end.
func readHeaders(r io.Reader) ([]*header, error) {
	var all []*header
	for {
		var intro [16]byte
		if _, err := io.ReadFull(r, intro[:]); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, badHeader("a header ends early")
		}
		n, size := binary.BigEndian.Uint32(intro[8:]), binary.BigEndian.Uint32(intro[12:])
		if string(intro[:8]) != headerMagic || n == 0 || n > maxEntries || size > maxStore {
			return nil, badHeader("no header where one should be")
		}
		b := make([]byte, int(n)*16+int(size))
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, badHeader("a header ends early")
		}
		h, err := parseHeader(b[:n*16], b[n*16:])
		if err != nil {
			return nil, err
		}
		all = append(all, h)
	}
}

func parseHeader(index, store []byte) (*header, error) {
	h := &header{values: map[uint32]entry{}}
	be := binary.BigEndian
	inRegion := 0
	if be.Uint32(index) == tagRegion {
		// The trailer of a region is an entry whose offset is minus the size of its index.
		at := uint64(be.Uint32(index[8:]))
		if at+16 > uint64(len(store)) {
			return nil, badHeader("a region ends outside of its header")
		}
		size := -int64(int32(be.Uint32(store[at+8:])))
		if size < 16 || size%16 != 0 || size > int64(len(index)) {
			return nil, badHeader("a region of a wrong size")
		}
		inRegion = int(size) / 16
		h.region, h.store = index[:size], store[:at+16]
	}
	for i := 0; i < len(index)/16; i++ {
		x := index[i*16:]
		e := entry{tag: be.Uint32(x), kind: be.Uint32(x[4:]), count: be.Uint32(x[12:])}
		if i == 0 && inRegion > 0 {
			continue
		}
		off := uint64(be.Uint32(x[8:]))
		if off > uint64(len(store)) {
			return nil, badHeader("data outside of a header")
		}
		size, ok := dataSize(e, store[off:])
		if !ok {
			return nil, badHeader("data outside of a header")
		}
		e.data = store[off:][:size]
		if i >= inRegion {
			h.added = append(h.added, e)
		}
		h.values[e.tag] = e
	}
	return h, nil
}

// dataSize says how many bytes the values of an entry take.
func dataSize(e entry, b []byte) (int, bool) {
	each := uint64(alignment(e.kind))
	switch e.kind {
	case 6, 8, 9: // strings
		n := 0
		for range e.count {
			end := bytes.IndexByte(b[n:], 0)
			if end < 0 {
				return 0, false
			}
			n += end + 1
		}
		return n, true
	case 0:
		each = 0
	}
	n := each * uint64(e.count)
	return int(n), n <= uint64(len(b))
}

// alignment is the size of one value, for numbers.
func alignment(kind uint32) int {
	switch kind {
	case 3:
		return 2
	case 4:
		return 4
	case 5:
		return 8
	}
	return 1
}

// encode gives the header as "rpmdb --importdb" reads it.
func (h *header) encode() []byte {
	be := binary.BigEndian
	index, store := slices.Clone(h.region), slices.Clone(h.store)
	for _, e := range h.added {
		for len(store)%alignment(e.kind) != 0 {
			store = append(store, 0)
		}
		for _, v := range []uint32{e.tag, e.kind, uint32(len(store)), e.count} {
			index = be.AppendUint32(index, v)
		}
		store = append(store, e.data...)
	}
	b := []byte(headerMagic)
	b = be.AppendUint32(b, uint32(len(index)/16))
	b = be.AppendUint32(b, uint32(len(store)))
	return append(append(b, index...), store...)
}

// normalise gives the header a fixed time of installation and takes signatures
// away.
func (h *header) normalise(seconds uint32) {
	h.added = slices.DeleteFunc(h.added, func(e entry) bool { return slices.Contains(signatures, e.tag) })
	for i, e := range h.added {
		if (e.tag == tagInstallTime || e.tag == tagInstallTID) && e.kind == 4 {
			h.added[i].data = bytes.Repeat(binary.BigEndian.AppendUint32(nil, seconds), int(e.count))
		}
	}
}

func (h *header) text(tag uint32) string {
	if s := h.texts(tag); len(s) > 0 {
		return s[0]
	}
	return ""
}

func (h *header) texts(tag uint32) []string {
	e, ok := h.values[tag]
	if !ok || e.kind != 6 && e.kind != 8 && e.kind != 9 {
		return nil
	}
	var out []string
	for _, s := range bytes.SplitAfter(e.data, []byte{0}) {
		if len(s) > 0 {
			out = append(out, string(s[:len(s)-1]))
		}
	}
	return out
}

func (h *header) numbers(tag uint32) []uint32 {
	e, ok := h.values[tag]
	if !ok || e.kind != 4 {
		return nil
	}
	out := make([]uint32, 0, e.count)
	for b := e.data; len(b) >= 4; b = b[4:] {
		out = append(out, binary.BigEndian.Uint32(b))
	}
	return out
}

// owned is a file of a package: where it is and when it was last written.
type owned struct {
	dir, base string
	mtime     uint32
}

func (h *header) files() ([]owned, error) {
	bases, dirs, indexes, times := h.texts(tagBaseNames), h.texts(tagDirNames), h.numbers(tagDirIndexes), h.numbers(tagFileMTimes)
	if len(indexes) != len(bases) || len(times) != len(bases) {
		return nil, badHeader(h.text(tagName) + " has a broken list of files")
	}
	out := make([]owned, len(bases))
	for i, b := range bases {
		if uint64(indexes[i]) >= uint64(len(dirs)) {
			return nil, badHeader(h.text(tagName) + " has a broken list of files")
		}
		out[i] = owned{dirs[indexes[i]], b, times[i]}
	}
	return out, nil
}

// record gives what a header alone tells of a package.
func (h *header) record() distro.PackageRecord {
	p := distro.PackageRecord{Name: h.text(tagName), Version: h.text(tagVersion), Release: h.text(tagRelease), Arch: h.text(tagArch)}
	if e := h.numbers(tagEpoch); len(e) > 0 {
		p.Epoch = int(e[0])
	}
	if s := h.text(tagSHA256); s != "" {
		p.HeaderDigest = distro.Digest("sha256:" + s)
	}
	return p
}
