package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/sign"
)

// ownKey opens the key file of an own feed. With m a missing one is made.
func (a *app) ownKey(ctx context.Context, path, feedDir, name string, p *passphrases, m *keyMaker) (*sign.Key, bool, error) {
	inside, err := isWithin(path, feedDir)
	if err != nil {
		return nil, false, err
	}
	if inside {
		return nil, false, errs.E(errs.Denied, fmt.Sprintf("key %s would lie in the feed's folder, which is published", path), errs.Hint("--key names a file elsewhere"))
	}
	k, err := sign.Unlock(path, func() ([]byte, error) { return p.open(ctx, "package", "key "+path) })
	if m == nil || !errs.Is(err, errs.NotFound) {
		return k, false, err
	}
	if k, err = sign.Generate(sign.Options{Name: name, Algorithm: m.algorithm, Created: a.clock()}); err != nil {
		return nil, false, err
	}
	return k, true, m.store(ctx, k, path, "package", "the key of feed "+name)
}

func isWithin(path, dir string) (bool, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return false, errs.E(errs.Invalid, "key "+path, err)
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return false, errs.E(errs.Invalid, "folder "+dir, err)
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel), nil
}

func (a *app) feedCreateCmd() *cobra.Command {
	var key, base, title string
	var priority int
	var m keyMaker
	c := &cobra.Command{Use: "create NAME --dir DIR --key FILE", Short: "make a feed of your own beside the official one", Args: cobra.ExactArgs(1),
		Example: "  slipway feed create my-boat --dir ./my-boat --key ~/my-boat.key --base https://feeds.example.org/my-boat",
		Long: `Create makes a folder with an empty feed: signed index, .repo file and public key.
The key is read from --key, or made there; it never lies in the folder. Serve the
folder as --base says; slipway feed add brings packages into it. No workspace is needed.

--priority is dnf's: of a package that several feeds have, the feed with the lowest
number gives it. Feeds without one have 99. With 120, the default, the feed adds
packages and never takes the place of an official one; 50 is for feeds that do.`,
		RunE: func(c *cobra.Command, args []string) error {
			if !c.Flag("dir").Changed || key == "" {
				return errs.E(errs.Invalid, "a feed needs --dir and --key", errs.Hint("slipway feed create my-boat --dir ./my-boat --key ~/my-boat.key"))
			}
			dir, err := filepath.Abs(a.dir)
			if err != nil {
				return errs.E(errs.Invalid, "folder "+a.dir, err)
			}
			if base == "" {
				base = "file://" + dir
			}
			if title == "" {
				title = args[0]
			}
			k, made, err := a.ownKey(c.Context(), key, dir, args[0], &m.passphrases, &m)
			if err != nil {
				return err
			}
			o := feed.Own{Name: args[0], Title: title, BaseURL: base, Priority: priority, Dir: dir}
			if err := feed.CreateOwn(c.Context(), o, k, a.clock()); err != nil {
				return err
			}
			return a.print(map[string]any{"name": o.Name, "dir": dir, "fingerprint": k.Fingerprint(), "key_made": made}, func(out io.Writer) {
				fmt.Fprintf(out, "feed %s is in %s, signed by key %s\nnext: slipway feed add %s --key %s FILE.rpm; devices get %s.repo, see docs/publishing-your-own-feed.md\n",
					o.Name, dir, k.Fingerprint(), a.dir, key, o.Name)
				if !strings.HasPrefix(base, "https://") && !strings.HasPrefix(base, "http://") {
					fmt.Fprintf(out, "%s.repo says %s: good on this machine; --base is for others\n", o.Name, base)
				}
			})
		}}
	c.Flags().StringVar(&key, "key", "", "file of the private key; made when it is not there")
	c.Flags().StringVar(&base, "base", "", "address of the folder as devices see it (default file://DIR)")
	c.Flags().StringVar(&title, "title", "", "name for people (default NAME)")
	c.Flags().IntVar(&priority, "priority", 120, "dnf's priority: lower goes first, 99 is that of feeds without one")
	m.flags(c)
	return c
}

func (a *app) feedAddCmd() *cobra.Command {
	var key string
	var p passphrases
	c := &cobra.Command{Use: "add DIR --key FILE [RPM...]", Short: "sign packages into a feed of your own", Args: cobra.MinimumNArgs(1),
		Example: "  slipway feed add ./my-boat --key ~/my-boat.key ./build/*.rpm",
		Long: `Add signs packages with the feed's key, copies them into it, and signs the new
index. Nothing is written when one of them is damaged, or when the feed has its
name, version and release with other content. Without packages it brings index and
signature up to date: after a crash, or when files were removed by hand.`,
		RunE: func(c *cobra.Command, args []string) error {
			o, err := feed.OpenOwn(args[0])
			if err != nil {
				return err
			}
			if key == "" {
				return errs.E(errs.Invalid, "the key's file is not named", errs.Hintf("slipway feed add %s --key FILE RPM...", args[0]))
			}
			k, _, err := a.ownKey(c.Context(), key, args[0], o.Name, &p, nil)
			if err != nil {
				return err
			}
			r, err := o.Add(c.Context(), k, args[1:], a.clock())
			if err != nil {
				return err
			}
			return a.print(r, func(out io.Writer) {
				for _, n := range r.New {
					fmt.Fprintln(out, "+ "+n)
				}
				for _, n := range r.Resigned {
					fmt.Fprintf(out, "  %s was signed by somebody else; in this feed you answer for it\n", n)
				}
				fmt.Fprintf(out, "feed %s: %d new, %d there already, %d packages\n", o.Name, len(r.New), len(r.There), r.Packages)
			})
		}}
	c.Flags().StringVar(&key, "key", "", "file of the private key")
	p.flag(c)
	return c
}
