package cycle

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"slipway/internal/component"
	"slipway/internal/config"
	"slipway/internal/errs"
	"slipway/internal/layers"
)

// LayersOf lays out layers for the policy of package component, and calls f with them:
// those of components by name, of folders, or (no names) of the definition with its
// enabled components. Remote layers are fetched, unless folders alone are asked about; what is laid out is removed
// afterwards. All that cannot be had is reported at once.
func (w *Workspace) LayersOf(ctx context.Context, names []string, f func([]component.Question) error) error {
	lock, err := w.lock(ctx, "work")
	if err != nil {
		return err
	}
	defer lock.Release()
	dir := w.internal("work", "component-check")
	if err := removeAll(dir); err != nil {
		return err
	}
	defer removeAll(dir)
	release := w.Definition.Builder.Release
	var bad errs.List
	var out []component.Question
	all := w.Definition.EnabledLayers() // all that must provide what one depends on
	wanted := all
	if len(names) > 0 {
		wanted = nil
	}
	for _, n := range names {
		if c, ok := w.Definition.Component(n); ok {
			wanted = append(wanted, c.Layers...)
			for _, l := range c.Layers {
				if !named(all, l.Name) {
					all = append(all, l)
				}
			}
			continue
		}
		if info, err := os.Stat(n); err != nil || !info.IsDir() {
			bad = append(bad, errs.E(errs.NotFound, n+" is no component of slipway.yaml and no folder", errs.Hint("slipway component list; slipway component enable adds a known one")))
			continue
		}
		abs, err := filepath.Abs(n)
		if err != nil {
			return errs.E(errs.Invalid, "folder "+n, err)
		}
		out = append(out, component.Question{Name: filepath.Base(abs), Dir: abs, Release: release})
	}
	if err := bad.Err(); err != nil {
		return err
	}
	if len(wanted) == 0 { // folders alone: what they depend on is not asked, and nothing is fetched
		return f(out)
	}
	t := w.Talk.Step("fetch the layers")
	provided := []string{}
	for _, l := range all {
		q, err := w.layOutLayer(ctx, l, filepath.Join(dir, l.Name))
		if err != nil {
			if ctx.Err() != nil {
				return end(t, err, "")
			}
			bad = append(bad, err)
			continue
		}
		provided = append(provided, component.Collections(q.Dir)...)
		if q.Release = release; named(wanted, l.Name) && !isBitBake(q.Root) {
			out = append(out, q)
		}
	}
	if err := end(t, bad.Err(), ""); err != nil {
		return err
	}
	for i := range out {
		out[i].Provided = provided
	}
	return f(out)
}

func named(l []config.Layer, name string) bool {
	for _, x := range l {
		if x.Name == name {
			return true
		}
	}
	return false
}

// isBitBake tells BitBake's own repository, which is a layer of a definition and none
// of BitBake's.
func isBitBake(root string) bool {
	_, err := os.Stat(filepath.Join(root, "bin", "bitbake"))
	return err == nil
}

func (w *Workspace) layOutLayer(ctx context.Context, l config.Layer, to string) (component.Question, error) {
	q := component.Question{Name: l.Name, Dir: to, Root: to}
	pin, err := layers.Inspect(ctx, w.Dir, layerOf(l))
	if err != nil {
		return q, err
	}
	repo, err := layers.Repository(ctx, w.Dir, layerOf(l))
	if err != nil {
		return q, err
	}
	if pin.URL != "" { // README and licence may lie at its root
		q.Dir = filepath.Join(to, filepath.FromSlash(strings.TrimPrefix(pin.Path, "./")))
		pin.Path, pin.Tree = ".", ""
	}
	return q, errs.Wrap(layers.Export(ctx, repo, pin, to), "layer %s", l.Name)
}
