package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway/internal/cycle"
	"slipway/internal/ui"
)

func (a *app) statusCmd() *cobra.Command {
	return &cobra.Command{Use: "status", Short: "where every release and build stands, why, and what comes next", Args: cobra.NoArgs,
		Example: "  slipway status\n  slipway status --json",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(c.Context(), read, func(ctx context.Context, w *cycle.Workspace) error {
				s, err := w.Status(ctx)
				if err != nil {
					return err
				}
				return a.print(s, func(out io.Writer) { writeStatus(out, s) })
			})
		}}
}

func writeStatus(out io.Writer, s cycle.Status) {
	fmt.Fprintf(out, "%s, series %s: ", s.Title, s.Series)
	if s.Head == "" {
		fmt.Fprintln(out, "no release yet")
	} else {
		fmt.Fprintf(out, "release %s, serial %d\n", s.Head, s.Serial)
	}
	if len(s.Releases) > 0 {
		rows := [][]string{}
		for _, r := range s.Releases {
			rows = append(rows, []string{string(r.Version), string(r.Status), fmt.Sprint(r.Serial), fmt.Sprintf("%d (%d new)", r.Packages, r.New), r.Build, r.By, when(r.Approved)})
		}
		fmt.Fprintln(out)
		ui.Table(out, []string{"RELEASE", "STATUS", "SERIAL", "PACKAGES", "CANDIDATE", "APPROVED BY", "WHEN"}, rows)
	}
	if len(s.Builds) > 0 {
		rows := [][]string{}
		for _, b := range s.Builds {
			name := string(b.ID)
			if b.Candidate != "" {
				name = b.Candidate
			}
			rows = append(rows, []string{name, string(b.Status), orNone(b.Base), b.Revision.Short(), when(b.Created), b.Why})
		}
		fmt.Fprintln(out)
		ui.Table(out, []string{"BUILD", "STATUS", "BASE", "REVISION", "STARTED", "WHY"}, rows)
	}
	fmt.Fprintf(out, "\nnext: %s\n", s.Next)
}

func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

func (a *app) logCmd() *cobra.Command {
	var list bool
	c := &cobra.Command{Use: "log [BUILD] [TASK]", Short: "print the console log of a build, or the log of one task", Args: maximum(2),
		Example: "  slipway log 1.2-b1\n  slipway log 1.2-b1 libknot.x86_64\n  slipway log 1.2-b1 --list",
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), read, func(ctx context.Context, w *cycle.Workspace) error {
				b, err := w.Build(ctx, first(args))
				if err != nil {
					return err
				}
				if list || a.json {
					logs := w.Logs(b)
					return a.print(logs, func(out io.Writer) {
						rows := [][]string{}
						for _, l := range logs {
							rows = append(rows, []string{strings.TrimSuffix(l.Name, ".log"), string(l.Class), ui.Size(l.Size)})
						}
						ui.Table(out, []string{"TASK", "CLASS", "SIZE"}, rows)
					})
				}
				task := ""
				if len(args) > 1 {
					task = args[1]
				}
				f, err := w.Log(ctx, b, task)
				if err != nil {
					return err
				}
				defer f.Close()
				_, err = io.Copy(a.Out, f)
				return err
			})
		}}
	c.Flags().BoolVar(&list, "list", false, "list the logs")
	return c
}

func (a *app) diffCmd() *cobra.Command {
	return &cobra.Command{Use: "diff A B", Short: "compare two releases or builds: packages, versions, files, dependencies, sizes", Args: cobra.ExactArgs(2),
		Example: "  slipway diff 1.1 1.2\n  slipway diff 1.2 1.3-c1 --json",
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), read, func(ctx context.Context, w *cycle.Workspace) error {
				d, err := w.Diff(ctx, args[0], args[1])
				if err != nil {
					return err
				}
				return a.print(d, func(out io.Writer) { writeDiff(out, d) })
			})
		}}
}

func writeDiff(out io.Writer, d cycle.Diff) {
	fmt.Fprintf(out, "from %s to %s: %d packages changed, %d the same\n", d.A, d.B, len(d.Packages), d.Same)
	for _, p := range d.Packages {
		switch p.Change {
		case "added":
			fmt.Fprintf(out, "\n+ %s.%s %s, %s\n", p.Name, p.Arch, p.New, ui.Size(p.NewSize))
		case "gone":
			fmt.Fprintf(out, "\n- %s.%s %s\n", p.Name, p.Arch, p.Old)
		default:
			fmt.Fprintf(out, "\n  %s.%s %s -> %s", p.Name, p.Arch, p.Old, p.New)
			if p.OldSize != p.NewSize {
				fmt.Fprintf(out, ", %s -> %s (%+d bytes)", ui.Size(p.OldSize), ui.Size(p.NewSize), p.NewSize-p.OldSize)
			}
			fmt.Fprintln(out)
		}
		for _, l := range []struct {
			mark string
			list []string
		}{{"+", p.FilesAdded}, {"-", p.FilesGone}, {"~", p.FilesChanged}, {"+", p.DepsAdded}, {"-", p.DepsGone}, {"~ script", p.Scripts}} {
			for _, x := range l.list {
				fmt.Fprintf(out, "    %s %s\n", l.mark, x)
			}
		}
	}
}
