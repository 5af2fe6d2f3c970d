// Command servers measures Slipway's hash equivalence server beside BitBake's:
// the same rows, the same load, one after the other in one run. It prints a
// section of docs/benchmarks.md.
//
// What counts is requests per CPU second of the server, read from /proc: the
// load generator and other work share the machine's processors, wall time says
// little.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"slipway/internal/hashserv/hashdb"
)

type config struct {
	slipway, bitbake, dir string
	rows, runs            int
	length                time.Duration
	conns                 []int
	only                  string
	gc, far               bool
}

func main() {
	var c config
	flag.StringVar(&c.slipway, "slipway", "build/slipway", "our program")
	flag.StringVar(&c.bitbake, "bitbake", os.Getenv("SLIPWAY_TEST_BITBAKE"), "a checkout of BitBake; without one only we are measured")
	flag.IntVar(&c.rows, "rows", 100_000, "rows of the database")
	flag.IntVar(&c.runs, "runs", 3, "runs of each load; the median counts")
	flag.DurationVar(&c.length, "length", time.Second, "of one run")
	flag.StringVar(&c.only, "only", "", "loads whose name holds this")
	flag.BoolVar(&c.gc, "gc", false, "measure a collection instead")
	flag.BoolVar(&c.far, "far", false, "measure an upstream 20 ms away instead")
	conns := flag.String("conns", "1,8,64", "connections")
	flag.Parse()
	for _, s := range strings.Split(*conns, ",") {
		var n int
		fmt.Sscan(s, &n)
		c.conns = append(c.conns, n)
	}
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
}

func run(ctx context.Context, c config, out io.Writer) error {
	var err error
	if c.dir, err = os.MkdirTemp("", "slipway-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(c.dir)
	ours, theirs := filepath.Join(c.dir, "ours.db"), filepath.Join(c.dir, "theirs.db")
	if err := makeRows(ctx, ours, theirs, c.rows, c.bitbake != ""); err != nil {
		return err
	}
	sides := []side{{"slipway", []string{c.slipway, "hashserv", "serve"}, ours}}
	if c.bitbake != "" {
		sides = append(sides, side{"BitBake", []string{"/usr/bin/python3", "-W", "ignore", filepath.Join(c.bitbake, "bin/bitbake-hashserv")}, theirs})
	}
	if c.gc {
		fmt.Fprintf(out, "## A collection beside reports, %d rows\n\n| server | swept | longest wait of another client's report | reports meanwhile | answers after its start | memory |\n| --- | --- | --- | --- | --- | --- |\n", c.rows)
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
	fmt.Fprintf(out, "## Hash equivalence server, %d rows\n\nRequests per CPU second of the server, median of %d runs of %s; in brackets per second of wall time.\n", c.rows, c.runs, c.length)
	if c.bitbake != "" {
		their, _ := os.Stat(theirs)
		fmt.Fprintf(out, "The database is %d MB, BitBake's is %d MB.\n", fi.Size()>>20, their.Size()>>20)
	}
	fmt.Fprint(out, "\n| load | connections | slipway | BitBake | ratio | slipway p99 | BitBake p99 |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	results := map[string][]result{}
	for _, s := range sides {
		if err := measureSide(ctx, c, s, results); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for _, l := range loads {
		for _, n := range c.conns {
			r := results[fmt.Sprintf("%s/%d", l.name, n)]
			if len(r) == 0 {
				continue
			}
			row := fmt.Sprintf("| %s | %d | %.0f (%.0f) |", l.name, n, r[0].perCPU, r[0].perWall)
			if len(r) > 1 {
				row += fmt.Sprintf(" %.0f (%.0f) | **%.1f** | %s | %s |", r[1].perCPU, r[1].perWall, r[0].perCPU/r[1].perCPU, r[0].p99, r[1].p99)
			} else {
				row += fmt.Sprintf(" | | %s | |", r[0].p99)
			}
			fmt.Fprintln(out, row)
		}
	}
	for _, s := range results["memory"] {
		fmt.Fprintf(out, "\nMemory of %s after all of it: %.0f MB.\n", s.side, s.perCPU)
	}
	return nil
}

const method = "oe.sstatesig.OEOuthashBasic"

func hash(n int) string { return fmt.Sprintf("%016x%048x", uint64(n)*0x9e3779b97f4a7c15, n) }

// makeRows makes the database: of four tasks three are the first with their
// output, and the fourth is equal to one before it, as builds are.
func makeRows(ctx context.Context, ours, theirs string, n int, both bool) error {
	d, err := hashdb.Open(ours, hashdb.Options{IndexBytes: -1})
	if err != nil {
		return err
	}
	defer d.Close()
	start := time.Unix(1_700_000_000, 0)
	var rows []hashdb.Row
	for i := range n {
		uni, out := i, i
		if i%4 == 3 {
			uni, out = i-3, i-3
		}
		rows = append(rows, hashdb.Row{Method: method, Taskhash: hash(i), Outhash: hash(out + 1<<40), Unihash: hash(uni), Created: start.Add(time.Duration(i) * time.Millisecond)})
		if len(rows) == 5000 || i == n-1 {
			if err := d.Insert(ctx, rows...); err != nil {
				return err
			}
			rows = rows[:0]
		}
	}
	if both {
		return d.Export(ctx, theirs)
	}
	return nil
}

func median(list []result) result {
	slices.SortFunc(list, func(a, b result) int {
		if a.perCPU < b.perCPU {
			return -1
		}
		return 1
	})
	return list[len(list)/2]
}
