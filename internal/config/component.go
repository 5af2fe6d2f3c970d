package config

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"slipway/internal/errs"
)

// Component finds one of the definition's components by its name.
func (d *Definition) Component(name string) (Component, bool) {
	i := slices.IndexFunc(d.Components, func(c Component) bool { return c.Name == name })
	if i < 0 {
		return Component{}, false
	}
	return d.Components[i], true
}

// EnableComponent gives the text of a definition with one of its components on;
// comments and all else stay as they are. text is what d was parsed from.
func (d *Definition) EnableComponent(text []byte, name string) ([]byte, error) {
	i := slices.IndexFunc(d.Components, func(c Component) bool { return c.Name == name })
	if i < 0 {
		return nil, errs.E(errs.NotFound, "the definition has no component "+name)
	}
	if d.Components[i].Enabled {
		return text, nil
	}
	lines := strings.SplitAfter(string(text), "\n")
	at := fmt.Sprintf("components[%d]", i)
	if n := d.doc.values[at+".enabled"]; n != nil {
		l := lines[n.Line-1]
		head, tail := cutColumn(l, n.Column)
		rest, ok := strings.CutPrefix(tail, n.Value)
		if !ok {
			return nil, errs.E(errs.Invalid, fmt.Sprintf("component %s: enabled is written in a way that cannot be changed by itself", name), errs.Hintf("write enabled: true into slipway.yaml, line %d", n.Line))
		}
		lines[n.Line-1] = head + "true" + rest
		return d.changed(lines)
	}
	key, value := d.doc.keys[at+".name"], d.doc.values[at+".name"]
	if key == nil || value == nil || key.Line != value.Line {
		return nil, errs.E(errs.Invalid, "component "+name+" is written in a way that cannot be changed by itself", errs.Hint("write enabled: true into slipway.yaml"))
	}
	l := lines[value.Line-1]
	if v := d.doc.values[at]; v != nil && v.Style&yaml.FlowStyle != 0 {
		head, tail := cutColumn(l, key.Column)
		lines[value.Line-1] = head + "enabled: true, " + tail
		return d.changed(lines)
	}
	head, _ := cutColumn(l, key.Column)
	indent := strings.Repeat(" ", len([]rune(head)))
	lines[value.Line-1] = strings.TrimRight(l, "\r\n") + "\n" + indent + "enabled: true\n"
	return d.changed(lines)
}

// AddComponent gives the text of a definition with a further component, whose own text
// is an item of a list ("- name: ..."), without indentation.
func (d *Definition) AddComponent(text []byte, block string) ([]byte, error) {
	lines := strings.SplitAfter(string(text), "\n")
	if n := len(lines); n > 0 && lines[n-1] == "" {
		lines = lines[:n-1]
	} else if n > 0 {
		lines[n-1] += "\n"
	}
	key, value := d.doc.keys["components"], d.doc.values["components"]
	indented := func(indent string) string {
		var b strings.Builder
		for l := range strings.Lines(block) {
			b.WriteString(indent + l)
		}
		return b.String()
	}
	switch {
	case key == nil:
		lines = append(lines, "components:\n"+indented("  "))
	case value != nil && value.Style&yaml.FlowStyle != 0 && len(value.Content) == 0 && key.Line == value.Line:
		l := lines[value.Line-1]
		head, tail := cutColumn(l, value.Column)
		_, rest, ok := strings.Cut(tail, "]")
		if !ok {
			return nil, errs.E(errs.Invalid, "components is written over several lines", errs.Hint("write it as a list of lines that begin with -"))
		}
		if rest = strings.TrimSpace(rest); rest != "" {
			rest = " " + rest
		}
		lines[value.Line-1] = strings.TrimRight(head, " ") + rest + "\n" + indented("  ")
	case value == nil || value.Style&yaml.FlowStyle != 0 || len(value.Content) == 0:
		return nil, errs.E(errs.Invalid, "components is written in brackets, or empty", errs.Hint("write it as a list of lines that begin with -, or take the key out"))
	default:
		// Behind the last line of the list: before the next key of its level, and the
		// comments above that.
		end := len(lines)
		for i := key.Line; i < len(lines); i++ {
			l := lines[i]
			if strings.TrimSpace(l) != "" && !strings.HasPrefix(l, " ") && !strings.HasPrefix(l, "#") && !strings.HasPrefix(l, "-") {
				end = i
				break
			}
		}
		for end > key.Line && (strings.TrimSpace(lines[end-1]) == "" || strings.HasPrefix(lines[end-1], "#")) {
			end--
		}
		first := lines[value.Content[0].Line-1]
		dash := strings.Index(first, "-")
		if dash < 0 || strings.TrimSpace(first[:dash]) != "" {
			return nil, errs.E(errs.Invalid, "components is written in a way that nothing can be added to by itself", errs.Hint("write each component as a line that begins with -"))
		}
		lines = slices.Insert(lines, end, indented(first[:dash]))
	}
	return d.changed(lines)
}

// cutColumn cuts a line before the column, which counts characters from 1.
func cutColumn(line string, column int) (head, tail string) {
	r := []rune(line)
	column = min(max(column-1, 0), len(r))
	return string(r[:column]), string(r[column:])
}

// changed checks a changed text: an edit that leaves no valid definition is refused.
func (d *Definition) changed(lines []string) ([]byte, error) {
	text := []byte(strings.Join(lines, ""))
	_, err := ParseDefinition(d.doc.name, text)
	return text, err
}
