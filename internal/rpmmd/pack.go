package rpmmd

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"

	"slipway/internal/errs"
)

// Compression of the data files.
type Compression string

// The compressions that are written.
const (
	Zstd Compression = "zstd" // the default; "" is the same
	Gzip Compression = "gzip" // for clients without zstd
)

// suffix gives the ending of file names, or an error for what is no compression.
func (c Compression) suffix() (string, error) {
	switch c {
	case Zstd, "":
		return ".zst", nil
	case Gzip:
		return ".gz", nil
	}
	return "", errs.E(errs.Invalid, fmt.Sprintf("unknown compression %q of repository metadata", c), errs.Hint("use zstd or gzip"))
}

// pack makes one zstd frame or gzip member of open, which can be joined with
// others to a file. One thread and a fixed level: the bytes depend on open alone.
func (c Compression) pack(open []byte) ([]byte, error) {
	if c == Gzip {
		return packGzip(open)
	}
	enc, err := encoders.get()
	if err != nil {
		return nil, err
	}
	defer encoders.put(enc)
	b := buffers.get(len(open))
	defer buffers.put(b)
	return bytes.Clone(enc.EncodeAll(open, b)), nil
}

// encoders and decoders are made as they are needed: each has tables and windows of
// some megabytes, and few frames are not worth a second one.
var (
	encoders = coders[*zstd.Encoder]{make: func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	}}
	decoders = coders[*zstd.Decoder]{make: func() (*zstd.Decoder, error) {
		return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxStored), zstd.WithDecoderMaxWindow(128<<20))
	}}
)

// coders keeps what is not in use; the last one that came back goes first.
type coders[T any] struct {
	make func() (T, error)
	mu   sync.Mutex
	idle []T
}

func (c *coders[T]) get() (T, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.idle); n > 0 {
		t := c.idle[n-1]
		c.idle = c.idle[:n-1]
		return t, nil
	}
	return c.make()
}

// put takes a coder back; more than there are processors are not kept.
func (c *coders[T]) put(t T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idle) < runtime.GOMAXPROCS(0) {
		c.idle = append(c.idle, t)
	}
}

var gzipWriters = sync.Pool{New: func() any { return gzip.NewWriter(io.Discard) }}

func packGzip(open []byte) ([]byte, error) {
	var b bytes.Buffer
	w := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(w)
	w.Reset(&b)
	if _, err := w.Write(open); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// unpack opens one frame, which must have size bytes open. What it gives may be put
// into buffers.
func (c Compression) unpack(stored []byte, size int64) ([]byte, error) {
	var open []byte
	var err error
	if c == Gzip {
		var r *gzip.Reader
		if r, err = gzip.NewReader(bytes.NewReader(stored)); err == nil {
			open, err = io.ReadAll(io.LimitReader(r, size+1))
		}
	} else {
		var dec *zstd.Decoder
		if dec, err = decoders.get(); err == nil {
			open, err = dec.DecodeAll(stored, buffers.get(int(size)))
			decoders.put(dec)
		}
	}
	if err == nil && int64(len(open)) != size {
		err = fmt.Errorf("%d bytes open, not %d", len(open), size)
	}
	return open, err
}
