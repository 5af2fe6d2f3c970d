package bitbake

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	out    *bytes.Buffer // standard output, when it is no console
	orphan bool          // its server was gone before it
}

func (r *run) top() string { return filepath.Join(r.dir, "topdir") }

// environment is all that BitBake sees: nothing of ours but what is written here.
func (r *run) environment() []string {
	env := []string{"PATH=" + r.b.path(filepath.Join(r.p.BitBake, "bin"), filepath.Join(r.p.Core, "scripts")), "HOME=" + filepath.Join(r.top(), "home"), "LANG=en_US.UTF-8", "LC_ALL=en_US.UTF-8", "TZ=UTC", "TERM=dumb", "SHELL=/bin/bash",
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
		w.err = cmp.Or(w.err, err) // a full disk fails once for each line
	}
	return w.c.Write(p)
}

// noServer is what BitBake says, with nothing done, when its server did not come up in
// time: a busy machine does that.
const noServer = "Unable to connect to bitbake server"

// bitbake runs BitBake to its end; once more, when it could not start its server.
func (r *run) bitbake(ctx context.Context, args []string) error {
	err := r.once(ctx, args)
	said := r.out != nil && bytes.Contains(r.out.Bytes(), []byte(noServer))
	if err == nil || ctx.Err() != nil || !said && !strings.Contains(err.Error(), noServer) {
		return err
	}
	if r.out != nil {
		r.out.Reset()
	}
	if r.events != nil {
		r.events(distro.BuildEvent{Type: "note", Text: "BitBake's server did not answer; once more"})
	}
	return r.once(ctx, args)
}

// unsound is a file in the build's folder while a BitBake may be writing objects.
const unsound = "objects-in-work"

// sound removes sstate objects that a BitBake left half written, when it was killed or
// the disk was full: later runs would take them for whole, and be told errors by tar.
// What is removed is made again, or lacks in the cache; nothing rests on it.
func (r *run) sound(ctx context.Context) error {
	if !exists(r.dir, unsound) {
		return nil
	}
	err := walk(ctx, r.top(), "sstate", func(rel, path string) error {
		if !strings.HasSuffix(rel, ".tar.zst") {
			return nil
		}
		if err := exec.CommandContext(ctx, "zstd", "-t", "-q", path).Run(); err == nil || ctx.Err() != nil {
			return ctx.Err()
		} else if _, ok := err.(*exec.ExitError); !ok {
			return errs.E(errs.Unavailable, "zstd tests what a BitBake that was killed left in its cache", err, errs.Hint("apt-get install zstd"))
		}
		for _, p := range []string{path, path + ".siginfo"} {
			if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return errs.E(errs.Unavailable, "remove half an sstate object", err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return os.Remove(filepath.Join(r.dir, unsound))
}

func (r *run) once(ctx context.Context, args []string) error {
	who, err := lookupUser(r.b.opt.User)
	if err != nil {
		return err
	}
	if err := r.endServer(0); err != nil {
		return err
	}
	if err := r.sound(ctx); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(r.dir, unsound), nil); err != nil {
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
		return errs.E(errs.Unavailable, "write the console log", w.err, cure(w.err.Error()))
	case err == nil:
		if serverErr != nil {
			return serverErr
		}
		return errs.Wrap(os.Remove(filepath.Join(r.dir, unsound)), "end of BitBake")
	}
	if found := w.c.Err(); found != nil {
		if errs.Is(found, errs.Unavailable) {
			return found
		}
		if err := os.Remove(filepath.Join(r.dir, unsound)); err != nil {
			return errs.List{found, err}
		}
		return found
	}
	return r.vanished(err, w.c)
}

// watch waits for the end, and brings it about when ctx ends or nothing is heard.
func (r *run) watch(ctx context.Context, p *os.Process, w *watched, done <-chan error) (hung bool, err error) {
	tick := time.NewTicker(min(r.b.opt.Silence, time.Minute))
	defer tick.Stop()
	look := time.NewTicker(3 * time.Second)
	defer look.Stop()
	leader, missed := 0, 0
	for {
		select {
		case err := <-done:
			return false, err
		case <-look.C:
			// BitBake itself asks its server for minutes, when that was killed.
			switch now := r.leader(); {
			case now != 0:
				leader, missed = now, 0
			case leader != 0:
				missed++
			}
			if missed >= 3 {
				r.orphan = true
				_ = syscall.Kill(-p.Pid, syscall.SIGKILL) // gone by itself is as good
				return false, <-done
			}
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
	what, kind := "BitBake ended without saying why", errs.Failed
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if st, ok := exit.Sys().(syscall.WaitStatus); ok && st.Signaled() {
			what, kind = "BitBake was killed ("+st.Signal().String()+")", errs.Unavailable
		}
	}
	if r.orphan {
		what, kind = "BitBake's server was killed, or died", errs.Unavailable
	}
	if n := len(c.Running); n > 0 {
		kind = errs.Unavailable // its server is gone
		what += "; running were " + strings.Join(c.Oldest(), ", ")
	}
	opts := []any{err, errs.Hint("was the machine out of memory? the same command goes on where it stopped")}
	if lines := tail(filepath.Join(r.top(), "bitbake-cookerdaemon.log")); lines != "" {
		what += "\n  bitbake-cookerdaemon.log:\n  | " + lines
	}
	return errs.E(kind, what, opts...)
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

// servers gives the processes of the BitBake server of this TOPDIR. All of them have the path of the lock on their command line: the server, the
// parsers, and servers for numbers and hashes that BitBake starts itself. When the
// server is killed those live on, and hold its socket, on which the next BitBake would
// wait for ever. What the build user wrote into the lock is not asked.
func (r *run) servers() (pids []int) {
	lock := []byte(filepath.Join(r.top(), "bitbake.lock"))
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil
	}
	for _, path := range all {
		line, err := os.ReadFile(path)
		if err != nil || !slices.ContainsFunc(bytes.Split(line, []byte{0}), func(arg []byte) bool { return bytes.Equal(arg, lock) }) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// leader gives the pid of the server that holds the lock, 0 when it does not run.
func (r *run) leader() int {
	f, err := os.OpenFile(filepath.Join(r.top(), "bitbake.lock"), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	data, _ := io.ReadAll(io.LimitReader(f, 64))
	first, _, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
	if pid, err := strconv.Atoi(first); err == nil && slices.Contains(r.servers(), pid) {
		return pid
	}
	return 0
}

// endServer waits for the server of this TOPDIR to end, asks it to after grace, and
// kills it at last: of a run before this one there shall be none.
func (r *run) endServer(grace time.Duration) error {
	wait := func(limit time.Duration) bool {
		for end := time.Now().Add(limit); len(r.servers()) > 0; time.Sleep(20 * time.Millisecond) {
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
		for _, pid := range r.servers() {
			_ = syscall.Kill(pid, s) // gone by itself is as good
		}
		if wait(max(grace, 10*time.Second)) {
			return nil
		}
	}
	return errs.E(errs.Locked, fmt.Sprintf("BitBake's server of this folder does not end (pid %v)", r.servers()), errs.Hint("end it, then the same command again"))
}
