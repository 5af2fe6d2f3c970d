package s3

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"syscall"

	"slipway/internal/errs"
)

// inMemory is how much of a stream is kept in memory before it goes to a file.
const inMemory = 1 << 20

// source is content whose size and digest are known before the first request, so
// that every request can be repeated and compared.
type source struct {
	io.ReaderAt
	size int64
	sum  string // sha256, hexadecimal
	file *os.File
}

func (s *source) close() {
	if s.file != nil {
		s.file.Close()
	}
}

// open reads r once, to its end. What can be read again is not copied; a stream
// goes to memory or, when it is long, to a file without a name below dir.
func open(ctx context.Context, r io.Reader, dir string) (*source, error) {
	if again, ok := r.(interface {
		io.ReaderAt
		io.Seeker
	}); ok {
		if from, err := again.Seek(0, io.SeekCurrent); err == nil {
			if to, err := again.Seek(0, io.SeekEnd); err == nil && to >= from {
				return finish(ctx, &source{ReaderAt: io.NewSectionReader(again, from, to-from), size: to - from})
			}
		}
	}
	in := ctxReader{ctx, r}
	head, err := io.ReadAll(io.LimitReader(in, inMemory+1))
	if err != nil {
		return nil, errs.Wrap(err, "read the content to store")
	}
	if len(head) <= inMemory {
		return finish(ctx, &source{ReaderAt: bytes.NewReader(head), size: int64(len(head))})
	}
	f, err := os.CreateTemp(dir, "slipway-upload-")
	if err != nil {
		return nil, spoolFault(err, dir)
	}
	os.Remove(f.Name()) // the file stays until it is closed, however this process ends
	s := &source{ReaderAt: f, file: f}
	h := sha256.New()
	if s.size, err = io.Copy(onlyWriter{io.MultiWriter(f, h)}, io.MultiReader(bytes.NewReader(head), in)); err != nil {
		s.close()
		var no syscall.Errno
		if errors.As(err, &no) {
			return nil, spoolFault(err, dir)
		}
		return nil, errs.Wrap(err, "read the content to store")
	}
	s.sum = hex.EncodeToString(h.Sum(nil))
	return s, nil
}

func finish(ctx context.Context, s *source) (*source, error) {
	h := sha256.New()
	if _, err := io.Copy(h, ctxReader{ctx, io.NewSectionReader(s, 0, s.size)}); err != nil {
		return nil, errs.Wrap(err, "read the content to store")
	}
	s.sum = hex.EncodeToString(h.Sum(nil))
	return s, nil
}

func spoolFault(err error, dir string) error {
	if dir == "" {
		dir = os.TempDir()
	}
	return errs.E(errs.Unavailable, "keep a file for the upload in "+dir, err, errs.Hint("free space there, or name another folder by TMPDIR"))
}

// onlyWriter hides ReadFrom, so that io.Copy uses its own buffer.
type onlyWriter struct{ io.Writer }

// ctxReader ends a long reading when its context does.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
