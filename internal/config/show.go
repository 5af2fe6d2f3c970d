package config

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"unicode/utf8"

	"slipway/internal/distro"
)

// Origin is one resolved value: Path as "layers[0].name", Value (string, bool,
// int, or an empty list or map), and Origin, "slipway.yaml:4" or "default".
type Origin struct {
	Path   string `json:"path"`
	Value  any    `json:"value"`
	Origin string `json:"origin"`
}

// Resolved lists every value in the order of the format. Optional texts that
// have no value are left out.
func (d *Definition) Resolved() []Origin { return resolved(d.doc, reflect.ValueOf(d).Elem()) }

// Resolved is as [Definition.Resolved].
func (s *Settings) Resolved() []Origin { return resolved(s.doc, reflect.ValueOf(s).Elem()) }

// Show prints the resolved form as YAML that reads back to the same, each
// value with its origin as a comment.
func (d *Definition) Show(w io.Writer) error { return show(w, d.doc, reflect.ValueOf(d).Elem()) }

// Show is as [Definition.Show].
func (s *Settings) Show(w io.Writer) error { return show(w, s.doc, reflect.ValueOf(s).Elem()) }

// JSON gives one object with the resolved definition and the origins.
func (d *Definition) JSON() []byte {
	return distro.CanonicalJSON(struct {
		Type       string      `json:"type"`
		Definition *Definition `json:"definition"`
		Origins    []Origin    `json:"origins"`
	}{"definition", d, d.Resolved()})
}

// JSON gives one object with the resolved settings and the origins.
func (s *Settings) JSON() []byte {
	return distro.CanonicalJSON(struct {
		Type     string    `json:"type"`
		Settings *Settings `json:"settings"`
		Origins  []Origin  `json:"origins"`
	}{"settings", s, s.Resolved()})
}

// origin says where the value at path comes from.
func (d *document) origin(path string) string {
	if n := d.values[path]; n != nil {
		return fmt.Sprintf("%s:%d", d.name, n.Line)
	}
	return "default"
}

func resolved(d *document, v reflect.Value) []Origin {
	var out []Origin
	walk(v, "", func(path string, v reflect.Value) {
		value := v.Interface()
		switch {
		case v.Kind() == reflect.String:
			value = v.String()
		case v.Kind() == reflect.Slice:
			value = []string{}
		case v.Kind() == reflect.Map:
			value = map[string]string{}
		}
		out = append(out, Origin{path, value, d.origin(path)})
	})
	return out
}

// walk visits the leaves: scalars that have a value, and what is empty.
func walk(v reflect.Value, path string, leaf func(string, reflect.Value)) {
	switch v.Kind() {
	case reflect.Struct:
		for _, f := range fields(v.Type()) {
			walk(v.Field(f.index), join(path, f.name), leaf)
		}
	case reflect.Slice:
		for i := range v.Len() {
			walk(v.Index(i), fmt.Sprintf("%s[%d]", path, i), leaf)
		}
		if v.Len() == 0 {
			leaf(path, v)
		}
	case reflect.Map:
		for _, k := range sortedKeys(stringKeys(v)) {
			walk(v.MapIndex(reflect.ValueOf(k)), join(path, k), leaf)
		}
		if v.Len() == 0 {
			leaf(path, v)
		}
	case reflect.String:
		if v.Len() > 0 {
			leaf(path, v)
		}
	default:
		leaf(path, v)
	}
}

func stringKeys(v reflect.Value) map[string]bool {
	keys := map[string]bool{}
	for _, k := range v.MapKeys() {
		keys[k.String()] = true
	}
	return keys
}

// line is one line of Show.
type line struct{ text, origin string }

func show(w io.Writer, d *document, v reflect.Value) error {
	var lines []line
	write(d, v, "", "", &lines)
	width := 0
	for _, l := range lines {
		if n := utf8.RuneCountInString(l.text); l.origin != "" && n <= 64 {
			width = max(width, n)
		}
	}
	var b strings.Builder
	for _, l := range lines {
		if l.origin == "" {
			b.WriteString(l.text + "\n")
			continue
		}
		fmt.Fprintf(&b, "%-*s  # %s\n", width, l.text, l.origin)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// write appends the lines of a struct or map at an indentation.
func write(d *document, v reflect.Value, path, indent string, lines *[]line) {
	add := func(key string, v reflect.Value) {
		p := join(path, key)
		switch {
		case empty(v):
		case v.Kind() == reflect.Struct, v.Kind() == reflect.Map && v.Len() > 0:
			*lines = append(*lines, line{indent + key + ":", ""})
			write(d, v, p, indent+"  ", lines)
		case v.Kind() == reflect.Slice && v.Len() > 0:
			*lines = append(*lines, line{indent + key + ":", ""})
			items(d, v, p, indent+"  ", lines)
		case v.Kind() == reflect.String && literal.MatchString(v.String()):
			*lines = append(*lines, line{indent + key + ": |", d.origin(p)})
			for _, l := range strings.Split(strings.TrimSuffix(v.String(), "\n"), "\n") {
				*lines = append(*lines, line{strings.TrimRight(indent+"  "+l, " "), ""})
			}
		default:
			*lines = append(*lines, line{indent + key + ": " + scalar(v), d.origin(p)})
		}
	}
	if v.Kind() == reflect.Map {
		for _, k := range sortedKeys(stringKeys(v)) {
			add(k, v.MapIndex(reflect.ValueOf(k)))
		}
		return
	}
	for _, f := range fields(v.Type()) {
		add(f.name, v.Field(f.index))
	}
}

func items(d *document, v reflect.Value, path, indent string, lines *[]line) {
	for i := range v.Len() {
		p := fmt.Sprintf("%s[%d]", path, i)
		if v.Index(i).Kind() != reflect.Struct {
			*lines = append(*lines, line{indent + "- " + scalar(v.Index(i)), d.origin(p)})
			continue
		}
		from := len(*lines)
		write(d, v.Index(i), p, indent+"  ", lines)
		(*lines)[from].text = indent + "- " + strings.TrimPrefix((*lines)[from].text, indent+"  ")
	}
}

// empty reports what Show leaves out: texts without a value, and groups of them.
func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		for _, f := range fields(v.Type()) {
			if !empty(v.Field(f.index)) {
				return false
			}
		}
		return true
	}
	return false
}

var (
	plain   = regexp.MustCompile(`^([A-Za-z./][A-Za-z0-9._/@+-]*|[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]+[hdw])$`)
	literal = regexp.MustCompile(`^([^\s][^\x00-\x08\x0b-\x1f\x{85}\x{2028}\x{2029}]*[^\s])\n$`)
	// YAML 1.1 and 1.2 readers take these for no texts.
	special = regexp.MustCompile(`(?i)^(true|false|yes|no|on|off|y|n|null|[.](inf|nan))$`)
)

// scalar writes a value so that every YAML reader takes it for what it is.
func scalar(v reflect.Value) string {
	switch v.Kind() {
	case reflect.String:
		s := v.String()
		isDate := v.Type() == reflect.TypeFor[Date]()
		if plain.MatchString(s) && !special.MatchString(s) && (isDate || !dateLike(s)) {
			return s
		}
		b, _ := json.Marshal(s)
		return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(string(b))
	case reflect.Slice:
		return "[]"
	case reflect.Map:
		return "{}"
	}
	return fmt.Sprint(v.Interface())
}

func dateLike(s string) bool { return rules["date"].pattern.MatchString(s) }
