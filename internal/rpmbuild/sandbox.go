package rpmbuild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"slipway/internal/errs"
)

// top is where a task's folder appears in the sandbox and in all that is made.
const top = "/slipway"

const buildPath = "/usr/bin:/bin:/usr/sbin:/sbin"

// A sandbox starts programs that see one folder to write in. With bwrap nothing
// but /usr (with /bin, /lib...), a few files of /etc and the task's folder is
// there, so homes and keys are not; without it the program sees what we see.
type sandbox struct {
	bwrap string // "" for none
	proc  bool   // bwrap can mount a /proc of its own
	hide  []string
}

// A program is one command in a task's folder. In argv, env and the log the
// folder is called [top]; without bwrap the real path is put in its place.
type program struct {
	dir  string            // the task's folder, absolute
	show map[string]string // name below dir -> folder that the program may read there
	argv []string
	env  []string
	out  io.Writer
}

func newSandbox(ctx context.Context, opt Options) (*sandbox, error) {
	s := &sandbox{}
	for _, h := range opt.Hide {
		abs, err := filepath.Abs(h)
		if err != nil {
			return nil, errs.Wrap(err, "folder to hide")
		}
		s.hide = append(s.hide, abs)
		if real, err := filepath.EvalSymlinks(abs); err == nil && real != abs {
			s.hide = append(s.hide, real)
		}
	}
	switch opt.Sandbox {
	case "auto", "bwrap":
		err := s.probe(ctx, opt.Tools.Bwrap)
		if err == nil || opt.Sandbox == "bwrap" || ctx.Err() != nil {
			return s, err
		}
	case "none":
	default:
		return nil, errs.E(errs.Invalid, fmt.Sprintf("there is no sandbox %q", opt.Sandbox), errs.Hint("auto, bwrap or none"))
	}
	s.bwrap = ""
	for _, h := range s.hide {
		if _, err := os.ReadDir(h); err == nil {
			hint := errs.Hint("apt-get install bubblewrap")
			if opt.Sandbox == "none" {
				hint = "use the sandbox \"auto\", or build as a user who cannot read that folder"
			} else if _, err := exec.LookPath(opt.Tools.Bwrap); err == nil {
				hint = "bwrap is installed but does not work here (user namespaces?): build as a user who cannot read that folder"
			}
			return nil, errs.E(errs.Denied, "a build without a sandbox could read the keys in "+h, hint)
		}
	}
	return s, nil
}

// probe finds a form of bwrap that works here and in which nothing hidden can
// be seen.
func (s *sandbox) probe(ctx context.Context, tool string) error {
	path, err := exec.LookPath(tool)
	if err != nil {
		return missingTool(tool, "the sandbox")
	}
	dir, err := os.MkdirTemp("", "slipway-probe-")
	if err != nil {
		return errs.Wrap(err, "sandbox")
	}
	defer os.RemoveAll(dir)
	s.bwrap = path
	var out bytes.Buffer
	// Inside some containers a new /proc may not be mounted; nothing that we start needs it.
	for _, s.proc = range []bool{true, false} {
		out.Reset()
		argv := append([]string{"/bin/sh", "-c", `for d; do [ -z "$(ls -A "$d" 2>/dev/null)" ] || exit 99; done`, "sh"}, s.hide...)
		err = s.run(ctx, program{dir: dir, argv: argv, out: &out})
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 99 {
			return errs.E(errs.Denied, "the sandbox does not hide "+strings.Join(s.hide, ", "), errs.Hint("move the keys to a folder outside /usr, /opt and the build"))
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	return errs.E(errs.Unavailable, "bwrap does not work here: "+strings.TrimSpace(out.String()), err,
		errs.Hint("allow unprivileged user namespaces, or set the sandbox to none"))
}

// top gives the path of a task's folder as the program sees it.
func (s *sandbox) top(dir string) string {
	if s.bwrap != "" {
		return top
	}
	return dir
}

func (s *sandbox) run(ctx context.Context, p program) error {
	var args []string
	env := append([]string{"PATH=" + buildPath, "HOME=" + top + "/home", "TMPDIR=" + top + "/tmp", "LC_ALL=C.UTF-8", "TZ=UTC"}, p.env...)
	// umask is the caller's otherwise.
	argv := append([]string{"/bin/sh", "-c", `umask 022; exec "$@"`, "sh"}, p.argv...)
	for _, d := range []string{"home", "tmp"} {
		if err := os.MkdirAll(filepath.Join(p.dir, d), 0o755); err != nil {
			return errs.Wrap(err, "folder of a task")
		}
	}
	var name string
	if s.bwrap != "" {
		name, args = s.bwrap, append(s.flags(p), argv...)
	} else {
		for at, folder := range p.show {
			if err := os.Symlink(folder, filepath.Join(p.dir, at)); err != nil && !errors.Is(err, os.ErrExist) {
				return errs.Wrap(err, "sources of a task")
			}
		}
		name = argv[0]
		for _, a := range argv[1:] {
			args = append(args, strings.ReplaceAll(a, top+"/", p.dir+"/"))
		}
		for i := range env {
			env[i] = strings.ReplaceAll(env[i], top+"/", p.dir+"/")
		}
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.dir, env, p.out, p.out
	// A group of its own, so that all of it can be killed; the kernel kills it when we are killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// flags are the arguments of bwrap. What is not named here is not there.
func (s *sandbox) flags(p program) []string {
	f := []string{"--unshare-all", "--unshare-user", "--uid", "0", "--gid", "0", "--hostname", "slipway",
		"--die-with-parent", "--new-session", "--cap-drop", "ALL", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/var/tmp"}
	if s.proc {
		f = append(f, "--proc", "/proc")
	}
	for _, d := range []string{"/usr", "/opt", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"} {
		if target, err := os.Readlink(d); err == nil {
			f = append(f, "--symlink", target, d)
		} else {
			f = append(f, "--ro-bind-try", d, d)
		}
	}
	for _, e := range []string{"alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "passwd", "group", "magic"} {
		f = append(f, "--ro-bind-try", "/etc/"+e, "/etc/"+e)
	}
	for _, h := range s.hide {
		if strings.HasPrefix(h, "/usr/") || strings.HasPrefix(h, "/opt/") {
			if _, err := os.Stat(h); err == nil {
				f = append(f, "--tmpfs", h)
			}
		}
	}
	f = append(f, "--bind", p.dir, top)
	for at, folder := range p.show {
		f = append(f, "--ro-bind", folder, top+"/"+at)
	}
	return append(f, "--chdir", top, "--")
}

func (s *sandbox) String() string {
	if s.bwrap == "" {
		return "none"
	}
	return "bwrap"
}
