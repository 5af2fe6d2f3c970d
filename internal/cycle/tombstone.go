package cycle

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/source"
	"slipway/internal/state"
	"slipway/internal/store"
)

// Tombstone is what a removal by law does, or would do.
type Tombstone struct {
	Change
	// Images are published images that hold a package which goes, and stay: whoever must
	// remove them, too, names them.
	Images []string `json:"images,omitempty"`
	// Sources are public sources of the packages' recipes, which stay.
	Sources []string `json:"sources,omitempty"`
	DryRun  bool     `json:"dry_run,omitempty"`
}

// Tombstone removes published bytes, because a law or a court says so: a new serial does
// not offer the files any more, and then a signed notice stands in their place. what
// names packages (hello-1.0-1.noarch, in all key epochs) or files of the publication.
// Statements, snapshots and the log stay; what was built of it stays in no store of ours.
// The objects of the build cache that hold the bytes go with them; withSources the sources
// of the recipes, too. With dryRun nothing is written. After a crash the same call goes on.
func (w *Workspace) Tombstone(ctx context.Context, what []string, by, because string, withSources, dryRun bool) (Tombstone, error) {
	var none Tombstone
	by, because = strings.TrimSpace(by), strings.TrimSpace(because)
	if by == "" || because == "" {
		return none, errs.E(errs.Invalid, "a removal needs a name and a reason: both are published, for ever", errs.Hint("slipway tombstone WHAT --because TEXT --by NAME"))
	}
	if !dryRun {
		lock, err := w.lock(ctx, "publish")
		if err != nil {
			return none, err
		}
		defer lock.Release()
	}
	files, err := w.toRemove(ctx, what)
	if err != nil {
		return none, err
	}
	c, begun, err := w.unfinished(ctx)
	if err != nil {
		return none, err
	}
	if begun && c.Kind == Removal && !dryRun {
		if names(c.Removed) != names(files) {
			return none, w.free(ctx)
		}
	} else {
		if c, err = w.decideRemoval(ctx, files, by, because, withSources, dryRun); err != nil {
			return none, err
		}
	}
	out := Tombstone{Change: c, DryRun: dryRun}
	if out.Images, err = w.imagesWith(ctx, files); err != nil {
		return out, err
	}
	_, sources, err := w.cacheOf(ctx, files)
	if err != nil {
		return out, err
	}
	for _, a := range sources {
		name := source.MirrorName(a)
		_, err := w.Tree.Stat(ctx, name)
		goes := slices.ContainsFunc(c.Cache, func(x distro.Artifact) bool { return x.Class == a.Class && x.Name == a.Name })
		if err == nil && !goes && !slices.Contains(out.Sources, name) {
			out.Sources = append(out.Sources, name)
		}
	}
	if dryRun {
		return out, nil
	}
	if err := w.publishChange(ctx, c); err != nil {
		return out, err
	}
	out.Change, _, err = state.Load[Change](ctx, w.State, kindChange, c.id())
	return out, err
}

func names(files []feed.RemovedFile) string {
	var b strings.Builder
	for _, f := range files {
		b.WriteString(f.File + "\n")
	}
	return b.String()
}

func (w *Workspace) decideRemoval(ctx context.Context, files []feed.RemovedFile, by, because string, withSources, dryRun bool) (Change, error) {
	if err := w.free(ctx); err != nil {
		return Change{}, err
	}
	s, err := w.series(ctx)
	if err != nil {
		return Change{}, err
	}
	gone, err := w.gone(ctx)
	if err != nil {
		return Change{}, err
	}
	for _, f := range files {
		if n := gone.files[f.File]; n != 0 {
			return Change{}, errs.E(errs.Conflict, fmt.Sprintf("%s was removed already: %s", f.File, w.layout().Removal(n)), errs.Hint("name the others alone"))
		}
	}
	at, err := w.decide(ctx)
	if err != nil {
		return Change{}, err
	}
	cache, sources, err := w.cacheOf(ctx, files)
	if err != nil {
		return Change{}, err
	}
	if withSources {
		cache = append(cache, sources...)
	}
	c := Change{Cache: cache, Serial: s.Serial + 1, Series: s.Name, Kind: Removal, Release: s.Head, Status: distro.Publishing, Removed: files,
		Decision: distro.Approval{By: by, Because: because, At: at}}
	if dryRun {
		return c, nil
	}
	_, err = state.Upsert(ctx, w.State, kindChange, c.id(), func(x *Change) error { *x = c; return nil }, state.NewEvent{Kind: kindChange, ID: c.id(), Type: "decided"})
	return c, err
}

// toRemove finds the published files that a person names: all findings at once.
func (w *Workspace) toRemove(ctx context.Context, what []string) ([]feed.RemovedFile, error) {
	if len(what) == 0 {
		return nil, errs.E(errs.Invalid, "nothing is named to be removed", errs.Hint("slipway tombstone hello-1.0-1.noarch; slipway feed show NAME lists what there is"))
	}
	releases, err := w.Releases(ctx)
	if err != nil {
		return nil, err
	}
	changes, err := w.Changes(ctx)
	if err != nil {
		return nil, err
	}
	l := w.layout()
	known := map[string]*feed.RemovedFile{} // by name in the publication
	byPackage := map[string][]string{}      // by NEVRA, and by scope and file
	var nevras []string
	add := func(r distro.PackageRecord, v distro.Version) {
		name := l.Package(r)
		f := known[name]
		if f == nil {
			f = &feed.RemovedFile{File: name, Digest: r.Digest, Size: r.Size, Package: r.NEVRA(), HeaderDigest: r.HeaderDigest}
			known[name] = f
			for _, k := range []string{r.NEVRA(), r.Scope + "/" + r.File} {
				byPackage[k] = append(byPackage[k], name)
			}
			nevras = append(nevras, r.NEVRA())
		}
		if v != "" && !slices.Contains(f.Releases, v) {
			f.Releases = append(f.Releases, v)
		}
	}
	states := map[string][]distro.Version{} // by scope and file
	for _, r := range releases {
		if r.Published.IsZero() {
			continue
		}
		for _, p := range r.Packages {
			add(p, r.Version)
			states[p.Scope+"/"+p.File] = append(states[p.Scope+"/"+p.File], r.Version)
		}
		b, err := w.Build(ctx, string(r.Build))
		if err != nil {
			return nil, err
		}
		out, err := w.publicImages(ctx, b)
		if err != nil {
			return nil, err
		}
		sdks, err := w.publicSDKs(ctx, b)
		if err != nil {
			return nil, err
		}
		for _, a := range b.Artifacts {
			if a.Class == distro.Images && out[a.Name] && !strings.HasSuffix(a.Name, ".json") { // its manifest says what it held
				board, file, _ := strings.Cut(a.Name, "/")
				name := feed.ImageName(b.Series, board, r.Version, file)
				known[name] = &feed.RemovedFile{File: name, Digest: a.Digest, Size: a.Size, Releases: []distro.Version{r.Version}}
			}
			if a.Class == distro.SDK && sdks[a.Name] && !strings.HasSuffix(a.Name, manifestEnding) {
				name := feed.SDKName(b.Series, r.Version, a.Name)
				known[name] = &feed.RemovedFile{File: name, Digest: a.Digest, Size: a.Size, Releases: []distro.Version{r.Version}}
			}
		}
	}
	for _, c := range changes { // twins: stated by their header
		if c.Status == distro.Published {
			for _, p := range c.Packages {
				add(p, "")
				f := known[l.Package(p)]
				f.Releases = slices.Clone(states[p.Scope+"/"+p.File])
			}
		}
	}
	chosen := map[string]bool{}
	var found errs.List
	for _, x := range what {
		files := byPackage[x]
		if f := known[x]; f != nil {
			if files = []string{x}; f.Package != "" {
				files = byPackage[path.Base(path.Dir(path.Dir(x)))+"/"+path.Base(x)] // the same package in every key epoch
			}
		}
		if len(files) == 0 {
			hint := errs.Hint("a package as slipway feed show names it, hello-1.0-1.noarch, or a file of the publication: 1/pool/... or 1/images/...")
			if near := errs.Near(x, nevras); near != "" {
				hint = errs.Hintf("did you mean %q?", near)
			}
			found = append(found, errs.E(errs.NotFound, fmt.Sprintf("%q is no published package, image or SDK of series %s", x, l.Series), hint))
		}
		for _, name := range files {
			chosen[name] = true
		}
	}
	if err := found.Err(); err != nil {
		return nil, err
	}
	var out []feed.RemovedFile
	for _, name := range sorted(chosen) {
		out = append(out, *known[name])
	}
	return out, nil
}

// imagesWith gives the published images that hold one of the packages, and stay.
func (w *Workspace) imagesWith(ctx context.Context, files []feed.RemovedFile) ([]string, error) {
	headers, going := map[distro.Digest]bool{}, map[string]bool{}
	for _, f := range files {
		going[f.File] = true
		if f.HeaderDigest != "" {
			headers[f.HeaderDigest] = true
		}
	}
	gone, err := w.gone(ctx)
	if err != nil {
		return nil, err
	}
	releases, err := w.Releases(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range releases {
		if r.Published.IsZero() {
			continue
		}
		b, err := w.Build(ctx, string(r.Build))
		if err != nil {
			return nil, err
		}
		contents, err := w.imageContents(ctx, b)
		if err != nil {
			return nil, err
		}
		for _, c := range contents {
			board, file, _ := strings.Cut(c.Name, "/")
			name := feed.ImageName(b.Series, board, r.Version, file)
			holds := slices.ContainsFunc(c.Packages, func(p distro.PackageRecord) bool { return headers[p.HeaderDigest] })
			if _, err := w.Tree.Stat(ctx, name); holds && err == nil && !going[name] && gone.files[name] == 0 {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

// gone is what removals took away.
type gone struct {
	packages map[string]int // scope and file -> serial of the removal
	files    map[string]int // name in the publication -> serial
	removals []feed.Removed // as snapshots list them
	cache    map[cacheKey]int
	sources  map[distro.Digest]int // the bytes of sources that went
}

// gone gives what published removals took away, and those of changes that are at work.
func (w *Workspace) gone(ctx context.Context, atWork ...Change) (gone, error) {
	g := gone{map[string]int{}, map[string]int{}, nil, map[cacheKey]int{}, map[distro.Digest]int{}}
	all, err := w.Changes(ctx)
	if err != nil {
		return g, err
	}
	all = slices.DeleteFunc(all, func(c Change) bool { return c.Status != distro.Published })
	for _, c := range append(all, atWork...) {
		if c.Kind != Removal || slices.ContainsFunc(g.removals, func(r feed.Removed) bool { return r.Serial == c.Serial }) {
			continue
		}
		g.removals = append(g.removals, feed.Removed{Serial: c.Serial, Notice: distro.DigestOf(w.notice(c).Encode())})
		for _, a := range c.Cache {
			if g.cache[cacheKey{a.Class, a.Name}] = c.Serial; a.Class == distro.Downloads {
				g.sources[a.Digest] = c.Serial
			}
		}
		for _, f := range c.Removed {
			g.files[f.File] = c.Serial
			if f.Package != "" {
				g.packages[path.Base(path.Dir(path.Dir(f.File)))+"/"+path.Base(f.File)] = c.Serial
			}
		}
	}
	return g, nil
}

// standing gives the records of packages that were not removed, in their order.
func (g gone) standing(l []distro.PackageRecord) []distro.PackageRecord {
	if len(g.packages) == 0 {
		return l
	}
	var out []distro.PackageRecord
	for _, r := range l {
		if g.packages[r.Scope+"/"+r.File] == 0 {
			out = append(out, r)
		}
	}
	return out
}

// notice is the document of a removal.
func (w *Workspace) notice(c Change) feed.Removal {
	return feed.Removal{Schema: 1, Distribution: w.Definition.Distribution, Series: c.Series, Serial: c.Serial, At: c.Decision.At.UTC(), By: c.Decision.By, Because: c.Decision.Because, Files: c.Removed}
}

// bury removes the bytes: in the publication, and what the artifact store has of them.
func (w *Workspace) bury(ctx context.Context, p *feed.Publisher, c Change) (string, error) {
	if err := p.Remove(ctx, w.notice(c), nil); err != nil {
		return "", err
	}
	headers, digests := map[distro.Digest]bool{}, map[distro.Digest]bool{}
	for _, f := range c.Removed {
		digests[f.Digest] = true
		if f.HeaderDigest != "" {
			headers[f.HeaderDigest] = true
		}
	}
	builds, err := w.Builds(ctx)
	if err != nil {
		return "", err
	}
	for _, b := range builds {
		for _, r := range b.Packages {
			if headers[r.HeaderDigest] {
				digests[r.Digest] = true // as it was built
			}
		}
	}
	// Another release may have made the very same image, and keeps it.
	gone, err := w.gone(ctx, c)
	if err != nil {
		return "", err
	}
	releases, err := w.Releases(ctx)
	if err != nil {
		return "", err
	}
	released := map[distro.BuildID]distro.Version{}
	for _, r := range releases {
		released[r.Build] = r.Version
	}
	for _, b := range builds {
		for _, a := range b.Artifacts {
			board, file, _ := strings.Cut(a.Name, "/")
			if a.Class == distro.Images && released[b.ID] != "" && gone.files[feed.ImageName(b.Series, board, released[b.ID], file)] == 0 {
				delete(digests, a.Digest)
			}
			if a.Class == distro.SDK && released[b.ID] != "" && gone.files[feed.SDKName(b.Series, released[b.ID], a.Name)] == 0 {
				delete(digests, a.Digest)
			}
		}
	}
	if err := w.buryCache(ctx, c, w.notice(c).Encode(), digests); err != nil {
		return "", err
	}
	n := 0
	for _, d := range slices.Sorted(maps.Keys(digests)) {
		has, err := store.Has(ctx, w.Blobs, d)
		if err != nil {
			return "", err
		}
		if !has {
			continue
		}
		if err := w.Blobs.Delete(ctx, d); err != nil {
			return "", err
		}
		n++
	}
	return fmt.Sprintf("%d files%s, %d blobs of the artifact store", len(c.Removed), cacheSummary(c), n), nil
}
