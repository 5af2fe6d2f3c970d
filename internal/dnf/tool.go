package dnf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"slipway/internal/errs"
)

// Tool is the dnf and rpm of this machine. Make it with [Find].
type Tool struct {
	Version string // of dnf, "4.14.0"
	RPM     string // version of rpm, "4.18.0"
	prefix  []string
	bind    bool // device nodes come by bind mounts, since they cannot be made

	serverMu  sync.Mutex
	server    *forkserver // see Tool.forks
	serverErr error       // why there is none; nobody tries again then
}

var found struct {
	sync.Mutex
	tool  *Tool
	stamp string
}

// Find looks for dnf and rpm and tries out how a root can be entered. A missing
// program is errs.Unavailable, with the Debian package that brings it. What was
// found stays found for the life of the process, as long as both programs are the
// same files.
func Find(ctx context.Context) (*Tool, error) {
	found.Lock()
	defer found.Unlock()
	stamp := ""
	for _, p := range []string{"dnf", "rpm"} {
		if path, err := lookPath(p); err == nil {
			if st, err := os.Stat(path); err == nil {
				stamp += fmt.Sprintln(path, st.Size(), st.ModTime())
			}
		}
	}
	if found.tool != nil && found.stamp == stamp {
		return found.tool, nil
	}
	t, err := find(ctx)
	if err == nil {
		found.tool, found.stamp = t, stamp
	}
	return t, err
}

func find(ctx context.Context) (*Tool, error) {
	var missing errs.List
	for _, p := range []struct{ program, debian string }{{"dnf", "dnf"}, {"rpm", "rpm"}, {"chroot", "coreutils"}, {"unshare", "util-linux"}} {
		if _, err := lookPath(p.program); err != nil {
			missing = append(missing, errs.E(errs.Unavailable, p.program+" is not installed", errs.Hint("apt-get install "+p.debian)))
		}
	}
	if err := missing.Err(); err != nil {
		return nil, err
	}
	t := &Tool{}
	if os.Geteuid() != 0 {
		t.prefix, t.bind = []string{"unshare", "-rm"}, true
		if out, err := plain(ctx, "unshare", "-rm", "true"); err != nil {
			return nil, errs.E(errs.Unavailable, "dnf needs root or user namespaces, and unshare -rm says: "+strings.TrimSpace(out),
				errs.Hint("run as root, or allow user namespaces: sysctl -w kernel.unprivileged_userns_clone=1"))
		}
	} else if !canMknod() {
		t.prefix, t.bind = []string{"unshare", "-m"}, true
	}
	var err error
	if t.RPM, err = version(ctx, "rpm"); err != nil {
		return nil, err
	}
	// Else dnf --version reads the host's packages, and writes a log there.
	dir, err := os.MkdirTemp("", "slipway-dnf-")
	if err != nil {
		return nil, errs.E(errs.Unavailable, "no temporary folder", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if t.Version, err = version(ctx, "dnf", "--installroot", dir); err != nil {
		return nil, err
	}
	return t, nil
}

func version(ctx context.Context, program string, args ...string) (string, error) {
	out, err := plain(ctx, append([]string{program, "--version"}, args...)...)
	v := versionPattern.FindString(out)
	if err != nil || v == "" {
		return "", errs.E(errs.Unavailable, program+" --version says: "+lastLines(out, 3), errs.Hint("apt-get install --reinstall "+program))
	}
	return v, nil
}

var versionPattern = regexp.MustCompile(`[0-9]+\.[0-9]+(\.[0-9]+)*`)

const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// lookPath ignores the caller's PATH: chroot is in /usr/sbin, which an ordinary
// user's PATH on Debian does not hold.
func lookPath(program string) (string, error) {
	for _, dir := range filepath.SplitList(searchPath) {
		path := filepath.Join(dir, program)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

func plain(ctx context.Context, argv ...string) (string, error) {
	var out bytes.Buffer
	err := start(ctx, argv, []string{"PATH=" + searchPath, "LC_ALL=C", "HOME=/nonexistent"}, &out, &out)
	return out.String(), err
}

const holdDelay = 2 * time.Second

var errHeld = errors.New("left a process behind that held its output open; it was killed")

// start runs argv to its end with exactly this environment. When ctx ends, its
// whole process group is killed and ctx's cause is the error.
func start(ctx context.Context, argv, env []string, stdout, stderr io.Writer) error {
	path, err := lookPath(argv[0])
	if err != nil {
		return errs.E(errs.Unavailable, argv[0]+" is not installed")
	}
	cmd := exec.CommandContext(ctx, path)
	cmd.Args, cmd.Env, cmd.Dir = argv, env, "/"
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// A daemon that a scriptlet left behind may hold the pipe open.
	cmd.WaitDelay = holdDelay
	err = cmd.Run()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		return errHeld
	}
	return err
}

var deviceNodes = []struct {
	name         string
	major, minor int
}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}}

func canMknod() bool {
	dir, err := os.MkdirTemp("", "slipway-dnf-")
	if err != nil {
		return false
	}
	defer func() { _ = os.RemoveAll(dir) }()
	return mknod(filepath.Join(dir, "null"), 1, 3) == nil
}

func mknod(path string, major, minor int) error {
	if err := syscall.Mknod(path, syscall.S_IFCHR|0o666, major<<8|minor); err != nil {
		return err
	}
	return os.Chmod(path, 0o666)
}

// lastLines gives the last n lines of text that are not empty.
func lastLines(text string, n int) string {
	var lines []string
	for l := range strings.Lines(text) {
		if l = strings.TrimRight(l, " \r\n"); l != "" {
			lines = append(lines, l)
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
