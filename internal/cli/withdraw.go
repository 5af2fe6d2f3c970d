package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"slipway/internal/cycle"
	"slipway/internal/distro"
)

func (a *app) withdrawCmd() *cobra.Command {
	var by, because string
	c := &cobra.Command{Use: "withdraw VERSION", Short: "take a release back: a new serial without it", Args: cobra.ExactArgs(1),
		Example: "  slipway withdraw 1.3 --because \"the new kernel does not boot on two boards\" --by \"Ada Byron\"",
		Long: `Withdraw publishes a new serial that offers what the other releases brought; reason and
name are published with it, in the snapshot and the transparency log. What only the
withdrawn release brought is in no index any more, and no later release brings it back.
Its bytes stay for whoever is pinned to it, and its numbers stay burned.

Devices that have it already stay as they are until the next release, whose packages are
newer, or until dnf distro-sync takes them back.

A release that is approved and cannot be published is taken back, too.`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), write, func(ctx context.Context, w *cycle.Workspace) error {
				v, _, err := distro.ParseVersion(w.Definition.Series.Name, args[0])
				if err != nil {
					return err
				}
				r, err := w.Withdraw(ctx, v, by, because)
				if err == nil && !r.Published.IsZero() {
					err = a.copyOut(ctx, w)
				}
				if err != nil {
					return err
				}
				s, err := w.Status(ctx)
				if err != nil {
					return err
				}
				return a.print(r, func(out io.Writer) {
					if r.Published.IsZero() {
						fmt.Fprintf(out, "release %s is taken back before anybody saw it\nnext: slipway build\n", r.Version)
						return
					}
					fmt.Fprintf(out, "release %s is withdrawn: serial %d offers release %s\nnext: slipway build; devices that have %s go back by dnf distro-sync\n", r.Version, s.Serial, s.Head, r.Version)
				})
			})
		}}
	c.Flags().StringVar(&by, "by", "", "who says so")
	c.Flags().StringVar(&because, "because", "", "why; published")
	return c
}
