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
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpmmd"
	"slipway/internal/store"
	"slipway/internal/timestamp"
)

// Where a published file is now.
const (
	InCurrent = "current" // in the newest snapshot: dnf upgrade offers it
	InHistory = "history" // only in the feed of every version
	Unlisted  = "nowhere" // no index names it any more
	ByLaw     = "removed" // a notice stands in its place
)

// Edited is one version of a package in the history of a series.
type Edited struct {
	Name    string         `json:"name"`
	EVR     string         `json:"evr"`
	Arch    string         `json:"arch"`
	Scope   string         `json:"scope"`
	Release distro.Version `json:"release"` // that brought it
	Serial  int            `json:"serial"`
	At      time.Time      `json:"at"` // from when devices could have it
	// File is its name in the publication; Where is InCurrent, InHistory, Unlisted or ByLaw.
	File         string        `json:"file"`
	Where        string        `json:"where"`
	Digest       distro.Digest `json:"digest"` // of the file
	HeaderDigest distro.Digest `json:"header_digest"`
	Size         int64         `json:"size"` // of the file, bytes
	Source       string        `json:"source"`
	// Withdrawn says why its release was taken back, Advisories name it as the fix.
	Withdrawn  string   `json:"withdrawn,omitempty"`
	Advisories []string `json:"advisories,omitempty"`
}

// Moments reads at.json: every snapshot of a series with its date.
func Moments(ctx context.Context, t store.Tree, series string) (At, error) {
	b, err := ReadFile(ctx, t, Layout{series}.AtJSON())
	if errs.Is(err, errs.NotFound) {
		return At{Series: series}, nil
	}
	if err != nil {
		return At{}, err
	}
	at, err := timestamp.ParseAt(b)
	return at, errs.Wrap(err, "%s", Layout{series}.AtJSON())
}

// History gives every version of a package that was ever published, in the order
// of publication, as the release statements of a series say. It checks no
// signature: see [Verify]. NotFound when no release has the package, with names
// that are near.
func History(ctx context.Context, t store.Tree, series, name string) ([]Edited, error) {
	l := Layout{series}
	at, err := Moments(ctx, t, series)
	if err != nil {
		return nil, err
	}
	var out []Edited
	names := map[string]bool{}
	done, known := map[distro.Version]bool{}, map[string]bool{}
	for _, e := range at.Entries {
		if done[e.Release] { // another snapshot of the same release
			continue
		}
		done[e.Release] = true
		var s distro.Statement
		b, err := ReadFile(ctx, t, l.Statement(e.Release))
		if err != nil {
			return nil, errs.Wrap(err, "the statement of release %s", e.Release)
		}
		if err := json.Unmarshal(b, &s); err != nil {
			return nil, errs.E(errs.Invalid, l.Statement(e.Release)+" cannot be read", err, errs.Hint("slipway verify"))
		}
		for _, p := range s.Packages {
			names[p.Name] = true
			if k := p.Scope + "/" + p.File; p.Name == name && !known[k] {
				known[k] = true
				out = append(out, Edited{Name: p.Name, EVR: p.EVR(), Arch: p.Arch, Scope: p.Scope, Release: e.Release, Serial: e.Serial, At: e.At,
					File: l.Package(p), Where: Unlisted, Digest: p.Digest, HeaderDigest: p.HeaderDigest, Size: p.Size, Source: p.SourceName})
			}
		}
	}
	if len(out) == 0 {
		hint := errs.Hint("slipway feed list names the packages of the current snapshot")
		if near := errs.Near(name, sortedKeys(names)); near != "" {
			hint = errs.Hintf("did you mean %q?", near)
		}
		return nil, errs.E(errs.NotFound, fmt.Sprintf("no release of series %s has a package %s", series, name), hint)
	}
	if err := locate(ctx, t, l, out); err != nil {
		return nil, err
	}
	return out, annotate(ctx, t, l, at.Entries[len(at.Entries)-1].Serial, out)
}

// annotate adds what the newest snapshot says of releases and advisories.
func annotate(ctx context.Context, t store.Tree, l Layout, serial int, list []Edited) error {
	b, err := ReadFile(ctx, t, l.Snapshot(serial)+"/snapshot.json")
	if err != nil {
		return err
	}
	s, err := timestamp.ParseSnapshot(b)
	if err != nil {
		return errs.Wrap(err, "snapshot %d", serial)
	}
	fixes := map[string][]string{} // scope/file -> ids
	read := map[string]bool{}
	for _, x := range list {
		folder := path.Join(l.Snapshot(serial), x.Scope)
		if read[x.Scope] {
			continue
		}
		read[x.Scope] = true
		advisories, err := advisoriesIn(ctx, t, folder)
		if errs.Is(err, errs.NotFound) {
			continue // a scope that the series has no more
		}
		if err != nil {
			return err
		}
		for _, a := range advisories {
			for _, p := range a.Packages {
				key := x.Scope + "/" + p.File
				fixes[key] = append(fixes[key], a.ID)
			}
		}
	}
	for i := range list {
		x := &list[i]
		x.Advisories = fixes[x.Scope+"/"+path.Base(x.File)]
		for _, w := range s.Withdrawn {
			if w.Release == x.Release {
				x.Withdrawn = w.Because
			}
		}
	}
	return nil
}

// advisoriesIn reads the advisories of a feed's folder; none is no error. The file's
// checksum is compared with repomd.xml, whose signature is not.
func advisoriesIn(ctx context.Context, t store.Tree, folder string) ([]rpmmd.Advisory, error) {
	b, err := ReadFile(ctx, t, folder+"/repodata/repomd.xml")
	if err != nil {
		return nil, err
	}
	md, err := rpmmd.ReadRepomd(b)
	if err != nil {
		return nil, errs.Wrap(err, "%s", folder)
	}
	list, err := rpmmd.ReadAdvisories(func(name string) (io.ReadCloser, error) { return t.Open(ctx, path.Join(folder, name)) }, md)
	return list, errs.Wrap(err, "%s", folder)
}

// locate finds where each file is now: an index says it, and the file's name, for
// a re-signed twin lies elsewhere in the pool.
func locate(ctx context.Context, t store.Tree, l Layout, list []Edited) error {
	indexes := map[string]map[string]*rpmmd.PrimaryPackage{} // folder -> file
	for i := range list {
		x := &list[i]
		for _, in := range []struct{ folder, where string }{{l.History(x.Scope), InHistory}, {l.Current(x.Scope), InCurrent}} {
			files, ok := indexes[in.folder]
			if !ok {
				files = map[string]*rpmmd.PrimaryPackage{}
				all, err := primary(ctx, t, in.folder)
				if err != nil && !errs.Is(err, errs.NotFound) {
					return err
				}
				for _, p := range all {
					files[path.Base(p.Href)] = p
				}
				indexes[in.folder] = files
			}
			if p := files[path.Base(x.File)]; p != nil {
				x.Where, x.File = in.where, path.Join(in.folder, p.Href)
			}
		}
	}
	if !slices.ContainsFunc(list, func(x Edited) bool { return x.Where == Unlisted }) {
		return nil
	}
	gone, err := removedFiles(ctx, t, l)
	for i := range list {
		if x := &list[i]; x.Where == Unlisted && gone[x.File] {
			x.Where = ByLaw
		}
	}
	return err
}

// removedFiles gives the names that the newest snapshot's removals took away. No
// signature is looked at.
func removedFiles(ctx context.Context, t store.Tree, l Layout) (map[string]bool, error) {
	at, err := Moments(ctx, t, l.Series)
	if err != nil || len(at.Entries) == 0 {
		return nil, err
	}
	b, err := ReadFile(ctx, t, l.Snapshot(at.Entries[len(at.Entries)-1].Serial)+"/snapshot.json")
	if err != nil {
		return nil, err
	}
	s, err := timestamp.ParseSnapshot(b)
	if err != nil {
		return nil, err
	}
	gone := map[string]bool{}
	for _, r := range s.Removed {
		b, err := ReadFile(ctx, t, l.Removal(r.Serial))
		if err != nil {
			return nil, err
		}
		notice, err := timestamp.ParseRemoval(b)
		if err != nil {
			return nil, errs.Wrap(err, "%s", l.Removal(r.Serial))
		}
		for _, f := range notice.Files {
			gone[f.File] = true
		}
	}
	return gone, nil
}

// primary reads the packages of a feed's folder, of the one metadata file that
// names them. The file's checksum is compared with repomd.xml, whose signature is not.
func primary(ctx context.Context, t store.Tree, folder string) ([]*rpmmd.PrimaryPackage, error) {
	b, err := ReadFile(ctx, t, folder+"/repodata/repomd.xml")
	if err != nil {
		return nil, err
	}
	md, err := rpmmd.ReadRepomd(b)
	if err != nil {
		return nil, errs.Wrap(err, "%s", folder)
	}
	return primaryOf(ctx, t, folder, md)
}

// primaryOf is primary for a repomd.xml that was read.
func primaryOf(ctx context.Context, t store.Tree, folder string, md *rpmmd.Repomd) ([]*rpmmd.PrimaryPackage, error) {
	rec, ok := md.Record("primary")
	if !ok {
		return nil, errs.E(errs.Invalid, folder+"/repodata/repomd.xml names no primary.xml", errs.Hint("slipway verify"))
	}
	alone := rpmmd.EncodeRepomd(md.Revision, []rpmmd.Record{rec})
	repo, err := rpmmd.ReadRepo(func(name string) (io.ReadCloser, error) {
		if name == "repodata/repomd.xml" {
			return io.NopCloser(bytes.NewReader(alone)), nil
		}
		return t.Open(ctx, path.Join(folder, name))
	})
	if err != nil {
		return nil, errs.Wrap(err, "%s", folder)
	}
	return repo.Primary, nil
}

// Moved is a package that two snapshots do not have alike.
type Moved struct {
	Scope  string `json:"scope"`
	Name   string `json:"name"`
	Arch   string `json:"arch"`
	Change string `json:"change"` // added, gone, up, down, resigned
	Old    string `json:"old,omitempty"`
	New    string `json:"new,omitempty"`
	// Bytes is what a device that follows downloads.
	Bytes int64 `json:"bytes"`
}

// Difference is what a device gets that goes from one snapshot to another.
type Difference struct {
	A        AtEntry `json:"a"`
	B        AtEntry `json:"b"`
	Same     int     `json:"same"` // packages
	Packages []Moved `json:"packages"`
	Bytes    int64   `json:"bytes"` // all downloads
}

// Compare compares the indexes of two snapshots, each named as [timestamp.At.Find]
// takes it.
func Compare(ctx context.Context, t store.Tree, series, a, b string) (Difference, error) {
	d := Difference{Packages: []Moved{}}
	at, err := Moments(ctx, t, series)
	if err != nil {
		return d, err
	}
	if d.A, err = at.Find(a); err != nil {
		return d, err
	}
	if d.B, err = at.Find(b); err != nil {
		return d, err
	}
	before, err := offered(ctx, t, Layout{series}, d.A.Serial)
	if err != nil {
		return d, err
	}
	after, err := offered(ctx, t, Layout{series}, d.B.Serial)
	if err != nil {
		return d, err
	}
	for k := range before {
		if _, ok := after[k]; !ok {
			after[k] = nil // one walk over the keys of both
		}
	}
	for _, k := range sortedKeys(after) {
		scope, _, _ := strings.Cut(k, "/")
		was, is := before[k], after[k]
		m := Moved{Scope: scope}
		switch {
		case was == nil:
			m.Change = "added"
		case is == nil:
			m.Change = "gone"
		case was.Checksum == is.Checksum:
			d.Same++
			continue
		default:
			m.Change = map[int]string{-1: "up", 0: "resigned", 1: "down"}[distro.CompareEVR(was.Epoch, was.Version, was.Release, is.Epoch, is.Version, is.Release)]
		}
		if was != nil {
			m.Name, m.Arch, m.Old = was.Name, was.Arch, was.EVR()
		}
		if is != nil {
			m.Name, m.Arch, m.New, m.Bytes = is.Name, is.Arch, is.EVR(), is.Size
		}
		d.Bytes += m.Bytes
		d.Packages = append(d.Packages, m)
	}
	return d, nil
}

// offered gives the packages of a snapshot by scope, name and architecture.
func offered(ctx context.Context, t store.Tree, l Layout, serial int) (map[string]*rpmmd.PrimaryPackage, error) {
	name := l.Snapshot(serial) + "/snapshot.json"
	b, err := ReadFile(ctx, t, name)
	if err != nil {
		return nil, err
	}
	s, err := timestamp.ParseSnapshot(b)
	if err != nil {
		return nil, errs.Wrap(err, "%s", name)
	}
	out := map[string]*rpmmd.PrimaryPackage{}
	for _, f := range s.Feeds {
		list, err := primary(ctx, t, path.Join(l.Snapshot(serial), f.Scope))
		if err != nil {
			return nil, err
		}
		for _, p := range list {
			k := f.Scope + "/" + p.Name + "." + p.Arch
			if was := out[k]; was == nil || distro.CompareEVR(was.Epoch, was.Version, was.Release, p.Epoch, p.Version, p.Release) < 0 {
				out[k] = p
			}
		}
	}
	return out, nil
}
