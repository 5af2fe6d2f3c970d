package rpmmd

import (
	"strings"

	"slipway/internal/distro"
	"slipway/internal/rpm"
)

// The rules by which createrepo_c turns a header's relations into primary.xml.
// Clients see only what passes here.
//
//   - A relation whose version has an epoch that is no number is left out.
//   - rpmlib(...) requirements are left out: they speak to rpm, not to a solver.
//   - A requirement that the package itself provides, by the same name, flags
//     and version, is left out; also one for a file of its own that stands in primary.
//   - A requirement equal to the last one of the same name is left out.
//   - Of all requirements libc.so.6*, the one with the highest version stays, at the end.
//   - A requirement with the flag MISSINGOK is a recommendation.
//   - pre="1": needed by %pre, %post, %pretrans or %posttrans (the last two
//     since createrepo_c 1.x).
//
// The tags OLDSUGGESTS and OLDENHANCES of SUSE's rpm before 4.12 are not read.

// relation is one <rpm:entry>.
type relation struct {
	name, flags, epoch, ver, rel string
	pre                          bool
}

type relationSets struct {
	provides, requires, conflicts, obsoletes, suggests, enhances, recommends, supplements []relation
}

const preSenses = rpm.SensePrereq | rpm.SenseScriptPre | rpm.SenseScriptPost | rpm.SensePretrans | rpm.SensePosttrans

func selectDeps(p *rpm.Package) relationSets {
	s := relationSets{
		provides: convert(p.Provides), conflicts: convert(p.Conflicts), obsoletes: convert(p.Obsoletes),
		suggests: convert(p.Suggests), enhances: convert(p.Enhances), supplements: convert(p.Supplements),
	}
	s.requires, s.recommends = selectRequires(p)
	s.recommends = append(s.recommends, convert(p.Recommends)...)
	return s
}

// depKey decides whether two dependencies are the same; the version is compared
// as written, "0:1" and "1" differ.
type depKey struct {
	name, flags, evr string
	pre              bool
}

func keyOf(d rpm.Dep) depKey { return depKey{d.Name, senseNames[d.Flags&0xf], d.EVR, false} }

func selectRequires(p *rpm.Package) (requires, recommends []relation) {
	provided := make(map[depKey]bool, len(p.Provides))
	for _, d := range p.Provides {
		if _, ok := toRelation(d); ok {
			provided[keyOf(d)] = true
		}
	}
	last := map[string]depKey{}
	libc, haveLibc := relation{}, false
	for _, d := range p.Requires {
		r, ok := toRelation(d)
		if !ok || strings.HasPrefix(d.Name, "rpmlib(") || ownPrimaryFile(p, d.Name) || provided[keyOf(d)] {
			continue
		}
		r.pre = d.Flags&preSenses != 0
		key := keyOf(d)
		key.pre = r.pre
		if prev, ok := last[r.name]; ok && prev == key {
			continue
		}
		switch {
		case d.Flags&rpm.SenseMissingOK != 0:
			r.pre = false
			recommends = append(recommends, r)
		case strings.HasPrefix(r.name, "libc.so.6"):
			if !haveLibc || newerLibc(r.name, libc.name) {
				libc, haveLibc = r, true
			}
		default:
			last[r.name] = key
			requires = append(requires, r)
		}
	}
	if haveLibc {
		requires = append(requires, libc)
	}
	return requires, recommends
}

func ownPrimaryFile(p *rpm.Package, name string) bool {
	if !strings.HasPrefix(name, "/") || !inPrimary(name) {
		return false
	}
	for i := range p.Files {
		if p.Files[i].Path == name {
			return true
		}
	}
	return false
}

func convert(deps []rpm.Dep) []relation {
	var out []relation
	for _, d := range deps {
		if r, ok := toRelation(d); ok {
			out = append(out, r)
		}
	}
	return out
}

var senseNames = [16]string{2: "LT", 4: "GT", 8: "EQ", 10: "LE", 12: "GE"}

// toRelation takes a dependency apart; false when it has no name or a bad epoch.
func toRelation(d rpm.Dep) (relation, bool) {
	r := relation{name: d.Name, flags: senseNames[d.Flags&0xf]}
	if d.EVR == "" {
		return r, hasName(d)
	}
	r.epoch, r.ver = "0", d.EVR
	if epoch, rest, ok := strings.Cut(d.EVR, ":"); ok {
		r.ver = rest
		if strings.Trim(epoch, "0123456789") != "" {
			return r, false
		}
		if epoch != "" {
			r.epoch = epoch
		}
	}
	r.ver, r.rel, _ = strings.Cut(r.ver, "-")
	return r, hasName(d)
}

// hasName reports whether something is left of the name when it is written.
func hasName(d rpm.Dep) bool {
	return d.Name != "" && (d.Name[0] > ' ' && d.Name[0] < 0x7f || len(appendAttr(nil, d.Name)) > 0)
}

// newerLibc reports whether a names a higher version than b:
// libc.so.6()(64bit) < libc.so.6(GLIBC_2.3.4)(64bit) < libc.so.6(GLIBC_2.4)(64bit).
func newerLibc(a, b string) bool {
	ra, va := libcVersion(a)
	rb, vb := libcVersion(b)
	if ra != rb {
		return ra > rb
	}
	return distro.RPMVerCmp(va, vb) > 0
}

// libcVersion gives what stands from the first digit on in the first
// parentheses, and a rank for names that lack a part of that.
func libcVersion(name string) (rank int, version string) {
	_, rest, ok := strings.Cut(name, "(")
	if !ok {
		return 0, ""
	}
	in, _, ok := strings.Cut(rest, ")")
	if !ok {
		return 1, ""
	}
	if in == "" {
		return 2, ""
	}
	i := strings.IndexAny(in, "0123456789")
	if i < 0 {
		return 3, ""
	}
	return 4, in[i:]
}

// changelogLimit is createrepo_c's default.
const changelogLimit = 10

// selectChangelogs gives the newest entries of a header's list (newest first),
// oldest first. rpm keeps days, not times, and clients sort by time: an entry
// gets a second more than the next older one of the same day.
func selectChangelogs(logs []rpm.Changelog) []rpm.Changelog {
	logs = logs[:min(len(logs), changelogLimit)]
	out := make([]rpm.Changelog, 0, len(logs))
	for i := len(logs) - 1; i >= 0; i-- {
		c := logs[i]
		c.Author = strings.TrimRight(c.Author, " ")
		out = append(out, c)
	}
	var lastTime int64
	for i, c := range logs {
		if c.Time != lastTime {
			lastTime = c.Time
			continue
		}
		at := len(logs) - 1 - i
		for j, t := at+1, c.Time; j < len(out) && out[j].Time == t; j, t = j+1, t+1 {
			out[j].Time++
		}
	}
	return out
}
