package check

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/dnf"
	"slipway/internal/rpm"
)

// Relations are what the packages of a feed say against each other.
type Relations struct{ entries []relation }

type relation struct {
	from      distro.PackageRecord
	obsoletes bool // else conflicts
	to        dep
}

// dep is "name", or "name op [epoch:]version[-release]".
type dep struct{ name, op, evr string }

const relationFormat = `@%{name}\t%{epoch}\t%{version}\t%{release}\t%{arch}\n>O\n%{obsoletes}\n>C\n%{conflicts}\n`

// Relations gives what the packages of a feed say against each other: by their
// headers, where they can be read, else by asking the root's feeds, which must be
// that feed.
func (b *Bed) Relations(ctx context.Context, root *dnf.Root, feed []distro.PackageRecord) (Relations, error) {
	if b.Read == nil {
		return ReadRelations(ctx, root)
	}
	var r Relations
	for _, p := range Binary(feed) {
		h, err := b.Read(ctx, p)
		if err != nil {
			return Relations{}, err
		}
		for _, said := range []struct {
			obsoletes bool
			deps      []rpm.Dep
		}{{true, h.Obsoletes}, {false, h.Conflicts}} {
			for _, d := range said.deps {
				if !strings.HasPrefix(d.Name, "(") { // a rich one says more than a name
					r.entries = append(r.entries, relation{p, said.obsoletes, dep{d.Name, operator(d.Flags), d.EVR}})
				}
			}
		}
	}
	return r, nil
}

// operator of a dependency's version, as rpm prints it.
func operator(flags uint32) string {
	op := ""
	for _, f := range []struct {
		bit  uint32
		sign string
	}{{rpm.SenseLess, "<"}, {rpm.SenseGreater, ">"}, {rpm.SenseEqual, "="}} {
		if flags&f.bit != 0 {
			op += f.sign
		}
	}
	return op
}

// ReadRelations asks the root's feeds.
func ReadRelations(ctx context.Context, root *dnf.Root) (Relations, error) {
	lines, err := root.Repoquery(ctx, "--qf", relationFormat)
	if err != nil {
		return Relations{}, err
	}
	return parseRelations(lines), nil
}

func parseRelations(lines []string) Relations {
	var r Relations
	var from distro.PackageRecord
	obsoletes := false
	for _, l := range lines {
		if head, ok := strings.CutPrefix(l, "@"); ok {
			if f := strings.Split(head, "\t"); len(f) == 5 {
				epoch, _ := strconv.Atoi(f[1])
				from = distro.PackageRecord{Name: f[0], Epoch: epoch, Version: f[2], Release: f[3], Arch: f[4]}
			}
			continue
		}
		switch f := strings.Fields(l); {
		case l == ">O":
			obsoletes = true
		case l == ">C":
			obsoletes = false
		case len(f) == 1:
			r.entries = append(r.entries, relation{from, obsoletes, dep{name: f[0]}})
		case len(f) == 3 && !strings.HasPrefix(f[0], "("): // a rich dependency is never that short
			r.entries = append(r.entries, relation{from, obsoletes, dep{f[0], f[1], f[2]}})
		}
	}
	return r
}

// Obsoleted tells which of the packages takes the place of p.
func (r Relations) Obsoleted(p distro.PackageRecord, by []distro.PackageRecord) (distro.PackageRecord, bool) {
	return r.find(true, p, by)
}

func (r Relations) find(obsoletes bool, p distro.PackageRecord, by []distro.PackageRecord) (distro.PackageRecord, bool) {
	for _, e := range r.entries {
		if e.obsoletes != obsoletes || !e.to.matches(p) || e.from.Name == p.Name {
			continue
		}
		if i := slices.IndexFunc(by, func(q distro.PackageRecord) bool { return q.NEVRA() == e.from.NEVRA() }); i >= 0 {
			return by[i], true
		}
	}
	return distro.PackageRecord{}, false
}

func (d dep) matches(p distro.PackageRecord) bool {
	if d.name != p.Name {
		return false
	}
	if d.op == "" {
		return true
	}
	epoch, rest := 0, d.evr
	if e, after, ok := strings.Cut(rest, ":"); ok {
		epoch, _ = strconv.Atoi(e)
		rest = after
	}
	version, release, hasRelease := strings.Cut(rest, "-")
	have := p.Release
	if !hasRelease {
		have = "" // a dependency without a release means every release
	}
	c := distro.CompareEVR(p.Epoch, p.Version, have, epoch, version, release)
	return c < 0 && strings.Contains(d.op, "<") || c > 0 && strings.Contains(d.op, ">") || c == 0 && strings.Contains(d.op, "=")
}

// Together gives the packages that can be on one device: the newest of each name,
// without those that another obsoletes and without those that say themselves
// that they conflict with another. Notes tell what was left out.
func (r Relations) Together(all []distro.PackageRecord) (keep []distro.PackageRecord, notes []string) {
	newest := Newest(all)
	var current []distro.PackageRecord
	for _, p := range all {
		switch by, obsolete := r.Obsoleted(p, all); {
		case newest[p.Name].CompareEVR(p) != 0:
			notes = append(notes, fmt.Sprintf("%s is older than %s", p.NEVRA(), newest[p.Name].NEVRA()))
		case obsolete:
			notes = append(notes, fmt.Sprintf("%s is obsoleted by %s", p.NEVRA(), by.NEVRA()))
		default:
			current = append(current, p)
		}
	}
	for _, p := range current {
		if by, ok := r.conflict(p, keep); ok {
			notes = append(notes, fmt.Sprintf("%s conflicts with %s", p.NEVRA(), by.NEVRA()))
			continue
		}
		keep = append(keep, p)
	}
	return keep, notes
}

// conflict: of a pair the first by name stays.
func (r Relations) conflict(p distro.PackageRecord, keep []distro.PackageRecord) (distro.PackageRecord, bool) {
	for _, q := range keep {
		if _, ok := r.find(false, q, []distro.PackageRecord{p}); ok {
			return q, true
		}
		if _, ok := r.find(false, p, []distro.PackageRecord{q}); ok {
			return q, true
		}
	}
	return distro.PackageRecord{}, false
}

// Newest gives the newest package of each name.
func Newest(all []distro.PackageRecord) map[string]distro.PackageRecord {
	m := map[string]distro.PackageRecord{}
	for _, p := range all {
		if q, ok := m[p.Name]; !ok || p.CompareEVR(q) > 0 {
			m[p.Name] = p
		}
	}
	return m
}

// Holds tells whether exactly this package is installed: by version, and by
// header digest where both are known.
func Holds(installed []distro.PackageRecord, p distro.PackageRecord) bool {
	return slices.ContainsFunc(installed, func(q distro.PackageRecord) bool {
		return q.NEVRA() == p.NEVRA() && (q.HeaderDigest == "" || p.HeaderDigest == "" || q.HeaderDigest == p.HeaderDigest)
	})
}

// Find gives what is installed under a name, in words.
func Find(installed []distro.PackageRecord, name string) string {
	var found []string
	for _, q := range installed {
		if q.Name == name {
			found = append(found, q.NEVRA())
		}
	}
	if len(found) == 0 {
		return "not installed"
	}
	return strings.Join(found, " and ")
}

var scriptletOf = regexp.MustCompile(`%[a-z]+\(([^()]+)\)|in rpm package (\S+)`)

// ByPackage sorts lines about scriptlets by the package that they name. Lines that
// name none belong to the package named before, else to "".
func ByPackage(lines []string, packages []distro.PackageRecord) map[string][]string {
	out := map[string][]string{}
	last, waiting := "", []string(nil)
	for _, l := range lines {
		m := scriptletOf.FindStringSubmatch(l)
		if m == nil && last == "" {
			waiting = append(waiting, l) // the shell's own words come before rpm's
			continue
		}
		if m != nil {
			for _, p := range packages {
				if m[2] == p.Name || m[1] == p.Name+"-"+p.Version+"-"+p.Release+"."+p.Arch {
					last = p.NEVRA()
				}
			}
		}
		out[last] = append(append(out[last], waiting...), l)
		waiting = nil
	}
	if len(waiting) > 0 {
		out[last] = append(out[last], waiting...)
	}
	return out
}

// Tail gives the last n lines of a transcript, as evidence.
func Tail(text string, n int) []string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return lines[max(0, len(lines)-n):]
}

// Why gives the words of an error of dnf that tell most, on one line.
func Why(err error) string {
	text := err.Error()
	if _, after, ok := strings.Cut(text, "Error: "); ok {
		text = strings.TrimSpace(after)
	}
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines[:min(len(lines), 3)], " ")
}
