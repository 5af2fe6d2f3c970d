package bitbake

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpm"
)

// place is where BitBake leaves a class, below topdir/.
type place struct {
	class  distro.Class
	folder string
	name   string // before the path in it
	skip   func(rel string) bool
}

func never(string) bool { return false }

func hasPart(parts ...string) func(string) bool {
	return func(rel string) bool {
		return slices.ContainsFunc(strings.Split(rel, "/"), func(p string) bool { return slices.Contains(parts, p) })
	}
}

var places = []place{
	{distro.Configuration, "conf", "bitbake/", func(rel string) bool { return rel == "slipway-machine.conf" }},
	{distro.ConsoleLog, "events", "events/", never},
	{distro.Buildhistory, "buildhistory", "", hasPart(".git")},
	{distro.Buildhistory, "tmp/pkgdata", "pkgdata/", never},
	{distro.Downloads, "downloads", "", func(rel string) bool {
		return strings.Contains(rel, "/") || strings.HasSuffix(rel, ".lock") || strings.HasSuffix(rel, ".done") || strings.HasSuffix(rel, ".tmp") // of a fetch that failed
	}},
	{distro.Sources, "tmp/deploy/sources", "", never},
	// A link there is an object of the mirror: it is stored already.
	{distro.SState, "sstate", "", func(rel string) bool { return strings.HasSuffix(rel, ".lock") || strings.HasSuffix(rel, ".done") }},
	{distro.Images, "tmp/deploy/images", "", never},
	{distro.SDK, "tmp/deploy/sdk", "", never},
	{distro.SBOM, "tmp/deploy/spdx", "spdx/", never},
	{distro.SBOM, "tmp/deploy/cve", "cve/", never},
	{distro.SBOM, "tmp/deploy/licenses", "licenses/", never},
}

// Collect gives what a finished build left, sorted within each place:
//
//   - packages: "<scope>/<file>.rpm" with its record; one whose content is that of
//     the base's package of the same name and number has the base's record, Kept set
//     and no path. The recipe comes from pkgdata.
//   - pr-database: "numbers.json", a sorted list of distro.NumberRow: the base's, with
//     those of this build's packages; the number is what the PR server gave ("r0.1": 1)
//   - hash-database: the files of BitBake's own servers, when Options has none
//   - task-log: "<arch>/<recipe>/<version>/log.do_<task>", of tasks that ran in this
//     build; "tasks.json", a list of [Task]: the log of one that was restored is in the
//     build that ran the same unihash
//   - console-log: "console.log", "bitbake-cookerdaemon.log", "events/<board>.json";
//     [MissingName], when the deploy tree lacks packages that this build wrote;
//     [FloatingName], when a source's revision is not pinned
//   - configuration: "bitbake/<file>.conf"; feed-configuration: files of Seed.FeedConfig
//   - buildhistory with "pkgdata/"; downloads; sources (the archiver's); sstate: objects
//     that this build made; images; sdk; sbom with "spdx/", "cve/" and "licenses/"
//
// Only regular files are given, and none by way of a link. What a build restored
// from sstate does not bring is simply not there. A build that is not finished gives
// one error and nothing else.
func (b *Builder) Collect(ctx context.Context, dir string) iter.Seq2[distro.Output, error] {
	return func(yield func(distro.Output, error) bool) {
		all, err := b.outputs(ctx, dir)
		if err != nil {
			yield(distro.Output{}, errs.Wrap(err, "collect the build"))
			return
		}
		for _, o := range all {
			if !yield(o, nil) {
				return
			}
		}
	}
}

func (b *Builder) outputs(ctx context.Context, dir string) ([]distro.Output, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	p, err := readPlan(dir)
	if err != nil {
		return nil, err
	}
	if !exists(dir, "finished") {
		return nil, errs.E(errs.Conflict, "the build is not finished", errs.Hint("build it first: the same command goes on where it stopped"))
	}
	top := filepath.Join(dir, "topdir")
	recipes, err := recipesOf(ctx, top)
	if err != nil {
		return nil, err
	}
	all, rows, err := packages(ctx, p, top, recipes)
	if err != nil {
		return nil, err
	}
	numbers := filepath.Join(dir, "numbers.json")
	if err := writeFile(numbers, distro.CanonicalJSON(rows)); err != nil {
		return nil, err
	}
	all = append(all, distro.Output{Class: distro.PRDatabase, Name: "numbers.json", Path: numbers},
		distro.Output{Class: distro.ConsoleLog, Name: "console.log", Path: filepath.Join(dir, "console.log")})
	if exists(dir, UnfetchedName) {
		all = append(all, distro.Output{Class: distro.ConsoleLog, Name: UnfetchedName, Path: filepath.Join(dir, UnfetchedName)})
	}
	if info, err := os.Lstat(filepath.Join(top, "bitbake-cookerdaemon.log")); err == nil && info.Mode().IsRegular() {
		all = append(all, distro.Output{Class: distro.ConsoleLog, Name: info.Name(), Path: filepath.Join(top, info.Name())})
	}
	add := func(class distro.Class, root, folder, name string, skip func(string) bool) error {
		return walk(ctx, root, folder, func(rel, path string) error {
			if !skip(rel) {
				all = append(all, distro.Output{Class: class, Name: name + rel, Path: path})
			}
			return nil
		})
	}
	for _, pl := range places {
		if err := add(pl.class, top, pl.folder, pl.name, pl.skip); err != nil {
			return nil, err
		}
	}
	if p.Seed.FeedConfig != "" {
		if err := add(distro.FeedConfiguration, p.Seed.FeedConfig, ".", "", never); err != nil {
			return nil, err
		}
	}
	if b.opt.Servers == nil {
		err := add(distro.HashDatabase, top, "cache", "", func(rel string) bool {
			return !strings.HasPrefix(rel, "hashserv.db") && !strings.HasPrefix(rel, "prserv.sqlite3")
		})
		if err != nil {
			return nil, err
		}
	}
	for _, l := range []place{{distro.SState, "sstate", "", nil}, {distro.Downloads, "downloads", "", nil}} {
		from, err := released(ctx, top, l.folder, map[distro.Class]string{distro.SState: b.opt.SState, distro.Downloads: b.opt.Downloads}[l.class])
		if err != nil {
			return nil, err
		}
		for _, name := range from {
			all = append(all, distro.Output{Class: l.class, Name: name, Released: true})
		}
	}
	logs, err := taskLogs(ctx, top)
	if err != nil {
		return nil, err
	}
	tasks, err := ranTasks(ctx, top)
	if err == nil {
		err = writeFile(filepath.Join(dir, TasksName), distro.CanonicalJSON(tasks))
	}
	if err != nil {
		return nil, err
	}
	if missing := missingPackages(all, recipes, tasks); len(missing) > 0 {
		path := filepath.Join(dir, MissingName)
		if err := writeFile(path, []byte(strings.Join(missing, "\n")+"\n")); err != nil {
			return nil, err
		}
		all = append(all, distro.Output{Class: distro.ConsoleLog, Name: MissingName, Path: path})
	}
	floating, err := floatingSources(ctx, top, tasks)
	if err != nil {
		return nil, err
	}
	if len(floating) > 0 {
		path := filepath.Join(dir, FloatingName)
		if err := writeFile(path, []byte(strings.Join(floating, "\n")+"\n")); err != nil {
			return nil, err
		}
		all = append(all, distro.Output{Class: distro.ConsoleLog, Name: FloatingName, Path: path})
	}
	return append(append(all, logs...), distro.Output{Class: distro.TaskLog, Name: TasksName, Path: filepath.Join(dir, TasksName)}), err
}

// walk calls f with every regular file below root/folder, in order. That folder may
// be missing; a link on the way to it is refused, and links in it are passed by: the
// build user made them, and we may be root.
func walk(ctx context.Context, root, folder string, f func(rel, path string) error) error {
	start := filepath.Join(root, folder)
	realRoot, err := filepath.EvalSymlinks(root)
	if err != nil {
		return errs.E(errs.NotFound, "folder "+root, err)
	}
	found, err := filepath.EvalSymlinks(start)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return errs.E(errs.Unavailable, "folder "+start, err)
	}
	if found != filepath.Join(realRoot, folder) {
		return errs.E(errs.Denied, start+" is a link to "+found, errs.Hint("a build may not put its output elsewhere: take TMPDIR and DEPLOY_DIR out of conf"))
	}
	return filepath.WalkDir(start, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return errs.E(errs.Unavailable, "read "+path, err)
		}
		if !e.Type().IsRegular() {
			return ctx.Err()
		}
		rel, err := filepath.Rel(start, path)
		if err != nil {
			return err
		}
		return f(filepath.ToSlash(rel), path)
	})
}

// released gives the names of a mirror's files that a folder of the build links to:
// BitBake makes such links for what it takes from a file:// mirror.
func released(ctx context.Context, top, folder, mirror string) ([]string, error) {
	if mirror == "" {
		return nil, nil
	}
	root := filepath.Join(top, folder)
	if info, err := os.Lstat(root); err != nil || !info.IsDir() {
		return nil, nil
	}
	var out []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return errs.E(errs.Unavailable, "read "+path, err)
		}
		if e.Type()&fs.ModeSymlink == 0 {
			return ctx.Err()
		}
		target, err := os.Readlink(path)
		if err != nil {
			return errs.E(errs.Unavailable, "read "+path, err)
		}
		if rel, err := filepath.Rel(mirror, target); err == nil && filepath.IsLocal(rel) && !slices.Contains(out, rel) {
			out = append(out, filepath.ToSlash(rel))
		}
		return nil
	})
	slices.Sort(out)
	return out, err
}

// packages reads deploy/rpm; it gives the base's numbers with those of this build.
func packages(ctx context.Context, p *plan, top string, recipes map[string]packaged) ([]distro.Output, []distro.NumberRow, error) {
	base := map[string]distro.PackageRecord{}
	for _, r := range p.Known {
		base[r.NEVRA()] = r
	}
	rows := map[distro.NumberKey]distro.NumberRow{}
	for _, r := range p.Base {
		rows[r.NumberKey] = r
	}
	contents := map[distro.NumberKey]map[string]distro.Digest{}
	var out []distro.Output
	err := walk(ctx, top, "tmp/deploy/rpm", func(rel, path string) error {
		if !strings.HasSuffix(rel, ".rpm") {
			return nil
		}
		pkg, err := rpm.ReadFile(path)
		if err != nil {
			return errs.Wrap(err, "package %s", rel)
		}
		rec := distro.PackageRecord{Name: pkg.Name, Epoch: pkg.Epoch, Version: pkg.Version, Release: pkg.Release, Arch: pkg.Arch, Scope: distro.RPMArch(pkg.Arch),
			SourceName: recipes[pkg.Name].recipe, License: pkg.License, File: filepath.Base(path), Digest: pkg.Digest, Size: pkg.Size, HeaderDigest: pkg.HeaderDigest, Content: pkg.ContentDigest()}
		if rec.SourceName == "" {
			rec.SourceName = sourceName(pkg.SourceRPM)
		}
		version, _, _ := strings.Cut(rec.EVR(), "-")
		key := distro.NumberKey{Source: rec.SourceName, Version: version, Arch: rec.Scope}
		if contents[key] == nil {
			contents[key] = map[string]distro.Digest{}
		}
		contents[key][rec.Name] = rec.Content
		if n := number(rec.Release); n > rows[key].Number || rows[key].Source == "" {
			rows[key] = distro.NumberRow{NumberKey: key, Number: n}
		}
		o := distro.Output{Class: distro.Packages, Name: rec.Scope + "/" + rec.File, Path: path}
		if old, ok := base[rec.NEVRA()]; ok && old.Content == rec.Content {
			rec, o.Path = old, ""
			rec.Kept = true
		}
		o.Package = &rec
		out = append(out, o)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	for key, c := range contents {
		r := rows[key]
		r.Content = distro.TaskContent(c)
		rows[key] = r
	}
	return out, slices.SortedFunc(maps.Values(rows), func(a, b distro.NumberRow) int { return strings.Compare(a.String(), b.String()) }), nil
}

// number is what the PR server gave: what stands behind the last dot of a release.
func number(release string) int {
	n, err := strconv.Atoi(release[strings.LastIndexByte(release, '.')+1:])
	if err != nil || n < 0 || !strings.Contains(release, ".") {
		return 0
	}
	return n
}

// sourceName takes version and release off the name of a source package.
func sourceName(srpm string) string {
	parts := strings.Split(strings.TrimSuffix(srpm, ".src.rpm"), "-")
	return strings.Join(parts[:max(1, len(parts)-2)], "-")
}

// packaged is what pkgdata says of a package.
type packaged struct {
	recipe string
	rpm    bool // it has files, or may be empty: a package is written
}

// recipesOf gives what pkgdata says of each package, by the package's name after
// Debian renaming.
func recipesOf(ctx context.Context, top string) (map[string]packaged, error) {
	out := map[string]packaged{}
	err := walk(ctx, top, "tmp/pkgdata", func(rel, path string) error {
		parts := strings.Split(rel, "/")
		if len(parts) != 3 || parts[1] != "runtime" || strings.HasSuffix(rel, ".packaged") {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return errs.E(errs.Unavailable, "read pkgdata", err)
		}
		recipe, name := ParsePkgdata(parts[2], data)
		if recipe != "" {
			out[name] = packaged{recipe, exists(path + ".packaged")}
		}
		return nil
	})
	return out, err
}

// MissingName is the artifact, of class console-log, that names packages which this
// build wrote or restored and which are not in the deploy tree: somebody removed them.
const MissingName = "missing-packages.txt"

// missingPackages gives "<package> of recipe <recipe>", sorted: those of recipes whose
// packages were written or restored in this build. Of others nothing is expected.
func missingPackages(found []distro.Output, recipes map[string]packaged, tasks []Task) []string {
	wrote, have := map[string]bool{}, map[string]bool{}
	for _, t := range tasks {
		if parts := strings.Split(t.Name, "/"); parts[3] == "log.do_package_write_rpm" {
			wrote[parts[1]] = true
		}
	}
	for _, o := range found {
		if o.Package != nil {
			have[o.Package.Name] = true
		}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(recipes)) {
		if p := recipes[name]; p.rpm && wrote[p.recipe] && !have[name] {
			out = append(out, name+" of recipe "+p.recipe)
		}
	}
	return out
}

// FloatingName is the artifact, of class console-log, that names recipes whose sources
// are AUTOREV: the same revision of the distribution builds others tomorrow.
const FloatingName = "floating-sources.txt"

// floatingSources asks buildhistory's latest_srcrev of the recipes of this build, where
// "# SRCREV..." is the revision as the recipe or the configuration has it. It gives
// "<recipe>: <what it was this time>", sorted.
func floatingSources(ctx context.Context, top string, tasks []Task) ([]string, error) {
	built := map[string]bool{}
	for _, t := range tasks {
		built[strings.Split(t.Name, "/")[1]] = true
	}
	var out []string
	err := walk(ctx, top, "buildhistory/packages", func(rel, path string) error {
		parts := strings.Split(rel, "/")
		if len(parts) != 3 || parts[2] != "latest_srcrev" || !built[parts[1]] {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return errs.E(errs.Unavailable, "read buildhistory", err)
		}
		lines := strings.Split(string(data), "\n")
		for i, line := range lines[:len(lines)-1] {
			if strings.HasPrefix(line, "# SRCREV") && (strings.Contains(line, "AUTOREV") || strings.Contains(line, "AUTOINC")) {
				out = append(out, parts[1]+": "+lines[i+1])
			}
		}
		return nil
	})
	slices.Sort(out)
	return slices.Compact(out), err
}

// ParsePkgdata reads one file of pkgdata/<machine>/runtime: the recipe that makes
// the package, and the package's name in the feed ("libgreet" becomes "libgreet1").
func ParsePkgdata(pkg string, data []byte) (recipe, name string) {
	name = pkg
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch key {
		case "PN":
			recipe = value
		case "PKG:" + pkg, "PKG_" + pkg: // the second until kirkstone's syntax
			name = value
		}
	}
	return recipe, name
}
