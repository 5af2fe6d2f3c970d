package cycle

import (
	"fmt"
	"slices"
	"strings"

	"slipway/internal/distro"
)

// statement is what the publication says of a release for ever: nothing in it
// names what is internal (docs/what-is-public.md says what stands in its place).
func statement(r Release, b Build, policy distro.PublicPolicy) distro.Statement {
	d := newDiscretion(b, policy)
	s := distro.Statement{Schema: 1, Distribution: b.Revision.Distribution, Series: b.Series, Version: r.Version, Candidate: b.ID.Candidate(), Serial: r.Serial,
		At: r.Approval.At, Revision: b.Revision, RevisionID: b.RevisionID, Approval: r.Approval, Packages: r.Packages, Withheld: len(internal(b.Packages))}
	s.Revision.Sources = nil
	for _, p := range b.Revision.Sources {
		from := append(originsOf(p.Spec, b.Packages), distro.Origin{Recipe: p.Spec, License: "?"}) // a licence that no rule names
		if policy.Excluded(from...) != "" || d.names(p.Spec) {
			s.Withheld++
			continue
		}
		s.Revision.Sources = append(s.Revision.Sources, p)
	}
	s.Approval.Because = d.text(s.Approval.Because)
	for _, c := range b.Candidate.Checks {
		c.Evidence = nil // transcripts name paths and times of this machine: they stay with the build
		c.Note, c.Error = d.text(c.Note), d.text(c.Error)
		c.Findings = slices.Clone(c.Findings)
		for i, f := range c.Findings {
			c.Findings[i] = d.finding(f)
		}
		s.Checks = append(s.Checks, c)
	}
	for _, w := range b.Candidate.Waivers {
		s.Waivers = append(s.Waivers, d.waiver(w))
	}
	for _, x := range b.Candidate.SignOffs {
		if d.names(x.Component) {
			continue // of a component that nobody outside knows
		}
		x.Because = d.text(x.Because)
		s.SignOffs = append(s.SignOffs, x)
	}
	if v := b.Candidate.Verdict; v != nil {
		s.Verdict = *v
		s.Verdict.Reasons = slices.Clone(v.Reasons)
		for i := range s.Verdict.Reasons {
			x := &s.Verdict.Reasons[i]
			x.Finding, x.Note = d.finding(x.Finding), d.text(x.Note)
			if x.Waived != nil {
				w := d.waiver(*x.Waived)
				x.Waived = &w
			}
		}
	}
	for _, a := range b.Artifacts {
		switch {
		case a.Class == distro.Packages: // those are stated signed, in Packages
		case d.names(a.Name):
			s.Withheld++
		case !slices.Contains(policy.Classes, a.Class):
			s.Artifacts = append(s.Artifacts, distro.Artifact{Class: a.Class, Digest: a.Digest, Size: a.Size})
		default:
			s.Artifacts = append(s.Artifacts, a)
		}
	}
	return s
}

// discretion knows the names that a statement must not say.
type discretion struct {
	secret []string
	said   map[string]bool   // names that are public
	alias  map[string]string // key of a finding -> what stands for its id
}

func newDiscretion(b Build, policy distro.PublicPolicy) *discretion {
	d := discretionOf(public(b.Packages), internal(b.Packages))
	// A recipe that brought no package is known by its sources.
	for _, p := range b.Revision.Sources {
		if policy.Excluded(distro.Origin{Recipe: p.Spec, License: "?"}) != "" {
			d.add(p.Spec)
		}
	}
	return d
}

// discretionOf knows the names of packages and recipes that are internal alone.
func discretionOf(public, internal []distro.PackageRecord) *discretion {
	d := &discretion{said: map[string]bool{}, alias: map[string]string{}}
	for _, r := range public {
		d.said[r.Name], d.said[r.SourceName] = true, true
	}
	for _, r := range internal {
		d.add(r.Name)
		d.add(r.SourceName)
	}
	return d
}

func (d *discretion) add(name string) {
	if name != "" && !d.said[name] && !slices.Contains(d.secret, name) {
		d.secret = append(d.secret, name)
	}
}

// names reports whether a text holds a secret name as a word of its own:
// "vendor" is in "log of vendor-1.0" and not in "vendors".
func (d *discretion) names(texts ...string) bool {
	for _, text := range texts {
		for _, name := range d.secret {
			for rest := text; ; {
				i := strings.Index(rest, name)
				if i < 0 {
					break
				}
				end := i + len(name)
				if (i == 0 || !wordByte(rest[i-1])) && (end == len(rest) || !wordByte(rest[end])) {
					return true
				}
				rest = rest[i+1:]
			}
		}
	}
	return false
}

func wordByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func (d *discretion) text(s string) string {
	if d.names(s) {
		return "(not public)"
	}
	return s
}

func (d *discretion) finding(f distro.Finding) distro.Finding {
	if f.Check == resultsCheck {
		f.Evidence = nil // ends of logs of tests, which name machines and people
	}
	told := append([]string{f.ID, f.Object, f.Text, f.Cure, f.Log, f.Source}, append(slices.Concat(f.Evidence, f.Paths), f.Commits...)...)
	if !d.names(told...) {
		return f
	}
	return distro.Finding{Check: f.Check, ID: d.aliasOf(f.Key()), Level: f.Level, Boards: f.Boards, Text: "(not public)"}
}

// waiver names a finding as finding does, in whatever order they come.
func (d *discretion) waiver(w distro.Waiver) distro.Waiver {
	check, _, _ := strings.Cut(w.Finding, "/")
	if alias, ok := d.alias[w.Finding]; ok {
		w.Finding = check + "/" + alias
	} else if d.names(w.Finding) {
		w.Finding = check + "/" + d.aliasOf(w.Finding)
	}
	w.Because = d.text(w.Because)
	return w
}

func (d *discretion) aliasOf(key string) string {
	if d.alias[key] == "" {
		d.alias[key] = fmt.Sprintf("internal-%d", len(d.alias)+1)
	}
	return d.alias[key]
}
