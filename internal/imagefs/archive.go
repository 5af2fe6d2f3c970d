package imagefs

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"slipway/internal/errs"
)

// compression tells by the first bytes; "" for none.
func compression(r io.ReaderAt) (string, error) {
	head := make([]byte, 6)
	n, err := r.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return "", errs.Wrap(err, "read")
	}
	for _, c := range []struct{ magic, name string }{{"\x1f\x8b", "gzip"}, {"BZh", "bzip2"}, {"\xfd7zXZ\x00", "xz"}, {"\x28\xb5\x2f\xfd", "zstd"}} {
		if bytes.HasPrefix(head[:n], []byte(c.magic)) {
			return c.name, nil
		}
	}
	return "", nil
}

// maxWindow is the most memory that a compressed stream may ask for, bytes.
const maxWindow = 256 << 20

func decompress(f io.ReaderAt, how string) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(io.NewSectionReader(f, 0, 1<<62), 256<<10)
	switch how {
	case "gzip":
		return gzip.NewReader(b)
	case "bzip2":
		return io.NopCloser(bzip2.NewReader(b)), nil
	case "xz":
		r, err := xz.NewReader(b)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(r), nil
	}
	r, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	return r.IOReadCloser(), nil
}

// spool unpacks to a temporary file that has no name any more, with holes for zeros.
func spool(ctx context.Context, f io.ReaderAt, how string) (*os.File, int64, error) {
	r, err := decompress(f, how)
	if err != nil {
		return nil, 0, errs.E(errs.Invalid, how+" data is damaged", err)
	}
	defer func() { _ = r.Close() }()
	out, err := os.CreateTemp("", "slipway-image-")
	if err != nil {
		return nil, 0, errs.E(errs.Unavailable, "make a temporary file", err)
	}
	_ = os.Remove(out.Name())
	fail := func(err error) (*os.File, int64, error) {
		_ = out.Close()
		return nil, 0, err
	}
	b, none := make([]byte, 256<<10), make([]byte, 256<<10)
	var at int64
	for {
		if ctx.Err() != nil {
			return fail(ctx.Err())
		}
		n, err := io.ReadFull(r, b)
		if n > 0 && !bytes.Equal(b[:n], none[:n]) {
			if _, err := out.WriteAt(b[:n], at); err != nil {
				return fail(errs.E(errs.Unavailable, "unpack to a temporary file", err, errs.Hint("TMPDIR names another folder")))
			}
		}
		at += int64(n)
		switch {
		case err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) && n > 0 && drained(r):
			if err := out.Truncate(at); err != nil {
				return fail(errs.E(errs.Unavailable, "unpack to a temporary file", err))
			}
			return out, at, nil
		case err != nil:
			return fail(errs.E(errs.Invalid, how+" data is damaged or truncated", err))
		}
	}
}

// drained tells the short last block of io.ReadFull from a stream that breaks off.
func drained(r io.Reader) bool {
	var b [1]byte
	n, err := r.Read(b[:])
	return n == 0 && err == io.EOF
}

func isTar(head []byte) bool {
	if len(head) < 512 {
		return false
	}
	if string(head[257:262]) == "ustar" {
		return true
	}
	// The old format has no magic, but a checksum, in octal, with spaces or zeros around it.
	sum, want := 0, 0
	for i, c := range head {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int(c)
	}
	digits := 0
	for _, c := range head[148:156] {
		if c >= '0' && c <= '7' {
			want, digits = want<<3|int(c-'0'), digits+1
		}
	}
	return digits >= 4 && want == sum && sum > 8*' '
}

// tail remembers whether the reader came to the end of the stream. An archive says
// itself where it ends, by blocks of zeros: one that was cut off between two files
// does not.
type tail struct {
	r   io.Reader
	eof bool
}

func (t *tail) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.eof = t.eof || n == 0 && err == io.EOF
	return n, err
}

func walkTar(open func() (io.ReadCloser, error)) func(context.Context, func(*File) error) error {
	bad := func(err error) error { return errs.E(errs.Invalid, "tar: it is damaged or truncated", err) }
	return func(ctx context.Context, visit func(*File) error) error {
		r, err := open()
		if err != nil {
			return bad(err)
		}
		defer func() { _ = r.Close() }()
		end := &tail{r: r}
		t := tar.NewReader(end)
		for files := 0; ; files++ {
			h, err := t.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return bad(err)
			}
			name := path.Clean("/" + h.Name)[1:]
			if name == "" {
				name = "."
			}
			if files > maxFiles || len(name) > maxName {
				return bad(errors.New("more files than can be, or a path that is too long"))
			}
			f := &File{Path: name, Mode: h.FileInfo().Mode(), UID: uint32(h.Uid), GID: uint32(h.Gid), Size: h.Size}
			var failed error
			switch h.Typeflag {
			case tar.TypeLink:
				f.Hard = path.Clean("/" + h.Linkname)[1:]
				f.Size = 0
			case tar.TypeSymlink:
				f.Link = h.Linkname
			case tar.TypeXGlobalHeader:
				continue
			default:
				if caps, ok := h.PAXRecords["SCHILY.xattr.security.capability"]; ok {
					f.Caps = []byte(caps)
				}
				f.open = func() (io.Reader, error) { return &guarded{t, &failed}, nil }
			}
			if err := visit(f); err != nil {
				if failed != nil {
					return bad(failed)
				}
				return err
			}
		}
		if end.eof {
			return bad(io.ErrUnexpectedEOF)
		}
		// The rest is padding; a compressed stream's checksum comes after it.
		if _, err := io.Copy(io.Discard, r); err != nil {
			return bad(err)
		}
		return nil
	}
}

// guarded tells an error of the archive from one of who reads it.
type guarded struct {
	r      io.Reader
	failed *error
}

func (g *guarded) Read(p []byte) (int, error) {
	n, err := g.r.Read(p)
	if err != nil && err != io.EOF {
		*g.failed = err
	}
	return n, err
}

// walkFolder walks a folder of this machine; links are not followed.
func walkFolder(dir string) func(context.Context, func(*File) error) error {
	return func(ctx context.Context, visit func(*File) error) error {
		return filepath.WalkDir(dir, func(full string, d fs.DirEntry, err error) error {
			cannot := func(err error) error {
				return errs.E(errs.Unavailable, "read folder", err, errs.Hint("some files of a system are root's alone: run it as root"))
			}
			if err != nil {
				return cannot(err)
			}
			name, err := filepath.Rel(dir, full)
			if err != nil {
				return err
			}
			st, err := d.Info()
			if err != nil {
				return cannot(err)
			}
			f := &File{Path: filepath.ToSlash(name), Mode: st.Mode(), Size: st.Size()}
			if s, ok := st.Sys().(*syscall.Stat_t); ok {
				f.UID, f.GID, f.Inode = s.Uid, s.Gid, s.Ino
			}
			opened := plainFile(-1)
			switch {
			case f.Mode.IsRegular():
				b := make([]byte, 64)
				if n, err := syscall.Getxattr(full, "security.capability", b); err == nil {
					f.Caps = b[:n]
				}
				f.open = func() (io.Reader, error) {
					// Not by os.Open, which costs more than the reading of a small file.
					fd, err := syscall.Open(full, syscall.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
					if err != nil {
						return nil, cannot(&fs.PathError{Op: "open", Path: full, Err: err})
					}
					opened = plainFile(fd)
					return opened, nil
				}
			case f.Mode&fs.ModeSymlink != 0:
				if f.Link, err = os.Readlink(full); err != nil {
					return cannot(err)
				}
			}
			err = visit(f)
			if opened >= 0 {
				_ = syscall.Close(int(opened))
			}
			return err
		})
	}
}

// plainFile reads an open file by its number.
type plainFile int

func (f plainFile) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, err := syscall.Read(int(f), p)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 0, errs.E(errs.Unavailable, "read", err)
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}
