package rpm

import (
	"strings"

	"slipway/internal/distro"
)

// SameButRelease reports whether two packages of one name, epoch, version and
// architecture do the same to a device but for their Release: the number rose
// and nothing else did. The own release is left out of dependencies, too
// ("knot = 1.0-2", and what subpackages require of each other).
func SameButRelease(a, b *Package) bool {
	if a.Name != b.Name || a.Epoch != b.Epoch || a.Version != b.Version || a.Arch != b.Arch {
		return false
	}
	return distro.ContentDigest(withoutRelease(a)) == distro.ContentDigest(withoutRelease(b))
}

func withoutRelease(p *Package) distro.Content {
	c := ContentOf(p)
	c.Release = ""
	own := c.Version + "-" + p.Release
	deps := map[string][]string{}
	for kind, l := range c.Deps {
		for _, d := range l {
			deps[kind] = append(deps[kind], strings.ReplaceAll(d, own, c.Version))
		}
	}
	c.Deps = deps
	return c
}
