package rpm

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"slipway/internal/distro"
)

// What a dependency means to a device. The other bits tell how rpm found it.
const senseMeaning = SenseLess | SenseGreater | SenseEqual | SensePosttrans | SensePrereq | SensePretrans | SenseInterp |
	SenseScriptPre | SenseScriptPost | SenseScriptPreun | SenseScriptPostun | senseScriptVerify | SenseMissingOK | senseMeta

const (
	senseScriptVerify = 1 << 13
	senseMeta         = 1 << 29
)

// ContentDigest is the digest of [ContentOf].
func (p *Package) ContentDigest() distro.Digest { return distro.ContentDigest(ContentOf(p)) }

// ContentOf gives what the package does to a device: files by their digests,
// attributes, dependencies, scripts. docs/format/content-digest.md lists what is
// left out, and why.
func ContentOf(p *Package) distro.Content {
	c := distro.Content{
		Schema: 1, Name: p.Name, Epoch: p.Epoch, Version: p.Version, Release: p.Release, Arch: p.Arch,
		Summary: text(p.Summary), Text: text(p.Description), License: text(p.License),
		Deps: map[string][]string{}, Scripts: map[string]string{}, Files: []distro.ContentFile{},
	}
	for kind, deps := range map[string][]Dep{
		"provides": p.Provides, "requires": p.Requires, "conflicts": p.Conflicts, "obsoletes": p.Obsoletes,
		"recommends": p.Recommends, "suggests": p.Suggests, "supplements": p.Supplements, "enhances": p.Enhances,
	} {
		if d := contentDeps(deps); len(d) > 0 {
			c.Deps[kind] = d
		}
	}
	for _, s := range p.Scripts {
		addScript(c.Scripts, s)
	}
	for _, f := range p.Files {
		cf := distro.ContentFile{Path: text(f.Path), Mode: f.Mode, User: text(f.User), Group: text(f.Group),
			Link: text(f.Link), Flags: f.Flags, Caps: text(f.Caps)}
		if f.IsRegular() && f.Flags&FileGhost == 0 {
			cf.Size, cf.Digest = f.Size, f.Digest
		}
		if m := f.Mode & 0o170000; m == 0o020000 || m == 0o060000 {
			cf.Rdev = f.Rdev
		}
		c.Files = append(c.Files, cf)
	}
	slices.SortStableFunc(c.Files, func(a, b distro.ContentFile) int { return strings.Compare(a.Path, b.Path) })
	return c
}

func contentDeps(deps []Dep) []string {
	var out []string
	for _, d := range deps {
		if strings.HasPrefix(d.Name, "rpmlib(") {
			continue // what the rpm that built it used, not what the device gets
		}
		out = append(out, contentDep(d))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// contentDep writes "name", "name >= evr", with " (0x200)" behind it for the
// bits that tell when the dependency counts.
func contentDep(d Dep) string {
	s := text(d.Name)
	if op := d.Op(); op != "" {
		s += " " + op + " " + text(d.EVR)
	}
	if rest := d.Flags & senseMeaning &^ (SenseLess | SenseGreater | SenseEqual); rest != 0 {
		s += fmt.Sprintf(" (%#x)", rest)
	}
	return s
}

// Op gives "<", "<=", "=", ">=", ">" or "" for a Dep without version.
func (d Dep) Op() string {
	op := ""
	if d.Flags&SenseLess != 0 {
		op += "<"
	}
	if d.Flags&SenseGreater != 0 {
		op += ">"
	}
	if d.Flags&SenseEqual != 0 {
		op += "="
	}
	return op
}

// addScript puts a script under its kind, a trigger under its kind and what it
// waits for; a second of the same gets a number.
func addScript(to map[string]string, s Script) {
	key := s.Kind
	if len(s.On) > 0 {
		on := make([]string, len(s.On))
		for i, d := range s.On {
			on[i] = contentDep(d)
		}
		key += " " + strings.Join(on, ", ")
	}
	if s.Priority != 0 {
		key += fmt.Sprintf(" priority %d", s.Priority)
	}
	if s.Flags != 0 {
		key += fmt.Sprintf(" flags %#x", s.Flags)
	}
	unique := key
	for n := 2; ; n++ {
		if _, taken := to[unique]; !taken {
			break
		}
		unique = fmt.Sprintf("%s #%d", key, n)
	}
	to[unique] = text(s.Interp) + "\n" + text(s.Body)
}

// text keeps strings that are no UTF-8 apart: JSON would make them equal.
func text(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return fmt.Sprintf("%+q", s)
}
