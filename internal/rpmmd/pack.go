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
	enc, err := encoder()
	if err != nil {
		return nil, err
	}
	return enc.EncodeAll(open, make([]byte, 0, len(open)/8+64)), nil
}

// encoder is shared: its tables and windows, some megabytes, are made once for each
// processor, and EncodeAll may be called by several goroutines.
var encoder = sync.OnceValues(func() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
})

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

var frameDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithDecoderMaxMemory(maxStored), zstd.WithDecoderMaxWindow(128<<20))
})

// unpack opens one frame, which must have size bytes open.
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
		if dec, err = frameDecoder(); err == nil {
			open, err = dec.DecodeAll(stored, make([]byte, 0, size))
		}
	}
	if err == nil && int64(len(open)) != size {
		err = fmt.Errorf("%d bytes open, not %d", len(open), size)
	}
	return open, err
}
