package cli

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"slipway/internal/check/own"
	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/errs"
)

// checkLine is a check, and what the policy of a workspace makes of it.
type checkLine struct {
	distro.CheckSpec
	Policy distro.Level `json:"policy,omitempty"` // of slipway.yaml, where it has one
	Own    bool         `json:"own,omitempty"`    // of the distribution's repository
}

func (a *app) checksCmd() *cobra.Command {
	return &cobra.Command{Use: "checks", Short: "list the checks: what each asks, how much it weighs, what to do about a finding", Args: cobra.NoArgs,
		Example: "  slipway checks\n  slipway checks --json",
		Long: `Checks lists what slipway test asks of a candidate of this workspace, the
distribution's own checks included, with the level that gate: checks: of slipway.yaml
gives them. Without a workspace it lists all that there are.`,
		RunE: func(*cobra.Command, []string) error {
			lines, err := a.checkLines()
			if err != nil {
				return err
			}
			return a.print(lines, func(out io.Writer) { writeChecks(out, lines) })
		}}
}

func (a *app) checkLines() ([]checkLine, error) {
	dir, err := filepath.Abs(a.dir)
	if err != nil {
		return nil, errs.E(errs.Invalid, "workspace "+a.dir, err)
	}
	all, policy := allChecks(), map[string]config.CheckPolicy{}
	def, _, err := load(dir)
	switch {
	case errs.Is(err, errs.NotFound): // no workspace
	case err != nil:
		return nil, err
	default:
		mine, err := ownChecks(dir)
		if err != nil {
			return nil, err
		}
		all, policy = append(checks(def.Builder.Kind), mine...), def.Gate.Checks
	}
	lines := make([]checkLine, len(all))
	for i, c := range all {
		s := c.Spec()
		lines[i] = checkLine{CheckSpec: s, Policy: distro.Level(policy[s.ID]), Own: strings.HasPrefix(s.ID, own.Prefix)}
	}
	return lines, nil
}

func writeChecks(out io.Writer, lines []checkLine) {
	for i, l := range lines {
		if i > 0 {
			fmt.Fprintln(out)
		}
		level := string(l.Level)
		if l.Policy != "" && l.Policy != l.Level {
			level = fmt.Sprintf("%s by the policy, %s by itself", l.Policy, l.Level)
		}
		fmt.Fprintf(out, "%s: %s\n  asks: %s\n  cure: %s\n", l.ID, level, l.Asks, l.Cure)
	}
}
