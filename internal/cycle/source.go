package cycle

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/keyring"
	"slipway/internal/source"
)

// From binary to source: what package source gets of a workspace, and when the cache
// goes out.

// SourceSet is a published release as those get it who build it themselves.
func (w *Workspace) SourceSet(ctx context.Context, v distro.Version) (source.Set, error) {
	r, err := w.Release(ctx, v)
	if err != nil {
		return source.Set{}, err
	}
	switch r.Status {
	case distro.Publishing:
		return source.Set{}, errs.E(errs.Conflict, fmt.Sprintf("release %s is not published yet", v), errs.Hintf("slipway publish %s", v))
	case distro.Withdrawn:
		return source.Set{}, errs.E(errs.Refused, fmt.Sprintf("release %s was withdrawn", v), errs.Hint("slipway status lists the releases"))
	}
	b, err := w.Build(ctx, string(r.Build))
	if err != nil {
		return source.Set{}, err
	}
	s, err := w.sourceSet(ctx, b, r)
	if err != nil {
		return s, err
	}
	text, err := w.artifact(ctx, b, distro.Configuration, "slipway.yaml")
	if err == nil {
		s.Definition, err = config.ParseDefinition("slipway.yaml", text)
	}
	if err != nil {
		return s, errs.Wrap(err, "the definition of release %s", v)
	}
	ring, err := w.Keyring()
	if err != nil {
		return s, err
	}
	s.Keys = ring.Armored(keyring.SState)
	for _, k := range ring.Trusted(keyring.SState) {
		s.KeyIDs = append(s.KeyIDs, strings.ToUpper(k.Fingerprint[24:]))
	}
	return s, nil
}

// sourceSet has the policies of the build and of today, both: what one of them keeps in
// stays in. The classes are today's. What removals took from the cache is not in it.
func (w *Workspace) sourceSet(ctx context.Context, b Build, r Release) (source.Set, error) {
	gone, err := w.gone(ctx)
	if err != nil {
		return source.Set{}, err
	}
	policy := w.Definition.PublicPolicy()
	policy.Exclude = slices.Concat(policy.Exclude, b.policy(w.Definition).Exclude)
	return source.Set{Definition: w.Definition, Version: b.Version, Revision: b.Revision, Artifacts: gone.withoutGone(b.Artifacts),
		Packages: slices.Concat(r.Packages, r.Internal), Policy: policy, Blobs: w.Blobs}, nil
}

func (w *Workspace) artifact(ctx context.Context, b Build, class distro.Class, name string) ([]byte, error) {
	i := slices.IndexFunc(b.Artifacts, func(a distro.Artifact) bool { return a.Class == class && a.Name == name })
	if i < 0 {
		return nil, errs.E(errs.NotFound, fmt.Sprintf("build %s has no %s %s", b.ID, class, name))
	}
	return w.readBlob(ctx, b.Artifacts[i].Digest)
}

// mirrors tells whether the policy of the series lets the cache or the sources out.
func (w *Workspace) mirrors() bool {
	return w.yocto() && (w.Definition.IsPublic(distro.SState) || w.Definition.IsPublic(distro.Downloads))
}

// publishMirrors adds a release's cache and sources to the publication. keys have the
// signer of the cache when the policy lets it out.
func (w *Workspace) publishMirrors(ctx context.Context, keys Keys, v distro.Version, b Build) (source.Mirrored, error) {
	r, err := w.Release(ctx, v)
	if err != nil {
		return source.Mirrored{}, err
	}
	s, err := w.sourceSet(ctx, b, r)
	if err != nil {
		return source.Mirrored{}, err
	}
	return source.Mirror(ctx, w.Tree, s, keys.SState, r.Approval.At)
}

// PublishMirrors adds the cache and the sources of all releases to the publication,
// oldest first: for what was released before publish.public listed them.
func (w *Workspace) PublishMirrors(ctx context.Context) (source.Mirrored, error) {
	var all source.Mirrored
	if !w.mirrors() {
		return all, errs.E(errs.Refused, "publish.public lists neither sstate nor downloads: they stay in the house", errs.Hint("add them to publish.public in slipway.yaml (docs/what-is-public.md)"))
	}
	lock, err := w.lock(ctx, "publish")
	if err != nil {
		return all, err
	}
	defer lock.Release()
	keys, err := w.Keys()
	if err != nil {
		return all, err
	}
	releases, err := w.Releases(ctx)
	if err != nil {
		return all, err
	}
	for _, r := range releases {
		if r.Status == distro.Withdrawn || r.Status == distro.Publishing {
			continue
		}
		b, err := w.Build(ctx, string(r.Build))
		if err != nil {
			return all, err
		}
		t := w.Talk.Step("publish cache and sources of " + string(r.Version))
		m, err := w.publishMirrors(ctx, keys, r.Version, b)
		if err := end(t, err, m.String()); err != nil {
			return all, err
		}
		all.Objects, all.Downloads, all.New, all.Withheld = all.Objects+m.Objects, all.Downloads+m.Downloads, all.New+m.New, all.Withheld+m.Withheld
	}
	return all, nil
}
