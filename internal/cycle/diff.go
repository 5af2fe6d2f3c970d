package cycle

import (
	"context"
	"fmt"
	"sort"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/heap"
	"slipway/internal/rpm"
	"slipway/internal/store"
)

// Diff is what changed from A to B, by package.
type Diff struct {
	A        string          `json:"a"`
	B        string          `json:"b"`
	Packages []PackageChange `json:"packages"` // by name; only what changed
	Same     int             `json:"same"`     // packages of B with the content of A
}

// PackageChange is one package.
type PackageChange struct {
	Name   string `json:"name"`
	Arch   string `json:"arch"`
	Change string `json:"change"`        // "added", "gone", "changed"
	Old    string `json:"old,omitempty"` // [epoch:]version-release
	New    string `json:"new,omitempty"`
	// Size is the installed size in bytes.
	OldSize      int64    `json:"old_size,omitempty"`
	NewSize      int64    `json:"new_size,omitempty"`
	FilesAdded   []string `json:"files_added,omitempty"`
	FilesGone    []string `json:"files_gone,omitempty"`
	FilesChanged []string `json:"files_changed,omitempty"`
	DepsAdded    []string `json:"dependencies_added,omitempty"` // "requires libc.so.6()(64bit)"
	DepsGone     []string `json:"dependencies_gone,omitempty"`
	Scripts      []string `json:"scripts_changed,omitempty"` // kinds
}

// side is one end of a comparison: a release or a build.
type side struct {
	name    string
	records []distro.PackageRecord
	open    func(ctx context.Context, r distro.PackageRecord) (store.Blob, error)
}

// Diff compares two releases, builds or candidates, whole indexes: what a device
// would have from each.
func (w *Workspace) Diff(ctx context.Context, a, b string) (Diff, error) {
	defer heap.Roomy()()
	releases, err := w.Releases(ctx)
	if err != nil {
		return Diff{}, err
	}
	from, err := w.sideOf(ctx, releases, a)
	if err != nil {
		return Diff{}, err
	}
	to, err := w.sideOf(ctx, releases, b)
	if err != nil {
		return Diff{}, err
	}
	d, _, err := w.difference(ctx, from, to)
	d.A, d.B = a, b
	return d, err
}

// difference compares two sides; sources are those of the changed packages, by name and
// architecture.
func (w *Workspace) difference(ctx context.Context, from, to side) (d Diff, sources map[string]string, err error) {
	d = Diff{A: from.name, B: to.name, Packages: []PackageChange{}}
	sources = map[string]string{}
	type key struct{ name, arch string }
	old := make(map[key]*distro.PackageRecord, len(from.records))
	for i := range from.records {
		r := &from.records[i]
		old[key{r.Name, r.Arch}] = r
	}
	for _, r := range to.records {
		k := key{r.Name, r.Arch}
		was, had := old[k]
		delete(old, k)
		if had && was.Content == r.Content {
			d.Same++
			continue
		}
		sources[r.Name+"."+r.Arch] = r.SourceName
		var oldPkg *rpm.Package
		if had {
			if oldPkg, err = from.read(ctx, *was); err != nil {
				return d, nil, err
			}
		}
		newPkg, err := to.read(ctx, r)
		if err != nil {
			return d, nil, err
		}
		d.Packages = append(d.Packages, compare(oldPkg, newPkg))
	}
	for _, r := range old {
		sources[r.Name+"."+r.Arch] = r.SourceName
		pkg, err := from.read(ctx, *r)
		if err != nil {
			return d, nil, err
		}
		d.Packages = append(d.Packages, compare(pkg, nil))
	}
	sort.Slice(d.Packages, func(i, j int) bool {
		x, y := d.Packages[i], d.Packages[j]
		if x.Name != y.Name {
			return x.Name < y.Name
		}
		return x.Arch < y.Arch
	})
	return d, sources, nil
}

// side finds what a name means: "1.2" is a release, "1.2-b1" and "1.2-c1" a build.
func (w *Workspace) side(ctx context.Context, name string) (side, error) {
	releases, err := w.Releases(ctx)
	if err != nil {
		return side{}, err
	}
	return w.sideOf(ctx, releases, name)
}

func (w *Workspace) sideOf(ctx context.Context, releases []Release, name string) (side, error) {
	published := func(ctx context.Context, r distro.PackageRecord) (store.Blob, error) {
		return w.Tree.Open(ctx, w.layout().Package(r))
	}
	gone, err := w.gone(ctx)
	if err != nil {
		return side{}, err
	}
	var upto [][]distro.PackageRecord
	var names []string
	for _, r := range releases {
		if r.Status != distro.Published && (r.Published.IsZero() || string(r.Version) != name) { // one that was withdrawn is compared when it is named
			continue
		}
		upto = append(upto, gone.standing(r.Packages))
		names = append(names, string(r.Version))
		if string(r.Version) == name {
			return side{name, feed.Newest(feed.Union(upto...)), published}, nil
		}
	}
	b, err := w.Build(ctx, name)
	if err != nil || name == "" {
		if errs.Is(err, errs.Invalid) {
			err = errs.E(errs.NotFound, fmt.Sprintf("%q is no release or build here", name), errs.Hint("slipway status lists them"))
			if n := errs.Near(name, names); n != "" {
				err = errs.E(errs.NotFound, fmt.Sprintf("%q is no release or build here", name), errs.Hintf("did you mean %q?", n))
			}
		}
		return side{}, err
	}
	if len(b.Packages) == 0 {
		return side{}, errs.E(errs.Conflict, fmt.Sprintf("build %s has no packages: it is %s", b.ID, w.buildStatus(ctx, b)), errs.Hint("slipway log "+string(b.ID)))
	}
	inBuild := map[distro.Digest]bool{}
	for _, p := range fresh(b.Packages) {
		inBuild[p.Digest] = true
	}
	before := upto[:0:0]
	for _, r := range releases {
		if r.Status == distro.Published && r.Version.Compare(b.Version) < 0 {
			before = append(before, gone.standing(r.Packages))
		}
	}
	return side{name, feed.Newest(feed.Union(append([][]distro.PackageRecord{fresh(b.Packages)}, before...)...)), func(ctx context.Context, r distro.PackageRecord) (store.Blob, error) {
		if inBuild[r.Digest] {
			return w.Blobs.Open(ctx, r.Digest)
		}
		return published(ctx, r)
	}}, nil
}

func (s side) read(ctx context.Context, r distro.PackageRecord) (*rpm.Package, error) {
	f, err := s.open(ctx, r)
	if err != nil {
		return nil, errs.Wrap(err, "package %s of %s", r.NEVRA(), s.name)
	}
	defer f.Close()
	return rpm.Read(f, f.Size(), r.File)
}

func compare(a, b *rpm.Package) PackageChange {
	switch {
	case a == nil:
		return PackageChange{Name: b.Name, Arch: b.Arch, Change: "added", New: b.EVR(), NewSize: b.InstalledSize}
	case b == nil:
		return PackageChange{Name: a.Name, Arch: a.Arch, Change: "gone", Old: a.EVR(), OldSize: a.InstalledSize}
	}
	c := PackageChange{Name: b.Name, Arch: b.Arch, Change: "changed", Old: a.EVR(), New: b.EVR(), OldSize: a.InstalledSize, NewSize: b.InstalledSize}
	x, y := rpm.ContentOf(a), rpm.ContentOf(b)
	// Files are sorted by path, and a path is there once.
	for i, j := 0, 0; i < len(x.Files) || j < len(y.Files); {
		switch {
		case j == len(y.Files) || i < len(x.Files) && x.Files[i].Path < y.Files[j].Path:
			c.FilesGone = append(c.FilesGone, x.Files[i].Path)
			i++
		case i == len(x.Files) || y.Files[j].Path < x.Files[i].Path:
			c.FilesAdded = append(c.FilesAdded, y.Files[j].Path)
			j++
		default:
			if x.Files[i] != y.Files[j] {
				c.FilesChanged = append(c.FilesChanged, y.Files[j].Path)
			}
			i, j = i+1, j+1
		}
	}
	for _, kind := range dependencyKinds {
		added, gone := apart(x.Deps[kind], y.Deps[kind])
		for _, d := range added {
			c.DepsAdded = append(c.DepsAdded, kind+" "+d)
		}
		for _, d := range gone {
			c.DepsGone = append(c.DepsGone, kind+" "+d)
		}
	}
	for _, kind := range sorted(union(x.Scripts, y.Scripts)) {
		if x.Scripts[kind] != y.Scripts[kind] {
			c.Scripts = append(c.Scripts, kind)
		}
	}
	return c
}

// dependencyKinds are the kinds of distro.Content.Deps, sorted.
var dependencyKinds = []string{"conflicts", "enhances", "obsoletes", "provides", "recommends", "requires", "suggests", "supplements"}

// apart gives what only the second and only the first of two sorted lists has.
func apart(a, b []string) (added, gone []string) {
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0] < b[0]:
			gone, a = append(gone, a[0]), a[1:]
		case len(a) == 0 || b[0] < a[0]:
			added, b = append(added, b[0]), b[1:]
		default:
			a, b = a[1:], b[1:]
		}
	}
	return added, gone
}

func union[V any](a, b map[string]V) map[string]V {
	out := map[string]V{}
	for k, v := range a {
		out[k] = v
	}
	for k, v := range b {
		out[k] = v
	}
	return out
}
