package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// TestEveryCommand keeps the promise of the help: each command says in a line
// what it does, shows how to call it, and what its exit codes mean.
func TestEveryCommand(t *testing.T) {
	t.Parallel()
	root := (&app{clock: time.Now}).root()
	n := 0
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		n++
		t.Run(strings.ReplaceAll(c.CommandPath(), " ", "/"), func(t *testing.T) {
			if c.Short == "" || strings.HasSuffix(c.Short, ".") || c.Short[:1] != strings.ToLower(c.Short[:1]) {
				t.Errorf("short: %q: a line in lower case, without a full stop", c.Short)
			}
			if !strings.Contains(c.Example, c.CommandPath()) {
				t.Errorf("the example does not show %q:\n%s", c.CommandPath(), c.Example)
			}
			if strings.Count(c.Long, "EXIT STATUS") != 1 {
				t.Errorf("long, with EXIT STATUS once:\n%s", c.Long)
			}
			if !c.Runnable() {
				t.Error("it does nothing")
			}
		})
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
	if n < 30 {
		t.Errorf("%d commands only: is the walk complete?", n)
	}
}

// TestExamplesParse runs the arguments and flags of every example through the
// commands' own checks.
func TestExamplesParse(t *testing.T) {
	t.Parallel()
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for line := range strings.Lines(c.Example) {
			line = strings.TrimSpace(line)
			words, ok := fields(line)
			if !ok || words[0] != "slipway" {
				continue
			}
			root := (&app{clock: time.Now}).root()
			found, rest, err := root.Find(words[1:])
			if err == nil {
				err = found.ParseFlags(rest)
			}
			if err == nil {
				err = found.ValidateArgs(found.Flags().Args())
			}
			if err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk((&app{clock: time.Now}).root())
}

// fields splits a line as a shell would, up to the first operator; false for what
// is no plain command.
func fields(line string) ([]string, bool) {
	var out []string
	for i, part := range strings.Split(line, `"`) {
		if i%2 == 1 {
			out = append(out, part)
			continue
		}
		for _, w := range strings.Fields(part) {
			if w == "&&" || w == "|" || w == ">" {
				return out, true
			}
			out = append(out, w)
		}
	}
	return out, len(out) > 0
}

func TestUsageNeverPanics(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{""}, {"--"}, {"--", "--json"}, {"-"}, {"--dir"}, {"--dir="}, {"--dir", ""}, {"help", ""}, {"help", "feed", ""}, {"feed", ""}, {"completion", ""},
		{"--json", "--", "x"}, {"--json=maybe"}, {"log", "", ""}, {"diff", "", ""}, {"-x"},
	} {
		var out, talk bytes.Buffer
		code := Main(t.Context(), append([]string{"--dir", t.TempDir()}, args...), Stdio{In: strings.NewReader(""), Out: &out, Err: &talk})
		switch code {
		case 0, 2, 5:
		default:
			t.Errorf("%q: exit code %d\n%s%s", args, code, out.String(), talk.String())
		}
	}
}
