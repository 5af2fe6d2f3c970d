package feed

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpm"
	"slipway/internal/rpmmd"
)

// indexKind is one of the two indexes of a scope, each made from the last one of
// its kind. Of the default index there are two forms, snapshot and current: the
// hrefs in primary.xml differ by the depth of their folders, all else is one.
type indexKind string

const (
	indexDefault indexKind = "default"
	indexHistory indexKind = "history"
)

// scopeIndex is an index of a scope, ready to be written.
type scopeIndex struct {
	kind               indexKind
	scope              string
	repomd, twinRepomd []byte // twin: the form current of the default index
	files, twinFiles   []*rpmmd.DataFile
	packages           int
	twinSig            []byte       // over twinRepomd; nil: not made yet
	state              *rpmmd.State // nil: the cache is up to date
	memo               memo
	of                 []distro.PackageRecord // Edition.Index; nil: not looked at
	opened             []io.Closer            // what files are copied from
	donor              *rpmmd.Donor           // for an index beside it; nil: none
}

func (x *scopeIndex) close() {
	if x == nil {
		return
	}
	for _, c := range x.opened {
		c.Close()
	}
	x.opened = nil
}

// memo is what a state says of the edition that it is of.
type memo struct {
	Serial int `json:"serial"`
	// Edition is its digest, see [Edition.digest].
	Edition distro.Digest `json:"edition"`
	// Data and Twin are the folders of the data files in the tree.
	Data   string `json:"data"`
	Twin   string `json:"twin,omitempty"`
	Repomd string `json:"repomd"`
	// TwinRepomd is that of the form current.
	TwinRepomd string `json:"twin_repomd,omitempty"`
}

// makeIndex makes an index, nothing is written. Only packages that the last index
// of the kind did not have are read from the pool.
func (p *Publisher) makeIndex(ctx context.Context, kind indexKind, scope string, e *Edition) (*scopeIndex, error) {
	last, lastMemo, x := p.recall(kind, scope)
	x.memo = memo{Serial: e.Serial, Edition: e.digest(scope), Data: p.Layout.Snapshot(e.Serial) + "/" + scope + "/repodata/"}
	twin := p.Layout.Current(scope) + "/repodata/"
	folder := p.Layout.Snapshot(e.Serial) + "/" + scope
	if kind == indexHistory {
		folder = p.Layout.History(scope)
		x.memo.Data = folder + "/repodata/"
	} else {
		x.memo.Twin = twin
	}
	open := p.opener(ctx, x, lastMemo.Data)
	pool := path.Dir(p.Layout.Pool(scope, KeyEpoch, ""))[len(p.Layout.Series)+1:] + "/"
	href := p.Layout.up(folder) + pool
	u := rpmmd.Update{
		Options: rpmmd.Options{Revision: fmt.Sprint(e.Serial), Timestamp: e.At.Unix()},
		Last:    last, Open: open, Load: p.loader(scope),
	}
	if kind == indexDefault {
		var err error
		if u.Updateinfo, err = p.updateinfo(e, scope); err != nil {
			x.close()
			return nil, errs.Wrap(err, "advisories of %s", folder)
		}
		// Packages replace each other anywhere; the history only grows.
		u.NoOpenChecksum = true
		u.Twin = &rpmmd.Twin{From: href, To: p.Layout.up(p.Layout.Current(scope)) + pool, Open: p.opener(ctx, x, lastMemo.Twin)}
	}
	if d := p.pending[scope]; kind == indexHistory && last == nil && d != nil && d.donor != nil && d.donor.Twin.To == href {
		u.Donor = d.donor
	}
	if last != nil && e.Lists != nil {
		made, err := p.fromLast(ctx, kind, u, x, lastMemo, ofScope(e.New, scope), href, e)
		if made || err != nil {
			return x, err
		}
	}
	if err := e.load(ctx); err != nil {
		return nil, err
	}
	x.of = e.Index
	records := ofScope(e.History, scope)
	if kind == indexDefault {
		records = ofScope(e.Index, scope)
		slices.SortFunc(records, bySort)
	}
	items := func(yield func(rpmmd.Item) bool) {
		for _, r := range records {
			if !yield(item(kind, r, href)) {
				return
			}
		}
	}
	md, err := u.Do(ctx, items)
	if errs.Is(err, errs.Conflict) && last != nil {
		u.Last = nil // what the cache tells of is not there any more, or was changed
		md, err = u.Do(ctx, items)
	}
	if err != nil {
		x.close()
		return nil, errs.Wrap(err, "index of %s", folder)
	}
	x.take(md, lastMemo)
	if kind == indexDefault && last == nil {
		x.donor = &rpmmd.Donor{Index: md, Twin: u.Twin}
	}
	return x, nil
}

// take fills in what an Update made.
func (x *scopeIndex) take(md *rpmmd.Index, last memo) {
	x.repomd, x.files, x.twinRepomd, x.twinFiles = md.Repomd, md.Files, md.TwinRepomd, md.TwinFiles
	x.packages, x.state = md.Packages, md.State
	x.memo.Repomd, x.memo.TwinRepomd = string(md.Repomd), string(md.TwinRepomd)
	if md.Same && x.memo == last {
		x.state = nil
	}
}

// fromLast makes the index from the last one and what is new. It reports false
// when the lists are needed.
func (p *Publisher) fromLast(ctx context.Context, kind indexKind, u rpmmd.Update, x *scopeIndex, last memo, fresh []*distro.PackageRecord, href string, e *Edition) (bool, error) {
	unusable := func(err error) (bool, error) {
		if errs.Is(err, errs.Conflict) {
			err = nil
		}
		return false, err
	}
	if last.Serial == e.Serial && last.Edition == x.memo.Edition && last.Data == x.memo.Data && last.Twin == x.memo.Twin {
		// The same again: what is there must only be as it was left.
		n := 0
		err := u.Last.Check(func(name string) (io.ReaderAt, error) {
			if n++; n > 3 {
				return u.Twin.Open(name)
			}
			return u.Open(name)
		})
		if err != nil {
			return unusable(err)
		}
		x.memo, x.repomd, x.twinRepomd, x.packages = last, []byte(last.Repomd), []byte(last.TwinRepomd), u.Last.Packages()
		return true, nil
	}
	if last.Serial != e.Base {
		return false, nil
	}
	items := func(l []*distro.PackageRecord) []rpmmd.Item {
		out := make([]rpmmd.Item, len(l))
		for i, r := range l {
			out[i] = item(kind, r, href)
		}
		return out
	}
	add, remove := fresh, []string(nil)
	if kind == indexHistory {
		slices.SortStableFunc(add, bySort) // as [InOrder] has them
		if again, err := u.Last.HasAny(items(fresh)); again || err != nil {
			return unusable(err)
		}
	} else {
		var ok bool
		var err error
		if add, remove, ok, err = change(u.Last, fresh); !ok || err != nil {
			return unusable(err)
		}
	}
	md, err := u.Change(ctx, items(add), remove)
	if err != nil {
		return unusable(err)
	}
	x.take(md, last)
	return true, nil
}

// opener opens data files below a folder of the tree, for as long as x is open.
func (p *Publisher) opener(ctx context.Context, x *scopeIndex, folder string) func(string) (io.ReaderAt, error) {
	return func(name string) (io.ReaderAt, error) {
		f, err := p.Tree.Open(ctx, folder+name)
		if err != nil {
			return nil, err
		}
		x.opened = append(x.opened, f)
		return f, nil
	}
}

// loader reads packages of the pool.
func (p *Publisher) loader(scope string) func(context.Context, rpmmd.Item) (rpmmd.Entry, error) {
	return func(ctx context.Context, it rpmmd.Item) (rpmmd.Entry, error) {
		r, ok := it.Ref.(*distro.PackageRecord)
		if !ok {
			return rpmmd.Entry{}, errs.E(errs.Conflict, rpmmd.Unusable) // the last index should have had it
		}
		name := p.Layout.Package(*r)
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
}

// poolEntry is how a package of the pool stands in an index. Its time is that of
// its build: it is the same in every index, and for whoever copies the pool.
func poolEntry(pkg *rpm.Package, href string) rpmmd.Entry {
	return rpmmd.Entry{Package: pkg, Href: href, FileTime: pkg.BuildTime}
}

func (p *Publisher) cacheFile(kind indexKind, scope string) string {
	return filepath.Join(p.Cache, fmt.Sprintf("%s-%s-%s.state", p.Layout.Series, scope, kind))
}

// recall gives what is known of the last index of a kind. What cannot be read is
// not known: it costs time only. The index that it gives keeps the state open.
func (p *Publisher) recall(kind indexKind, scope string) (*rpmmd.State, memo, *scopeIndex) {
	x := &scopeIndex{kind: kind, scope: scope}
	var m memo
	if p.Cache == "" {
		return nil, m, x
	}
	f, err := os.Open(p.cacheFile(kind, scope))
	if err != nil {
		return nil, m, x
	}
	x.opened = append(x.opened, f)
	st, err := f.Stat()
	if err != nil {
		return nil, m, x
	}
	s, extra, err := rpmmd.ReadState(f, st.Size())
	if err != nil || json.Unmarshal(extra, &m) != nil || !strings.HasPrefix(m.Data, p.Layout.Series+"/") {
		return nil, memo{}, x
	}
	return s, m, x
}

// keepState stores what recall gives. It is not synced: a state that a power cut
// damaged has wrong checksums.
func (p *Publisher) keepState(ctx context.Context, x *scopeIndex) error {
	if x.state == nil {
		return nil
	}
	n := 0
	data, twin := p.opener(ctx, x, x.memo.Data), p.opener(ctx, x, x.memo.Twin)
	if err := x.state.Stamp(func(name string) (io.ReaderAt, error) {
		if n++; n > 3 {
			return twin(name)
		}
		return data(name)
	}); err != nil {
		return err
	}
	path := p.cacheFile(x.kind, x.scope)
	f, err := os.Create(path + ".new")
	if err == nil {
		_, err = x.state.WriteTo(f, bytes.TrimSpace(distro.CanonicalJSON(x.memo)))
		err = errors.Join(err, f.Close())
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
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
