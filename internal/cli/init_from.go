package cli

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway/internal/config"
	"slipway/internal/errs"
	"slipway/internal/layers"
	"slipway/internal/projectfile"
)

// begin is init --from: a build that kas or bitbake-setup describes becomes a series.
type begin struct {
	file         string
	choices      projectfile.Choices
	distribution string
	release      string
	base         string
	lossy        bool
}

// fromFlags gives init the way of --from.
func (a *app) fromFlags(c *cobra.Command) {
	var o begin
	f := c.Flags()
	f.StringVar(&o.file, "from", "", "a build of kas (kas.yml, or several joined by colons) or bitbake-setup (*.conf.json) to begin with")
	f.StringVar(&o.choices.Configuration, "configuration", "", "with --from: which of bitbake-setup's configurations")
	f.StringArrayVar(&o.choices.Fragments, "choose", nil, "with --from: a fragment where bitbake-setup offers one of several (repeat; several machines are several boards)")
	f.StringVar(&o.choices.Revisions, "revisions", "", "with --from: sources-fixed-revisions.json (default: the one beside the file)")
	f.StringVar(&o.distribution, "distribution", "", "with --from: name of the distribution (default: that of the folder)")
	f.StringVar(&o.release, "release", "", "with --from: Yocto's release, wrynose (default: what a branch is named after)")
	f.StringVar(&o.base, "base-url", "", "with --from: address of the publication (default: the workspace's own folder)")
	f.BoolVar(&o.lossy, "lossy", false, "with --from: go on without what cannot be carried over")
	c.Example += "\n  slipway init ./my-distro --from kas.yml\n  slipway init ./my-distro --from poky-wrynose.conf.json --configuration poky --choose machine/qemux86-64 --choose distro/poky"
	before := c.RunE
	c.RunE = func(c *cobra.Command, args []string) error {
		if o.file == "" {
			for _, name := range []string{"configuration", "choose", "revisions", "distribution", "release", "base-url", "lossy"} {
				if c.Flag(name).Changed {
					return errs.E(errs.Invalid, "--"+name+" goes with --from", errs.Hint("slipway init "+args[0]+" --from kas.yml"))
				}
			}
			return before(c, args)
		}
		if c.Flag("example").Changed {
			return errs.E(errs.Invalid, "--example and --from are two ways to begin", errs.Hint("leave one out"))
		}
		return a.initFrom(c.Context(), args[0], o)
	}
}

// begun is the result of init --from.
type begun struct {
	Dir    string   `json:"dir"`
	Tool   string   `json:"tool"`
	Layers []string `json:"layers"`
	Boards []string `json:"boards"`
	Left   []string `json:"left"` // with --lossy: what was not carried over
}

func (a *app) initFrom(ctx context.Context, typed string, o begin) error {
	dir, err := absolute(typed)
	if err != nil {
		return err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return errs.E(errs.Conflict, "folder "+dir+" is not empty", errs.Hint("name a new folder"))
	}
	p, err := readProject(o)
	if err != nil {
		return err
	}
	if o.release == "" && p.Release() == "" {
		p.Left = append(p.Left, errs.E(errs.Invalid, "no branch says which release of Yocto this is", errs.Hint("--release wrynose")))
		o.lossy = false
	}
	if len(p.Left) > 0 && !o.lossy {
		a.talk().Line(fmt.Sprintf("%d things of %s cannot be carried over; nothing is written (--lossy goes on without them)", len(p.Left), o.file))
		return p.Left.Err()
	}
	name := o.distribution
	if name == "" {
		name = strings.Trim(noNameByte.ReplaceAllString(strings.ToLower(filepath.Base(dir)), "-"), "-0123456789")
	}
	base := o.base
	if base == "" {
		base = "file://" + filepath.ToSlash(dir) + "/publication"
	}
	text := p.Definition(name, o.release, base, filepath.Base(o.file), a.clock())
	def, err := config.ParseDefinition("slipway.yaml", []byte(text))
	if err != nil {
		return errs.E(errs.KindOf(err), "the definition that would be made is not a good one", err, errs.Hint("--distribution gives another name than the folder's; else correct "+o.file))
	}
	files := map[string][]byte{".gitignore": []byte(".slipway/\npublication/\n"), "slipway.yaml": []byte(text)}
	modes := map[string]fs.FileMode{}
	res := begun{Dir: dir, Tool: p.Tool, Layers: []string{}, Boards: def.BoardNames(), Left: []string{}}
	for _, l := range p.LayerList() {
		res.Layers = append(res.Layers, l.Name)
		if l.From == "" {
			continue
		}
		if err := readFolder(l.From, l.Path, files, modes); err != nil {
			return errs.Wrap(err, "layer %s", l.Name)
		}
	}
	for _, e := range p.Left {
		res.Left = append(res.Left, e.Error())
	}
	commit := layers.Commit{Message: "a workspace for what " + filepath.Base(o.file) + " builds", Author: "Slipway <slipway@localhost>", Date: a.clock().UTC().Truncate(time.Second), Files: files, Modes: modes}
	if err := layers.CreateRepo(ctx, dir, []layers.Commit{commit}); err != nil {
		return err
	}
	return a.print(res, func(out io.Writer) {
		for _, l := range res.Left {
			fmt.Fprintf(out, "not carried over: %s\n", l)
		}
		fmt.Fprintf(out, "workspace %s is ready: %d layers, boards %s\nnext: cd %s, see that slipway.yaml says what you mean; slipway config check; slipway key create\n", dir, len(res.Layers), strings.Join(res.Boards, ", "), typed)
	})
}

// readProject tells the two tools by what the file is.
func readProject(o begin) (projectfile.Project, error) {
	setup := strings.HasSuffix(o.file, ".conf.json") || filepath.Base(o.file) == "config-upstream.json"
	if setup {
		return projectfile.ReadSetup(o.file, o.choices)
	}
	if o.choices.Configuration != "" || o.choices.Fragments != nil || o.choices.Revisions != "" {
		return projectfile.Project{}, errs.E(errs.Invalid, "--configuration, --choose and --revisions are for bitbake-setup, whose files end in .conf.json", errs.Hint("kas has its choices in the list of files: --from kas.yml:board.yml"))
	}
	return projectfile.ReadKas(o.file)
}

// readFolder reads the regular files below a folder, but for git's and ours, into files
// below prefix. A link is refused: git would keep it, and it may lead anywhere.
func readFolder(root, prefix string, files map[string][]byte, modes map[string]fs.FileMode) error {
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return errs.E(errs.Unavailable, "read "+path, err)
		case e.Name() == ".git" || e.Name() == ".slipway":
			if e.IsDir() {
				return filepath.SkipDir
			}
			return nil // a work tree's .git is a file
		case e.IsDir():
			return nil
		case !e.Type().IsRegular():
			return errs.E(errs.Invalid, path+" is no regular file", errs.Hint("put the layer into a repository of its own, and name it by its URL"))
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return errs.E(errs.Unavailable, "read "+path, err)
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(filepath.Join(prefix, rel))
		files[name] = b
		if info, err := e.Info(); err == nil && info.Mode()&0o111 != 0 {
			modes[name] = 0o755
		}
		return nil
	})
}
