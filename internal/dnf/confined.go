package dnf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Runs says how programs of the device run here: "native", "emulated" by the emulator
// that the kernel starts for them, or "" when they do not.
func (r *Root) Runs() string {
	switch {
	case !r.opt.canRun():
		return ""
	case r.opt.Arch == "" || r.opt.Arch == "noarch":
		return "native"
	}
	arch := r.opt.Arch
	if family, ok := distro.ArchFamily(arch); ok {
		arch = family
	}
	if arch == distro.HostArch() {
		return "native"
	}
	return "emulated"
}

// Owners gives the name of the package that owns each file of the root.
func (r *Root) Owners(ctx context.Context) (map[string]string, error) {
	out, err := r.rpm(ctx, "-qa", "--qf", `[%{=NAME}\t%{FILENAMES}\n]`)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for line := range strings.Lines(out) {
		if name, path, ok := strings.Cut(strings.TrimRight(line, "\n"), "\t"); ok {
			all[path] = name
		}
	}
	return all, nil
}

// Confined is a program of the device to be run in a sandbox.
type Confined struct {
	Argv   []string      // paths of the root
	Dir    string        // where it starts
	Within time.Duration // then it is killed, and all that it started
	Bind   [2]string     // a folder of this machine, read-only, and where the program sees it; empty is none
	Max    int           // bytes of output that are kept, the first
}

// Ran is what came of it.
type Ran struct {
	Output  string // both standard outputs, in order
	Exit    int    // -1: it was killed
	Timeout bool
	Cut     bool // it said more than Max
}

// notStarted is what bwrap says of a program that cannot be run.
const notStarted = "bwrap: execvp"

// Confined runs a program with the root for its file system and nothing else of this
// machine: no network, no other process, no key, fresh /tmp, /run and /dev. It may write to the
// root: give it a clone. errs.Unavailable: there is no bwrap, or it does not work here.
func (r *Root) Confined(ctx context.Context, c Confined) (Ran, error) {
	if _, err := lookPath("bwrap"); err != nil {
		return Ran{}, errs.E(errs.Unavailable, "tests of a device run in a sandbox, and bwrap is not installed", errs.Hint("apt-get install bubblewrap"))
	}
	var last error
	for _, proc := range []bool{true, false} { // inside some containers a new /proc may not be mounted
		// A folder cannot be run: when bwrap says so, all before that works.
		probe, err := r.confined(ctx, Confined{Argv: []string{"/"}, Dir: "/", Within: time.Minute, Max: 4096}, proc)
		if err == nil && !strings.Contains(probe.Output, notStarted) {
			err = errs.E(errs.Unavailable, "bwrap does not work here: "+lastLines(probe.Output, 2), errs.Hint("allow unprivileged user namespaces"))
		}
		if last = err; err != nil {
			continue
		}
		return r.confined(ctx, c, proc)
	}
	if ctx.Err() != nil {
		return Ran{}, context.Cause(ctx)
	}
	return Ran{}, last
}

func (r *Root) confined(ctx context.Context, c Confined, proc bool) (Ran, error) {
	argv := append(r.tool.entry(), "bwrap", "--unshare-user", "--unshare-all", "--uid", "0", "--gid", "0", "--hostname", "device", "--die-with-parent", "--new-session",
		"--bind", r.Path(), "/", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run")
	if proc {
		argv = append(argv, "--proc", "/proc")
	}
	if c.Bind[0] != "" {
		argv = append(argv, "--ro-bind", c.Bind[0], c.Bind[1])
	}
	argv = append(append(argv, "--chdir", c.Dir, "--"), c.Argv...)
	limited, cancel := context.WithTimeout(ctx, c.Within)
	defer cancel()
	path, err := lookPath(argv[0])
	if err != nil {
		return Ran{}, errs.E(errs.Unavailable, argv[0]+" is not installed")
	}
	out := &firstBytes{max: c.Max}
	cmd := exec.CommandContext(limited, path)
	cmd.Args, cmd.Dir = argv, "/"
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "TZ=UTC", "HOME=/", "TMPDIR=/tmp"}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	err = cmd.Run()
	ran := Ran{Output: strings.ToValidUTF8(out.b.String(), "?"), Cut: out.cut}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return ran, context.Cause(ctx)
	case limited.Err() != nil:
		ran.Exit, ran.Timeout = -1, true
		return ran, nil
	case errors.Is(err, exec.ErrWaitDelay):
		return ran, nil
	case errors.As(err, &exit):
		ran.Exit = exit.ExitCode()
		return ran, nil
	case err != nil:
		return ran, errs.E(errs.Unavailable, fmt.Sprintf("run %s in a sandbox", c.Argv[0]), err)
	}
	return ran, nil
}

// firstBytes keeps the first bytes that are written.
type firstBytes struct {
	b   bytes.Buffer
	max int
	cut bool
}

func (f *firstBytes) Write(p []byte) (int, error) {
	n := min(len(p), f.max-f.b.Len())
	f.b.Write(p[:n])
	f.cut = f.cut || n < len(p)
	return len(p), nil
}
