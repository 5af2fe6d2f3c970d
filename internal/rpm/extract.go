package rpm

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"

	"slipway/internal/errs"
)

// maxWindow is the most memory that a compressed payload may ask for: the
// window of zstd --ultra -22 and twice that of xz -9.
const maxWindow = 128 << 20

// Extract unpacks the payload of the RPM file r of size bytes into dir, which
// must exist: regular files, hard links, symbolic links and folders, with
// permissions (no set-id and sticky bits, owners are not applied either) and
// modification times. Devices, sockets and ghosts are left out.
//
// A payload is a stranger's: a name that leaves dir, that the header does not
// list, or that lies below a symbolic link is refused (Invalid), and so is one
// that exists already and is no folder (Conflict). Nothing outside dir is ever
// written, whatever symbolic links dir holds. After an error dir holds what was
// unpacked before it. Extract does not verify: see [Verify].
func Extract(r io.ReaderAt, size int64, dir string) error {
	l, err := readLayout(r, size, "package")
	if err != nil {
		return err
	}
	p, err := fill(l, "package")
	if err != nil {
		return err
	}
	payload, err := decompress(l.payload(r))
	if err != nil {
		return damaged(p.NEVRA(), "payload: %v", err)
	}
	defer payload.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return errs.E(errs.Unavailable, "unpack "+p.NEVRA(), err)
	}
	defer root.Close()
	x := newExtractor(root, p.Files)
	if err := x.run(&cpioReader{r: payload, files: p.Files}); err != nil {
		var known *errs.Error
		var pathErr *fs.PathError
		var linkErr *os.LinkError
		switch {
		case errors.As(err, &known):
			return errs.Wrap(err, "unpack %s", p.NEVRA())
		case errors.Is(err, fs.ErrExist):
			return errs.E(errs.Conflict, "unpack "+p.NEVRA(), err, errs.Hint("unpack into an empty folder"))
		case errors.As(err, &pathErr), errors.As(err, &linkErr):
			return errs.E(errs.Unavailable, "unpack "+p.NEVRA(), err)
		}
		return damaged(p.NEVRA(), "payload: %v", err)
	}
	return nil
}

// decompress tells the compression by its first bytes: the tag in the header is
// a claim, and is missing for some.
func decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	head, _ := b.Peek(32)
	switch {
	case bytes.HasPrefix(head, []byte("07070")):
		return io.NopCloser(b), nil
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return gzip.NewReader(b)
	case bytes.HasPrefix(head, []byte("BZh")):
		return io.NopCloser(bzip2.NewReader(b)), nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		d, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		if err := checkXZ(head); err != nil {
			return nil, err
		}
		d, err := xz.ReaderConfig{DictCap: lzma.MinDictCap}.NewReader(b)
		return io.NopCloser(d), err
	}
	return nil, fmt.Errorf("unknown compression, it begins with %x", head[:min(6, len(head))])
}

// checkXZ looks at the first block's filter, because the library allocates
// whatever dictionary it claims (xz file format 1.2.0, sections 3.1 and 5.3.1).
func checkXZ(head []byte) error {
	const block = 12
	if len(head) < block+6 || head[block] == 0 { // no block: empty
		return nil
	}
	pos, flags := block+2, head[block+1]
	for _, there := range []bool{flags&0x40 != 0, flags&0x80 != 0} { // two sizes, of 7 bits per byte
		for there && pos < len(head) {
			there = head[pos]&0x80 != 0
			pos++
		}
	}
	if flags&3 != 0 || pos+3 > len(head) || head[pos] != 0x21 || head[pos+1] != 1 {
		return errors.New("xz with another filter than LZMA2")
	}
	if n, err := lzma.DecodeDictCap(head[pos+2]); err != nil || n > maxWindow {
		return fmt.Errorf("xz with a dictionary of %d bytes, at most %d are allowed", n, maxWindow)
	}
	return nil
}

type linkID struct {
	device [2]uint32
	inode  uint32
}

// link is a file with several names. All but one name come without data, most
// often before the one that has it.
type link struct {
	done    string   // the name that has the data
	waiting []string // names before that
	file    *File
}

type extractor struct {
	root  *os.Root
	files map[string]*File // by path without the first slash
	dirs  map[string]bool  // known to be folders, not symbolic links
	made  []string         // folders of the package
	links map[linkID]*link
}

func newExtractor(root *os.Root, files []File) *extractor {
	x := &extractor{root: root, files: map[string]*File{}, dirs: map[string]bool{".": true}, links: map[linkID]*link{}}
	for i, f := range files {
		x.files[strings.TrimPrefix(f.Path, "/")] = &files[i]
	}
	return x
}

func (x *extractor) run(c *cpioReader) error {
	for {
		e, err := c.next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = x.entry(e)
		}
		if err != nil {
			return err
		}
	}
	return x.finish()
}

func (x *extractor) entry(e *cpioEntry) error {
	if e.name == "." || e.name == "./" || e.name == "/" {
		return nil // the folder itself
	}
	name := strings.TrimPrefix(strings.TrimPrefix(e.name, "./"), "/")
	if name == "." || !fs.ValidPath(name) || strings.Contains(name, "\x00") {
		return fmt.Errorf("the name %q leaves the folder or is not clean", e.name)
	}
	f := x.files[name]
	if f == nil {
		return fmt.Errorf("%q is not in the header's list of files", e.name)
	}
	if f.Mode&typeMask != e.mode&typeMask {
		return fmt.Errorf("%q has mode %o, the header says %o", e.name, e.mode, f.Mode)
	}
	if err := x.parents(path.Dir(name)); err != nil {
		return err
	}
	switch e.mode & typeMask {
	case typeDir:
		x.made = append(x.made, name)
		return x.folder(name)
	case typeSymlink:
		return x.symlink(name, e)
	case typeRegular:
		return x.regular(name, f, e)
	}
	return nil
}

// parents makes the folders above a file. What is there must be a folder itself:
// a symbolic link would lead the file elsewhere.
func (x *extractor) parents(dir string) error {
	if x.dirs[dir] {
		return nil
	}
	if err := x.parents(path.Dir(dir)); err != nil {
		return err
	}
	return x.folder(dir)
}

func (x *extractor) folder(dir string) error {
	if x.dirs[dir] {
		return nil
	}
	err := x.root.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		st, err := x.root.Lstat(dir)
		if err != nil {
			return err
		}
		if !st.IsDir() {
			return fmt.Errorf("%q is needed as a folder and is a %s: nothing is written through it", dir, st.Mode().Type())
		}
	} else if err != nil {
		return err
	}
	x.dirs[dir] = true
	return nil
}

func (x *extractor) symlink(name string, e *cpioEntry) error {
	if e.size > maxPath {
		return fmt.Errorf("%q is a symbolic link of %d bytes", name, e.size)
	}
	target, err := io.ReadAll(e.data)
	if err != nil {
		return err
	}
	if int64(len(target)) < e.size {
		return io.ErrUnexpectedEOF
	}
	return x.root.Symlink(string(target), name)
}

func (x *extractor) regular(name string, f *File, e *cpioEntry) error {
	if e.size != f.Size && (e.size != 0 || e.links < 2) {
		return fmt.Errorf("%q has %d bytes, the header says %d", name, e.size, f.Size)
	}
	if e.links < 2 {
		return x.write(name, f, e)
	}
	id := linkID{e.device, e.inode}
	l := x.links[id]
	if l == nil {
		l = &link{file: f}
		x.links[id] = l
	}
	switch {
	case l.done != "":
		return x.root.Link(l.done, name)
	case e.size == 0:
		l.waiting = append(l.waiting, name)
		return nil
	}
	if err := x.write(name, f, e); err != nil {
		return err
	}
	l.done = name
	return x.linkWaiting(l)
}

func (x *extractor) linkWaiting(l *link) error {
	for _, other := range l.waiting {
		if err := x.root.Link(l.done, other); err != nil {
			return err
		}
	}
	l.waiting = nil
	return nil
}

func (x *extractor) write(name string, f *File, e *cpioEntry) error {
	w, err := x.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(w, e.data)
	if err == nil && n < e.size {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = w.Chmod(fs.FileMode(f.Mode & 0o777))
	}
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	t := time.Unix(f.MTime, 0)
	return x.root.Chtimes(name, t, t)
}

// finish makes linked files that are empty, and gives folders their permissions
// and times last, so that a read-only folder could be filled.
func (x *extractor) finish() error {
	for _, l := range x.links {
		if l.done != "" || len(l.waiting) == 0 {
			continue
		}
		if l.file.Size != 0 {
			return fmt.Errorf("%q has no data", l.waiting[0])
		}
		l.done, l.waiting = l.waiting[0], l.waiting[1:]
		if err := x.write(l.done, l.file, &cpioEntry{data: strings.NewReader("")}); err != nil {
			return err
		}
		if err := x.linkWaiting(l); err != nil {
			return err
		}
	}
	for _, dir := range slices.Backward(x.made) {
		f := x.files[dir]
		if err := x.root.Chmod(dir, fs.FileMode(f.Mode&0o777)); err != nil {
			return err
		}
		t := time.Unix(f.MTime, 0)
		if err := x.root.Chtimes(dir, t, t); err != nil {
			return err
		}
	}
	return nil
}
