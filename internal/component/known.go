// Package component knows optional parts of a distribution, sets of layers and targets:
// desktops that a definition can take in by name ([Enable]), and the policy for adding a
// layer ([CheckLayer]), which docs/policy-layers.md writes down for people.
package component

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"slipway/internal/config"
	"slipway/internal/errs"
)

//go:embed known/*.yaml
var known embed.FS

// Names are the components that every definition can enable, sorted.
func Names() []string {
	files, err := fs.Glob(known, "known/*.yaml")
	if err != nil {
		panic(err) // the pattern is ours
	}
	var out []string
	for _, f := range files {
		out = append(out, strings.TrimSuffix(path.Base(f), ".yaml"))
	}
	slices.Sort(out)
	return out
}

// block gives a known component as the text of a definition, for a release of Yocto,
// and the releases that its layers are for; none is every release.
func block(name, release string) (text string, releases []string, ok bool) {
	data, err := known.ReadFile("known/" + name + ".yaml")
	if err != nil {
		return "", nil, false
	}
	text = string(data)
	if rest, only := strings.CutPrefix(text, "# releases: "); only {
		var line string
		line, text, _ = strings.Cut(rest, "\n")
		releases = strings.Fields(line)
	}
	return strings.ReplaceAll(text, "{release}", release), releases, true
}

// Enable turns a component on in the text of a definition, and changes nothing else in
// it: one that is there by that name, or a known one, which is added. Layers that the
// definition has already under the same address and path are not named again.
func Enable(d *config.Definition, text []byte, name string) ([]byte, error) {
	if _, ok := d.Component(name); ok {
		return d.EnableComponent(text, name)
	}
	b, releases, ok := block(name, d.Builder.Release)
	if !ok {
		opts := []any{errs.Hint("slipway.yaml names none of that name; known ones are " + strings.Join(Names(), ", "))}
		all := Names()
		for _, c := range d.Components {
			all = append(all, c.Name)
		}
		if near := errs.Near(name, all); near != "" {
			opts = append(opts, errs.Hintf("did you mean %q?", near))
		}
		return nil, errs.E(errs.NotFound, "there is no component "+name, opts...)
	}
	if !config.Yocto(d.Builder.Kind) {
		return nil, errs.E(errs.Invalid, fmt.Sprintf("component %s is made of layers of BitBake, and the builder is %s", name, d.Builder.Kind))
	}
	if len(releases) > 0 && !slices.Contains(releases, d.Builder.Release) {
		return nil, errs.E(errs.Invalid, fmt.Sprintf("component %s is for %s, and the distribution is of %s: its layers have no branch for that", name, strings.Join(releases, ", "), d.Builder.Release),
			errs.Hintf("write a component %s of your own into slipway.yaml, with commits of those layers that name %s in LAYERSERIES_COMPAT", name, d.Builder.Release))
	}
	var kept strings.Builder
	for line := range strings.Lines(b) {
		has := slices.ContainsFunc(d.Layers, func(l config.Layer) bool {
			return l.URL != "" && strings.Contains(line, `url: "`+l.URL+`"`) && (l.Path == "." && !strings.Contains(line, "path: ") || strings.Contains(line, "path: "+l.Path+"}"))
		})
		if !has {
			kept.WriteString(line)
		}
	}
	return d.AddComponent(text, strings.Replace(kept.String(), "  layers:\n  targets", "  layers: []\n  targets", 1))
}
