package cycle

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Collection is what a collection removed, or would remove, and why the rest stays.
type Collection struct {
	DryRun  bool          `json:"dry_run"`
	Removed []Collected   `json:"removed"`
	Kept    []KeptBecause `json:"kept"`
	Bytes   int64         `json:"bytes"` // removed
}

// Collected is a blob of the artifact store, or a folder of the workspace.
type Collected struct {
	Blob   distro.Digest `json:"blob,omitempty"`
	Folder string        `json:"folder,omitempty"` // below the workspace
	Bytes  int64         `json:"bytes"`
	Why    string        `json:"why"`
}

// KeptBecause is how much stays for one reason. What several reasons keep is counted
// with the first: releases, then candidates, then builds.
type KeptBecause struct {
	Why   string `json:"why"`
	Blobs int    `json:"blobs"`
	Bytes int64  `json:"bytes"`
}

// mark is a document that names blobs.
type mark struct {
	why  string
	dead bool
	refs []distro.Digest
}

var anyDigest = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

// refs gives every digest that a document holds, whatever it is there for: to keep
// too much is safe.
func refs(doc []byte) []distro.Digest {
	var out []distro.Digest
	for _, m := range anyDigest.FindAll(doc, -1) {
		out = append(out, distro.Digest(m))
	}
	return out
}

// Collect removes what nothing needs any more: blobs that only failed builds and
// rejected candidates name, or no document at all, and the work and quarantine
// folders of such builds. The newest keep of those builds stay as they are, for who
// wants to look. It never touches the publication. Nobody may build, test or
// publish meanwhile: Locked. Killed anywhere, it leaves a workspace that is sound,
// and the same command goes on. With dryRun nothing is locked or removed.
func (w *Workspace) Collect(ctx context.Context, keep int, dryRun bool) (Collection, error) {
	c := Collection{DryRun: dryRun, Removed: []Collected{}, Kept: []KeptBecause{}}
	if !dryRun {
		for _, name := range []string{"work", "publish"} {
			l, err := w.lock(ctx, name)
			if err != nil {
				return c, err
			}
			defer l.Release()
		}
	}
	marks, deadBuilds, err := w.marks(ctx, keep)
	if err != nil {
		return c, err
	}
	if err := w.collectBlobs(ctx, &c, marks); err != nil {
		return c, err
	}
	return c, w.collectFolders(ctx, &c, deadBuilds)
}

// marks gives the documents that name blobs, those that keep them first, and of
// every build that is known why it is dead, or "".
func (w *Workspace) marks(ctx context.Context, keep int) ([]mark, map[distro.BuildID]string, error) {
	var live, dead []mark
	builds := map[distro.BuildID]string{}
	releases, err := w.Releases(ctx)
	if err != nil {
		return nil, nil, err
	}
	released := map[distro.BuildID]distro.Version{}
	for _, r := range releases {
		released[r.Build] = r.Version
		live = append(live, mark{why: "release " + string(r.Version), refs: refs(distro.CanonicalJSON(r))})
	}
	all, err := w.Builds(ctx)
	if err != nil {
		return nil, nil, err
	}
	slices.SortStableFunc(all, func(a, b Build) int { return b.Created.Compare(a.Created) })
	for _, b := range all {
		m := mark{refs: refs(distro.CanonicalJSON(b))}
		v, isReleased := released[b.ID]
		switch {
		case isReleased:
			m.why = "release " + string(v)
		case b.Status == distro.BuildFail:
			m.why, m.dead = fmt.Sprintf("build %s failed", b.ID), true
		case b.Candidate.Status == distro.Rejected:
			m.why, m.dead = fmt.Sprintf("candidate %s was rejected", b.ID.Candidate()), true
		case b.Status == distro.Candidate:
			m.why = "candidate " + b.ID.Candidate()
		default:
			m.why = fmt.Sprintf("build %s is %s", b.ID, b.Status)
		}
		if m.dead && keep > 0 {
			keep--
			m.dead, m.why = false, m.why+", and is one of the newest"
		}
		builds[b.ID] = ""
		if m.dead {
			builds[b.ID] = m.why
			dead = append(dead, m)
		} else {
			live = append(live, m)
		}
	}
	// Every other kind of document belongs here: what is not listed keeps nothing.
	for _, kind := range []string{kindSeries, kindJournal, kindAnswers, kindBoards, kindRebuild, kindBisect} {
		docs, err := w.State.List(ctx, kind)
		if err != nil {
			return nil, nil, err
		}
		for _, d := range docs {
			live = append(live, mark{why: "the workspace's " + kind + " documents", refs: refs(d.Data)})
		}
	}
	return append(live, dead...), builds, nil
}

func (w *Workspace) collectBlobs(ctx context.Context, c *Collection, marks []mark) error {
	by := map[distro.Digest]int{} // the first mark
	for i, m := range marks {
		for _, d := range m.refs {
			if _, ok := by[d]; !ok {
				by[d] = i
			}
		}
	}
	kept := map[string]int{} // why -> its place in Kept
	var remove []Collected
	for d, err := range w.Blobs.List(ctx) {
		if err != nil {
			return err
		}
		size, err := w.Blobs.Stat(ctx, d)
		if err != nil {
			return err
		}
		i, named := by[d]
		switch {
		case !named:
			remove = append(remove, Collected{Blob: d, Bytes: size, Why: "no document names it"})
		case marks[i].dead:
			remove = append(remove, Collected{Blob: d, Bytes: size, Why: marks[i].why})
		default:
			why := marks[i].why
			n, ok := kept[why]
			if !ok {
				n = len(c.Kept)
				kept[why] = n
				c.Kept = append(c.Kept, KeptBecause{Why: why})
			}
			c.Kept[n].Blobs++
			c.Kept[n].Bytes += size
		}
	}
	for _, x := range remove {
		if !c.DryRun {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if err := w.Blobs.Delete(ctx, x.Blob); err != nil {
				return err
			}
		}
		c.Removed = append(c.Removed, x)
		c.Bytes += x.Bytes
	}
	return nil
}

// collectFolders removes the folders of dead builds, and those whose build no
// document knows.
func (w *Workspace) collectFolders(ctx context.Context, c *Collection, builds map[distro.BuildID]string) error {
	for _, kind := range []string{"work", "quarantine"} {
		entries, err := os.ReadDir(w.internal(kind))
		if err != nil && !os.IsNotExist(err) {
			return errs.E(errs.Unavailable, "look into "+w.internal(kind), err)
		}
		for _, e := range entries {
			id, err := distro.ParseBuildID(e.Name())
			if err != nil || !e.IsDir() {
				continue // not ours
			}
			why, known := builds[id]
			switch {
			case !known:
				why = fmt.Sprintf("no build %s is known", id)
			case why == "":
				continue
			}
			path := w.internal(kind, e.Name())
			size := folderSize(path)
			if !c.DryRun {
				if err := context.Cause(ctx); err != nil {
					return err
				}
				if err := removeAll(path); err != nil {
					return err
				}
			}
			c.Removed = append(c.Removed, Collected{Folder: filepath.Join(".slipway", kind, e.Name()), Bytes: size, Why: why})
			c.Bytes += size
		}
	}
	return nil
}

// folderSize is that of all files; what cannot be read counts nothing.
func folderSize(dir string) int64 {
	var n int64
	filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if st, err := e.Info(); err == nil {
				n += st.Size()
			}
		}
		return nil
	})
	return n
}
