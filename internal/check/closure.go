package check

import (
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/rpm"
)

// Closures tells, for each package of a feed, what could take part in a
// transaction that installs it alone: whatever may provide something that it
// requires or recommends, what obsoletes or conflicts with that, what is
// recommended because of it, and so on. It is wider than what a solver takes, as
// it looks at names and paths and not at versions: as long as it is the same, so
// is the solver's answer.
type Closures struct {
	packages  []*rpm.Package
	providers map[string][]int // name of a capability, or path that someone requires
	reverse   map[string][]int // name -> packages that obsolete, conflict with or supplement it
	at        map[distro.Digest]int
}

// NewClosures reads the relations of all packages of a feed.
func NewClosures(packages []*rpm.Package) *Closures {
	c := &Closures{packages: packages, providers: map[string][]int{}, reverse: map[string][]int{}, at: map[distro.Digest]int{}}
	paths := map[string]bool{}
	for _, p := range packages {
		for _, d := range drawsIn(p) {
			for _, n := range names(d.Name) {
				if strings.HasPrefix(n, "/") {
					paths[n] = true
				}
			}
		}
	}
	for i, p := range packages {
		c.at[p.HeaderDigest] = i
		add := func(m map[string][]int, name string) {
			if l := m[name]; len(l) == 0 || l[len(l)-1] != i {
				m[name] = append(l, i)
			}
		}
		add(c.providers, p.Name)
		for _, d := range p.Provides {
			add(c.providers, d.Name)
		}
		for _, f := range p.Files {
			if paths[f.Path] {
				add(c.providers, f.Path)
			}
		}
		for _, d := range slices.Concat(p.Obsoletes, p.Conflicts, p.Supplements) {
			for _, n := range names(d.Name) {
				add(c.reverse, n)
			}
		}
	}
	return c
}

func drawsIn(p *rpm.Package) []rpm.Dep { return slices.Concat(p.Requires, p.Recommends) }

// names gives the names in a dependency: itself, or the operands of a rich one,
// "(a if b >= 1)"; versions among them do no harm.
func names(dep string) []string {
	if !strings.HasPrefix(dep, "(") {
		return []string{dep}
	}
	return strings.FieldsFunc(dep, func(r rune) bool { return strings.ContainsRune("() \t", r) })
}

// Inputs gives the digest of everything that could take part in installing a
// package alone; false when the package is not of the feed.
func (c *Closures) Inputs(header distro.Digest) (distro.Digest, bool) {
	seen, ok := c.closure(header)
	if !ok {
		return "", false
	}
	digests := make([]string, 0, len(seen))
	for i := range seen {
		digests = append(digests, string(c.packages[i].HeaderDigest))
	}
	slices.Sort(digests)
	return distro.DigestOf([]byte(string(header) + "\n" + strings.Join(digests, "\n"))), true
}

// NoPrograms reports that nothing which could take part in installing a package
// alone has a scriptlet that a program of the device runs: rpm's own Lua at most.
// It is false for a package that is not of the feed.
func (c *Closures) NoPrograms(header distro.Digest) bool {
	seen, ok := c.closure(header)
	for i := range seen {
		for _, s := range c.packages[i].Scripts {
			if s.Interp != "<lua>" {
				return false
			}
		}
	}
	return ok
}

// closure gives the indices of a package and of all that could take part in
// installing it alone.
func (c *Closures) closure(header distro.Digest) (map[int]bool, bool) {
	first, ok := c.at[header]
	if !ok {
		return nil, false
	}
	seen := map[int]bool{first: true}
	for todo := []int{first}; len(todo) > 0; {
		p := c.packages[todo[0]]
		todo = todo[1:]
		follow := func(m map[string][]int, name string) {
			for _, i := range m[name] {
				if !seen[i] {
					seen[i] = true
					todo = append(todo, i)
				}
			}
		}
		for _, d := range drawsIn(p) {
			for _, n := range names(d.Name) {
				follow(c.providers, n)
			}
		}
		follow(c.reverse, p.Name)
		for _, d := range p.Provides {
			follow(c.reverse, d.Name)
		}
	}
	return seen, true
}
