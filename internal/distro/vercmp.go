package distro

import "strings"

// RPMVerCmp compares two version (or release) strings by rpm's order and gives
// -1, 0 or 1. The rules are those of rpm's documentation of version comparison
// ("~" sorts before everything, "^" after the end but before more; runs of
// digits are numbers; digits are newer than letters; other bytes separate).
// Tested against the rpm program.
func RPMVerCmp(a, b string) int {
	if a == b {
		return 0
	}
	for len(a) > 0 || len(b) > 0 {
		a = strings.TrimLeftFunc(a, separator)
		b = strings.TrimLeftFunc(b, separator)
		if at, bt := strings.HasPrefix(a, "~"), strings.HasPrefix(b, "~"); at || bt {
			if !at {
				return 1
			}
			if !bt {
				return -1
			}
			a, b = a[1:], b[1:]
			continue
		}
		if ac, bc := strings.HasPrefix(a, "^"), strings.HasPrefix(b, "^"); ac || bc {
			switch {
			case a == "":
				return -1
			case b == "":
				return 1
			case !ac:
				return 1
			case !bc:
				return -1
			}
			a, b = a[1:], b[1:]
			continue
		}
		if a == "" || b == "" {
			break
		}
		in := alpha
		numeric := digit(rune(a[0]))
		if numeric {
			in = digit
		}
		as, arest := run(a, in)
		bs, brest := run(b, in)
		if bs == "" {
			if numeric {
				return 1
			}
			return -1
		}
		if numeric {
			as, bs = strings.TrimLeft(as, "0"), strings.TrimLeft(bs, "0")
			if len(as) != len(bs) {
				return sign(len(as) - len(bs))
			}
		}
		if c := strings.Compare(as, bs); c != 0 {
			return c
		}
		a, b = arest, brest
	}
	return sign(len(a) - len(b))
}

func digit(r rune) bool     { return r >= '0' && r <= '9' }
func alpha(r rune) bool     { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }
func separator(r rune) bool { return !digit(r) && !alpha(r) && r != '~' && r != '^' }

func run(s string, in func(rune) bool) (head, tail string) {
	i := 0
	for i < len(s) && in(rune(s[i])) {
		i++
	}
	return s[:i], s[i:]
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}
