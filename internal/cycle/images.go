package cycle

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"slipway/internal/check"
	"slipway/internal/compose"
	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/dnf"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/store"
)

// Image is one image of one board.
type Image struct {
	Board Board
	File  *config.ImageFile
}

// name is that of the image's file: <image>-<board>-<version>.img.
func (i Image) name(v distro.Version, format string) string {
	ending := ".img"
	if format == "oci" {
		ending = ".oci.tar"
	}
	return fmt.Sprintf("%s-%s-%s%s", i.File.Name, i.Board.Name, v, ending)
}

// images lists what the definition asks for, board by board.
func (w *Workspace) images(layer func(config.Layer) string) ([]Image, error) {
	boards, err := w.boards(layer)
	if err != nil {
		return nil, err
	}
	var out []Image
	var found errs.List
	for _, b := range boards {
		for _, name := range b.Images {
			f, err := config.LoadImage(w.layerFile(layer, "images", name+".yaml"))
			switch {
			case err != nil:
				found = append(found, errs.Wrap(err, "board %s", b.Name))
			case !f.For(b.Name):
				found = append(found, errs.E(errs.Invalid, fmt.Sprintf("board %s asks for image %s, which is not made for it", b.Name, name),
					errs.Hintf("images/%s.yaml has boards: %s", name, strings.Join(f.Boards, ", "))))
			default:
				out = append(out, Image{b, f})
			}
		}
	}
	return out, found.Err()
}

// imageSource is where the packages of an image come from.
type imageSource struct {
	url      string // of a publication tree
	snapshot string
	keys     []string
	internal string // folder of the feed with what is not published; "" is none
	version  distro.Version
	date     time.Time
	seed     distro.Digest
}

// composeImages makes every image of a build from its candidate's feed and keeps
// them as artifacts. An image that is there already, after a crash, is made again
// only when its manifest is missing.
func (w *Workspace) composeImages(ctx context.Context, b *Build) (string, error) {
	nb, err := w.Build(ctx, string(b.ID))
	if err != nil {
		return "", err
	}
	*b = nb
	list, err := w.images(w.exportedLayer(b.ID))
	if err != nil {
		return "", err
	}
	dir := filepath.Join(w.work(b.ID), "images")
	if err := removeAll(dir); err != nil {
		return "", err
	}
	src, err := w.candidateSource(ctx, *b, dir)
	if err != nil {
		return "", err
	}
	made := make([][]distro.Artifact, len(list))
	err = inParallel(w.jobs(), len(list), func(n int) error {
		i := list[n]
		t := w.Talk.Step(fmt.Sprintf("image %s for %s", i.File.Name, i.Board.Name))
		m, path, err := w.composeImage(ctx, i, src, i.File.Format, filepath.Join(dir, i.Board.Name))
		if err := end(t, err, fmt.Sprintf("%d packages, sha256 %s", len(m.Packages), m.Digest.Short())); err != nil {
			return err
		}
		for _, p := range []string{path, path + ".json"} {
			d, size, err := store.PutFile(ctx, w.Blobs, p)
			if err != nil {
				return errs.Wrap(err, "store image %s", filepath.Base(p))
			}
			made[n] = append(made[n], distro.Artifact{Class: distro.Images, Name: i.Board.Name + "/" + filepath.Base(p), Digest: d, Size: size})
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	arts := slices.Concat(made...)
	var total int64
	for _, a := range arts {
		total += a.Size
	}
	nb, err = w.update(ctx, b.ID, "images", func(x *Build) error {
		kept := x.Artifacts[:0:0]
		for _, a := range x.Artifacts {
			if a.Class != distro.Images {
				kept = append(kept, a)
			}
		}
		x.Artifacts = append(kept, arts...)
		return nil
	})
	*b = nb
	return fmt.Sprintf("%d for %d boards, %d MiB", len(list), len(w.Definition.Boards), total>>20), err
}

// inParallel calls do for 0 to n-1, at most jobs side by side, and gives all errors.
func inParallel(jobs, n int, do func(int) error) error {
	slots := make(chan struct{}, max(1, jobs))
	found := make(errs.List, n)
	var wg sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			found[i] = do(i)
			<-slots
		})
	}
	wg.Wait()
	return slices.DeleteFunc(found, func(err error) bool { return err == nil }).Err()
}

// candidateSource says where a candidate's packages are, and who signed them.
func (w *Workspace) candidateSource(ctx context.Context, b Build, dir string) (imageSource, error) {
	keys, err := w.candidateKeys(b, filepath.Join(dir, "keys"))
	if err != nil {
		return imageSource{}, err
	}
	s, err := w.series(ctx)
	if err != nil {
		return imageSource{}, err
	}
	src := imageSource{url: "file://" + w.candidateDir(b.ID), snapshot: fmt.Sprintf("snapshots/%d", s.Serial+1), keys: keys,
		version: b.Version, date: imageDate, seed: b.RevisionID}
	if len(internal(b.Packages)) > 0 {
		src.internal = w.internalDir(b.ID)
	}
	return src, nil
}

// imageDate is the time that an image's own files get: fixed for every image, as
// whatever a build's clock says is no input of it. Packages bring their own times.
var imageDate = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// composeImage installs an image's packages by dnf, signatures checked, and makes
// the image of them; it gives its manifest, written beside it as <file>.json.
func (w *Workspace) composeImage(ctx context.Context, i Image, src imageSource, format, dir string) (compose.Manifest, string, error) {
	tool, err := w.DNF(ctx)
	if err != nil {
		return compose.Manifest{}, "", err
	}
	scratch := filepath.Join(dir, "root-"+i.File.Name)
	if err := removeAll(scratch); err != nil {
		return compose.Manifest{}, "", err
	}
	vars := w.boardVars(i.Board)
	vars["slipway_url"], vars["slipway_snapshot"] = src.url, src.snapshot
	repos := w.deviceRepos(src.keys)
	if src.internal != "" {
		repos = append(repos, w.internalRepos(src.internal, src.keys)...)
	}
	root, err := tool.NewRoot(ctx, scratch, dnf.Options{Repos: repos, Vars: vars, Arch: i.Board.File.Arch, MachineArch: i.Board.ownArchs()})
	if err != nil {
		return compose.Manifest{}, "", err
	}
	defer root.Remove()
	res, err := root.Install(ctx, i.File.Packages...)
	if err != nil {
		return compose.Manifest{}, "", notInstalled(err, i)
	}
	if len(res.NotRun) > 0 {
		return compose.Manifest{}, "", errs.E(errs.Failed, fmt.Sprintf("image %s of %s: scriptlets of another architecture could not run here: %s", i.File.Name, i.Board.Name, strings.Join(res.NotRun, ", ")),
			errs.Hint("write them in Lua (%post -p <lua>), or install qemu-user-static where binfmt works"))
	}
	if err := compose.Clean(ctx, root.Path(), src.date); err != nil {
		return compose.Manifest{}, "", err
	}
	out := filepath.Join(dir, i.name(src.version, format))
	seed := distro.DigestOf([]byte(fmt.Sprintf("%s %s %s", src.seed, i.Board.Name, i.File.Name)))
	m := compose.Manifest{Image: i.File.Name, Board: i.Board.Name, Version: string(src.version), Arch: i.Board.File.Arch, Format: format, Date: src.date}
	if format == "oci" {
		err = compose.OCI(ctx, root.Path(), out, compose.OCIOptions{Date: src.date, Arch: i.Board.File.Arch, Name: w.Definition.Distribution + ":" + string(src.version),
			Labels: map[string]string{"org.opencontainers.image.title": w.Definition.Title, "org.opencontainers.image.version": string(src.version)}})
	} else {
		err = compose.Disk(ctx, root.Path(), out, compose.DiskOptions{Size: i.File.Size.Bytes(), Seed: seed, Date: src.date, Arch: i.Board.File.Arch})
	}
	if err != nil {
		return m, out, errs.Wrap(err, "image %s of %s", i.File.Name, i.Board.Name)
	}
	if m, err = compose.Describe(ctx, root.Path(), out, m); err != nil {
		return m, out, err
	}
	if err := w.sameAsTested(ctx, m); err != nil {
		return m, out, err
	}
	if err := os.WriteFile(out+".json", distro.CanonicalJSON(m), 0o644); err != nil {
		return m, out, errs.E(errs.Unavailable, "write the image's manifest", err)
	}
	return m, out, nil
}

// notInstalled names image and board, and which packages such a board can have: a
// package that wants another board's kernel finds nothing in this one's feeds.
func notInstalled(err error, i Image) error {
	opts := []any{err}
	if text := err.Error(); strings.Contains(text, "nothing provides") || strings.Contains(text, "No match for argument") {
		opts = append(opts, errs.Hintf("board %s has packages of %s, no other board's kernel or modules; images/%s.yaml lists what the image wants",
			i.Board.Name, strings.Join(i.Board.forScopes().Scopes(), ", "), i.File.Name))
	}
	return errs.E(errs.KindOf(err), fmt.Sprintf("install image %s of board %s", i.File.Name, i.Board.Name), opts...)
}

// sameAsTested verifies an image's packages by digest: each must be one that a
// build of this workspace made.
func (w *Workspace) sameAsTested(ctx context.Context, m compose.Manifest) error {
	builds, err := w.Builds(ctx)
	if err != nil {
		return err
	}
	known := map[distro.Digest]bool{}
	for _, b := range builds {
		for _, p := range b.Packages {
			known[p.HeaderDigest] = true
		}
	}
	var found errs.List
	for _, p := range m.Packages {
		if !known[p.HeaderDigest] {
			found = append(found, errs.E(errs.Denied, fmt.Sprintf("image %s holds %s, header %s, which no build here made", m.File, p.NEVRA, p.HeaderDigest.Short())))
		}
	}
	return found.Err()
}

// ComposeOne makes one image of a board outside of a build: of the newest
// candidate that is open, else of the last release.
func (w *Workspace) ComposeOne(ctx context.Context, board, image, format, dir string) (compose.Manifest, string, error) {
	none := compose.Manifest{}
	if w.yocto() {
		return none, "", errs.E(errs.Invalid, "the images of this series are BitBake's: a build brings them", errs.Hint("slipway build; slipway restore VERSION brings those of a release"))
	}
	list, err := w.images(w.hereLayer)
	if err != nil {
		return none, "", err
	}
	var chosen *Image
	var names []string
	for _, i := range list {
		names = append(names, i.Board.Name)
		if i.Board.Name == board && (image == "" || i.File.Name == image) && chosen == nil {
			chosen = &i
		}
	}
	if chosen == nil {
		opts := []any{errs.Hint("slipway config show lists the boards and their images")}
		if n := errs.Near(board, names); n != "" {
			opts = []any{errs.Hintf("did you mean %q?", n)}
		}
		return none, "", errs.E(errs.NotFound, fmt.Sprintf("board %s has no image %s", board, image), opts...)
	}
	s, err := w.series(ctx)
	if err != nil {
		return none, "", err
	}
	b, err := w.Build(ctx, "")
	if err != nil {
		return none, "", err
	}
	var src imageSource
	scratch := w.internal("work", "image")
	if err := removeAll(scratch); err != nil {
		return none, "", err
	}
	defer os.RemoveAll(scratch)
	st, err := w.candidateStatus(ctx, b)
	switch {
	case err != nil:
		return none, "", err
	case b.Status == distro.Candidate && (st == distro.Testing || st == distro.Ready || st == distro.Blocked):
		src, err = w.candidateSource(ctx, b, scratch)
	case s.Head != "":
		src, err = w.releaseSource(ctx, s.Head, scratch)
	default:
		err = errs.E(errs.Conflict, "there is neither a candidate nor a release to make an image of", errs.Hint("slipway build"))
	}
	if err != nil {
		return none, "", err
	}
	if format == "" {
		format = chosen.File.Format
	}
	m, path, err := w.composeImage(ctx, *chosen, src, format, scratch)
	if err != nil {
		return m, "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return m, "", errs.E(errs.Unavailable, "make "+dir, err)
	}
	dest := filepath.Join(dir, filepath.Base(path))
	for _, ending := range []string{".json", ""} {
		if err := moveFile(path+ending, dest+ending); err != nil {
			return m, "", err
		}
	}
	return m, dest, nil
}

// releaseSource says where a release's packages are.
func (w *Workspace) releaseSource(ctx context.Context, v distro.Version, dir string) (imageSource, error) {
	r, err := w.Release(ctx, v)
	if err != nil {
		return imageSource{}, err
	}
	b, err := w.Build(ctx, string(r.Build))
	if err != nil {
		return imageSource{}, err
	}
	serial := r.Serial
	if s, err := w.series(ctx); err != nil {
		return imageSource{}, err
	} else if s.Head == v {
		serial = s.Serial // the same packages, perhaps signed again
	}
	keys, err := w.writeKeys(filepath.Join(dir, "keys"))
	src := imageSource{url: w.publicationURL(), snapshot: fmt.Sprintf("snapshots/%d", serial), keys: keys, version: v, date: imageDate, seed: b.RevisionID}
	if err != nil || len(r.Internal) == 0 {
		return src, err
	}
	key, err := w.Throwaway(b.Created)
	if err != nil {
		return src, err
	}
	src.internal = filepath.Join(dir, "internal-feed")
	path := filepath.Join(dir, "keys", "internal.asc")
	if err := os.WriteFile(path, key.PublicArmored(), 0o644); err != nil {
		return src, errs.E(errs.Unavailable, "write "+path, err)
	}
	src.keys = append(src.keys, path)
	return src, w.writeInternalFeed(ctx, src.internal, key, b, r.Internal, b.Created)
}

func moveFile(from, to string) error {
	if err := os.Rename(from, to); err == nil {
		return nil
	}
	f, err := os.Open(from)
	if err != nil {
		return errs.E(errs.Unavailable, "read "+from, err)
	}
	defer f.Close()
	if err := writeFile(to, f, 0o644); err != nil {
		return errs.E(errs.Unavailable, "write "+to, err, errs.Hint("free space, or name another folder"))
	}
	return nil
}

// publishImages writes the images of a release into the publication.
func (w *Workspace) publishImages(ctx context.Context, v distro.Version, b Build) (string, error) {
	out, err := w.publicImages(ctx, b)
	if err != nil {
		return "", err
	}
	n, held := 0, 0
	for _, a := range b.Artifacts {
		if a.Class != distro.Images {
			continue
		}
		if !out[a.Name] {
			held++
			continue
		}
		f, err := w.Blobs.Open(ctx, a.Digest)
		if err != nil {
			return "", errs.Wrap(err, "image %s", a.Name)
		}
		board, file, _ := strings.Cut(a.Name, "/")
		err = w.Tree.Create(ctx, feed.ImageName(b.Series, board, v, file), f)
		f.Close()
		if err != nil {
			return "", err
		}
		n++
	}
	if held > 0 {
		return fmt.Sprintf("%d files, %d are not public", n, held), nil
	}
	return fmt.Sprintf("%d files", n), nil
}

// bootImages lays out a candidate's disks for the boot check.
func (w *Workspace) bootImages(ctx context.Context, b Build, dir string) ([]check.BootImage, error) {
	if w.yocto() {
		return w.bitbakeDisks(ctx, b, func(a distro.Artifact) (string, error) {
			path := filepath.Join(dir, "images", filepath.FromSlash(a.Name))
			return path, w.lendBlob(ctx, a.Digest, path)
		})
	}
	list, err := w.images(w.exportedLayer(b.ID))
	if err != nil {
		return nil, err
	}
	var out []check.BootImage
	for _, i := range list {
		if i.File.Format == "oci" {
			continue
		}
		name := i.Board.Name + "/" + i.name(b.Version, i.File.Format)
		for _, a := range b.Artifacts {
			if a.Class != distro.Images || a.Name != name {
				continue
			}
			path := filepath.Join(dir, "images", name)
			if err := w.lendBlob(ctx, a.Digest, path); err != nil {
				return nil, errs.Wrap(err, "image %s of %s", i.File.Name, i.Board.Name)
			}
			x, err := w.bootPolicy(i.Board, check.BootImage{Board: i.Board.Name, Image: i.File.Name, Path: path, Digest: a.Digest})
			if err != nil {
				return nil, err
			}
			out = append(out, x)
		}
	}
	return out, nil
}
