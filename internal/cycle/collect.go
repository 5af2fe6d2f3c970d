package cycle

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/layers"
	"slipway/internal/store"
)

// collect stores every artifact of the build by digest and notes it in the
// build's document.
func (w *Workspace) collect(ctx context.Context, b *Build, c *captured, builder Builder, numbers *numbers) (string, error) {
	var arts []distro.Artifact
	var packages []distro.PackageRecord
	var rows []distro.NumberRow
	put := func(class distro.Class, name, path string) (distro.Artifact, error) {
		d, size, err := store.PutFile(ctx, w.Blobs, path)
		a := distro.Artifact{Class: class, Name: name, Digest: d, Size: size}
		if err == nil {
			arts = append(arts, a)
		}
		return a, errs.Wrap(err, "store %s %s", class, name)
	}
	putBytes := func(class distro.Class, name string, data []byte) error {
		d, size, err := w.Blobs.Put(ctx, bytes.NewReader(data))
		arts = append(arts, distro.Artifact{Class: class, Name: name, Digest: d, Size: size})
		return errs.Wrap(err, "store %s %s", class, name)
	}
	releasedArtifact, err := w.releasedArtifacts(ctx)
	if err != nil {
		return "", err
	}
	for out, err := range builder.Collect(ctx, filepath.Join(w.work(b.ID), "build")) {
		if err != nil {
			return "", err
		}
		if out.Released {
			a, err := releasedArtifact(out.Class, out.Name)
			if err == nil {
				err = w.unchanged(a)
			}
			if err != nil {
				return "", err
			}
			arts = append(arts, a)
			continue
		}
		if out.Class == distro.Packages && out.Package.Kept {
			packages = append(packages, *out.Package)
			continue
		}
		if out.Class == distro.TestResults {
			kept, err := w.collectResults(ctx, *b, out)
			if err != nil {
				return "", err
			}
			arts = append(arts, kept...)
			continue
		}
		a, err := put(out.Class, out.Name, out.Path)
		if err != nil {
			return "", err
		}
		if out.Class == distro.Packages {
			if a.Digest != out.Package.Digest {
				return "", errs.E(errs.Denied, fmt.Sprintf("package %s changed while it was collected", out.Name), errs.Hint("build again; something else writes in "+w.work(b.ID)))
			}
			packages = append(packages, *out.Package)
		}
		if out.Class == distro.PRDatabase && out.Name == "numbers.json" {
			if err := readJSON(out.Path, &rows); err != nil {
				return "", err
			}
		}
	}
	if c.imported != nil {
		taken, err := w.takeDatabases(ctx, b, c.imported, numbers)
		if err != nil {
			return "", err
		}
		for _, o := range taken {
			if _, err := put(o.Class, o.Name, o.Path); err != nil {
				return "", err
			}
		}
	}
	databases, err := numbers.recordOutputs(ctx, w, b, rows)
	if err != nil {
		return "", err
	}
	classes := []distro.Class{distro.PRDatabase}
	if w.yocto() {
		classes = append(classes, distro.HashDatabase) // one file is both
	}
	for _, class := range classes {
		if _, err := put(class, databasesName, databases); err != nil {
			return "", err
		}
	}
	if err := putBytes(distro.Configuration, "slipway.yaml", c.definition); err != nil {
		return "", err
	}
	if err := putBytes(distro.Configuration, "revision.json", distro.CanonicalJSON(b.Revision)); err != nil {
		return "", err
	}
	var base Build
	if b.Base != "" {
		r, err := w.Release(ctx, b.Base)
		if err == nil {
			base, err = w.Build(ctx, string(r.Build))
		}
		if err != nil {
			return "", err
		}
	}
	for i, pin := range b.Revision.Layers {
		if a, ok := bundled(base, pin); ok {
			arts = append(arts, a)
			continue
		}
		bundle := filepath.Join(w.work(b.ID), "bundles", pin.Name+".bundle")
		if err := os.MkdirAll(filepath.Dir(bundle), 0o755); err != nil {
			return "", errs.E(errs.Unavailable, "write the layer's bundle", err)
		}
		repo, err := layers.Repository(ctx, w.Dir, layerOf(w.Definition.EnabledLayers()[i]))
		if err == nil {
			err = layers.Bundle(ctx, repo, pin.Commit, bundle)
		}
		if err != nil {
			return "", errs.Wrap(err, "bundle layer %s", pin.Name)
		}
		if _, err := put(distro.Configuration, "layers/"+pin.Name+".bundle", bundle); err != nil {
			return "", err
		}
	}
	for _, s := range b.Revision.Sources {
		arts = append(arts, distro.Artifact{Class: distro.Downloads, Name: s.Spec + "/" + s.Name, Digest: s.Digest, Size: s.Size})
	}
	sort.Slice(arts, func(i, j int) bool {
		if arts[i].Class != arts[j].Class {
			return arts[i].Class < arts[j].Class
		}
		return arts[i].Name < arts[j].Name
	})
	for i := range packages {
		if p := &packages[i]; !p.Kept || p.Internal != "" { // what is published stays in its feed
			p.Scope = distro.SplitScope(p.Scope, p.Name, w.Definition.Feeds.Separate)
		}
	}
	feed.SortRecords(packages)
	policy := w.Definition.PublicPolicy()
	judgePublic(policy, packages)
	nb, err := w.update(ctx, b.ID, "collected", func(x *Build) error {
		x.Artifacts, x.Packages, x.Numbers, x.Public = arts, packages, rows, &policy
		return nil
	})
	if err != nil {
		return "", err
	}
	*b = nb
	fresh, inside, others := len(fresh(packages)), "", 0
	if n := len(internal(packages)); n > 0 {
		inside = fmt.Sprintf(", %d internal", n)
	}
	for _, a := range arts {
		if a.Class != distro.Packages {
			others++
		}
	}
	return fmt.Sprintf("%d packages (%d new, %d kept%s), %d other artifacts", len(packages), fresh, len(public(packages))-fresh, inside, others), nil
}
