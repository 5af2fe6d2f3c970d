package layers

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// entry is one line of git ls-tree.
type entry struct{ mode, kind, id, name string }

// Export writes the tree of a pin into dest, which must be absent or empty; it
// is all there or not at all. The bytes are those in git: no attribute changes
// or leaves out a file, as git archive would. Modes are 0644 and 0755, every
// time is the commit's. Refused: file names and symbolic links that leave the
// layer, and submodules, whose files git does not have here.
func Export(ctx context.Context, repo string, pin distro.LayerPin, dest string) error {
	return errs.Wrap(export(ctx, repo, pin, dest), "write layer %s at %.12s", pin.Name, pin.Commit)
}

func export(ctx context.Context, repo string, pin distro.LayerPin, dest string) error {
	tree, err := treeAt(ctx, repo, pin.Commit, pin.Path)
	if err != nil {
		return err
	}
	if pin.Tree != "" && pin.Tree != tree {
		return errs.E(errs.Conflict, fmt.Sprintf("commit %.12s has tree %.12s at %s, and the pin says %.12s", pin.Commit, tree, pin.Path, pin.Tree))
	}
	when, err := commitTime(ctx, repo, pin.Commit)
	if err != nil {
		return err
	}
	entries, err := listTree(ctx, repo, tree)
	if err != nil {
		return err
	}
	return replace(dest, func(tmp string) error { return writeTree(ctx, repo, entries, tmp, when) })
}

func commitTime(ctx context.Context, repo, commit string) (time.Time, error) {
	s, err := program{dir: repo}.line(ctx, "show", "-s", "--format=%ct", commit+"^{commit}")
	if err != nil {
		return time.Time{}, err
	}
	sec, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}, errs.E(errs.Failed, fmt.Sprintf("commit %.12s has the date %q", commit, s))
	}
	return time.Unix(sec, 0).UTC(), nil
}

func listTree(ctx context.Context, repo, tree string) ([]entry, error) {
	out, err := program{dir: repo}.run(ctx, "ls-tree", "-r", "-z", "--full-tree", tree)
	if err != nil {
		return nil, err
	}
	var entries []entry
	for _, rec := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if rec == "" {
			continue
		}
		meta, name, ok := strings.Cut(rec, "\t")
		f := strings.Fields(meta)
		if !ok || len(f) != 3 {
			return nil, errs.E(errs.Failed, fmt.Sprintf("git ls-tree said %q", rec))
		}
		e := entry{f[0], f[1], f[2], name}
		if err := safePath(name); err != nil {
			return nil, err
		}
		if e.kind != "blob" {
			return nil, errs.E(errs.Invalid, fmt.Sprintf("%s is a submodule, which is not followed", name),
				errs.Hint("name the other repository as a layer of its own"))
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// writeTree asks one git for all blobs. os.Root keeps every write in dest, also
// behind symbolic links of the tree.
func writeTree(ctx context.Context, repo string, entries []entry, dest string, when time.Time) error {
	if err := os.Mkdir(dest, 0o755); err != nil {
		return errs.E(errs.Unavailable, "make "+dest, err)
	}
	root, err := os.OpenRoot(dest)
	if err != nil {
		return errs.E(errs.Unavailable, "open "+dest, err)
	}
	defer root.Close()

	var ids bytes.Buffer
	for _, e := range entries {
		ids.WriteString(e.id + "\n")
	}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := program{dir: repo, stdin: &ids, stdout: w}.run(ctx, "cat-file", "--batch")
		w.CloseWithError(err)
		done <- err
	}()
	writeErr := writeBlobs(root, bufio.NewReader(r), entries)
	r.CloseWithError(io.ErrClosedPipe)
	if gitErr := <-done; writeErr == nil || ctx.Err() != nil {
		writeErr = gitErr
	}
	if writeErr != nil {
		return writeErr
	}
	return setTimes(root, entries, when)
}

func writeBlobs(root *os.Root, in *bufio.Reader, entries []entry) error {
	for _, e := range entries {
		head, err := in.ReadString('\n')
		f := strings.Fields(head)
		if err != nil {
			return errs.E(errs.Failed, "read "+e.name+" from git", err)
		}
		if len(f) != 3 || f[1] != "blob" {
			return errs.E(errs.Failed, fmt.Sprintf("read %s from git: %s", e.name, strings.TrimSpace(head)),
				errs.Hint("git fsck tells what is broken in the repository"))
		}
		size, err := strconv.ParseInt(f[2], 10, 64)
		if err != nil {
			return errs.E(errs.Failed, fmt.Sprintf("read %s from git: size %q", e.name, f[2]))
		}
		if err := writeBlob(root, io.LimitReader(in, size), size, e); err != nil {
			return err
		}
		if _, err := in.Discard(1); err != nil {
			return errs.E(errs.Failed, "read "+e.name+" from git", err)
		}
	}
	return nil
}

func writeBlob(root *os.Root, in io.Reader, size int64, e entry) error {
	wrap := func(err error) error { return errs.E(errs.Unavailable, "write "+e.name, err) }
	if dir := path.Dir(e.name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return wrap(err)
		}
	}
	if e.mode == "120000" {
		if size > 4096 {
			return errs.E(errs.Invalid, "the symbolic link "+e.name+" is too long")
		}
		target, err := io.ReadAll(in)
		if err != nil {
			return wrap(err)
		}
		if to := string(target); path.IsAbs(to) || !filepath.IsLocal(path.Join(path.Dir(e.name), to)) {
			return errs.E(errs.Invalid, fmt.Sprintf("the symbolic link %s leads out of the layer, to %s", e.name, to),
				errs.Hint("commit the file itself: what a build uses must be in its revision"))
		}
		if err := root.Symlink(string(target), e.name); err != nil {
			return wrap(err)
		}
		return nil
	}
	mode := fs.FileMode(0o644)
	if e.mode == "100755" {
		mode = 0o755
	}
	f, err := root.OpenFile(e.name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return wrap(err)
	}
	n, err := io.Copy(f, in)
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = f.Chmod(mode) // whatever the umask is
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return wrap(err)
	}
	return nil
}

// setTimes goes from the deepest name up: writing into a folder changes it.
func setTimes(root *os.Root, entries []entry, when time.Time) error {
	names := map[string]bool{".": true}
	for _, e := range entries {
		if e.mode != "120000" {
			names[e.name] = true
		}
		for d := path.Dir(e.name); d != "."; d = path.Dir(d) {
			names[d] = true
		}
	}
	all := sortedKeys(names)
	sort.Sort(sort.Reverse(sort.StringSlice(all)))
	for _, n := range all {
		info, err := root.Lstat(n)
		if err == nil && info.IsDir() {
			err = root.Chmod(n, 0o755)
		}
		if err == nil {
			err = root.Chtimes(n, when, when)
		}
		if err != nil {
			return errs.E(errs.Unavailable, "set the time of "+n, err)
		}
	}
	return nil
}
