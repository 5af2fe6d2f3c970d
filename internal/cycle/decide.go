package cycle

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/state"
)

// Approve makes a ready candidate a release: a named person's decision. From
// here the version belongs to this candidate for ever; publish brings it out.
// Approving again what is approved is no error.
func (w *Workspace) Approve(ctx context.Context, name, by, because string) (Release, error) {
	if strings.TrimSpace(by) == "" {
		return Release{}, errs.E(errs.Invalid, "an approval needs a name", errs.Hint("slipway approve "+name+" --by \"Your Name\""))
	}
	lock, err := w.lock(ctx, "publish")
	if err != nil {
		return Release{}, err
	}
	defer lock.Release()
	b, err := w.candidate(ctx, name)
	if err != nil {
		return Release{}, err
	}
	if b.Candidate.Status == distro.Approved {
		return w.finishApproval(ctx, b)
	}
	st, err := w.candidateStatus(ctx, b)
	if err != nil {
		return Release{}, err
	}
	if err := w.free(ctx); err != nil {
		return Release{}, err
	}
	at, err := w.decide(ctx)
	if err != nil {
		return Release{}, err
	}
	verdict := w.Judge(b)
	switch {
	case st == distro.Stale:
		return Release{}, errs.E(errs.Conflict, fmt.Sprintf("candidate %s is stale: it was built on %s, and another release came first", b.ID.Candidate(), orNone(b.Base)), errs.Hint("slipway build"))
	case st == distro.Testing:
		return Release{}, errs.E(errs.Conflict, fmt.Sprintf("candidate %s has not been tested", b.ID.Candidate()), errs.Hint("slipway test "+b.ID.Candidate()))
	case st == distro.Blocked || verdict.Status == distro.Blocked:
		return Release{}, errs.E(errs.Refused, fmt.Sprintf("candidate %s is blocked", b.ID.Candidate()), errs.Hint("slipway check "+b.ID.Candidate()+" shows every reason"),
			errs.Hint("slipway waive records a dated exception"))
	case st != distro.Ready:
		return Release{}, distro.CanMove("candidate", b.ID.Candidate(), st, distro.Approved)
	}
	if err := w.reviewed(ctx, b); err != nil {
		return Release{}, err
	}
	b, err = w.update(ctx, b.ID, "approved", func(x *Build) error {
		if err := distro.CanMove("candidate", b.ID.Candidate(), x.Candidate.Status, distro.Approved); err != nil {
			return err
		}
		x.Candidate.Status, x.Candidate.Verdict = distro.Approved, &verdict
		x.Candidate.Approval = &distro.Approval{By: by, Because: because, At: at}
		return nil
	})
	if err != nil {
		return Release{}, err
	}
	return w.finishApproval(ctx, b)
}

// finishApproval makes the release's document; after a crash between the two
// writes the same approval finishes here.
func (w *Workspace) finishApproval(ctx context.Context, b Build) (Release, error) {
	if err := w.settleDatabases(ctx); err != nil {
		return Release{}, err
	}
	s, err := w.series(ctx)
	if err != nil {
		return Release{}, err
	}
	r, _, err := state.Load[Release](ctx, w.State, kindRelease, string(b.Version))
	if err == nil {
		return r, nil
	}
	if !errs.Is(err, errs.NotFound) {
		return r, err
	}
	return state.Upsert(ctx, w.State, kindRelease, string(b.Version), func(r *Release) error {
		if r.Version != "" {
			return nil
		}
		*r = Release{Version: b.Version, Series: b.Series, Build: b.ID, Status: distro.Publishing, Base: b.Base, Serial: s.Serial + 1,
			Approval: *b.Candidate.Approval, Packages: public(b.Packages), Internal: internal(b.Packages), Numbers: b.Numbers}
		return nil
	}, state.NewEvent{Kind: kindRelease, ID: string(b.Version), Type: "approved"})
}

// Reject drops a candidate: its numbers stay burned, its folder is quarantined,
// and nothing of it can reach a feed or the next build.
func (w *Workspace) Reject(ctx context.Context, name, by, because string) (Build, error) {
	if strings.TrimSpace(because) == "" {
		return Build{}, errs.E(errs.Invalid, "a rejection needs a reason", errs.Hint("slipway reject "+name+" --because TEXT"))
	}
	lock, err := w.lock(ctx, "publish")
	if err != nil {
		return Build{}, err
	}
	defer lock.Release()
	b, err := w.candidate(ctx, name)
	if err != nil {
		return b, err
	}
	if b.Candidate.Status == distro.Rejected {
		w.moveToQuarantine(b.ID)
		return b, w.settleDatabases(ctx)
	}
	b, err = w.update(ctx, b.ID, "rejected", func(x *Build) error {
		if err := distro.CanMove("candidate", b.ID.Candidate(), x.Candidate.Status, distro.Rejected); err != nil {
			return err
		}
		x.Candidate.Status = distro.Rejected
		x.Candidate.Rejection = &distro.Approval{By: by, Because: because, At: w.now()}
		return nil
	})
	if err == nil {
		w.moveToQuarantine(b.ID)
		err = w.settleDatabases(ctx)
	}
	return b, err
}

func orNone(v distro.Version) string {
	if v == "" {
		return "no release"
	}
	return "release " + string(v)
}

func sorted[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

func removeAll(path string) error {
	if err := os.RemoveAll(path); err != nil {
		return errs.E(errs.Unavailable, "remove "+path, err)
	}
	return nil
}
