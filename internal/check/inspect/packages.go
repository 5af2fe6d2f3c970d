package inspect

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/rpm"
)

// pair is a package that the candidate brings with other content, and what it was.
type pair struct {
	now distro.PackageRecord
	old *distro.PackageRecord // nil: its name is new

	header, was *rpm.Package
}

// packages compares the headers of the packages that changed.
func (in *inspection) packages(ctx context.Context) (string, error) {
	if len(in.bed.Base) == 0 || in.bed.Read == nil {
		return "", nil
	}
	type key struct{ name, arch string }
	base := map[key]*distro.PackageRecord{}
	owners := map[string]bool{} // users and groups that files of the last release belong to; filled when needed
	for _, p := range check.Binary(in.bed.Base) {
		base[key{p.Name, p.Arch}] = &p
	}
	var pairs []*pair
	for _, p := range check.Binary(in.bed.Packages) {
		old := base[key{p.Name, p.Arch}]
		if old != nil && (old.HeaderDigest == p.HeaderDigest || old.Content == p.Content || old.CompareEVR(p) > 0) {
			continue
		}
		pairs = append(pairs, &pair{now: p, old: old})
	}
	changed := map[string]bool{}    // sources with commits
	provides := map[string]string{} // what the changed packages provide -> their source
	for _, p := range pairs {
		var err error
		if p.header, err = in.bed.Read(ctx, p.now); err != nil {
			return "", err
		}
		if p.old != nil {
			if p.was, err = in.bed.Read(ctx, *p.old); err != nil {
				return "", err
			}
		}
		for _, d := range p.header.Provides {
			provides[d.Name] = p.now.SourceName
		}
		for _, f := range p.header.Files {
			provides[f.Path] = p.now.SourceName
		}
		if _, asked := changed[p.now.SourceName]; !asked && in.bed.Commits != nil {
			changed[p.now.SourceName] = len(in.bed.Commits(p.now.SourceName)) > 0
		}
	}
	for i, p := range pairs {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		in.bed.Tell(i, len(pairs), p.now.Name)
		in.res.Asked++
		if p.was == nil {
			in.addPackage(p, "new", distro.Info, fmt.Sprintf("%s is new: %s, %d bytes", p.now.Name, p.header.Summary, p.header.InstalledSize), "nothing, if that was meant", nil)
		} else {
			in.contents(p)
			in.cause(p, changed, provides)
		}
		if err := in.rights(ctx, p, owners); err != nil {
			return "", err
		}
	}
	return "", nil
}

func (in *inspection) addPackage(p *pair, id string, level distro.Level, text, cure string, evidence []string) {
	in.add(distro.Finding{ID: p.now.Name + "." + p.now.Arch + ":" + id, Level: level, Object: p.now.NEVRA(), Source: p.now.SourceName, Text: text, Cure: cure, Evidence: check.Few(evidence, 40)})
}

// contents tells of files, dependencies, scripts, licence and size.
func (in *inspection) contents(p *pair) {
	name := p.now.Name
	old, now := paths1(p.was), paths1(p.header)
	gone, added := missing(old, now), missing(now, old)
	if len(gone)+len(added) > 0 {
		in.addPackage(p, "files", distro.Info, fmt.Sprintf("%s has %s more and %s fewer than %s", name, check.Count(len(added), "file"), check.Count(len(gone), "file"), p.old.EVR()), "nothing, if that was meant",
			append(marked("+ ", added), marked("- ", gone)...))
	}
	var lines []string
	x, y := rpm.ContentOf(p.was), rpm.ContentOf(p.header)
	for _, kind := range []string{"requires", "conflicts", "obsoletes", "recommends"} {
		// Its own number in a dependency is no news.
		before, after := without(x.Deps[kind], p.was.EVR()), without(y.Deps[kind], p.header.EVR())
		lines = append(lines, marked("+ "+kind+" ", missing(after, before))...)
		lines = append(lines, marked("- "+kind+" ", missing(before, after))...)
	}
	if len(lines) > 0 {
		in.addPackage(p, "dependencies", distro.Info, fmt.Sprintf("%s has other dependencies than %s: %s", name, p.old.EVR(), strings.Join(check.Few(lines, 3), ", ")), "nothing, if that was meant", lines)
	}
	lines = nil
	for kind, body := range y.Scripts {
		if old, had := x.Scripts[kind]; !had {
			lines = append(lines, kind+" is new")
		} else if old != body {
			lines = append(lines, kind+" changed")
		}
	}
	for kind := range x.Scripts {
		if _, has := y.Scripts[kind]; !has {
			lines = append(lines, kind+" is gone")
		}
	}
	if slices.Sort(lines); len(lines) > 0 {
		in.addPackage(p, "scripts", distro.Info, fmt.Sprintf("scripts of %s: %s", name, strings.Join(lines, ", ")), "read them: they run as root on every device", nil)
	}
	if p.was.License != p.header.License {
		in.addPackage(p, "license", distro.Warn, fmt.Sprintf("the licence of %s was %q and is %q", name, p.was.License, p.header.License), "see that it may be shipped; it is in the SBOM", nil)
	}
	if old, now := p.was.InstalledSize, p.header.InstalledSize; in.bed.Growth.Exceeded(old, now) {
		in.addPackage(p, "size", distro.Warn, fmt.Sprintf("%s grew from %d to %d bytes, by %d %%; the limit is %d %%", name, old, now, (now-old)*100/old, in.bed.Growth.Percent), "see what came in; raise gate: growth: in slipway.yaml when that is right", largest(p.was, p.header))
	}
}

// cause says why a package that nobody touched has a new number or new content.
func (in *inspection) cause(p *pair, changed map[string]bool, provides map[string]string) {
	if in.bed.Commits == nil {
		return
	}
	own := changed[p.now.SourceName]
	var through []string
	for _, d := range p.header.Requires {
		if s := provides[d.Name]; s != "" && s != p.now.SourceName && !slices.Contains(through, s) {
			through = append(through, s)
		}
	}
	slices.Sort(through)
	because := "nothing of what it is made of has a commit since the last release"
	switch {
	case own:
		because = "its own commits touch nothing that is in it"
	case len(through) > 0:
		because = "what it needs changed: " + strings.Join(check.Few(through, 5), ", ")
	}
	differences := rpm.Differences(p.was, p.header)
	if in.bed.SameButNumber != nil && in.bed.SameButNumber(*p.old, p.now) {
		in.addPackage(p, "number", distro.Info, fmt.Sprintf("%s has a new number and no new content: %s", p.now.Name, because), "nothing: devices fetch it once more", differences)
		return
	}
	if own || len(through) > 0 {
		return
	}
	level := distro.Warn
	if p.was.Version != p.header.Version { // a version comes from somewhere
		level, because = distro.Info, because+", but for its version: "+p.was.Version+", now "+p.header.Version
	}
	in.addPackage(p, "unexplained", level, fmt.Sprintf("%s has other content than %s, though %s", p.now.Name, p.old.EVR(), because),
		"find what came in from outside: the builder's own tools, the configuration, a branch that moved, the time", differences)
}

var addsUsers = regexp.MustCompile(`\b(?:useradd|adduser|groupadd|addgroup)\b[^\n]*|[^\n]*>>\s*\S*/etc/(?:passwd|group|shadow)\b`)

// rights tells of new programs with special rights, services and users.
func (in *inspection) rights(ctx context.Context, p *pair, owners map[string]bool) error {
	old := map[string]rpm.File{}
	if p.was != nil {
		for _, f := range p.was.Files {
			old[f.Path] = f
		}
	}
	var special, writable, services []string
	accounts := map[string]bool{}
	for _, f := range p.header.Files {
		was, had := old[f.Path]
		const setID, sticky, other = 0o6000, 0o1000, 0o2
		if f.IsRegular() && (f.Mode&setID != 0 && (!had || was.Mode&setID != f.Mode&setID) || f.Caps != "" && f.Caps != was.Caps) {
			special = append(special, strings.TrimSpace(fmt.Sprintf("%s %04o %s:%s %s", f.Path, f.Mode&0o7777, f.User, f.Group, f.Caps)))
		}
		link := f.Mode&0o170000 == 0o120000
		if !link && f.Mode&other != 0 && !(f.IsDir() && f.Mode&sticky != 0) && (!had || was.Mode&other == 0) && (f.IsDir() || f.IsRegular()) {
			writable = append(writable, fmt.Sprintf("%s %04o", f.Path, f.Mode&0o7777))
		}
		if !had && isService(f.Path) {
			services = append(services, f.Path)
		}
		for _, who := range []string{"user " + f.User, "group " + f.Group} {
			accounts[who] = true
		}
	}
	if len(special) > 0 {
		in.addPackage(p, "setuid", distro.Warn, fmt.Sprintf("%s brings %s with special rights: %s", p.now.Name, check.Count(len(special), "program"), strings.Join(check.Few(special, 3), ", ")), "see that it needs them; whoever finds a hole in it has them", special)
	}
	if len(writable) > 0 {
		in.addPackage(p, "writable", distro.Warn, fmt.Sprintf("everybody may write %s of %s: %s", check.Count(len(writable), "file"), p.now.Name, strings.Join(check.Few(writable, 3), ", ")), "take the permission away", writable)
	}
	if len(services) > 0 {
		in.addPackage(p, "services", distro.Warn, fmt.Sprintf("%s brings %s: %s", p.now.Name, check.Count(len(services), "service"), strings.Join(check.Few(services, 3), ", ")), "see that it is off by default, or meant to run on every device", services)
	}
	return in.users(ctx, p, accounts, owners)
}

// users tells of users and groups that no package of the last release knew.
func (in *inspection) users(ctx context.Context, p *pair, accounts, owners map[string]bool) error {
	var found []string
	before := ""
	if p.was != nil {
		for _, s := range p.was.Scripts {
			before += s.Body
		}
		for _, f := range p.was.Files {
			delete(accounts, "user "+f.User)
			delete(accounts, "group "+f.Group)
		}
	}
	delete(accounts, "user root")
	delete(accounts, "group root")
	if len(accounts) > 0 && len(owners) == 0 {
		owners["user root"] = true
		for _, r := range check.Binary(in.bed.Base) {
			h, err := in.bed.Read(ctx, r)
			if err != nil {
				return err
			}
			for _, f := range h.Files {
				owners["user "+f.User], owners["group "+f.Group] = true, true
			}
		}
	}
	for who := range accounts {
		if !owners[who] {
			found = append(found, who+" owns files of it")
		}
	}
	for _, s := range p.header.Scripts {
		for _, m := range addsUsers.FindAllString(s.Body, -1) {
			if m = strings.TrimSpace(m); !strings.Contains(before, m) {
				found = append(found, s.Kind+": "+short(m))
			}
		}
	}
	for _, f := range p.header.Files {
		if path.Dir(f.Path) == "/usr/lib/sysusers.d" && (p.was == nil || !slices.ContainsFunc(p.was.Files, func(o rpm.File) bool { return o.Path == f.Path && o.Digest == f.Digest })) {
			found = append(found, f.Path)
		}
	}
	if slices.Sort(found); len(found) > 0 {
		found = slices.Compact(found)
		in.addPackage(p, "users", distro.Warn, fmt.Sprintf("%s brings users or groups: %s", p.now.Name, strings.Join(check.Few(found, 3), ", ")), "see that they are meant, and that their numbers are free on old devices", found)
	}
	return nil
}

// isService reports whether a path makes a service known to an init: a unit or what
// starts one, a script of sysvinit, a file of D-Bus activation.
func isService(p string) bool {
	dir, base := path.Split(p)
	switch {
	case strings.Contains(dir, "/systemd/system/"):
		ext := path.Ext(base)
		return ext == ".service" || ext == ".socket" || ext == ".timer" || ext == ".path"
	case dir == "/etc/init.d/", strings.HasPrefix(dir, "/etc/rc") && strings.HasSuffix(dir, ".d/"):
		return true
	case dir == "/usr/share/dbus-1/system-services/", dir == "/etc/xinetd.d/", strings.HasPrefix(dir, "/etc/cron."):
		return true
	}
	return false
}

func paths1(p *rpm.Package) []string {
	var out []string
	for _, f := range p.Files {
		out = append(out, f.Path)
	}
	slices.Sort(out)
	return out
}

// missing gives what of a is not in b; b is sorted or short.
func missing(a, b []string) []string {
	there := map[string]bool{}
	for _, x := range b {
		there[x] = true
	}
	var out []string
	for _, x := range a {
		if !there[x] {
			out = append(out, x)
		}
	}
	return out
}

// without takes a package's own version out of dependencies.
func without(deps []string, evr string) []string {
	var out []string
	for _, d := range deps {
		out = append(out, strings.TrimSuffix(d, " = "+evr))
	}
	return out
}

func marked(mark string, list []string) []string {
	var out []string
	for _, x := range list {
		out = append(out, mark+x)
	}
	return out
}

// largest lists the files that grew most.
func largest(old, now *rpm.Package) []string {
	was := map[string]int64{}
	for _, f := range old.Files {
		was[f.Path] = f.Size
	}
	type growth struct {
		path string
		by   int64
	}
	var all []growth
	for _, f := range now.Files {
		if by := f.Size - was[f.Path]; f.IsRegular() && by > 0 {
			all = append(all, growth{f.Path, by})
		}
	}
	slices.SortFunc(all, func(a, b growth) int { return cmp.Or(cmp.Compare(b.by, a.by), cmp.Compare(a.path, b.path)) })
	var out []string
	for _, g := range all[:min(10, len(all))] {
		out = append(out, fmt.Sprintf("%s: %d bytes more", g.path, g.by))
	}
	return out
}
