package elfabi

import (
	"fmt"
	"slices"
)

// Change is one thing that programs linked with the old library may not find, or find
// otherwise, in the new one.
type Change struct {
	Kind   string // "soname", "removed", "version", "kind", "size"
	Symbol Symbol // the old one; of "soname" none
	Old    string // what it was, for "soname", "kind" and "size"
	New    string
}

// String says it in words.
func (c Change) String() string {
	switch c.Kind {
	case "soname":
		return fmt.Sprintf("soname %s became %s", c.Old, orNone(c.New))
	case "removed":
		return fmt.Sprintf("%s %s is gone", c.Symbol.word(), c.Symbol)
	case "version":
		return fmt.Sprintf("%s %s has no version any more", c.Symbol.word(), c.Symbol)
	case "kind":
		return fmt.Sprintf("%s was a %s and is a %s", c.Symbol, c.Old, c.New)
	}
	return fmt.Sprintf("%s %s had %s bytes and has %s", c.Symbol.word(), c.Symbol, c.Old, c.New)
}

func (s Symbol) word() string {
	switch s.Kind {
	case "func":
		return "function"
	case "object":
		return "variable"
	case "tls":
		return "thread-local variable"
	}
	return "symbol"
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// Compare gives what of the old library's interface the new one has not, or has
// otherwise, in the order of symbols. What is new is no change for anybody. The size
// of a function is nobody's business; that of a variable is: programs that are linked
// at a fixed address have a copy of it, of the size that it had.
func Compare(old, now *File) []Change {
	var out []Change
	if old.SOName != now.SOName {
		out = append(out, Change{Kind: "soname", Old: old.SOName, New: now.SOName})
	}
	byName := map[string][]Symbol{}
	for _, s := range now.Exports {
		byName[s.Name] = append(byName[s.Name], s)
	}
	for _, s := range old.Exports {
		found, how := match(s, byName[s.Name], len(now.Versions) > 0)
		switch {
		case how != "":
			out = append(out, Change{Kind: how, Symbol: s})
		case s.Kind != found.Kind && s.Kind != "none" && found.Kind != "none":
			out = append(out, Change{Kind: "kind", Symbol: s, Old: s.Kind, New: found.Kind})
		case s.Size != found.Size && (s.Kind == "object" || s.Kind == "tls"):
			out = append(out, Change{Kind: "size", Symbol: s, Old: fmt.Sprint(s.Size), New: fmt.Sprint(found.Size)})
		}
	}
	return out
}

// match finds what a program that was linked with s gets; how is the kind of change
// when that is not the same symbol. An unversioned reference takes the default
// version; a reference to a version is refused by a library that has versions but not
// this one, and only grumbled about by one that has none (ld.so(8)).
func match(s Symbol, now []Symbol, versions bool) (found Symbol, how string) {
	if i := slices.IndexFunc(now, func(n Symbol) bool { return n.Version == s.Version }); i >= 0 {
		return now[i], ""
	}
	if s.Version == "" {
		if i := slices.IndexFunc(now, func(n Symbol) bool { return n.Default }); i >= 0 {
			return now[i], ""
		}
	}
	if i := slices.IndexFunc(now, func(n Symbol) bool { return n.Version == "" }); i >= 0 && !versions {
		return now[i], "version"
	}
	return Symbol{}, "removed"
}

// Uses reports whether f takes the symbol s from the library soname, as far as its
// tables tell: an import without version may be meant for any library that f needs.
func (f *File) Uses(soname string, s Symbol) bool {
	if !slices.Contains(f.Needed, soname) {
		return false
	}
	i, ok := slices.BinarySearchFunc(f.Imports, s.Name, func(x Symbol, name string) int {
		switch {
		case x.Name < name:
			return -1
		case x.Name > name:
			return 1
		}
		return 0
	})
	for ; ok && i < len(f.Imports) && f.Imports[i].Name == s.Name; i++ {
		x := f.Imports[i]
		if (x.Library == "" || x.Library == soname) && (x.Version == "" || s.Version == "" || x.Version == s.Version) {
			return true
		}
	}
	return false
}
