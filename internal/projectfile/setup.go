package projectfile

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"slipway/internal/errs"
)

// Choices select one of the builds that a bitbake-setup file describes.
type Choices struct {
	Configuration string   // its name; "" takes the only one
	Fragments     []string // of the groups that offer one of several: "machine/qemux86-64"; several machines are several boards
	Revisions     string   // sources-fixed-revisions.json; "" looks beside the file
}

// ReadSetup reads a configuration of bitbake-setup (*.conf.json), or what a setup keeps of
// it (config/config-upstream.json, which has the choices too). What must be chosen, and
// was not, is an error that lists the possibilities, all at once.
func ReadSetup(file string, c Choices) (Project, error) {
	p := Project{Tool: "bitbake-setup"}
	abs, err := filepath.Abs(file)
	if err != nil {
		return p, errs.E(errs.Invalid, "file "+file, err)
	}
	k := kasReader{p: &p, top: filepath.Dir(abs)}
	doc, err := k.parse(abs)
	if err != nil {
		return p, err
	}
	kept := doc.get("bitbake-config") // of a setup: chosen and flattened
	if data := doc.get("data"); data != nil {
		doc = data
	}
	if doc.get("bitbake-setup") == nil {
		return p, errs.E(errs.Invalid, k.name(abs)+" is no configuration of bitbake-setup: it has no key bitbake-setup", doc.at)
	}
	if v := doc.get("version").str(); v != "1.0" {
		return p, errs.E(errs.Invalid, fmt.Sprintf("%s is of version %q, and 1.0 is known", k.name(abs), v), doc.get("version").place(doc))
	}
	if c.Revisions == "" {
		if beside := filepath.Join(k.top, "sources-fixed-revisions.json"); exists(beside) {
			c.Revisions = beside
		}
	}
	sources := doc.get("sources")
	order := sources.repoNames()
	if c.Revisions != "" {
		fixed, err := k.parse(c.Revisions)
		if err != nil {
			return p, err
		}
		if fixed.get("sources") == nil {
			return p, errs.E(errs.Invalid, c.Revisions+" has no fixed revisions: it has no key sources")
		}
		sources = merge(sources, fixed.get("sources"))
	}
	p.Expires = doc.get("expires").str()
	for _, key := range doc.sorted() {
		if !slices.Contains([]string{"description", "sources", "bitbake-setup", "version", "expires"}, key) {
			p.left(doc.keys[key].at, "%s: a definition has no place for it", key)
		}
	}
	conf, err := chosen(doc.get("bitbake-setup").get("configurations"), kept, c, k.name(abs))
	if err != nil {
		return p, err
	}
	p.Title = conf.text("description", doc.get("description").str())
	for _, name := range sources.repoNames() {
		if !slices.Contains(order, name) {
			order = append(order, name)
		}
	}
	s := setupReader{k: &k, sources: sources, order: order, where: map[string]*Repo{}}
	s.repos(conf)
	return p, s.fragments(conf, kept, c)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// configuration is one of bitbake-setup's, with what the levels around it give it.
type configuration struct {
	name   string
	levels []*value // outermost first
}

func (c configuration) text(key, otherwise string) string {
	for _, l := range slices.Backward(c.levels) {
		if s := l.get(key).str(); s != "" {
			return s
		}
	}
	return otherwise
}

// all gives a key's words on all levels, innermost first, as bitbake-setup joins them.
func (c configuration) all(key string) (out []*value) {
	for _, l := range slices.Backward(c.levels) {
		if v := l.get(key); v != nil {
			out = append(out, v.list...)
		}
	}
	return out
}

func chosen(list, kept *value, c Choices, file string) (configuration, error) {
	if kept != nil {
		return configuration{kept.get("name").str(), []*value{kept}}, nil
	}
	var all []configuration
	var names []string
	var flatten func(list *value, above []*value)
	flatten = func(list *value, above []*value) {
		if list == nil {
			return
		}
		for _, v := range list.list {
			levels := append(slices.Clone(above), v)
			if sub := v.get("configurations"); sub != nil {
				flatten(sub, levels)
				continue
			}
			x := configuration{levels: levels}
			x.name = x.text("name", "")
			all, names = append(all, x), append(names, x.name)
		}
	}
	flatten(list, nil)
	if c.Configuration == "" && len(all) == 1 {
		return all[0], nil
	}
	for _, x := range all {
		if x.name == c.Configuration && c.Configuration != "" {
			return x, nil
		}
	}
	what := fmt.Sprintf("%s has several configurations", file)
	if c.Configuration != "" {
		what = fmt.Sprintf("%s has no configuration %q", file, c.Configuration)
	}
	return configuration{}, errs.E(errs.Invalid, what, errs.Hint("--configuration takes one of: "+strings.Join(names, ", ")))
}

type setupReader struct {
	k       *kasReader
	sources *value
	order   []string         // names of the sources, as the file has them
	where   map[string]*Repo // path below layers/ -> repository
}

// repos reads the sources, and gives each of the layers to its repository.
func (s setupReader) repos(conf configuration) {
	p := s.k.p
	var list []*Repo
	for _, name := range s.order {
		v := s.sources.keys[name]
		r := &Repo{Name: name}
		at := v.get("path").str()
		if at == "" {
			at = name
		}
		s.where[path.Clean(at)] = r
		list = append(list, r)
		if local := v.get("local"); local != nil {
			if r.Folder = local.get("path").str(); !filepath.IsAbs(r.Folder) {
				p.left(local.at, "source %s is a folder by a path that is not absolute", name)
			}
			continue
		}
		git := v.get("git-remote")
		r.URL = git.get("uri").str()
		for _, remote := range git.get("remotes").repoNames() {
			if r.URL == "" {
				r.URL = git.get("remotes").keys[remote].get("uri").str()
			}
		}
		rev := git.get("rev").str()
		r.Branch = git.get("branch").str()
		switch {
		case r.URL == "":
			p.left(v.at, "source %s has neither a git-remote with uri or remotes, nor local", name)
		case reCommit.MatchString(rev):
			r.Commit = rev
		case rev == r.Branch && rev != "":
		case r.Branch == "" && rev != "" && !strings.HasPrefix(rev, "refs/tags/"):
			// bitbake-setup takes a branch or a tag; a definition, a branch. It is asked for when it builds.
			r.Branch = rev
		default:
			p.left(git.get("rev").place(v), "source %s: revision %q is neither a commit nor the branch: take the setup's sources-fixed-revisions.json", name, rev)
		}
	}
	for _, r := range list {
		if r.isBitBake() {
			p.Repos = append(p.Repos, *r)
		}
	}
	// The order of the layers is that of bb-layers. Sources without a layer are
	// documentation and tools.
	for _, l := range conf.all("bb-layers") {
		r, below := s.repoOf(path.Clean(l.text))
		if r == nil {
			p.left(l.at, "layer %s lies in none of the sources", l.text)
			continue
		}
		if n := len(p.Repos); n > 0 && p.Repos[n-1].Name == r.Name && len(p.Repos[n-1].Layers) > 0 {
			p.Repos[n-1].Layers = append(p.Repos[n-1].Layers, below)
			continue
		}
		own := *r
		own.Layers = []string{below}
		p.Repos = append(p.Repos, own)
	}
	for _, l := range conf.all("bb-layers-file-relative") {
		folder := filepath.Join(s.k.top, filepath.FromSlash(l.text))
		if !exists(filepath.Join(folder, "conf", "layer.conf")) {
			p.left(l.at, "there is no layer in %s", folder)
		}
		p.Repos = append(p.Repos, Repo{Name: filepath.Base(folder), Folder: folder, Layers: []string{"."}})
	}
	for _, key := range []string{"oe-template", "bb-env-passthrough-additions"} {
		for _, level := range conf.levels {
			if v := level.get(key); v != nil {
				p.left(v.at, "%s", map[string]string{
					"oe-template":                  "oe-template: its files are not read; name the layers as bb-layers, and what its local.conf sets as conf in slipway.yaml",
					"bb-env-passthrough-additions": "bb-env-passthrough-additions: a build has no environment of the caller's; give the variables values in conf",
				}[key])
			}
		}
	}
}

func (s setupReader) repoOf(full string) (*Repo, string) {
	for dir := full; dir != "." && dir != "/"; dir = path.Dir(dir) {
		if r := s.where[dir]; r != nil {
			if dir == full {
				return r, "."
			}
			return r, strings.TrimPrefix(full, dir+"/")
		}
	}
	return nil, ""
}

// fragments become the machine, the distro, and OE_FRAGMENTS.
func (s setupReader) fragments(conf configuration, kept *value, c Choices) error {
	p := s.k.p
	var names []string
	for _, f := range conf.all("oe-fragments") {
		names = append(names, f.fragment())
	}
	var open errs.List
	given := slices.Clone(c.Fragments)
	taken := map[string]bool{}
	done := kept.get("oe-fragment-choices")
	for _, level := range conf.levels {
		groups := level.get("oe-fragments-one-of")
		for _, group := range groups.repoNames() {
			var options []string
			if o := groups.keys[group].get("options"); o != nil {
				for _, x := range o.list {
					options = append(options, x.fragment())
				}
			}
			var picked []string
			for _, g := range given {
				if slices.Contains(options, g) {
					picked, taken[g] = append(picked, g), true
				}
			}
			if f := done.get(group).str(); f != "" && len(picked) == 0 {
				picked = []string{f}
			}
			switch {
			case len(picked) == 0 && len(options) == 1:
				picked = options
			case len(picked) == 0:
				open = append(open, errs.E(errs.Invalid, fmt.Sprintf("one of several must be chosen for %s", group), groups.keys[group].at, errs.Hint("--choose takes one of: "+strings.Join(options, ", "))))
			case len(picked) > 1 && group != "machine":
				open = append(open, errs.E(errs.Invalid, fmt.Sprintf("only one can be chosen for %s, not %s", group, strings.Join(picked, " and "))))
			}
			names = append(names, picked...)
		}
	}
	for _, g := range given {
		if !taken[g] {
			open = append(open, errs.E(errs.Invalid, "nothing offers "+g))
		}
	}
	if err := open.Err(); err != nil {
		return err
	}
	var other []string
	for _, n := range names {
		kind, value, _ := strings.Cut(n, "/")
		switch kind {
		case "machine":
			p.Machines = append(p.Machines, value)
		case "distro":
			p.Distro = value
		default:
			other = append(other, n)
		}
	}
	if len(other) > 0 {
		p.Conf = append(p.Conf, Section{"fragments of bitbake-setup", fmt.Sprintf("OE_FRAGMENTS += \"%s\"", strings.Join(other, " "))})
	}
	if len(p.Machines) == 0 {
		p.Machines = []string{"qemux86-64"} // OE-Core's default
	}
	if len(p.Targets) == 0 {
		p.Targets = []string{"core-image-minimal"} // a setup names none
	}
	return nil
}

// fragment is a name, or an object with one.
func (v *value) fragment() string {
	if v.keys != nil {
		return v.get("name").str()
	}
	return v.str()
}
