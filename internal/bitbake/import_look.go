package bitbake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpmmd"
)

// look is what an import found.
type look struct {
	t     tree
	said  distro.Imported
	state string
}

// handed are the settings of a board: all of them (bitbake -e), or those of an image.
type handed struct {
	*Environment
	whole bool
	from  string // for people
}

// Look reads what the build says of itself and finds everything that stands against
// taking it for this version: findings come all at once, and nothing is written. What it
// does not hand over is named in Imported.Missing, and is no finding. The packages
// themselves are read by others.
func (i *Importer) Look(ctx context.Context, v distro.Version, boards []distro.Board) (distro.Imported, error) {
	t, err := i.opt.locate()
	if err != nil {
		return distro.Imported{}, err
	}
	l := &look{t: t}
	if l.state, err = stateOf(ctx, t); err != nil {
		return l.said, err
	}
	logs, err := consoleLogs(ctx, t)
	if err != nil {
		return l.said, err
	}
	envs, bad := handedOver(ctx, t, boards)
	bad = append(bad, l.versions(v, boards, logs, envs)...)
	var layersBad errs.List
	l.said.Layers, layersBad = layersOf(t, logs)
	bad = append(bad, layersBad...)
	var described errs.List
	l.said.Boards, _, _, described = describeHanded(envs, boards)
	bad = append(bad, described...)
	for _, part := range []struct {
		what string
		look func() (errs.List, error)
	}{
		{"packages", func() (errs.List, error) { return l.packages(ctx) }},
		{"repository metadata", func() (errs.List, error) { return l.indexes(ctx) }},
		{"images", func() (errs.List, error) { return l.images(ctx, v, boards, i.opt.Images) }},
		{"manifests", func() (errs.List, error) { return l.manifests(ctx) }},
		{"links", func() (errs.List, error) { return l.links(ctx) }},
	} {
		found, err := part.look()
		if ctx.Err() != nil {
			return l.said, errs.E(errs.Interrupted, "stopped while the build was looked at; nothing is written")
		}
		if err != nil {
			found = append(found, errs.Wrap(err, "%s", part.what))
		}
		bad = append(bad, found...)
	}
	if err := l.missing(ctx, logs); err != nil {
		return l.said, err
	}
	if len(bad) == 0 {
		i.looked = l
	}
	return l.said, bad.Err()
}

// versions compares what the build called itself with the version that it is to be.
func (l *look) versions(v distro.Version, boards []distro.Board, logs []consoleLog, envs map[string]handed) (bad errs.List) {
	hint := errs.Hintf("slipway next --into DIR writes the configuration for the other CI, DISTRO_VERSION = %q and IMAGE_VERSION_SUFFIX = %q; or --for names the version that it built", v, "-"+v)
	wrong := func(where, name, got, want string) {
		if got != want {
			bad = append(bad, errs.E(errs.Conflict, fmt.Sprintf("%s says %s is %q, and this is to be %s", where, name, got, v), hint))
		}
	}
	known := map[string]bool{}
	for _, c := range newest(logs) {
		if c.summary == "" {
			bad = append(bad, errs.E(errs.Conflict, fmt.Sprintf("console log %s has no end: the build was stopped in the middle", c.name), errs.Hint("let it come to its end, and hand it over then")))
		} else if c.failed() {
			bad = append(bad, errs.E(errs.Conflict, fmt.Sprintf("the build of board %s failed: %s", c.board(), c.summary), errs.Hint("mend it in the other CI: a build that failed is not whole")))
		}
		wrong("console log "+c.name, "DISTRO_VERSION", c.vars["DISTRO_VERSION"], string(v))
		known[c.board()] = true
		l.said.BitBake, l.said.Host = c.vars["BB_VERSION"], c.vars["NATIVELSBSTRING"]
	}
	for _, name := range slices.Sorted(maps.Keys(envs)) {
		e := envs[name]
		wrong(e.from, "DISTRO_VERSION", e.Vars["DISTRO_VERSION"], string(v))
		if e.whole { // an image may have a suffix of its own
			wrong(e.from, "IMAGE_VERSION_SUFFIX", e.Vars["IMAGE_VERSION_SUFFIX"], "-"+string(v))
		}
		known[name] = true
	}
	for _, b := range boards {
		if !known[b.Name] {
			bad = append(bad, errs.E(errs.Conflict, fmt.Sprintf("nothing says for which version board %s was built", b.Name), errs.Hint("hand over tmp/log/cooker, or --part console-log=FILE"), hint))
		}
	}
	return bad
}

// handedOver finds the settings of the boards: environment-<board>.txt, as `bitbake -e`
// writes it, else the testdata.json of one of the board's images.
func handedOver(ctx context.Context, t tree, boards []distro.Board) (map[string]handed, errs.List) {
	out := map[string]handed{}
	var bad errs.List
	for _, b := range boards {
		name := "environment-" + b.Name + ".txt"
		data, err := os.ReadFile(filepath.Join(t.top, name))
		if err == nil {
			e, err := ParseEnvironment(data)
			if err == nil && e.Board != b.Name {
				err = errs.E(errs.Conflict, fmt.Sprintf("it is of board %q", e.Board))
			}
			if err != nil {
				bad = append(bad, errs.Wrap(err, "%s", name))
				continue
			}
			out[b.Name] = handed{e, true, name}
			continue
		}
		err = t.walk(ctx, "tmp/deploy/images/"+b.Name, func(rel, p string) error {
			if !strings.HasSuffix(rel, ".testdata.json") {
				return nil
			}
			data, err := os.ReadFile(p)
			if err != nil {
				return errs.E(errs.Unavailable, "read "+rel, err)
			}
			var all map[string]any
			if err := json.Unmarshal(data, &all); err != nil {
				return errs.E(errs.Conflict, rel+" cannot be read: the file is cut off, or another one", err, errs.Hint("copy the deploy tree again, wholly"))
			}
			e := &Environment{Board: b.Name, Vars: map[string]string{}, Flags: map[string]map[string]string{}}
			for k, v := range all {
				if s, ok := v.(string); ok {
					e.Vars[k] = s
				}
			}
			out[b.Name] = handed{e, false, rel}
			return nil
		})
		if err != nil {
			bad = append(bad, errs.Wrap(err, "images of board %s", b.Name))
		}
	}
	return out, bad
}

// environments describes the boards of a build that was looked at: those whose settings
// are all known, and the names of those of which only an image's are.
func environments(ctx context.Context, t tree, boards []distro.Board) (described []distro.Board, judged []*Environment, partly []string, bad errs.List) {
	envs, bad := handedOver(ctx, t, boards)
	described, judged, partly, more := describeHanded(envs, boards)
	return described, judged, partly, append(bad, more...)
}

func describeHanded(envs map[string]handed, boards []distro.Board) (described []distro.Board, judged []*Environment, partly []string, bad errs.List) {
	for _, b := range boards {
		e, ok := envs[b.Name]
		if !ok {
			bad = append(bad, errs.E(errs.Conflict, fmt.Sprintf("nothing says what board %s is: its architectures, its SoC family", b.Name),
				errs.Hintf("MACHINE=%s bitbake -e > environment-%s.txt in the build folder, before it is handed over", b.Name, b.Name)))
			continue
		}
		d, err := e.DescribeBoard(b.SoCFamily)
		if err != nil {
			bad = append(bad, errs.Wrap(err, "board %s, %s", b.Name, e.from))
			continue
		}
		described = append(described, d)
		if e.whole {
			judged = append(judged, e.Environment)
		} else {
			partly = append(partly, b.Name)
		}
	}
	return described, judged, partly, bad
}

var again = errs.Hint("copy the deploy tree again, wholly, when the other CI is done")

// packages looks for packages that are gone, by pkgdata and stamps, and for those that
// are half there by their names.
func (l *look) packages(ctx context.Context) (bad errs.List, err error) {
	have, any := map[string]bool{}, false
	err = l.t.walk(ctx, "tmp/deploy/rpm", func(rel, _ string) error {
		base := path.Base(rel)
		switch {
		case strings.HasPrefix(base, ".") && strings.Contains(base, ".rpm"):
			bad = append(bad, errs.E(errs.Conflict, rel+" is what a copy left that was cut off", again))
		case strings.HasSuffix(base, ".rpm"):
			any = true
			have[nameOf(base)] = true
		}
		return nil
	})
	if err != nil {
		return bad, err
	}
	if !any {
		return append(bad, errs.E(errs.Conflict, "there are no packages in "+l.t.path("tmp/deploy/rpm"), errs.Hint("hand over tmp/deploy/rpm, or say where it is: --part packages=DIR"))), nil
	}
	l.said.Packages = l.t.path("tmp/deploy/rpm")
	recipes, err := recipesOf(ctx, l.t)
	if err != nil {
		return bad, err
	}
	tasks, err := ranTasks(ctx, l.t)
	for _, m := range missingPackages(have, recipes, tasks) {
		bad = append(bad, errs.E(errs.Conflict, "the build wrote package "+m+", and the deploy tree does not have it", again))
	}
	return bad, err
}

// nameOf takes version, release and architecture off a package's file name.
func nameOf(file string) string {
	for range 2 {
		if i := strings.LastIndexByte(file, '-'); i > 0 {
			file = file[:i]
		}
	}
	return file
}

// indexes compares the metadata of repositories in the deploy tree with the files.
func (l *look) indexes(ctx context.Context) (bad errs.List, err error) {
	err = l.t.walk(ctx, "tmp/deploy/rpm", func(rel, p string) error {
		dir, ok := strings.CutSuffix(filepath.ToSlash(p), "/repodata/repomd.xml")
		if !ok {
			return nil
		}
		where := path.Join(path.Dir(path.Dir(rel)), "repodata")
		repo, err := rpmmd.ReadRepo(func(name string) (io.ReadCloser, error) {
			f, err := os.Open(filepath.Join(dir, filepath.FromSlash(name)))
			if errors.Is(err, fs.ErrNotExist) {
				return nil, errs.E(errs.NotFound, name+" is not there", err)
			}
			if err != nil {
				return nil, errs.E(errs.Unavailable, "read "+name, err)
			}
			return f, nil
		})
		if err != nil {
			bad = append(bad, errs.E(errs.Conflict, where+" is not whole", err, again))
			return nil
		}
		for _, x := range repo.Primary {
			info, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(x.Href)))
			switch {
			case err != nil:
				bad = append(bad, errs.E(errs.Conflict, fmt.Sprintf("%s lists %s, which is not there", where, x.Href), again, errs.Hint("an index of another day is no use: remove "+where+", or bitbake package-index alone")))
			case info.Size() != x.Size:
				bad = append(bad, errs.E(errs.Conflict, fmt.Sprintf("%s lists %s with %d bytes, and the file has %d", where, x.Href, x.Size, info.Size()), again))
			}
		}
		return nil
	})
	return bad, err
}

// images asks of each image for its manifest, its name for the version, and its
// packages to be in the tree or published; of each link that it leads somewhere.
func (l *look) images(ctx context.Context, v distro.Version, boards []distro.Board, images map[string][]string) (bad errs.List, err error) {
	known := map[string]bool{}
	for _, b := range boards {
		known[b.Name] = true
	}
	byBoard := map[string][]string{}
	err = l.t.walk(ctx, "tmp/deploy/images", func(rel, _ string) error {
		board, file, ok := strings.Cut(rel, "/")
		if ok {
			byBoard[board] = append(byBoard[board], file)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, board := range slices.Sorted(maps.Keys(byBoard)) {
		if !known[board] {
			bad = append(bad, errs.E(errs.Conflict, fmt.Sprintf("deploy/images has board %s, which slipway.yaml does not name", board), errs.Hintf("- {name: %s} below boards, or hand the tree over without it", board)))
			continue
		}
		bad = append(bad, imagesOf(board, v, byBoard[board], images[board])...)
	}
	err = l.t.links(ctx, "tmp/deploy/images", func(rel, p string) error {
		if _, err := os.Stat(p); errors.Is(err, fs.ErrNotExist) {
			to, _ := os.Readlink(p)
			bad = append(bad, errs.E(errs.Conflict, fmt.Sprintf("deploy/images/%s leads to %s, which is not there", rel, to), again))
		}
		return nil
	})
	return bad, err
}

// imagesOf judges the files of one board: those that belong to an image by their name,
// "<image>-<board>[.rootfs]-<version>.<type>" or "<image>-<board>-<version>.rootfs.<type>".
func imagesOf(board string, v distro.Version, files, want []string) (bad errs.List) {
	suffix := "-" + string(v)
	type image struct {
		manifest bool
		disk     string
	}
	all := map[string]*image{}
	for _, f := range files {
		name, rest, ok := strings.Cut(f, "-"+board)
		if !ok || rest != "" && rest[0] != '.' && rest[0] != '-' || !slices.Contains(want, name) && !strings.Contains(rest, ".rootfs") {
			continue // a kernel, a boot loader
		}
		if !strings.Contains(rest+".", suffix+".") {
			bad = append(bad, errs.E(errs.Conflict, fmt.Sprintf("deploy/images/%s/%s is not named for %s", board, f, v), errs.Hintf("IMAGE_VERSION_SUFFIX = %q in the other CI's configuration (slipway next); files of other builds do not belong there", suffix)))
			continue
		}
		if all[name] == nil {
			all[name] = &image{}
		}
		switch {
		case strings.HasSuffix(rest, manifestEnding):
			all[name].manifest = true
		case !strings.HasSuffix(rest, ".json") && !strings.HasSuffix(rest, ".txt"):
			all[name].disk = f
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		switch i := all[name]; {
		case !i.manifest:
			bad = append(bad, errs.E(errs.Conflict, fmt.Sprintf("image %s of board %s has no manifest: nobody can tell what it holds", name, board), again, errs.Hint("IMAGE_MANIFEST is written by do_rootfs: "+name+"-"+board+".rootfs"+suffix+manifestEnding)))
		case i.disk == "":
			bad = append(bad, errs.E(errs.Conflict, fmt.Sprintf("image %s of board %s has a manifest, and no image is there", name, board), again))
		}
	}
	return bad
}

const manifestEnding = ".manifest"

// links calls f with every link of a folder below TOPDIR.
func (t tree) links(ctx context.Context, folder string, f func(rel, path string) error) error {
	start := t.path(folder)
	if info, err := os.Lstat(start); err != nil || !info.IsDir() {
		return nil
	}
	return filepath.WalkDir(start, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return errs.E(errs.Unavailable, "read "+p, err)
		}
		if e.Type()&fs.ModeSymlink == 0 {
			return ctx.Err()
		}
		rel, err := filepath.Rel(start, p)
		if err != nil {
			return err
		}
		return f(filepath.ToSlash(rel), p)
	})
}

// links finds caches whose objects are links to a mirror: the tree does not have them.
func (l *look) links(ctx context.Context) (bad errs.List, err error) {
	for _, part := range []string{"sstate", "downloads"} {
		n, first := 0, ""
		err := l.t.links(ctx, part, func(rel, p string) error {
			if n++; n == 1 {
				to, _ := os.Readlink(p)
				first = rel + " leads to " + to
			}
			return nil
		})
		if err != nil {
			return bad, err
		}
		if n > 0 {
			bad = append(bad, errs.E(errs.Conflict, fmt.Sprintf("%s has %d links in place of files, as BitBake makes them for a mirror: %s", part, n, first), errs.Hintf("copy it with what the links lead to (cp -rL, rsync -L), and --part %s=THERE", part)))
		}
	}
	return bad, nil
}

// missing names what the build does not hand over, class by class, and notes where the
// databases are.
func (l *look) missing(ctx context.Context, logs []consoleLog) error {
	has := func(folder string, skip func(string) bool) (bool, error) {
		found := errors.New("found")
		err := l.t.walk(ctx, folder, func(rel, _ string) error {
			if skip != nil && skip(rel) {
				return nil
			}
			return found
		})
		return err == found, errs.Wrap(map[bool]error{true: nil, false: err}[err == found], "look for %s", folder)
	}
	lacks := func(class distro.Class, why string) {
		l.said.Missing = append(l.said.Missing, string(class)+": "+why)
	}
	if len(newest(logs)) == 0 {
		lacks(distro.ConsoleLog, "no tmp/log/cooker/<MACHINE>/*.log; --part console-log=FILE")
	}
	for _, x := range []struct {
		class   distro.Class
		folders []string
		why     string
	}{
		{distro.Configuration, []string{"conf"}, "no conf/; --part configuration=DIR"},
		{distro.TaskLog, []string{"tmp/work"}, "no tmp/work/*/*/*/temp, or rm_work removed it"},
		{distro.Buildhistory, []string{"buildhistory"}, `no buildhistory/; INHERIT += "buildhistory"`},
		{distro.Downloads, []string{"downloads"}, "no downloads/; --part downloads=DIR"},
		{distro.Sources, []string{"tmp/deploy/sources"}, `no tmp/deploy/sources; INHERIT += "archiver"`},
		{distro.SState, []string{"sstate"}, "no sstate-cache/; --part sstate=DIR"},
		{distro.SBOM, []string{"tmp/deploy/spdx", "tmp/deploy/cve"}, `neither tmp/deploy/spdx nor tmp/deploy/cve; INHERIT += "create-spdx vex"`},
		{distro.Images, []string{"tmp/deploy/images"}, "no tmp/deploy/images"},
		{distro.SDK, []string{"tmp/deploy/sdk"}, "no tmp/deploy/sdk"},
	} {
		ok := false
		for _, f := range x.folders {
			there, err := has(f, nil)
			if err != nil {
				return err
			}
			ok = ok || there
		}
		if !ok {
			lacks(x.class, x.why)
		}
	}
	for _, db := range []struct {
		class distro.Class
		at    string
		to    *string
	}{{distro.PRDatabase, "prserv", &l.said.PRServ}, {distro.HashDatabase, "hashserv", &l.said.HashServ}} {
		if p, ok := l.t.at[db.at]; ok && regular(p) {
			*db.to = p
		} else {
			lacks(db.class, fmt.Sprintf("no cache/%s; --part %s=FILE, a copy or an export of the server's", map[string]string{"prserv": "prserv.sqlite3", "hashserv": "hashserv.db"}[db.at], db.class))
		}
	}
	slices.Sort(l.said.Missing)
	return nil
}

// manifests reads the lists of packages of the images: lines of "name architecture
// version" (format_pkg_list in OE-Core's meta/lib/oe/utils.py). What the deploy tree does
// not have of them goes to Imported.Elsewhere.
func (l *look) manifests(ctx context.Context) (bad errs.List, err error) {
	have := map[string]bool{}
	err = l.t.walk(ctx, "tmp/deploy/rpm", func(rel, _ string) error {
		file := path.Base(rel)
		name := nameOf(file)
		version, _, _ := strings.Cut(strings.TrimPrefix(file, name+"-"), "-")
		arch := path.Ext(strings.TrimSuffix(file, ".rpm"))
		have[name+" "+strings.TrimPrefix(arch, ".")+" "+version] = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	return bad, errors.Join(err, l.t.walk(ctx, "tmp/deploy/images", func(rel, p string) error {
		if !strings.HasSuffix(rel, manifestEnding) {
			return nil
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return errs.E(errs.Unavailable, "read "+rel, err)
		}
		for line := range strings.Lines(string(data)) {
			w := strings.Fields(line)
			switch {
			case len(w) == 0:
			case len(w) != 3:
				bad = append(bad, errs.E(errs.Conflict, fmt.Sprintf("manifest %s has the line %q: no name, architecture and version", rel, strings.TrimSpace(line)), again))
			case !have[w[0]+" "+distro.RPMArch(w[1])+" "+w[2]]:
				l.said.Elsewhere = append(l.said.Elsewhere, distro.ImagePackage{Image: strings.TrimSuffix(rel, manifestEnding), Name: w[0], Arch: distro.RPMArch(w[1]), Version: w[2]})
			}
		}
		return nil
	}))
}
