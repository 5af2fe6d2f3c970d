package cli

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"slipway/internal/config"
	"slipway/internal/cycle"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/ui"
)

func (a *app) advisoryCmd() *cobra.Command {
	return group("advisory", "advisories for devices: check, publish, list", "  slipway advisory check\n  slipway advisory publish advisories/HLSA-2026-0001.yaml --by \"Ada Byron\"",
		a.advisoryCheckCmd(), a.advisoryPublishCmd(), a.advisoryListCmd())
}

// advisoryFiles reads the files that are named, or all of the workspace. All findings
// come together.
func advisoryFiles(dir string, names []string) ([]*config.AdvisoryFile, error) {
	if len(names) == 0 {
		for _, ending := range []string{"*.yaml", "*.json"} {
			found, err := filepath.Glob(filepath.Join(dir, "advisories", ending))
			if err != nil {
				return nil, errs.E(errs.Invalid, "read the advisories of "+dir, err)
			}
			names = append(names, found...)
		}
	}
	var out []*config.AdvisoryFile
	var bad errs.List
	for _, name := range names {
		f, err := config.LoadAdvisory(name)
		if err != nil {
			bad = append(bad, config.Findings(err)...)
			continue
		}
		out = append(out, f)
	}
	return out, bad.Err()
}

func (a *app) advisoryCheckCmd() *cobra.Command {
	return &cobra.Command{Use: "check [FILE ...]", Short: "check advisories, and show what would be published",
		Example: "  slipway advisory check\n  slipway advisory check advisories/HLSA-2026-0001.yaml --json",
		Long: `Check reads advisories/*.yaml of the workspace, or the files that are named, and finds
the packages of each in the release that brought the fix. It shows what is new, each
with the packages and versions that devices will see, and writes nothing. All findings
come at once (exit 2).`,
		RunE: func(c *cobra.Command, args []string) error {
			files, err := advisoryFiles(a.dir, args)
			if err != nil {
				return err
			}
			return a.with(c.Context(), read, func(ctx context.Context, w *cycle.Workspace) error {
				fresh, err := w.CheckAdvisories(ctx, files)
				if err != nil {
					return err
				}
				return a.print(slices.Concat([]distro.Advisory{}, fresh), func(out io.Writer) {
					writeAdvisories(out, fresh)
					fmt.Fprintf(out, "%d files are in order, %d would be published\n", len(files), len(fresh))
				})
			})
		}}
}

func (a *app) advisoryPublishCmd() *cobra.Command {
	var by string
	c := &cobra.Command{Use: "publish [FILE ...]", Short: "publish advisories, as a new serial of the release that is current",
		Example: "  slipway advisory publish --by \"Ada Byron\"\n  slipway advisory publish advisories/HLSA-2026-0001.yaml",
		Long: `Publish brings out advisories/*.yaml of the workspace, or the files that are named, in
the updateinfo.xml of a new serial: dnf updateinfo, dnf upgrade --security and
slipway-device update --security know them from then on. The packages stay as they are.

An advisory is published after the release that brought its fix. A file whose text has
changed becomes the next version of its advisory; one that is published already with
the same text is left alone. To take one back, write withdrawn: REASON into its file.`,
		RunE: func(c *cobra.Command, args []string) error {
			files, err := advisoryFiles(a.dir, args)
			if err != nil {
				return err
			}
			return a.with(c.Context(), write, func(ctx context.Context, w *cycle.Workspace) error {
				done, err := w.PublishAdvisories(ctx, files, by)
				if err == nil {
					err = a.copyOut(ctx, w) // also what an earlier copy did not reach
				}
				if err != nil {
					return err
				}
				return a.print(done, func(out io.Writer) {
					if done.Serial == 0 {
						fmt.Fprintln(out, "every advisory is published already, as it is: nothing is new")
						return
					}
					writeAdvisories(out, done.Advisories)
					fmt.Fprintf(out, "serial %d, release %s: %d advisories are new or say something new\n", done.Serial, done.Release, len(done.Advisories))
				})
			})
		}}
	c.Flags().StringVar(&by, "by", "", "who says so")
	return c
}

func (a *app) advisoryListCmd() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "list the advisories that were published", Args: cobra.NoArgs,
		Example: "  slipway advisory list\n  slipway advisory list --json",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(c.Context(), read, func(ctx context.Context, w *cycle.Workspace) error {
				list, err := w.Advisories(ctx)
				if err != nil {
					return err
				}
				return a.print(list, func(out io.Writer) {
					writeAdvisories(out, list)
					if len(list) == 0 {
						fmt.Fprintln(out, "no advisory is published yet")
					}
				})
			})
		}}
}

func writeAdvisories(out io.Writer, list []distro.Advisory) {
	if len(list) == 0 {
		return
	}
	rows := [][]string{}
	for _, x := range list {
		what := x.Type
		if x.Severity != "" {
			what += ", " + x.Severity
		}
		if x.Withdrawn != "" {
			what = "withdrawn: " + x.Withdrawn
		}
		rows = append(rows, []string{x.ID, fmt.Sprint(x.Version), what, string(x.FixedIn), when(x.Issued), x.Title})
		for _, p := range x.Packages {
			rows = append(rows, []string{"", "", "", "", "", "  " + p.Name + "-" + distro.FormatEVR(p.Epoch, p.Version, p.Release) + "." + p.Arch})
		}
	}
	ui.Table(out, []string{"ADVISORY", "TEXT", "WHAT", "FIXED IN", "ISSUED", "TITLE, AND PACKAGES"}, rows)
}
