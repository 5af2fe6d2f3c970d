package source

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/hashserv/hashdb"
	"slipway/internal/layers"
	"slipway/internal/prserv/prdb"
)

// The forms of an export.
const (
	Kas   = "kas"           // kas.yml, for kas 3.3 and later
	Setup = "bitbake-setup" // bitbake-setup.conf.json, for BitBake 2.16 (Yocto 5.3) and later
	Conf  = "conf"          // plain files; ./prepare clones the layers
)

// Formats lists the forms.
var Formats = []string{Kas, Setup, Conf}

// Options say what an export refers to.
type Options struct {
	Format string
	// SState and Downloads are addresses of what [Mirror] published; "" is none.
	SState, Downloads string
	// HashServer is a public server of the distribution; "" serves the copy in the folder.
	HashServer string
	// PRServer is the distribution's, reachable for its users alone; "" serves the copy.
	PRServer string
	// Port is the user's own PR server's, of the loopback; the hash equivalence server
	// of the folder listens on the next one.
	Port int
}

// DefaultPort is BitBake's for PR servers.
const DefaultPort = 8585

// ManifestName is the file of an export that says what it is.
const ManifestName = "slipway-source.json"

// Manifest is slipway-source.json (docs/format/source-export.md).
type Manifest struct {
	Schema       int            `json:"schema"` // 1
	Distribution string         `json:"distribution"`
	Version      distro.Version `json:"version"`
	Format       string         `json:"format"`
	Release      string         `json:"release,omitempty"` // Yocto's
	Host         string         `json:"host,omitempty"`    // distribution of the machine that built it
	Boards       []string       `json:"boards"`
	Targets      []string       `json:"targets"`
	SState       Address        `json:"sstate,omitzero"`
	Downloads    Address        `json:"downloads,omitzero"`
	Keys         []string       `json:"keys,omitempty"` // ids of the keys that sign the cache
	Hash         HashServer     `json:"hash_server"`
	PR           PRServer       `json:"pr_server"`
	Notes        []string       `json:"notes,omitempty"` // what the folder cannot bring
}

// Address is a place of files, with the name of one that must be there.
type Address struct {
	URL     string `json:"url"`
	Example string `json:"example,omitempty"`
}

// HashServer is the hash equivalence that a build asks, with a task that it must know.
type HashServer struct {
	Address  string `json:"address"`
	Database string `json:"database,omitempty"` // file of the folder that is served there
	Method   string `json:"method,omitempty"`
	Taskhash string `json:"taskhash,omitempty"`
	Unihash  string `json:"unihash,omitempty"`
}

// PRServer is the user's own, and what it asks, with a number that it must know.
type PRServer struct {
	Address  string   `json:"address"`
	Own      string   `json:"own"`                // file of the folder, made by the first build
	Upstream string   `json:"upstream,omitempty"` // the distribution's server
	Database string   `json:"database,omitempty"` // or a copy of its numbers, a file of the folder
	Known    prdb.Row `json:"known,omitzero"`
}

// PublishedPackage is one line of packages.json: what a build of the same bits makes.
type PublishedPackage struct {
	Package string        `json:"package"` // NEVRA
	Scope   string        `json:"scope"`
	Header  distro.Digest `json:"header_digest"` // it covers the payload; signing leaves it as it is
	Digest  distro.Digest `json:"digest"`        // of the published file, with its signature
}

// Exported says what an export brought.
type Exported struct {
	Dir      string         `json:"dir"`
	Version  distro.Version `json:"version"`
	Format   string         `json:"format"`
	Layers   []string       `json:"layers"`
	Packages int            `json:"packages"`
	Numbers  int            `json:"numbers"`   // of the PR database
	Unihash  int64          `json:"unihashes"` // of the hash equivalence database
	Notes    []string       `json:"notes,omitempty"`
}

// repo is a repository that the user gets: cloned, or (no URL) in the folder.
type repo struct {
	name, url, commit string
	paths             []string // of its layers, "." for the root
	bitbake           bool
}

// Export writes a release for those who build it themselves into a folder, which must
// not exist or be empty; it is all there or not at all. What the policy keeps in is
// not in it: recipes of layers that lie in no public repository, numbers. What
// cannot be handed on is in Exported.Notes.
func Export(ctx context.Context, s Set, o Options, into string) (Exported, error) {
	into, err := filepath.Abs(into)
	if err != nil {
		return Exported{}, errs.E(errs.Invalid, "folder "+into, err)
	}
	x := exporter{s: s, o: o, out: Exported{Dir: into, Version: s.Version, Format: o.Format}}
	if err := x.check(into); err != nil {
		return x.out, err
	}
	tmp := into + ".partial"
	if err := os.RemoveAll(tmp); err != nil {
		return x.out, errs.E(errs.Unavailable, "clear "+tmp, err)
	}
	defer os.RemoveAll(tmp)
	x.dir = tmp
	for _, step := range []func(context.Context) error{x.rules, x.layers, x.databases, x.configuration, x.packages, x.manifest} {
		if err := step(ctx); err != nil {
			return x.out, errs.Wrap(err, "export release %s", s.Version)
		}
	}
	os.Remove(into) // empty, or absent
	if err := os.Rename(tmp, into); err != nil {
		return x.out, errs.E(errs.Unavailable, "put the export at "+into, err)
	}
	x.out.Notes = x.m.Notes
	return x.out, nil
}

type exporter struct {
	s        Set
	o        Options
	dir      string
	out      Exported
	m        Manifest
	repos    []repo
	withheld func(recipe string, packages []distro.PackageRecord) string
}

func (x *exporter) note(format string, args ...any) {
	x.m.Notes = append(x.m.Notes, fmt.Sprintf(format, args...))
}

// noSetup are the releases whose BitBake has no bitbake-setup.
var noSetup = []string{"kirkstone", "langdale", "mickledore", "nanbield", "scarthgap", "styhead", "walnascar"}

var reAddress = regexp.MustCompile(`^[^\s"'\\$;]+$`)

func (x *exporter) check(into string) error {
	var bad errs.List
	if !slices.Contains(Formats, x.o.Format) {
		bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("there is no form %q of an export", x.o.Format), errs.Hint("kas, bitbake-setup or conf")))
	}
	release := x.s.Revision.Builder.Tools["release"]
	if x.o.Format == Setup && slices.Contains(noSetup, release) {
		bad = append(bad, errs.E(errs.Invalid, release+" has no bitbake-setup: it came with whinlatter (5.3)", errs.Hint("-o kas, or -o conf")))
	}
	if x.s.Revision.Builder.Kind != "bitbake" {
		bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("release %s was built by %s, not by BitBake", x.s.Version, x.s.Revision.Builder.Kind),
			errs.Hint("its source packages and slipway.yaml are its sources")))
	}
	for name, a := range map[string]string{"--sstate": x.o.SState, "--downloads": x.o.Downloads, "--hashserv": x.o.HashServer, "--prserv": x.o.PRServer} {
		if a != "" && !reAddress.MatchString(a) {
			bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("%s %q cannot stand in BitBake's configuration", name, a)))
		}
	}
	if x.o.Port < 1 || x.o.Port > 65534 {
		bad = append(bad, errs.E(errs.Invalid, fmt.Sprintf("port %d", x.o.Port), errs.Hint("two ports are used: from 1 to 65534")))
	}
	if entries, err := os.ReadDir(into); err == nil && len(entries) > 0 {
		bad = append(bad, errs.E(errs.Conflict, "folder "+into+" is not empty", errs.Hint("name another folder with --into, or remove it")))
	}
	return bad.Err()
}

func (x *exporter) rules(ctx context.Context) (err error) {
	x.withheld, err = Withheld(ctx, x.s.Policy, x.s.Blobs, x.s.Artifacts)
	return err
}

// layers groups the layers by repository and lays out those of no public one.
func (x *exporter) layers(ctx context.Context) error {
	taken := map[string]bool{}
	for _, pin := range x.s.Revision.Layers {
		i := slices.IndexFunc(x.repos, func(r repo) bool { return pin.URL != "" && r.url == pin.URL && r.commit == pin.Commit })
		if i < 0 {
			r := repo{name: pin.Name, url: pin.URL, commit: pin.Commit}
			if pin.URL != "" {
				if base := strings.TrimSuffix(path.Base(pin.URL), ".git"); base != "" && !taken[base] && plainName.MatchString(base) {
					r.name = base
				}
				if !layers.Public(pin.URL) {
					x.note("layer %s comes from %s, which nobody else can reach", pin.Name, pin.URL)
				}
			}
			taken[r.name] = true
			x.repos = append(x.repos, r)
			i = len(x.repos) - 1
		}
		r := &x.repos[i]
		if pin.URL == "" {
			r.paths = []string{"."}
			if err := x.localLayer(ctx, pin, r.name); err != nil {
				return err
			}
		} else {
			r.paths = append(r.paths, path.Clean(pin.Path))
		}
		r.bitbake = r.bitbake || pin.Name == "bitbake"
		x.out.Layers = append(x.out.Layers, pin.Name)
	}
	return nil
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// localLayer takes a layer out of the release's bundle: its files at its commit, without
// their history, and without the recipes that are kept in.
func (x *exporter) localLayer(ctx context.Context, pin distro.LayerPin, name string) error {
	scratch, err := os.MkdirTemp("", "slipway-source-")
	if err != nil {
		return errs.E(errs.Unavailable, "make a scratch folder", err)
	}
	defer os.RemoveAll(scratch)
	bundle := filepath.Join(scratch, "bundle")
	if err := x.s.copyTo(ctx, distro.Configuration, "layers/"+pin.Name+".bundle", bundle); err != nil {
		return err
	}
	clone := filepath.Join(scratch, "repository")
	if err := layers.Restore(ctx, bundle, pin.Commit, clone); err != nil {
		return errs.Wrap(err, "layer %s", pin.Name)
	}
	to := filepath.Join(x.dir, "layers", name)
	if err := layers.Export(ctx, clone, pin, to); err != nil {
		return errs.Wrap(err, "layer %s", pin.Name)
	}
	recipes, err := filepath.Glob(filepath.Join(to, "recipes*", "*", "*.bb"))
	if err != nil {
		return err
	}
	for _, bb := range recipes {
		recipe, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(bb), ".bb"), "_")
		why := x.withheld(recipe, x.s.Packages)
		if why == "" {
			continue
		}
		// What lies beside a recipe is its own; a folder of several is left file by file.
		left := bb
		if others, _ := filepath.Glob(filepath.Join(filepath.Dir(bb), "*.bb")); len(others) == 1 {
			left = filepath.Dir(bb)
		} else {
			for _, beside := range []string{recipe, recipe + "-*"} {
				found, _ := filepath.Glob(filepath.Join(filepath.Dir(bb), beside))
				for _, f := range found {
					if err := os.RemoveAll(f); err != nil {
						return errs.E(errs.Unavailable, "leave out "+f, err)
					}
				}
			}
		}
		if err := os.RemoveAll(left); err != nil {
			return errs.E(errs.Unavailable, "leave out "+left, err)
		}
		x.note("layer %s is without a recipe that is not public: what needs it does not build", pin.Name)
	}
	return nil
}

// databases writes both in BitBake's own form, without names of recipes and tasks
// where BitBake needs none.
func (x *exporter) databases(ctx context.Context) error {
	scratch, err := os.MkdirTemp("", "slipway-source-")
	if err != nil {
		return errs.E(errs.Unavailable, "make a scratch folder", err)
	}
	defer os.RemoveAll(scratch)
	both := filepath.Join(scratch, "databases.db")
	if err := x.s.copyTo(ctx, distro.PRDatabase, "databases.db", both); err != nil {
		return err
	}
	x.m.PR = PRServer{Address: fmt.Sprintf("127.0.0.1:%d", x.o.Port), Own: "own/prserv.sqlite3", Upstream: x.o.PRServer}
	x.m.Hash = HashServer{Address: x.o.HashServer}
	if err := os.MkdirAll(filepath.Join(x.dir, "databases"), 0o755); err != nil {
		return errs.E(errs.Unavailable, "make the folder of the databases", err)
	}
	var rows []prdb.Row
	if _, err := prdb.Read(ctx, both, func(_ context.Context, some ...prdb.Row) error {
		for _, r := range some {
			if x.withheld(recipeOf(r.Version), x.s.Packages) == "" {
				rows = append(rows, r)
			}
		}
		return nil
	}); err != nil {
		return errs.Wrap(err, "PR database")
	}
	x.out.Numbers = len(rows)
	for _, r := range rows {
		if x.m.PR.Known.Version == "" || prdb.Compare(r.Value, x.m.PR.Known.Value) > 0 {
			x.m.PR.Known = r // the greatest: what a server that knows nothing does not guess
		}
	}
	if x.o.PRServer == "" {
		x.m.PR.Database = "databases/prserv.sqlite3"
		if _, err := prdb.WriteBitBake(ctx, filepath.Join(x.dir, x.m.PR.Database), rows); err != nil {
			return errs.Wrap(err, "PR database")
		}
	}
	if x.o.HashServer == "" {
		x.m.Hash.Address, x.m.Hash.Database = fmt.Sprintf("127.0.0.1:%d", x.o.Port+1), "databases/hashserv.db"
	}
	take := func(out *hashdb.BitBakeFile) error {
		n, err := hashdb.Read(ctx, both, hashRows{out, &x.m.Hash})
		x.out.Unihash = n.Unihashes
		return err
	}
	if x.o.HashServer != "" {
		return errs.Wrap(take(nil), "hash equivalence database")
	}
	return errs.Wrap(hashdb.WriteBitBake(ctx, filepath.Join(x.dir, x.m.Hash.Database), take), "hash equivalence database")
}

// hashRows takes the rows of a database: hashes, and no names. The first task with a
// unihash is what the server is asked for by [Diagnose].
type hashRows struct {
	out   *hashdb.BitBakeFile // nil takes none
	known *HashServer
}

func (h hashRows) Insert(_ context.Context, rows ...hashdb.Row) error {
	for _, r := range rows {
		var err error
		if r.Unihash != "" {
			if h.known.Taskhash == "" {
				h.known.Method, h.known.Taskhash, h.known.Unihash = r.Method, r.Taskhash, r.Unihash
			}
			if h.out != nil {
				err = h.out.Unihash(r.Method, r.Taskhash, r.Unihash, "")
			}
		}
		if r.Outhash != "" && h.out != nil && err == nil {
			r.Extra = hashdb.Extra{}
			err = h.out.Outhash(r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// AddUser takes none.
func (hashRows) AddUser(context.Context, hashdb.User) (bool, error) { return false, nil }

// recipeOf gives the recipe of a PR database's version: "hello-1.0-r0" is hello's.
func recipeOf(version string) string {
	parts := strings.Split(version, "-")
	return strings.Join(parts[:max(1, len(parts)-2)], "-")
}

func (x *exporter) packages(context.Context) error {
	all := []PublishedPackage{}
	for _, p := range x.s.Packages {
		if p.Internal == "" {
			all = append(all, PublishedPackage{p.NEVRA(), p.Scope, p.HeaderDigest, p.Digest})
		}
	}
	slices.SortFunc(all, func(a, b PublishedPackage) int { return strings.Compare(a.Scope+"/"+a.Package, b.Scope+"/"+b.Package) })
	x.out.Packages = len(all)
	data, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return err
	}
	return write(filepath.Join(x.dir, "packages.json"), append(data, '\n'), 0o644)
}

func (x *exporter) manifest(context.Context) error {
	d := x.s.Definition
	x.m.Schema, x.m.Distribution, x.m.Version, x.m.Format = 1, d.Distribution, x.s.Version, x.o.Format
	x.m.Release, x.m.Host = x.s.Revision.Builder.Tools["release"], x.s.Revision.Builder.Tools["host"]
	x.m.Boards, x.m.Targets = d.BoardNames(), x.targets()
	x.m.Keys = x.s.KeyIDs
	if x.o.SState == "" {
		x.note("no cache is named: everything is built")
	} else {
		x.m.SState = Address{URL: x.o.SState, Example: x.example(distro.SState, func(n string) bool { return !strings.HasSuffix(n, ".siginfo") })}
		if len(x.s.KeyIDs) == 0 {
			x.note("the cache is not signed")
		}
	}
	if x.o.Downloads == "" {
		x.note("no mirror of sources is named: they come from where the recipes say")
	} else {
		x.m.Downloads = Address{URL: x.o.Downloads, Example: x.example(distro.Downloads, func(string) bool { return true })}
	}
	slices.Sort(x.m.Notes)
	x.m.Notes = slices.Compact(x.m.Notes)
	data, err := json.MarshalIndent(x.m, "", "  ")
	if err == nil {
		err = write(filepath.Join(x.dir, ManifestName), append(data, '\n'), 0o644)
	}
	if err == nil {
		err = write(filepath.Join(x.dir, "README.md"), x.readme(), 0o644)
	}
	return err
}

// example is an artifact's name that the mirror of a class must have.
func (x *exporter) example(class distro.Class, want func(string) bool) string {
	for _, a := range x.s.Artifacts {
		if a.Class == class && want(a.Name) && x.public(class, a.Name) {
			return a.Name
		}
	}
	return ""
}

func (x *exporter) public(class distro.Class, name string) bool {
	return class != distro.SState || x.withheld(RecipeOfObject(name), x.s.Packages) == ""
}

// targets are what the release's build asked for.
func (x *exporter) targets() []string {
	all := x.s.Definition.EnabledTargets()
	for _, b := range x.s.Definition.Boards {
		for _, image := range b.Images {
			if !slices.Contains(all, image) {
				all = append(all, image)
			}
		}
	}
	return all
}

// local is the as-built local.conf without its last line, which names our own file.
func (x *exporter) localConf(ctx context.Context) (string, error) {
	data, err := x.s.read(ctx, distro.Configuration, "bitbake/local.conf")
	if err != nil {
		return "", err
	}
	return string(bytes.ReplaceAll(data, []byte("\nrequire conf/slipway.conf\n"), []byte("\n"))), nil
}
