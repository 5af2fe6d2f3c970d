// Package versions compares the candidate's packages with those of the release
// that it follows: rpm's clients only ever go up, and trust that one number means
// one content. It reads records only.
package versions

import (
	"context"
	"fmt"

	"slipway/internal/check"
	"slipway/internal/distro"
)

// New gives the check.
func New() check.Check { return versions{} }

type versions struct{}

func (versions) Spec() distro.CheckSpec {
	return distro.CheckSpec{ID: "versions", Level: distro.Block,
		Asks: "does every package keep its number or rise, with new content whenever the number is new, and only then?",
		Cure: "raise the version, or the epoch when the version must go down"}
}

// Run asks once for each package of the base release.
func (versions) Run(_ context.Context, bed *check.Bed) (check.Result, error) {
	var res check.Result
	base := check.Binary(bed.Base)
	if len(base) == 0 {
		res.Note = "there is no release to compare with"
		return res, nil
	}
	type key struct{ name, arch string }
	candidate := map[key]distro.PackageRecord{}
	byNEVRA := map[string]distro.PackageRecord{}
	names, sources := map[string]bool{}, map[string]bool{}
	brought := bed.Brought
	if brought == nil {
		brought = bed.Packages
	}
	for _, p := range check.Binary(brought) {
		k := key{p.Name, p.Arch}
		if q, ok := candidate[k]; !ok || p.CompareEVR(q) > 0 {
			candidate[k] = p
		}
		byNEVRA[p.NEVRA()] = p
		names[p.Name], sources[p.SourceName] = true, true
	}
	newest := map[key]distro.PackageRecord{}
	for _, p := range base {
		res.Asked++
		k := key{p.Name, p.Arch}
		if q, ok := newest[k]; !ok || p.CompareEVR(q) > 0 {
			newest[k] = p
		}
		if c, ok := byNEVRA[p.NEVRA()]; ok && c.Content != p.Content && (c.HeaderDigest == "" || c.HeaderDigest != p.HeaderDigest) {
			res.Findings = append(res.Findings, finding("content", c, distro.Block,
				fmt.Sprintf("%s has other content than the published package of that number: %s, published is %s", c.NEVRA(), c.Content.Short(), p.Content.Short()),
				"raise the release of its spec; devices that have it will not fetch it again"))
		}
	}
	// same: a new number without new content. What a builder numbers by recipes is the
	// same only when all packages of the recipe are: the others require them by number.
	same := func(old, now distro.PackageRecord) bool {
		return now.CompareEVR(old) > 0 && bed.SameButNumber != nil && bed.SameButNumber(old, now)
	}
	changed := map[key]bool{} // source and architecture
	if bed.Recipes {
		for k, c := range candidate {
			if p, ok := newest[k]; !ok || c.CompareEVR(p) > 0 && !same(p, c) {
				changed[key{c.SourceName, c.Arch}] = true
			}
		}
	}
	for _, p := range base {
		k := key{p.Name, p.Arch}
		if newest[k].NEVRA() != p.NEVRA() {
			continue
		}
		c, ok := candidate[k]
		switch {
		case !ok && bed.Recipes:
		case !ok && names[p.Name]:
			res.Findings = append(res.Findings, finding("arch", p, distro.Info,
				fmt.Sprintf("%s is not brought for %s any more, only for another architecture", p.Name, p.Arch), "nothing, if that was meant"))
		case !ok && sources[p.SourceName]:
			res.Findings = append(res.Findings, finding("lost", p, distro.Info,
				fmt.Sprintf("%s does not bring %s any more; the published package stays in the feed", p.SourceName, p.Name), "if devices should lose it, let another package say Obsoletes: "+p.Name))
		case !ok:
			res.Findings = append(res.Findings, finding("lost", p, distro.Info,
				fmt.Sprintf("nothing brings %s any more; the published package stays in the feed", p.Name), "if devices should lose it, let another package say Obsoletes: "+p.Name))
		case c.CompareEVR(p) < 0:
			res.Findings = append(res.Findings, finding("backwards", c, distro.Block,
				fmt.Sprintf("%s goes backwards: %s, published is %s", c.Name, c.EVR(), p.EVR()), ""))
		case same(p, c) && !changed[key{c.SourceName, c.Arch}]:
			res.Findings = append(res.Findings, finding("same", c, distro.Warn,
				fmt.Sprintf("%s has a new number without new content: %s, published is %s", c.Name, c.EVR(), p.EVR()), "keep the number: every device would fetch it for nothing"))
		}
	}
	return res, nil
}

func finding(rule string, p distro.PackageRecord, level distro.Level, text, cure string) distro.Finding {
	return distro.Finding{ID: p.Name + "." + p.Arch + ":" + rule, Level: level, Object: p.NEVRA(), Source: p.SourceName, Text: text, Cure: cure}
}
