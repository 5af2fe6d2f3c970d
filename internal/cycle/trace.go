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
	newestFirst(builds)
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

// newestFirst sorts builds by their begin.
func newestFirst(builds []Build) {
	slices.SortFunc(builds, func(x, y Build) int {
		switch {
		case before(y, x):
			return -1
		case before(x, y):
			return 1
		}
		return 0
	})
}

// before reports whether a build was begun before another one; times are whole seconds.
func before(x, y Build) bool {
	if !x.Created.Equal(y.Created) {
		return x.Created.Before(y.Created)
	}
	if x.Version != y.Version {
		return x.Version.Compare(y.Version) < 0
	}
	return x.ID.N() < y.ID.N()
}

// lastGood finds the newest candidate before b (builds: newest first) whose same check
// came to its end and did not find f.
func lastGood(builds []Build, b Build, f distro.Finding) (Build, bool) {
	for _, x := range builds {
		if x.Status != distro.Candidate || !before(x, b) {
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

// traceFailure says of a failed build which layers have what failed, and which commits
// came since the last build that ended as a candidate. It is talk for people: what
// cannot be read is left out.
func (w *Workspace) traceFailure(ctx context.Context, b Build, f *Failure) {
	good := Build{}
	builds, err := w.Builds(ctx)
	if err == nil {
		for _, x := range builds {
			if x.Status == distro.Candidate && before(x, b) && (good.ID == "" || before(good, x)) {
				good, f.Since = x, x.ID.Candidate()
			}
		}
	}
	if r, err := w.Release(ctx, b.Base); b.Base != "" && err == nil && (good.ID == "" || r.Build == good.ID) {
		f.Since = "release " + string(b.Base)
		if base, err := w.Build(ctx, string(r.Build)); err == nil {
			good = base
		}
	}
	sources := f.Sources
	if len(sources) == 0 {
		sources = []string{""}
	}
	for _, s := range sources {
		if s != "" {
			f.Paths = append(f.Paths, w.layersOf(ctx, b, s)...)
		}
		for _, c := range w.commitsSince(ctx, b, good, s) {
			if !slices.Contains(f.Commits, c) {
				f.Commits = append(f.Commits, c)
			}
		}
	}
	if len(f.Commits) == 0 && len(f.Sources) > 0 { // what it needs may have changed
		f.Commits = w.commitsSince(ctx, b, good, "")
	}
}
