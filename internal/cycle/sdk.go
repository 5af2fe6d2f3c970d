package cycle

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/esdk"
	"slipway/internal/feed"
	"slipway/internal/layers"
	"slipway/internal/store"
)

// SDKs are BitBake's: installers with lists of what is in them, "<name>.host.manifest"
// and "<name>.target.manifest", in the form of images' manifests. An extensible one has an
// address to ask for updates; where that is in this publication, what an update server
// has lies there, as scripts/oe-publish-sdk of OE-Core lays it out.

// sdkContents reads what each SDK of a build holds, by the name before ".sh".
func (w *Workspace) sdkContents(ctx context.Context, b Build) ([]check.ImageContent, error) {
	known, err := w.knownPackages(ctx, b)
	if err != nil {
		return nil, err
	}
	var out []check.ImageContent
	for _, a := range b.Artifacts {
		stem := strings.TrimSuffix(strings.TrimSuffix(a.Name, ".host"+manifestEnding), ".target"+manifestEnding)
		if a.Class != distro.SDK || stem == a.Name {
			continue
		}
		packages, err := w.manifest(ctx, a, known)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(out, func(c check.ImageContent) bool { return c.Name == stem })
		if i < 0 {
			out = append(out, check.ImageContent{Image: path.Base(stem), Name: stem})
			i = len(out) - 1
		}
		out[i].Packages = append(out[i].Packages, packages...)
	}
	return out, nil
}

// publicSDKs gives the files of SDKs that may go out, by name of the artifact.
func (w *Workspace) publicSDKs(ctx context.Context, b Build) (map[string]bool, error) {
	contents, err := w.sdkContents(ctx, b)
	if err != nil {
		return nil, err
	}
	then, today := b.policy(w.Definition), w.Definition.PublicPolicy()
	out := map[string]bool{}
	for _, a := range b.Artifacts {
		if a.Class != distro.SDK {
			continue
		}
		from := imageOrigins(contents, a.Name)
		was, _ := then.Public(distro.SDK, from...)
		is, _ := today.Public(distro.SDK, from...)
		out[a.Name] = was && is
	}
	return out, nil
}

// publishSDKs writes a release's SDKs, and of what the extensible ones ask for updates all
// that is named by its content. What is replaced waits for switchUpdates.
func (w *Workspace) publishSDKs(ctx context.Context, v distro.Version, b Build, at time.Time) (string, error) {
	public, err := w.publicSDKs(ctx, b)
	if err != nil {
		return "", err
	}
	n, held := 0, 0
	for _, a := range b.Artifacts {
		switch {
		case a.Class != distro.SDK:
			continue
		case !public[a.Name]:
			held++
			continue
		}
		f, err := w.Blobs.Open(ctx, a.Digest)
		if err != nil {
			return "", errs.Wrap(err, "SDK %s", a.Name)
		}
		err = w.Tree.Create(ctx, feed.SDKName(b.Series, v, a.Name), f)
		f.Close()
		if err != nil {
			return "", err
		}
		n++
	}
	said := fmt.Sprintf("%d files", n)
	if held > 0 {
		said += fmt.Sprintf(", %d are not public", held)
	}
	return said, w.updates(ctx, v, b, public, at, false, nil)
}

// switchUpdates brings the addresses that extensible SDKs ask for updates to a release.
func (w *Workspace) switchUpdates(ctx context.Context, v distro.Version, b Build, at time.Time) (string, error) {
	public, err := w.publicSDKs(ctx, b)
	if err != nil {
		return "", err
	}
	var said []string
	err = w.updates(ctx, v, b, public, at, true, &said)
	return strings.Join(said, "; "), err
}

// updatesOf brings them to the release that is current, when it has such SDKs.
func (w *Workspace) updatesOf(ctx context.Context, v distro.Version) error {
	r, err := w.Release(ctx, v)
	if err != nil {
		return err
	}
	b, err := w.Build(ctx, string(r.Build))
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(b.Artifacts, func(a distro.Artifact) bool { return a.Class == distro.SDK && esdk.IsInstaller(a.Name) }) {
		return nil
	}
	t := w.Talk.Step("switch the updates of SDKs to " + string(v))
	n, err := w.switchUpdates(ctx, v, b, r.Approval.At)
	return end(t, err, n)
}

func (w *Workspace) updates(ctx context.Context, v distro.Version, b Build, public map[string]bool, at time.Time, pointers bool, said *[]string) error {
	taken := map[string]string{}
	for _, a := range b.Artifacts {
		if a.Class != distro.SDK || !public[a.Name] || !esdk.IsInstaller(a.Name) {
			continue
		}
		update, err := w.publishUpdate(ctx, v, b, a, at, taken, pointers)
		if err != nil {
			return errs.Wrap(err, "updates of %s", a.Name)
		}
		if said != nil {
			*said = append(*said, update)
		}
	}
	return nil
}

// publishUpdate writes what an extensible SDK's update address must have: what is named by
// its content, or what is replaced, the manifest last. A client that finds a new manifest
// finds all the rest.
func (w *Workspace) publishUpdate(ctx context.Context, v distro.Version, b Build, a distro.Artifact, at time.Time, taken map[string]string, pointers bool) (string, error) {
	dir := filepath.Join(w.internal("work"), "esdk-"+string(b.ID))
	if err := removeAll(dir); err != nil {
		return "", err
	}
	defer removeAll(dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", errs.E(errs.Unavailable, "make "+dir, err)
	}
	f, err := w.Blobs.Open(ctx, a.Digest)
	if err != nil {
		return "", err
	}
	url, err := esdk.Extract(ctx, io.NewSectionReader(f, 0, f.Size()), dir)
	f.Close()
	if err != nil {
		return "", err
	}
	if url == "" {
		return path.Base(a.Name) + " asks nobody for updates (SDK_UPDATE_URL)", nil
	}
	place, ok := strings.CutPrefix(strings.TrimRight(url, "/"), strings.TrimRight(w.Definition.Feeds.BaseURL, "/")+"/")
	name, below := strings.CutPrefix(place, feed.SDKUpdates(b.Series)+"/")
	if !ok || !below || name == "" || strings.Contains(name, "/") || store.CheckName(place) != nil {
		return fmt.Sprintf("%s asks %s for updates, which is not in this publication: %s/%s/NAME would be", path.Base(a.Name), url, strings.TrimRight(w.Definition.Feeds.BaseURL, "/"), feed.SDKUpdates(b.Series)), nil
	}
	if other := taken[place]; other != "" {
		return "", errs.E(errs.Conflict, fmt.Sprintf("%s and %s ask the same address for updates, %s", other, a.Name, url), errs.Hint("give each SDK its own: SDK_UPDATE_URL with ${SDK_NAME} in it"))
	}
	taken[place] = a.Name
	if err := layers.Serve(ctx, filepath.Join(dir, "layers"), fmt.Sprintf("%s %s", w.Definition.Distribution, v), at); err != nil {
		return "", err
	}
	files, err := updateFiles(dir)
	if err != nil {
		return "", err
	}
	for _, rel := range files {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		name := path.Join(place, rel)
		if feed.IsPointer(name) != pointers {
			continue
		}
		if pointers {
			data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(rel)))
			if err != nil {
				return "", errs.E(errs.Unavailable, "read "+rel, err)
			}
			if old, err := feed.ReadFile(ctx, w.Tree, name); err == nil && string(old) == string(data) {
				continue
			}
			if err := w.Tree.Swap(ctx, name, data); err != nil {
				return "", err
			}
			continue
		}
		if _, err := w.Tree.Stat(ctx, name); err == nil {
			continue // an object of git or of the cache, named by what is in it
		}
		f, err := os.Open(filepath.Join(dir, filepath.FromSlash(rel)))
		if err != nil {
			return "", errs.E(errs.Unavailable, "read "+rel, err)
		}
		err = w.Tree.Create(ctx, name, f)
		f.Close()
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%s finds its updates at %s", path.Base(a.Name), place), nil
}

// updateFiles lists what an update server needs, in the order in which it is published.
func updateFiles(dir string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return errs.E(errs.Unavailable, "read "+p, err)
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		// The layers are read by git alone.
		if e.Type().IsRegular() && (!strings.HasPrefix(rel, "layers/") || strings.HasPrefix(rel, "layers/.git/")) {
			out = append(out, rel)
		}
		return nil
	})
	rank := func(rel string) int {
		switch {
		case rel == esdk.Manifest:
			return 3
		case strings.HasPrefix(rel, "conf/"):
			return 2
		case strings.HasPrefix(rel, "layers/.git/") && !strings.HasPrefix(rel, "layers/.git/objects/pack/"):
			return 1
		}
		return 0
	}
	slices.SortFunc(out, func(a, b string) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return out, err
}
