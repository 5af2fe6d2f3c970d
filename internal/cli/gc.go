package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"slipway/internal/cycle"
	"slipway/internal/errs"
	"slipway/internal/ui"
)

func (a *app) gcCmd() *cobra.Command {
	var dry bool
	var keep int
	c := &cobra.Command{Use: "gc", Short: "remove what nothing needs any more from the artifact store and the work folders", Args: cobra.NoArgs,
		Example: "  slipway gc --dry-run\n  slipway gc --keep 3",
		Long: `Gc removes blobs of the artifact store that only failed builds and rejected candidates
name, or no document at all, and the work and quarantine folders of such builds. What
a release, a candidate or a build at work names stays, and so do the newest failed
and rejected builds (--keep), for who wants to look. Published bytes are never
touched. --dry-run removes nothing; both say why the rest stays.

It does not run beside a build, a test or a publish (exit 6). When it is killed, the
same command goes on.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if keep < 0 {
				return errs.E(errs.Invalid, "--keep is a number of builds, from 0")
			}
			m := write
			if dry {
				m = read
			}
			return a.with(c.Context(), m, func(ctx context.Context, w *cycle.Workspace) error {
				done, err := w.Collect(ctx, keep, dry)
				if err != nil {
					return err
				}
				return a.print(done, func(out io.Writer) { writeCollection(out, done) })
			})
		}}
	c.Flags().BoolVar(&dry, "dry-run", false, "only show what would be removed, and why the rest stays")
	c.Flags().IntVar(&keep, "keep", 10, "how many of the newest failed and rejected builds stay")
	return c
}

func writeCollection(out io.Writer, c cycle.Collection) {
	did, stays := "removed", "kept"
	if c.DryRun {
		did, stays = "would remove", "would keep"
	}
	type sum struct {
		why   string
		n     int
		bytes int64
	}
	var sums []sum
	at := map[string]int{}
	for _, x := range c.Removed {
		if x.Folder != "" {
			fmt.Fprintf(out, "%s %s, %s: %s\n", did, x.Folder, ui.Size(x.Bytes), x.Why)
			continue
		}
		i, ok := at[x.Why]
		if !ok {
			i = len(sums)
			at[x.Why] = i
			sums = append(sums, sum{why: x.Why})
		}
		sums[i].n++
		sums[i].bytes += x.Bytes
	}
	for _, s := range sums {
		fmt.Fprintf(out, "%s %d blobs, %s: %s\n", did, s.n, ui.Size(s.bytes), s.why)
	}
	for _, k := range c.Kept {
		fmt.Fprintf(out, "%s %d blobs, %s: %s\n", stays, k.Blobs, ui.Size(k.Bytes), k.Why)
	}
	fmt.Fprintf(out, "%s %s in all; published bytes are never touched\n", did, ui.Size(c.Bytes))
}
