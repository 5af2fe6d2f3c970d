package cycle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/source"
	"slipway/internal/store"
)

// The build cache has a package's bytes again: BitBake's objects of its recipe are what
// the package was made of, or hold it whole. A removal takes them, too, wherever they are
// ours to take: the publication's sstate/, the mirrors of builds, the artifact store. The
// recipe's sources are another matter, as the next version is made of them: they go when
// a person says so.

// cacheKey names an artifact of the cache, or a source.
type cacheKey struct {
	class distro.Class
	name  string
}

// cacheOf gives the objects of the cache that hold what is removed, sorted, and the
// sources of the recipes, as far as no other recipe has them.
func (w *Workspace) cacheOf(ctx context.Context, files []feed.RemovedFile) (objects, sources []distro.Artifact, err error) {
	headers, names := map[distro.Digest]bool{}, map[string]bool{}
	for _, f := range files {
		if names[f.File] = true; f.HeaderDigest != "" {
			headers[f.HeaderDigest] = true
		}
	}
	builds, err := w.Builds(ctx)
	if err != nil {
		return nil, nil, err
	}
	releases, err := w.Releases(ctx)
	if err != nil {
		return nil, nil, err
	}
	version := map[distro.BuildID]distro.Version{}
	for _, r := range releases {
		version[r.Build] = r.Version
	}
	of := map[cacheKey]distro.Artifact{}
	recipes, others := map[string]map[string]bool{}, map[string]bool{} // source -> recipes that have it; of others
	for _, b := range builds {
		gone := map[string]bool{}
		for _, r := range b.Packages {
			gone[r.SourceName] = gone[r.SourceName] || headers[r.HeaderDigest]
		}
		for _, a := range b.Artifacts {
			board, file, _ := strings.Cut(a.Name, "/")
			if a.Class == distro.Images && names[feed.ImageName(b.Series, board, version[b.ID], file)] {
				image, _, _ := strings.Cut(file, "-"+board)
				gone[image] = true
			}
		}
		for _, a := range b.Artifacts {
			switch a.Class {
			case distro.SState:
				if gone[source.RecipeOfObject(a.Name)] {
					of[cacheKey{a.Class, a.Name}] = a
				}
			case distro.Sources:
				if recipe, file := source.RecipeOfSource(a.Name); recipe != "" {
					others[file] = others[file] || !gone[recipe]
					if gone[recipe] {
						recipes[file] = map[string]bool{recipe: true}
					}
				}
			}
		}
	}
	for _, b := range builds {
		for _, a := range b.Artifacts {
			if a.Class == distro.Downloads && recipes[a.Name] != nil && !others[a.Name] && !slices.ContainsFunc(sources, func(x distro.Artifact) bool { return x.Name == a.Name && x.Digest == a.Digest }) {
				sources = append(sources, a)
			}
		}
	}
	for _, a := range of {
		objects = append(objects, a)
	}
	byName := func(a, b distro.Artifact) int {
		return strings.Compare(a.Name+string(a.Digest), b.Name+string(b.Digest))
	}
	slices.SortFunc(objects, byName)
	slices.SortFunc(sources, byName)
	return objects, sources, nil
}

// buryCache takes the objects and sources of a removal away: in the publication the
// notice stands in their place, as nothing there is ever gone without a word. It adds to
// digests what the artifact store has of them.
func (w *Workspace) buryCache(ctx context.Context, c Change, notice []byte, digests map[distro.Digest]bool) error {
	if len(c.Cache) == 0 {
		return nil
	}
	going := map[cacheKey]bool{}
	for _, a := range c.Cache {
		going[cacheKey{a.Class, a.Name}] = true
		name := source.MirrorName(a)
		b, err := w.Tree.Open(ctx, name)
		switch {
		case errs.Is(err, errs.NotFound): // it was not public, or was pruned
		case err != nil:
			return err
		default:
			got, err := store.Hash(b)
			b.Close()
			if err != nil {
				return errs.E(errs.Unavailable, "read "+name, err)
			}
			if got != distro.DigestOf(notice) {
				if err := w.Tree.Swap(ctx, name, notice); err != nil {
					return errs.Wrap(err, "remove %s", name)
				}
			}
		}
		if err := os.Remove(filepath.Join(w.mirrorDir(a.Class), filepath.FromSlash(a.Name))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errs.E(errs.Unavailable, "remove "+a.Name+" from the mirror of builds", err)
		}
	}
	builds, err := w.Builds(ctx)
	if err != nil {
		return err
	}
	stays := map[distro.Digest]bool{}
	for _, b := range builds {
		for _, a := range b.Artifacts {
			switch {
			case going[cacheKey{a.Class, a.Name}]:
				digests[a.Digest] = true
			case a.Class == distro.Sources && going[cacheKey{distro.Downloads, path.Base(a.Name)}]: // the archiver's copy
			default:
				stays[a.Digest] = true
			}
		}
	}
	for _, a := range c.Cache {
		if stays[a.Digest] {
			delete(digests, a.Digest)
		}
	}
	return nil
}

// withoutGone leaves out the artifacts of the cache that removals took, by name: what is
// made again under the name is the same.
func (g gone) withoutGone(arts []distro.Artifact) []distro.Artifact {
	if len(g.cache) == 0 {
		return arts
	}
	return slices.DeleteFunc(slices.Clone(arts), func(a distro.Artifact) bool { return g.cache[cacheKey{a.Class, a.Name}] != 0 })
}

// cached tells which removal took an artifact, by its name or its bytes; 0 is none.
func (g gone) cached(a distro.Artifact) int {
	if n := g.cache[cacheKey{a.Class, a.Name}]; n != 0 {
		return n
	}
	if a.Class == distro.Sources {
		return g.sources[a.Digest]
	}
	return 0
}

func cacheSummary(c Change) string {
	if len(c.Cache) == 0 {
		return ""
	}
	return fmt.Sprintf(", %d objects of the cache", len(c.Cache))
}
