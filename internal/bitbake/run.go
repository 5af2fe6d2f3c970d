package bitbake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Build runs BitBake for each board. events, if not nil, is called from one
// goroutine at a time. When ctx ends, BitBake is asked to end (its running tasks
// finish), asked again, and killed at last; the error is Interrupted, and the same
// call goes on from there.
func (b *Builder) Build(ctx context.Context, dir string, events func(distro.BuildEvent)) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return errs.Wrap(err, "folder of the build")
	}
	p, err := readPlan(dir)
	if err != nil {
		return err
	}
	console, err := os.OpenFile(filepath.Join(dir, "console.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return errs.Wrap(err, "console log")
	}
	defer console.Close()
	return b.serve(ctx, dir, p, func() error {
		for _, board := range p.Boards {
			if events != nil {
				events(distro.BuildEvent{Type: "note", Text: "board " + board + ": " + strings.Join(p.Targets[board], " ")})
			}
			r := run{b: b, p: p, dir: dir, board: board, log: console, events: events}
			// All failures at once: one missing source is not the end of the others.
			args := append([]string{"-k", "-w", filepath.Join(dir, "topdir", "events", board+".json")}, p.Targets[board]...)
			if err := r.bitbake(ctx, args); err != nil {
				return errs.Wrap(err, "build for board %s", board)
			}
			if err := b.fetchAll(ctx, r); err != nil {
				return err
			}
		}
		return writeFile(filepath.Join(dir, "finished"), nil)
	})
}

// UnfetchedName is the artifact, of class console-log, that says why the sources of
// what was built are not all among the downloads.
const UnfetchedName = "unfetched.txt"

// fetchAll fetches the sources of everything, also of what came from the cache: the
// downloads of a release are whole without those of releases before. A source that
// cannot be had is no failure of the build, but a finding. Without a network nothing
// is asked.
func (b *Builder) fetchAll(ctx context.Context, r run) error {
	if b.opt.Offline {
		return nil
	}
	err := r.bitbake(ctx, append([]string{"-k", "--runall=fetch"}, r.p.Targets[r.board]...))
	if err == nil || errs.Is(err, errs.Interrupted) || errs.Is(err, errs.Unavailable) {
		return err
	}
	if r.events != nil {
		r.events(distro.BuildEvent{Type: "note", Text: "not all sources could be fetched: " + err.Error()})
	}
	return writeFile(filepath.Join(r.dir, UnfetchedName), []byte("board "+r.board+": "+err.Error()+"\n"))
}

// serve does f while the servers of the build run, and slipway-machine.conf names them.
func (b *Builder) serve(ctx context.Context, dir string, p *plan, f func() error) (err error) {
	var s Servers
	if b.opt.Servers != nil {
		if s, err = b.opt.Servers(ctx, p.Seed.Build); err != nil {
			return errs.Wrap(err, "serve the build's databases")
		}
		if s.Close != nil {
			defer func() { err = errors.Join(err, errs.Wrap(s.Close(), "close the build's databases")) }()
		}
	}
	if err := writeFile(filepath.Join(dir, "topdir", "conf", "slipway-machine.conf"), []byte(MachineConf(s, b.opt.Jobs, b.opt.Offline))); err != nil {
		return err
	}
	return f()
}

// run is one start of BitBake.
type run struct {
	b      *Builder
	p      *plan
	dir    string
	board  string
	log    io.Writer
	events func(distro.BuildEvent)
	out    io.Writer // standard output, when it is no console
}

func (r *run) top() string { return filepath.Join(r.dir, "topdir") }

// environment is all that BitBake sees: nothing of ours but what is written here.
func (r *run) environment() []string {
	path := append(slices.Clone(r.b.opt.Path), filepath.Join(r.p.BitBake, "bin"), filepath.Join(r.p.Core, "scripts"), "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
	env := []string{"PATH=" + strings.Join(path, ":"), "HOME=" + filepath.Join(r.top(), "home"), "LANG=en_US.UTF-8", "LC_ALL=en_US.UTF-8", "TZ=UTC", "TERM=dumb", "SHELL=/bin/bash",
		"BBPATH=" + r.top(), "BUILDDIR=" + r.top(), "MACHINE=" + r.board, "PYTHONDONTWRITEBYTECODE=1",
		// The server shall end with its client: the next board starts its own.
		"BB_SERVER_TIMEOUT=0", "BB_ENV_PASSTHROUGH_ADDITIONS=MACHINE BB_SERVER_TIMEOUT"}
	for _, k := range []string{"http_proxy", "https_proxy", "no_proxy", "ftp_proxy", "all_proxy"} {
		if v := os.Getenv(k); v != "" {
			env = append(env, k+"="+v)
		}
	}
	return env
}

// watched is the console under one lock: the copying goroutine writes, ours asks.
type watched struct {
	mu   sync.Mutex
	c    *Console
	log  io.Writer
	last time.Time
	err  error
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = time.Now()
	if _, err := w.log.Write(p); err != nil {
		w.err = errors.Join(w.err, err)
	}
	return w.c.Write(p)
}

func (r *run) bitbake(ctx context.Context, args []string) error {
	who, err := lookupUser(r.b.opt.User)
	if err != nil {
		return err
	}
	if err := r.endServer(0); err != nil {
		return err
	}
	w := &watched{c: &Console{Event: r.events}, log: r.log, last: time.Now()}
	cmd := exec.Command("/usr/bin/env", append([]string{"python3", filepath.Join(r.p.BitBake, "bin", "bitbake")}, args...)...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = r.top(), r.environment(), who.attributes()
	cmd.Stdout, cmd.Stderr = w, w
	if r.out != nil {
		cmd.Stdout = r.out
	}
	// What BitBake leaves behind may hold the pipe open.
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		return errs.E(errs.Unavailable, "start BitBake", err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	hung, err := r.watch(ctx, cmd.Process, w, done)
	serverErr := r.endServer(r.b.opt.Grace)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return errs.E(errs.Interrupted, fmt.Sprintf("BitBake was stopped with %d of %d tasks done", w.c.Done, w.c.Total), context.Cause(ctx), errs.Hint("the same command goes on where it stopped"))
	case hung:
		return errs.E(errs.Failed, fmt.Sprintf("BitBake said nothing for %s and was ended", r.b.opt.Silence), errs.Hint("running were: "+strings.Join(w.c.Oldest(), ", ")))
	case w.err != nil:
		return errs.E(errs.Unavailable, "write the console log", w.err)
	case err == nil:
		return serverErr
	}
	if found := w.c.Err(); found != nil {
		return found
	}
	return r.vanished(err, w.c)
}

// watch waits for the end, and brings it about when ctx ends or nothing is heard.
func (r *run) watch(ctx context.Context, p *os.Process, w *watched, done <-chan error) (hung bool, err error) {
	tick := time.NewTicker(min(r.b.opt.Silence, time.Minute))
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return false, err
		case <-ctx.Done():
			return false, r.stop(p, done)
		case <-tick.C:
			w.mu.Lock()
			silent := time.Since(w.last)
			if silent >= time.Minute && r.events != nil {
				w.c.tell(distro.BuildEvent{Type: "note", Text: fmt.Sprintf("nothing heard for %s; running: %s", silent.Truncate(time.Second), strings.Join(w.c.Oldest(), ", "))})
			}
			w.mu.Unlock()
			if silent >= r.b.opt.Silence {
				return true, r.stop(p, done)
			}
		}
	}
}

// stop asks twice, as a person does with Ctrl-C, then insists.
func (r *run) stop(p *os.Process, done <-chan error) error {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGINT, syscall.SIGTERM} {
		if err := syscall.Kill(p.Pid, s); err != nil {
			break
		}
		select {
		case err := <-done:
			return err
		case <-time.After(r.b.opt.Grace):
		}
	}
	// The error is that there is no such group any more.
	_ = syscall.Kill(-p.Pid, syscall.SIGKILL)
	return <-done
}

// vanished explains an end without an error of BitBake's: it was killed, or its
// server died, whose log is the only place that says why.
func (r *run) vanished(err error, c *Console) error {
	what := "BitBake ended without saying why"
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if st, ok := exit.Sys().(syscall.WaitStatus); ok && st.Signaled() {
			what = "BitBake was killed (" + st.Signal().String() + ")"
		}
	}
	if n := len(c.Running); n > 0 {
		what += "; running were " + strings.Join(c.Oldest(), ", ")
	}
	opts := []any{err, errs.Hint("was the machine out of memory? the same command goes on where it stopped")}
	if lines := tail(filepath.Join(r.top(), "bitbake-cookerdaemon.log")); lines != "" {
		what += "\n  bitbake-cookerdaemon.log:\n  | " + lines
	}
	return errs.E(errs.Failed, what, opts...)
}

// tail gives the last lines of a file.
func tail(path string) string {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	const most = 4096
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return ""
	} else if info.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd)
	}
	data, _ := io.ReadAll(io.LimitReader(f, most))
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-lastLines):], "\n  | ")
}

// server gives the pid of the BitBake server of this TOPDIR, 0 if there is none.
// The lock file is the build user's, so the process is asked, too.
func (r *run) server() int {
	lock := filepath.Join(r.top(), "bitbake.lock")
	f, err := os.OpenFile(lock, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	data, _ := io.ReadAll(io.LimitReader(f, 64))
	first, _, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
	pid, err := strconv.Atoi(first)
	if err != nil || pid <= 1 {
		return 0
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !bytes.Contains(cmdline, []byte(lock)) {
		return 0
	}
	return pid
}

// endServer waits for the server of this TOPDIR to end, asks it to after grace, and
// kills it at last: of a run before this one there shall be none.
func (r *run) endServer(grace time.Duration) error {
	wait := func(limit time.Duration) bool {
		for end := time.Now().Add(limit); r.server() != 0; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				return false
			}
		}
		return true
	}
	if wait(grace) {
		return nil
	}
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		if pid := r.server(); pid != 0 {
			_ = syscall.Kill(pid, s) // gone by itself is as good
		}
		if wait(max(grace, 10*time.Second)) {
			return nil
		}
	}
	return errs.E(errs.Locked, fmt.Sprintf("BitBake's server of this folder does not end (pid %d)", r.server()), errs.Hint("end it, then the same command again"))
}
