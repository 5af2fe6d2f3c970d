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
	var refresh bool
	c := &cobra.Command{Use: "publish [VERSION]", Short: "sign and publish an approved release", Args: maximum(1),
		Example: "  slipway publish 1.2\n  slipway publish --refresh",
		Long: `Publish signs an approved release and brings it out. Clients see what was there before
until the last pointer has switched; a publish that was cut off is finished by the same
command.

With --refresh it signs the pointer of the series (timestamp.json) anew, with a new
expiry, and nothing else. Run it by a timer, once a week: a pointer lives 30 days, and
devices that find an expired one take the feed for frozen.`,
		RunE: func(c *cobra.Command, args []string) error {
			if refresh != (len(args) == 0) {
				return errs.E(errs.Invalid, "publish takes a version, or --refresh", errs.Hint("slipway publish 1.2"), errs.Hint("slipway publish --refresh"))
			}
			return a.with(c.Context(), write, func(ctx context.Context, w *cycle.Workspace) error {
				if refresh {
					return a.refresh(ctx, w)
				}
				v, _, err := distro.ParseVersion(w.Definition.Series.Name, args[0])
				if err != nil {
					return err
				}
				r, err := w.Publish(ctx, v)
				if err == nil {
					err = a.copyOut(ctx, w)
				}
				if err != nil {
					return err
				}
				return a.print(r, func(out io.Writer) {
					fmt.Fprintf(out, "release %s is published: serial %d, %d packages\nnext: slipway serve; devices run dnf upgrade\n", r.Version, r.Serial, len(r.Packages))
				})
			})
		}}
	c.Flags().BoolVar(&refresh, "refresh", false, "sign the pointer anew, with a new expiry, and nothing else")
	return c
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
