package source

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/sign"
	"slipway/internal/sstate"
	"slipway/internal/store"
)

// Folders of the publication that BitBake takes files from; they are beside the series,
// as the cache is the distribution's.
const (
	SStateFolder    = "sstate"
	DownloadsFolder = "downloads"
)

// Mirrored says what [Mirror] did.
type Mirrored struct {
	Objects   int `json:"objects"`   // of the cache, that are there now
	Downloads int `json:"downloads"` // sources, that are there now
	New       int `json:"new"`       // files of this run, signatures aside
	Withheld  int `json:"withheld"`  // files that the policy keeps in
}

func (m Mirrored) String() string {
	s := fmt.Sprintf("%d objects of the cache, %d sources, %d files new", m.Objects, m.Downloads, m.New)
	if m.Withheld > 0 {
		s += fmt.Sprintf(", %d not public", m.Withheld)
	}
	return s
}

// Mirror adds a release's objects of the build cache and its sources to the
// publication, as far as the policy lists these classes and keeps nothing of them in.
// Each archive's signature, dated at, is there before the archive: a BitBake that asks
// meanwhile never meets one without. Files that are there are not written again. The
// cache may be pruned: it is no part of what a release states.
func Mirror(ctx context.Context, t store.Tree, s Set, signer sstate.Signer, at time.Time) (Mirrored, error) {
	var out Mirrored
	withheld, err := Withheld(ctx, s.Policy, s.Blobs, s.Artifacts)
	if err != nil {
		return out, err
	}
	open := publicSources(s, withheld)
	for _, a := range s.Artifacts {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		if !slices.Contains(s.Policy.Classes, a.Class) {
			continue
		}
		switch a.Class {
		case distro.SState:
			if withheld(RecipeOfObject(a.Name), s.Packages) != "" {
				out.Withheld++
				continue
			}
			out.Objects++
		case distro.Downloads:
			if !open(a.Name) {
				out.Withheld++
				continue
			}
			out.Downloads++
		default:
			continue
		}
		fresh, err := mirrorOne(ctx, t, s.Blobs, a, MirrorName(a), signer, at)
		if err != nil {
			return out, errs.Wrap(err, "publish %s %s", a.Class, a.Name)
		}
		if fresh {
			out.New++
		}
	}
	return out, t.Sync(ctx)
}

// MirrorName is the name in the publication of an artifact that [Mirror] brings out; ""
// of other classes.
func MirrorName(a distro.Artifact) string {
	switch a.Class {
	case distro.SState:
		return path.Join(SStateFolder, a.Name)
	case distro.Downloads:
		return path.Join(DownloadsFolder, a.Name)
	}
	return ""
}

// RecipeOfSource gives the recipe and the file of one of the archiver's sources by its
// name, "x86_64-fixture-linux/hello-1.0-r0/hello.tar.gz"; "" for what is no such file.
func RecipeOfSource(name string) (recipe, file string) {
	parts := strings.Split(name, "/")
	if len(parts) != 3 {
		return "", ""
	}
	return recipeOf(parts[1]), parts[2]
}

// publicSources tells which downloads may go out. Nothing says which recipe a download
// is of but the archiver's folders: where rules keep something in, only what lies in the
// folder of a public recipe, and of no other, goes out.
func publicSources(s Set, withheld func(string, []distro.PackageRecord) string) func(name string) bool {
	if len(s.Policy.Exclude) == 0 {
		return func(string) bool { return true }
	}
	may := map[string]bool{}
	for _, a := range s.Artifacts {
		recipe, file := RecipeOfSource(a.Name)
		if a.Class != distro.Sources || recipe == "" {
			continue
		}
		ok, seen := may[file]
		may[file] = withheld(recipe, s.Packages) == "" && (ok || !seen)
	}
	return func(name string) bool { return may[name] }
}

func mirrorOne(ctx context.Context, t store.Tree, blobs store.Blobs, a distro.Artifact, name string, signer sstate.Signer, at time.Time) (bool, error) {
	// What is there stays: an object of the cache is named by its inputs, and two builds
	// of them may differ in bytes.
	if _, err := t.Stat(ctx, name); err == nil || !errs.Is(err, errs.NotFound) {
		return false, err
	}
	f, err := blobs.Open(ctx, a.Digest)
	if err != nil {
		return false, err
	}
	defer f.Close()
	whole := func() *io.SectionReader { return io.NewSectionReader(f, 0, f.Size()) }
	got, err := store.Hash(whole())
	if err != nil {
		return false, errs.E(errs.Unavailable, "read "+a.Name, err)
	}
	if got != a.Digest {
		return false, errs.E(errs.Denied, fmt.Sprintf("it was changed in the artifact store: it is %s, released was %s", got.Short(), a.Digest.Short()))
	}
	if a.Class == distro.SState && sstate.Archive(path.Base(name)) {
		if signer == nil {
			return false, errs.E(errs.NotFound, "there is no key that signs the cache", errs.Hint("slipway key create makes one"))
		}
		m, err := sign.Hash(ctx, whole())
		if err != nil {
			return false, err
		}
		sig, err := signer.SignMidstate(ctx, m, at)
		if err != nil {
			return false, err
		}
		err = t.Create(ctx, name+".sig", bytes.NewReader(sig))
		if errs.Is(err, errs.Conflict) { // of a run that was cut off here, by another key or at another time
			err = t.Swap(ctx, name+".sig", sig)
		}
		if err != nil {
			return false, err
		}
	}
	return true, t.Create(ctx, name, whole())
}
