package compose

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"slipway/internal/errs"
)

// debianPackage says which Debian package brings each program that we start.
var debianPackage = map[string]string{"mke2fs": "e2fsprogs", "debugfs": "e2fsprogs", "rpmdb": "rpm", "unshare": "util-linux", "cat": "coreutils"}

const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// find ignores the caller's PATH: mke2fs is in /usr/sbin, which an ordinary
// user's PATH on Debian does not hold. A variable, so that a test can miss a program.
var find = func(program string) (string, error) {
	for _, dir := range filepath.SplitList(searchPath) {
		path := filepath.Join(dir, program)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", errs.E(errs.Unavailable, program+" is not installed", errs.Hint("apt-get install "+debianPackage[program]))
}

// command is one program run to its end, with nothing of the caller's environment.
type command struct {
	args   []string
	env    []string
	stdin  io.Reader
	stdout io.Writer
	mapped bool // the caller's own files belong to root as the program sees it
}

// run gives what the program said on stderr, also without an error.
func (c command) run(ctx context.Context) (string, error) {
	args := c.args
	if c.mapped && os.Geteuid() != 0 {
		args = append([]string{"unshare", "-r", "--"}, args...)
	}
	path, err := find(args[0])
	if err != nil {
		return "", err
	}
	if _, err := find(c.args[0]); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, path)
	cmd.Args, cmd.Dir = args, "/"
	cmd.Env = append([]string{"PATH=" + searchPath, "LC_ALL=C", "TZ=UTC", "HOME=/nonexistent"}, c.env...)
	var said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.stdin, c.stdout, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	err = cmd.Run()
	text := strings.TrimSpace(said.String())
	switch {
	case ctx.Err() != nil:
		return text, context.Cause(ctx)
	case err == nil:
		return text, nil
	case strings.Contains(text, "No space left on device"):
		return text, diskFull(c.args[0]+": "+lastLine(text), nil)
	case text == "":
		return text, errs.E(errs.Failed, c.args[0], err)
	}
	return text, errs.E(errs.Failed, fmt.Sprintf("%s: %s", c.args[0], lastLine(text)))
}

func diskFull(what string, err error) error {
	return errs.E(errs.Unavailable, what, err, errs.Hint("make room on this disk, then run the same command again"))
}

// space gives a full disk its kind and its cure.
func space(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return diskFull("the disk is full", err)
	}
	return err
}

func lastLine(text string) string { return text[strings.LastIndexByte(text, '\n')+1:] }

// replace makes a file under its name by a function that fills a temporary one.
// The name holds the old or the complete new file at any moment.
func replace(name string, fill func(f *os.File) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".tmp-*")
	if err != nil {
		kind := errs.Unavailable
		if errors.Is(err, fs.ErrNotExist) {
			kind = errs.NotFound
		}
		return errs.E(kind, "make "+name, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
			err = errs.Wrap(space(err), "make %s", name)
		}
	}()
	if err := fill(f); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return dir.Sync()
}
