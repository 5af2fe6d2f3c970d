package bitbake

import (
	"context"
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
//   - configuration: "bitbake/<file>.conf", "bitbake/" and [VersionsName]; feed-configuration: files
//     of Seed.FeedConfig
//   - buildhistory with "pkgdata/"; downloads; sources (the archiver's); sstate: objects
//     that this build made; images; sdk; sbom with "spdx/", "cve/" and "licenses/";
//     test-results: "testresults.json"
//
// Only regular files are given, and none by way of a link. What a build restored
// from sstate does not bring is simply not there. A build that is not finished gives
// one error and nothing else.
func (b *Builder) Collect(ctx context.Context, dir string) iter.Seq2[distro.Output, error] {
	return func(yield func(distro.Output, error) bool) {
		all, err := b.outputs(ctx, dir)
		yieldAll(all, err, yield)
	}
}

// yieldAll gives every output, or the one error; false when no more is wanted.
func yieldAll(all []distro.Output, err error, yield func(distro.Output, error) bool) bool {
	if err != nil {
		yield(distro.Output{}, errs.Wrap(err, "collect the build"))
		return false
	}
	for _, o := range all {
		if !yield(o, nil) {
			return false
		}
	}
	return true
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
	c := collecting{dir: dir, p: p, t: tree{top: filepath.Join(dir, "topdir")}, mirrors: map[distro.Class]string{distro.SState: b.opt.SState, distro.Downloads: b.opt.Downloads}}
	all, err := c.outputs(ctx)
	if err == nil && b.opt.Servers == nil {
		err = c.add(ctx, &all, place{distro.HashDatabase, "cache", "", func(rel string) bool {
			return !strings.HasPrefix(rel, "hashserv.db") && !strings.HasPrefix(rel, "prserv.sqlite3")
		}})
	}
	return all, err
}

// collecting is what BitBake left, on its way to be artifacts: of a build of ours, or
// of one that another CI made.
type collecting struct {
	dir     string // of the build: files of ours are written there
	p       *plan
	t       tree
	mirrors map[distro.Class]string // of what was released; none for a build of others
	// others leaves out what lies in the tree and is of other builds; nil is nothing.
	others func(class distro.Class, rel string) bool
}

// add gives the files of one place.
func (c *collecting) add(ctx context.Context, all *[]distro.Output, pl place) error {
	return c.t.walk(ctx, pl.folder, func(rel, path string) error {
		if !pl.skip(rel) && (c.others == nil || !c.others(pl.class, rel)) {
			*all = append(*all, distro.Output{Class: pl.class, Name: pl.name + rel, Path: path})
		}
		return nil
	})
}

// note writes a list of findings as an artifact of class console-log; none is no file.
func (c *collecting) note(all *[]distro.Output, name string, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	path := filepath.Join(c.dir, name)
	*all = append(*all, distro.Output{Class: distro.ConsoleLog, Name: name, Path: path})
	return writeFile(path, []byte(strings.Join(lines, "\n")+"\n"))
}

func (c *collecting) outputs(ctx context.Context) ([]distro.Output, error) {
	recipes, err := recipesOf(ctx, c.t)
	if err != nil {
		return nil, err
	}
	all, rows, err := packages(ctx, c.p, c.t, recipes)
	if err != nil {
		return nil, err
	}
	numbers := filepath.Join(c.dir, "numbers.json")
	if err := writeFile(numbers, distro.CanonicalJSON(rows)); err != nil {
		return nil, err
	}
	all = append(all, distro.Output{Class: distro.PRDatabase, Name: "numbers.json", Path: numbers})
	for _, name := range []string{"console.log", UnfetchedName} {
		if exists(c.dir, name) {
			all = append(all, distro.Output{Class: distro.ConsoleLog, Name: name, Path: filepath.Join(c.dir, name)})
		}
	}
	if exists(c.dir, VersionsName) {
		all = append(all, distro.Output{Class: distro.Configuration, Name: "bitbake/" + VersionsName, Path: filepath.Join(c.dir, VersionsName)})
	}
	if path := c.t.path("bitbake-cookerdaemon.log"); regular(path) {
		all = append(all, distro.Output{Class: distro.ConsoleLog, Name: filepath.Base(path), Path: path})
	}
	for _, pl := range places {
		if err := c.add(ctx, &all, pl); err != nil {
			return nil, err
		}
	}
	if c.p.Seed.FeedConfig != "" {
		err := walk(ctx, c.p.Seed.FeedConfig, ".", func(rel, path string) error {
			all = append(all, distro.Output{Class: distro.FeedConfiguration, Name: rel, Path: path})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for _, class := range []distro.Class{distro.SState, distro.Downloads} {
		from, err := released(ctx, c.t.top, string(class), c.mirrors[class])
		if err != nil {
			return nil, err
		}
		for _, name := range from {
			all = append(all, distro.Output{Class: class, Name: name, Released: true})
		}
	}
	logs, err := taskLogs(ctx, c.t)
	if err != nil {
		return nil, err
	}
	tasks, err := ranTasks(ctx, c.t)
	if err == nil {
		err = writeFile(filepath.Join(c.dir, TasksName), distro.CanonicalJSON(tasks))
	}
	have := map[string]bool{}
	for _, o := range all {
		if o.Package != nil {
			have[o.Package.Name] = true
		}
	}
	if err == nil {
		err = c.note(&all, MissingName, missingPackages(have, recipes, tasks))
	}
	if err != nil {
		return nil, err
	}
	floating, err := floatingSources(ctx, c.t, tasks)
	if err == nil {
		err = c.note(&all, FloatingName, floating)
	}
	return append(append(all, logs...), distro.Output{Class: distro.TaskLog, Name: TasksName, Path: filepath.Join(c.dir, TasksName)}), err
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
func packages(ctx context.Context, p *plan, t tree, recipes map[string]packaged) ([]distro.Output, []distro.NumberRow, error) {
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
	err := t.walk(ctx, "tmp/deploy/rpm", func(rel, path string) error {
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
func recipesOf(ctx context.Context, t tree) (map[string]packaged, error) {
	out := map[string]packaged{}
	err := t.walk(ctx, "tmp/pkgdata", func(rel, path string) error {
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
func missingPackages(have map[string]bool, recipes map[string]packaged, tasks []Task) []string {
	wrote := map[string]bool{}
	for _, t := range tasks {
		if parts := strings.Split(t.Name, "/"); parts[3] == "log.do_package_write_rpm" {
			wrote[parts[1]] = true
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
func floatingSources(ctx context.Context, t tree, tasks []Task) ([]string, error) {
	built := map[string]bool{}
	for _, t := range tasks {
		built[strings.Split(t.Name, "/")[1]] = true
	}
	var out []string
	err := t.walk(ctx, "buildhistory/packages", func(rel, path string) error {
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
