// Package machines asks whether the packages of machines' own feeds must be there:
// one that is the same for two machines, or the same as the generic one, is built,
// tested, stored and fetched once too often. It reads package headers only.
package machines

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpm"
)

// New gives the check.
func New() check.Check { return machines{} }

type machines struct{}

func (machines) Spec() distro.CheckSpec {
	return distro.CheckSpec{ID: "machine-specific", Level: distro.Warn,
		Asks: "does every package in a machine's own feed differ from what other machines have?",
		Cure: "build it once: drop PACKAGE_ARCH = \"${MACHINE_ARCH}\" (in a spec, the macros of the machine), or move what differs into a package of its own"}
}

// Run asks once for each package of a machine's or an SoC family's feed.
func (machines) Run(ctx context.Context, bed *check.Bed) (check.Result, error) {
	var res check.Result
	if len(bed.Boards) == 0 || bed.Read == nil {
		res.Note = "the series has no boards"
		return res, nil
	}
	specific := func(p distro.PackageRecord) (bool, error) {
		arch, _ := distro.ScopePart(p.Scope)
		s, err := distro.ScopeOf(arch, bed.Boards)
		if errs.Is(err, errs.NotFound) {
			return false, nil // of a board that the series has no more
		}
		return s.Kind == distro.ScopeMachine || s.Kind == distro.ScopeSoC, err
	}
	named := map[string][]distro.PackageRecord{}
	asked := map[string]bool{}
	for _, p := range check.Binary(bed.Packages) {
		own, err := specific(p)
		if err != nil {
			return res, err
		}
		if own {
			res.Asked++
			asked[p.Name] = true
		}
		named[p.Name] = append(named[p.Name], p)
	}
	if res.Asked == 0 {
		res.Note = "no package is in a machine's own feed"
	}
	for name := range asked {
		same := map[distro.Digest][]distro.PackageRecord{}
		for _, p := range named[name] {
			h, err := bed.Read(ctx, p)
			if err != nil {
				return res, err
			}
			d := withoutArch(h)
			same[d] = append(same[d], p)
		}
		for _, l := range same {
			var scopes []string
			own := false
			for _, p := range l {
				scopes = append(scopes, p.Scope)
				is, _ := specific(p)
				own = own || is
			}
			if slices.Sort(scopes); len(l) > 1 && own {
				res.Findings = append(res.Findings, distro.Finding{ID: name + ":same", Object: name + "-" + l[0].EVR(), Source: l[0].SourceName,
					Text: fmt.Sprintf("%s is the same in the feeds %s", name, strings.Join(scopes, " and "))})
			}
		}
	}
	return res, nil
}

// withoutArch is the content digest with architecture and number left out: as a
// scope's own, and in what the package says of itself ("knot(x86-64) = 1-2").
func withoutArch(p *rpm.Package) distro.Digest {
	c := rpm.ContentOf(p)
	own := c.Version + "-" + c.Release
	c.Arch, c.Release = "", ""
	deps := map[string][]string{}
	for kind, l := range c.Deps {
		for _, d := range l {
			if kind == "provides" && strings.HasPrefix(d, c.Name+"(") {
				continue
			}
			deps[kind] = append(deps[kind], strings.ReplaceAll(d, own, c.Version))
		}
	}
	c.Deps = deps
	return distro.ContentDigest(c)
}
