package rpmmd

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"io"

	"slipway/internal/errs"
	"slipway/internal/rpm"
)

// Fingerprint stands for all that an index of ours says of a package, in
// primary, filelists and other, but for the href and the file's time: these
// belong to the index. Equal fingerprints mean equal bytes.
type Fingerprint [len(documents)][16]byte

// FingerprintOf gives the fingerprint of what this program writes of a package,
// which must have its Digest and Size.
func FingerprintOf(p *rpm.Package) Fingerprint {
	var out Fingerprint
	e := Entry{Package: p}
	for i, doc := range documents {
		out[i] = fingerprint(doc.encode(nil, &e))
	}
	return out
}

// Differs gives the kind of the first document that differs, or "".
func (f Fingerprint) Differs(g Fingerprint) string {
	for i, doc := range documents {
		if f[i] != g[i] {
			return doc.kind
		}
	}
	return ""
}

// ReadFingerprints gives the fingerprint of every package of an index, in the
// order of primary; check the index first ([ReadRepo]). The documents of an
// index of ours all have one order; of another one errs.Invalid comes or wrong
// fingerprints.
func ReadFingerprints(open func(name string) (io.ReadCloser, error), md *Repomd) ([]Fingerprint, error) {
	var out []Fingerprint
	for i, doc := range documents {
		rec, ok := md.Record(doc.kind)
		if !ok {
			return nil, errs.Ef(errs.Invalid, "the index has no %s.xml", doc.kind)
		}
		n := 0
		err := readElements(open, rec, func(element []byte) {
			if i == 0 {
				out = append(out, Fingerprint{})
			}
			if n < len(out) {
				out[n][i] = fingerprint(element)
			}
			n++
		})
		if err == nil && n != len(out) {
			err = errs.Ef(errs.Invalid, "%d packages, primary.xml has %d", n, len(out))
		}
		if err != nil {
			return nil, errs.Wrap(err, "%s", rec.Href)
		}
	}
	return out, nil
}

var elementEnd = []byte("</package>\n") // nowhere inside: "<" in text is escaped

func readElements(open func(name string) (io.ReadCloser, error), rec Record, f func([]byte)) error {
	data, err := readAll(open, rec.Href, maxStored)
	if err != nil {
		return err
	}
	r, err := decompress(data)
	if err != nil {
		return errs.E(errs.Invalid, "not zstd, gzip, xz or XML", err)
	}
	defer r.Close()
	s := bufio.NewScanner(io.LimitReader(r, maxOpen))
	s.Buffer(make([]byte, 64<<10), maxElement)
	s.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		if i := bytes.Index(data, elementEnd); i >= 0 {
			return i + len(elementEnd), data[:i+len(elementEnd)], nil
		}
		return 0, nil, nil // the end of the document is no token
	})
	for s.Scan() {
		f(s.Bytes())
	}
	if s.Err() != nil {
		return errs.E(errs.Invalid, "decompressing", s.Err())
	}
	return nil
}

func fingerprint(element []byte) [16]byte {
	h := sha256.New()
	element = element[max(0, bytes.Index(element, []byte("<package "))):] // the first has the head before it
	for _, open := range []string{`<time file="`, `<location href="`} {
		if i := bytes.Index(element, []byte("\n  "+open)); i >= 0 {
			i += len("\n  " + open)
			h.Write(element[:i])
			element = element[i+max(0, bytes.IndexByte(element[i:], '"')):]
		}
	}
	h.Write(element)
	return [16]byte(h.Sum(nil)[:16])
}
