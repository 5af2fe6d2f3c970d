package ui

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"slipway/internal/errs"
)

// split takes an error apart: what was being done, and the findings. An error
// that is no errs.List is its own only finding.
func split(err error) (doing string, findings []error) {
	var list errs.List
	if !errors.As(err, &list) || len(list) == 0 {
		return "", []error{err}
	}
	return strings.TrimSuffix(strings.TrimSuffix(err.Error(), list.Error()), ": "), list
}

func position(err error) errs.At {
	for err != nil {
		var e *errs.Error
		if !errors.As(err, &e) {
			break
		}
		if e.Pos.File != "" {
			return e.Pos
		}
		err = e.Cause
	}
	return errs.At{}
}

// PrintError writes an error for people: "error:" with the message, the source
// line with a caret when the error has a place, then "hint:" lines; each finding
// of an errs.List on its own.
func PrintError(w io.Writer, err error, color bool) {
	if err == nil {
		return
	}
	doing, findings := split(err)
	var b strings.Builder
	say := func(colour, word, text string) {
		lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
		fmt.Fprintf(&b, "%s %s\n", paint(color, colour, word), Clean(lines[0]))
		for _, l := range lines[1:] {
			b.WriteString(strings.TrimRight("  "+Clean(l), " ") + "\n")
		}
	}
	said := map[string]bool{}
	if doing != "" {
		say(bad, "error:", doing)
	}
	for _, f := range findings {
		say(bad, "error:", f.Error())
		b.WriteString(excerpt(position(f), color))
		for _, h := range errs.Hints(f) {
			said[h] = true
			say(tip, "hint:", h)
		}
	}
	// What wraps the findings may have hints too.
	for _, h := range errs.Hints(err) {
		if !said[h] {
			say(tip, "hint:", h)
		}
	}
	_, _ = io.WriteString(w, b.String())
}

// excerptWidth bounds the part of a source line that is shown.
const excerptWidth = 100

// excerpt gives the source line and a caret under its column.
func excerpt(at errs.At, color bool) string {
	if at.Excerpt == "" {
		return ""
	}
	line := []rune(at.Excerpt)
	col := min(max(at.Col-1, 0), len(line))
	before, after := "", ""
	if from := col - excerptWidth/2; from > 0 && len(line) > excerptWidth {
		line, col, before = line[from:], col-from, "..."
	}
	if len(line) > excerptWidth {
		line, after = line[:excerptWidth], "..."
	}
	text := before + Clean(string(line)) + after
	out := "    " + strings.TrimRight(text, " ") + "\n"
	if at.Col > 0 {
		pad := textWidth(before + Clean(string(line[:col])))
		out += "    " + strings.Repeat(" ", pad) + paint(color, tip, "^") + "\n"
	}
	return out
}

// Finding is one entry of [ErrorJSON].
type Finding struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Col     int    `json:"col,omitempty"`
	Kind    string `json:"kind"`
	Message string `json:"message"` // without the place
	Hint    string `json:"hint,omitempty"`
}

// ErrorJSON gives an error as one JSON object on one line: type ("error"),
// kind, exit (the exit code), message, findings (what has a place, or came in a
// list; else empty) and hints (all).
func ErrorJSON(err error) []byte {
	out := struct {
		Type     string    `json:"type"`
		Kind     errs.Kind `json:"kind"`
		Exit     int       `json:"exit"`
		Message  string    `json:"message"`
		Findings []Finding `json:"findings"`
		Hints    []string  `json:"hints"`
	}{"error", errs.KindOf(err), errs.ExitCode(err), err.Error(), []Finding{}, errs.Hints(err)}
	if out.Hints == nil {
		out.Hints = []string{}
	}
	_, findings := split(err)
	for _, f := range findings {
		at := position(f)
		if len(findings) == 1 && at.File == "" {
			continue
		}
		message := f.Error()
		if at.File != "" {
			message = strings.Replace(message, at.String()+": ", "", 1)
		}
		out.Findings = append(out.Findings, Finding{at.File, at.Line, at.Col, string(errs.KindOf(f)), message, strings.Join(errs.Hints(f), "\n")})
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	// Strings and numbers only: it cannot fail.
	_ = enc.Encode(out)
	return []byte(b.String())
}
