package cli

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"slipway/internal/errs"
)

// finish gives every command its exit status, and usage errors their kind.
func finish(c *cobra.Command) {
	if c.Long == "" {
		c.Long = strings.ToUpper(c.Short[:1]) + c.Short[1:] + "."
	}
	c.Long += "\n" + exitStatus
	if args := c.Args; args != nil {
		c.Args = func(c *cobra.Command, got []string) error {
			if args(c, got) == nil {
				return nil
			}
			if len(got) > 0 && c.HasSubCommands() {
				return unknownCommand(c, got[0])
			}
			return badArguments(c, got)
		}
	}
	for _, sub := range c.Commands() {
		finish(sub)
	}
}

func unknownCommand(c *cobra.Command, name string) error {
	var names []string
	for _, s := range c.Commands() {
		names = append(names, s.Name())
	}
	opts := []any{errs.Hint(c.CommandPath() + " --help")}
	if n := errs.Near(name, names); n != "" {
		opts = []any{errs.Hintf("did you mean %q?", c.CommandPath()+" "+n)}
	}
	return errs.E(errs.Invalid, fmt.Sprintf("%q is no command of %s", name, c.CommandPath()), opts...)
}

// badArguments says what a command takes, from its usage line, and what it got.
func badArguments(c *cobra.Command, got []string) error {
	_, takes, _ := strings.Cut(c.Use, " ")
	if takes == "" {
		takes = "no arguments"
	}
	given := "none is given"
	if len(got) > 0 {
		given = "given: " + strings.Trim(fmt.Sprintf("%q", got), "[]")
	}
	return errs.E(errs.Invalid, fmt.Sprintf("%s takes %s; %s", c.CommandPath(), takes, given), errs.Hint(c.CommandPath()+" --help"))
}

// flagName finds flags in their usage text: to walk over them needs a type of pflag.
var flagName = regexp.MustCompile(`(?m)^ +(?:-\w, |    )--([\w-]+)`)

func badFlag(c *cobra.Command, err error) error {
	opts := []any{errs.Hint(c.CommandPath() + " --help")}
	if name, ok := strings.CutPrefix(err.Error(), "unknown flag: --"); ok {
		var names []string
		for _, m := range flagName.FindAllStringSubmatch(c.Flags().FlagUsages(), -1) {
			names = append(names, m[1])
		}
		if n := errs.Near(name, names); n != "" {
			opts = []any{errs.Hintf("did you mean --%s?", n)}
		}
	}
	return errs.E(errs.Invalid, err.Error(), opts...)
}

// wantsJSON finds --json where the flags could not be parsed to their end.
func wantsJSON(args []string) bool {
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i]
	}
	return slices.Contains(args, "--json")
}

func helpCmd() *cobra.Command {
	return &cobra.Command{Use: "help [COMMAND]...", Short: "help about any command", Example: "  slipway help build\n  slipway help config check",
		RunE: func(c *cobra.Command, args []string) error {
			found, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(found, args[len(args)-max(1, len(rest))])
			}
			return found.Help()
		}}
}

// describeCompletion gives cobra's completion commands what all others have.
func describeCompletion(root *cobra.Command) {
	for _, c := range root.Commands() {
		if c.Name() != "completion" {
			continue
		}
		c.Short, c.Example = "print the completion script of a shell", "  source <(slipway completion bash)"
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
		for _, shell := range c.Commands() {
			shell.Example = map[string]string{
				"bash":       "  source <(slipway completion bash)",
				"zsh":        "  source <(slipway completion zsh)",
				"fish":       "  slipway completion fish | source",
				"powershell": "  slipway completion powershell | Out-String | Invoke-Expression",
			}[shell.Name()]
			shell.Short = "print the completion script of " + shell.Name()
		}
	}
}
