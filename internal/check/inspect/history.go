package inspect

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"slipway/internal/buildhistory"
	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/errs"
)

// read reads the build history that a build left; nil is none.
func readHistory(ctx context.Context, all []check.Artifact) (*buildhistory.History, error) {
	h := buildhistory.New()
	found := false
	for _, a := range all {
		if a.Class != distro.Buildhistory || !buildhistory.Wanted(a.Name) {
			continue
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		f, err := a.Open(ctx)
		if errs.Is(err, errs.NotFound) {
			continue
		}
		if err != nil {
			return nil, errs.Wrap(err, "buildhistory %s", a.Name)
		}
		err = h.Add(a.Name, f)
		f.Close()
		if err != nil {
			return nil, err
		}
		found = true
	}
	if !found {
		return nil, nil
	}
	return h, nil
}

// history compares recipes and images with what BitBake wrote of the last release. What
// a build restored from its cache may not be there: that is no change.
func (in *inspection) history(ctx context.Context) (string, error) {
	if len(in.bed.Base) == 0 {
		return "", nil
	}
	now, err := readHistory(ctx, in.bed.Artifacts)
	if err != nil || now == nil {
		return "", in.damaged(err)
	}
	old, err := readHistory(ctx, in.bed.BaseArtifacts)
	if err != nil {
		return "", in.damaged(err)
	}
	if old == nil {
		return "the last release left no buildhistory", nil
	}
	for _, k := range slices.SortedFunc(maps.Keys(now.Recipes), func(a, b buildhistory.Key) int { return strings.Compare(a.String(), b.String()) }) {
		was := old.Recipes[k]
		if was == nil {
			continue
		}
		in.res.Asked++
		in.recipe(k, was, now.Recipes[k])
	}
	for _, k := range slices.SortedFunc(maps.Keys(now.Images), func(a, b buildhistory.Key) int { return strings.Compare(a.String(), b.String()) }) {
		was := old.Images[k]
		if was == nil {
			continue
		}
		in.res.Asked++
		in.image(k, was, now.Images[k])
	}
	return "", nil
}

// damaged makes a finding of history that cannot be read; other errors end the check.
func (in *inspection) damaged(err error) error {
	if err == nil || !errs.Is(err, errs.Invalid) {
		return err
	}
	in.res.Asked++
	in.add(distro.Finding{ID: "buildhistory", Level: distro.Block, Object: "buildhistory", Text: fmt.Sprintf("the build history cannot be read, so nobody knows what changed in recipes and images: %v", err), Cure: "see what wrote it: OE-Core's class buildhistory of another release, or a disk that was full"})
	return nil
}

func (in *inspection) recipe(k buildhistory.Key, old, now *buildhistory.Recipe) {
	add := func(id string, level distro.Level, text, cure string, evidence []string) {
		in.add(distro.Finding{ID: "recipe:" + k.Name + "." + k.Arch + ":" + id, Level: level, Object: k.Name, Source: k.Name, Text: text, Cure: cure, Evidence: check.Few(evidence, 40)})
	}
	// PR says nothing of the content where a PR server gives numbers.
	if c := distro.CompareEVR(epoch(now.Epoch), now.Version, "0", epoch(old.Epoch), old.Version, "0"); c < 0 {
		add("backwards", distro.Block, fmt.Sprintf("recipe %s goes backwards: %s, was %s", k.Name, version(now), version(old)), "raise PV, or PE when it must go down", nil)
	}
	if now.License != old.License {
		add("license", distro.Warn, fmt.Sprintf("the licence of recipe %s was %q and is %q", k.Name, old.License, now.License), "see that it may be shipped", nil)
	}
	if now.Layer != old.Layer {
		add("layer", distro.Warn, fmt.Sprintf("recipe %s came from layer %s and comes from %s", k.Name, old.Layer, now.Layer), "nothing, if that was meant: another layer's recipe won", nil)
	}
	if lost, more := missing(old.Packages, now.Packages), missing(now.Packages, old.Packages); len(lost)+len(more) > 0 {
		add("packages", distro.Info, fmt.Sprintf("recipe %s makes other packages", k.Name), "nothing, if that was meant", append(marked("+ ", more), marked("- ", lost)...))
	}
	lines := append(marked("+ ", missing(now.Depends, old.Depends)), marked("- ", missing(old.Depends, now.Depends))...)
	if now.Config != old.Config {
		lines = append(lines, fmt.Sprintf("PACKAGECONFIG was %q and is %q", old.Config, now.Config))
	}
	if len(lines) > 0 {
		add("built-with", distro.Info, fmt.Sprintf("recipe %s is built with other things: %s", k.Name, strings.Join(check.Few(lines, 3), ", ")), "nothing, if that was meant", lines)
	}
}

func version(r *buildhistory.Recipe) string {
	if r.Epoch != "" && r.Epoch != "0" {
		return r.Epoch + ":" + r.Version
	}
	return r.Version
}

func epoch(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0 // none is 0 to rpm
	}
	return n
}

func (in *inspection) image(k buildhistory.Key, old, now *buildhistory.Image) {
	add := func(id string, level distro.Level, text, cure string, evidence []string) {
		in.add(distro.Finding{ID: "image:" + k.String() + ":" + id, Level: level, Object: k.String(), Text: text, Cure: cure, Evidence: check.Few(evidence, 40)})
	}
	if in.bed.Growth.Exceeded(old.Size*1024, now.Size*1024) {
		add("size", distro.Warn, fmt.Sprintf("image %s grew from %d to %d KiB, by %d %%; the limit is %d %%", k, old.Size, now.Size, (now.Size-old.Size)*100/old.Size, in.bed.Growth.Percent), "see what came in; raise gate: growth: in slipway.yaml when that is right", nil)
	}
	if old.Packages != nil && now.Packages != nil {
		if lost, more := missing(old.Packages, now.Packages), missing(now.Packages, old.Packages); len(lost)+len(more) > 0 {
			add("packages", distro.Info, fmt.Sprintf("image %s has %s more and %s fewer", k, check.Count(len(more), "package"), check.Count(len(lost), "package")), "nothing, if that was meant", append(marked("+ ", more), marked("- ", lost)...))
		}
	}
	was := map[string]string{}
	for _, f := range old.Files {
		was[f.Path] = f.Mode
	}
	var special []string
	for _, f := range now.Files {
		if f.Mode[0] == '-' && (f.Mode[3] == 's' || f.Mode[6] == 's' || f.Mode[3] == 'S' || f.Mode[6] == 'S') && was[f.Path] != f.Mode {
			special = append(special, fmt.Sprintf("%s %s %s:%s", f.Path, f.Mode, f.User, f.Group))
		}
	}
	if len(special) > 0 {
		add("setuid", distro.Warn, fmt.Sprintf("image %s has %s more with special rights: %s", k, check.Count(len(special), "program"), strings.Join(check.Few(special, 3), ", ")), "see that it needs them", special)
	}
}
