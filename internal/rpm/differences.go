package rpm

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Differences names what differs between two packages, headers and payload, for
// people: first the fields of the header ("BuildHost: a, b"), then the files. Nothing
// is left out but the signature: none means equal headers, when HeaderDigest says so.
func Differences(a, b *Package) []string {
	var out []string
	field := func(name string, x, y any) {
		if !reflect.DeepEqual(x, y) {
			out = append(out, fmt.Sprintf("%s: %s, %s", name, inWords(x), inWords(y)))
		}
	}
	va, vb := reflect.ValueOf(*a), reflect.ValueOf(*b)
	for i := range va.NumField() {
		switch name := va.Type().Field(i).Name; name {
		case "Files", "Size", "HeaderStart", "HeaderEnd", "Digest", "HeaderDigest", "Signatures", "Provides", "Requires", "Conflicts", "Obsoletes", "Recommends", "Suggests", "Supplements", "Enhances", "Changelogs", "Scripts":
		default:
			field(name, va.Field(i).Interface(), vb.Field(i).Interface())
		}
	}
	for _, d := range []struct {
		name string
		a, b []Dep
	}{{"Provides", a.Provides, b.Provides}, {"Requires", a.Requires, b.Requires}, {"Conflicts", a.Conflicts, b.Conflicts}, {"Obsoletes", a.Obsoletes, b.Obsoletes},
		{"Recommends", a.Recommends, b.Recommends}, {"Suggests", a.Suggests, b.Suggests}, {"Supplements", a.Supplements, b.Supplements}, {"Enhances", a.Enhances, b.Enhances}} {
		out = append(out, only(d.name, texts(d.a), texts(d.b))...)
	}
	field("Changelogs", a.Changelogs, b.Changelogs)
	if !reflect.DeepEqual(a.Scripts, b.Scripts) {
		out = append(out, "Scripts differ")
	}
	return append(out, fileDifferences(a.Files, b.Files)...)
}

func fileDifferences(a, b []File) []string {
	var out []string
	other := map[string]File{}
	for _, f := range b {
		other[f.Path] = f
	}
	for _, f := range a {
		g, ok := other[f.Path]
		delete(other, f.Path)
		if !ok {
			out = append(out, f.Path+": only in the first")
			continue
		}
		vf, vg := reflect.ValueOf(f), reflect.ValueOf(g)
		for i := range vf.NumField() {
			if x, y := vf.Field(i).Interface(), vg.Field(i).Interface(); x != y {
				out = append(out, fmt.Sprintf("%s: %s %s, %s", f.Path, vf.Type().Field(i).Name, inWords(x), inWords(y)))
			}
		}
	}
	for path := range other {
		out = append(out, path+": only in the second")
	}
	slices.Sort(out)
	return out
}

func texts(deps []Dep) []string {
	var out []string
	for _, d := range deps {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s (%#x)", d.Name, d.EVR, d.Flags)))
	}
	return out
}

func only(name string, a, b []string) []string {
	var out []string
	for _, x := range a {
		if !slices.Contains(b, x) {
			out = append(out, name+": only in the first "+x)
		}
	}
	for _, x := range b {
		if !slices.Contains(a, x) {
			out = append(out, name+": only in the second "+x)
		}
	}
	return out
}

// inWords is a value on one line, cut where it is long.
func inWords(v any) string {
	s := []rune(fmt.Sprintf("%q", fmt.Sprint(v)))
	if len(s) > 80 {
		return string(s[:77]) + "..."
	}
	return string(s)
}
