package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"slipway/internal/errs"
)

// field is what the tags say of one key.
type field struct {
	index    int
	name     string
	rule     string
	required bool
	enum     []string
	def      string
	hasDef   bool
	min, max *int
}

// fields lists the keys of a struct in their order.
func fields(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		sf := t.Field(i)
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if !sf.IsExported() || name == "-" {
			continue
		}
		f := field{index: i, name: name, rule: sf.Tag.Get("rule")}
		for _, part := range strings.Split(sf.Tag.Get("jsonschema"), ",") {
			k, v, _ := strings.Cut(part, "=")
			switch k {
			case "required":
				f.required = true
			case "enum":
				f.enum = append(f.enum, v)
			case "default":
				f.def, f.hasDef = v, true
			case "minimum":
				n, _ := strconv.Atoi(v)
				f.min = &n
			case "maximum":
				n, _ := strconv.Atoi(v)
				f.max = &n
			}
		}
		out = append(out, f)
	}
	return out
}

// setDefaults fills a struct with what its tags say.
func setDefaults(v reflect.Value) {
	for _, f := range fields(v.Type()) {
		fv := v.Field(f.index)
		switch {
		case fv.Kind() == reflect.Struct:
			setDefaults(fv)
		case !f.hasDef:
		case fv.Kind() == reflect.String:
			fv.SetString(f.def)
		case fv.Kind() == reflect.Bool:
			fv.SetBool(f.def == "true")
		case fv.Kind() == reflect.Int:
			n, _ := strconv.ParseInt(f.def, 10, 64)
			fv.SetInt(n)
		}
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// decode fills v, a struct, from the tree and notes every finding.
func (d *document) decode(v reflect.Value) {
	setDefaults(v)
	if d.root == nil {
		if len(d.findings) == 0 {
			d.find(0, 0, "the file is empty", "")
		}
		return
	}
	d.value(d.root, v, "", field{})
}

func (d *document) value(n *yaml.Node, v reflect.Value, path string, f field) {
	d.values[path] = n
	if n.Kind == yaml.AliasNode {
		d.find(n.Line, n.Column, "aliases (*name) are not used here", "write the value where it belongs")
		return
	}
	if n.Style&yaml.TaggedStyle != 0 {
		d.find(n.Line, n.Column, "tags (!"+strings.TrimLeft(n.Tag, "!")+") are not used here", "write the plain value")
		return
	}
	if n.ShortTag() == "!!null" && !f.required && !f.hasDef && v.Kind() == reflect.String {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Map:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.list(n, v, path, f)
	default:
		d.scalar(n, v, path, f)
	}
}

// pairs walks a mapping; duplicates are noted and left out.
func (d *document) pairs(n *yaml.Node, path string, each func(key, value *yaml.Node)) bool {
	if n.Kind != yaml.MappingNode {
		d.find(n.Line, n.Column, fmt.Sprintf("%s must be a group of keys, not %s", called(path), kindName(n)), "")
		return false
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch line := seen[key.Value]; {
		case key.ShortTag() == "!!merge":
			d.find(key.Line, key.Column, "merge keys (<<) are not used here", "write the keys where they belong")
		case key.Kind != yaml.ScalarNode:
			d.find(key.Line, key.Column, "a key is a single word", "")
		case line > 0:
			d.find(key.Line, key.Column, fmt.Sprintf("%q is here twice", key.Value), fmt.Sprintf("the first is in line %d", line))
		default:
			seen[key.Value] = key.Line
			each(key, n.Content[i+1])
		}
	}
	return true
}

func (d *document) structure(n *yaml.Node, v reflect.Value, path string) {
	fs := fields(v.Type())
	names := make([]string, len(fs))
	for i, f := range fs {
		names[i] = f.name
	}
	have := map[string]bool{}
	ok := d.pairs(n, path, func(key, value *yaml.Node) {
		i := slices.Index(names, key.Value)
		if i < 0 {
			hint := "known here: " + strings.Join(names, ", ")
			if near := errs.Near(key.Value, names); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
				// The near key is not missing as well: it is misspelt.
				have[near] = true
				d.misspelt[join(path, near)] = true
			}
			d.find(key.Line, key.Column, fmt.Sprintf("unknown key %q%s", key.Value, in(path)), hint)
			return
		}
		have[key.Value] = true
		p := join(path, key.Value)
		d.keys[p] = key
		d.value(value, v.Field(fs[i].index), p, fs[i])
	})
	if !ok {
		return
	}
	for _, f := range fs {
		if f.required && !have[f.name] {
			p := join(path, f.name)
			hint := ""
			if r, known := rules[f.rule]; known {
				hint = r.form
			}
			d.missing(p, called(p)+" is missing", hint)
		}
	}
}

func (d *document) mapping(n *yaml.Node, v reflect.Value, path string) {
	v.Set(reflect.MakeMap(v.Type()))
	d.pairs(n, path, func(key, value *yaml.Node) {
		p := join(path, key.Value)
		d.keys[p] = key
		elem := reflect.New(v.Type().Elem()).Elem()
		d.value(value, elem, p, field{required: true})
		v.SetMapIndex(reflect.ValueOf(key.Value), elem)
	})
}

func (d *document) list(n *yaml.Node, v reflect.Value, path string, f field) {
	if n.Kind != yaml.SequenceNode {
		d.find(n.Line, n.Column, fmt.Sprintf("%s must be a list, not %s", called(path), kindName(n)), "write [one, two], or one line per item that begins with a dash")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		p := fmt.Sprintf("%s[%d]", path, i)
		d.keys[p] = item
		if v.Index(i).Kind() == reflect.Struct {
			setDefaults(v.Index(i))
		}
		d.value(item, v.Index(i), p, field{rule: f.rule, required: true})
	}
}

func (d *document) scalar(n *yaml.Node, v reflect.Value, path string, f field) {
	wrong := func(want, hint string) {
		d.find(n.Line, n.Column, fmt.Sprintf("%s must be %s, not %s", called(path), want, kindName(n)), hint)
	}
	tag := n.ShortTag()
	switch v.Kind() {
	case reflect.Bool:
		if tag != "!!bool" {
			wrong("true or false", "")
			return
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
	case reflect.Int:
		i, err := strconv.Atoi(n.Value)
		switch {
		case tag != "!!int" || n.Kind != yaml.ScalarNode || err != nil:
			wrong("a whole number", "")
		case f.name == "schema" && i != 1:
			d.find(n.Line, n.Column, fmt.Sprintf("schema %d is not known to this slipway", i), "this one reads schema: 1")
		case f.min != nil && i < *f.min, f.max != nil && i > *f.max:
			d.find(n.Line, n.Column, fmt.Sprintf("%s is %d", called(path), i), fmt.Sprintf("from %d to %d", *f.min, *f.max))
		default:
			v.SetInt(int64(i))
		}
	case reflect.String:
		if n.Kind == yaml.ScalarNode && f.rule == "date" && tag == "!!timestamp" {
			tag = "!!str"
		}
		if tag != "!!str" {
			hint := ""
			if n.Kind == yaml.ScalarNode && tag != "!!null" {
				hint = fmt.Sprintf("quote it: %q", n.Value)
			}
			if r, ruled := rules[f.rule]; ruled && !r.accepts(n.Value) {
				hint = r.form
			}
			wrong("a text", hint)
			return
		}
		if msg, hint := judge(n.Value, path, f); msg != "" {
			d.find(n.Line, n.Column, msg, hint)
			return
		}
		v.SetString(n.Value)
	}
}

// judge holds a text against its field's choices and rule.
func judge(s, path string, f field) (msg, hint string) {
	if len(f.enum) > 0 && !slices.Contains(f.enum, s) {
		return choice(path, s, f.enum)
	}
	if f.name != "conf" && f.name != "description" && strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x85 || r == 0x2028 || r == 0x2029 }) {
		return called(path) + " has a line break or control character in it", ""
	}
	r, ruled := rules[f.rule]
	if s == "" && (f.required || ruled) {
		return called(path) + " is empty", r.form
	}
	if ruled && !r.accepts(s) {
		return fmt.Sprintf("%q is not %s", short(s), r.what), r.form
	}
	return "", ""
}

// choice words a value that is none of the known ones.
func choice(path, value string, known []string) (msg, hint string) {
	hint = "one of: " + strings.Join(known, ", ")
	if near := errs.Near(value, known); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	return fmt.Sprintf("unknown %s %q", called(path), short(value)), hint
}

func short(s string) string {
	if r := []rune(s); len(r) > 60 {
		return string(r[:57]) + "..."
	}
	return s
}

func called(path string) string {
	if path == "" {
		return "the document"
	}
	return path
}

func in(path string) string {
	if path == "" {
		return ""
	}
	return " in " + path
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a group of keys"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "empty"
	case "!!bool":
		return "true or false"
	case "!!int", "!!float":
		return "a number"
	case "!!timestamp":
		return "a date"
	}
	return "a text"
}
