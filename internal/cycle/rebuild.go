package cycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/layers"
	"slipway/internal/prserv/fork"
	"slipway/internal/rpm"
	"slipway/internal/state"
	"slipway/internal/store"
)

// The verdicts of a rebuild, on a package and on a release. Signatures are no part of
// the comparison: header digests are, and the header has the payload's digest.
const (
	Identical  = "identical"  // bit for bit, but for the signature
	Equivalent = "equivalent" // the same content in other bytes
	Different  = "different"  // other content; of a release also a package that is missing
	Missing    = "missing"    // published, and the rebuild did not make it
)

// Rebuilt is what came of building a release again.
type Rebuilt struct {
	Version distro.Version `json:"version"`
	At      time.Time      `json:"at"`
	Cached  bool           `json:"cached"` // with the release's own cache: shows that a restore is whole, proves no build
	Verdict string         `json:"verdict"`
	// Tools are those of this machine that differ from the release's: name -> "then, now".
	Tools    map[string]string `json:"tools,omitempty"`
	Cache    string            `json:"cache,omitempty"` // what the builder said of its cache
	Counts   map[string]int    `json:"counts"`          // verdict -> packages
	Packages []RebuiltPackage  `json:"packages"`        // those that are not identical, by name
	Extra    []string          `json:"extra,omitempty"` // made, and not of the release
	// Unneeded are those of the release that a cached rebuild did not bring back, as no task
	// needed them: their objects were in the cache, and nobody looked into them.
	Unneeded []string `json:"unneeded,omitempty"`
}

// RebuiltPackage is a package that did not come out as it was published.
type RebuiltPackage struct {
	Package     string          `json:"package"` // NEVRA
	Verdict     string          `json:"verdict"`
	Differences []string        `json:"differences,omitempty"`
	Report      distro.Artifact `json:"report,omitzero"` // of diffoscope, when it is installed
}

// Compare makes a report on two files for people; ok is false when the machine has no
// program for it.
type Compare func(ctx context.Context, a, b string) (report string, ok bool, err error)

// fixedNumbers gives a release's numbers again.
type fixedNumbers []distro.NumberRow

func (f fixedNumbers) Next(_ context.Context, _ distro.BuildID, key distro.NumberKey) (int, error) {
	for _, r := range f {
		if r.NumberKey == key {
			return r.Number, nil
		}
	}
	return 1, nil
}

// Rebuild builds a published release again in a folder of its own, from nothing but
// the restored set: layers out of their bundles, configuration, sources, both
// databases. Without cached nothing is taken from a cache. Every package is compared
// with the published one, and the verdict recorded. A rebuild that was stopped goes
// on with the same call; the folder is removed at its end.
func (w *Workspace) Rebuild(ctx context.Context, v distro.Version, cached bool) (Rebuilt, error) {
	out := Rebuilt{Version: v, Cached: cached, Counts: map[string]int{}, Packages: []RebuiltPackage{}}
	lock, err := w.lock(ctx, "work")
	if err != nil {
		return out, err
	}
	defer lock.Release()
	r, err := w.Release(ctx, v)
	if err != nil {
		return out, err
	}
	b, err := w.Build(ctx, string(r.Build))
	if err != nil {
		return out, err
	}
	if b.Revision.Builder.Kind == config.Import {
		return out, errs.E(errs.Invalid, fmt.Sprintf("release %s was built by another CI, and imported: nothing here can build it", v),
			errs.Hintf("slipway restore %s brings layers, configuration, databases and cache, with which that CI can", v))
	}
	if b.Revision.Builder.Kind == "adopted" {
		return out, errs.E(errs.Invalid, fmt.Sprintf("release %s was adopted: nobody here knows what built it", v))
	}
	dir := w.internal("rebuild", string(v))
	if cached {
		dir += "-cached"
	}
	release := filepath.Join(dir, "release")
	if _, err := os.Stat(release); err != nil {
		if _, err := w.Restore(ctx, v, release); err != nil {
			return out, err
		}
	}
	if err := w.rebuild(ctx, b, dir, release, &out); err != nil {
		if ctx.Err() != nil {
			return out, errs.E(errs.Interrupted, fmt.Sprintf("the rebuild of %s was stopped", v), errs.Hint("the same command goes on where it stopped"))
		}
		return out, errs.Wrap(err, "rebuild release %s", v)
	}
	out.At = w.now()
	if _, err := state.Upsert(ctx, w.State, kindRebuild, string(v), func(all *[]Rebuilt) error { *all = append(*all, out); return nil },
		state.NewEvent{Kind: kindRelease, ID: string(v), Type: "rebuilt: " + out.Verdict}); err != nil {
		return out, err
	}
	return out, removeAll(dir)
}

func (w *Workspace) rebuild(ctx context.Context, b Build, dir, release string, out *Rebuilt) error {
	text, err := os.ReadFile(filepath.Join(release, string(distro.Configuration), "slipway.yaml"))
	if err != nil {
		return errs.E(errs.NotFound, "the release's slipway.yaml", err)
	}
	then := *w
	if then.Definition, err = config.ParseDefinition("slipway.yaml", text); err != nil {
		return err
	}
	databases, err := rebuildDatabases(dir, release)
	if err != nil {
		return err
	}
	if databases != nil {
		defer databases.Close()
	}
	folder := func(class distro.Class) (string, error) {
		path := filepath.Join(release, string(class))
		if err := os.MkdirAll(path, 0o755); err != nil {
			return "", errs.E(errs.Unavailable, "make "+path, err)
		}
		return path, nil
	}
	m := Means{Numbers: fixedNumbers(b.Numbers), Definition: then.Definition, Fresh: !out.Cached}
	if m.SState, err = folder(distro.SState); err != nil {
		return err
	}
	if m.Downloads, err = folder(distro.Downloads); err != nil {
		return err
	}
	if databases != nil {
		m.Serve = func(ctx context.Context, _ distro.BuildID) (*fork.Build, error) {
			return databases.Fork(ctx, filepath.Join(dir, "databases", "build"))
		}
	}
	builder, err := w.Builder(m)
	if err != nil {
		return err
	}
	if out.Tools, err = differentTools(ctx, builder, b.Revision.Builder); err != nil {
		return err
	}
	seed, err := then.rebuildSeed(ctx, b, dir, release)
	if err != nil {
		return err
	}
	work := filepath.Join(dir, "build")
	if err := builder.Prepare(ctx, b.Revision, seed, work); err != nil {
		return err
	}
	t := w.Talk.Step(fmt.Sprintf("build %s again", out.Version))
	total := 0
	err = builder.Build(ctx, work, func(e distro.BuildEvent) {
		total = max(total, e.Total)
		if e.Type == "plan" && e.Text != "" {
			out.Cache = e.Text
			t.Note(e.Text)
		}
		if e.Task != "" {
			t.Progress(e.Done, e.Total, e.Task)
		}
	})
	if err := end(t, err, fmt.Sprintf("%d tasks", total)); err != nil {
		return err
	}
	t = w.Talk.Step("compare with the published packages")
	err = w.compareRebuilt(ctx, b, builder, work, out)
	return end(t, err, fmt.Sprintf("%d identical, %d equivalent, %d different, %d missing", out.Counts[Identical], out.Counts[Equivalent], out.Counts[Different], out.Counts[Missing]))
}

// rebuildDatabases opens a copy of the release's databases; nil when it has none.
func rebuildDatabases(dir, release string) (*fork.Base, error) {
	from := filepath.Join(release, string(distro.PRDatabase), databasesName)
	to := filepath.Join(dir, "databases", "series.db")
	f, err := os.Open(from)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errs.E(errs.Unavailable, "the release's databases", err)
	}
	defer f.Close()
	if _, err := os.Stat(to); err != nil {
		if err := writeFile(to+".partial", f, 0o644); err != nil {
			return nil, errs.E(errs.Unavailable, "copy the release's databases", err)
		}
		if err := os.Rename(to+".partial", to); err != nil {
			return nil, errs.E(errs.Unavailable, "copy the release's databases", err)
		}
	}
	return fork.Open(to)
}

// differentTools compares what decides a build beside the revision.
func differentTools(ctx context.Context, builder Builder, then distro.BuilderPin) (map[string]string, error) {
	now, err := builder.Pin(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for name := range union(then.Tools, now.Tools) {
		if a, b := then.Tools[name], now.Tools[name]; a != b {
			out[name] = fmt.Sprintf("%q, now %q", a, b)
		}
	}
	return out, nil
}

// rebuildSeed lays out what a build of the release gets, all from the restored set
// but for the sources of the embedded builder, which are blobs by digest.
func (w *Workspace) rebuildSeed(ctx context.Context, b Build, dir, release string) (distro.Seed, error) {
	s := distro.Seed{Version: b.Version, Build: b.ID, Title: w.Definition.Title, Layers: map[string]string{}, Sources: filepath.Join(dir, "sources"),
		FeedConfig: filepath.Join(release, string(distro.FeedConfiguration))}
	repository := func(i int) string { return filepath.Join(release, "layers", b.Revision.Layers[i].Name) }
	for _, pin := range b.Revision.Sources {
		if err := w.copyBlob(ctx, pin.Digest, filepath.Join(s.Sources, pin.Digest.Hex())); err != nil {
			return s, errs.Wrap(err, "source %s of %s", pin.Name, pin.Spec)
		}
	}
	if w.yocto() {
		var err error
		s.Layers, err = w.checkOut(ctx, b.Revision, filepath.Join(dir, "layers"), func(i int) (string, error) { return repository(i), nil })
		for _, board := range w.Definition.Boards {
			s.Boards = append(s.Boards, distro.Board{Name: board.Name, SoCFamily: board.SoCFamily})
		}
		return s, err
	}
	for i, pin := range b.Revision.Layers {
		dest := filepath.Join(dir, "layers", pin.Name)
		if err := removeAll(dest); err != nil {
			return s, err
		}
		if err := layers.Export(ctx, repository(i), pin, dest); err != nil {
			return s, errs.Wrap(err, "layer %s", pin.Name)
		}
		s.Layers[pin.Name] = dest
	}
	boards, err := w.boards(func(l config.Layer) string { return s.Layers[l.Name] })
	for _, board := range boards {
		s.Boards = append(s.Boards, board.forScopes())
	}
	return s, err
}

// compareRebuilt compares what was made with what the release has; packages that a
// restored build did not bring are those of the releases before.
func (w *Workspace) compareRebuilt(ctx context.Context, b Build, builder Builder, work string, out *Rebuilt) error {
	r, err := w.Release(ctx, out.Version)
	if err != nil {
		return err
	}
	releases, err := w.Releases(ctx)
	if err != nil {
		return err
	}
	var before [][]distro.PackageRecord
	for _, x := range releases {
		if x.Version.Compare(r.Version) < 0 {
			before = append(before, x.Packages, x.Internal)
		}
	}
	want := map[string]distro.PackageRecord{} // what the release must have
	known := map[string]distro.PackageRecord{}
	for _, p := range feed.Union(before...) {
		known[p.NEVRA()] = p
	}
	for _, p := range slices.Concat(r.Packages, r.Internal) {
		want[p.NEVRA()], known[p.NEVRA()] = p, p
	}
	for o, err := range builder.Collect(ctx, work) {
		if err != nil {
			return err
		}
		if o.Class != distro.Packages || o.Path == "" {
			continue
		}
		old, ok := known[o.Package.NEVRA()]
		if !ok {
			out.Extra = append(out.Extra, o.Package.NEVRA())
			continue
		}
		delete(want, old.NEVRA())
		p, err := w.compareOne(ctx, old, o)
		if err != nil {
			return err
		}
		out.Counts[p.Verdict]++
		if p.Verdict != Identical {
			out.Packages = append(out.Packages, p)
		}
	}
	for _, nevra := range sorted(want) {
		if out.Cached { // BitBake brings those back that the targets need for their build
			out.Unneeded = append(out.Unneeded, nevra)
			continue
		}
		out.Counts[Missing]++
		out.Packages = append(out.Packages, RebuiltPackage{Package: nevra, Verdict: Missing})
	}
	slices.SortFunc(out.Packages, func(a, b RebuiltPackage) int { return strings.Compare(a.Package, b.Package) })
	slices.Sort(out.Extra)
	switch {
	case out.Counts[Different]+out.Counts[Missing] > 0:
		out.Verdict = Different
	case out.Counts[Equivalent] > 0:
		out.Verdict = Equivalent
	default:
		out.Verdict = Identical
	}
	return nil
}

func (w *Workspace) compareOne(ctx context.Context, old distro.PackageRecord, o distro.Output) (RebuiltPackage, error) {
	p := RebuiltPackage{Package: old.NEVRA(), Verdict: Identical}
	if o.Package.HeaderDigest == old.HeaderDigest {
		return p, nil
	}
	p.Verdict = Different
	if o.Package.Content == old.Content {
		p.Verdict = Equivalent
	}
	var f store.Blob
	var err error
	if old.Internal == "" {
		f, err = w.Tree.Open(ctx, w.layout().Package(old))
	} else {
		f, err = w.Blobs.Open(ctx, old.Digest)
	}
	if err != nil {
		return p, errs.Wrap(err, "published package %s", old.NEVRA())
	}
	defer f.Close()
	a, err := rpm.Read(f, f.Size(), old.File)
	if err != nil {
		return p, err
	}
	n, err := rpm.ReadFile(o.Path)
	if err != nil {
		return p, err
	}
	const most = 40
	if p.Differences = rpm.Differences(a, n); len(p.Differences) > most {
		p.Differences = append(p.Differences[:most], fmt.Sprintf("and %d more", len(p.Differences)-most))
	}
	if w.Compare == nil {
		return p, nil
	}
	published := o.Path + ".published"
	if err := writeFile(published, f, 0o644); err != nil {
		return p, errs.E(errs.Unavailable, "write "+published, err)
	}
	defer os.Remove(published)
	report, ok, err := w.Compare(ctx, published, o.Path)
	if err != nil || !ok {
		return p, err
	}
	d, size, err := w.Blobs.Put(ctx, strings.NewReader(report))
	p.Report = distro.Artifact{Class: distro.TaskLog, Name: "rebuild/" + old.NEVRA() + ".txt", Digest: d, Size: size}
	return p, err
}
