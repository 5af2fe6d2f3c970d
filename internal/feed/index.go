package feed

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpm"
	"slipway/internal/rpmmd"
)

// indexKind is one of the three indexes that a publish writes of a scope. Each
// is made from the last one of its kind. Snapshot and current hold the same, but
// their hrefs differ by the depth of their folders.
type indexKind string

const (
	indexSnapshot indexKind = "snapshot"
	indexCurrent  indexKind = "current"
	indexHistory  indexKind = "history"
)

// writeIndex writes the metadata files of one index, named by checksum, and
// gives the bytes of its repomd.xml. Only packages that the last index of the
// kind did not have are read from the pool.
func (p *Publisher) writeIndex(ctx context.Context, kind indexKind, scope, folder string, records []*distro.PackageRecord, e Edition) ([]byte, error) {
	repodata := folder + "/repodata/"
	last, lastData := p.recall(kind, scope)
	var opened []io.Closer
	defer func() {
		for _, c := range opened {
			c.Close()
		}
	}()
	open := func(name string) (io.ReaderAt, error) {
		f, err := p.Tree.Open(ctx, name)
		if err != nil {
			return nil, err
		}
		opened = append(opened, f)
		return f, nil
	}
	up := p.Layout.up(folder)
	u := rpmmd.Update{
		Options: rpmmd.Options{Revision: fmt.Sprint(e.Serial), Timestamp: e.At.Unix()},
		Last:    last, Open: func(name string) (io.ReaderAt, error) { return open(lastData + name) },
		// In the default index packages replace each other anywhere; the history only grows.
		NoOpenChecksum: kind != indexHistory,
		Memo:           &p.memo,
	}
	pool := p.Layout.Pool(scope, KeyEpoch, "")
	href := up + pool[len(p.Layout.Series)+1:] + "/"
	items := func(yield func(rpmmd.Item) bool) {
		var id []byte
		for _, r := range records {
			id = append(append(id[:0], r.Digest...), r.HeaderDigest...)
			it := rpmmd.Item{ID: string(id), Href: href + r.File, Ref: r}
			if kind != indexHistory {
				it.Cut = r.Name
			}
			if !yield(it) {
				return
			}
		}
	}
	u.Load = func(ctx context.Context, it rpmmd.Item) (rpmmd.Entry, error) {
		r := it.Ref.(*distro.PackageRecord)
		name := p.Layout.Pool(scope, KeyEpoch, r.File)
		pkg, err := p.header(ctx, name)
		if err != nil {
			return rpmmd.Entry{}, errs.Wrap(err, "index %s", r.NEVRA())
		}
		if pkg.HeaderDigest != r.HeaderDigest {
			return rpmmd.Entry{}, errs.E(errs.Denied, fmt.Sprintf("%s in the pool is not what release statements say: header %s, stated %s", name, pkg.HeaderDigest.Short(), r.HeaderDigest.Short()),
				errs.Hint("the publication was changed from outside: slipway verify names every such file"))
		}
		with := *pkg
		with.Digest, with.Size = r.Digest, r.Size
		return poolEntry(&with, it.Href), nil
	}
	x, err := u.Do(ctx, items)
	if errs.Is(err, errs.Conflict) && last != nil {
		u.Last = nil // what the cache tells of is not there any more, or was changed
		x, err = u.Do(ctx, items)
	}
	if err != nil {
		return nil, errs.Wrap(err, "index of %s", folder)
	}
	for _, f := range x.Files {
		if err := p.Tree.Create(ctx, repodata+f.Name, f.Reader()); err != nil {
			return nil, errs.Wrap(err, "write metadata")
		}
	}
	if p.Cache != "" {
		if err := x.State.Stamp(func(name string) (io.ReaderAt, error) { return open(repodata + name) }); err != nil {
			return nil, err
		}
		if err := p.keep(kind, scope, x.State, repodata); err != nil {
			return nil, err
		}
	}
	return x.Repomd, nil
}

// poolEntry is how a package of the pool stands in an index. Its time is that of
// its build: it is the same in every index, and for whoever copies the pool.
func poolEntry(pkg *rpm.Package, href string) rpmmd.Entry {
	return rpmmd.Entry{Package: pkg, Href: href, FileTime: pkg.BuildTime}
}

func (p *Publisher) cacheFile(kind indexKind, scope string) string {
	return filepath.Join(p.Cache, fmt.Sprintf("%s-%s-%s.state", p.Layout.Series, scope, kind))
}

// recall gives what is known of the last index of a kind, and where its data
// files are. What cannot be read is not known: it costs time only.
func (p *Publisher) recall(kind indexKind, scope string) (*rpmmd.State, string) {
	if p.Cache == "" {
		return nil, ""
	}
	b, err := os.ReadFile(p.cacheFile(kind, scope))
	if err != nil {
		return nil, ""
	}
	s, repodata, err := rpmmd.DecodeState(b)
	if err != nil || !strings.HasPrefix(string(repodata), p.Layout.Series+"/") {
		return nil, ""
	}
	return s, string(repodata)
}

// keep stores what recall gives. It is not synced: a state that a power cut
// damaged has a wrong checksum.
func (p *Publisher) keep(kind indexKind, scope string, s *rpmmd.State, repodata string) error {
	path := p.cacheFile(kind, scope)
	if err := os.MkdirAll(p.Cache, 0o755); err != nil {
		return errs.E(errs.Unavailable, "keep the state of the index", err)
	}
	if err := os.WriteFile(path+".new", s.Encode([]byte(repodata)), 0o644); err != nil {
		return errs.E(errs.Unavailable, "keep the state of the index", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return errs.E(errs.Unavailable, "keep the state of the index", err)
	}
	return nil
}

// ofScope gives the records of a scope, in their order.
func ofScope(l []distro.PackageRecord, scope string) []*distro.PackageRecord {
	out := make([]*distro.PackageRecord, 0, len(l))
	for i := range l {
		if l[i].Scope == scope {
			out = append(out, &l[i])
		}
	}
	return out
}

// bySource is ofScope with what comes from one recipe together, so that a change
// stays within a few frames.
func bySource(l []distro.PackageRecord, scope string) []*distro.PackageRecord {
	out := ofScope(l, scope)
	slices.SortFunc(out, func(a, b *distro.PackageRecord) int {
		return cmp.Or(strings.Compare(a.SourceName, b.SourceName), strings.Compare(a.Name, b.Name),
			distro.CompareEVR(a.Epoch, a.Version, a.Release, b.Epoch, b.Version, b.Release), strings.Compare(a.File, b.File))
	})
	return out
}
