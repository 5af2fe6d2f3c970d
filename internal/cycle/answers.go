package cycle

import (
	"context"
	"slices"
	"strings"
	"sync"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpm"
	"slipway/internal/state"
)

// Answers remembers questions of checks whose answer was good, by the digest of
// all that decides the answer. They are asked again only when something of that
// has changed, or when a person wants it (slipway test --again).
type Answers struct {
	Good map[distro.Digest]distro.BuildID `json:"good"` // -> the build that it was last of use for
}

// keepAnswers is how many of the newest builds of a series keep their answers alive.
const keepAnswers = 50

// remember adds what this build's checks answered, and what they took from earlier
// ones, and forgets what no build of late had a use for.
func (w *Workspace) remember(ctx context.Context, b distro.BuildID, good, used []distro.Digest) error {
	if len(good)+len(used) == 0 {
		return nil
	}
	builds, err := w.Builds(ctx)
	if err != nil {
		return err
	}
	alive := map[distro.BuildID]bool{b: true}
	for i, x := range builds { // newest first
		if i < keepAnswers {
			alive[x.ID] = true
		}
	}
	_, err = state.Upsert(ctx, w.State, kindAnswers, w.Definition.Series.Name, func(a *Answers) error {
		kept := map[distro.Digest]distro.BuildID{}
		for inputs, build := range a.Good {
			if alive[build] {
				kept[inputs] = build
			}
		}
		for _, inputs := range append(good, used...) {
			kept[inputs] = b
		}
		a.Good = kept
		return nil
	})
	return err
}

// usedAnswers are earlier answers that were of use in a test: their inputs, and the
// builds that they were last of use for, sorted as text.
type usedAnswers struct {
	inputs []distro.Digest
	builds []distro.BuildID
}

// answered gives a bed the memory of earlier good answers, and tells afterwards which
// were of use.
func (w *Workspace) answered(ctx context.Context, bed *check.Bed) (used func() usedAnswers, err error) {
	a, _, err := state.Load[Answers](ctx, w.State, kindAnswers, w.Definition.Series.Name)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return nil, err
	}
	var mu sync.Mutex
	var list usedAnswers
	bed.Answered = func(inputs distro.Digest) (string, bool) {
		b, ok := a.Good[inputs]
		if ok {
			mu.Lock()
			list.inputs, list.builds = append(list.inputs, inputs), append(list.builds, b)
			mu.Unlock()
		}
		return b.Candidate(), ok
	}
	return func() usedAnswers {
		mu.Lock()
		defer mu.Unlock()
		slices.Sort(list.builds)
		list.builds = slices.Compact(list.builds)
		return list
	}, nil
}

// stands adds to a check's evidence what earlier tests left and still holds, since the
// question was not asked again: of the same candidate, and of those whose answers were of
// use. The next release's checks read it: a kernel's log, for one.
func (w *Workspace) stands(ctx context.Context, b Build, used []distro.BuildID, o check.Outcome, r *distro.CheckResult) error {
	if len(o.Stands) == 0 {
		return nil
	}
	from := []Build{b}
	for _, id := range used {
		other, err := w.Build(ctx, string(id))
		switch {
		case errs.Is(err, errs.NotFound):
		case err != nil:
			return err
		default:
			from = append(from, other)
		}
	}
	for _, x := range from {
		for _, old := range x.Candidate.Checks {
			if old.Spec.ID != r.Spec.ID {
				continue
			}
			for _, a := range old.Evidence {
				name := strings.TrimPrefix(a.Name, "test/"+r.Spec.ID+"/")
				if !slices.ContainsFunc(o.Stands, func(s string) bool { return strings.HasPrefix(name, s) }) ||
					slices.ContainsFunc(r.Evidence, func(e distro.Artifact) bool { return e.Name == a.Name }) {
					continue
				}
				switch _, err := w.Blobs.Stat(ctx, a.Digest); {
				case errs.Is(err, errs.NotFound): // collected with its build
				case err != nil:
					return err
				default:
					r.Evidence = append(r.Evidence, a)
				}
			}
		}
	}
	return nil
}

// headers reads the headers of a side's packages, each once.
type headers struct {
	side side
	mu   sync.Mutex
	read map[distro.Digest]*rpm.Package
}

// get gives the header of a package.
func (h *headers) get(ctx context.Context, r distro.PackageRecord) (*rpm.Package, error) {
	h.mu.Lock()
	p := h.read[r.HeaderDigest]
	h.mu.Unlock()
	if p != nil {
		return p, nil
	}
	p, err := h.side.read(ctx, r)
	if err == nil {
		h.mu.Lock()
		h.read[r.HeaderDigest] = p
		h.mu.Unlock()
	}
	return p, err
}

// closures gives what takes part in installing each of a feed's packages alone,
// for Bed.Inputs and Bed.NoPrograms. The headers are read when it is first asked;
// when one cannot be read nothing is known, and all is asked.
func (h *headers) closures(ctx context.Context, feed []distro.PackageRecord) func() *check.Closures {
	return sync.OnceValue(func() *check.Closures {
		var all []*rpm.Package
		for _, r := range check.Binary(feed) {
			p, err := h.get(ctx, r)
			if err != nil {
				return check.NewClosures(nil)
			}
			all = append(all, p)
		}
		return check.NewClosures(all)
	})
}

// know lets a bed ask what its packages' headers tell.
func (h *headers) know(ctx context.Context, bed *check.Bed) {
	closures := h.closures(ctx, bed.Packages)
	bed.Inputs = func(r distro.PackageRecord) (distro.Digest, bool) { return closures().Inputs(r.HeaderDigest) }
	bed.NoPrograms = func(r distro.PackageRecord) bool { return closures().NoPrograms(r.HeaderDigest) }
	bed.Read = h.get
}
