package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"slipway/internal/errs"
)

// What a command may take.
const (
	flashPatience  = 15 * time.Minute
	switchPatience = time.Minute
)

// powerDown are the lines with which Linux says that it is off (kernel/reboot.c).
var powerDown = []string{"reboot: Power down", "reboot: System halted"}

// lab is a real board, behind a program that a person wrote for it:
//
//	PROGRAM flash IMAGE  writes the image to the board, which is off
//	PROGRAM on, off      switch it
//	PROGRAM console      writes what the serial console says to its standard output,
//	                     until it is killed
//	PROGRAM address      prints HOST:PORT of the board's ssh server
//
// docs/boards.md, "A real board", has the whole interface.
type lab struct {
	program string
	hide    []string
}

// Command gives the rig that is a real board behind a program, absolute. The folders in
// hide are not there for it: those of keys. errs.NotFound: there is no such program;
// errs.Invalid: it is not executable.
func Command(program string, hide []string) (*Rig, error) {
	st, err := os.Stat(program)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, errs.E(errs.NotFound, "there is no program "+program, errs.Hint("boot: {command: ...} names a file of the repository"))
	case err != nil:
		return nil, errs.E(errs.Unavailable, "the board's program", err)
	case !st.Mode().IsRegular() || st.Mode().Perm()&0o111 == 0:
		return nil, errs.E(errs.Invalid, program+" is not executable", errs.Hint("chmod +x "+program))
	}
	return &Rig{Name: filepath.Base(program), Arch: "the board", lab: &lab{program, hide}}, nil
}

// command lays out one call of the program.
func (g *Guest) command(ctx context.Context, verb ...string) (*exec.Cmd, error) {
	l := g.rig.lab
	argv, err := Without(l.hide, append([]string{l.program}, verb...)...)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = filepath.Dir(l.program)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "SLIPWAY_DEVICE=" + g.opt.Name, "SLIPWAY_STATE=" + g.dir}
	if key := g.opt.FwCfg[SeedKey]; key != nil {
		path := filepath.Join(g.dir, "authorized_key")
		if err := os.WriteFile(path, key, 0o600); err != nil {
			return nil, errs.E(errs.Unavailable, "lay out "+g.dir, err)
		}
		cmd.Env = append(cmd.Env, "SLIPWAY_KEY="+path)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	return cmd, nil
}

// Without gives the command line by which a program runs that must not see some folders,
// those of keys: by bwrap when one of them is there. It has the machine's network and
// devices.
func Without(folders []string, argv ...string) ([]string, error) {
	var hide []string
	for _, h := range folders {
		if _, err := os.Stat(h); err == nil {
			hide = append(hide, "--tmpfs", h)
		}
	}
	if len(hide) == 0 {
		return argv, nil
	}
	bwrap, err := exec.LookPath("bwrap")
	if err != nil {
		return nil, errs.E(errs.Unavailable, argv[0]+" must not see the keys, and bwrap is not installed", errs.Hint("apt-get install bubblewrap"))
	}
	return append(append([]string{bwrap, "--dev-bind", "/", "/"}, hide...), append([]string{"--die-with-parent", "--"}, argv...)...), nil
}

// Tool is a program of the distribution's repository that works on a device from this
// machine.
type Tool struct {
	Path, Dir string
	Env       []string // beside PATH and LC_ALL
	Hide      []string // folders that it must not see
	Within    time.Duration
}

// Run runs it to its end, and gives the last of what it said. ended is false when it was
// killed because its time was over. err is how it ended, as os/exec says it, or
// errs.Unavailable: it cannot be started.
func (t Tool) Run(ctx context.Context) (said string, ended bool, err error) {
	argv, err := Without(t.Hide, t.Path)
	if err != nil {
		return "", true, err
	}
	limited, cancel := context.WithTimeout(ctx, t.Within)
	defer cancel()
	out := &tailBuffer{}
	cmd := exec.CommandContext(limited, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = t.Dir, append([]string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL=C.UTF-8"}, t.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	err = cmd.Run()
	said = strings.ToValidUTF8(out.String(), "?")
	switch {
	case ctx.Err() != nil:
		return said, true, context.Cause(ctx)
	case limited.Err() != nil:
		return said, false, err
	case errors.Is(err, exec.ErrWaitDelay):
		return said, true, nil
	case err != nil && !errors.As(err, new(*exec.ExitError)):
		return said, true, errs.E(errs.Unavailable, "start "+t.Path, err)
	}
	return said, true, err
}

// call runs the program to its end, and gives its standard output. What goes wrong is the
// lab's and not the image's: errs.Unavailable.
func (g *Guest) call(ctx context.Context, within time.Duration, verb ...string) (string, error) {
	what := filepath.Base(g.rig.lab.program) + " " + verb[0]
	limited, cancel := context.WithTimeoutCause(ctx, within, errs.E(errs.Unavailable, fmt.Sprintf("%s did not end within %v", what, within)))
	defer cancel()
	cmd, err := g.command(limited, verb...)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	said := &tailBuffer{}
	cmd.Stdout, cmd.Stderr = &out, said
	err = cmd.Run()
	switch {
	case limited.Err() != nil:
		return "", context.Cause(limited)
	case errors.Is(err, exec.ErrWaitDelay): // what it started goes on, and holds its output open
	case err != nil:
		return "", errs.E(errs.Unavailable, fmt.Sprintf("%s: %v: %s", what, err, lastLines(said.String()+"\n"+out.String(), 3)), errs.Hint("docs/boards.md, \"A real board\": try it by hand"))
	}
	return strings.TrimSpace(out.String()), nil
}

// onBoard switches a real board on: the first time it is flashed before. When the board
// reboots by itself only its console is followed anew.
func (g *Guest) onBoard(ctx context.Context) (*power, error) {
	first := g.count == 0
	if first {
		if _, err := g.call(ctx, switchPatience, "off"); err != nil {
			return nil, err
		}
		if _, err := g.call(ctx, flashPatience, "flash", g.disk); err != nil {
			return nil, err
		}
	}
	p := &power{kernel: "of the board", hostKeys: map[string]string{}}
	g.mu.Lock()
	g.accel, g.why = "board", g.rig.lab.program
	g.mu.Unlock()
	if err := g.listen(p); err != nil {
		return nil, err
	}
	if first {
		if _, err := g.call(ctx, switchPatience, "on"); err != nil {
			p.kill()
			<-p.done
			return nil, err
		}
	}
	context.AfterFunc(ctx, p.kill)
	return p, nil
}

// listen follows the console. p.done is closed when the program that shows it ends.
func (g *Guest) listen(p *power) error {
	cmd, err := g.command(context.Background(), "console")
	if err != nil {
		return err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = in, &p.stderr
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started, ended := make(chan error, 1), make(chan error, 1)
	p.started = time.Now()
	go func() {
		runtime.LockOSThread() // as in Rig.start: the death signal is the thread's
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		ended <- cmd.Wait()
	}()
	err = <-started
	_ = in.Close()
	if err != nil {
		_ = out.Close()
		return errs.E(errs.Unavailable, "start "+g.rig.lab.program+" console", err)
	}
	p.pid, p.done = cmd.Process.Pid, make(chan struct{})
	p.lab = true
	go func() {
		defer close(p.done)
		read := make(chan struct{})
		go func() {
			defer close(read)
			buf := make([]byte, 32<<10)
			for {
				n, err := out.Read(buf)
				if n > 0 {
					g.consoleWrite(p, buf[:n])
				}
				if err != nil {
					return
				}
			}
		}()
		p.exit = <-ended
		select { // something that it started may hold the pipe open
		case <-read:
		case <-time.After(time.Second):
		}
		_ = out.Close()
		<-read
	}()
	return nil
}

// offBoard switches the board off, whatever has happened before.
func (g *Guest) offBoard() error {
	_, err := g.call(context.Background(), switchPatience, "off")
	return err
}

// boardEnds waits until the board says that it is off, and ends its console; a reboot
// ends it at once.
func (g *Guest) boardEnds(ctx context.Context, p *power, command string) {
	if command == "poweroff" {
		_ = g.wait(ctx, func() (bool, time.Duration) { return p.off || ended(p), 0 })
		if ctx.Err() != nil {
			return
		}
	}
	p.kill()
}

// address of the ssh server, as HOST:PORT.
func (g *Guest) address(ctx context.Context) (string, error) {
	if g.rig.lab == nil {
		return fmt.Sprintf("127.0.0.1:%d", g.Port()), nil
	}
	g.mu.Lock()
	p := g.now
	known := p.address
	g.mu.Unlock()
	if known != "" {
		return known, nil
	}
	said, err := g.call(ctx, switchPatience, "address")
	if err != nil {
		return "", err
	}
	if _, _, err := net.SplitHostPort(said); err != nil || strings.ContainsAny(said, " \n") {
		return "", errs.E(errs.Unavailable, fmt.Sprintf("%s address says %.80q, which is no HOST:PORT", filepath.Base(g.rig.lab.program), said))
	}
	g.mu.Lock()
	p.address = said
	g.mu.Unlock()
	return said, nil
}
