package cycle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/layers"
	"slipway/internal/prserv/fork"
	"slipway/internal/state"
	"slipway/internal/store"
)

// What differs when BitBake builds: it says itself what the boards are, asks our
// servers for numbers and hashes, and takes what was released from mirrors. The
// mirrors are .slipway/mirror/<class>: files by their names, made of the releases'
// artifacts, and made again when they are lost.

// Means are what the workspace gives to a builder.
type Means struct {
	Numbers Numbers
	// Serve serves a build's fork of the PR and hash databases, for a builder that
	// asks by BitBake's protocols. Close what it gives.
	Serve func(ctx context.Context, id distro.BuildID) (*fork.Build, error)
	// SState and Downloads are folders with what was released, to be read only.
	SState, Downloads string
	// Definition is that of the release that is built again; nil is the workspace's.
	Definition *config.Definition
	// Import is what another CI built; nil when this workspace builds.
	Import *Handed
	// Fresh forbids to take anything from a cache: a rebuild that proves something.
	Fresh bool
}

// Describer is a builder that only knows what the boards are when a build is
// prepared, and judges their settings.
type Describer interface {
	Describe(ctx context.Context, dir string) ([]distro.Board, []distro.Finding, error)
}

// Described is what a builder said of the boards: of one build, by its id, and the
// newest that was said, by the series' name.
type Described struct {
	Boards   []distro.Board   `json:"boards"`
	Findings []distro.Finding `json:"findings"` // on their settings
}

// describe asks the builder about the boards, records the answer, and refuses what
// a binary distribution cannot be built with.
func (w *Workspace) describeBoards(ctx context.Context, d Describer, id distro.BuildID, dir string) error {
	title := "ask BitBake about the boards"
	if w.Definition.Builder.Kind == config.Import {
		title = "read what the boards are"
	}
	t := w.Talk.Step(title)
	boards, findings, err := d.Describe(ctx, dir)
	if err == nil {
		bad := w.unnamedFamilies(boards)
		if w.Definition.Builder.Kind == config.BitBake { // hours can be spared; those of an import are spent, and the check judges it
			bad = append(w.refuseSettings(findings), bad...)
		}
		err = bad.Err()
	}
	for _, key := range []string{string(id), w.Definition.Series.Name} {
		if err == nil {
			_, err = state.Upsert(ctx, w.State, kindBoards, key, func(x *Described) error { *x = Described{boards, findings}; return nil })
		}
	}
	var said []string
	for _, b := range boards {
		said = append(said, b.Name+" is "+b.Arch+", "+b.MachineArch)
	}
	return end(t, err, strings.Join(said, "; "))
}

// refuseSettings gives the findings that block, unless the definition's policy says
// that this check only warns.
func (w *Workspace) refuseSettings(findings []distro.Finding) (bad errs.List) {
	for _, f := range findings {
		level := f.Level
		if p, ok := w.Definition.Gate.Checks[f.Check]; ok && distro.Level(p) != distro.Block {
			continue
		}
		if level == distro.Block {
			bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("%s (%s): %s", f.ID, strings.Join(f.Boards, ", "), f.Text), errs.Hint(f.Cure)))
		}
	}
	return bad
}

// unnamedFamilies refuses an SoC family that the definition does not name: devices
// would not read its feed.
func (w *Workspace) unnamedFamilies(boards []distro.Board) (bad errs.List) {
	for _, b := range w.Definition.Boards {
		i := slices.IndexFunc(boards, func(x distro.Board) bool { return x.Name == b.Name })
		if i >= 0 && boards[i].SoCFamily != "" && b.SoCFamily == "" {
			bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("board %s has packages for its SoC family %s, and slipway.yaml names none", b.Name, boards[i].SoCFamily),
				errs.Hintf("{name: %s, soc_family: %s}", b.Name, boards[i].SoCFamily)))
		}
	}
	return bad
}

// describedBoards joins the definition's boards to what a builder said of them.
// Those that nothing is said of are left out, and named by the error.
func (w *Workspace) describedBoards(key string) ([]Board, error) {
	d, _, err := state.Load[Described](context.Background(), w.State, kindBoards, key)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return nil, err
	}
	var out []Board
	var unknown []string
	for _, b := range w.Definition.Boards {
		i := slices.IndexFunc(d.Boards, func(x distro.Board) bool { return x.Name == b.Name })
		if i < 0 {
			unknown = append(unknown, b.Name)
			continue
		}
		x := d.Boards[i]
		b.SoCFamily = x.SoCFamily
		out = append(out, Board{Board: b, Compatible: x.Compatible, File: &config.BoardFile{Name: b.Name, Schema: 1, Arch: x.Arch, MachineArch: x.MachineArch}})
	}
	if len(unknown) > 0 {
		return out, errs.E(errs.NotFound, "BitBake was not asked yet what these boards are: "+strings.Join(unknown, ", "), errs.Hint(w.buildCommand("")))
	}
	return out, nil
}

// checkOut lays out the layers that BitBake builds, each repository whole: OE-Core's
// meta needs the scripts beside it. Layers of one commit share a folder. It gives
// the layers' folders by name.
func (w *Workspace) checkOut(ctx context.Context, revision distro.Revision, dir string, repository func(i int) (string, error)) (map[string]string, error) {
	out := map[string]string{}
	shared := map[string]string{}
	for i, pin := range revision.Layers {
		whole := pin
		if pin.URL != "" {
			whole.Path, whole.Tree = ".", ""
		}
		key := pin.URL + " " + pin.Commit
		dest, ok := shared[key]
		if !ok || pin.URL == "" {
			dest = filepath.Join(dir, pin.Name)
			if err := removeAll(dest); err != nil {
				return nil, err
			}
			repo, err := repository(i)
			if err == nil {
				err = layers.Export(ctx, repo, whole, dest)
			}
			if err != nil {
				return nil, errs.Wrap(err, "check out layer %s", pin.Name)
			}
			shared[key] = dest
		}
		out[pin.Name] = dest
		if pin.URL != "" {
			out[pin.Name] = filepath.Join(dest, filepath.FromSlash(pin.Path))
		}
	}
	return out, nil
}

// mirrorDir is the folder of a class of what was released.
func (w *Workspace) mirrorDir(class distro.Class) string { return w.internal("mirror", string(class)) }

// fillMirrors brings the mirrors up to the releases.
func (w *Workspace) fillMirrors(ctx context.Context) error {
	releases, err := w.Releases(ctx)
	if err != nil {
		return err
	}
	gone, err := w.gone(ctx)
	if err != nil {
		return err
	}
	for _, class := range []distro.Class{distro.SState, distro.Downloads} {
		dir := w.mirrorDir(class)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return errs.E(errs.Unavailable, "make the mirror "+dir, err)
		}
		for _, r := range releases {
			if r.Status == distro.Withdrawn {
				continue
			}
			mark := filepath.Join(w.internal("mirror"), string(class)+"-of", string(r.Build))
			if _, err := os.Stat(mark); err == nil {
				continue
			}
			b, err := w.Build(ctx, string(r.Build))
			lost := 0
			if err == nil {
				b.Artifacts = gone.withoutGone(b.Artifacts)
				lost, err = w.layOut(ctx, b, class, dir)
			}
			if lost > 0 {
				w.Talk.Step(fmt.Sprintf("%s of release %s", class, r.Version)).Done(fmt.Sprintf("%d files are gone from the artifact store: builds make them again; the release cannot be restored whole", lost))
			}
			if err == nil {
				err = writeFile(mark, bytes.NewReader(nil), 0o644)
			}
			if err != nil {
				return errs.Wrap(err, "%s of release %s", class, r.Version)
			}
		}
	}
	return nil
}

// layOut puts the artifacts of a class into a folder, by name. What is there stays. It
// gives how many the artifact store has lost: a cache may lack some.
func (w *Workspace) layOut(ctx context.Context, b Build, class distro.Class, dir string) (lost int, err error) {
	var found errs.List
	for _, a := range b.Artifacts {
		if a.Class != class {
			continue
		}
		if err := ctx.Err(); err != nil {
			return lost, err
		}
		switch err := w.layOne(ctx, a, filepath.Join(dir, filepath.FromSlash(a.Name))); {
		case errs.Is(err, errs.NotFound):
			lost++
		case err != nil:
			found = append(found, errs.Wrap(err, "%s", a.Name))
		}
	}
	return lost, found.Err()
}

// layOne puts one artifact at a path, whole or not at all: a link to the store's own
// file where that can be had, as nobody writes there.
func (w *Workspace) layOne(ctx context.Context, a distro.Artifact, to string) error {
	if _, err := os.Lstat(to); err == nil {
		return nil
	}
	if !filepath.IsLocal(filepath.FromSlash(a.Name)) {
		return errs.E(errs.Denied, fmt.Sprintf("artifact %q has no name of a file", a.Name))
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return errs.E(errs.Unavailable, "make "+filepath.Dir(to), err)
	}
	f, err := w.Blobs.Open(ctx, a.Digest)
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := store.Hash(io.NewSectionReader(f, 0, f.Size()))
	if err != nil {
		return errs.E(errs.Unavailable, "read "+a.Name, err)
	}
	if got != a.Digest {
		place := string(a.Digest)
		if own, ok := f.(interface{ OSFile() *os.File }); ok {
			place = own.OSFile().Name()
		}
		return errs.E(errs.Denied, fmt.Sprintf("%s %s was changed in the artifact store: it is %s, released was %s", a.Class, a.Name, got.Short(), a.Digest.Short()),
			errs.Hintf("bring %s back from a backup, or remove it: what a cache lacks is built again", place))
	}
	if own, ok := f.(interface{ OSFile() *os.File }); ok && os.Link(own.OSFile().Name(), to) == nil {
		return nil
	}
	tmp := to + ".partial"
	if err := writeFile(tmp, io.NewSectionReader(f, 0, f.Size()), 0o644); err != nil {
		return errs.E(errs.Unavailable, "write "+to, err)
	}
	if err := os.Rename(tmp, to); err != nil {
		return errs.E(errs.Unavailable, "write "+to, err)
	}
	return nil
}

// releasedArtifact finds what a build took from a mirror.
func (w *Workspace) releasedArtifacts(ctx context.Context) (func(class distro.Class, name string) (distro.Artifact, error), error) {
	type key struct {
		class distro.Class
		name  string
	}
	known := map[key]distro.Artifact{}
	releases, err := w.Releases(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range releases {
		if r.Status == distro.Withdrawn {
			continue
		}
		b, err := w.Build(ctx, string(r.Build))
		if err != nil {
			return nil, err
		}
		for _, a := range b.Artifacts {
			k := key{a.Class, a.Name}
			if _, ok := known[k]; !ok && (a.Class == distro.SState || a.Class == distro.Downloads) { // the first is what the mirror has
				known[k] = a
			}
		}
	}
	return func(class distro.Class, name string) (distro.Artifact, error) {
		a, ok := known[key{class, name}]
		if !ok {
			return a, errs.E(errs.Denied, fmt.Sprintf("the build took %s %s from the mirror of what was released, and no release has it", class, name),
				errs.Hintf("something else wrote into %s: remove that folder, and slipway build", filepath.Dir(w.mirrorDir(class))))
		}
		return a, nil
	}, nil
}

// unchanged looks at what a build took from a mirror: it must be what was released. The
// mirror's files lie open on a disk; what was built from others is not stored.
func (w *Workspace) unchanged(a distro.Artifact) error {
	path := filepath.Join(w.mirrorDir(a.Class), filepath.FromSlash(a.Name))
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return errs.E(errs.Conflict, fmt.Sprintf("%s %s is gone from the mirror since this build took it: nobody can tell what it was", a.Class, a.Name), errs.Hint("slipway build"))
	}
	if err != nil {
		return errs.E(errs.Unavailable, "read "+path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return errs.E(errs.Unavailable, "read "+path, err)
	}
	got, err := store.Hash(io.NewSectionReader(f, 0, info.Size()))
	if err != nil {
		return errs.E(errs.Unavailable, "read "+path, err)
	}
	if got != a.Digest {
		return errs.E(errs.Denied, fmt.Sprintf("%s %s was changed in the mirror, and this build took it: it is %s, released was %s", a.Class, a.Name, got.Short(), a.Digest.Short()),
			errs.Hintf("find out who writes there; remove %s, which is made again of the releases, and slipway build", filepath.Dir(w.mirrorDir(a.Class))))
	}
	return nil
}

// seedBitBake adds to a seed what BitBake needs beside layers: mirrors, the base's
// buildhistory, and all that was ever published, because a build that was restored
// brings less than the feed has.
func (w *Workspace) seedBitBake(ctx context.Context, b Build, s *distro.Seed) error {
	s.Boards = w.wantedBoards()
	if w.Definition.Builder.Kind == config.BitBake {
		if err := w.fillMirrors(ctx); err != nil {
			return err
		}
	}
	if b.Base == "" {
		return nil
	}
	published, err := w.published(ctx)
	if err != nil {
		return err
	}
	s.Packages = slices.Concat(published, s.Packages)
	if w.Definition.Builder.Kind != config.BitBake {
		return nil
	}
	base, err := w.Release(ctx, b.Base)
	if err != nil {
		return err
	}
	from, err := w.Build(ctx, string(base.Build))
	if err != nil {
		return err
	}
	s.Buildhistory = filepath.Join(w.work(b.ID), "buildhistory")
	if err := removeAll(s.Buildhistory); err != nil {
		return err
	}
	if err := os.MkdirAll(s.Buildhistory, 0o755); err != nil {
		return errs.E(errs.Unavailable, "make "+s.Buildhistory, err)
	}
	return errs.Wrap(w.copyOut(ctx, from, distro.Buildhistory, s.Buildhistory, func(name string) bool { return !strings.HasPrefix(name, "pkgdata/") }), "buildhistory of release %s", b.Base)
}

// copyOut is layOut with copies: BitBake writes into buildhistory.
func (w *Workspace) copyOut(ctx context.Context, b Build, class distro.Class, dir string, want func(name string) bool) error {
	for _, a := range b.Artifacts {
		if a.Class != class || !want(a.Name) {
			continue
		}
		if err := w.copyBlob(ctx, a.Digest, filepath.Join(dir, filepath.FromSlash(a.Name))); err != nil {
			return errs.Wrap(err, "%s", a.Name)
		}
	}
	return nil
}

// restoreDatabases brings the databases of the last release back where they were
// lost: without them BitBake would give numbers again that devices have, and its
// versions would go backwards. Of the builds since, which were never released, the
// numbers stay burned.
func (w *Workspace) restoreDatabases(ctx context.Context, to string) error {
	if _, err := os.Stat(to); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	s, err := w.series(ctx)
	if err != nil || s.Head == "" {
		return err
	}
	r, err := w.Release(ctx, s.Head)
	if err != nil {
		return err
	}
	head, err := w.Build(ctx, string(r.Build))
	if err != nil {
		return err
	}
	databases := func(b Build) (distro.Digest, bool) {
		for _, a := range b.Artifacts {
			if a.Class == distro.PRDatabase && a.Name == databasesName {
				return a.Digest, true
			}
		}
		return "", false
	}
	d, ok := databases(head)
	if !ok {
		return nil
	}
	t := w.Talk.Step("no databases here: take those of release " + string(s.Head))
	tmp := to + ".partial"
	err = w.copyBlob(ctx, d, tmp)
	builds, berr := w.Builds(ctx)
	err = errors.Join(err, berr)
	for _, b := range builds {
		if d, ok := databases(b); ok && err == nil && b.ID != head.ID {
			err = w.burnFrom(ctx, tmp, d)
		}
	}
	if err == nil {
		err = os.Rename(tmp, to)
	}
	return end(t, err, "")
}

// burnFrom notes the numbers of another build's databases as given.
func (w *Workspace) burnFrom(ctx context.Context, databases string, from distro.Digest) (err error) {
	other := databases + ".other"
	if err := w.copyBlob(ctx, from, other); errs.Is(err, errs.NotFound) {
		return nil // collected: nobody has its packages
	} else if err != nil {
		return err
	}
	defer os.Remove(other)
	b, err := fork.Open(databases)
	if err != nil {
		return err
	}
	return errors.Join(b.Burn(ctx, other), b.Close())
}

// recipeFolders gives the folders of a layer that have files of a recipe, below
// the layer's root in its repository.
func recipeFolders(root, recipe string) []string {
	var out []string
	for _, form := range []string{"_*.bb", ".bb", "_*.bbappend", ".bbappend"} {
		found, _ := filepath.Glob(filepath.Join(root, "recipes*", "*", recipe+form))
		for _, f := range found {
			rel, err := filepath.Rel(root, filepath.Dir(f))
			if err == nil && !slices.Contains(out, filepath.ToSlash(rel)) {
				out = append(out, filepath.ToSlash(rel))
			}
		}
	}
	slices.Sort(out)
	return out
}

// sourcePaths gives where in a layer's repository a source (a spec or a recipe) is;
// none when the layer has none of it.
func (w *Workspace) sourcePaths(b Build, pin distro.LayerPin, source string) []string {
	switch {
	case source == "":
		return []string{pin.Path}
	case !config.Yocto(b.Revision.Builder.Kind):
		return []string{path.Join(pin.Path, "specs", source)}
	}
	root := filepath.Join(w.work(b.ID), "layers", pin.Name)
	if pin.URL != "" {
		root = filepath.Join(root, filepath.FromSlash(pin.Path))
	}
	var out []string
	for _, f := range recipeFolders(root, source) {
		out = append(out, path.Join(pin.Path, f))
	}
	return out
}

// bundled gives the base's bundle of a layer when the layer is as it was there.
func bundled(base Build, pin distro.LayerPin) (distro.Artifact, bool) {
	if !slices.ContainsFunc(base.Revision.Layers, func(p distro.LayerPin) bool { return p.Name == pin.Name && p.URL == pin.URL && p.Commit == pin.Commit }) {
		return distro.Artifact{}, false
	}
	i := slices.IndexFunc(base.Artifacts, func(a distro.Artifact) bool {
		return a.Class == distro.Configuration && a.Name == "layers/"+pin.Name+".bundle"
	})
	if i < 0 {
		return distro.Artifact{}, false
	}
	return base.Artifacts[i], true
}
