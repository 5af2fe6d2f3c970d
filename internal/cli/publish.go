package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"slipway/internal/cycle"
	"slipway/internal/distro"
	"slipway/internal/errs"
)

func (a *app) publishCmd() *cobra.Command {
	var refresh, resign, bridge bool
	var by, because string
	c := &cobra.Command{Use: "publish [VERSION]", Short: "sign and publish an approved release", Args: maximum(1),
		Example: "  slipway publish 1.2\n  slipway publish --refresh\n  slipway publish 1.3 --bridge\n  slipway publish --resign --because \"the package key was stolen\"",
		Long: `Publish signs an approved release and brings it out. Clients see what was there before
until the last pointer has switched; a publish that was cut off is finished by the same
command.

With --refresh it signs the pointer of the series (timestamp.json) anew, with a new
expiry, and nothing else. Run it by a timer, once a week: a pointer lives 30 days, and
devices that find an expired one take the feed for frozen.

With --bridge the metadata key signs the new packages of a release: the way on when a package
key was revoked or lost and devices know no next one. The release brings them the new key.

With --resign it signs every package again with the package key of today, beside the old
files, as a new serial: the cure of a compromised key, after slipway key revoke. What was
tested and stated stays as it is; only signatures are new. See docs/keys.md.`,
		RunE: func(c *cobra.Command, args []string) error {
			if refresh && resign || (refresh || resign) != (len(args) == 0) || bridge && len(args) == 0 {
				return errs.E(errs.Invalid, "publish takes a version, or --refresh, or --resign", errs.Hint("slipway publish 1.2"), errs.Hint("slipway publish --refresh"))
			}
			return a.with(c.Context(), write, func(ctx context.Context, w *cycle.Workspace) error {
				switch {
				case refresh:
					return a.refresh(ctx, w)
				case resign:
					return a.resign(ctx, w, by, because)
				}
				v, _, err := distro.ParseVersion(w.Definition.Series.Name, args[0])
				if err != nil {
					return err
				}
				publish := w.Publish
				if bridge {
					publish = w.Bridge
				}
				r, err := publish(ctx, v)
				if err == nil {
					err = a.copyOut(ctx, w)
				}
				if err != nil {
					return err
				}
				return a.print(r, func(out io.Writer) {
					fmt.Fprintf(out, "release %s is published: serial %d, %d packages\nnext: slipway serve; devices run dnf upgrade\n", r.Version, r.Serial, len(r.Packages))
					if r.Bridge {
						fmt.Fprintf(out, "the metadata key signed what is new in it; leave it in place until devices have it, then slipway publish --resign\nlate devices go by snapshots/%d\n", r.Serial)
					}
				})
			})
		}}
	c.Flags().BoolVar(&refresh, "refresh", false, "sign the pointer anew, with a new expiry, and nothing else")
	c.Flags().BoolVar(&bridge, "bridge", false, "let the metadata key sign the new packages: they bring devices a new package key")
	c.Flags().BoolVar(&resign, "resign", false, "sign every package again, after a key was revoked, as a new serial")
	c.Flags().StringVar(&by, "by", "", "with --resign: who says so")
	c.Flags().StringVar(&because, "because", "", "with --resign: why")
	return c
}

func (a *app) resign(ctx context.Context, w *cycle.Workspace, by, because string) error {
	done, err := w.Resign(ctx, by, because)
	if err == nil {
		err = a.copyOut(ctx, w)
	}
	if err != nil {
		return err
	}
	return a.print(done, func(out io.Writer) {
		fmt.Fprintf(out, "serial %d: %d packages of release %s and before are signed again, key epoch %d\n", done.Serial, len(done.Packages), done.Release, done.Epoch)
	})
}

func (a *app) refresh(ctx context.Context, w *cycle.Workspace) error {
	t, err := w.Refresh(ctx)
	if err == nil {
		err = a.copyOut(ctx, w)
	}
	if err != nil {
		return err
	}
	return a.print(t, func(out io.Writer) {
		fmt.Fprintf(out, "serial %d, release %s: the pointer is good until %s\n", t.Serial, t.Release, t.Expires.Format(time.DateOnly))
	})
}
