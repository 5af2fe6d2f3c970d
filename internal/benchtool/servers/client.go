package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"slipway/internal/hashserv"
)

// client is a connection that costs little: requests are bytes that are made
// before, answers are only counted.
type client struct {
	net.Conn
	buf [128 << 10]byte
}

func dial(addr string) (*client, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	_, err = io.WriteString(c, hashserv.Protocol+" 1.1\nneeds-headers: false\n\n")
	return &client{Conn: c}, err
}

// ask sends a request and gives the line that answers it.
func (c *client) ask(request []byte) (string, error) {
	if _, err := c.Write(request); err != nil {
		return "", err
	}
	for n := 0; ; {
		k, err := c.Read(c.buf[n:])
		if err != nil {
			return "", err
		}
		if n += k; c.buf[n-1] == '\n' {
			return string(c.buf[:n-1]), nil
		}
	}
}

// exchange sends lines and reads as many answers, size bytes in all. They fit into
// the sockets' buffers, so that nobody waits for the other to read.
func (c *client) exchange(lines []byte, want, size int) error {
	if _, err := c.Write(lines); err != nil {
		return err
	}
	for got, n := 0, 0; got < size; {
		k, err := c.Read(c.buf[:])
		if err != nil {
			return err
		}
		got += k
		if n += bytes.Count(c.buf[:k], []byte("\n")); n == want && got != size {
			return fmt.Errorf("%d bytes of answers to known hashes, not %d", got, size)
		}
	}
	return nil
}

// server is a process under test.
type server struct {
	addr    string
	pid     int
	stop    func()
	started time.Duration // until its first answer
}

// serve starts a server and waits until it answers.
func serve(c config, name string, argv []string, db string, more ...string) (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	l.Close()
	log, err := os.Create(filepath.Join(c.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(argv[0], append(append(argv[1:len(argv):len(argv)], "--bind", addr, "--database", db), more...)...)
	cmd.Stdout, cmd.Stderr = log, log
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{addr: addr, pid: cmd.Process.Pid}
	s.stop = func() { cmd.Process.Signal(syscall.SIGKILL); cmd.Wait(); log.Close() }
	for {
		cl, err := dial(addr)
		if err == nil {
			_, err = cl.ask([]byte(`{"ping": {}}` + "\n"))
			cl.Close()
		}
		if s.started = time.Since(start); err == nil {
			return s, nil
		}
		if s.started > 20*time.Second {
			s.stop()
			text, _ := os.ReadFile(log.Name())
			return nil, fmt.Errorf("%w\n%s", err, text)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// settle waits until the server does nothing any more: an index fills behind.
func (s *server) settle() {
	for last := cpuTime(s.pid); ; {
		time.Sleep(300 * time.Millisecond)
		now := cpuTime(s.pid)
		if now-last < 3*time.Millisecond {
			return
		}
		last = now
	}
}
