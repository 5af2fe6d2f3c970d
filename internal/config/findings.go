package config

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"slipway/internal/errs"
)

func position(err error) errs.At {
	var e *errs.Error
	if errors.As(err, &e) {
		return e.Pos
	}
	return errs.At{}
}

// Findings takes an error of this package apart: one element per finding.
func Findings(err error) []error {
	var list errs.List
	switch {
	case err == nil:
		return nil
	case errors.As(err, &list):
		return list
	}
	return []error{err}
}

// FormatFindings prints findings for people: file:line:col and what is wrong,
// the source line, a caret under the place, and the hints.
func FormatFindings(w io.Writer, err error) {
	for _, f := range Findings(err) {
		fmt.Fprintln(w, f)
		if at := position(f); at.Excerpt != "" {
			fmt.Fprintf(w, "    %s\n", at.Excerpt)
			if at.Col > 0 {
				fmt.Fprintf(w, "    %s^\n", indent(at.Excerpt, at.Col-1))
			}
		}
		for _, h := range errs.Hints(f) {
			fmt.Fprintf(w, "  hint: %s\n", h)
		}
	}
}

// indent gives what puts a caret under the nth letter of line: blanks, with
// tabs where the line has them.
func indent(line string, n int) string {
	var b strings.Builder
	for i, r := range []rune(line) {
		switch {
		case i == n:
			return b.String()
		case r == '\t':
			b.WriteByte('\t')
		default:
			b.WriteByte(' ')
		}
	}
	return b.String()
}
