package cycle

import (
	"context"
	"fmt"
	"strings"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/keyring"
	"slipway/internal/state"
)

// Resign signs everything that is offered again, into the key epoch of the package key
// that is in force, and publishes that as a new serial: the cure of a compromised key
// (docs/keys.md). Header digests stay, so that statements and tests still hold; the old
// files stay, for whoever is pinned to them. After a metadata key was revoked it makes a serial of
// the same packages, whose indexes the key of today signs. Conflict when all is signed by that epoch
// already. After a crash the same call goes on.
func (w *Workspace) Resign(ctx context.Context, by, because string) (Change, error) {
	if because = strings.TrimSpace(because); because == "" {
		return Change{}, errs.E(errs.Invalid, "signing everything again needs a reason", errs.Hint("slipway publish --resign --because TEXT"))
	}
	lock, err := w.lock(ctx, "publish")
	if err != nil {
		return Change{}, err
	}
	defer lock.Release()
	c, begun, err := w.unfinished(ctx)
	if err != nil {
		return c, err
	}
	if !begun || c.Kind != Resigning {
		if c, err = w.decideResigning(ctx, by, because); err != nil {
			return c, err
		}
	}
	if err := w.publishChange(ctx, c); err != nil {
		return c, err
	}
	c, _, err = state.Load[Change](ctx, w.State, kindChange, c.id())
	return c, err
}

func (w *Workspace) decideResigning(ctx context.Context, by, because string) (Change, error) {
	if err := w.free(ctx); err != nil {
		return Change{}, err
	}
	s, err := w.series(ctx)
	if err != nil {
		return Change{}, err
	}
	if s.Head == "" {
		return Change{}, errs.E(errs.NotFound, "nothing is published yet: there is nothing to sign again", errs.Hint("slipway build"))
	}
	keys, err := w.Keys()
	if err != nil {
		return Change{}, err
	}
	old, err := w.published(ctx)
	if err != nil {
		return Change{}, err
	}
	stale := false
	for _, r := range old {
		stale = stale || max(r.KeyEpoch, feed.KeyEpoch) < keys.Epoch
	}
	if !stale {
		// A metadata key that was revoked since the newest serial: its indexes count no more.
		if stale, err = w.metadataRevoked(ctx); err != nil {
			return Change{}, err
		}
	}
	if !stale {
		return Change{}, errs.E(errs.Conflict, fmt.Sprintf("every package is signed into key epoch %d, that of the package key: there is nothing to sign again", max(keys.Epoch, feed.KeyEpoch)),
			errs.Hint("slipway key revoke ends a compromised key; docs/keys.md, A compromised key"))
	}
	at, err := w.decide(ctx)
	if err != nil {
		return Change{}, err
	}
	c := Change{Serial: s.Serial + 1, Series: s.Name, Kind: Resigning, Release: s.Head, Status: distro.Publishing, Epoch: keys.Epoch,
		Decision: distro.Approval{By: by, Because: because, At: at}}
	_, err = state.Upsert(ctx, w.State, kindChange, c.id(), func(x *Change) error { *x = c; return nil }, state.NewEvent{Kind: kindChange, ID: c.id(), Type: "decided"})
	return c, err
}

// metadataRevoked reports whether a metadata key was revoked after the newest serial was
// decided: it may have signed what is current.
func (w *Workspace) metadataRevoked(ctx context.Context) (bool, error) {
	ring, err := w.Keyring()
	if err != nil {
		return false, err
	}
	releases, err := w.Releases(ctx)
	if err != nil {
		return false, err
	}
	changes, err := w.Changes(ctx)
	if err != nil {
		return false, err
	}
	last, _ := lastDecision(releases, changes)
	var resigned time.Time
	for _, c := range changes {
		if c.Kind == Resigning && c.Decision.At.After(resigned) {
			resigned = c.Decision.At
		}
	}
	// Both are whole seconds. In the second of a revocation a release may have come before it,
	// and is signed again; a resigning came after it.
	for _, k := range ring.Of(keyring.Metadata) {
		if k.State == keyring.Revoked && !k.Changed.Before(last) && k.Changed.After(resigned) {
			return true, nil
		}
	}
	return false, nil
}

// resign signs what is offered into the change's epoch, and notes the twins.
func (w *Workspace) resign(ctx context.Context, p *feed.Publisher, c Change) (Change, error) {
	if p.Epoch != c.Epoch {
		return c, errs.E(errs.Conflict, fmt.Sprintf("this was decided for key epoch %d, and the package key is of epoch %d now", c.Epoch, p.Epoch), errs.Hint("slipway key list"))
	}
	// Before any signature: with keys other than the published ones nothing is signed.
	if err := p.WriteKeys(ctx); err != nil {
		return c, err
	}
	old, err := w.published(ctx)
	if err != nil {
		return c, err
	}
	var twins []distro.PackageRecord
	for _, r := range old {
		t, err := p.ResignPackage(ctx, r, c.Decision.At)
		if err != nil {
			return c, err
		}
		if t.Digest != r.Digest {
			twins = append(twins, t)
		}
	}
	return state.Update(ctx, w.State, kindChange, c.id(), func(x *Change) error { x.Packages = twins; return nil })
}
