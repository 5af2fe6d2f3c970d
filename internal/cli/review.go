package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"slipway/internal/cycle"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/report"
	"slipway/internal/ui"
)

func (a *app) reviewCmd() *cobra.Command {
	var component, by, because, page string
	c := &cobra.Command{Use: "review [BUILD]", Short: "rank a candidate's changes by risk, and record who has looked at them", Args: maximum(1),
		Example: "  slipway review 1.2-c1\n  slipway review 1.2-c1 --html review.html\n  slipway review 1.2-c1 --sign-off libknot --by \"Ada Byron\"",
		Long: `Review lists what a candidate changes, by component (recipe or spec), the riskiest
first, each with the reasons of its score: findings of the checks, scripts, versions,
who depends on it. Only a component whose score reaches gate: review: score: of
slipway.yaml asks for a person. --sign-off records that one has looked; it becomes
part of the release statement.`,
		RunE: func(c *cobra.Command, args []string) error {
			if component == "" && (c.Flags().Changed("by") || c.Flags().Changed("because")) {
				return errs.E(errs.Invalid, "--by and --because belong to --sign-off COMPONENT")
			}
			m := read
			if component != "" {
				m = write
			}
			return a.with(c.Context(), m, func(ctx context.Context, w *cycle.Workspace) error {
				var r cycle.Review
				var err error
				if component != "" {
					r, err = w.SignOff(ctx, first(args), distro.SignOff{Component: component, By: by, Because: because})
				} else {
					r, err = w.Review(ctx, first(args))
				}
				if err != nil {
					return err
				}
				if page != "" {
					if err := writePage(page, func(out io.Writer) error { return report.Review(out, w.Definition.Title, r) }); err != nil {
						return err
					}
				}
				return a.print(r, func(out io.Writer) { writeReview(out, r, page) })
			})
		}}
	c.Flags().StringVar(&component, "sign-off", "", "the component that was looked at")
	c.Flags().StringVar(&by, "by", "", "who has looked")
	c.Flags().StringVar(&because, "because", "", "what they say of it")
	c.Flags().StringVar(&page, "html", "", "also write one page to this `FILE`")
	return c
}

// writeReport writes the page of a candidate into a folder, which it makes.
func writeReport(ctx context.Context, w *cycle.Workspace, b cycle.Build, dir string) error {
	r, err := w.Report(ctx, string(b.ID))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return errs.E(errs.Unavailable, "make "+dir, err, errs.Hint("--html names a folder: the page is index.html in it"))
	}
	return writePage(filepath.Join(dir, "index.html"), func(out io.Writer) error { return report.Check(out, r) })
}

// writePage writes a file whole or not at all.
func writePage(name string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".page-")
	if err != nil {
		return errs.E(errs.Unavailable, "write "+name, err)
	}
	defer os.Remove(f.Name())
	err = write(f)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errs.E(errs.Unavailable, "write "+name, err)
	}
	return nil
}

func writeReview(out io.Writer, r cycle.Review, page string) {
	since := "the first release"
	if r.Base != "" {
		since = "since release " + string(r.Base)
	}
	fmt.Fprintf(out, "candidate %s is %s: %s, %d components changed, %d packages the same\n", r.Candidate, r.Status, since, len(r.Components), r.Same)
	for _, c := range r.Components {
		asks := ""
		switch {
		case c.SignOff != nil:
			asks = ", signed off by " + c.SignOff.By
		case c.Asks:
			asks = ", asks for a person"
		}
		fmt.Fprintf(out, "\n%s: %s risk, %d points%s\n", c.Name, c.Risk, c.Score, asks)
		for _, l := range []struct {
			what string
			list []string
		}{{"owners", c.Owners}, {"packages", inShort(c.Packages)}, {"needed by", c.Dependents}} {
			if len(l.list) > 0 {
				fmt.Fprintf(out, "  %s: %s\n", l.what, strings.Join(l.list, ", "))
			}
		}
		for _, p := range c.Reasons {
			fmt.Fprintf(out, "  %+d %s\n", p.Points, p.Why)
		}
		for _, b := range c.Breaks {
			fmt.Fprintf(out, "  breaks %s\n", b)
		}
		for _, commit := range c.Commits {
			fmt.Fprintf(out, "  commit %s\n", commit)
		}
	}
	if len(r.General) > 0 {
		fmt.Fprintln(out, "\nfindings of no component")
		rows := [][]string{}
		for _, f := range r.General {
			rows = append(rows, []string{string(f.Level), f.Key, f.Text})
		}
		ui.Table(out, []string{"LEVEL", "FINDING", "TEXT"}, rows)
	}
	if page != "" {
		fmt.Fprintf(out, "\nthe page: %s\n", page)
	}
	switch {
	case len(r.Open) > 0:
		fmt.Fprintf(out, "\nnext: look at %s; slipway review %s --sign-off %s --by \"Your Name\"\n", strings.Join(r.Open, ", "), r.Candidate, r.Open[0])
	case r.Blocking > 0:
		fmt.Fprintf(out, "\nnext: %d findings block; slipway check %s\n", r.Blocking, r.Candidate)
	case r.Status == distro.Ready:
		fmt.Fprintf(out, "\nnext: nothing asks for a person any more; slipway approve %s --by \"Your Name\"\n", r.Candidate)
	}
}

func inShort(all []cycle.PackageChange) []string {
	var out []string
	for _, p := range all {
		switch p.Change {
		case "added":
			out = append(out, fmt.Sprintf("%s.%s %s is new", p.Name, p.Arch, p.New))
		case "gone":
			out = append(out, fmt.Sprintf("%s.%s %s is gone", p.Name, p.Arch, p.Old))
		default:
			out = append(out, fmt.Sprintf("%s.%s %s to %s", p.Name, p.Arch, p.Old, p.New))
		}
	}
	return out
}
