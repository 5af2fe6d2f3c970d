package distro

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// PublicPolicy says what may leave the house: the classes of artifacts that are
// published, less what is excluded by licence, licence flag or recipe. The zero
// value publishes nothing.
type PublicPolicy struct {
	Classes []Class
	Exclude []Exclusion
}

// Exclusion keeps out what matches all of its fields that are set. In each, *
// stands for any text.
type Exclusion struct {
	License      string // one licence of an expression: "CLOSED" also matches "MIT & CLOSED"; case does not count
	LicenseFlags string // as BitBake reads them: "commercial" also matches "commercial_ffmpeg"
	Recipe       string // "vendor-*"
}

// Origin is what the policy knows of something that an artifact is, or holds: a
// package, or all packages of a recipe for its source.
type Origin struct {
	Recipe       string
	License      string // an expression, as in the package's header
	LicenseFlags string // words
}

// Origin gives the package's own.
func (p PackageRecord) Origin() Origin { return Origin{p.SourceName, p.License, p.LicenseFlags} }

// IsSource reports whether it is a source package.
func (p PackageRecord) IsSource() bool { return p.Arch == "src" || p.Arch == "nosrc" }

// Public reports whether an artifact of a class that is made from, or holds, these
// may be published, and if not why: in words that name the rule. What is not known
// is kept in: an origin without a licence matches every rule about licences.
func (p PublicPolicy) Public(c Class, from ...Origin) (bool, string) {
	if !slices.Contains(p.Classes, c) {
		return false, fmt.Sprintf("publish.public does not list %s", c)
	}
	if why := p.Excluded(from...); why != "" {
		return false, why
	}
	return true, ""
}

// Excluded gives the rule that keeps out one of these; "" when none does.
func (p PublicPolicy) Excluded(from ...Origin) string {
	for _, o := range from {
		for _, x := range p.Exclude {
			if x.matches(o) {
				return fmt.Sprintf("publish.exclude has %s", x)
			}
		}
	}
	return ""
}

// String is the entry as slipway.yaml writes it: {license: CLOSED}.
func (x Exclusion) String() string {
	var parts []string
	for _, f := range [][2]string{{"license", x.License}, {"license_flags", x.LicenseFlags}, {"recipe", x.Recipe}} {
		if f[1] != "" {
			parts = append(parts, f[0]+": "+f[1])
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func (x Exclusion) matches(o Origin) bool {
	return x != Exclusion{} &&
		(x.License == "" || o.License == "" || licenseMatches(x.License, o.License)) &&
		(x.LicenseFlags == "" || flagMatches(x.LicenseFlags, o.LicenseFlags)) &&
		(x.Recipe == "" || glob(x.Recipe, o.Recipe))
}

// licenseMatches looks at the whole expression and at each licence in it: of a
// choice ("MIT | CLOSED"), too, as nobody has said which was taken.
func licenseMatches(pattern, expression string) bool {
	pattern, expression = strings.ToLower(pattern), strings.ToLower(expression)
	terms := strings.FieldsFunc(expression, func(r rune) bool { return strings.ContainsRune(" \t\n&|(),;", r) })
	return glob(pattern, expression) || slices.ContainsFunc(terms, func(t string) bool { return glob(pattern, t) })
}

// flagMatches: a flag of BitBake's may have the recipe's name after it, and a
// shorter one stands for all that begin with it and an underscore.
func flagMatches(pattern, flags string) bool {
	return slices.ContainsFunc(strings.Fields(flags), func(f string) bool { return glob(pattern, f) || glob(pattern+"_*", f) })
}

// glob: a pattern that is none matches all, as everything here keeps in.
func glob(pattern, name string) bool {
	ok, err := path.Match(pattern, strings.ReplaceAll(name, "/", "_"))
	return ok || err != nil
}

// debugEndings are the endings of packages that hold what others were built from:
// rpm's, then Yocto's.
var debugEndings = []string{"-debuginfo", "-debugsource", "-dbg", "-src"}

// Reveals reports whether a package may hold parts of its recipe's other packages:
// a source package, debugging symbols, sources for the debugger.
func (p PackageRecord) Reveals() bool {
	return p.IsSource() || slices.ContainsFunc(debugEndings, func(e string) bool { return strings.HasSuffix(p.Name, e) })
}
