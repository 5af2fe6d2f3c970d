package rpm

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Visit reads the payload of the RPM file r of size bytes once, and calls do with each
// regular file that want accepts, in the payload's order. A file with several names
// (hard links) is given once, under the first of them that is wanted. data holds
// File.Size bytes and is good until do returns; do need not read all of it. An error
// of do ends it and comes back as it is. Nothing is written, and nothing verified:
// see [Verify].
//
// Errors: Invalid for an unsound file, also for a payload with a name that the header
// does not list; Unavailable when r fails.
func Visit(r io.ReaderAt, size int64, want func(File) bool, do func(f File, data io.Reader) error) error {
	l, err := readLayout(r, size, "package")
	if err != nil {
		return err
	}
	p, err := fill(l, "package")
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(p.Files, func(f File) bool { return f.IsRegular() && want(f) }) {
		return nil
	}
	payload, err := decompress(l.payload(r))
	if err != nil {
		return damaged(p.NEVRA(), "payload: %v", err)
	}
	defer payload.Close()
	var own visitError
	err = visit(&cpioReader{r: payload, files: p.Files}, p.Files, want, do)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return own.error
	}
	return damaged(p.NEVRA(), "payload: %v", err)
}

// visitError is an error of the caller's function.
type visitError struct{ error }

func (v visitError) Unwrap() error { return v.error }

func visit(c *cpioReader, list []File, want func(File) bool, do func(File, io.Reader) error) error {
	files := make(map[string]*File, len(list))
	for i := range list {
		files[strings.TrimPrefix(list[i].Path, "/")] = &list[i]
	}
	waiting := map[linkID]*File{} // wanted names that came before their data
	for {
		e, err := c.next()
		if err == io.EOF {
			_, err := io.Copy(io.Discard, c.r) // to the checksum of the compression
			return err
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path.Clean("/"+e.name), "/")
		if name == "" {
			continue // the folder itself
		}
		f := files[name]
		if f == nil {
			return fmt.Errorf("%q is not in the header's list of files", e.name)
		}
		if f.Mode&typeMask != e.mode&typeMask {
			return fmt.Errorf("%q has mode %o, the header says %o", e.name, e.mode, f.Mode)
		}
		if e.mode&typeMask != typeRegular {
			continue
		}
		wanted := want(*f)
		if e.links > 1 {
			id := linkID{e.device, e.inode}
			first := waiting[id]
			switch {
			case e.size == 0 && f.Size > 0:
				if wanted && first == nil {
					waiting[id] = f
				}
				continue
			case first != nil:
				f, wanted = first, true
				delete(waiting, id)
			}
		}
		if !wanted {
			continue
		}
		if e.size != f.Size {
			return fmt.Errorf("%q has %d bytes, the header says %d", e.name, e.size, f.Size)
		}
		data := &fullReader{r: &c.data}
		if err := do(*f, data); err != nil {
			if data.err != nil {
				return data.err
			}
			return visitError{err}
		}
	}
}

// fullReader reads one file of a payload, and remembers when that fails: a payload
// that ends too early is damaged, not at its end.
type fullReader struct {
	r   *io.LimitedReader
	err error
}

func (f *fullReader) Read(b []byte) (int, error) {
	n, err := f.r.Read(b)
	if err == io.EOF && f.r.N > 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}
