package cycle

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/state"
)

// Withdraw takes a release back, for a reason. A new serial offers what the releases
// before it and beside it brought; what only this one brought is in no index any more,
// and no later release brings it back. Its bytes stay, for whoever is pinned to it, and
// so do its numbers. A release that is approved and that no snapshot names yet is taken
// back without a serial. Withdrawing what is withdrawn is no error; after a crash the
// same call goes on.
func (w *Workspace) Withdraw(ctx context.Context, v distro.Version, by, because string) (Release, error) {
	if because = strings.TrimSpace(because); because == "" {
		return Release{}, errs.E(errs.Invalid, "a withdrawal needs a reason: it is published", errs.Hintf("slipway withdraw %s --because TEXT", v))
	}
	lock, err := w.lock(ctx, "publish")
	if err != nil {
		return Release{}, err
	}
	defer lock.Release()
	r, err := w.Release(ctx, v)
	if err != nil {
		return r, err
	}
	c, begun, err := w.unfinished(ctx)
	if err != nil {
		return r, err
	}
	switch {
	case begun && c.Withdrawn == v: // as it was decided then
	case begun:
		return r, w.free(ctx)
	case r.Status == distro.Withdrawn:
		return r, nil
	case r.Status == distro.Publishing:
		return w.takeBack(ctx, r, by, because)
	default:
		if c, err = w.decideWithdrawal(ctx, r, by, because); err != nil {
			return r, err
		}
	}
	if err := w.publishChange(ctx, c); err != nil {
		return r, err
	}
	return w.Release(ctx, v)
}

// decideWithdrawal writes the decision down: from here the same serial is published,
// whatever happens.
func (w *Workspace) decideWithdrawal(ctx context.Context, r Release, by, because string) (Change, error) {
	if err := w.free(ctx); err != nil {
		return Change{}, err
	}
	releases, err := w.Releases(ctx)
	if err != nil {
		return Change{}, err
	}
	var head distro.Version
	for _, x := range releases {
		if x.Status == distro.Published && x.Version != r.Version && (head == "" || x.Version.Compare(head) > 0) {
			head = x.Version
		}
	}
	if head == "" {
		return Change{}, errs.E(errs.Conflict, fmt.Sprintf("release %s is the only one of series %s: there is nothing to go back to", r.Version, r.Series), errs.Hint("mend it, and slipway build: the next release replaces it"))
	}
	s, err := w.series(ctx)
	if err != nil {
		return Change{}, err
	}
	at, err := w.decide(ctx)
	if err != nil {
		return Change{}, err
	}
	c := Change{Serial: s.Serial + 1, Series: r.Series, Kind: Withdrawal, Release: head, Status: distro.Publishing, Withdrawn: r.Version,
		Decision: distro.Approval{By: by, Because: because, At: at}}
	_, err = state.Upsert(ctx, w.State, kindChange, c.id(), func(x *Change) error { *x = c; return nil }, state.NewEvent{Kind: kindChange, ID: c.id(), Type: "decided"})
	return c, err
}

// takeBack ends a release that is approved and was never seen, because a file of it
// was lost for instance. Its serial was given to nobody.
func (w *Workspace) takeBack(ctx context.Context, r Release, by, because string) (Release, error) {
	l := w.layout()
	seen := false
	for _, err := range w.Tree.List(ctx, l.Snapshot(r.Serial)+"/") {
		if err != nil {
			return r, err
		}
		seen = true
		break
	}
	if _, err := w.Tree.Stat(ctx, l.Statement(r.Version)); err == nil {
		seen = true
	} else if !errs.Is(err, errs.NotFound) {
		return r, err
	}
	if seen {
		return r, errs.E(errs.Conflict, fmt.Sprintf("release %s is half published: its snapshot is written, for ever", r.Version), errs.Hintf("slipway publish %s, then withdraw it", r.Version))
	}
	at := w.now()
	r, err := state.Update(ctx, w.State, kindRelease, string(r.Version), func(x *Release) error {
		if err := distro.CanMove("release", string(r.Version), x.Status, distro.Withdrawn); err != nil {
			return err
		}
		x.Status, x.Withdrawal = distro.Withdrawn, &distro.Approval{By: by, Because: because, At: at}
		return nil
	}, state.NewEvent{Kind: kindRelease, ID: string(r.Version), Type: "withdrawn"})
	if err == nil {
		w.moveToQuarantine(r.Build)
	}
	return r, err
}

// offered gives everything that releases published and that was not taken back, in the
// order of publication.
func offered(releases []Release) []distro.PackageRecord {
	all := slices.SortedStableFunc(slices.Values(releases), func(a, b Release) int { return a.Serial - b.Serial })
	var lists [][]distro.PackageRecord
	for _, r := range all {
		if r.Status == distro.Published {
			lists = append(lists, feed.InOrder(r.Packages))
		}
	}
	return feed.Append(lists...)
}
