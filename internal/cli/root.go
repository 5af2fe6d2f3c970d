// Package cli is Slipway's command line: it parses, wires the adapters to the
// services, and prints. What a command does stands in package cycle and its
// neighbours.
//
// Results go to stdout, talk goes to stderr. --json gives one object (or JSON
// lines where the help says so), the final error included. The exit code is
// errs.ExitCode of the error that a command returns, nothing else.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway/internal/errs"
	"slipway/internal/ui"
)

// Version of the program; the build may set it.
var Version = "0.1.0"

// Stdio is what a command reads and writes.
type Stdio struct {
	In    io.Reader
	Out   io.Writer
	Err   io.Writer
	Clock func() time.Time // nil: the machine's; tests fix it
	// Program is the path of slipway itself, which is started again to hold the keys;
	// empty in tests: then this process does.
	Program string
}

// app is one run of the program.
type app struct {
	Stdio
	dir     string
	json    bool
	quiet   bool
	wait    time.Duration
	args    []string
	clock   func() time.Time
	printer *ui.Printer
}

// Main runs one command and gives its exit code.
func Main(ctx context.Context, args []string, stdio Stdio) int {
	a := &app{Stdio: stdio, args: args, clock: stdio.Clock}
	if a.clock == nil {
		a.clock = time.Now
	}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(stdio.In)
	root.SetOut(stdio.Out)
	root.SetErr(stdio.Err)
	err := root.ExecuteContext(ctx)
	if a.printer != nil {
		a.printer.Close()
	}
	if err != nil && ctx.Err() != nil && !errs.Is(err, errs.Interrupted) {
		err = errs.E(errs.Interrupted, "stopped", err)
	}
	if err == nil {
		return 0
	}
	var said quietly
	switch {
	case errors.As(err, &said):
	case a.json || wantsJSON(args):
		a.Out.Write(ui.ErrorJSON(err))
	default:
		ui.PrintError(a.Err, err, a.color(a.Err))
	}
	return errs.ExitCode(err)
}

// quietly is an error that the command has already printed as part of its result.
type quietly struct{ error }

func (q quietly) Unwrap() error { return q.error }

const exitStatus = `
EXIT STATUS
  0 done  1 failed  2 usage or configuration  3 part of the work failed
  4 denied  5 not found  6 locked or conflict  7 refused by a gate
  8 waiting  130 interrupted`

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "slipway",
		Short: "the whole life of a binary distribution, in one program",
		Long: `Slipway runs the life of a binary distribution: build, inspect and test, fix or
release, sign and publish, restore the last release, build the next.

The daily cycle is:  slipway build, test, approve, publish.  slipway status says
where everything stands and what comes next. slipway demo shows all of it.`,
		Example:       "  slipway demo --dir ./demo\n  slipway status",
		Version:       Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetVersionTemplate("slipway {{.Version}}\n")
	pf := root.PersistentFlags()
	pf.StringVar(&a.dir, "dir", ".", "the workspace")
	pf.BoolVar(&a.json, "json", false, "print the result as JSON")
	pf.BoolVarP(&a.quiet, "quiet", "q", false, "no progress")
	pf.DurationVar(&a.wait, "wait", 10*time.Minute, "how long approve, reject, waive and publish wait for each other")
	root.SetFlagErrorFunc(badFlag)
	root.AddGroup(&cobra.Group{ID: "cycle", Title: "The cycle:"}, &cobra.Group{ID: "look", Title: "Looking:"},
		&cobra.Group{ID: "setup", Title: "Setting up:"})
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("cycle", a.buildCmd(), a.testCmd(), a.checkCmd(), a.reviewCmd(), a.waiveCmd(), a.approveCmd(), a.rejectCmd(), a.publishCmd(), a.withdrawCmd(), a.tombstoneCmd(), a.advisoryCmd(), a.runCmd(), a.restoreCmd(), a.rebuildCmd(), a.imageCmd())
	add("look", a.statusCmd(), a.nextCmd(), a.logCmd(), a.diffCmd(), a.bisectCmd(), a.checksCmd(), a.feedCmd(), a.verifyCmd(), a.serveCmd(), a.bootCmd())
	add("setup", a.demoCmd(), a.initCmd(), a.configCmd(), a.keyCmd(), a.signerCmd(), a.sstateCmd(), a.sourceCmd(), a.componentCmd())
	add("setup", a.hashservCmd(), a.prservCmd(), a.gcCmd())
	root.SetHelpCommand(helpCmd())
	root.SetHelpCommandGroupID("look")
	root.SetCompletionCommandGroupID("setup")
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	describeCompletion(root)
	finish(root)
	return root
}

// group makes a command that only has commands below it.
func group(use, short, example string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Example: example, Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(subs...)
	return c
}

// print writes a result: v as JSON with --json, else what human writes.
func (a *app) print(v any, human func(w io.Writer)) error {
	if a.printer != nil {
		a.printer.Close()
		a.printer = nil
	}
	if a.json {
		enc := json.NewEncoder(a.Out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	human(a.Out)
	return nil
}

// talk gives the printer of progress, made on first use.
func (a *app) talk() *ui.Printer {
	if a.printer == nil {
		o := ui.Options{Out: a.Err, Quiet: a.quiet, NoColor: true}
		if f, ok := a.Err.(*os.File); ok {
			o = ui.Detect(f, a.quiet)
		}
		a.printer = ui.New(o)
	}
	return a.printer
}

func (a *app) color(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && ui.IsTerminal(f)
}

// command is what locks and journals say of this run.
func (a *app) command() string { return "slipway " + strings.Join(a.args, " ") }

func maximum(n int) cobra.PositionalArgs { return cobra.MaximumNArgs(n) }
