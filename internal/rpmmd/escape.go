package rpmmd

import (
	"strings"
	"unicode/utf8"
)

// escapes holds what a byte below 0x80 becomes in XML: itself when "" , else the
// string; forbidden bytes become dropped. In attributes, parsers turn line ends
// and tabs into spaces, so these are written as references there.
var textEscapes, attrEscapes = func() (t, a [utf8.RuneSelf]string) {
	for c := range 0x20 {
		t[c], a[c] = dropped, dropped
	}
	t['\t'], t['\n'], t['\r'] = "", "", "&#13;"
	t['&'], t['<'], t['>'] = "&amp;", "&lt;", "&gt;"
	a['\t'], a['\n'], a['\r'] = "&#9;", "&#10;", "&#13;"
	a['&'], a['<'], a['>'], a['"'] = "&amp;", "&lt;", "&gt;", "&quot;"
	return t, a
}()

const dropped = "\x00"

// appendText writes s as the text of an element, appendAttr as a value between
// double quotes. Text that is not UTF-8 is read as Latin-1, without the bytes
// 0x80 to 0xbf, as createrepo_c does; characters that XML has no place for are
// left out (createrepo_c refuses such packages).
func appendText(dst []byte, s string) []byte { return appendEscaped(dst, s, &textEscapes) }
func appendAttr(dst []byte, s string) []byte { return appendEscaped(dst, s, &attrEscapes) }

func appendEscaped(dst []byte, s string, table *[utf8.RuneSelf]string) []byte {
	if !utf8.ValidString(s) {
		s = fromLatin1(s)
	}
	start := 0
	for i := 0; i < len(s); i++ {
		c, width, esc := s[i], 1, ""
		if c < utf8.RuneSelf {
			esc = table[c]
		} else if strings.HasPrefix(s[i:], "\uffff") || strings.HasPrefix(s[i:], "\ufffe") {
			esc, width = dropped, len("\uffff")
		}
		if esc == "" {
			continue
		}
		dst = append(dst, s[start:i]...)
		if esc != dropped {
			dst = append(dst, esc...)
		}
		start = i + width
		i = start - 1
	}
	return append(dst, s[start:]...)
}

func fromLatin1(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c < utf8.RuneSelf || c >= 0xc0 {
			b.WriteRune(rune(c))
		}
	}
	return b.String()
}
