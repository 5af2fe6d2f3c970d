package feed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpm"
	"slipway/internal/rpmmd"
	"slipway/internal/sign"
	"slipway/internal/store"
	"slipway/internal/timestamp"
)

// exportFile is the root's file of an export of one snapshot, written last.
const exportFile = "export.json"

// ExportedRelease is export.json: which snapshot a copy is of.
type ExportedRelease struct {
	Schema       int            `json:"schema"` // 1
	Distribution string         `json:"distribution"`
	Series       string         `json:"series"`
	Serial       int            `json:"serial"`
	Release      distro.Version `json:"release"`
	At           time.Time      `json:"at"`
}

// keptCurrent is where a snapshot keeps the repomd.xml that current had of a scope, for
// exports: current's own is a pointer, and goes on.
func (l Layout) keptCurrent(serial int, scope string) string {
	return path.Join(l.Snapshot(serial), scope, "current", "repomd.xml")
}

// ExportRelease copies one snapshot, named as [timestamp.At.Find] takes it, to a place
// of its own: its index, which is the feed current there, the packages that it names,
// the files of its release, the statements of the releases that brought the packages,
// and the public keys that signed any of this. All of it was written once, so the same
// snapshot gives the same bytes at any time, whatever was published since, but for what
// a law took away in between: its notice stands in the place. There is no
// pointer in it and no log: nobody must take it for the newest.
//
// Every file is held against its digest or signature before it is copied; one that is
// not what was published is Denied. Cut off, the same call goes on; export.json is
// written last. A place that holds anything else is a Conflict.
func ExportRelease(ctx context.Context, from, to store.Tree, series, what string, o ExportOptions) (Exported, ExportedRelease, error) {
	var done Exported
	x := &releaseExport{ctx: ctx, from: from, to: to, l: Layout{series}, digests: map[string]distro.Digest{}, used: map[string]bool{}}
	doc, err := x.plan(what)
	if err != nil {
		return done, doc, err
	}
	removed, err := x.removed(o.Trust)
	if err != nil {
		return done, doc, err
	}
	complete, err := x.mayWrite(doc)
	if err != nil {
		return done, doc, err
	}
	have := map[string]bool{}
	for name, err := range to.List(ctx, "") {
		if err != nil {
			return done, doc, err
		}
		have[name] = true
	}
	var missing []string
	for _, name := range sortedKeys(x.digests) {
		if !have[name] || o.Check || !complete {
			missing = append(missing, name)
		}
	}
	if err := x.verifyFiles(missing, o.Workers); err != nil {
		return done, doc, err
	}
	copied := slices.DeleteFunc(slices.Clone(missing), func(name string) bool { return have[name] && !o.Check })
	for _, name := range sortedKeys(x.used) {
		if x.digests[name] = ""; !have[name] || o.Check {
			copied = append(copied, name)
		}
	}
	if done.Files = len(x.digests) + len(x.bytes) + 1; complete {
		for name := range have { // keys that are there stay counted
			if strings.HasPrefix(name, "keys/") && !x.used[name] {
				done.Files++
			}
		}
	}
	if err := copyFiles(ctx, from, to, copied, o, &done); err != nil {
		return done, doc, err
	}
	for _, name := range sortedKeys(x.bytes) {
		if err := to.Create(ctx, name, bytes.NewReader(x.bytes[name])); err != nil {
			return done, doc, errs.Wrap(err, "export %s", name)
		}
		if !have[name] {
			done.New++
			done.Bytes += int64(len(x.bytes[name]))
		}
	}
	if err := to.Sync(ctx); err != nil {
		return done, doc, errs.Wrap(err, "make the copy durable")
	}
	for _, r := range removed {
		if buried, err := bury(ctx, to, r.file, r.by.Encode()); err != nil {
			return done, doc, errs.Wrap(err, "export removal %d", r.by.Serial)
		} else if buried {
			done.Removed++
		}
	}
	if complete {
		return done, doc, nil
	}
	if err := to.Create(ctx, exportFile, bytes.NewReader(distro.CanonicalJSON(doc))); err != nil {
		return done, doc, err
	}
	done.New++
	return done, doc, to.Sync(ctx)
}

// releaseExport is one ExportRelease.
type releaseExport struct {
	ctx      context.Context
	from, to store.Tree
	l        Layout
	keys     []*sign.Public
	keyFiles map[string]string        // fingerprint -> name below keys/
	digests  map[string]distro.Digest // files of the copy, by name; "" when their signature or index answers for them
	bytes    map[string][]byte        // files of the copy that have another name here
	mu       sync.Mutex
	used     map[string]bool // files of keys that made a signature
}

// plan finds what belongs to the snapshot, and verifies its documents.
func (x *releaseExport) plan(what string) (ExportedRelease, error) {
	var doc ExportedRelease
	at, err := Moments(x.ctx, x.from, x.l.Series)
	if err != nil {
		return doc, err
	}
	e, err := at.Find(what)
	if err != nil {
		return doc, err
	}
	if err := x.readKeys(); err != nil {
		return doc, err
	}
	b, err := x.signed(x.l.Snapshot(e.Serial)+"/snapshot.json", ".asc")
	if err != nil {
		return doc, err
	}
	s, err := timestamp.ParseSnapshot(b)
	if err != nil {
		return doc, errs.Wrap(err, "snapshot %d", e.Serial)
	}
	doc = ExportedRelease{Schema: 1, Distribution: s.Distribution, Series: s.Series, Serial: s.Serial, Release: s.Release, At: s.At.UTC()}
	packages := map[string]bool{} // scope/file
	x.bytes = map[string][]byte{}
	for _, f := range s.Feeds {
		if err := x.feed(s.Serial, f, packages); err != nil {
			return doc, err
		}
	}
	return doc, x.releases(at, doc, packages)
}

// removed takes the files that were removed by law out of the plan, and their notices in,
// and gives both.
func (x *releaseExport) removed(trust func(string) (Trust, error)) ([]burial, error) {
	name := x.l.CurrentJSON()
	b, err := ReadFile(x.ctx, x.from, name)
	if errs.Is(err, errs.NotFound) { // an export of one release knows of no later removal
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if trust == nil {
		trust = func(string) (Trust, error) { return Trust{Package: x.keys, Metadata: x.keys}, nil }
	}
	all, err := exportedRemovals(x.ctx, x.from, map[string][]byte{name: b}, trust)
	if err != nil {
		return nil, err
	}
	var out []burial
	for _, r := range all {
		there := slices.DeleteFunc(slices.Clone(r.Files), func(f RemovedFile) bool { return !x.has(f.File) })
		if len(there) == 0 {
			continue
		}
		for _, f := range there {
			delete(x.digests, f.File)
		}
		notice := x.l.Removal(r.Serial)
		x.digests[notice], x.digests[notice+".asc"] = "", ""
		for _, f := range there {
			out = append(out, burial{file: f, by: r})
		}
	}
	return out, nil
}

func (x *releaseExport) readKeys() error {
	x.keyFiles = map[string]string{}
	for name, err := range x.from.List(x.ctx, "keys/") {
		if err != nil {
			return err
		}
		if name == rootFile || !strings.HasSuffix(name, ".asc") || strings.HasSuffix(name, ".json.asc") {
			continue
		}
		b, err := ReadFile(x.ctx, x.from, name)
		if err != nil {
			return err
		}
		keys, err := sign.ParsePublic(b)
		if err != nil {
			return errs.Wrap(err, "%s", name)
		}
		for _, k := range keys {
			x.keyFiles[k.Fingerprint()] = name
		}
		x.keys = append(x.keys, keys...)
	}
	return nil
}

// signed gives a signed document, verified by the publication's own keys, and takes it
// and its signature into the copy.
func (x *releaseExport) signed(name, ending string) ([]byte, error) {
	b, err := ReadFile(x.ctx, x.from, name)
	if err != nil {
		return nil, err
	}
	armored, err := ReadFile(x.ctx, x.from, name+ending)
	if err == nil {
		err = x.verify(bytes.NewReader(b), armored)
	}
	if err != nil {
		return nil, errs.Wrap(err, "%s", name)
	}
	x.digests[name], x.digests[name+ending] = "", ""
	return b, nil
}

func (x *releaseExport) verify(message io.Reader, armored []byte) error {
	sig, err := sign.Dearmor(armored)
	if err != nil {
		return err
	}
	return x.verifyBinary(message, sig)
}

func (x *releaseExport) verifyBinary(message io.Reader, sig []byte) error {
	k, err := sign.Verify(x.keys, message, sig)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.used[x.keyFiles[k.Fingerprint()]] = true
	return nil
}

// feed takes in the index of a scope, in both forms, and the packages that it names.
func (x *releaseExport) feed(serial int, f ScopeIndex, packages map[string]bool) error {
	folder := x.l.Snapshot(serial) + "/" + f.Scope
	b, err := x.signed(folder+"/repodata/repomd.xml", ".asc")
	if err != nil {
		return err
	}
	if got := distro.DigestOf(b); got != f.Repomd {
		return errs.E(errs.Denied, fmt.Sprintf("%s/repodata/repomd.xml is not the one that snapshot %d states", folder, serial), errs.Hint("slipway verify names every file that was changed"))
	}
	md, err := rpmmd.ReadRepomd(b)
	if err != nil {
		return errs.Wrap(err, "%s", folder)
	}
	x.records(folder, md)
	list, err := primaryOf(x.ctx, x.from, folder, md)
	if err != nil {
		return err
	}
	for _, p := range list {
		name := path.Join(folder, p.Href)
		x.digests[name] = distro.Digest(p.Checksum.String())
		packages[f.Scope+"/"+path.Base(name)] = true
	}
	// The form current: as the snapshot kept it, or as it is while it is the newest.
	kept, current := x.l.keptCurrent(serial, f.Scope), x.l.Current(f.Scope)+"/repodata/repomd.xml"
	source := kept
	b, err = ReadFile(x.ctx, x.from, kept)
	if errs.Is(err, errs.NotFound) {
		source = current
		b, err = ReadFile(x.ctx, x.from, current)
	}
	if err != nil {
		return err
	}
	asc, err := ReadFile(x.ctx, x.from, source+".asc")
	if err == nil {
		err = x.verify(bytes.NewReader(b), asc)
	}
	if err != nil {
		return errs.Wrap(err, "%s", source)
	}
	if md, err = rpmmd.ReadRepomd(b); err != nil {
		return errs.Wrap(err, "%s", source)
	}
	if f.Current != "" && distro.DigestOf(b) != f.Current {
		return errs.E(errs.Denied, fmt.Sprintf("%s is not the one that snapshot %d states", source, serial), errs.Hint("slipway verify names every file that was changed"))
	}
	if md.Revision != fmt.Sprint(serial) {
		return errs.E(errs.NotFound, fmt.Sprintf("snapshot %d was published by an older slipway, which did not keep the index that devices of current had", serial),
			errs.Hint("slipway feed export DIR copies all of the publication, with this snapshot for those who pin it"))
	}
	x.records(x.l.Current(f.Scope), md)
	x.bytes[current], x.bytes[current+".asc"] = b, asc
	if source == kept {
		x.digests[kept], x.digests[kept+".asc"] = "", ""
	}
	return nil
}

// records takes in the data files of an index.
func (x *releaseExport) records(folder string, md *rpmmd.Repomd) {
	for _, r := range md.Records {
		x.digests[path.Join(folder, r.Href)] = distro.Digest(r.Checksum.String())
	}
}

// releases takes in the statement of the snapshot's release with all its files, and
// those of earlier releases that first stated other packages of the index.
func (x *releaseExport) releases(at At, doc ExportedRelease, packages map[string]bool) error {
	for i := len(at.Entries) - 1; i >= 0; i-- {
		e := at.Entries[i]
		own := e.Release == doc.Release
		if e.Serial > doc.Serial || len(packages) == 0 && !own || x.has(x.l.Statement(e.Release)) {
			continue
		}
		name := x.l.Statement(e.Release)
		b, err := ReadFile(x.ctx, x.from, name)
		if err != nil {
			return err
		}
		var s distro.Statement
		if err := json.Unmarshal(b, &s); err != nil {
			return errs.E(errs.Invalid, name+" cannot be read", err, errs.Hint("slipway verify"))
		}
		needed := own
		for _, r := range s.Packages {
			if key := r.Scope + "/" + r.File; packages[key] {
				needed = true
				delete(packages, key)
			}
		}
		if !needed {
			continue
		}
		if _, err := x.signed(name, ".sig"); err != nil {
			return err
		}
		if own {
			for _, f := range x.l.Files(s) {
				x.digests[f.Path] = f.SHA256
			}
		}
	}
	if len(packages) > 0 {
		return errs.E(errs.Denied, fmt.Sprintf("no release up to serial %d states %s, which its index names", doc.Serial, sortedKeys(packages)[0]), errs.Hint("slipway verify names every such package"))
	}
	return nil
}

func (x *releaseExport) has(name string) bool { _, ok := x.digests[name]; return ok }

// mayWrite refuses a place that holds something else; true when this very export is
// complete there.
func (x *releaseExport) mayWrite(doc ExportedRelease) (complete bool, err error) {
	b, err := ReadFile(x.ctx, x.to, exportFile)
	if err == nil {
		if bytes.Equal(b, distro.CanonicalJSON(doc)) {
			return true, nil
		}
		return false, errs.E(errs.Conflict, "the copy is an export of another snapshot", errs.Hint("name a folder of its own for each"))
	}
	if !errs.Is(err, errs.NotFound) {
		return false, err
	}
	for name, err := range x.to.List(x.ctx, "") {
		if err != nil {
			return false, err
		}
		if rank(name) > 0 && x.bytes[name] == nil {
			return false, errs.E(errs.Conflict, fmt.Sprintf("the place holds a whole publication, or another one: %s", name), errs.Hint("name a folder of its own for an export of one release"))
		}
	}
	return false, nil
}

// verifyFiles reads files whole, several at once, and holds each against its digest; of
// packages the signature as well.
func (x *releaseExport) verifyFiles(names []string, workers int) error {
	findings := make([]error, len(names))
	var wg sync.WaitGroup
	next := make(chan int)
	for range max(1, workers) {
		wg.Go(func() {
			for i := range next {
				findings[i] = x.verifyFile(names[i])
			}
		})
	}
	for i := range names {
		if x.ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	if err := context.Cause(x.ctx); err != nil {
		return err
	}
	var bad errs.List
	for _, err := range findings {
		if err != nil {
			bad = append(bad, err)
		}
	}
	return bad.Err()
}

func (x *releaseExport) verifyFile(name string) error {
	want := x.digests[name]
	if want == "" {
		return nil
	}
	f, err := x.from.Open(x.ctx, name)
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := store.Hash(f)
	if err != nil {
		return errs.Wrap(err, "read %s", name)
	}
	if got != want {
		return errs.E(errs.Denied, fmt.Sprintf("%s is not what was published: %s, stated %s", name, got.Short(), want.Short()),
			errs.Hint("restore it from a mirror or another export; slipway verify names every such file"))
	}
	if !strings.HasSuffix(name, ".rpm") {
		return nil
	}
	p, err := rpm.Read(f, f.Size(), name)
	if err != nil {
		return err
	}
	err = errs.E(errs.Denied, name+" is not signed")
	for _, s := range p.Signatures {
		if err = x.verifyBinary(io.NewSectionReader(f, p.HeaderStart, p.HeaderEnd-p.HeaderStart), s.Data); err == nil {
			return nil
		}
	}
	return errs.Wrap(err, "%s", name)
}

// readExported reads export.json; false when the tree is no export of one snapshot.
func readExported(ctx context.Context, t store.Tree) (ExportedRelease, bool, error) {
	var doc ExportedRelease
	b, err := ReadFile(ctx, t, exportFile)
	if errs.Is(err, errs.NotFound) {
		return doc, false, nil
	}
	if err != nil {
		return doc, false, err
	}
	if err := json.Unmarshal(b, &doc); err != nil || doc.Schema != 1 {
		return doc, false, errs.E(errs.Invalid, exportFile+" cannot be read", err)
	}
	return doc, true, nil
}

// exported verifies an export of one snapshot: what is in it, and that nothing that
// belongs to it is missing. What it cannot say is in a note.
func (v *verifier) exported(doc ExportedRelease, o Inspection) (*Report, error) {
	v.report.Serial, v.report.Release = doc.Serial, doc.Release
	v.report.Notes = append(v.report.Notes, fmt.Sprintf("this is an export of snapshot %d alone, without the log: it does not say what was published before and after", doc.Serial))
	v.statements()
	// Of the other releases only the packages that the index names are here.
	v.read = slices.DeleteFunc(v.read, func(s distro.Statement) bool { return s.Version != doc.Release })
	v.stated = map[int]distro.Version{}
	if len(v.read) == 0 {
		v.find("%s: gone", v.l.Statement(doc.Release))
	}
	v.snapshots(Current{Serial: doc.Serial})
	s, ok := v.known[doc.Serial]
	if !ok {
		v.find("%s: gone", v.l.Snapshot(doc.Serial)+"/snapshot.json")
	} else if want := (ExportedRelease{1, s.Distribution, s.Series, s.Serial, s.Release, s.At.UTC()}); want != doc {
		v.find("%s: not what snapshot %d says", exportFile, doc.Serial)
	}
	for _, f := range s.Feeds {
		v.index(v.l.Current(f.Scope))
		v.sameFeed(s.Serial, f)
	}
	v.settle()
	return v.report, v.packages(o)
}
