package projectfile

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"go.yaml.in/yaml/v4"

	"slipway/internal/errs"
)

// maxFile is far above any file of a project, in bytes.
const maxFile = 4 << 20

// maxNodes is as far above what people write.
const maxNodes = 200_000

// value is a node of kas' configuration with its place, after includes were merged.
type value struct {
	at   errs.At
	text string            // of a scalar
	null bool              //
	list []*value          //
	keys map[string]*value // of a mapping
}

func (v *value) get(key string) *value {
	if v == nil {
		return nil
	}
	return v.keys[key]
}

func (v *value) sorted() []string {
	keys := make([]string, 0, len(v.keys))
	for k := range v.keys {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// ReadKas reads files of kas, joined by colons as on its command line, with their
// includes and the lock file beside the first. An include of another repository, and
// all else that a definition has no place for, is in Project.Left. The error is what
// cannot be read at all.
func ReadKas(files string) (Project, error) {
	p := Project{Tool: "kas"}
	k := kasReader{p: &p, order: []string{}}
	var all *value
	names := strings.Split(files, ":")
	for _, f := range names {
		abs, err := filepath.Abs(f)
		if err != nil {
			return p, errs.E(errs.Invalid, "file "+f, err)
		}
		if k.top == "" {
			k.top = topOf(abs)
		}
		v, err := k.read(abs, nil)
		if err != nil {
			return p, err
		}
		all = merge(all, v)
	}
	first, _ := filepath.Abs(names[0])
	ext := filepath.Ext(first)
	lock := strings.TrimSuffix(first, ext) + ".lock" + ext
	if _, err := os.Stat(lock); err == nil {
		v, err := k.read(lock, nil)
		if err != nil {
			return p, err
		}
		all = merge(all, v)
	}
	k.take(all)
	return p, nil
}

// topOf is the repository's root, by which kas finds includes; else the file's folder.
func topOf(file string) string {
	for dir := filepath.Dir(file); ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, ".git")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return filepath.Dir(file)
		}
	}
}

type kasReader struct {
	p     *Project
	top   string
	nodes int      // read so far: aliases must not make many of few
	order []string // names of repositories, in the order in which files name them
}

// read gives a file with its includes below it, as kas merges them.
func (k *kasReader) read(file string, within []string) (*value, error) {
	if slices.Contains(within, file) {
		return nil, errs.E(errs.Invalid, fmt.Sprintf("%s includes itself, by way of %s", k.name(file), k.name(within[len(within)-1])))
	}
	own, err := k.parse(file)
	if err != nil {
		return nil, err
	}
	header := own.get("header")
	if header == nil || header.get("version") == nil {
		return nil, errs.E(errs.Invalid, k.name(file)+" is no configuration of kas: it has no header with a version", own.at)
	}
	for _, name := range own.get("repos").repoNames() {
		if !slices.Contains(k.order, name) {
			k.order = append(k.order, name)
		}
	}
	var all *value
	if inc := header.get("includes"); inc != nil {
		for _, i := range inc.list {
			if i.keys != nil {
				k.p.left(i.at, "an include out of another repository: %s of %s", i.get("file").str(), i.get("repo").str())
				continue
			}
			path := filepath.Join(k.top, filepath.FromSlash(i.text))
			if filepath.IsAbs(i.text) {
				path = i.text
			} else if _, err := os.Stat(path); err != nil {
				path = filepath.Join(filepath.Dir(file), filepath.FromSlash(i.text))
			}
			v, err := k.read(path, append(within, file))
			if err != nil {
				return nil, errs.E(errs.KindOf(err), "include "+i.text, err, i.at)
			}
			all = merge(all, v)
		}
	}
	return merge(all, own), nil
}

// parse reads one file, YAML or JSON.
func (k *kasReader) parse(file string) (*value, error) {
	data, err := readFile(file)
	if err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, errs.E(errs.Invalid, k.name(file)+" cannot be read", err)
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, errs.E(errs.Invalid, k.name(file)+" describes no build: it is no mapping")
	}
	return k.convert(doc.Content[0], k.name(file), strings.Split(string(data), "\n"), 0)
}

func (v *value) repoNames() []string {
	if v == nil {
		return nil
	}
	names := v.sorted()
	sort.SliceStable(names, func(a, b int) bool { return v.keys[names[a]].at.Line < v.keys[names[b]].at.Line })
	return names
}

func (k *kasReader) name(file string) string {
	if rel, err := filepath.Rel(k.top, file); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return file
}

func (k *kasReader) convert(n *yaml.Node, file string, lines []string, depth int) (*value, error) {
	v := &value{at: errs.At{File: file, Line: n.Line, Col: n.Column}}
	if n.Line > 0 && n.Line <= len(lines) && len(lines[n.Line-1]) < 1000 {
		v.at.Excerpt = lines[n.Line-1]
	}
	if k.nodes++; depth > 50 || k.nodes > maxNodes {
		return nil, errs.E(errs.Invalid, "too deep, or too large", v.at)
	}
	switch n.Kind {
	case yaml.AliasNode:
		if n.Alias == nil {
			return nil, errs.E(errs.Invalid, "an alias to nothing", v.at)
		}
		return k.convert(n.Alias, file, lines, depth+10)
	case yaml.ScalarNode:
		v.text, v.null = n.Value, n.Tag == "!!null"
	case yaml.SequenceNode:
		v.list = []*value{}
		for _, c := range n.Content {
			x, err := k.convert(c, file, lines, depth+1)
			if err != nil {
				return nil, err
			}
			v.list = append(v.list, x)
		}
	case yaml.MappingNode:
		v.keys = map[string]*value{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			x, err := k.convert(n.Content[i+1], file, lines, depth+1)
			if err != nil {
				return nil, err
			}
			key := n.Content[i]
			x.at.Line, x.at.Col, x.at.Excerpt = key.Line, key.Column, ""
			if key.Line > 0 && key.Line <= len(lines) && len(lines[key.Line-1]) < 1000 {
				x.at.Excerpt = lines[key.Line-1]
			}
			v.keys[key.Value] = x
		}
	}
	return v, nil
}

// merge lays b over a, key by key; lists and texts replace.
func merge(a, b *value) *value {
	if a == nil || a.keys == nil || b == nil || b.keys == nil {
		if b == nil {
			return a
		}
		return b
	}
	out := &value{at: b.at, keys: map[string]*value{}}
	for key, v := range a.keys {
		out.keys[key] = v
	}
	for key, v := range b.keys {
		out.keys[key] = merge(out.keys[key], v)
	}
	return out
}

func (v *value) str() string {
	if v == nil || v.null {
		return ""
	}
	return v.text
}

// words are a text, or a list of texts.
func (v *value) words() []string {
	if v == nil || v.null {
		return nil
	}
	if v.list == nil {
		return []string{v.text}
	}
	var out []string
	for _, x := range v.list {
		out = append(out, x.text)
	}
	return out
}

// ignored are keys that say nothing of what is built.
var ignored = []string{"header", "overrides", "menu_configuration", "_source_dir", "_source_dir_host", "defaults", "proxy_config"}

func (k *kasReader) take(all *value) {
	p := k.p
	for _, key := range all.sorted() {
		v := all.keys[key]
		switch key {
		case "machine":
			p.Machines = []string{v.str()}
		case "distro":
			p.Distro = v.str()
		case "target":
			p.Targets = v.words()
		case "repos":
			k.repos(v, all)
		case "env":
			k.env(v)
		case "local_conf_header", "bblayers_conf_header", "task":
		case "build_system":
			if s := v.str(); s != "" && s != "openembedded" && s != "oe" {
				p.left(v.at, "build_system %s: only BitBake with OE-Core is carried over", s)
			}
		case "buildtools":
			p.left(v.at, "buildtools: name their folder as build.path in settings.yaml")
		default:
			if !slices.Contains(ignored, key) {
				p.left(v.at, "%s: a definition has no place for it", key)
			}
		}
	}
	if len(p.Machines) == 0 || p.Machines[0] == "" {
		p.Machines = []string{"qemux86-64"} // kas' default
	}
	if p.Distro == "" {
		p.Distro = "poky" // as above
	}
	if len(p.Targets) == 0 {
		p.Targets = []string{"core-image-minimal"} // as above
	}
	if t := all.get("task").str(); t != "" && t != "build" {
		for i := range p.Targets {
			p.Targets[i] += ":do_" + strings.TrimPrefix(t, "do_")
		}
	}
	k.conf(all.get("bblayers_conf_header"), true)
	k.conf(all.get("local_conf_header"), false)
}

// places are variables of the environment that are paths of one machine.
var places = []string{"DL_DIR", "SSTATE_DIR", "TMPDIR", "BB_NUMBER_THREADS", "PARALLEL_MAKE", "SSTATE_MIRRORS"}

func (k *kasReader) env(v *value) {
	var lines []string
	for _, name := range v.sorted() {
		x := v.keys[name]
		switch {
		case slices.Contains(places, name): // Slipway decides them, or settings.yaml
		case x.null || x.text == "":
			k.p.left(x.at, "env %s comes from the caller's environment: a build has none; give it a value in conf", name)
		case strings.ContainsAny(x.text, "\"\n\\"):
			k.p.left(x.at, "env %s has a value that conf cannot hold as it is", name)
		default:
			lines = append(lines, fmt.Sprintf("%s ?= \"%s\"", name, x.text))
		}
	}
	if len(lines) > 0 {
		k.p.Conf = append([]Section{{"env of kas", strings.Join(lines, "\n")}}, k.p.Conf...)
	}
}

func (k *kasReader) conf(v *value, bblayers bool) {
	if v == nil {
		return
	}
	for _, name := range v.sorted() {
		x := v.keys[name]
		if !bblayers {
			k.p.Conf = append(k.p.Conf, Section{name, x.str()})
			continue
		}
		var kept []string
		for line := range strings.Lines(x.str()) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), " ")
			switch {
			case word == "BBLAYERS" || strings.HasPrefix(word, "BBLAYERS:"):
				k.p.left(x.at, "bblayers_conf_header %s sets BBLAYERS: name the layers as repos", name)
			case slices.Contains([]string{"BBPATH", "BBFILES", "LCONF_VERSION", "POKY_BBLAYERS_CONF_VERSION", ""}, word): // bblayers.conf is generated
			default:
				kept = append(kept, strings.TrimRight(line, "\n"))
			}
		}
		if len(kept) > 0 {
			k.p.Conf = append(k.p.Conf, Section{"bblayers_conf_header " + name, strings.Join(kept, "\n")})
		}
	}
}

func (k *kasReader) repos(repos, all *value) {
	defaults := all.get("defaults").get("repos")
	lock := all.get("overrides").get("repos")
	for _, name := range k.order {
		v := repos.keys[name]
		if v == nil {
			continue
		}
		k.p.Repos = append(k.p.Repos, k.repo(name, v, defaults, lock.get(name)))
	}
}

func (k *kasReader) repo(name string, v, defaults, lock *value) Repo {
	r := Repo{Name: name}
	if n := v.get("name").str(); n != "" {
		r.Name = n
	}
	tag, refspec := "", ""
	for _, key := range v.sorted() {
		x := v.keys[key]
		switch key {
		case "url":
			r.URL = x.str()
		case "commit":
			r.Commit = x.str()
		case "branch":
			r.Branch = x.str()
		case "tag":
			tag = x.str()
		case "refspec":
			refspec = x.str()
		case "name", "path", "layers":
		case "type":
			if x.str() != "git" {
				k.p.left(x.at, "repository %s is of type %s: layers come from git", name, x.str())
			}
		case "patches":
			if x.keys != nil || x.list != nil {
				k.p.left(x.at, "repository %s is patched: commit the patches to a branch of a repository of yours", name)
			}
		case "signed", "allowed_signers":
			if x.str() != "false" {
				k.p.left(x.at, "repository %s: %s: commits are pinned, their signatures are not looked at", name, key)
			}
		default:
			k.p.left(x.at, "repository %s: %s: a definition has no place for it", name, key)
		}
	}
	if r.URL != "" && r.Commit == "" && r.Branch == "" && tag == "" && refspec == "" {
		r.Branch, tag, refspec = defaults.get("branch").str(), defaults.get("tag").str(), defaults.get("refspec").str()
	}
	if c := lock.get("commit").str(); c != "" {
		r.Commit = c
	}
	if defaults.get("patches") != nil {
		k.p.left(defaults.get("patches").at, "defaults.repos.patches: commit the patches to a branch of a repository of yours")
	}
	switch {
	case refspec == "":
	case reCommit.MatchString(refspec):
		r.Commit = refspec
	case strings.HasPrefix(refspec, "refs/tags/"):
		tag = strings.TrimPrefix(refspec, "refs/tags/")
	default:
		r.Branch = strings.TrimPrefix(strings.TrimPrefix(refspec, "refs/heads/"), "origin/")
	}
	switch {
	case r.URL == "":
	case r.Commit != "" && !reCommit.MatchString(r.Commit):
		k.p.left(v.get("commit").place(v), "repository %s: commit %s is not a full one", name, r.Commit)
	case r.Commit == "" && tag != "":
		k.p.left(v.get("tag").place(v), "repository %s: tag %s names no commit: kas lock writes a lock file; or git ls-remote %s 'refs/tags/%s*', and commit:", name, tag, r.URL, tag)
	case r.Commit == "" && r.Branch == "":
		k.p.left(v.at, "repository %s has neither commit nor branch", name)
	}
	if r.URL == "" {
		r.Folder = k.top
		if at := v.get("path").str(); at != "" {
			r.Folder = filepath.Join(k.top, filepath.FromSlash(at))
			if filepath.IsAbs(at) {
				r.Folder = at
			}
		}
	}
	r.Layers = k.layers(v)
	for _, l := range r.Layers {
		if r.URL == "" {
			if _, err := os.Stat(filepath.Join(r.Folder, l, "conf", "layer.conf")); err != nil {
				k.p.left(v.at, "repository %s: there is no layer in %s", name, filepath.Join(r.Folder, l))
			}
		}
	}
	return r
}

func (v *value) place(else_ *value) errs.At {
	if v == nil {
		return else_.at
	}
	return v.at
}

// layers are those of a repository; without any named it is one itself.
func (k *kasReader) layers(v *value) []string {
	l := v.get("layers")
	if l == nil || l.keys == nil {
		return []string{"."}
	}
	var out []string
	for _, name := range l.repoNames() {
		switch s := l.keys[name].str(); s {
		case "disabled", "excluded", "0", "false", "no", "n":
		default:
			out = append(out, strings.TrimSuffix(filepath.ToSlash(filepath.Clean(name)), "/"))
		}
	}
	return out
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxFile {
		return nil, errs.E(errs.Invalid, path+" is larger than 4 MiB")
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if os.IsNotExist(err) {
		return nil, errs.E(errs.NotFound, "there is no file "+path)
	}
	if err != nil {
		return nil, errs.E(errs.Unavailable, "read "+path, err)
	}
	return data, nil
}
