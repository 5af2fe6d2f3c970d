package cycle

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/prserv/prdb"
	"slipway/internal/sign"
)

// An import takes what a BitBake elsewhere built in as a build of this series, and goes
// on as after every build: docs/builder-import.md. All of it is looked at before a
// version is reserved; what is refused leaves nothing behind.

// Handed is what another CI handed over.
type Handed struct {
	Dir     string            // its build folder
	Parts   map[string]string // what lies elsewhere; package bitbake has the names
	Signers []*sign.Public    // whose signatures on packages are known
}

// Importer is a builder that takes what another CI built.
type Importer interface {
	Builder
	// Look finds all that stands against taking the build for a version, and what it
	// says of itself. It comes before every other method.
	Look(ctx context.Context, v distro.Version, boards []distro.Board) (distro.Imported, error)
}

// importing is an import that was looked at. Close it.
type importing struct {
	said   distro.Imported
	feed   *Adoptable     // packages and databases
	layers []config.Layer // the definition's, at the commits that the build had
	digest distro.Digest
}

func (i *importing) Close() {
	if i != nil && i.feed != nil {
		i.feed.Close()
	}
}

// yocto reports whether a BitBake builds this series, here or elsewhere.
func (w *Workspace) yocto() bool { return config.Yocto(w.Definition.Builder.Kind) }

// mayImport refuses a build without what another CI built, and the other way round.
func (w *Workspace) mayImport(from *Handed) error {
	switch is := w.Definition.Builder.Kind == config.Import; {
	case is && from == nil:
		return errs.E(errs.Invalid, "this series is built by another CI (builder: {kind: import})", errs.Hint("slipway build --import DIR, the build folder that it left; docs/builder-import.md"))
	case !is && from != nil:
		return errs.E(errs.Invalid, fmt.Sprintf("this series is built here, by %s", w.Definition.Builder.Kind), errs.Hint("builder: {kind: import} in slipway.yaml takes the builds of another CI"))
	}
	return nil
}

// lookAt looks at all that another CI handed over, and gives every finding at once.
func (w *Workspace) lookAt(ctx context.Context, builder Builder, version string, from Handed) (*importing, error) {
	imp, ok := builder.(Importer)
	if !ok {
		return nil, errs.E(errs.Internal, "a builder that cannot import")
	}
	s, err := w.series(ctx)
	if err != nil {
		return nil, err
	}
	v, err := w.nextVersion(ctx, s, version)
	if err != nil {
		return nil, err
	}
	t := w.Talk.Step(fmt.Sprintf("look at the build in %s, for %s", placeOf(absolute(from.Dir)), v))
	i := &importing{}
	var found errs.List
	add := func(err error) {
		if l, ok := err.(errs.List); ok {
			found = append(found, l...)
		} else if err != nil {
			found = append(found, err)
		}
	}
	i.said, err = imp.Look(ctx, v, w.wantedBoards())
	add(err)
	var unpinned errs.List
	i.layers, unpinned = i.pinned(w.Definition.EnabledLayers())
	found = append(found, unpinned...)
	if i.said.Packages != "" {
		i.feed, err = LookAtFeed(ctx, Adoption{Deploy: i.said.Packages, PRServ: i.said.PRServ, HashServ: i.said.HashServ, Signers: from.Signers}, t)
		if add(err); err == nil {
			found = append(found, i.feed.found...)
			conflicts, err := w.importConflicts(ctx, i)
			add(err)
			found = append(found, conflicts...)
		}
	}
	if ctx.Err() != nil {
		found = errs.List{errs.E(errs.Interrupted, "stopped while the build was looked at; nothing is written")}
	}
	if err := found.Err(); err != nil {
		i.Close()
		t.Failed(fmt.Sprintf("%d findings; nothing is written", len(found)))
		return nil, err
	}
	var names []string
	for _, r := range i.feed.Packages {
		names = append(names, r.File+" "+string(r.Digest))
	}
	i.digest = distro.DigestOf([]byte(strings.Join(names, "\n")))
	if len(i.said.Missing) > 0 {
		t.Note("not handed over: " + strings.Join(i.said.Missing, "; "))
	}
	t.Done(fmt.Sprintf("%d packages, %d layers, %d boards", len(i.feed.Packages), len(i.said.Layers), len(i.said.Boards)))
	return i, nil
}

func absolute(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}

// wantedBoards are the boards of the definition, as a builder is asked about them.
func (w *Workspace) wantedBoards() []distro.Board {
	var out []distro.Board
	for _, b := range w.Definition.Boards {
		out = append(out, distro.Board{Name: b.Name, SoCFamily: b.SoCFamily})
	}
	return out
}

// importConflicts compares the packages with the boards, with each other, with what was
// published, and with the PR database that gave their numbers.
func (w *Workspace) importConflicts(ctx context.Context, i *importing) (found errs.List, err error) {
	scopes := map[string]bool{"noarch": true, "src": true}
	for _, b := range i.said.Boards {
		for _, s := range append(append(strings.Fields(b.Compatible), b.Arch), b.OwnArchs()...) {
			scopes[distro.RPMArch(s)] = true
		}
	}
	published, err := w.published(ctx)
	if err != nil {
		return nil, err
	}
	releases, err := w.Releases(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range releases {
		published = append(published, r.Internal...)
	}
	type place struct{ name, arch string }
	known, newest, here := map[string]distro.PackageRecord{}, map[place]distro.PackageRecord{}, map[place]distro.PackageRecord{}
	keep := func(m map[place]distro.PackageRecord, r distro.PackageRecord) {
		p := place{r.Name, distro.RPMArch(r.Arch)}
		if old, ok := m[p]; !ok || old.CompareEVR(r) < 0 {
			m[p] = r
		}
	}
	for _, r := range published {
		known[r.NEVRA()] = r
		keep(newest, r)
	}
	var fresh []distro.PackageRecord
	unscoped := map[string]int{}
	for _, r := range i.feed.Packages {
		if !scopes[distro.RPMArch(r.Arch)] && len(i.said.Boards) > 0 && !forSDK(r.Arch) {
			unscoped[r.Arch]++
		}
		keep(here, r)
		r.Scope = distro.SplitScope(distro.RPMArch(r.Arch), r.Name, w.Definition.Feeds.Separate)
		if old, ok := known[r.NEVRA()]; !ok || old.Content != r.Content {
			fresh = append(fresh, r)
		}
	}
	for _, arch := range sorted(unscoped) {
		found = append(found, errs.E(errs.Conflict, fmt.Sprintf("%d packages are for %s, and no board of slipway.yaml has that architecture", unscoped[arch], arch),
			errs.Hint("name the board that they are for below boards, or hand over a deploy tree without them")))
	}
	for _, r := range i.feed.Packages { // in order
		p := place{r.Name, distro.RPMArch(r.Arch)}
		if old, ok := newest[p]; ok && here[p].File == r.File && r.CompareEVR(old) < 0 {
			found = append(found, errs.E(errs.Conflict, fmt.Sprintf("%s goes backwards: %s is published, and devices would never update to it", r.NEVRA(), old.EVR()),
				errs.Hint("the other CI lost its PR database, or built older layers: slipway prserv export writes one that continues from the last release, and build again")))
		}
	}
	found = append(found, i.numbersNotGiven()...)
	for _, x := range i.said.Elsewhere {
		if !slices.ContainsFunc(published, func(r distro.PackageRecord) bool {
			return r.Name == x.Name && distro.RPMArch(r.Arch) == x.Arch && r.Version == x.Version
		}) {
			found = append(found, errs.E(errs.Conflict, fmt.Sprintf("image %s holds %s %s for %s, and neither the deploy tree nor a release has it", x.Image, x.Name, x.Version, x.Arch),
				errs.Hint("hand over all packages that the images were made of: copy the deploy tree again, wholly")))
		}
	}
	switch err := w.noConflicts(ctx, fresh).(type) {
	case nil:
	case errs.List:
		found = append(found, err...)
	default:
		found = append(found, err)
	}
	return found, nil
}

// forSDK tells packages for the host of an SDK, which BitBake leaves beside the others.
func forSDK(arch string) bool {
	return strings.HasSuffix(arch, "_nativesdk") || strings.HasPrefix(arch, "sdk_provides_dummy")
}

// numbersNotGiven finds packages whose number the PR database has not given yet: it is
// another one, or an older copy, and would give the number again to other content.
func (i *importing) numbersNotGiven() (found errs.List) {
	type recipe struct{ source, version, pr string }
	top := map[recipe]string{}
	for _, g := range i.feed.given {
		k := recipe{g.source, distro.FormatEVR(g.epoch, g.version, ""), g.pr}
		if old, ok := top[k]; !ok || prdb.Compare(g.value, old) > 0 {
			top[k] = g.value
		}
	}
	for _, r := range i.feed.Packages {
		pr, number, ok := strings.Cut(r.Release, ".")
		given, known := top[recipe{r.SourceName, distro.FormatEVR(r.Epoch, r.Version, ""), pr}]
		if ok && known && prdb.Valid(number) && prdb.Compare(number, given) > 0 {
			found = append(found, errs.E(errs.Conflict, fmt.Sprintf("%s has a number that the PR database has not given: its highest of %s is %s.%s", r.NEVRA(), r.SourceName, pr, given),
				errs.Hint("hand over the database of the PR server that the build asked, as it is after the build: --part pr-database=FILE")))
		}
	}
	return found
}

// pinned gives the definition's layers, in its order, at the commits that the build says.
// A layer that is not in it, and one that it has beside the definition's, is a finding.
func (i *importing) pinned(all []config.Layer) (out []config.Layer, found errs.List) {
	used := map[string]bool{}
	var said []string
	for _, l := range i.said.Layers {
		said = append(said, l.Name)
	}
	for _, l := range all {
		names := []string{l.Name, path.Base(path.Clean(l.Path)), strings.TrimSuffix(path.Base(l.URL), ".git")}
		x := -1
		for _, n := range names {
			if x < 0 && !used[n] {
				x = slices.Index(said, n)
			}
		}
		if x < 0 {
			// BitBake is in no BBLAYERS. Prepare compares its version.
			if l.Commit == "" && !slices.Contains(names, "bitbake") {
				found = append(found, errs.E(errs.Conflict, fmt.Sprintf("the build does not name layer %s: it has %s", l.Name, orNothing(said)), errs.Hint("take it out of slipway.yaml, or hand over buildhistory/metadata-revs or the console log, which name layers with their commits")))
			}
			out = append(out, l)
			continue
		}
		s := i.said.Layers[x]
		used[s.Name] = true
		switch {
		case s.Modified:
			found = append(found, errs.E(errs.Conflict, fmt.Sprintf("layer %s was built with changes that are in no commit", l.Name), errs.Hint("commit them, push, and build again: nobody could build this release a second time")))
		case s.Commit == "" && l.Commit == "":
			found = append(found, errs.E(errs.Conflict, fmt.Sprintf("the build does not say at which commit layer %s was", l.Name),
				errs.Hint("git refused to tell BitBake: the one who builds must own the layers, or name them as safe.directory; commit: in slipway.yaml says it, too")))
		case s.Commit != "" && l.Commit != "" && s.Commit != l.Commit:
			found = append(found, errs.E(errs.Conflict, fmt.Sprintf("layer %s was built at %.12s, and slipway.yaml has commit %.12s", l.Name, s.Commit, l.Commit), errs.Hint("build what the definition says, or change it")))
		case l.Commit == "":
			l.Commit = s.Commit
		}
		out = append(out, l)
	}
	for _, s := range i.said.Layers {
		if !used[s.Name] {
			found = append(found, errs.E(errs.Conflict, fmt.Sprintf("the build has layer %s, which slipway.yaml does not name", s.Name), errs.Hintf("- {name: %s, url: ..., branch: ...} below layers", s.Name)))
		}
	}
	return out, found
}

func orNothing(l []string) string {
	if len(l) == 0 {
		return "none"
	}
	return strings.Join(l, ", ")
}

// here compares a layer of the workspace with the commit that the build had.
func (i *importing) here(l config.Layer, pin distro.LayerPin) error {
	if i == nil || l.URL != "" || l.Commit == "" || l.Commit == pin.Commit {
		return nil
	}
	return errs.E(errs.Conflict, fmt.Sprintf("layer %s was built at %.12s, and the workspace stands at %.12s", l.Name, l.Commit, pin.Commit), errs.Hintf("git checkout %.12s in the workspace, or build what it has", l.Commit))
}

// takeDatabases adds what the other CI's servers have to the build's overlay, and gives
// sound copies of both, in BitBake's own form.
func (w *Workspace) takeDatabases(ctx context.Context, b *Build, i *importing, numbers *numbers) ([]distro.Output, error) {
	if err := numbers.databases.Take(ctx, w.overlay(b.ID), i.feed.prdb, i.feed.hashdb); err != nil {
		return nil, err
	}
	var out []distro.Output
	if i.feed.prdb != "" {
		out = append(out, distro.Output{Class: distro.PRDatabase, Name: "prserv.sqlite3", Path: i.feed.prdb})
	}
	if i.feed.hashdb != "" {
		out = append(out, distro.Output{Class: distro.HashDatabase, Name: "hashserv.sqlite3", Path: i.feed.hashdb})
	}
	return out, nil
}

// NextVersion is the version that the next build is for.
func (w *Workspace) NextVersion(ctx context.Context) (distro.Version, error) {
	s, err := w.series(ctx)
	if err != nil {
		return "", err
	}
	return w.nextVersion(ctx, s, "")
}

// FeedConfiguration is what the devices of the next build must have, by file name.
func (w *Workspace) FeedConfiguration() (map[string][]byte, error) {
	public, err := w.Public()
	if err != nil {
		return nil, err
	}
	d := w.Definition
	return feed.Configuration(d.Distribution, d.Title, d.Series.Name, d.Feeds.BaseURL, w.deviceScopes(), public), nil
}
