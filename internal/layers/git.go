// Package layers is the adapter to git, and the only package that starts it: it
// pins the layers of a definition to commits and trees ([Inspect]), writes the
// exact tree of a pin into a folder ([Export]), keeps a commit with its history
// as one file and brings it back ([Bundle], [Restore]), tells what was committed
// since a release ([Log]) and makes the example's repository ([CreateRepo]).
//
// A layer is a folder of the workspace's own repository, or of one of its own
// below the workspace, or (with a URL) of another one, which is mirrored into
// .slipway/layers of the workspace. A local layer must be committed: what is
// built is always a commit, never the files that happen to lie there.
//
// The user's repositories are only read: no refs, no index, no hooks, no
// filters, no file system monitor. Errors are of package errs and name the cure;
// they quote git's last lines.
package layers

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
	"time"

	"slipway/internal/errs"
)

// program is one run of git.
type program struct {
	dir      string   // where it runs
	env      []string // beside the cleaned environment
	isolated bool     // without the user's configuration
	stdin    io.Reader
	stdout   io.Writer // nil: collected and returned
}

// readOnly keeps git from running what a repository's configuration names, and
// from writing into it. Odd file names are taken literally.
var readOnly = []string{
	"--literal-pathspecs", "--no-replace-objects",
	"-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=false",
	"-c", "protocol.ext.allow=never", "-c", "gc.auto=0", "-c", "maintenance.auto=false",
}

// environment is ours without what binds git to some other repository (as it is
// set within a hook of the user's).
func (p program) environment() []string {
	keep := map[string]bool{"GIT_SSH": true, "GIT_SSH_COMMAND": true, "GIT_SSL_CAINFO": true, "GIT_EXEC_PATH": true,
		"GIT_CONFIG_GLOBAL": true, "GIT_CONFIG_SYSTEM": true, "GIT_CONFIG_NOSYSTEM": true}
	var env []string
	for _, kv := range os.Environ() {
		if k, _, _ := strings.Cut(kv, "="); !strings.HasPrefix(k, "GIT_") || keep[k] {
			env = append(env, kv)
		}
	}
	env = append(env, "LC_ALL=C", "TZ=UTC", "GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0", "GIT_ALLOW_PROTOCOL=file:git:http:https:ssh")
	if p.isolated {
		env = append(env, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_ATTR_NOSYSTEM=1")
	}
	return append(env, p.env...)
}

// run starts git and gives its standard output.
func (p program) run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", append(append([]string(nil), readOnly...), args...)...)
	cmd.Dir, cmd.Env, cmd.Stdin = p.dir, p.environment(), p.stdin
	// git's helpers (ssh, https) hold the pipes open after git was killed.
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout = p.stdout
	if p.stdout == nil {
		cmd.Stdout = &out
	}
	talk := &tail{}
	cmd.Stderr = talk
	if err := cmd.Run(); err != nil {
		return nil, p.explain(ctx, args, talk.String(), err)
	}
	return out.Bytes(), nil
}

// line is run for an answer of one line.
func (p program) line(ctx context.Context, args ...string) (string, error) {
	out, err := p.run(ctx, args...)
	return strings.TrimSuffix(string(out), "\n"), err
}

// gitError is what git said; callers that know better what it means replace it.
type gitError struct{ talk string }

func (e *gitError) Error() string { return e.talk }

// explain turns a failed run into an error with a cure.
func (p program) explain(ctx context.Context, args []string, talk string, err error) error {
	if ctx.Err() != nil {
		return errs.Wrap(context.Cause(ctx), "git %s", args[0])
	}
	if errors.Is(err, exec.ErrNotFound) {
		return errs.E(errs.Unavailable, "git is not installed", errs.Hint("apt-get install git"))
	}
	if info, statErr := os.Stat(p.dir); p.dir != "" && (statErr != nil || !info.IsDir()) {
		return errs.E(errs.NotFound, "there is no folder "+p.dir)
	}
	talk = strings.TrimSpace(talk)
	switch {
	case strings.Contains(talk, "dubious ownership"):
		dir := p.dir
		if _, rest, ok := strings.Cut(talk, "safe.directory "); ok {
			dir = strings.Trim(strings.SplitN(rest, "\n", 2)[0], "'\" ")
		}
		return errs.E(errs.Denied, fmt.Sprintf("the repository %s belongs to another user, and git refuses to read it", dir),
			errs.Hintf("git config --global --add safe.directory %s", quote(dir)), errs.Hint("or run slipway as the user that it belongs to"))
	case strings.Contains(talk, "not a git repository"):
		return errs.E(errs.Invalid, fmt.Sprintf("%s is not in a git repository", p.dir),
			errs.Hintf(`cd %s && git init && git add -A && git commit -m "first"`, quote(p.dir)), &gitError{talk})
	case strings.Contains(talk, "must be run in a work tree"):
		return errs.E(errs.Invalid, p.dir+" is in no work tree of git", errs.Hint("a layer lies beside the folder .git"))
	case strings.Contains(talk, "No space left on device"):
		return errs.E(errs.Unavailable, "the disk is full", &gitError{talk})
	}
	if talk == "" {
		talk = err.Error()
	}
	return errs.E(errs.Failed, "git "+strings.Join(args, " "), &gitError{talk})
}

// tail keeps the last bytes of what git said.
type tail struct{ b []byte }

const tailSize = 2000

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > 2*tailSize {
		t.b = append(t.b[:0], t.b[len(t.b)-tailSize:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.b[max(0, len(t.b)-tailSize):]) }

// quote makes a path one word of a shell's line.
func quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+,:@%", r))
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// replace makes path out of what fill leaves at the temporary path beside it:
// whole, or not at all. path must not be there, or be an empty folder; an empty
// folder stays the same one (a shell may stand in it) and is filled entry by entry.
func replace(path string, fill func(tmp string) error) error {
	if entries, err := os.ReadDir(path); err == nil && len(entries) > 0 {
		return errs.E(errs.Conflict, path+" is not empty", errs.Hint("choose another folder, or remove this one"))
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return errs.E(errs.Unavailable, "make "+filepath.Dir(path), err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(path), "."+filepath.Base(path)+".partial-")
	if err != nil {
		return errs.E(errs.Unavailable, "make "+path, err)
	}
	defer os.RemoveAll(tmp)
	inner := filepath.Join(tmp, "new")
	if err := fill(inner); err != nil {
		return err
	}
	if _, err := os.Lstat(path); err != nil {
		if err := os.Rename(inner, path); err != nil {
			return errs.E(errs.Unavailable, "make "+path, err)
		}
		return nil
	}
	entries, err := os.ReadDir(inner)
	for _, e := range entries {
		if err == nil {
			err = os.Rename(filepath.Join(inner, e.Name()), filepath.Join(path, e.Name()))
		}
	}
	if err != nil {
		return errs.E(errs.Unavailable, "fill "+path, err)
	}
	return nil
}
