package feed

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpmmd"
	"slipway/internal/store"
)

// Edition is what one publish brings: the snapshot's serial and release, the
// date of the approval, the default index and all that was ever published.
//
// With Lists, the publisher needs the lists of all packages only when it does not
// know edition Base well enough; else a publish costs what New brings. The bytes
// are the same.
type Edition struct {
	Serial  int
	Release distro.Version
	At      time.Time
	// Withdrawn are the releases that were taken back, as the snapshot says them.
	Withdrawn []Withdrawn
	// Advisories are all that were published, for the updateinfo.xml of the default index.
	Advisories []distro.Advisory
	// Removed are all removals, as the snapshot says them.
	Removed []Removed
	Index   []distro.PackageRecord
	History []distro.PackageRecord // in the order of publication, what one release brought [InOrder]: see [Append]

	// Lists gives Index and History, which are then not looked at: History is that
	// of Base and New, in this order, Index the [Newest] of them that are not
	// withdrawn. New may hold what was published before.
	Lists func(ctx context.Context) (index, history []distro.PackageRecord, err error)
	Base  int // serial of the edition before; 0 for the first
	New   []distro.PackageRecord

	digests map[string]distro.Digest // see digest
}

// WriteSnapshot writes the immutable snapshot: metadata by checksum, then each
// scope's repomd.xml.asc and repomd.xml, then snapshot.json.asc and
// snapshot.json.
func (p *Publisher) WriteSnapshot(ctx context.Context, e Edition) (Snapshot, error) {
	s := Snapshot{Schema: 1, Distribution: p.Distribution, Series: p.Layout.Series, Serial: e.Serial, Release: e.Release, At: e.At.UTC(), Withdrawn: e.Withdrawn, Removed: e.Removed}
	folder := p.Layout.Snapshot(e.Serial)
	scopes, err := p.resolve(ctx, &e)
	if err != nil {
		return s, err
	}
	p.drop()
	for _, scope := range scopes {
		x, err := p.makeIndex(ctx, indexDefault, scope, &e)
		if err != nil {
			return s, err
		}
		p.pending[scope] = x
		if err := p.create(ctx, folder+"/"+scope, x.files); err != nil {
			return s, err
		}
		if _, err := p.createSigned(ctx, folder+"/"+scope+"/repodata/repomd.xml", ".asc", x.repomd, e.At); err != nil {
			return s, err
		}
		if x.twinSig, err = p.createSigned(ctx, p.Layout.keptCurrent(e.Serial, scope), ".asc", x.twinRepomd, e.At); err != nil {
			return s, err
		}
		s.Feeds = append(s.Feeds, ScopeIndex{Scope: scope, Packages: x.packages, Repomd: distro.DigestOf(x.repomd), Current: distro.DigestOf(x.twinRepomd)})
	}
	_, err = p.createSigned(ctx, folder+"/snapshot.json", ".asc", distro.CanonicalJSON(s), e.At)
	return s, err
}

// drop gives up what an earlier WriteSnapshot made.
func (p *Publisher) drop() {
	for _, x := range p.pending {
		x.close()
	}
	p.pending = map[string]*scopeIndex{}
}

// create writes data files.
func (p *Publisher) create(ctx context.Context, folder string, files []*rpmmd.DataFile) error {
	return errs.Wrap(store.CreateAll(ctx, p.Tree, func(yield func(store.NewFile, error) bool) {
		for _, f := range files {
			if !yield(store.NewFile{Name: folder + "/repodata/" + f.Name, Content: f.Reader()}, nil) {
				return
			}
		}
	}), "write metadata")
}

// createTwin writes the data files of the form current. What the snapshot has as
// well becomes one file with two names, where the tree can do that.
func (p *Publisher) createTwin(ctx context.Context, x *scopeIndex) error {
	folder := strings.TrimSuffix(x.memo.Twin, "repodata/")
	for i, f := range x.twinFiles {
		if i > 0 {
			if linked, err := store.LinkWithin(p.Tree, x.memo.Data+f.Name, x.memo.Twin+f.Name); linked || err != nil {
				if err != nil {
					return errs.Wrap(err, "write metadata")
				}
				continue
			}
		}
		if err := p.create(ctx, strings.TrimSuffix(folder, "/"), x.twinFiles[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// switchIndexes writes the data files of history and current, makes them durable
// and switches their repomd.xml.
func (p *Publisher) switchIndexes(ctx context.Context, e Edition) (made indexes, err error) {
	made.scopes, err = p.resolve(ctx, &e)
	if err != nil {
		return made, err
	}
	for _, scope := range made.scopes {
		h, err := p.makeIndex(ctx, indexHistory, scope, &e)
		if err != nil {
			return made, err
		}
		made.all = append(made.all, h)
		c := p.pending[scope]
		delete(p.pending, scope)
		if c == nil || c.memo.Serial != e.Serial || c.memo.Edition != e.digest(scope) || e.Lists == nil && !sameList(c.of, e.Index) {
			c.close()
			if c, err = p.makeIndex(ctx, indexDefault, scope, &e); err != nil {
				return made, err
			}
		}
		made.all = append(made.all, c)
		if err := p.create(ctx, p.Layout.History(scope), h.files); err != nil {
			return made, err
		}
		if err := p.createTwin(ctx, c); err != nil {
			return made, err
		}
	}
	if err := p.Tree.Sync(ctx); err != nil {
		return made, errs.Wrap(err, "make the publication durable")
	}
	for i, scope := range made.scopes {
		if err := p.swapSigned(ctx, p.Layout.History(scope)+"/repodata/repomd.xml", made.all[2*i].repomd, e.At); err != nil {
			return made, err
		}
		c, current := made.all[2*i+1], p.Layout.Current(scope)+"/repodata/repomd.xml"
		if c.twinSig != nil { // the snapshot keeps it, signed
			err = p.swapSignature(ctx, current, c.twinRepomd, c.twinSig)
		} else {
			err = p.swapSigned(ctx, current, c.twinRepomd, e.At)
		}
		if err != nil {
			return made, err
		}
	}
	return made, nil
}

// sameList reports whether two lists are one.
func sameList(a, b []distro.PackageRecord) bool {
	return len(a) == len(b) && len(a) > 0 && &a[0] == &b[0]
}

// indexes are all of an edition: history and default of each scope in turn.
type indexes struct {
	scopes []string
	all    []*scopeIndex
}

func (m indexes) close() {
	for _, x := range m.all {
		x.close()
	}
}

// latest is the file of the cache that says what the states beside it are of.
type latest struct {
	Serial int      `json:"serial"`
	Scopes []string `json:"scopes"`
}

func (p *Publisher) latestFile() string {
	return filepath.Join(p.Cache, p.Layout.Series+"-latest.json")
}

// resolve gives the scopes of an edition, and loads its lists when the cache does
// not know where to begin.
func (p *Publisher) resolve(ctx context.Context, e *Edition) ([]string, error) {
	if e.Lists == nil {
		return Scopes(Scopes(p.Scopes, e.Index), e.History), nil
	}
	var l latest
	if p.Cache != "" {
		if b, err := os.ReadFile(p.latestFile()); err == nil && json.Unmarshal(b, &l) == nil && (l.Serial == e.Serial || e.Base > 0 && l.Serial == e.Base) {
			return Scopes(append(slices.Clone(p.Scopes), l.Scopes...), e.New), nil
		}
	}
	if err := e.load(ctx); err != nil {
		return nil, err
	}
	return Scopes(Scopes(p.Scopes, e.Index), e.History), nil
}

// load fills the lists, once.
func (e *Edition) load(ctx context.Context) error {
	if e.Lists == nil || e.History != nil {
		return nil
	}
	var err error
	e.Index, e.History, err = e.Lists(ctx)
	return err
}

// digest stands for what an edition brings to a scope; "" when that is all.
func (e *Edition) digest(scope string) distro.Digest {
	if e.Lists == nil {
		return ""
	}
	d, ok := e.digests[scope]
	if !ok {
		d = distro.DigestOf(distro.CanonicalJSON([]any{e.Serial, e.Release, e.At.UTC(), e.Base, ofScope(e.New, scope), e.Advisories}))
		if e.digests == nil {
			e.digests = map[string]distro.Digest{}
		}
		e.digests[scope] = d
	}
	return d
}

// change finds what the new packages of a scope do to its default index: each
// that is newer than the one of its name and architecture takes its place. It
// reports false when only the lists can tell.
func change(s *rpmmd.State, fresh []*distro.PackageRecord) (add []*distro.PackageRecord, remove []string, ok bool, err error) {
	type id struct{ name, arch string }
	best := map[id]*distro.PackageRecord{}
	for _, r := range fresh {
		k := id{r.Name, r.Arch}
		if b := best[k]; b == nil || distro.CompareEVR(r.Epoch, r.Version, r.Release, b.Epoch, b.Version, b.Release) > 0 {
			best[k] = r
		}
	}
	was := map[id][]rpmmd.Known{}
	looked := map[string]bool{} // prefixes
	note := func(k rpmmd.Known) {
		_, rest, _ := strings.Cut(k.Sort, "\x00")
		name, _, _ := strings.Cut(rest, "\x00")
		arch, _, _ := strings.Cut(k.Note, "\x00")
		if x := (id{name, arch}); best[x] != nil {
			was[x] = append(was[x], k)
		}
	}
	for _, r := range best {
		prefix := r.SourceName + "\x00" + r.Name + "\x00"
		if looked[prefix] {
			continue
		}
		looked[prefix] = true
		found, err := s.Begins(prefix)
		if err != nil {
			return nil, nil, false, err
		}
		for _, k := range found {
			note(k)
		}
	}
	if len(was) < len(best) { // a new name, or one that another recipe made before
		clear(was)
		for k, err := range s.All() {
			if err != nil {
				return nil, nil, false, err
			}
			note(k)
		}
	}
	for x, r := range best {
		old := was[x]
		if len(old) > 1 {
			return nil, nil, false, nil
		}
		if len(old) == 1 {
			evr := strings.Split(old[0].Note, "\x00")
			if len(evr) != 4 {
				return nil, nil, false, nil
			}
			epoch, err := strconv.Atoi(evr[1])
			if err != nil {
				return nil, nil, false, nil
			}
			if distro.CompareEVR(r.Epoch, r.Version, r.Release, epoch, evr[2], evr[3]) <= 0 {
				continue
			}
			remove = append(remove, old[0].Sort)
		}
		add = append(add, r)
	}
	slices.SortFunc(add, bySort)
	slices.Sort(remove)
	return add, remove, true, nil
}

// InOrder gives what one release brought, in the order in which it stands in the
// history: that of the default index. So the two indexes of a first release are alike.
func InOrder(l []distro.PackageRecord) []distro.PackageRecord {
	out := slices.Clone(l)
	slices.SortStableFunc(out, func(a, b distro.PackageRecord) int { return bySort(&a, &b) })
	return out
}

// bySort is the order of the default index: what comes from one recipe stands
// together, so that a change stays within a few frames.
func bySort(a, b *distro.PackageRecord) int {
	return cmp.Or(strings.Compare(a.SourceName, b.SourceName), strings.Compare(a.Name, b.Name), strings.Compare(version(a), version(b)))
}

// version is the file's name without the package's, which goes before it.
func version(r *distro.PackageRecord) string { return strings.TrimPrefix(r.File, r.Name+"-") }

// item says of a package what an index is planned by.
func item(kind indexKind, r *distro.PackageRecord, href string) rpmmd.Item {
	it := rpmmd.Item{ID: string(r.Digest) + string(r.HeaderDigest), Href: href + strconv.Itoa(epochOf(*r)) + "/" + r.File, Cut: r.Name, Ref: r}
	if kind == indexDefault {
		it.Sort = r.SourceName + "\x00" + r.Name + "\x00" + version(r)
		it.Note = r.Arch + "\x00" + strconv.Itoa(r.Epoch) + "\x00" + r.Version + "\x00" + r.Release
	}
	return it
}

// keep stores what the next edition begins with, when it is switched.
func (p *Publisher) keep(ctx context.Context, e Edition, made indexes) error {
	if p.Cache == "" {
		return nil
	}
	if err := os.MkdirAll(p.Cache, 0o755); err != nil {
		return errs.E(errs.Unavailable, "keep the state of the index", err)
	}
	for _, x := range made.all {
		if err := p.keepState(ctx, x); err != nil {
			return err
		}
	}
	b := distro.CanonicalJSON(latest{e.Serial, made.scopes})
	if old, err := os.ReadFile(p.latestFile()); err == nil && string(old) == string(b) {
		return nil
	}
	if err := os.WriteFile(p.latestFile()+".new", b, 0o644); err != nil {
		return errs.E(errs.Unavailable, "keep the state of the index", err)
	}
	if err := os.Rename(p.latestFile()+".new", p.latestFile()); err != nil {
		return errs.E(errs.Unavailable, fmt.Sprintf("keep the state of %s", p.latestFile()), err)
	}
	return nil
}
