package feedindex

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"slipway/internal/errs"
)

// bytesWriter is bytes that write themselves.
type bytesWriter []byte

func (b bytesWriter) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(b)
	return int64(n), err
}

// place writes a file of repodata/ under its name, whole and durable, but for
// the name itself: see syncFolder.
func (r *run) place(name string, content io.WriterTo) (err error) {
	f, err := os.CreateTemp(r.repodata, tempPrefix)
	if err != nil {
		return fault(err, filepath.Join(r.repodata, name))
	}
	defer func() {
		f.Close()
		if err != nil {
			os.Remove(f.Name())
			err = fault(err, filepath.Join(r.repodata, name))
		}
	}()
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if _, err := content.WriteTo(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(r.repodata, name))
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fault(err, dir)
	}
	defer d.Close()
	return fault(d.Sync(), dir)
}

// fault says what to do about an error of the file system.
func fault(err error, path string) error {
	var no syscall.Errno
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &no):
		return errs.Wrap(err, "write %s", path)
	case no == syscall.ENOSPC || no == syscall.EDQUOT:
		return errs.E(errs.Unavailable, "write "+path, no, errs.Hint("free space there and run the command again; the index is as it was"))
	case no == syscall.EACCES || no == syscall.EPERM || no == syscall.EROFS:
		return errs.E(errs.Unavailable, "write "+path, no, errs.Hintf("make %s writable for you", filepath.Dir(path)))
	}
	return errs.E(errs.Unavailable, "write "+path, no)
}

// lock makes repodata/ if needed and keeps every other run out of it until the
// function that it gives is called, or the process ends. A repodata/ that stays
// without an index goes again.
func lock(repodata, dir string) (func(), error) {
	if err := os.Mkdir(repodata, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fault(err, repodata)
	}
	path := filepath.Join(repodata, ".slipway.lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fault(err, path)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		// Who had it before may have removed it together with its folder.
		var here, there os.FileInfo
		if here, err = f.Stat(); err == nil {
			there, err = os.Stat(path)
		}
		if err != nil || !os.SameFile(here, there) {
			err = syscall.EWOULDBLOCK
		}
	}
	if err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errs.E(errs.Locked, fmt.Sprintf("another slipway feed index is at work in %s", dir), errs.Hint("run the command again when it has ended"))
		}
		return nil, fault(err, path)
	}
	return func() {
		if _, err := os.Stat(filepath.Join(repodata, "repomd.xml")); errors.Is(err, os.ErrNotExist) {
			entries, _ := os.ReadDir(repodata)
			for _, e := range entries {
				if ours.MatchString(e.Name()) {
					os.Remove(filepath.Join(repodata, e.Name()))
				}
			}
			os.Remove(path)
			os.Remove(repodata) // fails, rightly, when something else is in it
		}
		f.Close()
	}, nil
}
