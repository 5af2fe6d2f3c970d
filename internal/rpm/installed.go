package rpm

import (
	"bytes"
	"encoding/binary"
)

// ParseInstalled reads a header as rpm keeps it in its database: counts, index and
// data without the magic of a file, and after the package's own tags, which are a
// region, what rpm has added when it installed. Those are left out: HeaderDigest is
// that of the package. Signatures, Digest and the sizes of the file are not known.
// Errors are errs.Invalid; name stands for the header in messages.
func ParseInstalled(blob []byte, name string) (*Package, error) {
	be := binary.BigEndian
	if len(blob) < 8+entrySize {
		return nil, damaged(name, "a header of %d bytes", len(blob))
	}
	n, size := be.Uint32(blob), be.Uint32(blob[4:])
	if n == 0 || n > maxTags || size > maxData || uint64(len(blob)) != 8+uint64(n)*entrySize+uint64(size) {
		return nil, damaged(name, "a header of %d tags and %d bytes, in %d bytes", n, size, len(blob))
	}
	index, data := blob[8:][:n*entrySize], blob[8+n*entrySize:]
	region := uint32(0)
	if be.Uint32(index) == tagHeaderImmutable {
		region = tagHeaderImmutable
		off := uint64(be.Uint32(index[8:]))
		if off+entrySize > uint64(len(data)) {
			return nil, damaged(name, "the region ends outside of the header")
		}
		length := -int64(int32(be.Uint32(data[off+8:]))) // of its index
		if length < entrySize || length%entrySize != 0 || length > int64(len(index)) {
			return nil, damaged(name, "a region of %d bytes", length)
		}
		index, data = index[:length], data[:off+entrySize]
	}
	h := &header{what: "header", raw: append([]byte{}, headerMagic...)}
	h.raw = be.AppendUint32(h.raw, uint32(len(index)/entrySize))
	h.raw = be.AppendUint32(h.raw, uint32(len(data)))
	h.raw = bytes.Join([][]byte{h.raw, index, data}, nil)
	if err := h.index(name, len(index)/entrySize, region); err != nil {
		return nil, err
	}
	if region == 0 && h.has(tagArch) {
		return nil, damaged(name, "a package without a region: rpm before 4.0 made it")
	}
	if region == 0 { // a key
		return &Package{Name: h.str(tagName), Version: h.str(tagVersion), Release: h.str(tagRelease), Summary: h.str(tagSummary), Description: h.str(tagDescription)}, nil
	}
	return fill(&layout{sig: &header{}, main: h}, name)
}
