package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"slipway/internal/asyncrpc"
	"slipway/internal/hashserv"
)

// serve starts a server and gives what ends it.
func serve(c config, name string, argv []string, db string, more ...string) (addr string, pid int, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", 0, nil, err
	}
	addr = l.Addr().String()
	l.Close()
	log, err := os.Create(filepath.Join(c.dir, name+".log"))
	if err != nil {
		return "", 0, nil, err
	}
	cmd := exec.Command(argv[0], append(append(argv[1:], "--bind", addr, "--database", db), more...)...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return "", 0, nil, err
	}
	stop = func() { cmd.Process.Signal(syscall.SIGKILL); cmd.Wait(); log.Close() }
	if err := waitFor(addr); err != nil {
		stop()
		return "", 0, nil, err
	}
	return addr, cmd.Process.Pid, stop, nil
}

// collection sweeps nearly all rows, while another client asks one thing after
// the other, and says how long that one had to wait at most.
func collection(ctx context.Context, c config, s side, out io.Writer) error {
	start := time.Now()
	addr, pid, stop, err := serve(c, s.name+"-gc", s.argv, s.db)
	if err != nil {
		return err
	}
	defer stop()
	up := time.Since(start)
	dial := func() (*asyncrpc.Client, error) { return asyncrpc.Dial(ctx, addr, hashserv.Protocol, "1.1") }
	gc, err := dial()
	if err != nil {
		return err
	}
	defer gc.Close()
	other, err := dial()
	if err != nil {
		return err
	}
	defer other.Close()
	if err := gc.Invoke(ctx, "gc-mark", map[string]any{"mark": "bench", "where": map[string]string{"taskhash": hash(0)}}, nil); err != nil {
		return err
	}
	type swept struct {
		n   int
		err error
	}
	done := make(chan swept, 1)
	start = time.Now()
	go func() {
		var a struct{ Count int }
		err := gc.Invoke(ctx, "gc-sweep", map[string]any{"mark": "bench"}, &a)
		done <- swept{a.Count, err}
	}()
	var worst time.Duration
	for n := 0; ; n++ {
		select {
		case r := <-done:
			if r.err != nil {
				return r.err
			}
			fmt.Fprintf(out, "| %s | %d rows in %.1f s | %.0f ms | %d | %.0f ms | %.0f MB |\n", s.name, r.n, time.Since(start).Seconds(), worst.Seconds()*1000, n, up.Seconds()*1000, rss(pid))
			return nil
		default:
		}
		t := time.Now()
		if err := other.Invoke(ctx, "report", map[string]any{"method": method, "taskhash": hash(1<<50 + n), "outhash": hash(1<<51 + n), "unihash": hash(1<<50 + n)}, nil); err != nil {
			return err
		}
		worst = max(worst, time.Since(t))
	}
}

// faraway asks n unknown hashes of a server whose upstream is 20 ms away.
func faraway(ctx context.Context, c config, s side, n int, out io.Writer) error {
	up, _, stopUp, err := serve(c, s.name+"-up", s.argv, filepath.Join(c.dir, s.name+"-up.db"))
	if err != nil {
		return err
	}
	defer stopUp()
	far, err := delayed(ctx, up, 10*time.Millisecond)
	if err != nil {
		return err
	}
	addr, _, stop, err := serve(c, s.name+"-down", s.argv, filepath.Join(c.dir, s.name+"-down.db"), "--upstream", far)
	if err != nil {
		return err
	}
	defer stop()
	cl, err := asyncrpc.Dial(ctx, addr, hashserv.Protocol, "1.1")
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
