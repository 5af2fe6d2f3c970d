package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"slipway/internal/cycle"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/ui"
)

func (a *app) rebuildCmd() *cobra.Command {
	var cached bool
	c := &cobra.Command{Use: "rebuild VERSION", Short: "build a release again from the captured set and compare every package", Args: cobra.ExactArgs(1),
		Example: "  slipway rebuild 1.2\n  slipway rebuild 1.2 --cached",
		Long: `Rebuild restores a release into a folder of its own and builds it there from nothing
but that: layers out of their bundles, configuration, sources, both databases.
Every package is compared with the published one, signatures aside:
  identical   bit for bit
  equivalent  the same content in other bytes; the differences are named
  different   other content, or a package that the rebuild did not make
The verdict is recorded. "different" ends with exit code 1. Where diffoscope is
installed its report on each package that differs is kept.

With --cached the release's own sstate is used: nothing is built, and the answer is
whether the restored set is whole. BitBake only.`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), write, func(ctx context.Context, w *cycle.Workspace) error {
				v, _, err := distro.ParseVersion(w.Definition.Series.Name, args[0])
				if err != nil {
					return err
				}
				r, err := w.Rebuild(ctx, v, cached)
				if err != nil {
					return err
				}
				if err := a.print(r, func(out io.Writer) { writeRebuilt(out, r) }); err != nil || r.Verdict != cycle.Different {
					return err
				}
				return quietly{errs.E(errs.Failed, fmt.Sprintf("release %s does not come out as it was published", v))}
			})
		}}
	c.Flags().BoolVar(&cached, "cached", false, "with the release's own sstate: is the restored set whole?")
	return c
}

func writeRebuilt(out io.Writer, r cycle.Rebuilt) {
	fmt.Fprintf(out, "release %s, built again: %s\n\n", r.Version, r.Verdict)
	rows := [][]string{}
	for _, v := range []string{cycle.Identical, cycle.Equivalent, cycle.Different, cycle.Missing} {
		if n := r.Counts[v]; n > 0 {
			rows = append(rows, []string{v, fmt.Sprint(n)})
		}
	}
	ui.Table(out, []string{"VERDICT", "PACKAGES"}, rows)
	if r.Cache != "" {
		fmt.Fprintf(out, "\n%s\n", r.Cache)
	}
	for _, p := range r.Packages {
		fmt.Fprintf(out, "\n%s  %s\n", p.Verdict, p.Package)
		for _, d := range p.Differences {
			fmt.Fprintf(out, "    %s\n", d)
		}
		if p.Report.Digest != "" {
			fmt.Fprintf(out, "    diffoscope's report: %s in the artifact store\n", p.Report.Digest)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Tools)) {
		fmt.Fprintf(out, "\ntools: %s was %s\n", name, r.Tools[name])
	}
	if len(r.Unneeded) > 0 {
		fmt.Fprintf(out, "\nnot brought back from the cache, as nothing needed them: %s\n", strings.Join(r.Unneeded, ", "))
	}
	if len(r.Extra) > 0 {
		fmt.Fprintf(out, "\nmade beside those of the release: %d packages\n", len(r.Extra))
	}
}
