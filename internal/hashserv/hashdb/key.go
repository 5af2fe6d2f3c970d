package hashdb

import (
	"database/sql/driver"
	"encoding/hex"
)

// A hash is stored as bytes when it is an even number of lower-case hex digits,
// which is nearly always, else as text. The two never mean the same.

// stored gives the value of a hash in the file.
func stored(s string) any {
	if b, ok := unhex(s); ok {
		return b
	}
	return s
}

// text is the hash of a stored value.
func text(v driver.Value) string {
	switch v := v.(type) {
	case []byte:
		return hex.EncodeToString(v)
	case string:
		return v
	}
	return ""
}

func unhex(s string) ([]byte, bool) {
	if len(s) == 0 || len(s)%2 != 0 {
		return nil, false
	}
	b := make([]byte, len(s)/2)
	for i := range b {
		hi, lo := nibble[s[2*i]], nibble[s[2*i+1]]
		if hi|lo > 15 {
			return nil, false
		}
		b[i] = hi<<4 | lo
	}
	return b, true
}

// nibble is the value of a lower-case hex digit, 255 for other bytes.
var nibble = func() (t [256]byte) {
	for i := range t {
		t[i] = 255
	}
	for i, c := range "0123456789abcdef" {
		t[c] = byte(i)
	}
	return t
}()

// sum is a hash of 64 hex digits, the usual one.
type sum [32]byte

// parseSum reads 64 lower-case hex digits.
func parseSum[T string | []byte](s T) (h sum, ok bool) {
	if len(s) != 64 {
		return h, false
	}
	for i := range h {
		hi, lo := nibble[s[2*i]], nibble[s[2*i+1]]
		if hi|lo > 15 {
			return h, false
		}
		h[i] = hi<<4 | lo
	}
	return h, true
}

func (h *sum) append(b []byte) []byte { return hex.AppendEncode(b, h[:]) }

// ValidUnihash reports whether s is what BitBake of June 2026 and later takes
// for a unihash: 64 lower-case hex digits.
func ValidUnihash(s string) bool {
	_, ok := parseSum(s)
	return ok
}
