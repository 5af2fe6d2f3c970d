package testresults

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner reads JSON as a stream: of a text only as much as is wanted is kept, however
// long it is, and what is not wanted is passed by. It takes what Python writes, NaN
// and Infinity too.
type scanner struct {
	r         *bufio.Reader
	offset    int64 // of the next byte
	line      int
	lineStart int64
	buf       []byte
}

// syntaxError is a place from which on nothing can be read.
type syntaxError struct {
	line, col int
	msg       string
}

func (e *syntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: %s", e.line, e.col, e.msg)
}

func newScanner(r io.Reader) *scanner {
	return &scanner{r: bufio.NewReaderSize(r, 256<<10), line: 1}
}

// place gives line and column, in bytes, of the next byte.
func (s *scanner) place() (line, col int) { return s.line, int(s.offset-s.lineStart) + 1 }

func (s *scanner) bad(format string, args ...any) error {
	line, col := s.place()
	return &syntaxError{line, col, fmt.Sprintf(format, args...)}
}

// peek gives the next byte that is no white space, without taking it.
func (s *scanner) peek() (byte, error) {
	for {
		c, err := s.r.ReadByte()
		if errors.Is(err, io.EOF) {
			return 0, s.bad("the file ends in the middle")
		}
		if err != nil {
			return 0, err
		}
		switch c {
		case '\n':
			s.offset++
			s.line, s.lineStart = s.line+1, s.offset
		case ' ', '\t', '\r':
			s.offset++
		default:
			return c, s.r.UnreadByte()
		}
	}
}

// expect takes one byte, which must be c.
func (s *scanner) expect(c byte) error {
	got, err := s.peek()
	if err != nil {
		return err
	}
	if got != c {
		return s.bad("%q where %q belongs", got, c)
	}
	s.take()
	return nil
}

// take takes the byte that peek gave.
func (s *scanner) take() {
	s.r.Discard(1)
	s.offset++
}

// end takes white space up to the end of the file; anything else is an error.
func (s *scanner) end() error {
	for {
		c, err := s.r.ReadByte()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch c {
		case ' ', '\t', '\r', '\n':
			s.offset++
		default:
			return s.bad("more after the end")
		}
	}
}

// object calls each for every key of an object, with the scanner before its value, which
// each must take. Keys longer than maxName are cut.
func (s *scanner) object(each func(key string, cut bool, line, col int) error) error {
	if err := s.expect('{'); err != nil {
		return err
	}
	c, err := s.peek()
	if err != nil {
		return err
	}
	if c == '}' {
		s.take()
		return nil
	}
	for {
		if c, err = s.peek(); err != nil {
			return err
		}
		line, col := s.place()
		if c != '"' {
			return s.bad("%q where the name of a key belongs", c)
		}
		key, cut, err := s.text(maxName, false)
		if err != nil {
			return err
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		if _, err := s.peek(); err != nil {
			return err
		}
		if err := each(key, cut, line, col); err != nil {
			return err
		}
		if c, err = s.peek(); err != nil {
			return err
		}
		if c == '}' {
			s.take()
			return nil
		}
		if err := s.expect(','); err != nil {
			return err
		}
	}
}

// text takes a string and keeps most bytes of it, the last or the first. Bytes that are
// no UTF-8, and what Python writes for them, become \xNN.
func (s *scanner) text(most int, last bool) (string, bool, error) {
	if err := s.expect('"'); err != nil {
		return "", false, err
	}
	s.buf = s.buf[:0]
	cut := false
	keep := func(b []byte) {
		if most == 0 || !last && len(s.buf) >= most {
			cut = cut || most > 0 && len(b) > 0
			return
		}
		s.buf = append(s.buf, b...)
		if last && len(s.buf) > 2*most+4096 {
			s.buf, cut = append(s.buf[:0], s.buf[len(s.buf)-most:]...), true
		}
	}
	for {
		if _, err := s.r.Peek(1); errors.Is(err, io.EOF) {
			return "", false, s.bad("the file ends in a text")
		} else if err != nil {
			return "", false, err
		}
		chunk, _ := s.r.Peek(s.r.Buffered())
		n := 0
		for n < len(chunk) && chunk[n] != '"' && chunk[n] != '\\' && chunk[n] >= 0x20 {
			n++
		}
		keep(chunk[:n])
		end := n == len(chunk)
		var c byte
		if !end {
			c = chunk[n]
		}
		s.r.Discard(n)
		s.offset += int64(n)
		if end {
			continue
		}
		switch c {
		case '"':
			s.take()
			return s.kept(most, last, cut), cut || len(s.buf) > most, nil
		case '\\':
			b, err := s.escape()
			if err != nil {
				return "", false, err
			}
			keep(b)
		default:
			return "", false, s.bad("the byte %#02x in a text", c)
		}
	}
}

// kept gives what of buf is wanted, as valid UTF-8.
func (s *scanner) kept(most int, last, cut bool) string {
	b := s.buf
	if len(b) > most {
		if last {
			b, cut = b[len(b)-most:], true
		} else {
			b, cut = b[:most], true
		}
	}
	if cut && last { // no half of a character at the cut
		for i := 0; i < 3 && len(b) > 0 && !utf8.RuneStart(b[0]); i++ {
			b = b[1:]
		}
	} else if cut {
		for i := 0; i < 3 && len(b) > 0; i++ {
			if r, n := utf8.DecodeLastRune(b); r != utf8.RuneError || n != 1 {
				break
			}
			b = b[:len(b)-1]
		}
	}
	return printable(b)
}

// printable gives b with each byte that is no UTF-8 as \xNN.
func printable(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	out := make([]byte, 0, len(b)+16)
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			out = fmt.Appendf(out, `\x%02x`, b[0])
		} else {
			out = append(out, b[:n]...)
		}
		b = b[n:]
	}
	return string(out)
}

// escape takes a backslash and what belongs to it.
func (s *scanner) escape() ([]byte, error) {
	b, err := s.r.Peek(2)
	if len(b) < 2 {
		return nil, s.cutOff(err)
	}
	if b[1] == 'u' {
		return s.unicode()
	}
	i := bytes.IndexByte([]byte(`"\/bfnrt`), b[1])
	if i < 0 {
		return nil, s.bad(`\%c in a text`, b[1])
	}
	s.r.Discard(2)
	s.offset += 2
	return []byte("\"\\/\b\f\n\r\t"[i : i+1]), nil
}

func (s *scanner) cutOff(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return s.bad("the file ends in a text")
	}
	return err
}

// unicode takes \uXXXX, and the second half of a pair where there is one.
func (s *scanner) unicode() ([]byte, error) {
	r, err := s.hex(0)
	if err != nil {
		return nil, err
	}
	n := 6
	out := utf8.AppendRune(nil, r)
	if utf16.IsSurrogate(r) {
		low := rune(-1)
		if b, _ := s.r.Peek(8); len(b) == 8 && b[6] == '\\' && b[7] == 'u' {
			if low, err = s.hex(6); err != nil {
				return nil, err
			}
		}
		switch pair := utf16.DecodeRune(r, low); {
		case pair != utf8.RuneError:
			n, out = 12, utf8.AppendRune(nil, pair)
		case r >= 0xdc80 && r <= 0xdcff: // Python's surrogateescape: a byte that was no UTF-8
			out = fmt.Appendf(nil, `\x%02x`, r-0xdc00)
		default:
			out = fmt.Appendf(nil, `\u%04x`, r)
		}
	}
	s.r.Discard(n)
	s.offset += int64(n)
	return out, nil
}

// hex reads the \uXXXX that begins at a byte of what comes next.
func (s *scanner) hex(at int) (rune, error) {
	b, err := s.r.Peek(at + 6)
	if len(b) < at+6 {
		return 0, s.cutOff(err)
	}
	n, err := strconv.ParseUint(string(b[at+2:at+6]), 16, 16)
	if err != nil {
		return 0, s.bad(`\u%q in a text: four hexadecimal digits belong there`, b[at+2:at+6])
	}
	return rune(n), nil
}

// literal takes a number or a word: true, false, null, NaN.
func (s *scanner) literal() (string, error) {
	if _, err := s.peek(); err != nil {
		return "", err
	}
	line, col := s.place()
	var out []byte
	for len(out) <= 64 {
		b, err := s.r.Peek(1)
		if len(b) == 0 {
			if errors.Is(err, io.EOF) {
				break
			}
			return "", err
		}
		c := b[0]
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '+' || c == '.') {
			break
		}
		out = append(out, c)
		s.take()
	}
	switch string(out) {
	case "true", "false", "null", "NaN", "Infinity", "-Infinity":
		return string(out), nil
	}
	if number.Match(out) {
		return string(out), nil
	}
	return "", &syntaxError{line, col, fmt.Sprintf("%q is no value", out)}
}

// skip passes a value by, however deep and long it is.
func (s *scanner) skip() error {
	var open []byte // what closes what is open
	for {
		c, err := s.peek()
		if err != nil {
			return err
		}
		switch {
		case len(open) > maxDepth:
			return s.bad("values are nested deeper than %d", maxDepth)
		case c == '{' || c == '[':
			s.take()
			open = append(open, c+2) // the closing ones, in ASCII
			if c, err = s.peek(); err != nil {
				return err
			}
			if c != open[len(open)-1] {
				if open[len(open)-1] == '}' {
					if err := s.skipKey(); err != nil {
						return err
					}
				}
				continue
			}
		case c == '"':
			if _, _, err := s.text(0, false); err != nil {
				return err
			}
		default:
			if _, err := s.literal(); err != nil {
				return err
			}
		}
		for { // after a value
			if len(open) == 0 {
				return nil
			}
			if c, err = s.peek(); err != nil {
				return err
			}
			if c != open[len(open)-1] {
				break
			}
			s.take()
			open = open[:len(open)-1]
		}
		if err := s.expect(','); err != nil {
			return err
		}
		if open[len(open)-1] == '}' {
			if err := s.skipKey(); err != nil {
				return err
			}
		}
	}
}

func (s *scanner) skipKey() error {
	if _, _, err := s.text(0, false); err != nil {
		return err
	}
	return s.expect(':')
}
