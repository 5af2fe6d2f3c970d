package layers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"slipway/internal/errs"
)

// branchOfBundle is the name that a bundle gives to its commit.
const branchOfBundle = "refs/heads/main"

// Bundle writes a git bundle (gitformat-bundle(5), version 2) with a commit and
// all its history to path: what [Restore], or git clone, needs and nothing more.
// The bytes depend on the commit and the version of git only, not on how the
// repository keeps its objects. path appears whole or not at all.
func Bundle(ctx context.Context, repo, commit, path string) error {
	return errs.Wrap(bundle(ctx, repo, commit, path), "bundle %.12s", commit)
}

func bundle(ctx context.Context, repo, commit, path string) error {
	p := program{dir: repo}
	id, err := p.line(ctx, "rev-parse", "--verify", "--quiet", commit+"^{commit}")
	if saidNothing(err) {
		return errs.E(errs.NotFound, fmt.Sprintf("%s has no commit %s", repo, commit))
	}
	if err != nil {
		return err
	}
	if shallow, err := p.line(ctx, "rev-parse", "--is-shallow-repository"); err != nil || shallow == "true" {
		if err == nil {
			err = errs.E(errs.Invalid, fmt.Sprintf("%s is a shallow clone: its history is not all there", repo),
				errs.Hintf("git -C %s fetch --unshallow", quote(repo)))
		}
		return err
	}
	objects, err := p.line(ctx, "rev-parse", "--path-format=absolute", "--git-path", "objects")
	if err != nil {
		return err
	}
	format, err := p.line(ctx, "rev-parse", "--show-object-format")
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(path), "."+filepath.Base(path)+".partial-")
	if err != nil {
		return errs.E(errs.Unavailable, "make "+path, err)
	}
	defer os.RemoveAll(tmp)
	// An empty repository over the same objects: pack-objects looks at tags for
	// the order of a pack, and would at bitmaps and packed deltas.
	empty := program{dir: tmp, isolated: true, env: []string{"GIT_ALTERNATE_OBJECT_DIRECTORIES=" + quoteAlternate(objects)}}
	if _, err := empty.run(ctx, "init", "-q", "--bare", "--template=", "--object-format="+format, "-b", "main", tmp); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(tmp, "bundle"))
	if err != nil {
		return errs.E(errs.Unavailable, "make "+path, err)
	}
	defer f.Close()
	header := "# v2 git bundle\n"
	if format != "sha1" {
		header = "# v3 git bundle\n@object-format=" + format + "\n"
	}
	_, err = fmt.Fprintf(f, "%s%s %s\n\n", header, id, branchOfBundle)
	if err != nil {
		return errs.E(errs.Unavailable, "write "+path, err)
	}
	empty.stdin, empty.stdout = strings.NewReader(id+"\n"), f
	if _, err := empty.run(ctx, "-c", "pack.threads=1", "pack-objects", "-q", "--revs", "--stdout", "--threads=1", "--delta-base-offset",
		"--no-reuse-delta", "--no-reuse-object", "--no-use-bitmap-index", "--window=10", "--depth=50", "--compression=6"); err != nil {
		return err
	}
	err = f.Sync()
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errs.E(errs.Unavailable, "write "+path, err)
	}
	return nil
}

// quoteAlternate writes a path for a list that is separated by colons.
func quoteAlternate(p string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(p) + `"`
}

// Restore makes a git repository in dest from a bundle alone, with branch main
// and the work tree at commit. dest must be absent or empty; it is all there or
// not at all. A bundle that is broken or does not have the commit is Invalid.
func Restore(ctx context.Context, bundle, commit, dest string) error {
	abs, err := filepath.Abs(bundle)
	if err != nil {
		return errs.E(errs.Unavailable, "find "+bundle, err)
	}
	if _, err := os.Stat(abs); err != nil {
		return errs.E(errs.NotFound, "there is no bundle "+bundle, err)
	}
	err = replace(dest, func(tmp string) error {
		if _, err := (program{isolated: true}).run(ctx, "init", "-q", "--template=", "-b", "main", "--object-format="+formatOf(commit), tmp); err != nil {
			return err
		}
		p := program{dir: tmp, isolated: true}
		if _, err := p.run(ctx, "-c", "transfer.fsckObjects=true", "fetch", "-q", "--no-write-fetch-head", "--no-tags", "--update-head-ok", "--", abs,
			"+"+branchOfBundle+":refs/slipway/bundle"); err != nil {
			return errs.E(errs.Invalid, bundle+" is no bundle that git can read", err)
		}
		if id, err := p.line(ctx, "rev-parse", "--verify", "--quiet", commit+"^{commit}"); err != nil || id != commit {
			return errs.E(errs.Invalid, fmt.Sprintf("%s does not have the commit %s", bundle, commit))
		}
		for _, args := range [][]string{
			{"update-ref", "refs/heads/main", commit},
			{"update-ref", "-d", "refs/slipway/bundle"},
			{"-c", "core.autocrlf=false", "reset", "-q", "--hard", "main"},
		} {
			if _, err := p.run(ctx, args...); err != nil {
				return err
			}
		}
		return nil
	})
	return errs.Wrap(err, "restore %.12s", commit)
}

func formatOf(commit string) string {
	if len(commit) == 64 {
		return "sha256"
	}
	return "sha1"
}

// CommitInfo is one commit as a changelog shows it.
type CommitInfo struct {
	ID      string    `json:"id"`
	Author  string    `json:"author"` // "Name <mail>"
	Date    time.Time `json:"date"`   // of the author, UTC
	Subject string    `json:"subject"`
}

// Log gives the commits that are in to and not in from and touch path ("." or ""
// for all), newest first. With from "" it gives all that to has. A commit that
// the repository does not have is NotFound.
func Log(ctx context.Context, repo, from, to, path string) ([]CommitInfo, error) {
	p := program{dir: repo}
	for _, c := range []string{from, to} {
		if c == "" && c == from {
			continue
		}
		if _, err := p.run(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", c+"^{commit}"); saidNothing(err) {
			return nil, errs.E(errs.NotFound, fmt.Sprintf("%s has no commit %s", repo, c), errs.Hint("was its history rewritten? the release's bundle still has it"))
		} else if err != nil {
			return nil, err
		}
	}
	args := []string{"log", "-z", "--topo-order", "--no-show-signature", "--no-decorate", "--no-mailmap", "--encoding=UTF-8", "--format=" + logFormat}
	if from != "" {
		args = append(args, "^"+from)
	}
	if path == "" {
		path = "."
	}
	out, err := p.run(ctx, append(args, to, "--", path)...)
	if err != nil {
		return nil, err
	}
	return parseLog(out), nil
}

// logFormat is what parseLog reads, of git log -z.
const logFormat = "%H%x01%an <%ae>%x01%at%x01%s"

func parseLog(out []byte) []CommitInfo {
	var commits []CommitInfo
	for _, rec := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		f := strings.SplitN(rec, "\x01", 4)
		if len(f) != 4 {
			continue
		}
		var sec int64
		fmt.Sscan(f[2], &sec)
		commits = append(commits, CommitInfo{ID: f[0], Author: f[1], Date: time.Unix(sec, 0).UTC(), Subject: strings.ToValidUTF8(f[3], "\ufffd")})
	}
	return commits
}
