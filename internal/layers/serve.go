package layers

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"slipway/internal/errs"
)

// Serve makes a repository of a folder's files, in its .git, that plain HTTP serves
// (git-http-backend's "dumb" protocol): one commit on main, packed, of those files as
// they are, ignored ones too. The same files and time give the same commit. A .git that
// is there already is replaced.
func Serve(ctx context.Context, dir, message string, at time.Time) error {
	return errs.Wrap(serve(ctx, dir, message, at), "make a repository of %s", dir)
}

func serve(ctx context.Context, dir, message string, at time.Time) error {
	if err := os.RemoveAll(filepath.Join(dir, ".git")); err != nil {
		return errs.E(errs.Unavailable, "clear "+dir, err)
	}
	date := at.UTC().Format(time.RFC3339)
	p := program{dir: dir, isolated: true, env: []string{"GIT_AUTHOR_NAME=Slipway", "GIT_AUTHOR_EMAIL=", "GIT_COMMITTER_NAME=Slipway", "GIT_COMMITTER_EMAIL=", "GIT_AUTHOR_DATE=" + date, "GIT_COMMITTER_DATE=" + date}}
	for _, args := range [][]string{
		{"init", "-q", "--template=", "-b", "main"},
		{"-c", "core.autocrlf=false", "add", "-A", "-f", "."},
		{"commit", "-q", "--no-gpg-sign", "--allow-empty", "-m", message},
		{"-c", "pack.threads=1", "repack", "-q", "-a", "-d", "-f", "--window=10", "--depth=50"},
		{"pack-refs", "--all"},
		{"update-server-info"},
	} {
		if _, err := p.run(ctx, args...); err != nil {
			return err
		}
	}
	for _, name := range []string{"index", "COMMIT_EDITMSG", "logs"} { // of the work tree
		if err := os.RemoveAll(filepath.Join(dir, ".git", name)); err != nil {
			return errs.E(errs.Unavailable, "clear "+dir, err)
		}
	}
	return nil
}
