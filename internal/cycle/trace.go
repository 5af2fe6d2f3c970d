package cycle

import (
	"context"
	"path"
	"slices"
	"strings"

	"slipway/internal/distro"
)

// layersOf gives where the layers have a recipe or spec: layer and folder in it.
func (w *Workspace) layersOf(ctx context.Context, b Build, source string) []string {
	var out []string
	for _, l := range b.Revision.Layers {
		for _, p := range w.sourcePaths(b, l, source) {
			if w.layerHas(ctx, b, l, source) {
				out = append(out, path.Join(l.Name, strings.TrimPrefix(strings.TrimPrefix(p, l.Path), "/")))
			}
		}
	}
	return out
}

// trace says of each finding of a recipe or spec which layer has it, and of one that
// blocks which candidate the check last found good: the commits are those since.
func (w *Workspace) trace(ctx context.Context, b Build, results []distro.CheckResult) error {
	builds, err := w.Builds(ctx)
	if err != nil {
		return err
	}
	slices.SortStableFunc(builds, func(x, y Build) int { return y.Created.Compare(x.Created) })
	where := map[string][]string{}
	for _, r := range results {
		for i := range r.Findings {
			f := &r.Findings[i]
			if f.Source == "" {
				continue
			}
			if _, ok := where[f.Source]; !ok {
				where[f.Source] = w.layersOf(ctx, b, f.Source)
			}
			f.Paths = where[f.Source]
			if f.Level != distro.Block {
				continue
			}
			if good, ok := lastGood(builds, b, *f); ok {
				f.Since, f.Commits = good.ID.Candidate(), w.commitsSince(ctx, b, good, f.Source)
			}
		}
	}
	return nil
}

// lastGood finds the newest candidate before b (builds: newest first) whose same check
// came to its end and did not find f.
func lastGood(builds []Build, b Build, f distro.Finding) (Build, bool) {
	for _, x := range builds {
		if x.ID == b.ID || !x.Created.Before(b.Created) || x.Status != distro.Candidate {
			continue
		}
		for _, r := range x.Candidate.Checks {
			if r.Spec.ID == f.Check && r.Error == "" && r.Asked > 0 && !slices.ContainsFunc(r.Findings, func(g distro.Finding) bool { return g.ID == f.ID }) {
				return x, true
			}
		}
	}
	return Build{}, false
}
