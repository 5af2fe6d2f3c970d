package testresults

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
)

// Write writes runs as OE-Core's runner does: keys sorted, one space for each level,
// ASCII alone. The same runs give the same bytes, and [Read] gives the same runs.
func Write(w io.Writer, runs []Run) error {
	all := map[string]any{}
	for _, r := range runs {
		if _, ok := all[r.ID]; ok {
			return fmt.Errorf("two runs have the id %q", r.ID)
		}
		all[r.ID] = map[string]any{"configuration": r.Configuration, "result": r.result()}
	}
	out := &writer{Writer: bufio.NewWriterSize(w, 64<<10)}
	out.value(all, 1)
	return out.Flush()
}

func (r *Run) result() map[string]any {
	out := map[string]any{}
	for _, t := range r.Tests {
		m := map[string]any{"status": t.Status}
		if t.Duration > 0 {
			m["duration"] = t.Duration
		}
		if t.Log != "" {
			m["log"] = t.Log
		}
		if len(t.Tags) > 0 {
			tags := make([]any, len(t.Tags))
			for i, tag := range t.Tags {
				tags[i] = tag
			}
			m["oetags"] = tags
		}
		out[t.Name] = m
	}
	for _, s := range r.Sections {
		name := s.Group + ".sections"
		all, _ := out[name].(map[string]any)
		if all == nil {
			all = map[string]any{}
			out[name] = all
		}
		m := map[string]any{}
		for k, v := range map[string]string{"duration": s.Duration, "exitcode": s.ExitCode, "log": s.Log} {
			if v != "" {
				m[k] = v
			}
		}
		if s.Timeout {
			m["timeout"] = true
		}
		all[s.Name] = m
	}
	return out
}

type writer struct{ *bufio.Writer }

func (w *writer) indent(depth int) {
	w.WriteByte('\n')
	for range depth {
		w.WriteByte(' ')
	}
}

func (w *writer) value(v any, depth int) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			w.WriteString("{}")
			return
		}
		for i, k := range sortedKeys(v) {
			w.WriteString([]string{",", "{"}[b2i(i == 0)])
			w.indent(depth)
			w.text(k)
			w.WriteString(": ")
			w.value(v[k], depth+1)
		}
		w.indent(depth - 1)
		w.WriteByte('}')
	case []any:
		if len(v) == 0 {
			w.WriteString("[]")
			return
		}
		for i, x := range v {
			w.WriteString([]string{",", "["}[b2i(i == 0)])
			w.indent(depth)
			w.value(x, depth+1)
		}
		w.indent(depth - 1)
		w.WriteByte(']')
	case string:
		w.text(v)
	case bool:
		w.WriteString(strconv.FormatBool(v))
	case float64:
		w.WriteString(float(v))
	case json.Number:
		w.WriteString(v.String())
	default:
		w.WriteString("null")
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// float writes a number as Python's repr does.
func float(f float64) string {
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// text writes a string in ASCII alone.
func (w *writer) text(s string) {
	const short = "\b\f\n\r\t\"\\"
	w.WriteByte('"')
	for _, r := range s {
		switch i := strings.IndexRune(short, r); {
		case i >= 0:
			w.WriteByte('\\')
			w.WriteByte(`bfnrt"\`[i])
		case r >= 0x20 && r < 0x7f:
			w.WriteByte(byte(r))
		case r > 0xffff:
			a, b := utf16.EncodeRune(r)
			fmt.Fprintf(w, `\u%04x\u%04x`, a, b)
		default:
			fmt.Fprintf(w, `\u%04x`, r)
		}
	}
	w.WriteByte('"')
}
