package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"slipway/internal/errs"
)

// maxSize bounds what is read of a document: people write them by hand.
const maxSize = 1 << 20

// maxFindings bounds what is reported of one document.
const maxFindings = 200

// document is one parsed file: its tree, where each value stands, and what is
// wrong with it.
type document struct {
	name     string
	lines    []string
	root     *yaml.Node            // nil for an empty document
	values   map[string]*yaml.Node // key path -> value
	keys     map[string]*yaml.Node // key path -> key (or list item)
	misspelt map[string]bool       // key path whose key stands there under a near name
	findings errs.List
}

// readDocument reads at most maxSize bytes. A missing file is NotFound.
func readDocument(path string) ([]byte, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, errs.E(errs.NotFound, fmt.Sprintf("there is no %s", path), errs.Hint("slipway init makes a workspace; --dir names one"))
	case err != nil:
		return nil, errs.E(errs.Unavailable, "read "+path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, errs.E(errs.Unavailable, "read "+path, err)
	}
	return data, nil
}

// parse makes the tree. The findings are those that leave no tree to look at.
func parse(name string, data []byte) *document {
	d := &document{name: name, values: map[string]*yaml.Node{}, keys: map[string]*yaml.Node{}, misspelt: map[string]bool{}}
	if len(data) > maxSize {
		d.find(0, 0, fmt.Sprintf("larger than %d bytes", maxSize), "this is written by hand and stays small: is it the right file?")
		return d
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if !d.text(data) {
		return d
	}
	d.lines = strings.Split(string(data), "\n")
	for i, l := range d.lines {
		d.lines[i] = strings.TrimSuffix(l, "\r")
	}
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil {
		d.find(0, 0, "not YAML: "+err.Error(), "")
		return d
	}
	var first, second yaml.Node
	switch err := loader.Load(&first); {
	case errors.Is(err, io.EOF) || err != nil && strings.Contains(err.Error(), "no documents"):
		return d
	case err != nil:
		d.syntax(err)
		return d
	}
	if err := loader.Load(&second); err == nil {
		d.find(second.Line, second.Column, "a second document begins here", "one file is one document: remove the line ---")
	} else if !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "no documents") {
		d.syntax(err)
	}
	if first.Kind == yaml.DocumentNode && len(first.Content) == 1 {
		d.root = first.Content[0]
	}
	return d
}

// text finds the first byte that no YAML text has, before the library does so
// without a position.
func (d *document) text(data []byte) bool {
	line, col := 1, 1
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		bad := ""
		switch {
		case r == utf8.RuneError && n == 1:
			bad = fmt.Sprintf("byte 0x%02x is no UTF-8 text", data[i])
		case r < 0x20 && r != '\t' && r != '\n' && r != '\r', r >= 0x7f && r < 0xa0 && r != 0x85, r == 0xfeff, r == 0xfffe, r == 0xffff:
			bad = fmt.Sprintf("control character U+%04X", r)
		}
		if bad != "" {
			d.find(line, col, bad, "the file must be text in UTF-8")
			return false
		}
		i += n
		if col++; r == '\n' {
			line, col = line+1, 1
		}
	}
	return true
}

// messages translates the library's words; the first that is contained wins.
var messages = []struct{ theirs, ours, hint string }{
	{"did not find expected ',' or ']'", "this list is not closed", "a list that begins with [ ends with ]"},
	{"did not find expected ',' or '}'", "this group of keys is not closed", "what begins with { ends with }"},
	{"found unexpected end of stream", "this text has no closing quote", ""},
	{"found unexpected document indicator", "this text has no closing quote", ""},
	{"mapping values are not allowed", `": " cannot stand here`, `indent the keys of one group alike; quote a text that has ": " in it`},
	{"did not find expected key", "this line does not fit the ones above it", "indent the keys of one group alike, with spaces"},
	{"did not find expected '-'", "this line does not fit the list above it", "indent the items of one list alike, with spaces"},
	{"could not find expected ':'", "a key without its colon", "a key is written name: value"},
	{"unknown anchor", "aliases (*name) are not used here", "write the value where it belongs"},
	{"unknown escape", "unknown escape in a quoted text", `write \\ for one backslash, or use single quotes`},
	{"exceeded max depth", "nested too deeply", ""},
	{"cannot start any token", "this character cannot begin a value", "quote the text"},
}

func (d *document) syntax(err error) {
	var one *yaml.LoadError
	if many := (*yaml.LoadErrors)(nil); errors.As(err, &many) && len(many.Errors) > 0 {
		one = many.Errors[0]
	} else if !errors.As(err, &one) {
		d.find(0, 0, "not YAML", "")
		return
	}
	at := one.Mark
	// What is never closed is noticed at the end, and wanted at its beginning.
	if c := one.ContextMark; c.Line > 0 && (strings.Contains(one.Message, "expected ','") || strings.Contains(one.Message, "found unexpected")) {
		at = c
	}
	if l := d.line(at.Line); strings.HasPrefix(strings.TrimLeft(l, " "), "\t") {
		d.find(at.Line, at.Column, "a tab cannot indent", "use spaces")
		return
	}
	for _, m := range messages {
		if strings.Contains(one.Message, m.theirs) {
			d.find(at.Line, at.Column, m.ours, m.hint)
			return
		}
	}
	d.find(at.Line, at.Column, "not YAML: "+strings.TrimPrefix(one.Message, "yaml: "), "")
}

// given reports whether a key is there, be it with a refused value or misspelt:
// then it is not missing as well.
func (d *document) given(path string) bool { return d.values[path] != nil || d.misspelt[path] }

func (d *document) line(n int) string {
	if n < 1 || n > len(d.lines) {
		return ""
	}
	return d.lines[n-1]
}

// find notes a finding; line 0 means the whole file.
func (d *document) find(line, col int, msg, hint string) {
	switch n := len(d.findings); {
	case n == maxFindings:
		d.findings = append(d.findings, errs.E(errs.Invalid, "and more: the rest is not shown", errs.At{File: d.name}))
		return
	case n > maxFindings:
		return
	}
	if line > len(d.lines) && len(d.lines) > 0 {
		line, col = len(d.lines), 0
	}
	excerpt := d.line(line)
	if len(excerpt) > 1000 {
		excerpt = ""
	}
	d.findings = append(d.findings, errs.E(errs.Invalid, msg, errs.At{File: d.name, Line: line, Col: col, Excerpt: excerpt}, errs.Hint(hint)))
}

// at notes a finding about a key path: at its value, else at the nearest key
// around it.
func (d *document) at(path, msg, hint string) {
	if n := d.values[path]; n != nil {
		d.find(n.Line, n.Column, msg, hint)
		return
	}
	d.missing(path, msg, hint)
}

// missing is at for a key that is not there.
func (d *document) missing(path, msg, hint string) {
	for path != "" {
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
		if n := d.keys[path]; n != nil {
			d.find(n.Line, n.Column, msg, hint)
			return
		}
	}
	line := 0
	if d.root != nil {
		line = d.root.Line
	}
	d.find(line, min(line, 1), msg, hint)
}
