package ui

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode"
)

// Sequences that set colours and move the cursor (ECMA-48, CSI).
var sequence = regexp.MustCompile("\x1b\\[[0-?]*[ -/]*[@-~]")

// Clean takes out what would move or colour a terminal: escape sequences go,
// control characters become blanks.
func Clean(s string) string {
	if strings.ContainsRune(s, 0x1b) {
		s = sequence.ReplaceAllString(s, "")
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == 0x1b:
			return -1
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == 0x2028, r == 0x2029:
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}

// runeWidth gives the columns of a letter on a terminal.
func runeWidth(r rune) int {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf, r >= 0xac00 && r <= 0xd7a3, r >= 0xf900 && r <= 0xfaff,
		r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6, r >= 0x1f300 && r <= 0x1faff, r >= 0x20000 && r <= 0x3fffd:
		return 2
	}
	return 1
}

func textWidth(s string) int {
	n := 0
	for _, r := range s {
		n += runeWidth(r)
	}
	return n
}

// cut shortens to at most width columns.
func cut(s string, width int) string {
	if textWidth(s) <= width {
		return s
	}
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n += runeWidth(r); n > width-3 {
			break
		}
		b.WriteRune(r)
	}
	return b.String() + "..."[:max(0, min(3, width))]
}

// Table writes rows in aligned columns, two blanks apart, without trailing
// blanks. Header may be nil. Rows may be short.
func Table(w io.Writer, header []string, rows [][]string) error {
	all := rows
	if header != nil {
		all = append([][]string{header}, rows...)
	}
	var widths []int
	for _, row := range all {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], textWidth(Clean(cell)))
		}
	}
	var b strings.Builder
	for _, row := range all {
		var line strings.Builder
		for i, cell := range row {
			cell = Clean(cell)
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-textWidth(cell)+2))
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Size words a number of bytes: "512 B", "1.5 KiB", "20 MiB".
func Size(n int64) string {
	if n < 0 {
		if n == -n { // the least int64 has no positive twin
			n++
		}
		return "-" + Size(-n)
	}
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n)/1024, 0
	// At 1023.5 and more the rounded number would have four digits.
	for ; f >= 1023.5 && unit < len("KMGTPE")-1; unit++ {
		f /= 1024
	}
	if f < 9.95 {
		return fmt.Sprintf("%.1f %ciB", f, "KMGTPE"[unit])
	}
	return fmt.Sprintf("%.0f %ciB", f, "KMGTPE"[unit])
}

// Duration words a span in at most two units: "0.3 s", "12 s", "3 min 20 s".
func Duration(d time.Duration) string {
	if d < 0 {
		return "-" + Duration(-max(d, -1<<63+1))
	}
	if d < 9950*time.Millisecond {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	two := func(big time.Duration, bigName string, small time.Duration, smallName string) string {
		d := d.Round(small)
		if rest := d % big / small; rest > 0 {
			return fmt.Sprintf("%d %s %d %s", d/big, bigName, rest, smallName)
		}
		return fmt.Sprintf("%d %s", d/big, bigName)
	}
	switch day := 24 * time.Hour; {
	case d.Round(time.Second) < time.Minute:
		return fmt.Sprintf("%d s", d.Round(time.Second)/time.Second)
	case d.Round(time.Second) < time.Hour:
		return two(time.Minute, "min", time.Second, "s")
	case d.Round(time.Minute) < day:
		return two(time.Hour, "h", time.Minute, "min")
	default:
		return two(day, "d", time.Hour, "h")
	}
}
