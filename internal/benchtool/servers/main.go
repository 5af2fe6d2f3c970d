// Command servers measures Slipway's hash equivalence server beside BitBake's:
// the same rows, the same load, one after the other in one run. It prints a
// section of docs/benchmarks.md.
//
// What counts is requests per CPU second of the server, read from /proc: the
// load generator and other work share the machine's processors, wall time says
// little.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

type config struct {
	slipway, bitbake, dir string
	rows, runs            int
	length                time.Duration
	conns                 []int
	only                  string
	more                  []string
	gc, far, big          bool
	postgres              bool
	database              func() time.Duration // its processor time, nil for a file
	cache                 string
}

func main() {
	var c config
	flag.StringVar(&c.slipway, "slipway", "build/slipway", "our program")
	flag.StringVar(&c.bitbake, "bitbake", os.Getenv("SLIPWAY_TEST_BITBAKE"), "a checkout of BitBake; without one only we are measured")
	flag.IntVar(&c.rows, "rows", 100_000, "rows of the database")
	flag.IntVar(&c.runs, "runs", 5, "runs of each load; the median counts")
	flag.DurationVar(&c.length, "length", time.Second, "of one run")
	flag.StringVar(&c.only, "only", "", "loads whose name holds this")
	flag.BoolVar(&c.gc, "gc", false, "measure a collection instead")
	flag.BoolVar(&c.far, "far", false, "measure an upstream 20 ms away instead")
	flag.BoolVar(&c.big, "big", false, "measure the start of our server alone instead")
	flag.BoolVar(&c.postgres, "postgres", false, "measure both on a PostgreSQL server instead, which is started (Debian's postgresql, python3-asyncpg and python3-sqlalchemy)")
	flag.StringVar(&c.cache, "cache", "", "a folder where databases are kept from one run to the next")
	more := flag.String("more", "", "further arguments of our server, with blanks between them")
	conns := flag.String("conns", "1,8,64", "connections")
	flag.Parse()
	for _, s := range strings.Split(*conns, ",") {
		var n int
		fmt.Sscan(s, &n)
		c.conns = append(c.conns, n)
	}
	c.more = strings.Fields(*more)
	if err := run(context.Background(), c, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		os.Exit(1)
	}
}

// side is one of the two programs.
type side struct {
	name string
	argv []string
	db   string
	more []string
}

func run(ctx context.Context, c config, out io.Writer) error {
	var err error
	if c.dir, err = os.MkdirTemp("", "slipway-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(c.dir)
	ours, theirs := filepath.Join(c.dir, "ours.db"), filepath.Join(c.dir, "theirs.db")
	if c.big {
		c.bitbake = ""
	}
	if err := prepare(ctx, c, ours, theirs); err != nil {
		return err
	}
	if c.postgres {
		return onPostgres(ctx, c, ours, out)
	}
	sides := []side{{"slipway", []string{c.slipway, "hashserv", "serve"}, ours, c.more}}
	if c.bitbake != "" {
		sides = append(sides, side{"BitBake", []string{"/usr/bin/python3", "-W", "ignore", filepath.Join(c.bitbake, "bin/bitbake-hashserv")}, theirs, nil})
	}
	if c.big {
		fi, _ := os.Stat(ours)
		fmt.Fprintf(out, "## Start with %d rows, a file of %d MB\n\n| server | rows | 1,000 lookups answered after its start | at rest after | CPU until then | memory |\n| --- | ---: | ---: | ---: | ---: | ---: |\n", c.rows, fi.Size()>>20)
		return startAndMemory(c, sides[0], out)
	}
	if c.gc {
		fmt.Fprintf(out, "## A collection beside a client that reports and one that asks, %d rows\n\n| server | swept | longest wait of another client | the same without a sweep | answers to others meanwhile | answers after its start | memory |\n| --- | --- | --- | --- | --- | --- | --- |\n", c.rows)
		for _, s := range sides {
			if err := collection(ctx, c, s, out); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
		return nil
	}
	if c.far {
		fmt.Fprint(out, "## Unknown hashes through an upstream 20 ms away\n\n| server | hashes | time |\n| --- | --- | --- |\n")
		for _, s := range sides {
			n := 5000
			if s.name != "slipway" {
				n = 250 // its time is proportional: one round trip each
			}
			if err := faraway(ctx, c, s, n, out); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
		return nil
	}
	fi, _ := os.Stat(ours)
	fmt.Fprintf(out, "## Hash equivalence server, %d rows\n\nRequests per CPU second of the server, median of %d runs of %s (reports: five times as long, and what the server moves behind is counted); in brackets per second of wall time. The two servers take turns.\n", c.rows, c.runs, c.length)
	if c.bitbake != "" {
		their, _ := os.Stat(theirs)
		fmt.Fprintf(out, "The database is %d MB, BitBake's is %d MB.\n", fi.Size()>>20, their.Size()>>20)
	}
	fmt.Fprint(out, "\n| load | connections | slipway | BitBake | ratio | lowest to highest | slipway p99 | BitBake p99 |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	results := map[string][][]result{}
	if err := measureSides(ctx, c, sides, results); err != nil {
		return err
	}
	for _, l := range loads {
		for _, n := range c.conns {
			r := results[fmt.Sprintf("%s/%d", l.name, n)]
			if len(r) == 0 {
				continue
			}
			a := median(r[0])
			row := fmt.Sprintf("| %s | %d | %.0f (%.0f) |", l.name, n, a.perCPU, a.perWall)
			if len(r) > 1 {
				low, high := math.Inf(1), 0.0
				for i := range r[0] {
					x := r[0][i].perCPU / r[1][i].perCPU
					low, high = min(low, x), max(high, x)
				}
				b := median(r[1])
				row += fmt.Sprintf(" %.0f (%.0f) | **%.1f** | %.1f to %.1f | %s | %s |", b.perCPU, b.perWall, a.perCPU/b.perCPU, low, high, a.p99, b.p99)
			} else {
				row += fmt.Sprintf(" | | | %s | |", a.p99)
			}
			fmt.Fprintln(out, row)
		}
	}
	for i, s := range sides {
		fmt.Fprintf(out, "\nMemory of %s after all of it: %.0f MB.\n", s.name, results["memory"][i][0].perCPU)
	}
	return nil
}

func median(list []result) result {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b result) int { return cmp.Compare(a.perCPU, b.perCPU) })
	return list[len(list)/2]
}
