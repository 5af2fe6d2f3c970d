package cycle

import (
	"context"
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

// answered gives a bed the memory of earlier good answers, and a list of those
// that were of use.
func (w *Workspace) answered(ctx context.Context, bed *check.Bed) (used func() []distro.Digest, err error) {
	a, _, err := state.Load[Answers](ctx, w.State, kindAnswers, w.Definition.Series.Name)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return nil, err
	}
	var mu sync.Mutex
	var list []distro.Digest
	bed.Answered = func(inputs distro.Digest) (string, bool) {
		b, ok := a.Good[inputs]
		if ok {
			mu.Lock()
			list = append(list, inputs)
			mu.Unlock()
		}
		return b.Candidate(), ok
	}
	return func() []distro.Digest { mu.Lock(); defer mu.Unlock(); return list }, nil
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
