package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// startLimit is DESIGN.md's, section 3.
const startLimit = 20 * time.Millisecond

// start: what slipway costs before it does anything.
func (b *bench) start(ctx context.Context) error {
	program, err := filepath.Abs(b.slipway)
	if err != nil {
		return err
	}
	const times = 21 // each is short: more of them for a steady median
	results, err := compare(ctx, times, job{name: "slipway --version", args: []string{program, "--version"}})
	if err != nil {
		return err
	}
	r := results[0]
	kept := "kept"
	if r.median() > startLimit {
		kept = "**missed**"
	}
	fmt.Fprintf(b.out, "## Start\n\n| command | CPU, median of %d (lowest to highest) | limit | |\n| --- | ---: | ---: | --- |\n", times)
	fmt.Fprintf(b.out, "| `%s` | %s (%s to %s) | %d ms | %s |\n", r.name, perItem(r.median()), perItem(r.cpu[0]), perItem(r.cpu[times-1]), startLimit.Milliseconds(), kept)
	return nil
}

// cycle: the first release of the example, command by command.
func (b *bench) cycle(ctx context.Context) error {
	program, err := filepath.Abs(b.slipway)
	if err != nil {
		return err
	}
	commands := [][]string{
		{"init", "workspace", "--example", "halyard-packages"},
		{"build", "--dir", "workspace"},
		{"test", "--dir", "workspace"},
		{"approve", "--dir", "workspace", "1.1-c1", "--by", "Bench"},
		{"publish", "--dir", "workspace", "1.1"},
		{"verify", "--dir", "workspace"},
	}
	results := make([]result, len(commands))
	for n := range b.runs {
		home := filepath.Join(b.dir, fmt.Sprint(n))
		if err := os.Mkdir(home, 0o755); err != nil {
			return err
		}
		for i, args := range commands {
			one, err := compare(ctx, 1, job{name: "slipway " + args[0], args: append([]string{program}, args...), dir: home,
				env: []string{"HOME=" + home, "XDG_CONFIG_HOME=" + filepath.Join(home, "config")}})
			if err != nil {
				return err
			}
			results[i].job = one[0].job
			results[i].cpu = append(results[i].cpu, one[0].cpu...)
		}
	}
	packages, err := filepath.Glob(filepath.Join(b.dir, "0/workspace/publication/1/pool/rpm/*/*/*.rpm"))
	if err != nil || len(packages) == 0 {
		return fmt.Errorf("nothing was published: %w", err)
	}
	fmt.Fprintf(b.out, "## One release of Halyard\n\nThe first release of the example, %d packages, each command in a process of its own, all that it starts counted: rpmbuild and gcc in `build`, dnf and rpm in `test`. No peer: absolute figures.\n\n| command | CPU seconds (lowest to highest) |\n| --- | ---: |\n", len(packages))
	for _, r := range results {
		slices.Sort(r.cpu)
		fmt.Fprintf(b.out, "| `%s` | %s |\n", r.name, r.spread())
	}
	return nil
}
