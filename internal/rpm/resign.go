package rpm

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"

	"slipway/internal/errs"
)

// Resign verifies the RPM file r of size bytes as [Verify] does and writes it to
// w with another signature header: all signatures that it had are dropped, as is
// the space that rpm reserves for one, and the one that sign gives for the bytes
// of the main header takes their place. tag is 267 (EdDSA, DSA), 268 (RSA) or
// 278 (rpm 6). Lead, main header and payload are copied unchanged, so
// HeaderDigest stays equal. Equal input and equal signatures give equal bytes.
// docs/format/rpm-signature.md describes the result.
//
// Nothing is written before file and signature are known to be good; what w
// holds after an error is no package. [Prepare] does the same in two steps.
func Resign(w io.Writer, r io.ReaderAt, size int64, sign func(header []byte) (sig []byte, tag int, err error)) error {
	s, err := Prepare(r, size)
	if err != nil {
		return err
	}
	sig, tag, err := sign(slices.Clone(s.Header()))
	if err != nil {
		return errs.Wrap(err, "sign %s", s.Package.NEVRA())
	}
	_, err = s.Write(w, sig, tag)
	return err
}

// Signing is a package that was verified and waits for its signature.
type Signing struct {
	Package *Package // as it is, Digest not set
	r       io.ReaderAt
	layout  *layout
}

// Prepare verifies the RPM file r of size bytes as [Verify] does. r must stay open,
// and as it is, until [Signing.Write].
func Prepare(r io.ReaderAt, size int64) (*Signing, error) {
	const name = "package"
	l, err := readLayout(r, size, name)
	if err != nil {
		return nil, err
	}
	p, err := fill(l, name)
	if err != nil {
		return nil, err
	}
	if err := verify(r, l, p.NEVRA()); err != nil {
		return nil, err
	}
	return &Signing{Package: p, r: r, layout: l}, nil
}

// Header gives the bytes of the main header: what is to be signed. They must not be
// changed.
func (s *Signing) Header() []byte { return s.layout.main.raw }

// Write writes the package with that signature, see [Resign], and gives it as it now
// is, Digest not set.
func (s *Signing) Write(w io.Writer, sig []byte, tag int) (*Package, error) {
	p, l := *s.Package, s.layout
	signed, err := signatureEntry(sig, tag)
	if err != nil {
		return nil, errs.Wrap(err, "sign %s", p.NEVRA())
	}
	buf := writeBuffers.Get().(*[256 << 10]byte)
	defer writeBuffers.Put(buf)
	head := buf[:leadSize]
	if n, err := s.r.ReadAt(head, 0); n < len(head) {
		return nil, errs.E(errs.Unavailable, "read "+p.NEVRA(), err)
	}
	head = append(head, signatureHeader(l.sig, signed)...)
	p.HeaderStart = int64(len(head))
	head = append(head, l.main.raw...)
	p.HeaderEnd = int64(len(head))
	// Head and payload in few large writes: most packages fit into one.
	piece, at, size := head, l.main.end(), l.size
	for more := true; more; {
		if len(piece) < len(buf) && at < size {
			n := len(piece)
			piece = buf[:min(int64(len(buf)), int64(n)+size-at)] // head is in buf when it is that short
			m, err := s.r.ReadAt(piece[n:], at)
			if m < len(piece)-n {
				return nil, errs.E(errs.Unavailable, fmt.Sprintf("copy payload of %s: %d of %d bytes", p.NEVRA(), at+int64(m)-l.main.end(), size-l.main.end()), err)
			}
			at += int64(m)
		}
		if _, err := w.Write(piece); err != nil {
			return nil, errs.E(errs.Unavailable, "write "+p.NEVRA(), err)
		}
		piece, more = buf[:0], at < size
	}
	p.Size = p.HeaderEnd + size - l.main.end()
	p.Signatures = []Signature{{Tag: tag, Data: sig}}
	return &p, nil
}

var writeBuffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

func signatureEntry(sig []byte, tag int) (entry, error) {
	switch {
	case len(sig) == 0:
		return entry{}, errs.E(errs.Internal, "the signature is empty")
	case tag == sigDSA || tag == sigRSA:
		return entry{tag: uint32(tag), typ: typeBin, count: uint32(len(sig)), data: sig}, nil
	case tag == sigOpenPGP:
		return entry{tag: sigOpenPGP, typ: typeStringArray, count: 1, data: append([]byte(base64.StdEncoding.EncodeToString(sig)), 0)}, nil
	}
	return entry{}, errs.Ef(errs.Internal, "tag %d is no place for a signature over the header", tag)
}

// signatureHeader gives old with its signatures replaced, padded to 8 bytes.
func signatureHeader(old *header, signature entry) []byte {
	entries := []entry{signature}
	for _, e := range old.entries {
		switch {
		case e.tag == sigRegion, e.tag == sigReserved, e.tag == sigReservedSpace, slices.Contains(signatureTags, e.tag):
		default:
			entries = append(entries, e)
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return int(a.tag) - int(b.tag) })

	var index, data []byte
	for _, e := range entries {
		for len(data)%alignment(e.typ) != 0 {
			data = append(data, 0)
		}
		index = appendEntry(index, e.tag, e.typ, uint32(len(data)), e.count)
		data = append(data, e.data...)
	}
	n := uint32(len(entries) + 1)
	region := appendEntry(nil, sigRegion, typeBin, uint32(len(data)), entrySize)
	data = appendEntry(data, sigRegion, typeBin, -n*entrySize, entrySize)

	out := slices.Clone(headerMagic)
	out = binary.BigEndian.AppendUint32(out, n)
	out = binary.BigEndian.AppendUint32(out, uint32(len(data)))
	out = slices.Concat(out, region, index, data)
	for len(out)%8 != 0 {
		out = append(out, 0)
	}
	return out
}

func appendEntry(b []byte, values ...uint32) []byte {
	for _, v := range values {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}
