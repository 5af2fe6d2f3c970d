package layers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Layer is a layer as the definition names it.
type Layer struct {
	Name   string
	URL    string // "" for a folder of the workspace
	Branch string // with URL: its newest commit; Commit wins
	Commit string // with URL: full id
	Path   string // within the workspace, or with URL within that repository; "" for all of it
}

// Repository gives the folder of the git repository that has the layer: for a
// local layer the top of the work tree around it, for a remote one the mirror
// below .slipway/layers of the workspace (which [Inspect] fills).
func Repository(ctx context.Context, workspace string, l Layer) (string, error) {
	dir, err := repository(ctx, workspace, l)
	return dir, errs.Wrap(err, "layer %s", l.Name)
}

func repository(ctx context.Context, workspace string, l Layer) (string, error) {
	if l.URL != "" {
		sum := sha256.Sum256([]byte(l.URL))
		return filepath.Join(workspace, ".slipway", "layers", hex.EncodeToString(sum[:8])+".git"), nil
	}
	dir, err := localFolder(workspace, l)
	if err != nil {
		return "", err
	}
	return program{dir: dir}.line(ctx, "rev-parse", "--show-toplevel")
}

// localFolder resolves a local layer's folder. Symbolic links may not lead out
// of the workspace.
func localFolder(workspace string, l Layer) (string, error) {
	ws, err := filepath.EvalSymlinks(workspace)
	if err == nil {
		ws, err = filepath.Abs(ws)
	}
	if err != nil {
		return "", errs.E(errs.NotFound, "there is no workspace "+workspace, err)
	}
	dir, err := filepath.EvalSymlinks(filepath.Join(ws, filepath.FromSlash(l.Path)))
	if err == nil {
		var info os.FileInfo
		if info, err = os.Stat(dir); err == nil && !info.IsDir() {
			return "", errs.E(errs.Invalid, l.Path+" is a file, not a folder")
		}
	}
	if err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			return "", errs.E(errs.Unavailable, "read "+l.Path, err)
		}
		var names []string
		parent := filepath.Join(ws, filepath.FromSlash(path.Dir(path.Clean(l.Path))))
		entries, _ := os.ReadDir(parent)
		for _, e := range entries {
			if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
				names = append(names, e.Name())
			}
		}
		hint := errs.Hint("correct its path in slipway.yaml")
		if near := errs.Near(path.Base(l.Path), names); near != "" {
			hint = errs.Hintf("did you mean %q?", path.Join(path.Dir(path.Clean(l.Path)), near))
		}
		return "", errs.E(errs.NotFound, "there is no folder "+l.Path, hint)
	}
	if rel, err := filepath.Rel(ws, dir); err != nil || !filepath.IsLocal(rel) {
		return "", errs.E(errs.Invalid, l.Path+" leads out of the workspace",
			errs.Hint("copy it into the workspace, or name its repository with url"))
	}
	return dir, nil
}

// Inspect pins a layer: its commit and the tree of its folder. For a local layer
// that is HEAD, and every change that is not committed (modified, staged or
// untracked; ignored files do not count) is Invalid. For a remote one the
// newest commit of the branch is fetched; a commit that is already in the mirror
// needs no network.
func Inspect(ctx context.Context, workspace string, l Layer) (distro.LayerPin, error) {
	pin, err := inspect(ctx, workspace, l)
	return pin, errs.Wrap(err, "layer %s", l.Name)
}

func inspect(ctx context.Context, workspace string, l Layer) (distro.LayerPin, error) {
	repo, err := repository(ctx, workspace, l)
	if err != nil {
		return distro.LayerPin{}, err
	}
	pin := distro.LayerPin{Name: l.Name, URL: l.URL, Path: path.Clean("./" + l.Path)}
	if l.URL != "" {
		if pin.Commit, err = fetch(ctx, workspace, repo, l); err != nil {
			return distro.LayerPin{}, err
		}
	} else {
		dir, err := localFolder(workspace, l)
		if err != nil {
			return distro.LayerPin{}, err
		}
		// Both are resolved, so this is the folder's place in its repository.
		rel, err := filepath.Rel(repo, dir)
		if err != nil {
			return distro.LayerPin{}, errs.E(errs.Internal, "place of layer "+l.Name, err)
		}
		pin.Path = filepath.ToSlash(rel)
		if pin.Commit, err = head(ctx, repo); err != nil {
			return distro.LayerPin{}, err
		}
		if err := clean(ctx, repo, pin.Path); err != nil {
			return distro.LayerPin{}, err
		}
	}
	if pin.Tree, err = treeAt(ctx, repo, pin.Commit, pin.Path); err != nil {
		return distro.LayerPin{}, err
	}
	return pin, nil
}

// head gives the commit that the work tree stands on.
func head(ctx context.Context, repo string) (string, error) {
	commit, err := program{dir: repo}.line(ctx, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
	if saidNothing(err) {
		return "", errs.E(errs.Invalid, fmt.Sprintf("the repository %s has no commit yet", repo),
			errs.Hintf(`git -C %s add -A && git -C %s commit -m "first"`, quote(repo), quote(repo)))
	}
	return commit, err
}

// saidNothing tells the answer "no" of a quiet git from a failure.
func saidNothing(err error) bool {
	var g *gitError
	return errors.As(err, &g) && strings.HasPrefix(g.talk, "exit status")
}

// clean gives Invalid with the first file names when dir differs from HEAD.
func clean(ctx context.Context, repo, dir string) error {
	out, err := program{dir: repo}.run(ctx, "status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames", "--", dir)
	if err != nil {
		return err
	}
	var changed []string
	for _, entry := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if len(entry) > 3 {
			changed = append(changed, strings.TrimPrefix(entry[3:], dir+"/"))
		}
	}
	if len(changed) == 0 {
		return nil
	}
	for i, name := range changed {
		if plain := strings.Trim(fmt.Sprintf("%q", name), `"`); plain != name || strings.Contains(name, " ") {
			changed[i] = fmt.Sprintf("%q", name)
		}
	}
	list := strings.Join(changed[:min(5, len(changed))], ", ")
	if n := len(changed) - 5; n > 0 {
		list += fmt.Sprintf(" and %d more", n)
	}
	return errs.E(errs.Invalid, "uncommitted changes: "+list,
		errs.Hintf("git -C %s add -A && git -C %s commit", quote(repo), quote(repo)))
}

// treeAt gives the id of a folder's tree in a commit.
func treeAt(ctx context.Context, repo, commit, dir string) (string, error) {
	spec := commit + "^{tree}"
	if dir != "." {
		spec = commit + ":" + dir
	}
	tree, err := program{dir: repo}.line(ctx, "rev-parse", "--verify", "--quiet", spec)
	if saidNothing(err) {
		return "", errs.E(errs.Invalid, fmt.Sprintf("commit %.12s has no folder %s", commit, dir),
			errs.Hint("commit it (git add -A && git commit), and see that no .gitignore hides it"))
	}
	if err != nil {
		return "", err
	}
	kind, err := program{dir: repo}.line(ctx, "cat-file", "-t", tree)
	if err == nil && kind != "tree" {
		what := map[string]string{"blob": "a file", "commit": "a submodule"}[kind]
		err = errs.E(errs.Invalid, fmt.Sprintf("%s is %s in commit %.12s, not a folder", dir, what, commit))
	}
	return tree, err
}

// fetch fills the mirror and gives the commit that the layer names.
func fetch(ctx context.Context, workspace, mirror string, l Layer) (string, error) {
	if _, err := os.Stat(mirror); err != nil {
		err := replace(mirror, func(tmp string) error {
			_, err := program{isolated: true}.run(ctx, "init", "-q", "--bare", "--template=", "-b", "main", tmp)
			return err
		})
		// Another slipway may have made it meanwhile.
		if _, statErr := os.Stat(mirror); statErr != nil {
			return "", err
		}
	}
	repo := program{dir: mirror}
	has := func(commit string) bool {
		id, err := repo.line(ctx, "rev-parse", "--verify", "--quiet", commit+"^{commit}")
		return err == nil && id == commit
	}
	if l.Commit != "" && has(l.Commit) {
		return l.Commit, nil
	}
	url := l.URL
	if !strings.Contains(url, ":") && !filepath.IsAbs(url) {
		url = filepath.Join(workspace, url)
	}
	_, err := repo.run(ctx, "fetch", "--quiet", "--force", "--prune", "--no-write-fetch-head", "--no-auto-maintenance", "--", url,
		"+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
	if err != nil {
		var g *gitError
		if !errors.As(err, &g) {
			return "", err
		}
		return "", errs.E(errs.Unavailable, "fetch "+l.URL, errs.Hintf("see what git says: git ls-remote %s", quote(l.URL)), err)
	}
	if l.Commit != "" {
		if !has(l.Commit) {
			return "", errs.E(errs.NotFound, fmt.Sprintf("%s has no commit %s in its branches and tags", l.URL, l.Commit))
		}
		return l.Commit, nil
	}
	commit, err := repo.line(ctx, "rev-parse", "--verify", "--quiet", "refs/heads/"+l.Branch+"^{commit}")
	if saidNothing(err) {
		out, _ := repo.line(ctx, "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads")
		hint := errs.Hint("its branches: " + strings.Join(firstOf(strings.Fields(out), 20), ", "))
		if near := errs.Near(l.Branch, strings.Fields(out)); near != "" {
			hint = errs.Hintf("did you mean %q?", near)
		}
		return "", errs.E(errs.NotFound, fmt.Sprintf("%s has no branch %s", l.URL, l.Branch), hint)
	}
	return commit, err
}

func firstOf(list []string, n int) []string { return list[:min(n, len(list))] }
