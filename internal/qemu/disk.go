package qemu

import (
	"errors"
	"io"
	"os"
	"syscall"

	"slipway/internal/errs"
)

// lseek's whence values for holes: lseek(2).
const (
	seekData = 3
	seekHole = 4
)

// copyDisk copies an image, holes as holes: an image is mostly nothing.
func copyDisk(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		kind := errs.Unavailable
		if errors.Is(err, os.ErrNotExist) {
			kind = errs.NotFound
		}
		return errs.E(kind, "image "+from, err)
	}
	defer func() { _ = in.Close() }()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() || st.Size() == 0 {
		return errs.E(errs.Invalid, "image "+from+" is no file with something in it")
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := out.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			err = errs.E(errs.Unavailable, "copy image "+from, err)
		}
	}()
	if err := out.Truncate(st.Size()); err != nil {
		return err
	}
	for at := int64(0); at < st.Size(); {
		data, err := in.Seek(at, seekData)
		if errors.Is(err, syscall.ENXIO) {
			return nil // the rest is a hole
		}
		end := st.Size()
		if err != nil { // the file system knows no holes
			data = at
		} else if end, err = in.Seek(data, seekHole); err != nil {
			return err
		}
		if _, err := in.Seek(data, io.SeekStart); err != nil {
			return err
		}
		if _, err := out.Seek(data, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.CopyN(out, in, end-data); err != nil {
			return err
		}
		at = end
	}
	return nil
}
