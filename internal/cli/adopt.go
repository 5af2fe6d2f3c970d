package cli

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway/internal/config"
	"slipway/internal/cycle"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/layers"
	"slipway/internal/sign"
)

// adoption is init --adopt: the feed of another tool becomes release 0.
type adoption struct {
	cycle.Adoption
	definition string
	signedBy   []string
	by         string
	dryRun     bool
	keys       keyMaker
}

// adoptFlags gives init the way of --adopt.
func (a *app) adoptFlags(c *cobra.Command) {
	var o adoption
	f := c.Flags()
	f.StringVar(&o.Deploy, "adopt", "", "folder of .rpm files of another tool, which become release <series>.0 (docs/adopting.md)")
	f.StringVar(&o.PRServ, "prserv", "", "with --adopt: the PR server's database, prserv.sqlite3")
	f.StringVar(&o.HashServ, "hashserv", "", "with --adopt: the hash equivalence server's database, hashserv.db")
	f.StringVar(&o.definition, "definition", "", "with --adopt: the slipway.yaml to begin with; its layers beside it come along (default: a small one is made)")
	f.StringArrayVar(&o.signedBy, "signed-by", nil, "with --adopt: public key of signed packages (repeat)")
	f.StringVar(&o.by, "by", "", "with --adopt: who approves the release")
	f.BoolVar(&o.dryRun, "dry-run", false, "with --adopt: look at everything, and write nothing")
	o.keys.flags(c)
	c.Example += "\n  slipway init ./my-distro --adopt tmp/deploy/rpm --prserv cache/prserv.sqlite3 --by \"Ada Byron\""
	example := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if o.Deploy == "" {
			for _, name := range []string{"prserv", "hashserv", "definition", "signed-by", "by", "dry-run"} {
				if c.Flag(name).Changed {
					return errs.E(errs.Invalid, "--"+name+" goes with --adopt", errs.Hint("slipway init "+args[0]+" --adopt DIR"))
				}
			}
			return example(c, args)
		}
		if c.Flag("example").Changed {
			return errs.E(errs.Invalid, "--example and --adopt are two ways to begin", errs.Hint("leave one out"))
		}
		if strings.TrimSpace(o.by) == "" && !o.dryRun {
			return errs.E(errs.Invalid, "a release needs a name that approves it", errs.Hint("--by \"Your Name\""), errs.Hint("--dry-run looks at the feed first"))
		}
		return a.adopt(c.Context(), args[0], o)
	}
}

// adopted is the result of init --adopt.
type adopted struct {
	Dir       string         `json:"dir"`
	Release   distro.Version `json:"release"`
	Status    distro.Status  `json:"status,omitempty"` // of the release; "" in a dry run
	Packages  int            `json:"packages"`
	Resigned  []string       `json:"resigned"` // were signed by a named key, whose signature ours takes the place of
	Numbers   int            `json:"numbers"`  // rows of the PR database
	Skipped   int            `json:"skipped"`  // rows that name no recipe's version
	Already   bool           `json:"already,omitempty"`
	workspace string         // as it was typed
}

func (a *app) adopt(ctx context.Context, typed string, o adoption) error {
	dir, err := absolute(typed)
	if err != nil {
		return err
	}
	a.dir = dir
	res := adopted{Dir: dir, Resigned: []string{}, workspace: typed}
	def, files, there, err := a.adoptedDefinition(dir, o.definition)
	if err != nil {
		return err
	}
	if there {
		done, err := a.resumeAdoption(ctx, o, &res)
		if err != nil || done {
			return err
		}
	}
	public, err := readFiles(o.signedBy)
	if err != nil {
		return err
	}
	for _, name := range o.signedBy {
		keys, err := sign.ParsePublic(public[name])
		if err != nil {
			return errs.Wrap(err, "public key %s", name)
		}
		o.Signers = append(o.Signers, keys...)
	}
	t := task{a.talk().Step("look at " + o.Deploy)}
	feed, err := cycle.LookAtFeed(ctx, o.Adoption, t)
	if err != nil {
		t.Failed("")
		return err
	}
	defer feed.Close()
	t.Done(fmt.Sprintf("%d packages, %d numbers", len(feed.Packages), feed.Given))
	if feed.Skipped > 0 {
		t.Note(fmt.Sprintf("%d rows of the PR database name no recipe's version: they are kept, and burn nothing", feed.Skipped))
	}
	if def == nil {
		if files, err = smallDefinition(dir, feed.Arches(), a.clock()); err != nil {
			return err
		}
		if def, err = config.ParseDefinition("slipway.yaml", files["slipway.yaml"]); err != nil {
			return err
		}
	}
	from := dir
	if o.definition != "" {
		from = filepath.Dir(o.definition)
	}
	if conflicts := (&cycle.Workspace{Dir: from, Definition: def}).Conflicts(feed); len(conflicts) > 0 {
		a.talk().Line(fmt.Sprintf("%d conflicts; nothing is written", len(conflicts)))
		return conflicts.Err()
	}
	res.Release, res.Packages, res.Numbers, res.Skipped = distro.NewVersion(def.Series.Name, 0), len(feed.Packages), feed.Given, feed.Skipped
	res.Resigned = append(res.Resigned, feed.Resigned...)
	if o.dryRun {
		return a.printAdopted(res)
	}
	if !there {
		commit := layers.Commit{Message: "a workspace for an adopted feed", Author: "Slipway <slipway@localhost>", Date: a.clock().UTC().Truncate(time.Second), Files: files}
		if err := layers.CreateRepo(ctx, dir, []layers.Commit{commit}); err != nil {
			return err
		}
	}
	def, settings, err := load(dir)
	if err != nil {
		return err
	}
	keyDir, err := settings.KeysDir(def.Distribution)
	if err == nil {
		_, err = a.createKeys(ctx, def, keyDir, o.keys)
	}
	if err != nil {
		return errs.E(errs.KindOf(err), "the workspace is made, and nothing is adopted yet", err, errs.Hint("the same command goes on"))
	}
	return a.takeIn(ctx, feed, o.by, res)
}

func (a *app) takeIn(ctx context.Context, feed *cycle.Adoptable, by string, res adopted) error {
	return a.with(ctx, write, func(ctx context.Context, w *cycle.Workspace) error {
		r, err := w.Adopt(ctx, feed, by)
		if err == nil {
			err = a.copyOut(ctx, w)
		}
		if err != nil {
			return err
		}
		res.Release, res.Status, res.Packages = r.Version, r.Status, len(r.Packages)
		return a.printAdopted(res)
	})
}

// resumeAdoption goes on with what was taken in already, without the feed; false
// when nothing was.
func (a *app) resumeAdoption(ctx context.Context, o adoption, res *adopted) (done bool, err error) {
	var at distro.Status
	err = a.with(ctx, read, func(ctx context.Context, w *cycle.Workspace) error {
		var b cycle.Build
		if b, at, err = w.Adopted(ctx); err != nil {
			return err
		}
		if at == "" {
			return w.MayAdopt(ctx)
		}
		res.Release, res.Status, res.Packages, res.Already = b.Version, at, len(b.Packages), true
		return nil
	})
	if err != nil || at == "" {
		return false, err
	}
	if at == distro.Published || o.dryRun {
		return true, a.printAdopted(*res)
	}
	return true, a.takeIn(ctx, nil, o.by, *res)
}

func (a *app) printAdopted(r adopted) error {
	return a.print(r, func(out io.Writer) {
		for _, n := range r.Resigned {
			fmt.Fprintf(out, "%s is signed by a key that you named; at publish this distribution's signature takes its place\n", n)
		}
		switch {
		case r.Already && r.Status == distro.Published:
			fmt.Fprintf(out, "the feed is adopted already: release %s, published\nnext: cd %s && slipway status\n", r.Release, r.workspace)
		case r.Status == "":
			fmt.Fprintf(out, "no conflicts: %d packages would become release %s\n", r.Packages, r.Release)
		case r.Status != distro.Published:
			fmt.Fprintf(out, "release %s is taken in and not yet published; the same command without --dry-run goes on\n", r.Release)
		default:
			fmt.Fprintf(out, "release %s is published: %d packages\nnext: cd %s, see that slipway.yaml says what you mean, and put specs into its layer; slipway build then builds on it\n", r.Release, r.Packages, r.workspace)
		}
	})
}

// adoptedDefinition gives the definition that the workspace has, or is to have, and
// the files of its first commit: nil for none yet.
func (a *app) adoptedDefinition(dir, given string) (def *config.Definition, files map[string][]byte, there bool, err error) {
	var text []byte
	if given != "" {
		if text, err = os.ReadFile(given); err != nil {
			return nil, nil, false, errs.E(errs.NotFound, "definition "+given, err)
		}
		if def, err = config.ParseDefinition(given, text); err != nil {
			return nil, nil, false, err
		}
	}
	mine, err := os.ReadFile(filepath.Join(dir, "slipway.yaml"))
	if err == nil {
		if text != nil && string(text) != string(mine) {
			return nil, nil, true, errs.E(errs.Conflict, fmt.Sprintf("workspace %s has another slipway.yaml than %s", dir, given), errs.Hint("leave --definition out, or name a new folder"))
		}
		def, _, err = load(dir)
		return def, nil, true, err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return nil, nil, false, errs.E(errs.Conflict, "folder "+dir+" is not empty", errs.Hint("name a new folder"))
	}
	if def == nil {
		return nil, nil, false, nil
	}
	files, err = withLayers(def, filepath.Dir(given))
	if err == nil {
		files["slipway.yaml"] = text
	}
	return def, files, false, err
}

// withLayers reads the definition's local layers that lie beside it; for one that
// does not, a file stands, as git keeps no empty folder.
func withLayers(def *config.Definition, dir string) (map[string][]byte, error) {
	files := map[string][]byte{".gitignore": []byte(".slipway/\npublication/\n")}
	for _, name := range []string{"sources.lock", "settings.yaml"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			files[name] = b
		}
	}
	for _, l := range def.EnabledLayers() {
		if l.URL != "" {
			continue
		}
		root := filepath.Join(dir, filepath.FromSlash(l.Path))
		before := len(files)
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			switch {
			case err != nil && path == root, filepath.Clean(l.Path) == ".":
				return filepath.SkipAll // not there; or the whole folder, whatever else lies in it
			case err != nil:
				return err
			case e.Name() == ".git" || e.Name() == ".slipway":
				return filepath.SkipDir
			case !e.Type().IsRegular():
				return nil
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(dir, path)
			files[filepath.ToSlash(rel)] = b
			return err
		})
		if err != nil {
			return nil, errs.E(errs.Unavailable, "read layer "+l.Name, err)
		}
		if len(files) == before {
			files[filepath.ToSlash(filepath.Join(l.Path, "README"))] = []byte("Specs of layer " + l.Name + " go to specs/NAME/NAME.spec here.\n")
		}
	}
	return files, nil
}

var noNameByte = regexp.MustCompile(`[^a-z0-9]+`)

// smallDefinition is a definition for who has none: named after the folder, for the
// architectures of the packages.
func smallDefinition(dir string, arches []string, now time.Time) (map[string][]byte, error) {
	name := strings.Trim(noNameByte.ReplaceAllString(strings.ToLower(filepath.Base(dir)), "-"), "-0123456789")
	if name == "" {
		return nil, errs.E(errs.Invalid, "no distribution can be named after folder "+dir, errs.Hint("--definition slipway.yaml names it"))
	}
	var known []string
	for _, arch := range arches {
		if _, ok := distro.ArchFamily(arch); ok {
			known = append(known, arch)
			continue
		}
		if _, ok := distro.LookupArch(arch); ok {
			known = append(known, arch)
		}
	}
	if len(known) == 0 {
		known = []string{distro.HostArch()}
	}
	text := fmt.Sprintf(`# Made by slipway init --adopt. Look at the title, the dates and base_url: devices read them.
schema: 1
distribution: %[1]s
series: {name: "1", released: %[2]s, security_support_ends: %[3]s, ends: %[3]s}
builder: {kind: rpmbuild, arches: [%[4]s]}
layers: [{name: %[1]s, path: layers/%[1]s}]
feeds: {format: rpm, base_url: "file://%[5]s/publication"}
`, name, now.UTC().Format(time.DateOnly), now.UTC().AddDate(5, 0, 0).Format(time.DateOnly), strings.Join(known, ", "), filepath.ToSlash(dir))
	def, err := config.ParseDefinition("slipway.yaml", []byte(text))
	if err != nil {
		return nil, errs.Wrap(err, "the definition that would be made")
	}
	files, err := withLayers(def, filepath.Join(dir, "nothing"))
	if err == nil {
		files["slipway.yaml"] = []byte(text)
	}
	return files, err
}
