package feed

import (
	"context"
	"io"
	"os"
	"sync"
)

// written is the reader of what a function writes. A store that has a file at
// hand lets the function write into it (CopyTo); others read, through a pipe.
// What was written is counted and hashed by the function itself.
type written struct {
	ctx   context.Context
	write func(io.Writer) error
	pipe  *io.PipeReader
}

// CopyTo is what a store calls in place of Read.
func (w *written) CopyTo(f *os.File) (int64, error) {
	if w.pipe != nil {
		return io.Copy(f, w.pipe)
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	if err := w.write(stoppable{w.ctx, f}); err != nil {
		return 0, err
	}
	end, err := f.Seek(0, io.SeekCurrent)
	return end - at, err
}

func (w *written) Read(b []byte) (int, error) {
	if w.pipe == nil {
		r, to := io.Pipe()
		w.pipe = r
		go func() { to.CloseWithError(w.write(to)) }()
	}
	return w.pipe.Read(b)
}

// Close ends the function when nobody reads any more.
func (w *written) Close() {
	if w.pipe != nil {
		w.pipe.CloseWithError(io.ErrClosedPipe)
	}
}

// stoppable ends a long copy when its context does.
type stoppable struct {
	ctx context.Context
	w   io.Writer
}

func (s stoppable) Write(b []byte) (int, error) {
	if err := context.Cause(s.ctx); err != nil {
		return 0, err
	}
	return s.w.Write(b)
}

// tee writes to several, and is read into with large buffers that are kept.
type tee struct{ to []io.Writer }

func (t tee) Write(b []byte) (int, error) {
	for _, w := range t.to {
		if n, err := w.Write(b); err != nil {
			return n, err
		}
	}
	return len(b), nil
}

var copyBuffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

func (t tee) ReadFrom(r io.Reader) (int64, error) {
	buf := copyBuffers.Get().(*[256 << 10]byte)
	defer copyBuffers.Put(buf)
	var sum int64
	for {
		n, err := r.Read(buf[:])
		if n > 0 {
			if _, werr := t.Write(buf[:n]); werr != nil {
				return sum, werr
			}
		}
		sum += int64(n)
		if err == io.EOF {
			return sum, nil
		}
		if err != nil {
			return sum, err
		}
	}
}
