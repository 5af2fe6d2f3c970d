// Benchtool measures Slipway beside the tools that people use for the same job,
// for scripts/bench. `make bench` runs it; docs/benchmarks.md holds the result.
//
//	benchtool metadata|index|publish|growth|signing|headers|start|cycle [-n PACKAGES] [-runs 3] [-slipway FILE]
//
// Each of these prints one section of Markdown. What is measured is the CPU time,
// user and system, of a whole process tree, see measure; ours and the peer take
// turns, and the median counts. Ours runs as this program too, in a process of
// its own (do-index, do-sign, do-read), so that its start is paid for like the
// peer's. What both wrote is checked before a figure is printed.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"

	"slipway/internal/heap"
)

// bench is one run of one section.
type bench struct {
	out     io.Writer
	self    string // this program
	slipway string // the program that is measured by start and cycle
	dir     string // an empty folder, removed at the end
	n, runs int
}

var sections = map[string]struct {
	n  int // packages, when -n does not say
	do func(*bench, context.Context) error
}{
	"metadata": {2000, (*bench).metadata},
	"signing":  {1000, (*bench).signing},
	"headers":  {2000, (*bench).headers},
	"index":    {10000, (*bench).index},
	"publish":  {50000, (*bench).publish},
	"growth":   {5000, (*bench).growth},
	"start":    {0, (*bench).start},
	"cycle":    {0, (*bench).cycle},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "benchtool:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("name a section: metadata, index, publish, growth, signing, headers, start or cycle")
	}
	if do := work[args[0]]; do != nil {
		heap.Patient() // as slipway does
		return profiled(func() error { return do(ctx, args[1:]) })
	}
	s, ok := sections[args[0]]
	if !ok {
		return fmt.Errorf("there is no section %q", args[0])
	}
	b := &bench{out: os.Stdout}
	flags := flag.NewFlagSet("benchtool "+args[0], flag.ContinueOnError)
	flags.IntVar(&b.n, "n", s.n, "packages")
	flags.IntVar(&b.runs, "runs", 3, "how often each is run; the median counts")
	flags.StringVar(&b.slipway, "slipway", "build/slipway", "the program that start and cycle measure")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if b.n < 0 || s.n > 0 && b.n == 0 || b.runs < 1 {
		return fmt.Errorf("-n and -runs are at least 1")
	}
	var err error
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "slipway-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if err := becomeReaper(); err != nil {
		return err
	}
	return s.do(b, ctx)
}

// output runs a program that is not measured, and gives what it printed.
func output(ctx context.Context, debian, name string, args ...string) (string, error) {
	if _, err := exec.LookPath(name); err != nil {
		return "", fmt.Errorf("%s is missing: apt-get install %s", name, debian)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}
