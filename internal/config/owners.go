package config

import (
	"path"
	"strings"
)

// sound reports whether the pattern can match anything.
func (o Owner) sound() bool {
	_, err := path.Match(strings.ReplaceAll(o.Path, "**", "*"), "")
	return err == nil && strings.Trim(o.Path, "/") == o.Path && !strings.Contains(o.Path, "//")
}

// Matches reports whether a path, or a folder above it, fits the pattern.
func (o Owner) Matches(name string) bool {
	for ; name != "." && name != "/" && name != ""; name = path.Dir(name) {
		if matchParts(strings.Split(o.Path, "/"), strings.Split(name, "/")) {
			return true
		}
	}
	return false
}

func matchParts(pattern, name []string) bool {
	if len(pattern) == 0 {
		return len(name) == 0
	}
	if pattern[0] == "**" {
		return matchParts(pattern[1:], name) || len(name) > 0 && matchParts(pattern, name[1:])
	}
	if len(name) == 0 {
		return false
	}
	ok, err := path.Match(pattern[0], name[0])
	return err == nil && ok && matchParts(pattern[1:], name[1:])
}

// OwnersOf gives the people who answer for any of the paths ("meta-halyard/recipes-core/
// hello"): of the last entry that matches one. None is nobody.
func (d *Definition) OwnersOf(paths ...string) []string {
	var out []string
	for _, o := range d.Owners {
		for _, p := range paths {
			if o.Matches(p) {
				out = o.People
				break
			}
		}
	}
	return out
}
