package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"slipway/internal/cycle"
	"slipway/internal/feed"
	"slipway/internal/ui"
)

func (a *app) feedCmd() *cobra.Command {
	var url, pin string
	repofile := &cobra.Command{Use: "repofile", Short: "print the .repo file that a device's dnf needs", Args: cobra.NoArgs,
		Example: "  slipway feed repofile\n  slipway feed repofile --url http://127.0.0.1:8080 --pin 1.1\n  slipway feed repofile --pin 2026-12-24",
		Long: `Repofile prints <distribution>.repo with both signature checks on. Without --url and
--pin it holds the variables $slipway_url and $slipway_snapshot, which dnf reads
from /etc/dnf/vars.

--pin takes a release (1.1), a day (2026-12-24: what was current at its end, in UTC),
a time (RFC 3339), snapshots/17, or current.`,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(c.Context(), read, func(ctx context.Context, w *cycle.Workspace) error {
				text, err := w.RepoFile(ctx, url, pin)
				if err != nil {
					return err
				}
				return a.print(map[string]string{"repofile": text}, func(out io.Writer) { io.WriteString(out, text) })
			})
		}}
	repofile.Flags().StringVar(&url, "url", "", "where the publication is served, instead of $slipway_url")
	repofile.Flags().StringVar(&pin, "pin", "", "a release or date to stay at, instead of $slipway_snapshot")
	list := &cobra.Command{Use: "list", Short: "list the feeds of the current snapshot and their packages", Args: cobra.NoArgs,
		Example: "  slipway feed list",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(c.Context(), read, func(ctx context.Context, w *cycle.Workspace) error {
				l, err := w.FeedList(ctx)
				if err != nil {
					return err
				}
				return a.print(l, func(out io.Writer) {
					rows := [][]string{}
					for _, p := range l {
						rows = append(rows, []string{p.Scope, p.Name, p.EVR, string(p.Since), ui.Size(p.Size)})
					}
					ui.Table(out, []string{"FEED", "PACKAGE", "VERSION", "SINCE RELEASE", "SIZE"}, rows)
				})
			})
		}}
	return group("feed", "the feeds: list, show, diff, repofile, index, export, and ones of your own: create, add", "  slipway feed list\n  slipway feed show libknot\n  slipway feed repofile\n  slipway feed index ./packages",
		list, a.feedShowCmd(), a.feedDiffCmd(), repofile, a.feedIndexCmd(), a.feedExportCmd(), a.feedCreateCmd(), a.feedAddCmd())
}

func (a *app) feedShowCmd() *cobra.Command {
	return &cobra.Command{Use: "show NAME", Short: "show every version of a package that was ever published, and where it is now", Args: cobra.ExactArgs(1),
		Example: "  slipway feed show libknot\n  slipway feed show libknot --json",
		Long: `Show prints the history of a package through all releases of the series, in the order
of publication: its version, the release and snapshot that brought it, the date, the
digest of its header (which a new signature does not change), and where its file is
now: in current (dnf upgrade offers it), in history (only the feed of every version
has it), or nowhere.`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), read, func(ctx context.Context, w *cycle.Workspace) error {
				list, err := feed.History(ctx, w.Tree, w.Definition.Series.Name, args[0])
				if err != nil {
					return err
				}
				return a.print(list, func(out io.Writer) {
					rows := [][]string{}
					said := map[string]bool{}
					var notes []string
					note := func(text string) {
						if !said[text] {
							said[text] = true
							notes = append(notes, text)
						}
					}
					for _, p := range list {
						rows = append(rows, []string{p.EVR, p.Scope, string(p.Release), fmt.Sprint(p.Serial), when(p.At), p.Where, p.HeaderDigest.Short(), p.File})
						if p.Withdrawn != "" {
							note(fmt.Sprintf("release %s was withdrawn: %s", p.Release, p.Withdrawn))
						}
						for _, id := range p.Advisories {
							note(fmt.Sprintf("%s is the fix of advisory %s", p.EVR, id))
						}
					}
					ui.Table(out, []string{"VERSION", "FEED", "RELEASE", "SNAPSHOT", "SINCE", "NOW IN", "HEADER", "FILE"}, rows)
					for _, n := range notes {
						fmt.Fprintln(out, n)
					}
				})
			})
		}}
}

func (a *app) feedDiffCmd() *cobra.Command {
	return &cobra.Command{Use: "diff A B", Short: "show what a device gets that goes from one snapshot to another", Args: cobra.ExactArgs(2),
		Example: "  slipway feed diff 1.1 current\n  slipway feed diff 2026-12-01 snapshots/17 --json",
		Long: `Diff compares the feeds of two snapshots, as devices see them. A and B are releases
(1.1), days (2026-12-24), times (RFC 3339), snapshots/17, or current. slipway diff
compares what is in the packages of two releases or builds.`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), read, func(ctx context.Context, w *cycle.Workspace) error {
				d, err := feed.Compare(ctx, w.Tree, w.Definition.Series.Name, args[0], args[1])
				if err != nil {
					return err
				}
				return a.print(d, func(out io.Writer) {
					if len(d.Packages) > 0 {
						rows := [][]string{}
						for _, p := range d.Packages {
							rows = append(rows, []string{p.Change, p.Scope, p.Name, p.Old, p.New, ui.Size(p.Bytes)})
						}
						ui.Table(out, []string{"CHANGE", "FEED", "PACKAGE", "OLD", "NEW", "DOWNLOAD"}, rows)
					}
					fmt.Fprintf(out, "snapshot %d (release %s) to snapshot %d (release %s): %d packages differ, %d are the same, %s to download if all are installed\n",
						d.A.Serial, d.A.Release, d.B.Serial, d.B.Release, len(d.Packages), d.Same, ui.Size(d.Bytes))
				})
			})
		}}
}
