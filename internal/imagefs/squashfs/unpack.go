package squashfs

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"

	"slipway/internal/errs"
)

// decompressor gives what a block holds, at most limit bytes.
type decompressor func(b []byte, limit int) ([]byte, error)

func newDecompressor(name string) (decompressor, error) {
	switch name {
	case "gzip":
		return func(b []byte, limit int) ([]byte, error) {
			r, err := zlib.NewReader(bytes.NewReader(b))
			if err != nil {
				return nil, err
			}
			return atMost(r, limit)
		}, nil
	case "xz":
		return func(b []byte, limit int) ([]byte, error) {
			if err := checkXZ(b); err != nil {
				return nil, err
			}
			r, err := xz.ReaderConfig{DictCap: lzma.MinDictCap}.NewReader(bytes.NewReader(b))
			if err != nil {
				return nil, err
			}
			return atMost(r, limit)
		}, nil
	case "zstd":
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxBlock), zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			return nil, err
		}
		return func(b []byte, limit int) ([]byte, error) {
			out, err := d.DecodeAll(b, nil)
			if err == nil && len(out) > limit {
				err = tooMuch(limit)
			}
			return out, err
		}, nil
	case "lz4":
		return unpackLZ4, nil
	}
	return nil, errs.E(errs.Invalid, "squashfs: compressed by "+name+", which is not read here", errs.Hint("make it with gzip, xz, lz4 or zstd; or unpack it with unsquashfs, and give the folder"))
}

func tooMuch(limit int) error { return fmt.Errorf("more than %d bytes come out", limit) }

func atMost(r io.Reader, limit int) ([]byte, error) {
	out, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err == nil && len(out) > limit {
		err = tooMuch(limit)
	}
	return out, err
}

// checkXZ refuses filters that the library does not know, and dictionaries that it
// would allocate because a block claims them (xz file format 1.2.0, 3.1, 5.3.1).
func checkXZ(head []byte) error {
	const block = 12
	if len(head) < block+6 || head[block] == 0 {
		return errors.New("xz without a block")
	}
	pos, flags := block+2, head[block+1]
	for _, there := range []bool{flags&0x40 != 0, flags&0x80 != 0} {
		for there && pos < len(head) {
			there = head[pos]&0x80 != 0
			pos++
		}
	}
	if flags&3 != 0 || pos+3 > len(head) || head[pos] != 0x21 || head[pos+1] != 1 {
		return errors.New("xz with another filter than LZMA2 (-Xbcj), which is not read here")
	}
	if n, err := lzma.DecodeDictCap(head[pos+2]); err != nil || n > 8*maxBlock {
		return fmt.Errorf("xz with a dictionary of %d bytes", n)
	}
	return nil
}

// unpackLZ4 reads one LZ4 block (lz4_Block_format.md): literals, then a copy of
// what came before, and so on.
func unpackLZ4(b []byte, limit int) ([]byte, error) {
	broken := errors.New("lz4 data is damaged")
	length := func(n int) (int, bool) {
		if n < 15 {
			return n, true
		}
		for {
			if len(b) == 0 || n > limit {
				return 0, false
			}
			x := b[0]
			b = b[1:]
			if n += int(x); x != 255 {
				return n, true
			}
		}
	}
	out := make([]byte, 0, limit)
	for len(b) > 0 {
		token := b[0]
		b = b[1:]
		n, ok := length(int(token >> 4))
		if !ok || n > len(b) || n > limit-len(out) {
			return nil, broken
		}
		out = append(out, b[:n]...)
		if b = b[n:]; len(b) == 0 {
			return out, nil
		}
		if len(b) < 2 {
			return nil, broken
		}
		back := int(b[0]) | int(b[1])<<8
		b = b[2:]
		n, ok = length(int(token & 15))
		if n += 4; !ok || back == 0 || back > len(out) || n > limit-len(out) {
			return nil, broken
		}
		for from := len(out) - back; n > 0; n-- {
			out = append(out, out[from])
			from++
		}
	}
	return nil, broken
}
