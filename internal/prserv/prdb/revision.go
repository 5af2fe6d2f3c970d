package prdb

import (
	"math/big"
	"strings"
)

// A value is numbers with dots between ("0", "3.0", "1.1.0").

// Compare orders two values field by field as numbers; of two that begin alike
// the longer is greater. Fields that are no numbers come before all numbers, as
// text: BitBake never makes them.
func Compare(a, b string) int {
	for a != "" && b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		if c := compareField(x, y); c != 0 {
			return c
		}
	}
	return len(a) - len(b)
}

func compareField(x, y string) int {
	if !digits(x) || !digits(y) {
		if digits(x) != digits(y) {
			if digits(x) {
				return 1
			}
			return -1
		}
		return strings.Compare(x, y)
	}
	x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
	if len(x) != len(y) {
		return len(x) - len(y)
	}
	return strings.Compare(x, y)
}

func digits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}

// Valid reports whether s is a value: 1 to 9 fields of 1 to 18 digits.
func Valid(s string) bool {
	fields := strings.Split(s, ".")
	for _, f := range fields {
		if !digits(f) || len(f) > 18 {
			return false
		}
	}
	return len(fields) <= 9
}

// Increase gives the value with its last field one higher.
func Increase(v string) string {
	head, last := "", v
	if i := strings.LastIndexByte(v, '.'); i >= 0 {
		head, last = v[:i+1], v[i+1:]
	}
	n, ok := new(big.Int).SetString(last, 10)
	if !ok {
		return v + ".0" // greater than v, whatever v is
	}
	return head + n.Add(n, big.NewInt(1)).String()
}

// greatest gives the greater of two values; "" is smaller than any.
func greatest(a, b string) string {
	if a == "" || b != "" && Compare(b, a) > 0 {
		return b
	}
	return a
}
