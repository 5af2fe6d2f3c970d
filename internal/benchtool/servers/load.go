package main

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

type result struct {
	perCPU, perWall float64
	p99             time.Duration
	database        float64 // its processor time for a request, in microseconds
}

// load sends requests until the context ends, and counts them; took is given the
// time of each round trip.
type load struct {
	name   string
	finish string // a message that has the server finish what it does behind; it counts
	times  int    // how much longer than the others: what is done behind comes now and then
	do     func(ctx context.Context, c *client, g *generator, took func(time.Duration)) (int, error)
}

// generator gives hashes: known ones at random, new ones once.
type generator struct {
	rows    int
	state   uint64
	fresh   *atomic.Int64
	batches *batches
}

func (g *generator) random(n int) int {
	g.state = g.state*6364136223846793005 + 1442695040888963407
	return int(g.state>>33) % n
}

func (g *generator) known() int { return g.random(g.rows) }

const batch = 1000

// batches are what pipelining clients send, made before the time is taken.
type batches struct{ get, exists [][]byte }

func newBatches(rows int) *batches {
	g := &generator{rows: rows, state: 1}
	b := &batches{}
	for range 64 {
		var get, exists []byte
		for range batch {
			get = append(appendHash(append(append(get, method...), ' '), g.known()), '\n')
			n := g.known()
			if n%4 == 3 { // it has the unihash of another
				n--
			}
			exists = append(appendHash(exists, n), '\n')
		}
		b.get, b.exists = append(b.get, get), append(b.exists, exists)
	}
	return b
}

var loads = []load{
	{"get, one at a time", "", 1, func(ctx context.Context, c *client, g *generator, took func(time.Duration)) (int, error) {
		return each(ctx, c, took, func(b []byte) []byte {
			b = append(b, `{"get": {"method": "`+method+`", "taskhash": "`...)
			return append(appendHash(b, g.known()), "\", \"all\": false}}\n"...)
		})
	}},
	{"get, pipelined", "", 1, func(ctx context.Context, c *client, g *generator, took func(time.Duration)) (int, error) {
		return streams(ctx, c, took, "get-stream", func() []byte { return g.batches.get[g.random(len(g.batches.get))] }, 65)
	}},
	{"exists, pipelined", "", 1, func(ctx context.Context, c *client, g *generator, took func(time.Duration)) (int, error) {
		return streams(ctx, c, took, "exists-stream", func() []byte { return g.batches.exists[g.random(len(g.batches.exists))] }, len("true\n"))
	}},
	{"report", `{"get-db-usage": {}}`, 5, func(ctx context.Context, c *client, g *generator, took func(time.Duration)) (int, error) {
		return each(ctx, c, took, func(b []byte) []byte {
			n := int(g.fresh.Add(1))
			out := n
			if n%4 == 3 {
				out = n - 3
			}
			b = appendHash(append(b, `{"report": {"taskhash": "`...), n)
			b = appendHash(append(b, `", "method": "`+method+`", "outhash": "`...), out+1<<40)
			return append(appendHash(append(b, `", "unihash": "`...), n), "\"}}\n"...)
		})
	}},
}

// each sends one request after the other; the answer to each holds a unihash.
func each(ctx context.Context, c *client, took func(time.Duration), next func([]byte) []byte) (n int, err error) {
	var request []byte
	for ctx.Err() == nil {
		request = next(request[:0])
		start := time.Now()
		line, err := c.ask(request)
		if err != nil {
			return n, err
		}
		if !strings.Contains(line, `"unihash"`) {
			return n, fmt.Errorf("the answer to %s is %s", request, line)
		}
		took(time.Since(start))
		n++
	}
	return n, nil
}

// streams sends batches; each answer is size bytes long.
func streams(ctx context.Context, c *client, took func(time.Duration), command string, next func() []byte, size int) (n int, err error) {
	if line, err := c.ask([]byte(`{"` + command + "\": null}\n")); err != nil || line != `"ok"` {
		return 0, fmt.Errorf("the answer to %s is %q: %w", command, line, err)
	}
	for ctx.Err() == nil {
		start := time.Now()
		if err := c.exchange(next(), batch, batch*size); err != nil {
			return n, err
		}
		took(time.Since(start) / batch)
		n += batch
	}
	if line, err := c.ask([]byte("END\n")); err != nil || line != "ok" {
		return 0, fmt.Errorf("the answer to END is %q: %w", line, err)
	}
	return n, nil
}

// measureSides gives each load to the servers in turns, so that what else the
// machine does falls on both.
func measureSides(ctx context.Context, c config, sides []side, results map[string][][]result) error {
	fresh := &atomic.Int64{}
	fresh.Store(int64(c.rows)*4 + 1<<32)
	prepared := newBatches(c.rows)
	running := make([]*server, len(sides))
	for i, s := range sides {
		var err error
		if running[i], err = serve(c, s.name, s.argv, s.db, s.more...); err != nil {
			return err
		}
		defer running[i].stop()
		running[i].settle()
	}
	for _, l := range loads {
		if !strings.Contains(l.name, c.only) {
			continue
		}
		for _, n := range c.conns {
			list := make([][]result, len(sides))
			for range c.runs {
				for i, s := range sides {
					r, err := measure(ctx, c, l, running[i], n, fresh, prepared)
					if err != nil {
						return fmt.Errorf("%s: %s, %d connections: %w", s.name, l.name, n, err)
					}
					list[i] = append(list[i], r)
				}
			}
			results[fmt.Sprintf("%s/%d", l.name, n)] = list
		}
	}
	for i := range sides {
		results["memory"] = append(results["memory"], []result{{perCPU: rss(running[i].pid)}})
	}
	return nil
}

func measure(ctx context.Context, c config, l load, s *server, conns int, fresh *atomic.Int64, prepared *batches) (result, error) {
	clients := make([]*client, conns)
	for i := range clients {
		var err error
		if clients[i], err = dial(s.addr); err != nil {
			return result{}, err
		}
		defer clients[i].Close()
	}
	var total atomic.Int64
	var mu sync.Mutex
	var times []time.Duration
	var failed error
	var wg sync.WaitGroup
	limit, cancel := context.WithTimeout(ctx, c.length*time.Duration(l.times))
	defer cancel()
	if c.database == nil {
		c.database = func() time.Duration { return 0 }
	}
	database := c.database()
	cpu, start := cpuTime(s.pid), time.Now()
	for i, client := range clients {
		wg.Go(func() {
			g := &generator{c.rows, uint64(i)*7919 + uint64(time.Now().UnixNano()), fresh, prepared}
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
	wall := time.Since(start)
	if failed != nil {
		return result{}, failed
	}
	if l.finish != "" {
		if _, err := clients[0].ask([]byte(l.finish + "\n")); err != nil {
			return result{}, err
		}
	}
	used := cpuTime(s.pid) - cpu
	database = c.database() - database
	if len(times) == 0 {
		return result{}, fmt.Errorf("not one answer in %s: the machine is too busy to measure", c.length)
	}
	slices.Sort(times)
	p99 := times[len(times)*99/100]
	return result{float64(total.Load()) / used.Seconds(), float64(total.Load()) / wall.Seconds(), p99.Round(10 * time.Microsecond), float64(database.Microseconds()) / float64(total.Load())}, nil
}

// cpuTime is the processor time that a process has used, by its clock
// (clock_getcpuclockid(3): the complement of the process id, shifted).
func cpuTime(pid int) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^uint32(pid)<<3|2), &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// rss is the memory of a process that is its own, in MB of 1e6 bytes: without the
// pages of files that it has mapped.
func rss(pid int) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	f := strings.Fields(string(b))
	if len(f) < 3 {
		return 0
	}
	n, _ := strconv.Atoi(f[1])
	shared, _ := strconv.Atoi(f[2])
	return float64(n-shared) * 4096 / 1e6
}

// prefix is how the n-th hash begins: numbers that follow each other are far apart.
func prefix(n int) uint64 { return uint64(n) * 0x9e3779b97f4a7c15 }

// raw is the n-th hash.
func raw(n int) []byte {
	var b [32]byte
	binary.BigEndian.PutUint64(b[:], prefix(n))
	binary.BigEndian.PutUint64(b[24:], uint64(n))
	return b[:]
}

// appendHash appends it in 64 hex digits.
func appendHash(b []byte, n int) []byte { return hex.AppendEncode(b, raw(n)) }

func hash(n int) string { return string(appendHash(nil, n)) }
