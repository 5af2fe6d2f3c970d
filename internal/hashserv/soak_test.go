package hashserv

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"slipway/internal/asyncrpc"
)

// TestSoak keeps many connections busy at once, beside some that are silent and
// some that ask without reading, and looks at the memory after each round. The
// long form is 500 connections and a million requests.
func TestSoak(t *testing.T) {
	t.Parallel()
	conns, rounds, burst := 60, 4, 40
	if os.Getenv("SLIPWAY_TEST") == "full" {
		conns, rounds, burst = 500, 10, 200
	}
	s, addr := start(t, Options{})
	for i := range conns / 10 {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if i%2 == 0 {
			continue // silent: not even a handshake
		}
		// Asks and never reads.
		text := "OEHASHEQUIV 1.1\n\n{\"get-stream\": null}\n" + strings.Repeat("m "+h(i)+"\n", 1000)
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	clients := make([]*asyncrpc.Client, conns)
	for i := range clients {
		clients[i] = dial(t, addr)
	}
	var curve []uint64
	for round := range rounds {
		var wg sync.WaitGroup
		for i, c := range clients {
			wg.Go(func() {
				if err := work(t.Context(), c, i, round, burst); err != nil {
					t.Errorf("connection %d, round %d: %v", i, round, err)
				}
			})
		}
		wg.Wait()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		curve = append(curve, m.HeapAlloc+m.StackInuse)
	}
	var text []string
	for _, b := range curve {
		text = append(text, fmt.Sprintf("%.1f", float64(b)/(1<<20)))
	}
	t.Logf("%d connections, %d requests; heap and stacks after each round, MiB: %s", conns, conns*rounds*burst, strings.Join(text, " "))
	// What stays of a round is its rows in the index, and no more.
	rows := uint64(conns * burst / 4 * (rounds - 1))
	if first, last := curve[0], curve[rounds-1]; last > first+rows*400+8<<20 {
		t.Errorf("memory grew from %d to %d bytes over %d rows", first, last, rows)
	}
	if x := s.DB.Index(); x.Rows != int64(conns*burst/4*rounds) {
		t.Errorf("%d rows in the index", x.Rows)
	}
}

// work asks for hashes and reports every fourth, each connection its own.
func work(ctx context.Context, c *asyncrpc.Client, conn, round, burst int) error {
	var asked [][]byte
	for k := range burst * 3 / 4 {
		asked = append(asked, []byte("m "+h(conn<<32+round<<16+k)))
	}
	for k := range burst / 4 {
		n := conn<<32 + round<<16 + k
		var a struct{ Unihash string }
		if err := c.Invoke(ctx, "report", map[string]any{"method": "m", "taskhash": h(n), "outhash": h(n), "unihash": h(n)}, &a); err != nil {
			return err
		}
		if a.Unihash != h(n) {
			return fmt.Errorf("the answer is %s", a.Unihash)
		}
	}
	known := 0
	if err := c.Stream(ctx, "get-stream", asked, func(_ int, a []byte) error {
		if len(a) > 0 {
			known++
		}
		return nil
	}); err != nil {
		return err
	}
	if known != burst/4 {
		return fmt.Errorf("%d hashes are known, %d were reported", known, burst/4)
	}
	return nil
}
