package bitbake

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// tree is what a BitBake left: its TOPDIR, and folders or files that lie elsewhere.
type tree struct {
	top string
	at  map[string]string // path below TOPDIR, as [places] has it -> what stands for it
}

// find gives the root of a path below TOPDIR, and the path below that root.
func (t tree) find(name string) (root, rest string) {
	root, rest = t.top, name
	longest := -1
	for part, to := range t.at {
		if (name == part || strings.HasPrefix(name, part+"/")) && len(part) > longest {
			longest, root, rest = len(part), to, strings.TrimPrefix(strings.TrimPrefix(name, part), "/")
		}
	}
	if rest == "" {
		rest = "."
	}
	return root, rest
}

func (t tree) path(name string) string { return filepath.Join(t.find(name)) }

// walk calls f with every regular file of a folder below TOPDIR, as [walk] does.
func (t tree) walk(ctx context.Context, folder string, f func(rel, path string) error) error {
	root, rest := t.find(folder)
	if _, err := os.Lstat(root); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return walk(ctx, root, rest, f)
}

// regular reports whether a file is there, and no link.
func regular(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular()
}

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
	{distro.SState, "sstate", "", func(rel string) bool {
		return strings.HasSuffix(rel, ".lock") || strings.HasSuffix(rel, ".done") || strings.HasSuffix(rel, ".sig") // we sign what goes out
	}},
	{distro.Images, "tmp/deploy/images", "", never},
	{distro.SDK, "tmp/deploy/sdk", "", never},
	// Of testimage and its like (get_json_result_dir in OE-Core's oeqa/utils); folders beside it have what failed left on the device.
	{distro.TestResults, "tmp/log/oeqa", "", func(rel string) bool { return rel != "testresults.json" }},
	{distro.SBOM, "tmp/deploy/spdx", "spdx/", never},
	{distro.SBOM, "tmp/deploy/cve", "cve/", never},
	{distro.SBOM, "tmp/deploy/licenses", "licenses/", never},
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
