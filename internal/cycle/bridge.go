package cycle

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/keyring"
	"slipway/internal/rpm"
	"slipway/internal/state"
)

// Bridge publishes a release whose new packages the metadata key signs: devices know that
// one, and the release brings them the package key that signs from then on. It is the way
// on when a package key was revoked or lost and no next one had been listed
// (docs/keys.md). One of the packages must bring keys. After a crash the same call, or
// Publish, goes on.
func (w *Workspace) Bridge(ctx context.Context, v distro.Version) (Release, error) {
	r, err := w.Release(ctx, v)
	if err != nil {
		return r, w.notApproved(ctx, v, err)
	}
	if r.Status == distro.Publishing && !r.Bridge {
		b, err := w.Build(ctx, string(r.Build))
		if err != nil {
			return r, err
		}
		if err := w.mayBridge(ctx, b); err != nil {
			return r, err
		}
		if r, err = state.Update(ctx, w.State, kindRelease, string(v), func(x *Release) error { x.Bridge = true; return nil }); err != nil {
			return r, err
		}
	}
	if !r.Bridge {
		return r, errs.E(errs.Conflict, fmt.Sprintf("release %s is published, by the package key", v), errs.Hint("slipway build: only a release that is not published yet can be a bridge"))
	}
	return w.Publish(ctx, v)
}

// mayBridge refuses what must not, or need not, be signed by the metadata key.
func (w *Workspace) mayBridge(ctx context.Context, b Build) error {
	if _, err := w.bridgeEpoch(); err != nil {
		return err
	}
	l := w.layout()
	var brings []string
	for _, r := range fresh(b.Packages) {
		for epoch := feed.KeyEpoch; epoch <= max(feed.KeyEpoch, r.KeyEpoch)+1; epoch++ {
			if _, err := w.Tree.Stat(ctx, l.Pool(r.Scope, epoch, r.File)); err == nil {
				return errs.E(errs.Conflict, fmt.Sprintf("%s is signed by the package key already: this release is begun", r.NEVRA()), errs.Hintf("slipway publish %s", b.Version))
			} else if !errs.Is(err, errs.NotFound) {
				return err
			}
		}
		f, err := w.Blobs.Open(ctx, r.Digest)
		if err != nil {
			return errs.Wrap(err, "package %s of %s", r.File, b.ID)
		}
		p, err := rpm.Read(f, f.Size(), r.File)
		f.Close()
		if err != nil {
			return err
		}
		if slices.ContainsFunc(p.Files, func(x rpm.File) bool { return strings.HasPrefix(x.Path, "/etc/pki/rpm-gpg/") }) {
			brings = append(brings, r.NEVRA())
		}
	}
	if len(brings) == 0 {
		return errs.E(errs.Conflict, fmt.Sprintf("release %s brings no new package with keys in /etc/pki/rpm-gpg: nobody could go over this bridge", b.Version),
			errs.Hint("after slipway key create --role package a build makes the feeds package anew: slipway build"))
	}
	return nil
}

// bridgeEpoch is the key epoch that a bridge's packages lie in: that of the key which
// ended, so that publish --resign signs them again as all others.
func (w *Workspace) bridgeEpoch() (int, error) {
	ring, err := w.Keyring()
	if err != nil {
		return 0, err
	}
	epoch := 0
	for _, k := range ring.Of(keyring.Package) {
		if k.State != keyring.Current {
			epoch = max(epoch, k.Epoch, feed.KeyEpoch)
		}
	}
	if epoch == 0 {
		return 0, errs.E(errs.Conflict, "no package key was revoked or lost: devices know the one that signs", errs.Hint("slipway publish VERSION"), errs.Hint("slipway key list"))
	}
	return epoch, nil
}

// bridged makes a publisher of the production keys one whose packages the metadata key signs.
func (w *Workspace) bridged(p *feed.Publisher) error {
	epoch, err := w.bridgeEpoch()
	p.Package, p.Epoch, p.SignedBy = feed.OldestAlone(p.Metadata), epoch, distro.Bridged
	return err
}
