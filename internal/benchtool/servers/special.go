package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"time"

	"slipway/internal/asyncrpc"
	"slipway/internal/hashserv"
)

// collection sweeps nearly all rows, while another client asks one thing after
// the other, and says how long that one had to wait at most.
func collection(ctx context.Context, c config, s side, out io.Writer) error {
	srv, err := serve(c, s.name+"-gc", s.argv, s.db, s.more...)
	if err != nil {
		return err
	}
	defer srv.stop()
	call := func() (*asyncrpc.Client, error) { return asyncrpc.Dial(ctx, srv.addr, hashserv.Protocol, "1.1") }
	gc, err := call()
	if err != nil {
		return err
	}
	defer gc.Close()
	writer, err := call()
	if err != nil {
		return err
	}
	defer writer.Close()
	reader, err := call()
	if err != nil {
		return err
	}
	defer reader.Close()
	if err := gc.Invoke(ctx, "gc-mark", map[string]any{"mark": "bench", "where": map[string]string{"taskhash": hash(0)}}, nil); err != nil {
		return err
	}
	srv.settle()
	// Two others ask one thing after the other.
	type waits struct {
		n     int
		worst time.Duration
		err   error
	}
	fresh := 0
	asks := []func(n int) error{
		func(int) error {
			fresh++
			return writer.Invoke(ctx, "report", map[string]any{"method": method, "taskhash": hash(1<<50 + fresh), "outhash": hash(1<<51 + fresh), "unihash": hash(1<<50 + fresh)}, nil)
		},
		func(n int) error {
			return reader.Invoke(ctx, "get", map[string]any{"method": method, "taskhash": hash(n % c.rows), "all": false}, nil)
		},
	}
	beside := func(work func() error) (waits, error) {
		others, stop := make(chan waits, len(asks)), make(chan struct{})
		for _, ask := range asks {
			go func() {
				var w waits
				for w.err == nil {
					select {
					case <-stop:
						others <- w
						return
					default:
					}
					t := time.Now()
					w.err = ask(w.n)
					w.worst = max(w.worst, time.Since(t))
					w.n++
				}
				others <- w
			}()
		}
		err := work()
		close(stop)
		var all waits
		for range asks {
			w := <-others
			all.n, all.worst = all.n+w.n, max(all.worst, w.worst)
			if err == nil {
				err = w.err
			}
		}
		return all, err
	}
	var count int
	start := time.Now()
	during, err := beside(func() error {
		var a struct{ Count int }
		err := gc.Invoke(ctx, "gc-sweep", map[string]any{"mark": "bench"}, &a)
		count = a.Count
		return err
	})
	if err != nil {
		return err
	}
	took := time.Since(start)
	// The same without: what of the wait is the machine's.
	alone, err := beside(func() error { time.Sleep(min(took, 10*time.Second)); return nil })
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "| %s | %d rows in %.1f s | %.0f ms | %.0f ms | %d | %.0f ms | %.0f MB |\n", s.name, count, took.Seconds(),
		during.worst.Seconds()*1000, alone.worst.Seconds()*1000, during.n, srv.started.Seconds()*1000, rss(srv.pid))
	return nil
}

// startAndMemory starts our server on a large database: when it answers, when its
// index is full, what memory that takes.
func startAndMemory(c config, s side, out io.Writer) error {
	srv, err := serve(c, s.name+"-big", s.argv, s.db, s.more...)
	if err != nil {
		return err
	}
	defer srv.stop()
	start := time.Now()
	cl, err := dial(srv.addr)
	if err != nil {
		return err
	}
	defer cl.Close()
	if _, err := cl.ask([]byte("{\"get-stream\": null}\n")); err != nil {
		return err
	}
	if err := cl.exchange(newBatches(c.rows).get[0], batch, batch*65); err != nil {
		return err
	}
	first := srv.started + time.Since(start)
	srv.settle()
	full := time.Since(start)
	fmt.Fprintf(out, "| %s | %d | %.0f ms | %.1f s | %.1f s | %.0f MB |\n", s.name, c.rows, first.Seconds()*1000, full.Seconds(), cpuTime(srv.pid).Seconds(), rss(srv.pid))
	return nil
}

// faraway asks n unknown hashes of a server whose upstream is 20 ms away.
func faraway(ctx context.Context, c config, s side, n int, out io.Writer) error {
	up, err := serve(c, s.name+"-up", s.argv, filepath.Join(c.dir, s.name+"-up.db"))
	if err != nil {
		return err
	}
	defer up.stop()
	far, err := delayed(ctx, up.addr, 10*time.Millisecond)
	if err != nil {
		return err
	}
	down, err := serve(c, s.name+"-down", s.argv, filepath.Join(c.dir, s.name+"-down.db"), "--upstream", far)
	if err != nil {
		return err
	}
	defer down.stop()
	cl, err := asyncrpc.Dial(ctx, down.addr, hashserv.Protocol, "1.1")
	if err != nil {
		return err
	}
	defer cl.Close()
	lines := make([][]byte, n)
	for i := range lines {
		lines[i] = []byte(method + " " + hash(1<<52+i))
	}
	start := time.Now()
	if err := cl.Stream(ctx, "get-stream", lines, func(int, []byte) error { return nil }); err != nil {
		return err
	}
	fmt.Fprintf(out, "| %s | %d | %.2f s |\n", s.name, n, time.Since(start).Seconds())
	return nil
}

// delayed is a proxy that holds what it passes on for a while, in each direction.
func delayed(ctx context.Context, to string, d time.Duration) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	pass := func(from, to net.Conn) {
		type piece struct {
			b  []byte
			at time.Time
		}
		ch := make(chan piece, 10_000)
		go func() {
			for p := range ch {
				time.Sleep(time.Until(p.at))
				to.Write(p.b)
			}
			to.Close()
		}()
		for {
			b := make([]byte, 16<<10)
			n, err := from.Read(b)
			if n > 0 {
				ch <- piece{b[:n], time.Now().Add(d)}
			}
			if err != nil {
				close(ch)
				return
			}
		}
	}
	go func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", to)
			if err != nil {
				a.Close()
				continue
			}
			go pass(a, b)
			go pass(b, a)
		}
	}()
	return l.Addr().String(), nil
}
