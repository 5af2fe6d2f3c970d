package feed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/keyring"
	"slipway/internal/rpm"
	"slipway/internal/rpmmd"
	"slipway/internal/sign"
	"slipway/internal/store"
	"slipway/internal/tlog"
)

// Report is what Verify found.
type Report struct {
	Series    string         `json:"series"`
	Serial    int            `json:"serial"`
	Release   distro.Version `json:"release"`
	Releases  int            `json:"releases"`
	Snapshots int            `json:"snapshots"`
	Packages  int            `json:"packages"` // files of the pool, each read whole
	// Files are the other files that statements answer for (images), each read whole.
	Files int `json:"files,omitempty"`
	// Unfinished are the serials of snapshots that no pointer reached yet.
	Unfinished []int    `json:"unfinished,omitempty"`
	Logged     int64    `json:"logged,omitempty"`  // leaves of the transparency log, when there is one
	LogOrigin  string   `json:"log,omitempty"`     // its name
	Package    *Proof   `json:"package,omitempty"` // of the one that was asked about
	Notes      []string `json:"notes,omitempty"`   // what could not be proved, and is no finding
	// Removed are files that were removed by law: a signed notice stands in their place.
	Removed  []Gone   `json:"removed,omitempty"`
	Findings []string `json:"findings"`
}

// Verify reads a publication as a stranger would, with the public keys that are
// trusted: pointers, statements, snapshots, every index and every package named
// in them, signatures and digests included. All findings come at once; an error
// is returned only when nothing could be read at all.
func Verify(ctx context.Context, t store.Tree, series string, keys []*sign.Public, progress func(done, total int)) (*Report, error) {
	return Inspect(ctx, t, series, Trust{Package: keys, Metadata: keys}, Inspection{Progress: progress})
}

func inspect(ctx context.Context, t store.Tree, series string, trust Trust, o Inspection) (*Report, error) {
	v := &verifier{ctx: ctx, t: t, l: Layout{series}, keys: trust.Metadata, trust: trust, claims: map[string][]claim{}, report: &Report{Series: series, Findings: []string{}},
		records: map[string]distro.PackageRecord{}, pending: map[string]bool{}, stated: map[int]distro.Version{}, known: map[int]Snapshot{}, bytes: map[int][]byte{}, lists: map[string][]string{}, seen: map[string]string{}, said: map[string]map[rpmmd.Fingerprint]string{}, advised: map[string]string{}}
	if doc, ok, err := readExported(ctx, t); err != nil {
		return nil, err
	} else if ok {
		return v.exported(doc, o)
	}
	b, err := ReadFile(ctx, t, v.l.CurrentJSON())
	if err != nil {
		return nil, errs.E(errs.NotFound, fmt.Sprintf("series %s has no current.json in this publication", series), err,
			errs.Hint("name the folder that holds distribution.json; before the first release there is nothing to verify"))
	}
	var cur Current
	if err := json.Unmarshal(b, &cur); err != nil {
		return nil, errs.E(errs.Invalid, v.l.CurrentJSON()+" cannot be read", err)
	}
	v.report.Serial, v.report.Release = cur.Serial, cur.Release
	v.statements()
	v.snapshots(cur)
	v.pointers(b)
	if err := v.log(o); err != nil {
		return nil, err
	}
	v.removals()
	v.settle()
	if err := v.packages(o); err != nil {
		return nil, err
	}
	v.withdrawals()
	v.stillOffered()
	for _, name := range sortedKeys(v.records) {
		if _, gone := v.removed[name]; gone {
			continue
		}
		if _, ok := v.seen[name]; !ok && !v.pending[name] && !v.takenBack(v.records[name]) {
			v.find("%s: stated by release %s but in no index", name, v.records[name].EVR())
		}
	}
	return v.report, nil
}

type verifier struct {
	ctx     context.Context
	t       store.Tree
	l       Layout
	keys    []*sign.Public // for metadata
	trust   Trust
	claims  map[string][]claim // what statements say, by file name
	read    []distro.Statement // signed, of releases that current.json has come to
	doubts  []doubt
	logKeys []tlog.Verifier
	tlog    *tlog.Log
	report  *Report
	removed map[string]burial                       // by name
	records map[string]distro.PackageRecord         // what statements say, by name in the tree
	stated  map[int]distro.Version                  // serials of release statements
	known   map[int]Snapshot                        // snapshots that are signed and reached
	bytes   map[int][]byte                          // of their snapshot.json
	lists   map[string][]string                     // feed's folder -> names of its packages in the tree
	pending map[string]bool                         // stated by a release that is not published yet
	said    map[string]map[rpmmd.Fingerprint]string // package's name in the tree -> what indexes say of it -> the first that does
	advised map[string]string                       // feed's folder -> checksum of its updateinfo.xml
	nevras  map[string]bool                         // scope/NEVRA/file of records
	seen    map[string]string                       // package's name in the tree -> digest that an index gives
}

func (v *verifier) find(format string, args ...any) {
	v.report.Findings = append(v.report.Findings, fmt.Sprintf(format, args...))
}

// signed reads a file and checks its detached signature.
func (v *verifier) signed(name, ending string) []byte {
	b, err := ReadFile(v.ctx, v.t, name)
	if err != nil {
		v.find("%s: %v", name, err)
		return nil
	}
	armored, err := ReadFile(v.ctx, v.t, name+ending)
	if err != nil {
		v.find("%s: not signed: %v", name, err)
		return nil
	}
	sig, err := sign.Dearmor(armored)
	if err == nil {
		var d *doubt
		if d, err = v.allowed(keyring.Metadata, v.keys, name, bytes.NewReader(b), sig); d != nil {
			v.doubts = append(v.doubts, *d)
		}
	}
	if err != nil {
		v.find("%s: signature: %v", name, err)
		return nil
	}
	return b
}

func (v *verifier) statements() {
	prefix := path.Join(v.l.Series, "releases") + "/"
	for name, err := range v.t.List(v.ctx, prefix) {
		if err != nil {
			v.find("%s: %v", prefix, err)
			return
		}
		if path.Base(name) != "release.json" {
			continue
		}
		var s distro.Statement
		if b := v.signed(name, ".sig"); b == nil {
			continue
		} else if err := json.Unmarshal(b, &s); err != nil {
			v.find("%s: %v", name, err)
			continue
		}
		if s.Serial <= v.report.Serial {
			v.report.Releases++
			v.read = append(v.read, s)
		}
		v.stated[s.Serial] = s.Version
		for _, r := range s.Packages {
			name := v.l.Package(r)
			v.claim(name, s, r)
			v.records[name] = r
			v.pending[name] = s.Serial > v.report.Serial // as its snapshot: not yet in an index
		}
	}
}

func (v *verifier) snapshots(cur Current) {
	prefix := path.Join(v.l.Series, "snapshots") + "/"
	for name, err := range v.t.List(v.ctx, prefix) {
		if err != nil {
			v.find("%s: %v", prefix, err)
			return
		}
		if path.Base(name) != "snapshot.json" {
			continue
		}
		b := v.signed(name, ".asc")
		var s Snapshot
		if b == nil {
			continue
		} else if err := json.Unmarshal(b, &s); err != nil {
			v.find("%s: %v", name, err)
			continue
		}
		if s.Serial > cur.Serial {
			// A publish is at work, or was cut off: nothing points here yet.
			v.report.Unfinished = append(v.report.Unfinished, s.Serial)
			continue
		}
		v.report.Snapshots++
		v.known[s.Serial], v.bytes[s.Serial] = s, b
		for _, f := range s.Feeds {
			repomd := v.index(path.Join(path.Dir(name), f.Scope))
			if repomd != nil && distro.DigestOf(repomd) != f.Repomd {
				v.find("%s/%s: repomd.xml is not the one that snapshot.json states", path.Dir(name), f.Scope)
			}
			v.kept(s.Serial, f)
		}
	}
	for _, serial := range slices.Sorted(maps.Keys(v.stated)) {
		if _, ok := v.known[serial]; !ok && serial <= cur.Serial {
			v.find("%s: gone, and release %s states it", v.l.Snapshot(serial)+"/snapshot.json", v.stated[serial])
		}
	}
}

// pointers checks what is switched: current.json, at.json and the feeds current
// and history must be what the snapshots make of them.
func (v *verifier) pointers(current []byte) {
	newest, ok := v.known[v.report.Serial]
	if !ok {
		v.find("%s: serial %d is not there", v.l.CurrentJSON(), v.report.Serial)
		return
	}
	want := Current{Schema: 1, Series: v.l.Series, Serial: newest.Serial, Release: newest.Release, At: newest.At, Snapshot: distro.DigestOf(v.bytes[newest.Serial])}
	if !bytes.Equal(current, distro.CanonicalJSON(want)) {
		v.find("%s: not what snapshot %d says", v.l.CurrentJSON(), newest.Serial)
	}
	at := At{Schema: 1, Series: v.l.Series}
	for _, serial := range slices.Sorted(maps.Keys(v.known)) {
		s := v.known[serial]
		at.Entries = append(at.Entries, AtEntry{At: s.At, Serial: s.Serial, Release: s.Release})
	}
	b, err := ReadFile(v.ctx, v.t, v.l.AtJSON())
	v.timestamp(want, b)
	if err != nil {
		v.find("%s: %v", v.l.AtJSON(), err)
	} else if !bytes.Equal(b, distro.CanonicalJSON(at)) && len(v.report.Unfinished) == 0 { // a publish at work writes it before current.json
		v.find("%s: not what the snapshots say", v.l.AtJSON())
	}
	for _, f := range newest.Feeds {
		v.index(v.l.Current(f.Scope))
		v.index(v.l.History(f.Scope))
		v.sameFeed(newest.Serial, f)
	}
}

// sameFeed compares the feed current with the snapshot that it should be.
func (v *verifier) sameFeed(serial int, f ScopeIndex) {
	current, snapshot := v.l.Current(f.Scope), path.Join(v.l.Snapshot(serial), f.Scope)
	b, err := ReadFile(v.ctx, v.t, current+"/repodata/repomd.xml")
	switch {
	case err != nil || len(v.report.Unfinished) > 0: // said before; a publish is at work
	case f.Current != "" && distro.DigestOf(b) != f.Current:
		v.find("%s: signed, but not what snapshot %d states of it: an old index was put back?", current, serial)
	case !slices.Equal(v.lists[current], v.lists[snapshot]):
		v.find("%s: signed, but not what %s holds: an old index was put back?", current, snapshot)
	case v.advised[current] != v.advised[snapshot]:
		v.find("%s: signed, but its advisories are not those of %s", current, snapshot)
	}
}

// kept checks the index of current that a snapshot states, and keeps for exports.
func (v *verifier) kept(serial int, f ScopeIndex) {
	if f.Current == "" {
		return // an older slipway kept none
	}
	name := v.l.keptCurrent(serial, f.Scope)
	if b := v.signed(name, ".asc"); b != nil && distro.DigestOf(b) != f.Current {
		v.find("%s: not the one that snapshot.json states", name)
	}
}

// index reads one feed, checks its metadata and notes its packages.
func (v *verifier) index(folder string) []byte {
	repomd := v.signed(folder+"/repodata/repomd.xml", ".asc")
	if repomd == nil {
		return nil
	}
	open := func(name string) (io.ReadCloser, error) { return v.t.Open(v.ctx, path.Join(folder, name)) }
	repo, err := rpmmd.ReadRepo(open)
	if err != nil {
		v.find("%s: %v", folder, err)
		return repomd
	}
	said, err := rpmmd.ReadFingerprints(open, repo.Repomd)
	if err == nil && len(said) != len(repo.Primary) {
		err = fmt.Errorf("%d packages, %d elements", len(repo.Primary), len(said))
	}
	if err != nil {
		v.find("%s: not as slipway writes it: %v", folder, err)
		return repomd
	}
	v.advisories(folder, repo)
	var list []string
	defer func() { v.lists[folder] = list }()
	for i, p := range repo.Primary {
		name := path.Join(folder, p.Href)
		if v.said[name] == nil {
			v.said[name] = map[rpmmd.Fingerprint]string{}
		}
		if _, ok := v.said[name][said[i]]; !ok {
			v.said[name][said[i]] = folder
		}
		list = append(list, name)
		digest := p.Checksum.String()
		if old, ok := v.seen[name]; ok && old != digest {
			v.find("%s: %s is stated as %s, elsewhere as %s", folder, name, digest, old)
		}
		v.seen[name] = digest
	}
	return repomd
}

// pkg reads one file whole: its digest, and of a package that an index names with its
// digest structure, header digest and signature. It gives the digest, "" when there is
// none.
func (v *verifier) pkg(name, digest string) (got distro.Digest) {
	f, err := v.t.Open(v.ctx, name)
	if errs.Is(err, errs.NotFound) && digest == "" {
		return ""
	}
	if err != nil {
		v.find("%s: in an index, but: %v", name, err)
		return ""
	}
	defer f.Close()
	if got, err = store.Hash(f); err != nil {
		v.find("%s: %v", name, err)
		return ""
	}
	if v.buried(name, got) || digest == "" {
		return got
	}
	if string(got) != digest {
		v.find("%s: digest %s, the index says %s", name, got, digest)
		return got
	}
	if err := rpm.Verify(f, f.Size(), name); err != nil {
		v.find("%v", err)
		return got
	}
	p, err := rpm.Read(f, f.Size(), name)
	if err != nil {
		v.find("%v", err)
		return got
	}
	r, ok := v.records[name]
	if scope, file, in := v.l.inPool(name); !ok && in { // a twin: another signature, stated by its header
		if claims := v.claims[path.Join(scope, file)]; len(claims) > 0 {
			r, ok = claims[0].record, true
			r.SignedBy = "" // it is what the bridge led to
		}
	}
	switch {
	case !ok:
		v.find("%s: in an index, but no release states it", name)
	case r.HeaderDigest != p.HeaderDigest:
		v.find("%s: header %s, the release statement says %s", name, p.HeaderDigest.Short(), r.HeaderDigest.Short())
	}
	p.Digest = got
	want := rpmmd.FingerprintOf(p)
	for said, folder := range v.said[name] {
		if kind := want.Differs(said); kind != "" {
			v.find("%s: %s.xml does not say of %s what its header says", folder, kind, name)
		}
	}
	header := io.NewSectionReader(f, p.HeaderStart, p.HeaderEnd-p.HeaderStart)
	if len(p.Signatures) == 0 {
		v.find("%s: not signed", name)
	}
	for _, s := range p.Signatures {
		if _, err := header.Seek(0, io.SeekStart); err != nil {
			v.find("%s: %v", name, err)
			return got
		}
		role, keys := keyring.Package, v.trust.Package
		if r.SignedBy == distro.Bridged && v.bridges(name) {
			role, keys = keyring.Metadata, v.keys
		}
		d, err := v.allowed(role, keys, name, header, s.Data)
		if d != nil && !v.loggedBefore(name, d.revoked) {
			err = d.finding
		}
		if err != nil {
			v.find("%s: signature: %v", name, err)
		}
	}
	return got
}

func sortedKeys[K ~string, V any](m map[K]V) []K {
	return slices.Sorted(maps.Keys(m))
}

func sortedSerials[V any](m map[int]V) []int { return slices.Sorted(maps.Keys(m)) }
