package rpmmd

import (
	"bytes"
	"io"
	"os"
)

// DataFile is one file that repomd.xml names. Its Href is "repodata/" and Name.
// Its bytes are made when they are written: parts of it may still lie in the
// data files of the last index, which must stay open and as they are until then.
type DataFile struct {
	Record
	Name  string // "<sha256>-primary.xml.zst"
	parts []segment
}

// segment is a piece of a file: bytes, or a window of another file.
type segment struct {
	data   []byte
	src    io.ReaderAt
	off, n int64
}

// WriteTo writes the whole file. From an *os.File to an *os.File the kernel
// copies what is kept of the last index.
func (f *DataFile) WriteTo(w io.Writer) (int64, error) {
	var sum int64
	for _, s := range f.parts {
		n, err := s.writeTo(w)
		if sum += n; err != nil {
			return sum, err
		}
	}
	return sum, nil
}

func (s segment) writeTo(w io.Writer) (int64, error) {
	if s.src == nil {
		n, err := w.Write(s.data)
		return int64(n), err
	}
	var r io.Reader = io.NewSectionReader(s.src, s.off, s.n)
	f, ok := s.src.(*os.File)
	if beneath, is := s.src.(interface{ OSFile() *os.File }); is {
		f, ok = beneath.OSFile(), true
	}
	if ok {
		if _, err := f.Seek(s.off, io.SeekStart); err != nil {
			return 0, err
		}
		r = io.LimitReader(f, s.n)
	}
	n, err := io.Copy(w, r)
	if err == nil && n < s.n {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Reader reads the whole file. The reader has CopyTo as well, for a store that
// lets the kernel copy.
func (f *DataFile) Reader() io.Reader {
	readers := make([]io.Reader, len(f.parts))
	for i, s := range f.parts {
		if s.src == nil {
			readers[i] = bytes.NewReader(s.data)
		} else {
			readers[i] = io.NewSectionReader(s.src, s.off, s.n)
		}
	}
	return fileReader{io.MultiReader(readers...), f}
}

type fileReader struct {
	io.Reader
	f *DataFile
}

func (r fileReader) CopyTo(w *os.File) (int64, error) { return r.f.WriteTo(w) }

// add appends a window of src, joined with the one before where they touch.
func (f *DataFile) add(src io.ReaderAt, off, n int64) {
	if last := len(f.parts) - 1; last >= 0 && f.parts[last].src == src && f.parts[last].off+f.parts[last].n == off {
		f.parts[last].n += n
		return
	}
	f.parts = append(f.parts, segment{src: src, off: off, n: n})
}

func (s segment) size() int64 {
	if s.src == nil {
		return int64(len(s.data))
	}
	return s.n
}

// bytes reads the whole piece.
func (s segment) bytes() ([]byte, error) {
	if s.src == nil {
		return s.data, nil
	}
	b := make([]byte, s.n)
	if n, err := s.src.ReadAt(b, s.off); n < len(b) {
		return nil, err
	}
	return b, nil
}
