package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"slipway/internal/errs"
)

// file is a Blob on an *os.File.
type file struct {
	*os.File
	size int64
}

func (f file) Size() int64 { return f.size }

// openFile opens a regular file for reading. what names it in messages.
func openFile(path, what string) (Blob, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, readFault(err, path, what)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		f.Close()
		return nil, readFault(err, path, what)
	}
	return file{f, st.Size()}, nil
}

// statFile gives the size of a regular file.
func statFile(path, what string) (int64, error) {
	st, err := os.Stat(path)
	if err == nil && !st.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return 0, readFault(err, path, what)
	}
	return st.Size(), nil
}

func readFault(err error, path, what string) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return errs.E(errs.NotFound, "no "+what+" in "+filepath.Dir(path))
	}
	return fault(err, "read", path)
}

// fault turns an error of the file system into one that says what to do. op and
// path are what the user knows: the path is not that of the temporary file.
func fault(err error, op, path string) error {
	if err == nil {
		return nil
	}
	msg := op + " " + path
	var hint errs.Hint
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		hint = errs.Hintf("free space on the file system of %s, then run the same command again", filepath.Dir(path))
	case errors.Is(err, syscall.EROFS):
		hint = errs.Hintf("the file system is read-only: mount it writable, or choose another folder")
	case errors.Is(err, fs.ErrPermission):
		hint = errs.Hintf("make %s accessible to the user who runs slipway", filepath.Dir(path))
	case errors.Is(err, syscall.EIO):
		hint = errs.Hintf("the disk reports an error (see dmesg): check it, then run the same command again")
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		hint = "too many open files: raise the limit (ulimit -n)"
	case errors.Is(err, fs.ErrNotExist):
		return errs.E(errs.NotFound, msg, bare(err))
	default:
		return errs.Wrap(err, "%s", msg)
	}
	return errs.E(errs.Unavailable, msg, hint, bare(err))
}

// bare drops the path and call that package os adds: the path is often that of a
// temporary file.
func bare(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}

// makeDir makes a folder and those above it, 0755 whatever the umask is. It does
// not sync.
func makeDir(path string) error {
	st, err := os.Stat(path)
	switch {
	case err == nil && !st.IsDir():
		return errs.E(errs.Conflict, path+" is a file, not a folder")
	case err == nil:
		// A kill between mkdir and chmod leaves an empty folder with the bits of
		// the umask. One with content has the mode that somebody chose.
		if st.Mode().Perm()&0o755 != 0o755 {
			if l, err := os.ReadDir(path); err == nil && len(l) == 0 {
				os.Chmod(path, 0o755)
			}
		}
		return nil
	case errors.Is(err, syscall.ENOTDIR):
		return errs.E(errs.Conflict, "a part of "+path+" is a file, not a folder")
	case !errors.Is(err, fs.ErrNotExist):
		return fault(err, "make folder", path)
	}
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		if errors.Is(err, fs.ErrExist) { // another writer was faster
			return nil
		}
		return fault(err, "make folder", path)
	}
	return fault(os.Chmod(path, 0o755), "make folder", path)
}

// makeRoot makes the folder of a store durably.
func makeRoot(path string) error {
	var made []string
	for p := path; ; p = filepath.Dir(p) {
		if _, err := os.Stat(p); err == nil || p == filepath.Dir(p) {
			break
		}
		made = append(made, filepath.Dir(p))
	}
	if err := makeDir(path); err != nil {
		return err
	}
	for _, p := range made {
		if err := syncDir(p); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fault(err, "sync folder", path)
	}
	defer d.Close()
	return fault(d.Sync(), "sync folder", path)
}

// temp is an unfinished file. It holds a flock as long as its writer lives, so
// that cleanTemps can tell it from one that a crash left.
type temp struct {
	f     *os.File
	moved bool // renamed: the temporary name is gone
}

func newTemp(root string) (*temp, error) {
	for try := 0; ; try++ {
		name := filepath.Join(root, fmt.Sprintf("%s%016x", tempPrefix, rand.Uint64()))
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil, err
		}
		// A cleaner may come between the two calls and take the file away.
		if flock(f, syscall.LOCK_EX|syscall.LOCK_NB) != syscall.EWOULDBLOCK {
			if st, err := f.Stat(); err == nil && st.Sys().(*syscall.Stat_t).Nlink > 0 {
				return &temp{f: f}, nil
			}
		}
		f.Close()
		os.Remove(name)
		if try == 100 {
			return nil, errs.E(errs.Internal, "another process removes the temporary files of "+root)
		}
	}
}

// OSFile gives the file beneath: between two of them the kernel copies.
func (f file) OSFile() *os.File { return f.File }

// fill is write, and makes the file durable.
func (t *temp) fill(ctx context.Context, r io.Reader, mode fs.FileMode, path string) (int64, error) {
	n, err := t.write(ctx, r, mode, path)
	if err == nil {
		err = t.sync(path)
	}
	return n, err
}

// write copies r into the file and gives it its final mode. path is the final name,
// for messages. A reader that knows better than to be read has CopyTo.
func (t *temp) write(ctx context.Context, r io.Reader, mode fs.FileMode, path string) (n int64, err error) {
	if c, ok := r.(interface{ CopyTo(*os.File) (int64, error) }); ok {
		if n, err = c.CopyTo(t.f); err != nil {
			return n, fault(err, "write", path)
		}
		return n, fault(t.f.Chmod(mode), "write", path)
	}
	// A disk image is mostly nothing: what is zero becomes a hole, block by block.
	out := Sparse{File: t.f}
	buf := copyBuffers.Get().(*[256 << 10]byte)
	defer copyBuffers.Put(buf)
	for {
		if err := context.Cause(ctx); err != nil {
			return n, errs.Wrap(err, "write %s", path)
		}
		m, rerr := r.Read(buf[:])
		if _, err := out.Write(buf[:m]); err != nil {
			return n, fault(err, "write", path)
		}
		n += int64(m)
		if rerr == io.EOF {
			break
		}
		if rerr != nil {
			return n, errs.Wrap(rerr, "write %s", path)
		}
	}
	if err := out.End(); err != nil {
		return n, fault(err, "write", path)
	}
	return n, fault(t.f.Chmod(mode), "write", path)
}

var copyBuffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// sync makes the file durable.
func (t *temp) sync(path string) error { return fault(t.f.Sync(), "write", path) }

// drop removes the temporary name, if it is still there. The lock goes last. What
// cannot be removed now is hidden, and the next writer's to clean.
func (t *temp) drop() {
	if !t.moved {
		os.Remove(t.f.Name())
	}
	t.f.Close()
}

// cleanTemps removes what crashed writers left at the top of a store. What a
// living writer has in hand stays.
func cleanTemps(root string) error {
	entries, err := os.ReadDir(root)
	if err != nil {
		return fault(err, "read", root)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			continue
		}
		name := filepath.Join(root, e.Name())
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fault(err, "clean", name)
		}
		if flock(f, syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			err = os.Remove(name)
		}
		f.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault(err, "clean", name)
		}
	}
	return nil
}

func flock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if err != syscall.EINTR {
			return err
		}
	}
}
