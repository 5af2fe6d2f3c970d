package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"slipway/internal/errs"
)

// LoadDefinition reads the file path as [ParseDefinition] does. Findings name
// the file by its last element. A missing file is NotFound.
func LoadDefinition(path string) (*Definition, error) {
	data, err := readDocument(path)
	if err != nil {
		return nil, err
	}
	return ParseDefinition(filepath.Base(path), data)
}

// ParseDefinition reads a definition from bytes; name stands in the findings.
// The error is an errs.List of all findings (or the only one), each Invalid and
// with its position. It looks at nothing but the bytes: see
// [Definition.CheckFolders] for what must exist beside them.
func ParseDefinition(name string, data []byte) (*Definition, error) {
	d := decodeDefinition(name, data)
	if err := d.doc.result(); err != nil {
		return nil, err
	}
	return d, nil
}

func decodeDefinition(name string, data []byte) *Definition {
	d := &Definition{doc: parse(name, data)}
	d.doc.decode(reflect.ValueOf(d).Elem())
	if d.doc.root != nil {
		d.fillIn()
		d.check()
	}
	return d
}

// CheckDefinition gives all that is wrong with a definition file at once: the
// findings of [LoadDefinition], [Definition.CheckFolders] and
// [Definition.CheckIDs], in the order of the document.
func CheckDefinition(path, workspace string, ids, imageRules []string) error {
	data, err := readDocument(path)
	if err != nil {
		return err
	}
	d := decodeDefinition(filepath.Base(path), data)
	if d.doc.root == nil {
		return d.doc.result()
	}
	all := d.doc.findings
	_ = d.CheckFolders(workspace)
	all = append(all, d.doc.findings...)
	_ = d.CheckIDs(ids, imageRules)
	d.doc.findings = append(all, d.doc.findings...)
	return d.doc.result()
}

// result orders the findings by their place.
func (d *document) result() error {
	slices.SortStableFunc(d.findings, func(a, b error) int {
		p, q := position(a), position(b)
		switch {
		case p.Line == 0 && q.Line > 0:
			return 1
		case q.Line == 0 && p.Line > 0:
			return -1
		case p.Line != q.Line:
			return p.Line - q.Line
		}
		return p.Col - q.Col
	})
	return d.findings.Err()
}

// CheckFolders looks for the folders of the local layers in a workspace. Its
// findings have the form of [ParseDefinition]'s.
func (d *Definition) CheckFolders(workspace string) error {
	d.doc.findings = nil
	look := func(layers []Layer, prefix string) {
		for i, l := range layers {
			if l.URL != "" {
				continue
			}
			if info, err := os.Stat(filepath.Join(workspace, l.Path)); err == nil && info.IsDir() {
				continue
			}
			parent := filepath.Dir(filepath.Join(workspace, l.Path))
			entries, _ := os.ReadDir(parent)
			var near []string
			for _, e := range entries {
				if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
					near = append(near, e.Name())
				}
			}
			hint := "make it, or correct the path"
			if n := errs.Near(filepath.Base(l.Path), near); n != "" {
				hint = fmt.Sprintf("did you mean %q?", filepath.Join(filepath.Dir(l.Path), n))
			}
			d.doc.at(fmt.Sprintf("%s[%d].path", prefix, i), fmt.Sprintf("layer %s: there is no folder %s", l.Name, l.Path), hint)
		}
	}
	look(d.Layers, "layers")
	for i, c := range d.Components {
		look(c.Layers, fmt.Sprintf("components[%d].layers", i))
	}
	return d.doc.result()
}

// CheckIDs finds ids under gate.checks that are none of the known ones; this
// package does not know which checks there are.
func (d *Definition) CheckIDs(known, imageRules []string) error {
	d.doc.findings = nil
	for _, l := range []struct {
		what, path string
		ids, known []string
	}{{"check", "gate.checks", sortedKeys(d.Gate.Checks), known}, {"rule for images", "gate.image.allow", sortedKeys(d.Gate.Image.Allow), imageRules},
		{"rule for images", "gate.image.levels", sortedKeys(d.Gate.Image.Levels), imageRules}} {
		for _, id := range l.ids {
			if !slices.Contains(l.known, id) {
				key := d.doc.keys[l.path+"."+id]
				msg, hint := choice(l.what, id, l.known)
				d.doc.find(key.Line, key.Column, msg, hint)
			}
		}
	}
	return d.doc.result()
}
