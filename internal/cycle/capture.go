package cycle

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/layers"
	"slipway/internal/rpmbuild"
	"slipway/internal/state"
)

// captured is a revision with the bytes that its digests name.
type captured struct {
	revision   distro.Revision
	definition []byte
	conf       map[string][]byte // generated feed configuration
	imported   *importing        // what another CI built; nil when this workspace builds
}

// capture reads everything that decides a build: the definition, the layers as
// really checked out, the sources, the feed configuration, the builder's tools
// and the base release. All that is wrong is reported at once, and nothing is
// recorded.
func (w *Workspace) capture(ctx context.Context, builder Builder, from *importing) (*captured, error) {
	d := w.Definition
	if err := d.CheckFolders(w.Dir); err != nil {
		return nil, err
	}
	c := &captured{imported: from, revision: distro.Revision{Schema: 1, Distribution: d.Distribution, Series: d.Series.Name, Conf: map[string]distro.Digest{}}}
	r := &c.revision
	var found errs.List
	var err error
	if c.definition, err = os.ReadFile(filepath.Join(w.Dir, "slipway.yaml")); err != nil {
		return nil, errs.E(errs.NotFound, "slipway.yaml", err)
	}
	r.Definition = distro.DigestOf(c.definition)
	all := d.EnabledLayers()
	if from != nil {
		all = from.layers
	}
	for _, l := range all {
		pin, err := layers.Inspect(ctx, w.Dir, layerOf(l))
		if err == nil {
			err = from.here(l, pin)
		}
		if err != nil {
			found = append(found, err)
			continue
		}
		r.Layers = append(r.Layers, pin)
	}
	if r.Sources, err = rpmbuild.ReadLock(filepath.Join(w.Dir, "sources.lock")); err != nil {
		found = append(found, err)
	}
	for _, s := range r.Sources {
		if _, err := w.Blobs.Stat(ctx, s.Digest); err != nil {
			found = append(found, errs.E(errs.NotFound, fmt.Sprintf("source %s of %s (%s, %s) is not in the artifact store", s.Name, s.Spec, s.Origin, s.Digest.Short()), err,
				errs.Hint("slipway source lock takes it from this machine again; slipway restore brings it from a release")))
		}
	}
	if r.Builder, err = builder.Pin(ctx); err != nil {
		found = append(found, err)
	} else if from != nil {
		r.Builder.Tools["packages"] = string(from.digest)
	}
	public, err := w.Public()
	if err != nil {
		found = append(found, err)
	}
	if err := found.Err(); err != nil {
		return nil, err
	}
	c.conf = feed.Configuration(d.Distribution, d.Title, d.Series.Name, d.Feeds.BaseURL, w.deviceScopes(), public)
	for name, b := range c.conf {
		r.Conf[name] = distro.DigestOf(b)
	}
	s, err := w.series(ctx)
	if err != nil {
		return nil, err
	}
	if r.Base = s.Head; s.Head != "" {
		base, err := w.Release(ctx, s.Head)
		if err != nil {
			return nil, err
		}
		r.BaseDigest = base.Statement
	}
	return c, nil
}

func layerOf(l config.Layer) layers.Layer {
	return layers.Layer{Name: l.Name, URL: l.URL, Branch: l.Branch, Commit: l.Commit, Path: l.Path}
}

// seed lays out what the builder gets in the build's folder: layers at their
// commits, sources by digest, feed configuration, and the base's PR database
// and packages. Running it again gives the same.
func (w *Workspace) seed(ctx context.Context, b Build, c *captured) (distro.Seed, error) {
	dir := w.work(b.ID)
	s := distro.Seed{Version: b.Version, Build: b.ID, Title: w.Definition.Title, Layers: map[string]string{},
		Sources: filepath.Join(dir, "sources"), FeedConfig: filepath.Join(dir, "feed-configuration")}
	if w.yocto() {
		var err error
		if s.Layers, err = w.checkOut(ctx, b.Revision, filepath.Join(dir, "layers"), func(i int) (string, error) {
			return layers.Repository(ctx, w.Dir, layerOf(w.Definition.EnabledLayers()[i]))
		}); err != nil {
			return s, err
		}
	}
	for i, pin := range b.Revision.Layers {
		if w.yocto() {
			break
		}
		dest := filepath.Join(dir, "layers", pin.Name)
		if err := os.RemoveAll(dest); err != nil {
			return s, errs.E(errs.Unavailable, "clear "+dest, err)
		}
		repo, err := layers.Repository(ctx, w.Dir, layerOf(w.Definition.EnabledLayers()[i]))
		if err == nil {
			err = layers.Export(ctx, repo, pin, dest)
		}
		if err != nil {
			return s, errs.Wrap(err, "check out layer %s", pin.Name)
		}
		s.Layers[pin.Name] = dest
	}
	if !w.yocto() {
		boards, err := w.boards(w.exportedLayer(b.ID))
		if err != nil {
			return s, err
		}
		for _, board := range boards {
			s.Boards = append(s.Boards, board.forScopes())
		}
	}
	for _, pin := range b.Revision.Sources {
		if err := w.copyBlob(ctx, pin.Digest, filepath.Join(s.Sources, pin.Digest.Hex())); err != nil {
			return s, errs.Wrap(err, "source %s of %s", pin.Name, pin.Spec)
		}
	}
	for name, data := range c.conf {
		if err := writeFile(filepath.Join(s.FeedConfig, name), bytes.NewReader(data), 0o644); err != nil {
			return s, errs.E(errs.Unavailable, "write the feed configuration", err)
		}
	}
	if b.Base != "" {
		base, err := w.Release(ctx, b.Base)
		if err != nil {
			return s, err
		}
		twins, err := w.twins(ctx)
		if err != nil {
			return s, err
		}
		gone, err := w.gone(ctx)
		if err != nil {
			return s, err
		}
		s.Numbers, s.Packages = base.Numbers, slices.Concat(gone.standing(feed.Twins(base.Packages, twins)), base.Internal)
	}
	if w.yocto() {
		return s, w.seedBitBake(ctx, b, &s)
	}
	return s, nil
}

func (w *Workspace) copyBlob(ctx context.Context, d distro.Digest, dest string) error {
	f, err := w.Blobs.Open(ctx, d)
	if err != nil {
		return err
	}
	defer f.Close()
	return errs.Wrap(writeFile(dest, f, 0o644), "write %s", dest)
}

// lendBlob lays out a blob for somebody who only reads it: as a second name of the
// store's own file, which is write-protected, where there is one; else as a copy.
func (w *Workspace) lendBlob(ctx context.Context, d distro.Digest, dest string) error {
	f, err := w.Blobs.Open(ctx, d)
	if err != nil {
		return err
	}
	defer f.Close()
	if beneath, ok := f.(interface{ OSFile() *os.File }); ok {
		if err := os.MkdirAll(filepath.Dir(dest), 0o755); err != nil {
			return err
		}
		if os.Link(beneath.OSFile().Name(), dest) == nil {
			return nil
		}
	}
	return errs.Wrap(writeFile(dest, f, 0o644), "write %s", dest)
}

// commits gives the commits since the base release that touch a spec, newest
// first, as "1a2b3c4d subject"; for "" those of all layers. It is talk for
// people: what cannot be read is left out.
func (w *Workspace) commits(ctx context.Context, b Build, source string) []string {
	var base Build
	if b.Base != "" {
		bb, err := w.Release(ctx, b.Base)
		if err != nil {
			return nil
		}
		if base, _, err = state.Load[Build](ctx, w.State, kindBuild, string(bb.Build)); err != nil {
			return nil
		}
	}
	return w.commitsSince(ctx, b, base, source)
}

// commitsSince is commits since another build; since the beginning when it is none.
func (w *Workspace) commitsSince(ctx context.Context, b, base Build, source string) []string {
	from := map[string]string{}
	for _, l := range base.Revision.Layers {
		from[l.Name] = l.Commit
	}
	var out []string
	for i, l := range b.Revision.Layers {
		if i >= len(w.Definition.EnabledLayers()) {
			break
		}
		if from[l.Name] == "" && l.URL != "" {
			continue // all of another project's history
		}
		repo, err := layers.Repository(ctx, w.Dir, layerOf(w.Definition.EnabledLayers()[i]))
		if err != nil {
			continue
		}
		for _, path := range w.sourcePaths(b, l, source) {
			log, err := layers.Log(ctx, repo, from[l.Name], l.Commit, path)
			if err != nil {
				continue
			}
			for _, c := range log {
				if s := fmt.Sprintf("%.10s %s", c.ID, c.Subject); !slices.Contains(out, s) {
					out = append(out, s)
				}
			}
		}
	}
	return out
}
