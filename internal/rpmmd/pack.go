package rpmmd

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// packer gives the function that makes a data file from its open text. One
// thread and a fixed level: the bytes depend on the text alone.
func packer(c Compression) (func(kind string, open []byte) (DataFile, error), error) {
	var suffix string
	var compress func([]byte) ([]byte, error)
	switch c {
	case Zstd, "":
		suffix, compress = ".zst", packZstd
	case Gzip:
		suffix, compress = ".gz", packGzip
	default:
		return nil, errs.E(errs.Invalid, fmt.Sprintf("unknown compression %q of repository metadata", c), errs.Hint("use zstd or gzip"))
	}
	return func(kind string, open []byte) (DataFile, error) {
		data, err := compress(open)
		if err != nil {
			return DataFile{}, errs.E(errs.Internal, "compressing "+kind+".xml", err)
		}
		sum := distro.DigestOf(data).Hex()
		name := sum + "-" + kind + ".xml" + suffix
		return DataFile{Name: name, Data: data, Record: Record{
			Type: kind, Href: "repodata/" + name,
			Checksum: Checksum{"sha256", sum}, OpenChecksum: Checksum{"sha256", distro.DigestOf(open).Hex()},
			Size: int64(len(data)), OpenSize: int64(len(open)),
		}}, nil
	}, nil
}

// encoder is shared: its buffers of some megabytes are made once, and EncodeAll
// may be called by several goroutines.
var encoder = sync.OnceValues(func() (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
})

func packZstd(open []byte) ([]byte, error) {
	enc, err := encoder()
	if err != nil {
		return nil, err
	}
	return enc.EncodeAll(open, make([]byte, 0, len(open)/6)), nil
}

func packGzip(open []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.DefaultCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(open); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
