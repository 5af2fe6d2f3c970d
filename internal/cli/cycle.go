package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway/internal/bitbake"
	"slipway/internal/cycle"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/testresults"
	"slipway/internal/ui"
)

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

func (a *app) buildCmd() *cobra.Command {
	var version string
	var from handover
	c := &cobra.Command{Use: "build", Short: "capture, restore the base, build, collect: ends with a candidate", Args: cobra.NoArgs,
		Example: "  slipway build\n  slipway build --for 1.2\n  slipway build --import /srv/ci/build --part downloads=/srv/downloads",
		Long: `Build captures everything that decides the build (the revision), restores the last
release's databases, builds, and collects the artifacts into a candidate such as
1.2-c1. A build that was cut off is resumed by the same command.

With builder: {kind: import} another CI builds: --import takes the build folder that
it left, looks at all of it, and makes it the candidate (docs/builder-import.md). Parts
that lie elsewhere are named by --part: ` + strings.Join(bitbake.PartNames(), ", ") + `.`,
		RunE: func(c *cobra.Command, _ []string) error {
			handed, err := from.handed()
			if err != nil {
				return err
			}
			return a.with(c.Context(), write, func(ctx context.Context, w *cycle.Workspace) error {
				b, err := w.MakeFrom(ctx, version, handed)
				if err != nil {
					return err
				}
				return a.print(b, func(out io.Writer) {
					kept := 0
					for _, p := range b.Packages {
						if p.Kept {
							kept++
						}
					}
					fmt.Fprintf(out, "candidate %s: %d packages, %d new, %d kept from release %s\nnext: slipway test %s\n",
						b.ID.Candidate(), len(b.Packages), len(b.Packages)-kept, kept, orNone(b.Base), b.ID.Candidate())
				})
			})
		}}
	c.Flags().StringVar(&version, "for", "", "the release's version (default: the next)")
	from.flags(c)
	return c
}

func orNone(v distro.Version) string {
	if v == "" {
		return "(none)"
	}
	return string(v)
}

func (a *app) testCmd() *cobra.Command {
	var opt cycle.TestOptions
	cmd := &cobra.Command{Use: "test [BUILD]", Short: "run every check on a candidate and judge it", Args: maximum(1),
		Example: "  slipway test\n  slipway test 1.2-c1\n  slipway test 1.2-c1 --replay\n  slipway test 1.2-c1 --results tmp/log/oeqa/testresults.json",
		Long: `Test runs every check on a candidate. A question that had a good answer for an
earlier candidate, and for which nothing that decides the answer has changed, is
not asked again, and the check says so; with --again it is.

Releases that gate.upgrade_from takes at random are chosen by a seed, which is
recorded: --replay takes the same ones again, --seed those of another test.

With --results, files of test results (testresults.json of OE-Core's testimage, ptest
and oe-selftest) are kept with the candidate first, and compared with those of the
releases before: docs/test-results.md.`,
		RunE: func(c *cobra.Command, args []string) error {
			if opt.Replay && c.Flags().Changed("seed") {
				return errs.E(errs.Invalid, "--seed and --replay both say which releases to take", errs.Hint("give one of them"))
			}
			return a.with(c.Context(), write, func(ctx context.Context, w *cycle.Workspace) error {
				b, err := w.Test(ctx, first(args), opt)
				if err != nil {
					return err
				}
				return a.verdict(w, b)
			})
		}}
	cmd.Flags().BoolVar(&opt.Again, "again", false, "ask all, also what an earlier candidate has answered")
	cmd.Flags().Uint64Var(&opt.Seed, "seed", 0, "choose the random releases to upgrade from by this number")
	cmd.Flags().BoolVar(&opt.Replay, "replay", false, "choose them as the last test of this candidate did")
	cmd.Flags().StringArrayVar(&opt.Results, "results", nil, "a testresults.json to import (may be repeated)")
	return cmd
}

func (a *app) checkCmd() *cobra.Command {
	var export, page string
	cmd := &cobra.Command{Use: "check [BUILD]", Short: "show the verdict with every check, finding and reason", Args: maximum(1),
		Example: "  slipway check 1.2-c1\n  slipway check --json\n  slipway check 1.2-c1 --html report\n  slipway check 1.2-c1 --testresults testresults.json",
		Long: `Check shows the verdict on a tested candidate, as of now: waivers expire. It runs
nothing; slipway test does.

With --html, DIR/index.html is one page with all that a decision stands on: the
verdict by board, reasons with evidence and cure, waivers, what changed, sizes and
tests over releases, upgrades, boots, the ends of the logs. It is one file that
needs nothing else, for a screen, a phone and paper.`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), read, func(ctx context.Context, w *cycle.Workspace) error {
				b, err := w.Build(ctx, first(args))
				if err != nil {
					return err
				}
				if b.Status == distro.BuildFail {
					return failedBuild(b)
				}
				if b.Candidate.Verdict == nil {
					return errs.E(errs.Pending, fmt.Sprintf("build %s has not been tested", b.ID), errs.Hint("slipway test "+string(b.ID)))
				}
				if export != "" {
					var out bytes.Buffer
					if err := testresults.Write(&out, w.ExportResults(b)); err != nil {
						return err
					}
					if err := os.WriteFile(export, out.Bytes(), 0o644); err != nil {
						return errs.E(errs.Unavailable, "write "+export, err)
					}
				}
				if page != "" {
					if err := writeReport(ctx, w, b, page); err != nil {
						return err
					}
				}
				return a.verdict(w, b)
			})
		}}
	cmd.Flags().StringVar(&page, "html", "", "also write one page to index.html in this `DIR`")
	cmd.Flags().StringVar(&export, "testresults", "", "also write the verdict as a testresults.json, as OE-Core's resulttool reads it")
	return cmd
}

// verdict prints what the gate says now; blocked is exit 7.
func (a *app) verdict(w *cycle.Workspace, b cycle.Build) error {
	v := w.Judge(b)
	type result struct {
		Build     distro.BuildID       `json:"build"`
		Candidate string               `json:"candidate"`
		Status    distro.Status        `json:"status"`
		Verdict   distro.Verdict       `json:"verdict"`
		Checks    []distro.CheckResult `json:"checks"`
		Waivers   []distro.Waiver      `json:"waivers,omitempty"`
		Error     json.RawMessage      `json:"error,omitempty"` // when blocked
	}
	var refused error
	r := result{b.ID, b.ID.Candidate(), v.Status, v, b.Candidate.Checks, b.Candidate.Waivers, nil}
	if v.Status == distro.Blocked {
		refused = errs.E(errs.Refused, fmt.Sprintf("candidate %s is blocked", b.ID.Candidate()), errs.Hint("slipway check "+b.ID.Candidate()))
		r.Error = ui.ErrorJSON(refused)
	}
	if err := a.print(r, func(out io.Writer) { writeVerdict(out, b, v) }); err != nil || refused == nil {
		return err
	}
	return quietly{refused}
}

func writeVerdict(out io.Writer, b cycle.Build, v distro.Verdict) {
	fmt.Fprintf(out, "candidate %s is %s\n\n", b.ID.Candidate(), v.Status)
	rows := [][]string{}
	for _, r := range b.Candidate.Checks {
		said := fmt.Sprintf("%d findings", len(r.Findings))
		switch {
		case r.Error != "":
			said = "did not end: " + firstLine(r.Error)
		case r.Note != "" && len(r.Findings) == 0:
			said = r.Note
		case len(r.Findings) == 0:
			said = "clean"
		case len(r.Findings) == 1:
			said = "1 finding"
		}
		rows = append(rows, []string{r.Spec.ID, string(r.Spec.Level), fmt.Sprint(r.Asked), said})
	}
	ui.Table(out, []string{"CHECK", "LEVEL", "ASKED", "RESULT"}, rows)
	for _, r := range v.Reasons {
		f := r.Finding
		mark := string(f.Level)
		if r.Decides {
			mark = "BLOCKS"
		}
		fmt.Fprintf(out, "\n%s  %s\n  %s\n", mark, f.Key(), indent(f.Text))
		if r.Note != "" {
			fmt.Fprintf(out, "  %s\n", r.Note)
		}
		if r.Waived != nil {
			fmt.Fprintf(out, "  waived by %s until %s: %s\n", r.Waived.By, r.Waived.Expires.Format(time.DateOnly), r.Waived.Because)
		}
		for _, e := range f.Evidence {
			fmt.Fprintf(out, "    | %s\n", e)
		}
		if f.Source != "" {
			fmt.Fprintf(out, "  from: %s%s\n", f.Source, inLayers(f.Paths))
		}
		if f.Since != "" {
			fmt.Fprintf(out, "  last good: %s\n", f.Since)
		}
		if f.Log != "" {
			fmt.Fprintf(out, "  log: slipway log %s %s\n", b.ID.Candidate(), f.Log)
		}
		for _, c := range f.Commits {
			fmt.Fprintf(out, "  commit: %s\n", c)
		}
		if r.Decides && len(f.Commits) > 1 {
			fmt.Fprintf(out, "  which of them: slipway bisect %s --finding %s\n", b.ID.Candidate(), f.Key())
		}
		if f.Cure != "" {
			fmt.Fprintf(out, "  cure: %s\n", f.Cure)
		}
	}
	switch {
	case b.Candidate.Status == distro.Rejected:
		fmt.Fprintf(out, "\nit was rejected: %s\nnext: slipway build\n", b.Candidate.Rejection.Because)
	case v.Status == distro.Blocked:
		fmt.Fprintf(out, "\nnext: mend it and slipway build; or slipway waive %s FINDING --by NAME --because TEXT --expires DATE; or slipway reject %s --because TEXT\n", b.ID.Candidate(), b.ID.Candidate())
	default:
		if b.Candidate.Status != distro.Approved {
			fmt.Fprintf(out, "\nnext: slipway approve %s --by NAME\n", b.ID.Candidate())
		}
	}
}

// failedBuild is why a build has no verdict.
func failedBuild(b cycle.Build) error {
	text, opts := "build "+string(b.ID)+" failed, and has no verdict", []any{}
	if f := b.Failure; f != nil {
		text = fmt.Sprintf("build %s failed, and has no verdict: %s", b.ID, f.Text)
		for _, t := range f.Tasks {
			opts = append(opts, errs.Hintf("slipway log %s %s", b.ID, t))
		}
		for _, p := range f.Paths {
			opts = append(opts, errs.Hint("it is in layer "+p))
		}
		for _, c := range f.Commits[:min(5, len(f.Commits))] {
			opts = append(opts, errs.Hintf("commit since %s: %s", f.Since, c))
		}
	}
	return errs.E(errs.Conflict, text, append(opts, errs.Hint("slipway log "+string(b.ID)))...)
}

func inLayers(paths []string) string {
	if len(paths) == 0 {
		return ""
	}
	return " (" + strings.Join(paths, ", ") + ")"
}

func indent(s string) string    { return strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n  ") }
func firstLine(s string) string { l, _, _ := strings.Cut(s, "\n"); return l }

func (a *app) waiveCmd() *cobra.Command {
	var by, because, expires string
	c := &cobra.Command{Use: "waive BUILD FINDING", Short: "record a named person's dated exception for one finding", Args: cobra.ExactArgs(2),
		Example: "  slipway waive 1.2-c1 upgrades/logline --by \"Ada Byron\" --because \"fixed in 1.3\" --expires 2027-01-31",
		RunE: func(c *cobra.Command, args []string) error {
			until, err := time.Parse(time.DateOnly, expires)
			if err != nil {
				return errs.E(errs.Invalid, fmt.Sprintf("--expires %q is no date", expires), errs.Hint("--expires 2027-01-31"))
			}
			if strings.TrimSpace(by) == "" || strings.TrimSpace(because) == "" {
				return errs.E(errs.Invalid, "a waiver needs a name and a reason", errs.Hint("--by NAME --because TEXT"))
			}
			return a.with(c.Context(), write, func(ctx context.Context, w *cycle.Workspace) error {
				b, err := w.Waive(ctx, args[0], distro.Waiver{Finding: args[1], By: by, Because: because, Expires: until})
				if err != nil {
					return err
				}
				return a.verdict(w, b)
			})
		}}
	c.Flags().StringVar(&by, "by", "", "who says so")
	c.Flags().StringVar(&because, "because", "", "why")
	c.Flags().StringVar(&expires, "expires", "", "the last day but one: from this date on it no longer holds (YYYY-MM-DD)")
	return c
}

func (a *app) approveCmd() *cobra.Command {
	var by, because string
	c := &cobra.Command{Use: "approve BUILD", Short: "make a ready candidate a release: a person's decision", Args: cobra.ExactArgs(1),
		Example: "  slipway approve 1.2-c1 --by \"Ada Byron\"",
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), write, func(ctx context.Context, w *cycle.Workspace) error {
				r, err := w.Approve(ctx, args[0], by, because)
				if err != nil {
					return err
				}
				return a.print(r, func(out io.Writer) {
					fmt.Fprintf(out, "release %s approved by %s\nnext: slipway publish %s\n", r.Version, r.Approval.By, r.Version)
				})
			})
		}}
	c.Flags().StringVar(&by, "by", "", "who approves")
	c.Flags().StringVar(&because, "because", "", "why")
	return c
}

func (a *app) rejectCmd() *cobra.Command {
	var by, because string
	c := &cobra.Command{Use: "reject BUILD", Short: "drop a candidate: its numbers stay burned", Args: cobra.ExactArgs(1),
		Example: "  slipway reject 1.2-c1 --because \"knotctl loses its configuration\"",
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), write, func(ctx context.Context, w *cycle.Workspace) error {
				b, err := w.Reject(ctx, args[0], by, because)
				if err != nil {
					return err
				}
				return a.print(b, func(out io.Writer) {
					fmt.Fprintf(out, "candidate %s rejected: %s\nnext: mend it, commit, slipway build\n", b.ID.Candidate(), b.Candidate.Rejection.Because)
				})
			})
		}}
	c.Flags().StringVar(&by, "by", "", "who rejects")
	c.Flags().StringVar(&because, "because", "", "why")
	return c
}

func (a *app) runCmd() *cobra.Command {
	var yes bool
	var by, version string
	var from handover
	c := &cobra.Command{Use: "run", Short: "build and test; with --yes approve and publish when the gate is green", Args: cobra.NoArgs,
		Example: "  slipway run\n  slipway run --yes --by \"Ada Byron\"",
		RunE: func(c *cobra.Command, _ []string) error {
			if yes && strings.TrimSpace(by) == "" {
				return errs.E(errs.Invalid, "an approval needs a name", errs.Hint("slipway run --yes --by \"Your Name\""))
			}
			handed, err := from.handed()
			if err != nil {
				return err
			}
			return a.with(c.Context(), write, func(ctx context.Context, w *cycle.Workspace) error {
				b, err := w.MakeFrom(ctx, version, handed)
				if err != nil {
					return err
				}
				if b, err = w.Test(ctx, string(b.ID), cycle.TestOptions{}); err != nil {
					return err
				}
				if !yes || b.Candidate.Status != distro.Ready {
					return a.verdict(w, b)
				}
				if _, err := w.Approve(ctx, string(b.ID), by, "slipway run --yes: the gate was green"); err != nil {
					return err
				}
				r, err := w.Publish(ctx, b.Version)
				if err == nil {
					err = a.copyOut(ctx, w)
				}
				if err != nil {
					return err
				}
				return a.print(r, func(out io.Writer) { fmt.Fprintf(out, "release %s is published: serial %d\n", r.Version, r.Serial) })
			})
		}}
	c.Flags().BoolVar(&yes, "yes", false, "approve and publish when the gate is green")
	c.Flags().StringVar(&by, "by", "", "who approves")
	c.Flags().StringVar(&version, "for", "", "the release's version (default: the next)")
	from.flags(c)
	return c
}

func (a *app) restoreCmd() *cobra.Command {
	var into string
	c := &cobra.Command{Use: "restore VERSION", Short: "bring a release back as one set, every byte checked", Args: cobra.ExactArgs(1),
		Example: "  slipway restore 1.1 --into ./release-1.1",
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), write, func(ctx context.Context, w *cycle.Workspace) error {
				v, _, err := distro.ParseVersion(w.Definition.Series.Name, args[0])
				if err != nil {
					return err
				}
				r, err := w.Restore(ctx, v, into)
				if err != nil {
					return err
				}
				return a.print(r, func(out io.Writer) {
					fmt.Fprintf(out, "release %s is in %s: %d packages, %d other artifacts, %s\n", r.Version, r.Dir, r.Packages, r.Artifacts, strings.Join(r.Layers, ", "))
				})
			})
		}}
	c.Flags().StringVar(&into, "into", "", "an empty or absent folder (default: .slipway/restored/VERSION)")
	return c
}
