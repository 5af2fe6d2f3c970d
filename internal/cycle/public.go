package cycle

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"slipway/internal/check"
	"slipway/internal/compose"
	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/dnf"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/store"
)

// What is internal never reaches a publisher: a build's records are marked when
// they are collected, the marked ones leave every list that a feed is made of, and
// the release's statement is written without them (docs/what-is-public.md).

// judgePublic marks, in place, the packages of a build that are not published.
// What an earlier release published stays so; what it kept in and what the policy
// lets out now is new to the publication.
func judgePublic(policy distro.PublicPolicy, l []distro.PackageRecord) {
	for i := range l {
		r := &l[i]
		if r.Kept && r.Internal == "" {
			continue
		}
		class := distro.Packages
		if r.IsSource() {
			class = distro.Sources
		}
		from := []distro.Origin{r.Origin()}
		if r.Reveals() {
			from = originsOf(r.SourceName, l)
		}
		ok, why := policy.Public(class, from...)
		if r.Internal = why; ok {
			r.Kept = false
		}
	}
}

// originsOf gives what is known of a recipe: all packages of it.
func originsOf(recipe string, l []distro.PackageRecord) []distro.Origin {
	out := []distro.Origin{}
	for _, r := range l {
		if r.SourceName == recipe {
			out = append(out, r.Origin())
		}
	}
	return out
}

// public gives the records that are published, internal the others.
func public(l []distro.PackageRecord) []distro.PackageRecord {
	return slices.DeleteFunc(slices.Clone(l), func(r distro.PackageRecord) bool { return r.Internal != "" })
}

func internal(l []distro.PackageRecord) []distro.PackageRecord {
	return slices.DeleteFunc(slices.Clone(l), func(r distro.PackageRecord) bool { return r.Internal == "" })
}

// samePolicy refuses to publish what today's policy keeps in though the
// candidate's feed was tested with it.
func (w *Workspace) samePolicy(b Build) error {
	now := slices.Clone(b.Packages)
	judgePublic(w.Definition.PublicPolicy(), now)
	var found errs.List
	for i, r := range b.Packages {
		if r.Internal == "" && now[i].Internal != "" {
			found = append(found, errs.E(errs.Refused, fmt.Sprintf("%s is not public any more: %s", r.NEVRA(), now[i].Internal),
				errs.Hint("the candidate was tested with it in its feed: slipway build, for the policy of today")))
		}
	}
	return found.Err()
}

// internalDir is a feed beside the candidate's, of the same form and signed by the
// same throw-away key, for images only.
func (w *Workspace) internalDir(id distro.BuildID) string { return w.work(id) + "/internal-feed" }

// writeInternalFeed makes that feed of packages of the artifact store; nothing when
// there are none.
func (w *Workspace) writeInternalFeed(ctx context.Context, dir string, key feed.Signer, b Build, l []distro.PackageRecord, at time.Time) error {
	if err := removeAll(dir); err != nil || len(l) == 0 {
		return err
	}
	tree, err := store.OpenTree(dir)
	if err != nil {
		return err
	}
	p := &feed.Publisher{Tree: tree, Layout: w.layout(), Distribution: w.Definition.Distribution, Title: w.Definition.Title, Package: key, Metadata: key, Scopes: w.scopes()}
	signed, err := w.addPackages(ctx, p, b, l)
	if err != nil {
		return err
	}
	_, err = p.WriteSnapshot(ctx, feed.Edition{Serial: internalSerial, Release: b.Version, At: at, Index: signed, History: signed})
	return err
}

// internalSerial is the one snapshot that an internal feed has.
const internalSerial = 1

func (w *Workspace) internalRepos(dir string, keys []string) []dnf.Repo {
	repos := w.deviceRepos(keys)
	for i := range repos {
		r := &repos[i]
		r.ID += "-internal"
		r.BaseURL = fmt.Sprintf("file://%s/%s/snapshots/%d/%s", dir, w.Definition.Series.Name, internalSerial, r.BaseURL[strings.LastIndex(r.BaseURL, "/")+1:])
	}
	return repos
}

// imageContents reads what each image of a build holds, from its manifest.
func (w *Workspace) imageContents(ctx context.Context, b Build) ([]check.ImageContent, error) {
	builds, err := w.Builds(ctx)
	if err != nil {
		return nil, err
	}
	known := map[distro.Digest]distro.PackageRecord{}
	for _, x := range append(builds, b) {
		for _, r := range x.Packages {
			known[r.HeaderDigest] = r
		}
	}
	if config.Yocto(b.Revision.Builder.Kind) {
		return w.bitbakeImages(ctx, b)
	}
	var out []check.ImageContent
	for _, a := range b.Artifacts {
		if a.Class != distro.Images || !strings.HasSuffix(a.Name, ".json") {
			continue
		}
		data, err := w.readBlob(ctx, a.Digest)
		if err != nil {
			return nil, errs.Wrap(err, "manifest %s", a.Name)
		}
		var m compose.Manifest
		if err := json.Unmarshal(data, &m); err != nil {
			return nil, errs.E(errs.Denied, "manifest "+a.Name+" of the artifact store cannot be read", err)
		}
		c := check.ImageContent{Board: m.Board, Image: m.Image, Name: strings.TrimSuffix(a.Name, ".json")}
		for _, p := range m.Packages {
			r, ok := known[p.HeaderDigest]
			if !ok {
				return nil, errs.E(errs.Denied, fmt.Sprintf("image %s holds %s, which no build here made", a.Name, p.NEVRA))
			}
			c.Packages = append(c.Packages, r)
		}
		out = append(out, c)
	}
	return out, nil
}

// publicImages gives the images of a build that may go out, by name of the
// artifact; their manifests go with them.
func (w *Workspace) publicImages(ctx context.Context, b Build) (map[string]bool, error) {
	contents, err := w.imageContents(ctx, b)
	if err != nil {
		return nil, err
	}
	then, today := b.policy(w.Definition), w.Definition.PublicPolicy()
	out := map[string]bool{}
	may := func(from []distro.Origin) bool {
		was, _ := then.Public(distro.Images, from...)
		is, _ := today.Public(distro.Images, from...)
		return was && is
	}
	if config.Yocto(b.Revision.Builder.Kind) {
		for _, a := range b.Artifacts {
			if a.Class == distro.Images {
				out[a.Name] = may(imageOrigins(contents, a.Name))
			}
		}
		return out, nil
	}
	for _, c := range contents {
		if may(c.Origins()) {
			out[c.Name], out[c.Name+".json"] = true, true
		}
	}
	return out, nil
}

func (w *Workspace) readBlob(ctx context.Context, d distro.Digest) ([]byte, error) {
	f, err := w.Blobs.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, f.Size())
	_, err = f.ReadAt(data, 0)
	if got := distro.DigestOf(data); got != d {
		return nil, errs.E(errs.Denied, fmt.Sprintf("stored bytes changed: %s, stated %s", got.Short(), d.Short()), err)
	}
	return data, nil
}
