package rpmmd

import (
	"bytes"
	"io"

	"slipway/internal/errs"
)

// Twin is a second index of the same packages.
type Twin struct {
	From, To string // every Href begins with From; in the twin with To instead
	// Open is Update.Open for the twin's primary.
	Open func(name string) (io.ReaderAt, error)
}

var hrefStart = []byte("\n  <location href=\"") // nowhere inside: "<" in text is escaped

// translate gives the n elements of a frame of primary with the twin's hrefs.
func (t *Twin) translate(dst, primary []byte, n int) ([]byte, error) {
	for {
		i := bytes.Index(primary, hrefStart)
		if i < 0 {
			break
		}
		i += len(hrefStart)
		rest, ok := bytes.CutPrefix(primary[i:], []byte(t.From))
		if !ok {
			return nil, errs.Ef(errs.Internal, "an href of the index does not begin with %s", t.From)
		}
		dst = append(append(dst, primary[:i]...), t.To...)
		primary = rest
		n--
	}
	if n != 0 {
		return nil, errs.E(errs.Conflict, Unusable)
	}
	return append(dst, primary...), nil
}
