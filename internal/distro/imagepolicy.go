package distro

import (
	"fmt"
	"slices"
	"sort"

	"slipway/internal/errs"
)

// ImagePolicy changes what the rules for images say (package check/security).
type ImagePolicy struct {
	// Allow names, by rule, objects that are no finding; * stands for any text. They
	// come beside the built-in ones.
	Allow map[string][]string `json:"allow,omitempty"`
	// Levels gives the findings of a rule another level; off drops them.
	Levels map[string]Level `json:"levels,omitempty"`
}

// Err refuses rules that are none of known, and levels that do not exist: all at once.
func (p ImagePolicy) Err(known []string) error {
	var found errs.List
	unknown := func(rule string) {
		if slices.Contains(known, rule) {
			return
		}
		hint := errs.Hint("docs/image-check.md lists the rules")
		if near := errs.Near(rule, known); near != "" {
			hint = errs.Hintf("did you mean %q?", near)
		}
		found = append(found, errs.E(errs.Invalid, fmt.Sprintf("no rule %q for images", rule), hint))
	}
	for _, rule := range sortedNames(p.Allow) {
		unknown(rule)
	}
	for _, rule := range sortedNames(p.Levels) {
		unknown(rule)
		if l := p.Levels[rule]; l != Block && l != Warn && l != Info && l != Off {
			found = append(found, errs.E(errs.Invalid, fmt.Sprintf("rule %s: no level %q", rule, l), errs.Hint("block, warn, info or off")))
		}
	}
	return found.Err()
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}
