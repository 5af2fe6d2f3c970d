package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"slipway/examples"
	"slipway/internal/check/security"
	"slipway/internal/config"
	"slipway/internal/debian"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/layers"
	"slipway/internal/rpmbuild"
	"slipway/internal/store"
)

func (a *app) initCmd() *cobra.Command {
	var example string
	c := &cobra.Command{Use: "init DIR", Short: "make a new workspace", Args: cobra.ExactArgs(1),
		Example: "  slipway init ./my-distro --example halyard",
		Long: `Init makes a workspace in DIR: a git repository with the example's definition and
layer, and keys for the distribution in your configuration folder if it has none.
The example's later revisions wait as tags: git merge --ff-only revision-2.`,
		RunE: func(c *cobra.Command, args []string) error {
			if example == "" {
				return errs.E(errs.Invalid, "name an example to begin with", errs.Hint("slipway init "+args[0]+" --example halyard"))
			}
			dir, err := a.initExample(c.Context(), args[0], example)
			if err != nil {
				return err
			}
			return a.print(map[string]string{"dir": dir}, func(out io.Writer) {
				fmt.Fprintf(out, "workspace %s is ready\nnext: cd %s && slipway build\n", dir, args[0])
			})
		}}
	c.Flags().StringVar(&example, "example", "", "the example to begin with: halyard, or halyard-packages (no boards, no downloads)")
	a.fromFlags(c)
	a.adoptFlags(c)
	return c
}

// initExample makes the example's workspace; the folder must be absent or empty.
func (a *app) initExample(ctx context.Context, dir, example string) (string, error) {
	if !slices.Contains(examples.Names, example) {
		opts := []any{errs.Hint("the examples are: " + strings.Join(examples.Names, ", "))}
		if n := errs.Near(example, examples.Names); n != "" {
			opts = []any{errs.Hintf("did you mean %q?", n)}
		}
		return "", errs.E(errs.NotFound, fmt.Sprintf("there is no example %q", example), opts...)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", errs.E(errs.Invalid, "folder "+dir, err)
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return "", errs.E(errs.Conflict, "folder "+dir+" is not empty", errs.Hint("name a new folder"))
	}
	revisions, err := examples.Load(example)
	if err != nil {
		return "", err
	}
	device, err := addDevice(revisions)
	if err != nil {
		return "", err
	}
	t := a.talk().Step("make the workspace")
	// The sources of the runtime are resolved first: the lock is part of the first commit.
	sources := map[distro.Digest][]byte{}
	lock, missing, err := a.resolveSources(ctx, revisions[0].Files, func(r io.Reader) (distro.Digest, int64, error) {
		b, err := io.ReadAll(r)
		d := distro.DigestOf(b)
		sources[d] = b
		return d, int64(len(b)), err
	})
	if err == nil {
		revisions[0].Files["sources.lock"] = lock
		leaveOut(revisions, missing)
		var commits []layers.Commit
		for _, r := range revisions {
			modes := map[string]fs.FileMode{}
			for name := range r.Exec {
				modes[name] = 0o755
			}
			commits = append(commits, layers.Commit{Message: r.Message, Author: r.Author, Date: r.Date, Files: r.Files, Modes: modes, Delete: r.Delete, Tag: r.Tag})
		}
		err = layers.CreateRepo(ctx, dir, commits)
	}
	if err == nil {
		err = keepSources(ctx, filepath.Join(dir, ".slipway", "store"), sources)
	}
	if err != nil {
		t.Failed("")
		return "", err
	}
	def, settings, err := load(dir)
	if err != nil {
		return "", err
	}
	keyDir, err := settings.KeysDir(def.Distribution)
	if err != nil {
		return "", err
	}
	// An example is for trying out: its keys have a passphrase only if one is at hand.
	_, given, err := (&passphrases{}).given("")
	if err != nil {
		t.Failed("")
		return "", err
	}
	maker, root := keyMaker{open: !given}, ""
	made, err := a.createKeys(ctx, def, keyDir, maker)
	if err == nil && made {
		root, err = a.exampleRoot(ctx, def, keyDir, maker)
	}
	if err != nil {
		t.Failed("")
		return "", err
	}
	if !device {
		t.Note("slipway-device is not in this workspace's images: its programs do not lie beside slipway. make build makes them; then init a new workspace")
	}
	for _, m := range missing {
		t.Note(fmt.Sprintf("no board of %s is in this workspace: %v", m.Arch, m.Err))
	}
	if root != "" {
		t.Note("the root key, which vouches for the others, lies beside them in " + root + ": of a distribution of your own, take it offline")
	}
	if made {
		t.Done("git repository; new keys in " + keyDir)
	} else {
		t.Done("git repository; keys of " + def.Distribution + " found in " + keyDir)
	}
	return dir, nil
}

// addDevice puts the programs slipway-device-<arch> that lie beside this one into
// an example, or gives false.
func addDevice(revisions []examples.Revision) (bool, error) {
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return false, errs.E(errs.Unavailable, "find this program's folder", err)
	}
	return examples.AddDevice(revisions, filepath.Dir(self))
}

// resolveSources takes the sources that the layer's specs want from this
// machine's Debian packages, and gives the bytes of sources.lock.
func (a *app) resolveSources(ctx context.Context, files map[string][]byte, put putSource) ([]byte, []debian.Missing, error) {
	tmp, err := os.MkdirTemp("", "slipway-init-")
	if err != nil {
		return nil, nil, errs.E(errs.Unavailable, "make a scratch folder", err)
	}
	defer os.RemoveAll(tmp)
	for name, data := range files {
		path := filepath.Join(tmp, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, nil, errs.E(errs.Unavailable, "write "+path, err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return nil, nil, errs.E(errs.Unavailable, "write "+path, err)
		}
	}
	def, err := config.LoadDefinition(filepath.Join(tmp, "slipway.yaml"))
	if err != nil {
		return nil, nil, err
	}
	missing, err := lockSources(ctx, def, tmp, put)
	if err != nil {
		return nil, nil, err
	}
	lock, err := os.ReadFile(filepath.Join(tmp, "sources.lock"))
	return lock, missing, err
}

// leaveOut takes the boards of architectures that cannot be had here, and the
// architectures, out of the example's definitions: each stands on a line of its
// own there, with its architecture in its rig.
func leaveOut(revisions []examples.Revision, missing []debian.Missing) {
	for _, m := range missing {
		for _, r := range revisions {
			text, ok := r.Files["slipway.yaml"]
			if !ok {
				continue
			}
			var kept []string
			for line := range strings.Lines(string(text)) {
				if strings.Contains(line, "rig: qemu-"+m.Arch) {
					continue
				}
				kept = append(kept, strings.NewReplacer(", "+m.Arch+"]", "]", "["+m.Arch+", ", "[").Replace(line))
			}
			r.Files["slipway.yaml"] = []byte(strings.Join(kept, ""))
		}
	}
}

// putSource keeps the bytes of a source.
type putSource = func(io.Reader) (distro.Digest, int64, error)

func keepSources(ctx context.Context, dir string, sources map[distro.Digest][]byte) error {
	blobs, err := store.OpenBlobs(dir)
	if err != nil {
		return err
	}
	for _, b := range sources {
		if _, _, err := blobs.Put(ctx, bytes.NewReader(b)); err != nil {
			return err
		}
	}
	return nil
}

// lockSources resolves the sources of every local layer and writes sources.lock.
func lockSources(ctx context.Context, def *config.Definition, dir string, put putSource) ([]debian.Missing, error) {
	var wanted []debian.Wanted
	for _, l := range def.EnabledLayers() {
		if l.URL != "" {
			continue
		}
		s, err := rpmbuild.ReadSources(filepath.Join(dir, l.Path))
		if err != nil {
			return nil, err
		}
		for _, x := range s {
			wanted = append(wanted, debian.Wanted(x))
		}
	}
	pins, missing, err := debian.ResolveFor(ctx, wanted, debian.Options{Arches: def.Builder.Arches}, put)
	if err != nil {
		return nil, err
	}
	return missing, rpmbuild.WriteLock(filepath.Join(dir, "sources.lock"), pins)
}

func (a *app) configCmd() *cobra.Command {
	var documents bool
	check := &cobra.Command{Use: "check", Short: "print every finding in slipway.yaml and settings.yaml, and of BitBake's configuration", Args: cobra.NoArgs,
		Example: "  slipway config check\n  slipway config check --documents",
		Long: `Check prints all that is wrong in the two documents, each with its place. For a
series that BitBake builds it then fetches the layers, asks BitBake about every
board, and says what a binary distribution needs and this configuration does not
have, by the Yocto release at hand. A finding that blocks a build ends with exit 2.`,
		RunE: func(c *cobra.Command, _ []string) error {
			var found errs.List
			mine, unfit := ownChecks(a.dir)
			err := config.CheckDefinition(filepath.Join(a.dir, "slipway.yaml"), a.dir, checkIDs(mine...), security.RuleIDs())
			if errs.Is(err, errs.NotFound) {
				return noWorkspace(a.dir)
			}
			found = append(found, config.Findings(err)...)
			found = append(found, config.Findings(unfit)...)
			_, err = config.LoadSettings(filepath.Join(a.dir, "settings.yaml"), a.dir)
			found = append(found, config.Findings(err)...)
			if err := found.Err(); err != nil {
				return err
			}
			return a.askSettings(c.Context(), documents)
		}}
	check.Flags().BoolVar(&documents, "documents", false, "the two documents only: nothing is fetched, BitBake is not asked")
	var settings bool
	show := &cobra.Command{Use: "show", Short: "print the resolved form, every default filled in, with origins", Args: cobra.NoArgs,
		Example: "  slipway config show\n  slipway config show --settings",
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := filepath.Abs(a.dir)
			if err != nil {
				return errs.E(errs.Invalid, "workspace "+a.dir, err)
			}
			def, set, err := load(dir)
			if err != nil {
				return err
			}
			if settings {
				return a.show(set.JSON(), set.Show)
			}
			return a.show(def.JSON(), def.Show)
		}}
	show.Flags().BoolVar(&settings, "settings", false, "settings.yaml instead of slipway.yaml")
	schema := &cobra.Command{Use: "schema", Short: "print the JSON schema of slipway.yaml", Args: cobra.NoArgs,
		Example: "  slipway config schema > slipway.schema.json",
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := a.Out.Write(config.Schema())
			return err
		}}
	return group("config", "the definition: check, show, schema", "  slipway config check\n  slipway config show", check, show, schema)
}

func (a *app) show(asJSON []byte, human func(io.Writer) error) error {
	if a.json {
		_, err := a.Out.Write(append(asJSON, '\n'))
		return err
	}
	return human(a.Out)
}
