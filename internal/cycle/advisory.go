package cycle

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/state"
)

// Advisories gives the newest version of each advisory that was published, by id, the
// withdrawn ones too.
func (w *Workspace) Advisories(ctx context.Context) ([]distro.Advisory, error) {
	all, err := w.Changes(ctx)
	if err != nil {
		return nil, err
	}
	newest := map[string]distro.Advisory{}
	for _, c := range all {
		if c.Status == distro.Published {
			for _, a := range c.Advisories {
				newest[a.ID] = a
			}
		}
	}
	out := []distro.Advisory{}
	for _, id := range sorted(newest) {
		out = append(out, newest[id])
	}
	return out, nil
}

// advisoriesOf gives the advisories of an edition: those that were published, and more,
// each with the packages that the releases still offer. It names no package of a
// withdrawn release and none that was removed by law: devices could not get it.
func (w *Workspace) advisoriesOf(ctx context.Context, releases []Release, gone gone, more []distro.Advisory) ([]distro.Advisory, error) {
	all, err := w.Advisories(ctx)
	if err != nil {
		return nil, err
	}
	for _, a := range more {
		all = slices.DeleteFunc(all, func(x distro.Advisory) bool { return x.ID == a.ID })
	}
	all = append(slices.Clip(all), more...)
	if len(all) == 0 {
		return nil, nil
	}
	there := map[string]bool{}
	for _, a := range all {
		for _, p := range a.Packages {
			there[p.Scope+"/"+p.File] = false
		}
	}
	for _, r := range releases {
		if r.Status == distro.Withdrawn {
			continue
		}
		for _, p := range gone.standing(r.Packages) {
			if _, asked := there[p.Scope+"/"+p.File]; asked {
				there[p.Scope+"/"+p.File] = true
			}
		}
	}
	slices.SortFunc(all, func(a, b distro.Advisory) int { return strings.Compare(a.ID, b.ID) })
	for i := range all {
		all[i].Packages = slices.DeleteFunc(slices.Clone(all[i].Packages), func(p distro.AdvisoryPackage) bool { return !there[p.Scope+"/"+p.File] })
	}
	return all, nil
}

// CheckAdvisories resolves files of advisories against the published releases, and gives
// those that say something new: each with the packages that its release brought. All
// findings come together; nothing is written.
func (w *Workspace) CheckAdvisories(ctx context.Context, files []*config.AdvisoryFile) ([]distro.Advisory, error) {
	known, err := w.Advisories(ctx)
	if err != nil {
		return nil, err
	}
	releases, err := w.Releases(ctx)
	if err != nil {
		return nil, err
	}
	gone, err := w.gone(ctx)
	if err != nil {
		return nil, err
	}
	for i := range releases {
		releases[i].Packages = gone.standing(releases[i].Packages)
	}
	var out []distro.Advisory
	var bad errs.List
	files = slices.Clone(files)
	slices.SortStableFunc(files, func(a, b *config.AdvisoryFile) int { return strings.Compare(a.ID, b.ID) })
	for i, f := range files {
		if i > 0 && f.ID == files[i-1].ID {
			bad = append(bad, f.Finding("", fmt.Sprintf("two files are of advisory %s", f.ID), "the id is the file's name: give one another"))
			continue
		}
		j := slices.IndexFunc(known, func(k distro.Advisory) bool { return k.ID == f.ID })
		if f.Withdrawn != "" { // its packages may be gone, and are not looked for
			if j < 0 || known[j].Withdrawn == f.Withdrawn {
				continue // before anybody saw it; said already
			}
			a := known[j]
			a.Withdrawn = f.Withdrawn
			a.Version++
			out = append(out, a)
			continue
		}
		a, findings := w.advisory(f, releases)
		if bad = append(bad, findings...); len(findings) > 0 {
			continue
		}
		a.Version = 1
		if j >= 0 {
			if a.SameText(known[j]) {
				continue
			}
			a.Version, a.Issued = known[j].Version+1, known[j].Issued
		}
		out = append(out, a)
	}
	return out, bad.Err()
}

// advisory resolves one file.
func (w *Workspace) advisory(f *config.AdvisoryFile, releases []Release) (distro.Advisory, errs.List) {
	a := distro.Advisory{ID: f.ID, Type: f.Type, Severity: f.Severity, Title: f.Title, Description: strings.TrimSpace(f.Description), CVEs: f.CVEs, Reboot: f.Reboot,
		Contact: w.Definition.Security.Contact, FixedIn: distro.Version(f.FixedIn)}
	for _, r := range f.References {
		a.References = append(a.References, distro.Reference(r))
	}
	var bad errs.List
	find := func(key, msg, hint string) { bad = append(bad, f.Finding(key, msg, hint)) }
	i := slices.IndexFunc(releases, func(r Release) bool { return string(r.Version) == f.FixedIn })
	switch {
	case i < 0:
		var names []string
		for _, r := range releases {
			names = append(names, string(r.Version))
		}
		hint := "slipway status lists the releases"
		if near := errs.Near(f.FixedIn, names); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		find("fixed_in", fmt.Sprintf("release %s is not in this workspace", f.FixedIn), hint)
		return a, bad
	case releases[i].Status == distro.Publishing:
		find("fixed_in", fmt.Sprintf("release %s is not published yet: an advisory never comes before its fix", f.FixedIn), "slipway publish "+f.FixedIn)
		return a, bad
	case releases[i].Status == distro.Withdrawn:
		find("fixed_in", fmt.Sprintf("release %s was withdrawn: devices cannot get its packages", f.FixedIn), "name the release that brought the fix again, or write withdrawn: REASON")
		return a, bad
	}
	d := discretionOf(releases[i].Packages, releases[i].Internal)
	for _, x := range [][2]string{{"title", f.Title}, {"description", f.Description}} {
		if d.names(x[1]) {
			find(x[0], x[0]+" names a package or recipe of the release that is not public", "say it in other words, or make the package public: docs/what-is-public.md")
		}
	}
	var took []distro.PackageRecord
	take := func(key, what, name string, is func(distro.PackageRecord) string) {
		brought, kept := false, false
		names := map[string]bool{}
		for _, p := range releases[i].Packages {
			names[is(p)] = true
			if is(p) != name {
				continue
			}
			if p.Kept {
				kept = true
				continue
			}
			brought = true
			took = append(took, p)
		}
		switch {
		case brought:
		case kept:
			hint := "name the release that brought the fix"
			if v := bringer(releases[:i], name, is); v != "" {
				hint = fmt.Sprintf("the packages that it kept are of release %s: fixed_in: %q", v, v)
			}
			find(key, fmt.Sprintf("release %s kept what it had of %s %s: it did not bring a fix", f.FixedIn, what, name), hint)
		default:
			hint := "slipway feed list names the packages; what is internal has no advisory"
			if near := errs.Near(name, sorted(names)); near != "" {
				hint = fmt.Sprintf("did you mean %q?", near)
			}
			find(key, fmt.Sprintf("release %s has no %s %s", f.FixedIn, what, name), hint)
		}
	}
	for i, name := range f.Recipes {
		take(fmt.Sprintf("recipes[%d]", i), "recipe", name, func(p distro.PackageRecord) string { return p.SourceName })
	}
	for i, name := range f.Packages {
		take(fmt.Sprintf("packages[%d]", i), "package", name, func(p distro.PackageRecord) string { return p.Name })
	}
	for _, p := range feed.Union(took) {
		a.Packages = append(a.Packages, distro.AdvisoryPackage{Scope: p.Scope, Name: p.Name, Epoch: p.Epoch, Version: p.Version, Release: p.Release, Arch: p.Arch, File: p.File})
	}
	return a, bad
}

// bringer gives the newest of the releases that brought packages of a name.
func bringer(releases []Release, name string, is func(distro.PackageRecord) string) distro.Version {
	for i := len(releases) - 1; i >= 0; i-- {
		if releases[i].Status != distro.Published {
			continue
		}
		if slices.ContainsFunc(releases[i].Packages, func(p distro.PackageRecord) bool { return is(p) == name && !p.Kept }) {
			return releases[i].Version
		}
	}
	return ""
}

// PublishAdvisories brings advisories out as a new serial of the release that is current:
// the same packages, and an updateinfo.xml that names them. What was published before
// with the same text is left alone; a file with another text becomes the advisory's next
// version. Nothing new gives a Change without a serial. After a crash the same call, or
// one without files, goes on.
func (w *Workspace) PublishAdvisories(ctx context.Context, files []*config.AdvisoryFile, by string) (Change, error) {
	lock, err := w.lock(ctx, "publish")
	if err != nil {
		return Change{}, err
	}
	defer lock.Release()
	c, begun, err := w.unfinished(ctx)
	if err != nil {
		return c, err
	}
	if begun && c.Kind == Advising {
		if err := w.publishChange(ctx, c); err != nil {
			return c, err
		}
	}
	fresh, err := w.CheckAdvisories(ctx, files)
	if err != nil || len(fresh) == 0 {
		if c.Kind != Advising {
			c = Change{}
		}
		return c, err
	}
	if c, err = w.decideAdvisories(ctx, fresh, by); err != nil {
		return c, err
	}
	return c, w.publishChange(ctx, c)
}

func (w *Workspace) decideAdvisories(ctx context.Context, fresh []distro.Advisory, by string) (Change, error) {
	if err := w.free(ctx); err != nil {
		return Change{}, err
	}
	s, err := w.series(ctx)
	if err != nil {
		return Change{}, err
	}
	at, err := w.decide(ctx)
	if err != nil {
		return Change{}, err
	}
	var ids []string
	for i := range fresh {
		if fresh[i].Updated = at; fresh[i].Issued.IsZero() {
			fresh[i].Issued = at
		}
		ids = append(ids, fresh[i].ID)
	}
	c := Change{Serial: s.Serial + 1, Series: s.Name, Kind: Advising, Release: s.Head, Status: distro.Publishing, Advisories: fresh,
		Decision: distro.Approval{By: by, Because: strings.Join(ids, ", "), At: at}}
	_, err = state.Upsert(ctx, w.State, kindChange, c.id(), func(x *Change) error { *x = c; return nil }, state.NewEvent{Kind: kindChange, ID: c.id(), Type: "decided"})
	return c, err
}
