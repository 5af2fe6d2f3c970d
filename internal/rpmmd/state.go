package rpmmd

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"syscall"

	"slipway/internal/errs"
)

// State is what an [Update] must know of the index before it: where the frames of
// the data files begin, which packages they hold, and the sums up to there. It is
// no truth of its own: without it the same index is made from the packages.
// docs/format/index-state.md describes the bytes.
type State struct {
	Compression Compression
	Records     [len(documents)]Record // of primary, filelists and other

	noOpen bool    // sums of the open text are not carried
	head   offsets // stored size of the head
	frames []frame
	stamps [len(documents)]stamp
}

type frame struct {
	keys  []key
	parts [len(documents)]part
}

// part is a frame in one data file.
type part struct {
	size, open int64  // bytes, stored and open
	sum        []byte // marshalled sha256 of the stored file up to the end of the frame
	openSum    []byte // the same of the open text; nil when it is not carried
}

func (r Record) name() string { return path.Base(r.Href) }

// stamp tells whether a file may have changed without reading it.
type stamp struct{ mtime, ctime, inode int64 }

// stampOf gives the stamp of an open file; none (all zero) when it is no file.
func stampOf(r any) stamp {
	f, ok := r.(interface{ Stat() (os.FileInfo, error) })
	if !ok {
		return stamp{}
	}
	st, err := f.Stat()
	if err != nil {
		return stamp{}
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return stamp{}
	}
	return stamp{sys.Mtim.Nano(), sys.Ctim.Nano(), int64(sys.Ino)}
}

// Stamp notes the data files of the state as they were written, so that the next
// Update believes them while nobody touched them; others it reads whole, and
// compares with their checksum. Call it when the files have their final names.
func (s *State) Stamp(open func(name string) (io.ReaderAt, error)) error {
	for i := range s.Records {
		f, err := open(s.Records[i].name())
		if err != nil {
			return err
		}
		s.stamps[i] = stampOf(f)
	}
	return nil
}

// Check compares the data files with the state, by their stamps or by their
// bytes, and gives errs.Conflict when one is another.
func (s *State) Check(open func(name string) (io.ReaderAt, error)) error {
	for i := range s.Records {
		f, err := open(s.Records[i].name())
		if err == nil {
			err = s.check(i, f)
		}
		if err != nil {
			return errs.E(errs.Conflict, Unusable, err)
		}
	}
	return nil
}

// check reports whether r is the data file that the state tells of.
func (s *State) check(doc int, r io.ReaderAt) error {
	rec := s.Records[doc]
	if is := stampOf(r); is != (stamp{}) && is == s.stamps[doc] {
		return nil
	}
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(r, 0, rec.Size+1))
	if err != nil {
		return err
	}
	if sum := hex.EncodeToString(h.Sum(nil)); n != rec.Size || sum != rec.Checksum.Value {
		return fmt.Errorf("%s was changed", rec.Href)
	}
	return nil
}

// Packages gives the number of packages.
func (s *State) Packages() int {
	n := 0
	for _, f := range s.frames {
		n += len(f.keys)
	}
	return n
}

// The bytes of a state: magic, version, body, sha256 of all before.
const (
	stateMagic   = "slipway-index\n"
	stateVersion = 1
	sumState     = 108 // bytes of a marshalled sha256
	maxState     = 1 << 30
)

// Encode gives the bytes of a state. extra is the caller's, see [DecodeState].
func (s *State) Encode(extra []byte) []byte {
	b := make([]byte, 0, 4096+len(extra)+len(s.frames)*(8*sumState)+s.Packages()*len(key{}))
	b = append(b, stateMagic...)
	b = binary.AppendUvarint(b, stateVersion)
	b = appendBytes(b, []byte(s.Compression))
	b = append(b, boolByte(s.noOpen))
	for i, r := range s.Records {
		b = appendBytes(b, []byte(r.Checksum.Value))
		b = appendBytes(b, []byte(r.OpenChecksum.Value))
		for _, n := range []int64{r.Size, r.OpenSize, r.Timestamp, s.head[i], s.stamps[i].mtime, s.stamps[i].ctime, s.stamps[i].inode} {
			b = binary.AppendVarint(b, n)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(s.frames)))
	for _, f := range s.frames {
		b = binary.AppendUvarint(b, uint64(len(f.keys)))
		for _, k := range f.keys {
			b = append(b, k[:]...)
		}
		for _, p := range f.parts {
			b = binary.AppendUvarint(b, uint64(p.size))
			b = binary.AppendUvarint(b, uint64(p.open))
			b = append(append(b, p.sum...), p.openSum...)
		}
	}
	return withSum(appendBytes(b, extra))
}

func withSum(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// DecodeState reads what Encode wrote. Anything else is errs.Invalid: then there
// is no last index, and the metadata is to be made from the packages.
func DecodeState(b []byte) (s *State, extra []byte, err error) {
	bad := func(why string) (*State, []byte, error) {
		return nil, nil, errs.E(errs.Invalid, "the state of the index cannot be read: "+why, errs.Hint("remove it: the metadata is then made again from the packages"))
	}
	body, ok := bytes.CutPrefix(b, []byte(stateMagic))
	if !ok || len(body) < sha256.Size || len(b) > maxState {
		return bad("it is no state of Slipway")
	}
	// The version stands before the sum is believed: another version may sum otherwise.
	if v, n := binary.Uvarint(body); n <= 0 || v != stateVersion {
		return bad("it has another version")
	}
	if sum := sha256.Sum256(b[:len(b)-sha256.Size]); !bytes.Equal(sum[:], b[len(b)-sha256.Size:]) {
		return bad("its checksum is wrong")
	}
	r := &stateReader{b: body[1 : len(body)-sha256.Size]}
	s = &State{Compression: Compression(r.bytes())}
	suffix, err := s.Compression.suffix()
	if err != nil {
		return bad("unknown compression")
	}
	s.noOpen = r.take(1)[0] != 0
	for i, doc := range documents {
		rec := Record{Type: doc.kind, Checksum: Checksum{"sha256", string(r.bytes())}}
		if open := string(r.bytes()); open != "" {
			rec.OpenChecksum = Checksum{"sha256", open}
		}
		rec.Href = "repodata/" + rec.Checksum.Value + "-" + doc.kind + ".xml" + suffix
		if rec.Checksum.check() != nil {
			return bad("a checksum is none")
		}
		for _, to := range []*int64{&rec.Size, &rec.OpenSize, &rec.Timestamp, &s.head[i], &s.stamps[i].mtime, &s.stamps[i].ctime, &s.stamps[i].inode} {
			*to = r.varint()
		}
		s.Records[i] = rec
	}
	sums := sumState
	if !s.noOpen {
		sums *= 2
	}
	s.frames = make([]frame, r.count(len(documents)*(sums+2)))
	for i := range s.frames {
		f := &s.frames[i]
		f.keys = make([]key, r.count(len(key{})))
		if len(f.keys) == 0 {
			r.failed = true
			break
		}
		for j := range f.keys {
			f.keys[j] = key(r.take(len(key{})))
		}
		for d := range f.parts {
			f.parts[d] = part{size: r.varsize(), open: r.varsize(), sum: r.take(sumState)}
			if !s.noOpen {
				f.parts[d].openSum = r.take(sumState)
			}
		}
	}
	extra = r.bytes()
	if r.failed || len(r.b) > 0 {
		return bad("it is cut or too long")
	}
	// Offsets are sums of sizes: they must end inside the files.
	for d := range documents {
		at := s.head[d]
		for _, f := range s.frames {
			at += f.parts[d].size
		}
		if at < 0 || at > s.Records[d].Size {
			return bad("its frames do not fit into the files")
		}
	}
	return s, extra, nil
}

// stateReader takes a state apart; after a failure all it gives is zero.
type stateReader struct {
	b      []byte
	failed bool
}

func (r *stateReader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.failed, r.b = true, nil
		return make([]byte, max(0, min(n, sumState)))
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *stateReader) bytes() []byte { return r.take(r.count(1)) }

// count reads the number of things of at least size bytes each.
func (r *stateReader) count(size int) int {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > uint64((len(r.b)-n)/size) {
		r.failed, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return int(v)
}

// varsize reads a size of at most maxStored, or of maxOpen open.
func (r *stateReader) varsize() int64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > maxOpen {
		r.failed, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return int64(v)
}

func (r *stateReader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.failed, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}
