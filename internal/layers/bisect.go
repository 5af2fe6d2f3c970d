package layers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"slipway/internal/errs"
)

// Between gives the commits that are in bad and in none of good, without bad itself,
// the one first that halves them best (git rev-list --bisect-all). With none, bad is the
// first bad one. A commit that the repository does not have is NotFound.
func Between(ctx context.Context, repo, bad string, good []string) ([]string, error) {
	p := program{dir: repo}
	args := []string{"rev-list", "--bisect-all", bad}
	for _, c := range append([]string{bad}, good...) {
		if _, err := p.run(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", c+"^{commit}"); saidNothing(err) {
			return nil, errs.E(errs.NotFound, fmt.Sprintf("%s has no commit %.12s", repo, c), errs.Hint("was its history rewritten?"))
		} else if err != nil {
			return nil, err
		}
		if c != bad {
			args = append(args, "^"+c)
		}
	}
	out, err := p.run(ctx, args...)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, line := range strings.Split(string(out), "\n") {
		if id, _, _ := strings.Cut(line, " "); id != "" && id != bad {
			all = append(all, id)
		}
	}
	return all, nil
}

// CommitOf tells of one commit, with the files that it changes ("M\tpath"; of a merge
// those that differ from its first parent).
func CommitOf(ctx context.Context, repo, id string) (CommitInfo, []string, error) {
	p := program{dir: repo}
	out, err := p.run(ctx, "log", "-1", "-z", "--no-show-signature", "--no-decorate", "--no-mailmap", "--encoding=UTF-8", "--format="+logFormat, id)
	if err != nil {
		return CommitInfo{}, nil, err
	}
	all := parseLog(out)
	if len(all) != 1 {
		return CommitInfo{}, nil, errs.E(errs.Failed, fmt.Sprintf("git log said nothing of %.12s", id))
	}
	out, err = p.run(ctx, "diff-tree", "-r", "--diff-merges=first-parent", "--root", "--no-commit-id", "--name-status", "--no-renames", "-z", id)
	if err != nil {
		return all[0], nil, err
	}
	var files []string
	f := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	for i := 0; i+1 < len(f); i += 2 {
		files = append(files, f[i]+"\t"+strings.ToValidUTF8(f[i+1], "\ufffd"))
	}
	return all[0], files, nil
}

// Clone makes a repository in dest, which must be absent or empty, with its work tree at
// a commit of another one. It borrows the other one's objects, writes nothing into it,
// and runs no hook of it.
func Clone(ctx context.Context, repo, commit, dest string) error {
	err := replace(dest, func(tmp string) error {
		objects, err := program{dir: repo}.line(ctx, "rev-parse", "--git-path", "objects")
		if err != nil {
			return err
		}
		if !filepath.IsAbs(objects) {
			objects = filepath.Join(repo, objects)
		}
		if _, err := (program{isolated: true}).run(ctx, "init", "-q", "--template=", "-b", "main", "--object-format="+formatOf(commit), tmp); err != nil {
			return err
		}
		git := filepath.Join(tmp, ".git")
		if err := os.MkdirAll(filepath.Join(git, "objects", "info"), 0o755); err != nil {
			return errs.E(errs.Unavailable, "write "+git, err)
		}
		if err := os.WriteFile(filepath.Join(git, "objects", "info", "alternates"), []byte(objects+"\n"), 0o644); err != nil {
			return errs.E(errs.Unavailable, "write "+git, err)
		}
		if shallow, err := (program{dir: repo}).line(ctx, "rev-parse", "--git-path", "shallow"); err == nil {
			if !filepath.IsAbs(shallow) {
				shallow = filepath.Join(repo, shallow)
			}
			if data, err := os.ReadFile(shallow); err == nil {
				if err := os.WriteFile(filepath.Join(git, "shallow"), data, 0o644); err != nil {
					return errs.E(errs.Unavailable, "write "+git, err)
				}
			}
		}
		p := program{dir: tmp, isolated: true}
		for _, args := range [][]string{{"update-ref", "refs/heads/main", commit}, {"-c", "core.autocrlf=false", "reset", "-q", "--hard", "main"}} {
			if _, err := p.run(ctx, args...); err != nil {
				return err
			}
		}
		return nil
	})
	return errs.Wrap(err, "check out %.12s", commit)
}

// Toplevel gives the top of the work tree that a folder lies in; "" when it lies in none.
func Toplevel(ctx context.Context, dir string) (string, error) {
	top, err := program{dir: dir}.line(ctx, "rev-parse", "--show-toplevel")
	if errs.Is(err, errs.Invalid) {
		return "", nil
	}
	return top, err
}
