package rpmbuild

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// plan is plan.json of a build's folder: everything that Build and Collect need
// to know. The folder holds, beside it:
//
//	inputs/<spec>/     the spec and its sources, as staged
//	feed-config/       the generated feed configuration
//	work/<task>/       where a task builds; removed when it is done
//	rpms/<task>/       the packages of a finished task
//	abi/<task>/        the types of its libraries, as abidw's XML; none without debug information
//	numbers/<task>     the number that the task was given (see [given])
//	done/<task>.json   the marker of a finished task (see [marker])
//	logs/<task>.log, console.log
type plan struct {
	Schema   int                    `json:"schema"` // planSchema
	Key      distro.Digest          `json:"key"`    // of revision, build, version, architectures and boards: whose plan this is
	Build    distro.BuildID         `json:"build"`
	Tasks    []task                 `json:"tasks"`           // by name
	Tools    map[string]string      `json:"tools"`           // versions of what builds
	Notes    []string               `json:"notes,omitempty"` // what is not built, and why
	Numbers  []distro.NumberRow     `json:"base_numbers"`
	Packages []distro.PackageRecord `json:"base_packages"`
}

const planSchema = 2

// task builds one spec for one scope.
type task struct {
	Name    string            `json:"name"` // "libknot.x86_64"
	Layer   string            `json:"layer"`
	Target  target            `json:"target"`
	Key     distro.NumberKey  `json:"key"`
	Epoch   int64             `json:"source_date_epoch"` // seconds since 1970
	Vars    map[string]string `json:"macros"`
	Macros  string            `json:"source_macros"`
	Needs   []need            `json:"needs"`       // what is in its sysroot
	After   []string          `json:"after"`       // the tasks that make it
	Feed    bool              `json:"feed_config"` // it reads feed-config/
	Outputs []string          `json:"packages"`    // names
	Input   distro.Digest     `json:"input"`       // of all that decides its packages but the number and the needs
	Stable  distro.Digest     `json:"stable"`      // the same, without the release's version when the spec does not read it
}

// need is one package of another task.
type need struct {
	Task    string `json:"task"`
	Package string `json:"package"`
}

func (p *plan) baseRow(k distro.NumberKey) (distro.NumberRow, bool) {
	for _, r := range p.Numbers {
		if r.NumberKey == k {
			return r, true
		}
	}
	return distro.NumberRow{}, false
}

// Prepare stages and parses every spec of the layers and writes the plan into
// dir, which it makes. All findings of all specs come at once: syntax errors
// with position, missing sources, unknown or circular BuildRequires, the same
// package twice. Called again for the same revision and build it keeps what is
// there; for another one it begins anew.
func (b *Builder) Prepare(ctx context.Context, rev distro.Revision, seed distro.Seed, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return errs.Wrap(err, "folder of the build")
	}
	machines, families, err := targets(b.opt.Arches, seed.Boards)
	if err != nil {
		return err
	}
	key := distro.DigestOf(distro.CanonicalJSON([]any{rev.Digest(), seed.Build, seed.Version, b.opt.Arches, machines}))
	var old plan
	if err := readJSON(filepath.Join(dir, "plan.json"), &old); err == nil && old.Schema == planSchema && old.Key == key {
		return nil
	}
	for _, d := range []string{"plan.json", "inputs", "feed-config", "work", "rpms", "abi", "numbers", "done", "logs", "console.log"} {
		if err := removeAll(filepath.Join(dir, d)); err != nil {
			return errs.Wrap(err, "folder of the build")
		}
	}
	sb, err := b.start(ctx)
	if err != nil {
		return err
	}
	specs, err := b.stageSpecs(rev, seed, dir)
	if err != nil {
		return err
	}
	feed := filepath.Join(dir, "feed-config")
	if err := os.MkdirAll(feed, 0o755); err != nil {
		return errs.Wrap(err, "folder of the build")
	}
	if seed.FeedConfig != "" {
		if _, err := stage(seed.FeedConfig, feed); err != nil {
			return errs.Wrap(err, "feed configuration")
		}
	}
	vars := map[string]string{
		"distro_name": rev.Distribution, "distro_series": rev.Series, "distro_version": string(seed.Version),
		"distro_title": seed.Title, "vendor": seed.Title, "distribution": strings.TrimSpace(seed.Title + " " + rev.Series),
	}
	r := &reader{b: b, sb: sb, machines: machines, families: families, work: filepath.Join(dir, "work", "parse"), feed: feed, vars: vars}
	read, err := r.all(ctx, specs)
	if err != nil {
		return err
	}
	tasks, err := resolve(read, vars)
	if err != nil {
		return err
	}
	if err := removeAll(filepath.Join(dir, "work")); err != nil {
		return errs.Wrap(err, "folder of the build")
	}
	return writeJSON(filepath.Join(dir, "plan.json"), plan{Schema: planSchema, Key: key, Build: seed.Build, Tasks: tasks,
		Tools: rev.Builder.Tools, Notes: unbuilt(specs, tasks), Numbers: seed.Numbers, Packages: seed.Packages})
}

// start checks the tools and the sandbox.
func (b *Builder) start(ctx context.Context) (*sandbox, error) {
	for _, t := range []string{b.opt.Tools.Rpmspec, b.opt.Tools.Rpmbuild} {
		if _, err := exec.LookPath(t); err != nil {
			return nil, missingTool(t, "the builder")
		}
	}
	return newSandbox(ctx, b.opt)
}

// stageSpecs copies the folder of each spec, and its pinned sources, to inputs/.
func (b *Builder) stageSpecs(rev distro.Revision, seed distro.Seed, dir string) ([]*spec, error) {
	var specs []*spec
	var bad errs.List
	byName := map[string]*spec{}
	for _, pin := range rev.Layers {
		root, ok := seed.Layers[pin.Name]
		if !ok {
			bad = append(bad, errs.Ef(errs.NotFound, "layer %s is not checked out", pin.Name))
			continue
		}
		entries, err := os.ReadDir(filepath.Join(root, "specs"))
		if errors.Is(err, fs.ErrNotExist) {
			bad = append(bad, errs.E(errs.NotFound, "layer "+pin.Name+" has no folder specs", errs.Hint("a layer holds specs/<name>/<name>.spec")))
			continue
		} else if err != nil {
			return nil, errs.Wrap(err, "layer %s", pin.Name)
		}
		for _, e := range entries {
			if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
				continue
			}
			s := &spec{name: e.Name(), layer: pin.Name, dir: filepath.Join(dir, "inputs", e.Name()),
				file: pin.Name + "/specs/" + e.Name() + "/" + e.Name() + ".spec"}
			if other := byName[s.name]; other != nil {
				bad = append(bad, errs.E(errs.Invalid, "the spec "+s.name+" is in two layers: "+other.layer+" and "+s.layer, s.at(0),
					errs.Hint("remove one, or give it another name")))
				continue
			}
			byName[s.name] = s
			if err := s.stage(root, rev, seed); err != nil {
				bad = append(bad, err)
				continue
			}
			specs = append(specs, s)
		}
	}
	if len(bad) == 0 && len(specs) == 0 {
		return nil, errs.E(errs.Invalid, "no layer has a spec", errs.Hint("a layer holds specs/<name>/<name>.spec"))
	}
	sort.Slice(specs, func(i, j int) bool { return specs[i].name < specs[j].name })
	return specs, bad.Err()
}

func (s *spec) stage(root string, rev distro.Revision, seed distro.Seed) error {
	var err error
	if s.sums, err = stage(filepath.Join(root, "specs", s.name), s.dir); err != nil {
		return errs.Wrap(err, "spec %s of layer %s", s.name, s.layer)
	}
	text, err := os.ReadFile(filepath.Join(s.dir, s.name+".spec"))
	if errors.Is(err, fs.ErrNotExist) {
		return errs.E(errs.NotFound, "layer "+s.layer+": the folder specs/"+s.name+" has no "+s.name+".spec", errs.Hint("the file and the folder have one name"))
	} else if err != nil {
		return errs.Wrap(err, "spec %s of layer %s", s.name, s.layer)
	}
	s.text = string(text)
	if _, ok := s.sums["sources.yaml"]; ok {
		data, err := os.ReadFile(filepath.Join(s.dir, "sources.yaml"))
		if err == nil {
			s.wanted, err = parseSources(s.name, data)
		}
		if err != nil {
			return errs.Wrap(err, "layer %s", s.layer)
		}
	}
	for _, pin := range rev.Sources {
		if pin.Spec != s.name {
			continue
		}
		sum, err := copyFile(filepath.Join(seed.Sources, pin.Digest.Hex()), filepath.Join(s.dir, pin.Name), 0o644)
		if err != nil {
			return errs.E(errs.NotFound, "source "+pin.Name+" of spec "+s.name+" ("+pin.Origin+") is not in the store", err)
		}
		if sum != pin.Digest {
			return errs.Ef(errs.Conflict, "source %s of spec %s has digest %s, pinned is %s", pin.Name, s.name, sum, pin.Digest)
		}
		s.sums[pin.Name] = "644 " + string(sum)
		s.pins = append(s.pins, pin)
	}
	return nil
}

func (s *spec) readsFeedConfig() bool { return strings.Contains(s.text, "slipway_feed_config") }

// clock dates the staged files by the spec's changelog.
func (s *spec) clock() error {
	t := time.Unix(s.changed, 0)
	for name := range s.sums {
		if err := os.Chtimes(filepath.Join(s.dir, name), t, t); err != nil {
			return errs.Wrap(err, "sources of %s", s.name)
		}
	}
	return nil
}

// hashTree makes the files of a folder part of what decides the spec's packages.
func hashTree(s *spec, dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		s.feedSums = append(s.feedSums, strings.TrimPrefix(path, dir)+" "+string(distro.DigestOf(data)))
		return err
	})
}
