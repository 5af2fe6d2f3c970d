package feed

import (
	"context"
	"fmt"
	"io"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/store"
)

// epoch is the one that packages are signed into now.
func (p *Publisher) epoch() int { return max(p.Epoch, KeyEpoch) }

// ResignPackage signs a published package again, into the publisher's key epoch, and
// gives the record of that twin: the header, and so what was tested, is the same. Its
// file must be what the record says; a record of that epoch is given back as it is.
func (p *Publisher) ResignPackage(ctx context.Context, r distro.PackageRecord, at time.Time) (distro.PackageRecord, error) {
	if epochOf(r) >= p.epoch() {
		return r, nil
	}
	name := p.Layout.Package(r)
	f, err := p.Tree.Open(ctx, name)
	if err != nil {
		return r, errs.Wrap(err, "sign %s again", r.NEVRA())
	}
	defer f.Close()
	got, err := store.Hash(io.NewSectionReader(f, 0, f.Size()))
	if err != nil {
		return r, errs.Wrap(err, "read %s", name)
	}
	if got != r.Digest {
		return r, errs.E(errs.Denied, fmt.Sprintf("%s is not what was published: %s, stated %s: it is not signed again", name, got.Short(), r.Digest.Short()),
			errs.Hint("restore it from a mirror or an export; slipway verify names every such file"))
	}
	return p.AddPackage(ctx, r, f, f.Size(), at)
}

// conflict compares a package with what the pool has under its name, in whatever epoch.
func (p *Publisher) conflict(ctx context.Context, r distro.PackageRecord) error {
	for epoch := KeyEpoch; epoch <= p.epoch(); epoch++ {
		name := p.Layout.Pool(r.Scope, epoch, r.File)
		pkg, err := p.header(ctx, name)
		if errs.Is(err, errs.NotFound) {
			continue
		}
		if notice, ok := p.notice(ctx, name); err != nil && ok {
			return errs.E(errs.Conflict, fmt.Sprintf("%s was published, and removed by law on %s: %s", r.NEVRA(), notice.At.Format(time.DateOnly), notice.Because),
				errs.Hintf("a name is given once: change what %s holds, raise Version or Release, and build again", r.SourceName))
		}
		if err != nil {
			return errs.Wrap(err, "read published %s", r.NEVRA())
		}
		if pkg.HeaderDigest != r.HeaderDigest {
			return errs.E(errs.Conflict,
				fmt.Sprintf("%s is published with other content: header %s there, %s here", r.NEVRA(), pkg.HeaderDigest.Short(), r.HeaderDigest.Short()),
				errs.Hintf("published bytes are for ever: raise Version or Release of %s and build again", r.SourceName))
		}
	}
	return nil
}

// Twins puts in the place of each record the newest one of the same package: where a
// package was signed again, that is the twin.
func Twins(records, twins []distro.PackageRecord) []distro.PackageRecord {
	if len(twins) == 0 {
		return records
	}
	type key struct{ scope, file string }
	newest := map[key]distro.PackageRecord{}
	for _, t := range twins {
		if was, ok := newest[key{t.Scope, t.File}]; !ok || epochOf(t) > epochOf(was) {
			newest[key{t.Scope, t.File}] = t
		}
	}
	out := make([]distro.PackageRecord, len(records))
	for i, r := range records {
		if t, ok := newest[key{r.Scope, r.File}]; ok && epochOf(t) > epochOf(r) && t.HeaderDigest == r.HeaderDigest {
			r.Digest, r.Size, r.KeyEpoch, r.SignedBy = t.Digest, t.Size, t.KeyEpoch, t.SignedBy
		}
		out[i] = r
	}
	return out
}
