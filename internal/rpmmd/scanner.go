package rpmmd

import (
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"strings"

	"slipway/internal/errs"
)

// maxElement bounds one <package>, in bytes of XML: about 500,000 files.
const maxElement = 64 << 20

// scanner walks the children of a document's root, and knows the place.
type scanner struct {
	file  string
	d     *xml.Decoder
	meter *meter
	// declared is the root's attribute "packages"; -1 when there is none.
	declared int64
}

func newScanner(file string, r io.Reader) *scanner {
	m := &meter{r: r, left: maxElement}
	return &scanner{file: file, d: xml.NewDecoder(m), meter: m, declared: -1}
}

// meter ends reading when one element takes too many bytes, so that a document
// without end cannot fill the memory.
type meter struct {
	r    io.Reader
	left int
}

var errTooLong = errors.New("an element is longer than 64 MiB")

func (m *meter) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, errTooLong
	}
	n, err := m.r.Read(p)
	m.left -= n
	return n, err
}

// children reads a whole document with the given root and calls child for each
// element below it; child must consume the element.
func (s *scanner) children(root string, child func(xml.StartElement) error) error {
	found, depth := false, 0
	for {
		s.meter.left = maxElement
		tok, err := s.d.Token()
		if err == io.EOF && found && depth == 0 {
			return nil
		}
		if err != nil {
			return s.fail(err)
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			if depth == 0 {
				if found || tok.Name.Local != root {
					return s.fail(errs.Ef(errs.Invalid, "element <%s> where <%s> was expected once", tok.Name.Local, root))
				}
				found, depth = true, 1
				for _, a := range tok.Attr {
					if a.Name.Local == "packages" {
						if s.declared, err = parseInt(a.Value); err != nil {
							return s.fail(err)
						}
					}
				}
				continue
			}
			if err := child(tok); err != nil {
				return s.fail(err)
			}
		case xml.EndElement:
			depth--
		case xml.CharData:
			if strings.TrimSpace(string(tok)) != "" {
				return s.fail(errs.Ef(errs.Invalid, "text between elements"))
			}
		}
	}
}

// fail gives an error with the place. Errors of ours keep kind and hints; the
// rest (bad XML, bad compression) is errs.Invalid.
func (s *scanner) fail(err error) error {
	var stop *stopError
	if errors.As(err, &stop) {
		return stop.err
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	line, col := s.d.InputPos()
	e := &errs.Error{Kind: errs.Invalid, Msg: err.Error(), Hints: errs.Hints(err), Pos: errs.At{File: s.file, Line: line, Col: col}}
	var ours *errs.Error
	if errors.As(err, &ours) {
		e.Kind = ours.Kind
	}
	return e
}

// stopError carries an error of the caller's callback out, unchanged.
type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }

func parseInt(s string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil || n < 0 {
		return 0, errs.Ef(errs.Invalid, "%q is no count", s)
	}
	return n, nil
}
