package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"slipway/internal/check/security"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/ui"
)

func (a *app) imageCheckCmd() *cobra.Command {
	var sarif, rules bool
	var allow []string
	c := &cobra.Command{Use: "check FILE", Short: "look for passwords, keys, rights, feeds and services that an image should not have", Args: maximum(1),
		Example: "  slipway image check core-image.wic.gz\n  slipway image check rootfs.ext4 --json\n  slipway image check ./rootfs --allow setuid:usr/bin/vendor-tool --allow 'service:vendor-*'",
		Long: `Check reads an image and asks whether it is safe from the first second. It takes
any image, from anywhere: ext2, ext3, ext4, squashfs, vfat, disks of those with a
GPT or MBR (.wic), tar archives, each also compressed by gzip, bzip2, xz or zstd,
and plain folders. It needs no workspace, mounts nothing, and writes nothing.

Exit status is 0 when nothing blocks, 7 when something does, and 1 when the image
cannot be read, one that is truncated or damaged included. What an image does not
have (an rpm database, a manifest beside it, an init) is a note.`,
		RunE: func(c *cobra.Command, args []string) error {
			if rules {
				return a.print(security.Rules, writeRules)
			}
			if len(args) == 0 {
				return errs.E(errs.Invalid, "image check needs a file or folder", errs.Hint("slipway image check FILE"))
			}
			if sarif && a.json {
				return errs.E(errs.Invalid, "--sarif and --json both say how to print", errs.Hint("give one of them"))
			}
			policy := security.Policy{Allow: map[string][]string{}}
			for _, s := range allow {
				rule, object, ok := strings.Cut(s, ":")
				if !ok || object == "" {
					return errs.E(errs.Invalid, fmt.Sprintf("--allow %q names no rule and object", s), errs.Hint("--allow setuid:usr/bin/vendor-tool"))
				}
				policy.Allow[rule] = append(policy.Allow[rule], object)
			}
			return a.checkImage(c.Context(), args[0], policy, sarif)
		}}
	c.Flags().BoolVar(&sarif, "sarif", false, "print the result as SARIF 2.1.0")
	c.Flags().BoolVar(&rules, "rules", false, "list the rules, and end")
	c.Flags().StringArrayVar(&allow, "allow", nil, "RULE:OBJECT, no finding; * in it stands for any text (may be repeated)")
	return c
}

func writeRules(out io.Writer) {
	rows := make([][]string, len(security.Rules))
	for i, r := range security.Rules {
		rows[i] = []string{r.ID, string(r.Level), r.Asks}
	}
	ui.Table(out, []string{"RULE", "LEVEL", "ASKS"}, rows)
}

func (a *app) checkImage(ctx context.Context, name string, policy security.Policy, sarif bool) error {
	if err := policy.Err(security.RuleIDs()); err != nil {
		return err
	}
	r, err := security.Examine(ctx, name, security.Options{Policy: policy})
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		// Whatever the reason: an image that nobody could read has not passed.
		opts := []any{err}
		for _, h := range errs.Hints(err) {
			opts = append(opts, errs.Hint(h))
		}
		return errs.E(errs.Failed, "the image cannot be read", opts...)
	}
	var refused error
	if n := r.Blocking(); n > 0 {
		refused = errs.E(errs.Refused, fmt.Sprintf("image %s: %d findings block", name, n))
	}
	if sarif {
		enc := json.NewEncoder(a.Out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		err = enc.Encode(r.SARIF(Version))
	} else {
		type result struct {
			*security.Report
			Error json.RawMessage `json:"error,omitempty"` // when blocked
		}
		x := result{Report: r}
		if refused != nil {
			x.Error = ui.ErrorJSON(refused)
		}
		err = a.print(x, func(out io.Writer) { writeImageReport(out, r) })
	}
	if err != nil || refused == nil {
		return err
	}
	return quietly{refused}
}

func writeImageReport(out io.Writer, r *security.Report) {
	what := r.Kind
	if len(r.Parts) > 1 {
		var kinds []string
		for _, p := range r.Parts {
			kinds = append(kinds, p.Kind)
		}
		what += " of " + strings.Join(kinds, ", ")
	}
	fmt.Fprintf(out, "image %s: %s; %d files\n", r.File, what, r.Files)
	rule := ""
	for _, f := range r.Findings {
		id := string(f.Level) + "\x00" + f.Rule
		if id != rule {
			fmt.Fprintf(out, "\n%-5s  %s\n", f.Level, f.Rule)
		}
		rule = id
		where := ""
		if f.Line > 0 {
			where = fmt.Sprintf(" (line %d)", f.Line)
		}
		if f.Part > 0 && len(r.Parts) > 1 {
			where += fmt.Sprintf(" [partition %d]", f.Part)
		}
		fmt.Fprintf(out, "       %s%s\n", f.Text, where)
	}
	cures := map[string]bool{}
	for _, f := range r.Findings {
		if f.Level == distro.Block && !cures[f.Rule] {
			if len(cures) == 0 {
				fmt.Fprintln(out, "\nwhat to do:")
			}
			cures[f.Rule] = true
			fmt.Fprintf(out, "  %s: %s\n", f.Rule, f.Cure)
		}
	}
	if len(r.Notes) > 0 {
		fmt.Fprintln(out)
		for _, n := range r.Notes {
			fmt.Fprintf(out, "note: %s\n", n)
		}
	}
	blocking := r.Blocking()
	fmt.Fprintf(out, "\n%s: %d questions, %d findings, of which %d block\n", r.Status, r.Asked, len(r.Findings), blocking)
}
