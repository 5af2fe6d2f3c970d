package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway/internal/cycle"
	"slipway/internal/errs"
	"slipway/internal/ui"
)

func (a *app) bisectCmd() *cobra.Command {
	var opt cycle.BisectOptions
	var drop bool
	c := &cobra.Command{Use: "bisect [[GOOD] BAD]", Short: "find the commit that broke a build or a check, by building what lies between", Args: maximum(2),
		Example: "  slipway bisect 1.2-b3\n  slipway bisect 1.2-c4 --finding installs/greet.noarch\n  slipway bisect 1.1 1.2-c4\n  slipway bisect",
		Long: `Bisect narrows the commits of the layers between a good and a bad build, each time
by half: it builds the state between, and of a candidate asks the check whose finding
it is. GOOD and BAD are builds, candidates or releases; without GOOD it is the last
one that was good.

It builds in a folder of its own, .slipway/bisect: your work tree, the numbers, the
records of builds and the publication stay as they are. What it has found is kept
after every build: stopped or killed, the same command, or slipway bisect alone,
goes on. --drop forgets it.`,
		RunE: func(c *cobra.Command, args []string) error {
			if drop && (len(args) > 0 || opt.Finding != "") {
				return errs.E(errs.Invalid, "--drop takes nothing else")
			}
			if len(args) == 0 && opt.Finding != "" {
				return errs.E(errs.Invalid, "--finding belongs to a candidate", errs.Hint("slipway bisect BUILD --finding KEY"))
			}
			switch len(args) {
			case 1:
				opt.Bad = args[0]
			case 2:
				opt.Good, opt.Bad = args[0], args[1]
			}
			return a.with(c.Context(), write, func(ctx context.Context, w *cycle.Workspace) error {
				if drop {
					if _, err := w.LastBisect(ctx); err != nil {
						return err
					}
					return w.DropBisect(ctx)
				}
				s, err := w.Bisect(ctx, opt)
				if err != nil {
					return err
				}
				if s.First != nil {
					return a.print(s, func(out io.Writer) { writeBisect(out, s) })
				}
				partly := errs.E(errs.Partial, "the commits that are left cannot be told apart by builds", errs.Hint("slipway bisect GOOD BAD, with builds of another range"))
				if err := a.print(s, func(out io.Writer) { writeBisect(out, s) }); err != nil {
					return err
				}
				return quietly{partly}
			})
		}}
	c.Flags().StringVar(&opt.Finding, "finding", "", "the finding of the candidate to look for (default: the first that blocks)")
	c.Flags().BoolVar(&drop, "drop", false, "forget the search that was not finished")
	return c
}

func writeBisect(out io.Writer, s cycle.Bisection) {
	what := "why build " + string(s.Bad) + " failed"
	if s.Finding != "" {
		what = "what brought " + s.Finding + " of " + s.Bad.Candidate()
	}
	builds := fmt.Sprintf("%d builds", len(s.Trials))
	if len(s.Trials) == 1 {
		builds = "1 build"
	}
	fmt.Fprintf(out, "%s, since %s, by %s\n", what, s.Good.Candidate(), builds)
	if len(s.Trials) > 0 {
		rows := [][]string{}
		for _, t := range s.Trials {
			var at []string
			for _, c := range t.Commits {
				at = append(at, fmt.Sprintf("%.10s", c))
			}
			rows = append(rows, []string{strings.Join(at, " "), t.Outcome, firstLine(t.Text)})
		}
		fmt.Fprintln(out)
		ui.Table(out, []string{"TRIED", "OUTCOME", "WHY"}, rows)
	}
	if f := s.First; f != nil {
		fmt.Fprintf(out, "\nfirst bad: %s\n  layer: %s\n  author: %s, %s\n  subject: %s\n", f.Commit, strings.Join(f.Layers, ", "), f.Author, f.Date.Format(time.DateOnly), f.Subject)
		for _, name := range f.Files {
			fmt.Fprintf(out, "  file: %s\n", strings.Replace(name, "\t", " ", 1))
		}
		for i := len(s.Trials) - 1; i >= 0; i-- {
			if t := s.Trials[i]; t.Outcome == cycle.TrialBad && len(t.Log) > 0 {
				fmt.Fprintln(out, "  the last bad one said:")
				for _, l := range t.Log {
					fmt.Fprintf(out, "    | %s\n", l)
				}
				break
			}
		}
		fmt.Fprintf(out, "\nnext: mend it or git revert %.10s, commit, slipway build\n", f.Commit)
		return
	}
	fmt.Fprintln(out, "\none of these, that no build could tell apart:")
	for _, x := range s.Suspects {
		fmt.Fprintf(out, "  %s\n", x)
	}
}
