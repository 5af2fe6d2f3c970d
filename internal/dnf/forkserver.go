package dnf

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"slipway/internal/errs"
)

// forkserver starts dnf, the same program with the same arguments, in copies of
// a process that has its modules read already. Most of what a small dnf command
// costs is reading them, and a candidate is asked about with a hundred commands
// or many thousands. It is only there when dnf is a program in Python that can be
// started so; else commands are started one by one.
type forkserver struct {
	conn    *net.UnixConn
	pid     int
	mu      sync.Mutex
	waiting map[string]*forked // by path of the request
	gone    bool
}

// forked is a command that runs.
type forked struct {
	pid    chan int // one, when it runs; closed when it never will
	status chan int // one, when it has ended; closed when nobody will know
}

//go:embed forkserver.py
var forkserverSource string

var errNoForkserver = errors.New("dnf's modules cannot be read beforehand")

// interpreter gives the Python of a dnf that is a program in Python, as its first
// line says it.
func interpreter() (string, error) {
	path, err := lookPath("dnf")
	if err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	line, _ := bufio.NewReaderSize(f, 256).ReadString('\n')
	python, ok := strings.CutPrefix(strings.TrimSpace(line), "#!")
	if !ok || !strings.HasPrefix(filepath.Base(python), "python3") || strings.Contains(python, " ") {
		return "", errNoForkserver
	}
	return python, nil
}

// startForkserver waits until the server has read dnf's modules.
func startForkserver() (*forkserver, error) {
	python, err := interpreter()
	if err != nil {
		return nil, err
	}
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "forkserver"), os.NewFile(uintptr(fds[1]), "forkserver")
	c, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		_ = theirs.Close()
		return nil, err
	}
	s := &forkserver{conn: c.(*net.UnixConn), waiting: map[string]*forked{}}
	// -s and -u are as for /usr/bin/dnf in our environment: no modules of the user,
	// nothing held back in a buffer.
	cmd := exec.Command(python, "-s", "-u", "-c", forkserverSource)
	cmd.Env = []string{"PATH=" + searchPath, "LC_ALL=C", "TZ=UTC", "HOME=/nonexistent", "PYTHONDONTWRITEBYTECODE=1"}
	cmd.Dir, cmd.ExtraFiles = "/", []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	_ = theirs.Close()
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	s.pid = cmd.Process.Pid
	go func() { _ = cmd.Wait() }()
	b := make([]byte, 64)
	if n, err := c.Read(b); err != nil || string(b[:n]) != "ready" {
		_ = c.Close()
		return nil, errNoForkserver
	}
	go s.listen()
	return s, nil
}

// listen hands on what the server says until it ends.
func (s *forkserver) listen() {
	b := make([]byte, 16<<10)
	for {
		n, err := s.conn.Read(b)
		if err != nil || n == 0 {
			break
		}
		f := strings.Split(string(b[:n]), "\n")
		s.mu.Lock()
		if w := s.waiting[f[1]]; w != nil {
			if len(f) == 2 {
				pid, _ := strconv.Atoi(f[0])
				w.pid <- pid
			} else {
				status, _ := strconv.Atoi(f[2])
				w.status <- status
				delete(s.waiting, f[1])
			}
		}
		s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	for _, w := range s.waiting {
		close(w.pid)
		close(w.status)
	}
	s.waiting = nil
	_ = s.conn.Close()
}

// ask has the server start a command; the files become its stdout and stderr.
func (s *forkserver) ask(request string, stdout, stderr *os.File) (*forked, error) {
	w := &forked{pid: make(chan int, 1), status: make(chan int, 1)}
	s.mu.Lock()
	if s.gone {
		s.mu.Unlock()
		return nil, errNoForkserver
	}
	s.waiting[request] = w
	s.mu.Unlock()
	_, _, err := s.conn.WriteMsgUnix([]byte(request), syscall.UnixRights(int(stdout.Fd()), int(stderr.Fd())), nil)
	if err == nil {
		return w, nil
	}
	s.mu.Lock()
	delete(s.waiting, request)
	s.mu.Unlock()
	return nil, err
}

// forks gives the server, started anew when it has ended for want of work.
func (t *Tool) forks(again bool) (*forkserver, error) {
	t.serverMu.Lock()
	defer t.serverMu.Unlock()
	if t.serverErr != nil || t.server != nil && !again {
		return t.server, t.serverErr
	}
	t.server, t.serverErr = startForkserver()
	return t.server, t.serverErr
}

// fork runs dnf to its end as start does. errNoForkserver means that it was not
// started.
func (t *Tool) fork(ctx context.Context, request string, argv, env []string, stdout, stderr io.Writer) error {
	if len(t.prefix) > 0 || !filepath.IsAbs(request) || strings.Contains(request, "\n") {
		return errNoForkserver
	}
	vars := map[string]string{}
	for _, e := range env {
		k, v, _ := strings.Cut(e, "=")
		vars[k] = v
	}
	text, err := json.Marshal(map[string]any{"argv": argv, "env": vars})
	if err != nil {
		return err
	}
	if err := os.WriteFile(request, text, 0o600); err != nil {
		return errs.E(errs.Unavailable, "write "+request, err)
	}
	defer func() { _ = os.Remove(request) }()

	var reading sync.WaitGroup
	var ours, theirs []*os.File
	defer func() {
		for _, f := range ours {
			_ = f.Close()
		}
	}()
	pipe := func(to io.Writer) (*os.File, error) {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		ours, theirs = append(ours, r), append(theirs, w)
		reading.Go(func() { _, _ = io.Copy(to, r) })
		return w, nil
	}
	out, err := pipe(stdout)
	if err != nil {
		return err
	}
	msg := out
	if stderr != stdout {
		if msg, err = pipe(stderr); err != nil {
			return errors.Join(err, out.Close())
		}
	}
	var w *forked
	s, err := t.forks(false)
	for again := false; err == nil; again = true {
		if w, err = s.ask(request, out, msg); err == nil || again {
			break
		}
		s, err = t.forks(true)
	}
	for _, f := range theirs {
		_ = f.Close() // else their end would never be seen
	}
	if err != nil {
		reading.Wait()
		return errNoForkserver
	}
	pid, ok := <-w.pid
	if !ok {
		reading.Wait()
		return errNoForkserver
	}
	var status int
	select {
	case status, ok = <-w.status:
	case <-ctx.Done():
		_ = syscall.Kill(-pid, syscall.SIGKILL)
		<-w.status
	}
	read := make(chan struct{})
	go func() { reading.Wait(); close(read) }()
	held := false
	select {
	case <-read:
	case <-time.After(holdDelay):
		held = true
		_ = syscall.Kill(-pid, syscall.SIGKILL)
		for _, f := range ours {
			_ = f.SetReadDeadline(time.Now())
		}
		<-read
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !ok:
		return errors.New("the process that started it was killed")
	case held:
		return errHeld
	case status < 0:
		return fmt.Errorf("signal: %v", syscall.Signal(-status))
	case status != 0:
		return exitStatus(status)
	}
	return nil
}

// exitStatus is how a command ended by itself, not 0.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// unusual tells whether a command ended otherwise than by itself: what it said
// then is not the reason.
func unusual(err error) bool {
	var own exitStatus
	var process *exec.ExitError
	return !errors.As(err, &own) && !(errors.As(err, &process) && process.Exited())
}
