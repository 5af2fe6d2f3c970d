package cycle

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/layers"
	"slipway/internal/store"
)

// Restored says what restore brought.
type Restored struct {
	Version   distro.Version `json:"version"`
	Dir       string         `json:"dir"`
	Packages  int            `json:"packages"`
	Artifacts int            `json:"artifacts"`
	Layers    []string       `json:"layers"` // folders, checked out at their commits
	Bytes     int64          `json:"bytes"`
	// Removed are files of the release that were removed by law: names in the folder, each
	// with the notice that stands in the publication.
	Removed []RemovedByLaw `json:"removed,omitempty"`
}

// RemovedByLaw is a file that cannot be restored.
type RemovedByLaw struct {
	File   string `json:"file"`   // where it would be, below the folder
	Notice string `json:"notice"` // name in the publication
}

// Restore brings a release back as one set into a folder that must not exist or
// be empty (default: .slipway/restored/<version>): the statement, every artifact
// by class, the signed packages by scope, and the layers checked out from their
// bundles at the commits of the release. Every byte is checked against the
// statement; the folder appears whole or not at all.
func (w *Workspace) Restore(ctx context.Context, v distro.Version, into string) (Restored, error) {
	if into == "" {
		into = w.internal("restored", string(v))
	}
	into, err := filepath.Abs(into)
	if err != nil {
		return Restored{}, errs.E(errs.Invalid, "folder "+into, err)
	}
	out := Restored{Version: v, Dir: into}
	r, err := w.Release(ctx, v)
	if err != nil {
		return out, err
	}
	if r.Status == distro.Publishing {
		return out, errs.E(errs.Conflict, fmt.Sprintf("release %s is not published yet", v), errs.Hintf("slipway publish %s", v))
	}
	if entries, err := os.ReadDir(into); err == nil && len(entries) > 0 {
		return out, errs.E(errs.Conflict, "folder "+into+" is not empty", errs.Hint("name another folder with --into, or remove it"))
	}
	b, err := w.Build(ctx, string(r.Build))
	if err != nil {
		return out, err
	}
	statement, err := feed.ReadFile(ctx, w.Tree, w.layout().Statement(v))
	if err != nil {
		return out, errs.Wrap(err, "statement of release %s", v)
	}
	if got := distro.DigestOf(statement); got != r.Statement {
		return out, errs.E(errs.Denied, fmt.Sprintf("the published statement of release %s was changed: %s, recorded %s", v, got.Short(), r.Statement.Short()),
			errs.Hint("slipway verify names every changed file of the publication"))
	}
	tmp := into + ".partial"
	if err := removeAll(tmp); err != nil {
		return out, err
	}
	defer os.RemoveAll(tmp)
	t := w.Talk.Step("restore release " + string(v))
	err = w.restoreInto(ctx, tmp, r, b, statement, &out)
	if err == nil {
		os.Remove(into) // empty, or absent
		if rerr := os.Rename(tmp, into); rerr != nil {
			err = errs.E(errs.Unavailable, "put the restored release at "+into, rerr)
		}
	}
	summary := fmt.Sprintf("%d packages, %d other artifacts, each checked by digest", out.Packages, out.Artifacts)
	if len(out.Removed) > 0 {
		summary += fmt.Sprintf("; %d files were removed by law and are not there", len(out.Removed))
	}
	return out, end(t, err, summary)
}

func (w *Workspace) restoreInto(ctx context.Context, dir string, r Release, b Build, statement []byte, out *Restored) error {
	if err := writeFile(filepath.Join(dir, "release.json"), bytes.NewReader(statement), 0o644); err != nil {
		return errs.E(errs.Unavailable, "write "+dir, err)
	}
	var found errs.List
	copyChecked := func(f store.Blob, err error, want distro.Digest, name string) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err == nil {
			defer f.Close()
			if werr := writeFile(path, f, 0o644); werr != nil {
				err = errs.E(errs.Unavailable, "write "+path, werr, errs.Hint("free space, or name another folder with --into"))
			}
		}
		if err == nil {
			var got distro.Digest
			var size int64
			if got, size, err = hashFile(path); err == nil && got != want {
				err = errs.E(errs.Denied, fmt.Sprintf("stored bytes changed: %s, stated %s", got.Short(), want.Short()))
			}
			out.Bytes += size
		}
		if err != nil {
			found = append(found, errs.Wrap(err, "%s", name))
		}
	}
	gone, err := w.gone(ctx)
	if err != nil {
		return err
	}
	removed := func(serial int, name string) bool {
		if serial > 0 {
			out.Removed = append(out.Removed, RemovedByLaw{name, w.layout().Removal(serial)})
		}
		return serial > 0
	}
	for _, p := range r.Packages {
		if removed(gone.packages[p.Scope+"/"+p.File], "packages/"+p.Scope+"/"+p.File) {
			continue
		}
		f, err := w.Tree.Open(ctx, w.layout().Package(p))
		copyChecked(f, err, p.Digest, "packages/"+p.Scope+"/"+p.File)
		out.Packages++
	}
	for _, p := range r.Internal {
		f, err := w.Blobs.Open(ctx, p.Digest)
		copyChecked(f, err, p.Digest, "internal-packages/"+p.Scope+"/"+p.File)
		out.Packages++
	}
	for _, a := range b.Artifacts {
		if a.Class == distro.Packages {
			continue
		}
		if a.Class == distro.Images {
			board, file, _ := strings.Cut(a.Name, "/")
			if removed(gone.files[feed.ImageName(b.Series, board, r.Version, file)], string(a.Class)+"/"+a.Name) {
				continue
			}
		}
		if a.Class == distro.SDK && removed(gone.files[feed.SDKName(b.Series, r.Version, a.Name)], string(a.Class)+"/"+a.Name) {
			continue
		}
		if removed(gone.cached(a), string(a.Class)+"/"+a.Name) {
			continue
		}
		f, err := w.Blobs.Open(ctx, a.Digest)
		copyChecked(f, err, a.Digest, string(a.Class)+"/"+a.Name)
		out.Artifacts++
	}
	if err := found.Err(); err != nil {
		return err
	}
	for _, pin := range b.Revision.Layers {
		dest := filepath.Join(dir, "layers", pin.Name)
		if err := layers.Restore(ctx, filepath.Join(dir, string(distro.Configuration), "layers", pin.Name+".bundle"), pin.Commit, dest); err != nil {
			return errs.Wrap(err, "layer %s", pin.Name)
		}
		out.Layers = append(out.Layers, "layers/"+pin.Name)
	}
	return nil
}

func hashFile(path string) (distro.Digest, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", 0, err
	}
	d, err := store.Hash(f)
	return d, st.Size(), err
}
