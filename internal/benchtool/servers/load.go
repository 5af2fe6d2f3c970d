package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"slipway/internal/asyncrpc"
	"slipway/internal/hashserv"
)

type result struct {
	side            string
	perCPU, perWall float64
	p99             time.Duration
}

// load sends requests until the context ends, and counts them; took is given the
// time of each round trip.
type load struct {
	name string
	do   func(ctx context.Context, c *asyncrpc.Client, g *generator, took func(time.Duration)) (int, error)
}

// generator gives hashes: known ones at random, new ones once.
type generator struct {
	rows  int
	state uint64
	fresh *atomic.Int64
}

func (g *generator) known() int {
	g.state = g.state*6364136223846793005 + 1442695040888963407
	return int(g.state>>33) % g.rows
}

const batch = 1000

var loads = []load{
	{"get, one at a time", func(ctx context.Context, c *asyncrpc.Client, g *generator, took func(time.Duration)) (int, error) {
		return each(ctx, c, took, func() (string, any) {
			return "get", map[string]any{"method": method, "taskhash": hash(g.known()), "all": false}
		})
	}},
	{"get, pipelined", func(ctx context.Context, c *asyncrpc.Client, g *generator, took func(time.Duration)) (int, error) {
		return streams(ctx, c, took, "get-stream", func() string { return method + " " + hash(g.known()) })
	}},
	{"exists, pipelined", func(ctx context.Context, c *asyncrpc.Client, g *generator, took func(time.Duration)) (int, error) {
		return streams(ctx, c, took, "exists-stream", func() string { return hash(g.known()) })
	}},
	{"report", func(ctx context.Context, c *asyncrpc.Client, g *generator, took func(time.Duration)) (int, error) {
		return each(ctx, c, took, func() (string, any) {
			n := int(g.fresh.Add(1))
			out := n
			if n%4 == 3 {
				out = n - 3
			}
			return "report", map[string]any{"method": method, "taskhash": hash(n), "outhash": hash(out + 1<<40), "unihash": hash(n)}
		})
	}},
}

func each(ctx context.Context, c *asyncrpc.Client, took func(time.Duration), next func() (string, any)) (n int, err error) {
	for ctx.Err() == nil {
		command, request := next()
		start := time.Now()
		if err := c.Invoke(context.Background(), command, request, nil); err != nil {
			return n, err
		}
		took(time.Since(start))
		n++
	}
	return n, nil
}

func streams(ctx context.Context, c *asyncrpc.Client, took func(time.Duration), command string, next func() string) (n int, err error) {
	lines := make([][]byte, batch)
	for i := range lines {
		lines[i] = []byte(next())
	}
	for ctx.Err() == nil {
		start := time.Now()
		if err := c.Stream(context.Background(), command, lines, func(_ int, b []byte) error {
			if len(b) == 0 {
				return fmt.Errorf("no answer to a known hash")
			}
			return nil
		}); err != nil {
			return n, err
		}
		took(time.Since(start) / batch)
		n += batch
		// A tenth is new: making all of them would be most of the generator's work.
		for i := 0; i < batch; i += 10 {
			lines[(n/batch+i)%batch] = []byte(next())
		}
	}
	return n, nil
}

func measureSide(ctx context.Context, c config, s side, results map[string][]result) error {
	addr, pid, stop, err := serve(c, s.name, s.argv, s.db)
	if err != nil {
		return err
	}
	defer stop()
	time.Sleep(time.Duration(c.rows/200) * time.Microsecond * 10) // the index fills
	fresh := &atomic.Int64{}
	fresh.Store(int64(c.rows)*4 + 1<<32)
	for _, l := range loads {
		if !strings.Contains(l.name, c.only) {
			continue
		}
		for _, n := range c.conns {
			var list []result
			for range c.runs {
				r, err := measure(ctx, c, s, l, addr, n, pid, fresh)
				if err != nil {
					return fmt.Errorf("%s, %d connections: %w", l.name, n, err)
				}
				list = append(list, r)
			}
			key := fmt.Sprintf("%s/%d", l.name, n)
			results[key] = append(results[key], median(list))
		}
	}
	results["memory"] = append(results["memory"], result{side: s.name, perCPU: rss(pid)})
	return nil
}

func waitFor(addr string) error {
	for end := time.Now().Add(20 * time.Second); ; {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		c, err := asyncrpc.Dial(ctx, addr, hashserv.Protocol, "1.1")
		if err == nil {
			// A get of an unknown task ends BitBake's server's connection when it has an upstream.
			err = c.Stream(ctx, "get-stream", [][]byte{[]byte("x x")}, func(int, []byte) error { return nil })
			c.Close()
		}
		cancel()
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func measure(ctx context.Context, c config, s side, l load, addr string, conns, pid int, fresh *atomic.Int64) (result, error) {
	clients := make([]*asyncrpc.Client, conns)
	for i := range clients {
		var err error
		if clients[i], err = asyncrpc.Dial(ctx, addr, hashserv.Protocol, "1.1"); err != nil {
			return result{}, err
		}
		defer clients[i].Close()
	}
	var total atomic.Int64
	var mu sync.Mutex
	var times []time.Duration
	var failed error
	var wg sync.WaitGroup
	limit, cancel := context.WithTimeout(ctx, c.length)
	defer cancel()
	cpu, start := cpuTime(pid), time.Now()
	for i, client := range clients {
		wg.Go(func() {
			g := &generator{c.rows, uint64(i)*7919 + 1, fresh}
			var mine []time.Duration
			n, err := l.do(limit, client, g, func(d time.Duration) { mine = append(mine, d) })
			total.Add(int64(n))
			mu.Lock()
			defer mu.Unlock()
			times = append(times, mine...)
			if err != nil {
				failed = err
			}
		})
	}
	wg.Wait()
	used, wall := cpuTime(pid)-cpu, time.Since(start)
	if failed != nil {
		return result{}, failed
	}
	slices.Sort(times)
	p99 := times[len(times)*99/100]
	return result{s.name, float64(total.Load()) / used.Seconds(), float64(total.Load()) / wall.Seconds(), p99.Round(10 * time.Microsecond)}, nil
}

// cpuTime is the processor time that a process has used: fields 14 and 15 of
// /proc/PID/stat, in hundredths of a second.
func cpuTime(pid int) time.Duration {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	u, _ := strconv.Atoi(f[11])
	k, _ := strconv.Atoi(f[12])
	return time.Duration(u+k) * 10 * time.Millisecond
}

func rss(pid int) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(f[1])
	return float64(n) * 4096 / 1e6
}
