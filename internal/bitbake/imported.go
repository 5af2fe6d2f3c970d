package bitbake

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// ImportOptions say what another CI handed over, and what the definition wants of it.
type ImportOptions struct {
	Dir string // TOPDIR, or a folder with parts of it
	// Parts are folders and files that lie elsewhere, by a name of [PartNames].
	Parts   map[string]string
	Release string              // Yocto's release of the definition; "" is not checked
	Images  map[string][]string // board -> its images
}

// Importer takes what a BitBake elsewhere left, as a builder that builds nothing: what
// it reads is never changed. [Importer.Look] comes first.
type Importer struct {
	opt    ImportOptions
	looked *look
}

// NewImporter gives an importer. Nothing is read before Look.
func NewImporter(opt ImportOptions) *Importer { return &Importer{opt: opt} }

// parts are what can lie elsewhere: name -> path in a tree.
var parts = map[string]string{"tmp": "tmp", "deploy": "tmp/deploy", "packages": "tmp/deploy/rpm", "images": "tmp/deploy/images", "sdk": "tmp/deploy/sdk", "sources": "tmp/deploy/sources",
	"sstate": "sstate", "downloads": "downloads", "buildhistory": "buildhistory", "configuration": "conf", "console-log": "console-log", "pr-database": "prserv", "hash-database": "hashserv", "test-results": "tmp/log/oeqa"}

// PartNames are the names of ImportOptions.Parts, sorted.
func PartNames() []string { return slices.Sorted(maps.Keys(parts)) }

// usual is where a part lies when nothing else is said, below the folder; the first wins.
var usual = []struct{ part, in string }{
	{"tmp", "tmp"}, {"tmp", "tmp-glibc"}, {"tmp", "tmp-musl"},
	{"sstate", "sstate-cache"}, {"sstate", "sstate"},
	{"pr-database", "cache/prserv.sqlite3"}, {"pr-database", "prserv.sqlite3"}, {"hash-database", "cache/hashserv.db"}, {"hash-database", "hashserv.db"},
}

// locate finds the parts. A CI that keeps only some folders hands them over without
// "tmp/" before them.
func (o ImportOptions) locate() (tree, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return tree{}, errs.E(errs.Invalid, "folder "+o.Dir, err)
	}
	t := tree{top: dir, at: map[string]string{}}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return t, errs.E(errs.NotFound, "there is no folder "+o.Dir, errs.Hint("name the build folder of the other CI: the one with conf/ and tmp/"))
	}
	var bad errs.List
	for _, name := range slices.Sorted(maps.Keys(o.Parts)) {
		at, ok := parts[name]
		if !ok {
			hint := errs.Hint("parts are " + strings.Join(PartNames(), ", "))
			if near := errs.Near(name, PartNames()); near != "" {
				hint = errs.Hintf("did you mean %q?", near)
			}
			bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("%q is no part of a build", name), hint))
			continue
		}
		path, err := filepath.Abs(o.Parts[name])
		var info fs.FileInfo
		if err == nil {
			info, err = os.Stat(path)
		}
		if err != nil {
			bad = append(bad, errs.E(errs.NotFound, "part "+name, err))
			continue
		}
		if file := at == "prserv" || at == "hashserv"; info.IsDir() == file && at != "console-log" {
			bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("part %s is a %s, and %s is none", name, map[bool]string{true: "file", false: "folder"}[file], o.Parts[name])))
			continue
		}
		t.at[at] = path
	}
	for _, u := range usual {
		if _, ok := t.at[parts[u.part]]; !ok && exists(dir, u.in) {
			t.at[parts[u.part]] = filepath.Join(dir, filepath.FromSlash(u.in))
		}
	}
	if _, ok := t.at["tmp"]; !ok {
		t.at["tmp"] = dir
		if !exists(dir, "deploy") && exists(dir, "rpm") {
			t.at["tmp/deploy"] = dir
		}
	}
	if _, ok := t.at["events"]; !ok {
		t.at["events"] = t.path("tmp/log/eventlog")
	}
	return t, bad.Err()
}

// Pin names what built: the versions that the build's console names.
func (i *Importer) Pin(context.Context) (distro.BuilderPin, error) {
	pin := distro.BuilderPin{Kind: "import", Tools: map[string]string{}}
	if i.looked == nil {
		return pin, errs.E(errs.Internal, "an import that nobody looked at")
	}
	for name, v := range map[string]string{"release": i.opt.Release, "bitbake": i.looked.said.BitBake, "host": i.looked.said.Host} {
		if v != "" {
			pin.Tools[name] = v
		}
	}
	return pin, nil
}

// Prepare notes where everything lies and what it was like when it was looked at, and
// compares the layers with what the build says of itself. It may be repeated.
func (i *Importer) Prepare(ctx context.Context, rev distro.Revision, seed distro.Seed, dir string) error {
	if i.looked == nil {
		return errs.E(errs.Internal, "an import that nobody looked at")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return errs.Wrap(err, "folder of the build")
	}
	p := &plan{Schema: planSchema, Seed: seed, Targets: map[string][]string{}, Base: seed.Numbers, Known: seed.Packages, Imported: &imported{Top: i.looked.t.top, At: i.looked.t.at, State: i.looked.state}}
	p.Seed.Numbers, p.Seed.Packages = nil, nil
	for _, b := range seed.Boards {
		p.Boards = append(p.Boards, b.Name)
	}
	var bad errs.List
	for _, pin := range rev.Layers {
		folder := seed.Layers[pin.Name]
		switch {
		case exists(folder, "bin", "bitbake"):
			p.BitBake = folder
			if v, err := bitbakeVersion(folder); err == nil && i.looked.said.BitBake != "" && v != i.looked.said.BitBake {
				bad = append(bad, errs.E(errs.Conflict, fmt.Sprintf("layer %s is BitBake %s at %.12s, and the build was made by %s", pin.Name, v, pin.Commit, i.looked.said.BitBake),
					errs.Hintf("set commit: of layer %s in slipway.yaml to the one that the other CI has", pin.Name)))
			}
		case exists(folder, "conf", "layer.conf"):
			p.Layers = append(p.Layers, folder)
		}
	}
	bad = append(bad, series(i.opt.Release, p.Layers)...)
	if len(bad) > 0 {
		return bad.Err()
	}
	p.Classes = classes(p.Layers)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return errs.E(errs.Unavailable, "make the build's folder", err)
	}
	for _, name := range []string{"finished", UnfetchedName, MissingName, FloatingName, "console.log"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errs.E(errs.Unavailable, "make the build's folder", err)
		}
	}
	return writeFile(filepath.Join(dir, "plan.json"), distro.CanonicalJSON(p))
}

// Build builds nothing: it joins the newest console logs of the boards to one.
func (i *Importer) Build(ctx context.Context, dir string, _ func(distro.BuildEvent)) error {
	p, err := importPlan(dir)
	if err != nil {
		return err
	}
	logs, err := consoleLogs(ctx, p.tree())
	if err != nil {
		return err
	}
	var all []byte
	for _, l := range newest(logs) {
		data, err := os.ReadFile(l.path)
		if err != nil {
			return errs.E(errs.Unavailable, "read the console log", err)
		}
		all = append(all, data...)
	}
	if len(all) > 0 {
		if err := writeFile(filepath.Join(dir, "console.log"), all); err != nil {
			return err
		}
	}
	return writeFile(filepath.Join(dir, "finished"), nil)
}

// Collect gives what [Builder.Collect] gives, by the same code, from where the other CI
// left it. Of a cache that several builds share it takes the objects of the tasks of
// this one. When something was changed since Look, that is the one error.
func (i *Importer) Collect(ctx context.Context, dir string) iter.Seq2[distro.Output, error] {
	return func(yield func(distro.Output, error) bool) {
		all, err := i.outputs(ctx, dir)
		if !yieldAll(all, err, yield) {
			return
		}
		p, err := importPlan(dir)
		if err == nil {
			err = p.unchanged(ctx)
		}
		if err != nil {
			yield(distro.Output{}, err)
		}
	}
}

func (i *Importer) outputs(ctx context.Context, dir string) ([]distro.Output, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	p, err := importPlan(dir)
	if err == nil {
		err = p.unchanged(ctx)
	}
	if err != nil {
		return nil, err
	}
	c := collecting{dir: dir, p: p, t: p.tree()}
	tasks, err := ranTasks(ctx, c.t)
	if err != nil {
		return nil, err
	}
	c.others = othersObjects(tasks)
	all, err := c.outputs(ctx)
	if err != nil {
		return nil, err
	}
	logs, err := consoleLogs(ctx, c.t)
	for _, l := range logs {
		all = append(all, distro.Output{Class: distro.ConsoleLog, Name: "cooker/" + l.name, Path: l.path})
	}
	return all, err
}

// othersObjects tells the objects of a cache that are of no task of this build. Without
// stamps nobody knows, and all are taken.
func othersObjects(tasks []Task) func(class distro.Class, rel string) bool {
	mine := map[string]bool{}
	for _, t := range tasks {
		mine[t.Unihash] = true
	}
	return func(class distro.Class, rel string) bool {
		if class != distro.SState || len(mine) == 0 {
			return false
		}
		// "sstate:hello:core2-64-...:1.0:r0:core2-64:14:<unihash>_package.tar.zst"
		name := rel[strings.LastIndexByte(rel, ':')+1:]
		hash, _, _ := strings.Cut(name, "_")
		return !mine[hash]
	}
}

// Logs gives the console as it was joined.
func (i *Importer) Logs(_ context.Context, dir string) []distro.Output {
	if path := filepath.Join(dir, "console.log"); exists(path) {
		return []distro.Output{{Class: distro.ConsoleLog, Name: "console.log", Path: path}}
	}
	return nil
}

// LogOf is [Builder.LogOf].
func (i *Importer) LogOf(name, task string) bool { return logOf(name, task) }

// Describe gives what the boards are, as the build says it, and what [Assert] finds in
// their settings where it handed over all of them.
func (i *Importer) Describe(ctx context.Context, dir string) ([]distro.Board, []distro.Finding, error) {
	p, err := importPlan(dir)
	if err != nil {
		return nil, nil, err
	}
	boards, judged, partly, bad := environments(ctx, p.tree(), p.Seed.Boards)
	if err := bad.Err(); err != nil {
		return nil, nil, err
	}
	for _, e := range judged {
		e.Classes = p.Classes
	}
	findings := Assert(judged, false)
	for _, name := range partly {
		findings = append(findings, distro.Finding{Check: AssertID, ID: "not-known-" + name, Level: distro.Warn, Object: name, Boards: []string{name}, Text: "nobody knows all settings of board " + name + ": only those of an image were handed over",
			Cure: fmt.Sprintf("MACHINE=%s bitbake -e > environment-%s.txt in the build folder, before it is handed over", name, name)})
	}
	return boards, findings, nil
}

// imported is the part of a plan that only an import has.
type imported struct {
	Top   string            `json:"top"`
	At    map[string]string `json:"at"`
	State string            `json:"state"` // of all that is collected: names, sizes, times
}

func (p *plan) tree() tree { return tree{p.Imported.Top, p.Imported.At} }

func importPlan(dir string) (*plan, error) {
	p, err := readPlan(dir)
	if err == nil && p.Imported == nil {
		err = errs.E(errs.Conflict, "this folder has a build of our own, no import")
	}
	return p, err
}

func (p *plan) unchanged(ctx context.Context) error {
	now, err := stateOf(ctx, p.tree())
	if err == nil && now != p.Imported.State {
		err = errs.E(errs.Conflict, p.Imported.Top+" was changed while it was imported", errs.Hint("stop what writes there, and import it again"))
	}
	return err
}

// stateOf gives a digest of the names, sizes and times of all files that an import takes,
// but for the logs of tasks.
func stateOf(ctx context.Context, t tree) (string, error) {
	sum := sha256.New()
	folders := []string{"tmp/deploy/rpm", "tmp/stamps", "tmp/log"}
	for _, pl := range places {
		folders = append(folders, pl.folder)
	}
	for _, folder := range folders {
		err := t.walk(ctx, folder, func(rel, path string) error {
			info, err := os.Lstat(path)
			if err != nil {
				return errs.E(errs.Unavailable, "read "+path, err)
			}
			fmt.Fprintf(sum, "%s\x00%s\x00%d\x00%d\n", folder, rel, info.Size(), info.ModTime().UnixNano())
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%x", sum.Sum(nil)), nil
}
