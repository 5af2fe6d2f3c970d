package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"slipway/internal/cycle"
	"slipway/internal/distro"
	"slipway/internal/ui"
)

func (a *app) tombstoneCmd() *cobra.Command {
	var by, because string
	var dry, sources bool
	c := &cobra.Command{Use: "tombstone PACKAGE | FILE...", Short: "remove published bytes because a law says so: a signed notice takes their place", Args: cobra.MinimumNArgs(1),
		Example: "  slipway tombstone hello-1.0-1.noarch --because \"court order 4 O 12/26\" --by \"Ada Byron\" --dry-run\n  slipway tombstone 1/images/qemux86-64/1.3/light-qemux86-64-1.3.img --because \"court order 4 O 12/26\" --by \"Ada Byron\"",
		Long: `Tombstone is the one command that removes what was published: packages, named as feed
show names them or by their file (then in every key epoch), and images. Use it when a law
or a court leaves no choice, and withdraw for everything else.

A new serial offers the files no more. Then a notice with name and reason, signed by the
metadata key and in the transparency log, stands in the place of the bytes, and slipway
verify tells a removal from damage. Release statements, snapshots and the log stay; the
release can be restored but for these files. The artifact store loses the bytes, too, and
so does the build cache, public or not: BitBake's objects of the recipe that hold them.
Sources of the recipe, from which the next version is made, go with --sources.

It cannot be undone. It does not reach mirrors, devices, restored folders and backups, nor
images that hold a package: those are listed. --dry-run shows what would go.`,
		RunE: func(c *cobra.Command, args []string) error {
			m := write
			if dry {
				m = read
			}
			return a.with(c.Context(), m, func(ctx context.Context, w *cycle.Workspace) error {
				done, err := w.Tombstone(ctx, args, by, because, sources, dry)
				if err == nil && !dry {
					err = a.copyOut(ctx, w)
				}
				if err != nil {
					return err
				}
				return a.print(done, func(out io.Writer) { writeTombstone(out, done) })
			})
		}}
	c.Flags().StringVar(&by, "by", "", "who says so; published")
	c.Flags().StringVar(&because, "because", "", "why; published")
	c.Flags().BoolVar(&sources, "sources", false, "the public sources of the packages' recipes go, too")
	c.Flags().BoolVar(&dry, "dry-run", false, "only show what would go")
	return c
}

func writeTombstone(out io.Writer, t cycle.Tombstone) {
	did := "removed"
	if t.DryRun {
		did = "would remove"
	}
	for _, f := range t.Removed {
		fmt.Fprintf(out, "%s %s, %s, of release", did, f.File, ui.Size(f.Size))
		for i, v := range f.Releases {
			if i > 0 {
				fmt.Fprint(out, ",")
			}
			fmt.Fprintf(out, " %s", v)
		}
		fmt.Fprintln(out)
	}
	kinds := map[distro.Class]int{}
	for _, a := range t.Cache {
		kinds[a.Class]++
	}
	if n := kinds[distro.SState]; n > 0 {
		fmt.Fprintf(out, "%s %d objects of the build cache that hold it\n", did, n)
	}
	if n := kinds[distro.Downloads]; n > 0 {
		fmt.Fprintf(out, "%s %d sources\n", did, n)
	}
	for _, name := range t.Sources {
		fmt.Fprintf(out, "note: the source %s stays public: --sources removes it, too\n", name)
	}
	for _, name := range t.Images {
		fmt.Fprintf(out, "note: the image %s holds it and stays: name it, too, if it must go\n", name)
	}
	if t.DryRun {
		fmt.Fprintln(out, "nothing was removed")
		return
	}
	for _, f := range t.Removed {
		if f.Package != "" {
			fmt.Fprintln(out, "note: as long as its recipe is as it is, the next build makes the same again under a new number")
			break
		}
	}
	fmt.Fprintf(out, "serial %d offers release %s without it; the notice is %s/removals/%d.json\nnext: tell the mirrors, and slipway feed export for copies of your own\n", t.Serial, t.Release, t.Series, t.Serial)
}
