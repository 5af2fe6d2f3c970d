package report

import (
	"bytes"
	"fmt"
	"io"
	"unicode/utf8"
)

// execute renders a page whole, and writes it readable: bytes that are no UTF-8, control
// characters (of a log's colours) and those that turn the direction of writing are shown
// by their numbers.
func execute(out io.Writer, name string, data any) error {
	var page bytes.Buffer
	if err := templates.ExecuteTemplate(&page, name, data); err != nil {
		return err
	}
	_, err := out.Write(readable(page.Bytes()))
	return err
}

func readable(in []byte) []byte {
	out := make([]byte, 0, len(in))
	for len(in) > 0 {
		r, n := utf8.DecodeRune(in)
		switch {
		case r == utf8.RuneError && n == 1:
			out = fmt.Appendf(out, `\x%02x`, in[0])
		case r < ' ' && r != '\n' && r != '\t', r == 0x7f:
			if r != '\r' { // of a progress bar, or of another system
				out = fmt.Appendf(out, `\x%02x`, r)
			}
		case r >= 0x80 && r < 0xa0, r >= 0x200b && r <= 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069, r == 0xfeff:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = append(out, in[:n]...)
		}
		in = in[n:]
	}
	return out
}
