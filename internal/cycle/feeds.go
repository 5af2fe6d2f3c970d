package cycle

import (
	"context"
	"fmt"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/keyring"
)

// RepoFile gives the text of the .repo file for a client. With url it names the
// publication itself; with pin, as timestamp.At.Find takes it, it stays at one
// snapshot.
func (w *Workspace) RepoFile(ctx context.Context, url, pin string) (string, error) {
	snapshot, comment := "", ""
	switch {
	case pin == "current" || pin == "" && url != "":
		snapshot = "current"
	case pin != "":
		at, err := feed.Moments(ctx, w.Tree, w.Definition.Series.Name)
		if err != nil {
			return "", err
		}
		e, err := at.Find(pin)
		if err != nil {
			if r, rerr := w.Release(ctx, distro.Version(pin)); rerr == nil && r.Status == distro.Publishing {
				return "", errs.E(errs.Conflict, fmt.Sprintf("release %s is not published yet", pin), errs.Hintf("slipway publish %s", pin))
			}
			return "", err
		}
		snapshot = fmt.Sprintf("snapshots/%d", e.Serial)
		comment = fmt.Sprintf("Stays at snapshot %d, release %s of %s: dnf distro-sync goes there. Without --pin this file follows the newest.", e.Serial, e.Release, e.At.UTC().Format(time.DateOnly))
	}
	public, err := w.Public()
	if err != nil {
		return "", err
	}
	var keys []string
	for _, role := range sorted(public) {
		if url == "" {
			keys = append(keys, "file:///etc/pki/rpm-gpg/"+feed.KeyName(w.Definition.Distribution, role))
			continue
		}
		names, err := w.keyNames(ctx, keyring.Role(role))
		if err != nil {
			return "", err
		}
		for _, name := range names {
			keys = append(keys, url+"/"+name)
		}
	}
	d := w.Definition
	return feed.RepoFile(feed.RepoOptions{Distribution: d.Distribution, Title: d.Title, Series: d.Series.Name, Scopes: w.deviceScopes(), URL: url, Snapshot: snapshot, Keys: keys, Comment: comment}), nil
}

// keyNames gives the public keys of a role that clients must know, as the publication
// names them. A key that waits for the next publish is not there yet.
func (w *Workspace) keyNames(ctx context.Context, role keyring.Role) ([]string, error) {
	ring, err := w.Keyring()
	if err != nil {
		return nil, err
	}
	var all, there []string
	for _, k := range ring.Trusted(role) {
		name := "keys/" + k.Name() + ".asc"
		all = append(all, name)
		if _, err := w.Tree.Stat(ctx, name); err == nil {
			there = append(there, name)
		}
	}
	if len(there) == 0 { // before the first release
		return all, nil
	}
	return there, nil
}

// FeedPackage is one line of a feed's list.
type FeedPackage struct {
	Scope string         `json:"scope"`
	Name  string         `json:"name"`
	EVR   string         `json:"evr"`
	Since distro.Version `json:"since"` // the release that brought it
	Size  int64          `json:"size"`  // of the file, bytes
}

// FeedList gives the packages of the current snapshot.
func (w *Workspace) FeedList(ctx context.Context) ([]FeedPackage, error) {
	releases, err := w.Releases(ctx)
	if err != nil {
		return nil, err
	}
	since := map[string]distro.Version{}
	var lists [][]distro.PackageRecord
	for _, r := range releases {
		if r.Status != distro.Published {
			continue
		}
		lists = append(lists, r.Packages)
		for _, p := range r.Packages {
			if k := p.Scope + "/" + p.File; since[k] == "" {
				since[k] = r.Version
			}
		}
	}
	gone, err := w.gone(ctx)
	if err != nil {
		return nil, err
	}
	out := []FeedPackage{}
	for _, p := range feed.Newest(gone.standing(feed.Union(lists...))) {
		out = append(out, FeedPackage{p.Scope, p.Name, p.EVR(), since[p.Scope+"/"+p.File], p.Size})
	}
	return out, nil
}
