package store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"slipway/internal/errs"
)

// folderTree is Tree in a folder: DIR/<name>.
type folderTree struct {
	dir string

	syncing sync.Mutex // held through a Sync: a second one must not return before the first
	mu      sync.Mutex
	dirty   map[string]bool // folders to sync: their entries may not be durable
	// firm are folders that were synced, and all above them, since this tree was
	// opened: their own names are durable.
	firm map[string]bool
}

func newFolderTree(dir string) *folderTree {
	return &folderTree{dir: filepath.Clean(dir), dirty: map[string]bool{}, firm: map[string]bool{}}
}

// ReadTree gives the files in a folder for reading: nothing is made or cleaned. A
// folder that does not exist holds no files.
func ReadTree(dir string) Tree { return newFolderTree(dir) }

// OpenTree gives the files in a folder for writing: it makes the folder and
// removes what crashed writers left.
func OpenTree(dir string) (Tree, error) {
	if err := makeRoot(dir); err != nil {
		return nil, err
	}
	if err := cleanTemps(dir); err != nil {
		return nil, err
	}
	return newFolderTree(dir), nil
}

func (t *folderTree) path(name string) string { return filepath.Join(t.dir, filepath.FromSlash(name)) }

func (t *folderTree) Create(ctx context.Context, name string, r io.Reader) error {
	return t.CreateAll(ctx, func(yield func(NewFile, error) bool) { yield(NewFile{name, r}, nil) })
}

// present compares r with the file, if there is one. The file is marked: who
// created it may have died before its Sync.
func (t *folderTree) present(ctx context.Context, name string, r io.Reader) (bool, error) {
	path := t.path(name)
	f, err := openFile(path, "file "+name)
	if errs.Is(err, errs.NotFound) {
		if st, serr := os.Lstat(path); serr == nil && st.IsDir() {
			return false, errs.E(errs.Conflict, path+" is a folder, not a file")
		}
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	same, err := equal(ctxReader{ctx, r}, f)
	if err != nil {
		return false, errs.Wrap(err, "compare %s", path)
	}
	if !same {
		return false, errs.E(errs.Conflict, fmt.Sprintf("%s exists with other content and is never replaced", path),
			errs.Hint("give the new content a new name (a new version or release number)"))
	}
	t.mark(path)
	return true, nil
}

// equal compares to the end of both.
func equal(a, b io.Reader) (bool, error) {
	buf := copyBuffers.Get().(*[256 << 10]byte)
	defer copyBuffers.Put(buf)
	const size = len(buf) / 2
	p, q := buf[:size], buf[size:]
	for {
		n, err := io.ReadFull(a, p)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return false, err
		}
		m, err2 := io.ReadFull(b, q)
		if err2 != nil && err2 != io.EOF && err2 != io.ErrUnexpectedEOF {
			return false, err2
		}
		if !bytes.Equal(p[:n], q[:m]) {
			return false, nil
		}
		if n < size {
			return true, nil
		}
	}
}

func (t *folderTree) mark(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for p := filepath.Dir(path); ; p = filepath.Dir(p) {
		t.dirty[p] = true
		if p == t.dir || t.firm[p] {
			return
		}
	}
}

func (t *folderTree) Swap(ctx context.Context, name string, data []byte) error {
	if err := CheckName(name); err != nil {
		return err
	}
	path := t.path(name)
	tmp, err := newTemp(t.dir)
	if err != nil {
		return fault(err, "write", path)
	}
	defer tmp.drop()
	if _, err := tmp.fill(ctx, bytes.NewReader(data), 0o644, path); err != nil {
		return err
	}
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	if err := t.Sync(ctx); err != nil {
		return err
	}
	if err := os.Rename(tmp.f.Name(), path); err != nil {
		if st, serr := os.Stat(path); serr == nil && st.IsDir() {
			return errs.E(errs.Conflict, path+" is a folder, not a file")
		}
		return fault(err, "write", path)
	}
	tmp.moved = true
	t.mark(path)
	return t.Sync(ctx)
}

func (t *folderTree) Sync(ctx context.Context) error {
	t.syncing.Lock()
	defer t.syncing.Unlock()
	t.mu.Lock()
	dirs := slices.Sorted(maps.Keys(t.dirty))
	clear(t.dirty)
	t.mu.Unlock()
	for i, p := range dirs {
		err := context.Cause(ctx)
		if err == nil {
			err = syncDir(p)
		}
		if err != nil {
			t.mu.Lock()
			for _, p := range dirs[i:] {
				t.dirty[p] = true
			}
			t.mu.Unlock()
			return err
		}
	}
	t.mu.Lock()
	for _, p := range dirs { // what is above each was among them, or firm
		t.firm[p] = true
	}
	t.mu.Unlock()
	return nil
}

func (t *folderTree) Open(ctx context.Context, name string) (Blob, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	return openFile(t.path(name), "file "+name)
}

func (t *folderTree) Stat(ctx context.Context, name string) (int64, error) {
	if err := CheckName(name); err != nil {
		return 0, err
	}
	return statFile(t.path(name), "file "+name)
}

func (t *folderTree) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { t.list(ctx, "", prefix, yield) }
}

// list yields the files below the folder dir ("" or ending in "/") and reports
// whether to go on.
func (t *folderTree) list(ctx context.Context, dir, prefix string, yield func(string, error) bool) bool {
	entries, err := readDir(t.path(dir))
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		yield("", err)
		return false
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		switch {
		case strings.HasPrefix(e.Name(), tempPrefix):
		case e.IsDir():
			names = append(names, dir+e.Name()+"/")
		case e.Type().IsRegular():
			names = append(names, dir+e.Name())
		}
	}
	// With the "/" at the end of folders, the order of one folder is that of the
	// full names.
	slices.Sort(names)
	for _, n := range names {
		if strings.HasSuffix(n, "/") {
			if (strings.HasPrefix(n, prefix) || strings.HasPrefix(prefix, n)) && !t.list(ctx, n, prefix, yield) {
				return false
			}
		} else if strings.HasPrefix(n, prefix) && !yield(n, nil) {
			return false
		}
	}
	return true
}
