package bitbake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

const planSchema = 1

// plan is plan.json in the build's folder: what Prepare found.
type plan struct {
	Schema  int                    `json:"schema"`
	Seed    distro.Seed            `json:"seed"`
	BitBake string                 `json:"bitbake"` // checkout
	Core    string                 `json:"core"`    // OE-Core's repository: the folder with meta and scripts
	Layers  []string               `json:"layers"`  // folders, in the revision's order, without BitBake
	Boards  []string               `json:"boards"`
	Targets map[string][]string    `json:"targets"` // board -> what is built
	Classes []string               `json:"classes"` // of all layers, by name
	Conf    map[string]string      `json:"conf"`    // the generated files
	Base    []distro.NumberRow     `json:"base"`    // the base's PR database
	Known   []distro.PackageRecord `json:"known"`   // the base's packages

	Imported *imported `json:"imported,omitempty"` // what another CI built
}

var versionLine = regexp.MustCompile(`(?m)^__version__ = "([^"]+)"`)

func bitbakeVersion(checkout string) (string, error) {
	data, err := os.ReadFile(filepath.Join(checkout, "lib", "bb", "__init__.py"))
	if err != nil {
		return "", errs.E(errs.NotFound, checkout+" is no checkout of BitBake", err)
	}
	m := versionLine.FindSubmatch(data)
	if m == nil {
		return "", errs.E(errs.Invalid, checkout+" is no checkout of BitBake: lib/bb/__init__.py names no version")
	}
	return string(m[1]), nil
}

func exists(path ...string) bool {
	_, err := os.Stat(filepath.Join(path...))
	return err == nil
}

// Prepare writes the plan and the configuration. A layer in seed.Layers must lie in
// its whole repository: OE-Core's meta needs the scripts beside it. All that is
// found wrong is reported at once. It may be repeated.
func (b *Builder) Prepare(ctx context.Context, rev distro.Revision, seed distro.Seed, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return errs.Wrap(err, "folder of the build")
	}
	p := &plan{Schema: planSchema, Seed: seed, BitBake: b.opt.BitBake, Targets: map[string][]string{}, Base: seed.Numbers, Known: seed.Packages}
	p.Seed.Numbers, p.Seed.Packages = nil, nil
	var bad errs.List
	for _, pin := range rev.Layers {
		folder, ok := seed.Layers[pin.Name]
		switch {
		case !ok:
			bad = append(bad, errs.E(errs.Internal, "layer "+pin.Name+" was not checked out"))
		case exists(folder, "bin", "bitbake"):
			if p.BitBake == "" {
				p.BitBake = folder
			}
		case !exists(folder, "conf", "layer.conf"):
			bad = append(bad, errs.E(errs.Invalid, "layer "+pin.Name+" has no conf/layer.conf", errs.Hint("set the layer's path in slipway.yaml to the folder in its repository")))
		default:
			p.Layers = append(p.Layers, folder)
			if exists(folder, "conf", "bitbake.conf") {
				p.Core = filepath.Dir(folder)
			}
		}
	}
	if p.BitBake == "" && exists(p.Core, "bitbake", "bin", "bitbake") {
		p.BitBake = filepath.Join(p.Core, "bitbake")
	}
	switch {
	case p.Core == "":
		bad = append(bad, errs.E(errs.Invalid, "no layer is OE-Core", errs.Hint("add openembedded-core with path: meta to the layers")))
	case !exists(p.Core, "scripts", "oe-buildenv-internal"):
		bad = append(bad, errs.E(errs.Internal, "OE-Core was checked out without its scripts: "+p.Core))
	}
	if p.BitBake == "" {
		bad = append(bad, errs.E(errs.Invalid, "no layer is BitBake", errs.Hint("add a layer {name: bitbake, url: https://git.openembedded.org/bitbake, branch: ...}: BitBake is pinned as layers are")))
	} else if _, err := bitbakeVersion(p.BitBake); err != nil {
		bad = append(bad, err)
	}
	bad = append(bad, series(b.opt.Release, p.Layers)...)
	for _, board := range seed.Boards {
		p.Boards = append(p.Boards, board.Name)
		if p.Targets[board.Name] = slices.Concat(b.opt.Targets, b.opt.Images[board.Name]); len(p.Targets[board.Name]) == 0 {
			bad = append(bad, errs.E(errs.Invalid, "nothing to build for board "+board.Name, errs.Hint("name targets, or images of the board, in slipway.yaml")))
		}
	}
	if len(p.Boards) == 0 {
		bad = append(bad, errs.E(errs.Invalid, "BitBake needs a board (its MACHINE)", errs.Hint("add one to boards in slipway.yaml")))
	}
	who, err := lookupUser(b.opt.User)
	if err != nil {
		bad = append(bad, err)
	}
	if err := checkHost(ctx); err != nil {
		bad = append(bad, err)
	}
	for _, path := range append([]string{dir, b.opt.SState, b.opt.Downloads, seed.FeedConfig}, p.Layers...) {
		// OE-Core's sanity.bbclass refuses these in TMPDIR and COREBASE; it would
		// say so only after the start.
		if strings.ContainsAny(path, "+@~ \"$;\\\n") {
			bad = append(bad, errs.E(errs.Invalid, "BitBake cannot work in a path with blanks or any of +@~$;: "+path, errs.Hint("move the workspace")))
		}
	}
	if len(bad) > 0 {
		return bad.Err()
	}
	p.Classes = classes(p.Layers)
	p.Conf = b.configuration(p)
	return b.lay(p, dir, who)
}

// lay writes what Prepare decided; the plan is last.
func (b *Builder) lay(p *plan, dir string, who *identity) error {
	top := filepath.Join(dir, "topdir")
	var bad errs.List
	for _, d := range []string{"sstate", "tmp", "buildhistory", "cache"} {
		if err := who.foreign(filepath.Join(top, d)); err != nil {
			bad = append(bad, err)
		}
	}
	for _, mirror := range []string{b.opt.SState, b.opt.Downloads} {
		if err := who.reads(mirror); err != nil {
			bad = append(bad, err)
		}
	}
	if len(bad) > 0 {
		return bad.Err()
	}
	// A build that was finished by another plan is none by this one.
	for _, name := range []string{"finished", UnfetchedName, MissingName, FloatingName} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return errs.E(errs.Unavailable, "make the build's folder", err)
		}
	}
	for _, d := range []string{dir, top, filepath.Join(top, "conf")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return errs.E(errs.Unavailable, "make the build's folder", err)
		}
	}
	for _, d := range []string{"home", "sstate", "downloads", "tmp", "buildhistory", "events", "cache"} {
		path := filepath.Join(top, d)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return errs.E(errs.Unavailable, "make the build's folder", err)
		}
		if err := who.own(path); err != nil {
			return err
		}
	}
	if err := who.own(top); err != nil {
		return err
	}
	if err := b.history(p, top, who); err != nil {
		return err
	}
	if err := who.reaches(append(slices.Clone(p.Layers), top, p.BitBake)); err != nil {
		return err
	}
	for name, text := range p.Conf {
		if err := writeFile(filepath.Join(top, "conf", name), []byte(text)); err != nil {
			return err
		}
	}
	return writeFile(filepath.Join(dir, "plan.json"), distro.CanonicalJSON(p))
}

// history lays out the base's buildhistory, so that BitBake sees a version that goes
// backwards. What a build that was stopped has written since stays.
func (b *Builder) history(p *plan, top string, who *identity) error {
	if p.Seed.Buildhistory == "" {
		return nil
	}
	to, tmp := filepath.Join(top, "buildhistory"), filepath.Join(top, "buildhistory.partial")
	entries, err := os.ReadDir(to)
	if err != nil || len(entries) > 0 {
		return errs.Wrap(err, "folder of buildhistory")
	}
	if err = os.RemoveAll(tmp); err == nil {
		err = os.CopyFS(tmp, os.DirFS(p.Seed.Buildhistory))
	}
	if err == nil {
		err = filepath.WalkDir(tmp, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return who.own(path)
		})
	}
	if err == nil {
		err = os.Remove(to)
	}
	if err == nil {
		err = os.Rename(tmp, to)
	}
	if err != nil {
		return errs.E(errs.Unavailable, "lay out the base's buildhistory", err)
	}
	return nil
}

// writeFile is whole or not there.
func writeFile(path string, data []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err == nil {
		_, err = f.Write(data)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return errs.E(errs.Unavailable, "write "+path, err)
	}
	return nil
}

func readPlan(dir string) (*plan, error) {
	data, err := os.ReadFile(filepath.Join(dir, "plan.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.E(errs.NotFound, "this folder has no plan of a build")
	}
	var p plan
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err == nil && p.Schema != planSchema {
		err = fmt.Errorf("schema %d, this program knows %d", p.Schema, planSchema)
	}
	if err != nil {
		return nil, errs.E(errs.Invalid, "plan.json is damaged or of another version", err)
	}
	return &p, nil
}

var compat = regexp.MustCompile(`(?m)^LAYERSERIES_COMPAT_\S+\s*[?:+.]?=\s*"([^"]*)"`)
var coreNames = regexp.MustCompile(`(?m)^LAYERSERIES_CORENAMES\s*=\s*"([^"]*)"`)

// series compares the definition's release with what the layers say of themselves.
func series(release string, folders []string) errs.List {
	var bad errs.List
	if release == "" {
		return nil
	}
	for _, folder := range folders {
		data, err := os.ReadFile(filepath.Join(folder, "conf", "layer.conf"))
		if err != nil {
			continue // reported before
		}
		if m := coreNames.FindSubmatch(data); m != nil && !slices.Contains(strings.Fields(string(m[1])), release) {
			bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("OE-Core is of %s, not of %s", m[1], release), errs.Hint("change builder.release, or the layer's branch")))
		} else if m := compat.FindSubmatch(data); m != nil && !strings.Contains(string(m[1]), "$") && !slices.Contains(strings.Fields(string(m[1])), release) && coreNames.Find(data) == nil {
			bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("layer %s is for %s, not for %s", filepath.Base(folder), m[1], release), errs.Hint("take the layer's branch for the release")))
		}
	}
	return bad
}

// classes names the classes that the layers have.
func classes(folders []string) []string {
	var out []string
	for _, folder := range folders {
		found, _ := filepath.Glob(filepath.Join(folder, "classes*", "*.bbclass"))
		for _, f := range found {
			out = append(out, strings.TrimSuffix(filepath.Base(f), ".bbclass"))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// checkHost asks for what BitBake refuses to start without.
func checkHost(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "locale", "-a").Output()
	if err == nil && !strings.Contains(strings.ToLower(strings.ReplaceAll(string(out), "-", "")), "en_us.utf8") {
		return errs.E(errs.Unavailable, "BitBake needs the locale en_US.UTF-8, and this machine has none", errs.Hint("apt-get install locales && sed -i 's/^# *en_US.UTF-8/en_US.UTF-8/' /etc/locale.gen && locale-gen"))
	}
	return nil
}
