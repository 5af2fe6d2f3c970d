package cycle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/prserv/prdb"
	"slipway/internal/sign"
	"slipway/internal/state"
	"slipway/internal/store"
)

// An adoption takes the feed of another tool in as release <series>.0: its packages
// become blobs, its numbers are burned, its databases are kept, and the publisher
// that every release goes through signs and publishes it. docs/adopting.md is the
// way as a person goes it.

// Adoption names what is adopted.
type Adoption struct {
	Deploy   string         // folder with *.rpm, at any depth
	PRServ   string         // database file of a PR server, BitBake's or ours; "" for none
	HashServ string         // of a hash equivalence server; "" for none
	Signers  []*sign.Public // whose signatures on packages are known
}

// Adoptable is a feed that was looked at, all of it. Close it.
type Adoptable struct {
	Packages []distro.PackageRecord // sorted by file name; Scope is still the architecture
	Resigned []string               // NEVRA of those that a named key has signed: at publish our signature takes its place
	Given    int                    // rows of the PR database
	Skipped  int                    // of them, those that name no recipe's version

	paths  map[distro.Digest]string
	found  errs.List
	given  []givenNumber
	place  string // of the deploy folder, for the approval
	temp   string
	prdb   string // sound copies in temp; "" for none
	hashdb string
}

// Close removes what looking left.
func (f *Adoptable) Close() { os.RemoveAll(f.temp) }

// Arches gives the architectures of the packages, without noarch and src.
func (f *Adoptable) Arches() []string {
	seen := map[string]bool{}
	for _, r := range f.Packages {
		if r.Arch != "noarch" && !r.IsSource() {
			seen[r.Arch] = true
		}
	}
	return sorted(seen)
}

// Conflicts gives everything that stands against adopting the feed in this
// workspace, which need not exist: its definition, and Dir for the boards' files,
// decide which architectures have a scope. Nothing is written.
func (w *Workspace) Conflicts(f *Adoptable) errs.List {
	found := append(errs.List{}, f.found...)
	known := map[string]bool{}
	for _, s := range w.scopes() {
		known[s] = true
	}
	boards, err := w.boardsHere()
	if err != nil {
		found = append(found, err)
	}
	for _, b := range boards {
		for _, s := range b.forScopes().Scopes() {
			known[s] = true
		}
	}
	without, first := map[string]int{}, map[string]string{}
	for _, r := range f.Packages {
		if !known[distro.RPMArch(r.Arch)] && !r.IsSource() {
			if without[r.Arch]++; without[r.Arch] == 1 {
				first[r.Arch] = r.NEVRA()
			}
		}
	}
	for _, arch := range sorted(without) {
		found = append(found, errs.E(errs.Conflict, fmt.Sprintf("architecture %s has no scope in the definition: %s and %d more", arch, first[arch], without[arch]-1),
			errs.Hint("name it in slipway.yaml, below builder: arches, or name the board whose machine packages these are")))
	}
	return append(found, behind(f.Packages, f.given)...)
}

// Adopted gives the build that stands for the adopted feed, and where its release
// is: "" when nothing was adopted, approved before the release is there.
func (w *Workspace) Adopted(ctx context.Context) (Build, distro.Status, error) {
	b, err := w.Build(ctx, string(w.adoptedID()))
	if errs.Is(err, errs.NotFound) {
		return b, "", nil
	}
	if err != nil {
		return b, "", err
	}
	r, err := w.Release(ctx, b.Version)
	if errs.Is(err, errs.NotFound) {
		return b, distro.Approved, nil
	}
	return b, r.Status, err
}

func (w *Workspace) adoptedID() distro.BuildID {
	return distro.NewBuildID(distro.NewVersion(w.Definition.Series.Name, 0), 1)
}

// Adopt makes a feed without conflicts the release <series>.0, approved by a named
// person, and publishes it. What was taken in is one change of the state, after
// its bytes and numbers: cut off before, nothing is there but unused blobs and gaps
// in the numbers, and after it Adopt goes on without the feed (f may then be nil).
func (w *Workspace) Adopt(ctx context.Context, f *Adoptable, by string) (Release, error) {
	lock, err := w.lock(ctx, "work")
	if err != nil {
		return Release{}, err
	}
	defer lock.Release()
	b, at, err := w.Adopted(ctx)
	if err == nil && at == "" {
		b, err = w.takeIn(ctx, f, by)
	}
	if err != nil {
		return Release{}, err
	}
	if _, err := w.finishApproval(ctx, b); err != nil {
		return Release{}, err
	}
	return w.Publish(ctx, b.Version)
}

// MayAdopt refuses a workspace that has builds: release 0 comes before all.
func (w *Workspace) MayAdopt(ctx context.Context) error {
	all, err := w.Builds(ctx)
	if err == nil && len(all) > 0 {
		err = errs.E(errs.Conflict, fmt.Sprintf("workspace %s has builds already, %s the last: a feed is adopted before the first", w.Dir, all[len(all)-1].ID), errs.Hint("name a new folder"))
	}
	return err
}

// takeIn stores numbers and bytes, then records build and approval in one change.
func (w *Workspace) takeIn(ctx context.Context, f *Adoptable, by string) (Build, error) {
	if f == nil {
		return Build{}, errs.E(errs.Internal, "no feed to adopt")
	}
	err := w.MayAdopt(ctx)
	if err == nil {
		err = w.Conflicts(f).Err()
	}
	if err != nil {
		return Build{}, err
	}
	t := w.Talk.Step("take the packages in")
	b, err := w.adoptedBuild(ctx, f, by, t)
	if err == nil {
		err = w.recordAdoption(ctx, b)
	}
	return b, end(t, err, fmt.Sprintf("%d packages, numbers of %d recipes burned", len(b.Packages), len(b.Numbers)))
}

func (w *Workspace) adoptedBuild(ctx context.Context, f *Adoptable, by string, t Task) (Build, error) {
	now := w.now()
	id := w.adoptedID()
	b := Build{ID: id, Version: id.Version(), Series: w.Definition.Series.Name, Status: distro.Candidate, Created: now, Ended: now}
	add := func(class distro.Class, name string, put func() (distro.Digest, int64, error)) (distro.Digest, error) {
		d, size, err := put()
		b.Artifacts = append(b.Artifacts, distro.Artifact{Class: class, Name: name, Digest: d, Size: size})
		return d, errs.Wrap(err, "store %s %s", class, name)
	}
	addBytes := func(class distro.Class, name string, data []byte) error {
		_, err := add(class, name, func() (distro.Digest, int64, error) { return w.Blobs.Put(ctx, bytes.NewReader(data)) })
		return err
	}
	addFile := func(class distro.Class, name, path string) (distro.Digest, error) {
		return add(class, name, func() (distro.Digest, int64, error) { return store.PutFile(ctx, w.Blobs, path) })
	}
	definition, err := os.ReadFile(filepath.Join(w.Dir, "slipway.yaml"))
	if err != nil {
		return b, errs.E(errs.NotFound, "slipway.yaml", err)
	}
	b.Revision = distro.Revision{Schema: 1, Distribution: w.Definition.Distribution, Series: b.Series, Definition: distro.DigestOf(definition),
		Layers: []distro.LayerPin{}, Builder: distro.BuilderPin{Kind: "adopted", Tools: map[string]string{}}}
	b.RevisionID = b.Revision.Digest()
	rows, marks := burn(f.Packages, f.given, w.scopes())
	b.Numbers = rows
	databases, err := w.adoptDatabases(ctx, f, marks)
	if err != nil {
		return b, err
	}
	for i, data := range [][]byte{definition, distro.CanonicalJSON(b.Revision)} {
		if err := addBytes(distro.Configuration, []string{"slipway.yaml", "revision.json"}[i], data); err != nil {
			return b, err
		}
	}
	for _, db := range []struct {
		class      distro.Class
		name, path string
	}{{distro.PRDatabase, "prserv.sqlite3", f.prdb}, {distro.HashDatabase, "hashserv.sqlite3", f.hashdb}, {distro.PRDatabase, databasesName, databases}} {
		if db.path == "" {
			continue
		}
		if _, err := addFile(db.class, db.name, db.path); err != nil {
			return b, err
		}
	}
	if err := addBytes(distro.PRDatabase, "numbers.json", distro.CanonicalJSON(rows)); err != nil {
		return b, err
	}
	for i, r := range f.Packages {
		r.Scope = distro.SplitScope(r.Arch, r.Name, w.Definition.Feeds.Separate)
		got, err := addFile(distro.Packages, r.Scope+"/"+r.File, f.paths[r.Digest])
		if err != nil {
			return b, err
		}
		if got != r.Digest {
			return b, errs.E(errs.Conflict, f.paths[r.Digest]+" changed while it was adopted", errs.Hint("stop what writes there, and adopt again"))
		}
		b.Packages = append(b.Packages, r)
		t.Progress(i+1, len(f.Packages), r.File)
	}
	policy := w.Definition.PublicPolicy()
	judgePublic(policy, b.Packages)
	b.Public = &policy
	b.Candidate = Candidate{Status: distro.Approved, Approval: &distro.Approval{By: by, Because: "adopted from " + f.place, At: now}}
	return b, nil
}

// adoptDatabases brings both databases and the burned numbers into the series', and
// saves those as they are then. It may be repeated; numbers that are burned for a
// feed that is never adopted are only a gap.
func (w *Workspace) adoptDatabases(ctx context.Context, f *Adoptable, marks []prdb.Row) (path string, err error) {
	base, err := w.openDatabases(ctx)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, base.Close()) }()
	if f.prdb != "" {
		if _, err := base.PR.Import(ctx, f.prdb); err != nil {
			return "", err
		}
	}
	if f.hashdb != "" {
		if _, err := base.Hash.Import(ctx, f.hashdb); err != nil {
			return "", err
		}
	}
	if err := base.PR.Put(ctx, marks...); err != nil {
		return "", errs.Wrap(err, "burn the numbers of the feed")
	}
	path = filepath.Join(f.temp, databasesName)
	return path, errs.Wrap(base.Save(path), "save the databases")
}

// recordAdoption is all or nothing.
func (w *Workspace) recordAdoption(ctx context.Context, b Build) error {
	s, rev, err := state.Load[Series](ctx, w.State, kindSeries, b.Series)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	s.Name = b.Series
	s.Builds = map[string]int{string(b.Version): b.ID.N()}
	puts := []state.Put{{Kind: kindSeries, ID: b.Series, IfRev: rev, Data: s}, {Kind: kindBuild, ID: string(b.ID), Data: b}}
	return w.State.Apply(ctx, puts, []state.NewEvent{{Kind: kindBuild, ID: string(b.ID), Type: "adopted", Data: b.Candidate.Approval}})
}

// signedBy tells whether a package's signature is by one of the keys: "" when it
// has none, else the signer's name. Only signatures over the main header are looked
// at; others say nothing that dnf of today believes.
func signedBy(f io.ReaderAt, start, end int64, sigs [][]byte, keys []*sign.Public) error {
	if len(keys) == 0 {
		return errs.E(errs.Denied, "no key was named")
	}
	var last error
	for _, s := range sigs {
		if _, last = sign.Verify(keys, io.NewSectionReader(f, start, end-start), s); last == nil {
			return nil
		}
	}
	return last
}

// placeOf names a folder without the machine's paths: the approval is published.
func placeOf(dir string) string {
	return filepath.ToSlash(filepath.Join(filepath.Base(filepath.Dir(dir)), filepath.Base(dir)))
}
