package cycle

import (
	"context"
	"fmt"
	"io"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/store"
)

// addPackages signs the new packages of a build into a publisher's pool.
func (w *Workspace) addPackages(ctx context.Context, p *feed.Publisher, b Build, fresh []distro.PackageRecord) ([]distro.PackageRecord, error) {
	date := b.Created
	if b.Candidate.Approval != nil {
		date = b.Candidate.Approval.At
	}
	list := make([]feed.Unsigned, len(fresh))
	for i, r := range fresh {
		list[i] = feed.Unsigned{Record: r, Open: func(ctx context.Context) (store.Blob, error) { return w.collected(ctx, b, r) }}
	}
	return p.AddPackages(ctx, list, date)
}

// collected opens a package of a build in the artifact store, as it was collected.
func (w *Workspace) collected(ctx context.Context, b Build, r distro.PackageRecord) (store.Blob, error) {
	f, err := w.Blobs.Open(ctx, r.Digest)
	if err != nil {
		return nil, errs.Wrap(err, "package %s of %s", r.File, b.ID)
	}
	// The header's digest, which signing checks, says nothing of the payload.
	got, err := store.Hash(io.NewSectionReader(f, 0, f.Size()))
	switch {
	case err != nil:
		err = errs.E(errs.Unavailable, fmt.Sprintf("read package %s of %s", r.File, b.ID), err)
	case got != r.Digest:
		err = errs.E(errs.Denied, fmt.Sprintf("package %s of %s was changed in the artifact store: it is %s, collected was %s", r.File, b.ID, got.Short(), r.Digest.Short()),
			errs.Hintf("bring %s of the store back from a backup; a candidate that is not approved can be rejected and built again", r.Digest))
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
