package rpmmd

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"os"
	"path"
	"strings"
	"syscall"

	"slipway/internal/errs"
)

// State is what an [Update] must know of the index before it: where the frames of
// the data files begin, which packages they hold, and some sums up to there. It
// is no truth of its own: without it the same index is made from the packages.
// What is known of single packages is read from its file when it is needed.
// docs/format/index-state.md describes the bytes.
type State struct {
	Compression Compression
	Records     []Record // of primary, filelists and other, and of the twin's primary

	noOpen bool    // open-checksum is not made, sums are not carried
	head   offsets // stored size of the head
	frames []frame
	stamps [maxStreams]stamp
	read   map[int][]known // frames that were looked into: the same ones are, again
}

// maxStreams: the documents, and the primary of a twin.
const maxStreams = len(documents) + 1

type frame struct {
	n     int     // packages
	first string  // Sort of the first
	cut   uint32  // cutHash of the first
	block segment // what is known of them
	crc   uint32  // of the block
	parts [maxStreams]part
	sums  *[maxStreams]sums // where the files end with this frame; nil: not kept
}

// part is a frame in one data file: bytes, stored and open.
type part struct{ size, open int64 }

// sums are marshalled states of sha256: of a file as stored, and open.
type sums struct{ stored, open []byte }

// sumsEvery: so many frames are read again at most to continue a sum.
const sumsEvery = 16

func (r Record) name() string { return path.Base(r.Href) }

// maxRead bounds what is kept of frames that were looked into.
const maxRead = 256

// look is known, for frames that are soon looked into again.
func (s *State) look(i int) ([]known, error) {
	if list := s.read[i]; list != nil {
		return list, nil
	}
	list, err := s.known(i)
	if err == nil && len(s.read) < maxRead {
		if s.read == nil {
			s.read = map[int][]known{}
		}
		s.read[i] = list
	}
	return list, err
}

// known reads what is known of the packages of a frame.
func (s *State) known(i int) ([]known, error) {
	f := &s.frames[i]
	b, err := f.block.bytes()
	if err != nil {
		return nil, err
	}
	list := readBlock(b, f.n)
	if list == nil || crc32.Checksum(b, castagnoli) != f.crc || list[0].sort != f.first || list[0].cut != f.cut {
		return nil, fmt.Errorf("block %d of the state is damaged", i)
	}
	return list, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Known is a package of an index.
type Known struct{ Sort, Note string }

// Begins gives the packages whose Sort begins with prefix.
func (s *State) Begins(prefix string) ([]Known, error) {
	lo, hi := 0, len(s.frames)
	for lo < hi { // the last frame that begins before prefix
		if mid := (lo + hi) / 2; s.frames[mid].first < prefix {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	var out []Known
	for i := max(0, lo-1); i < len(s.frames) && (s.frames[i].first < prefix || strings.HasPrefix(s.frames[i].first, prefix)); i++ {
		list, err := s.look(i)
		if err != nil {
			return nil, errs.E(errs.Conflict, Unusable, err)
		}
		for _, k := range list {
			if strings.HasPrefix(k.sort, prefix) {
				out = append(out, Known{k.sort, k.note})
			}
		}
	}
	return out, nil
}

// All gives all packages; it stops after an error.
func (s *State) All() iter.Seq2[Known, error] {
	return func(yield func(Known, error) bool) {
		for i := range s.frames {
			list, err := s.known(i)
			if err != nil {
				yield(Known{}, errs.E(errs.Conflict, Unusable, err))
				return
			}
			for _, k := range list {
				if !yield(Known{k.sort, k.note}, nil) {
					return
				}
			}
		}
	}
}

// HasAny reports whether one of the items is in the index: its ID at its Href.
func (s *State) HasAny(items []Item) (found bool, err error) {
	want := map[key]bool{}
	var mayBe [1 << 16]bool // by the first two bytes of a key: most are told apart by them
	var buf []byte
	for i := range items {
		var k known
		k, buf = items[i].known(buf)
		want[k.key] = true
		mayBe[binary.LittleEndian.Uint16(k.key[:])] = true
	}
	err = s.blocks(func(i int, b []byte) bool {
		for j := range s.frames[i].n {
			k := b[j*fixedKnown:]
			if mayBe[binary.LittleEndian.Uint16(k)] && want[key(k)] {
				found = true
			}
		}
		return !found
	})
	if err != nil {
		return false, errs.E(errs.Conflict, Unusable, err)
	}
	return found, nil
}

// blocks reads the blocks of all frames, many at a time, until f gives false.
func (s *State) blocks(f func(i int, b []byte) bool) error {
	for i := 0; i < len(s.frames); {
		b := s.frames[i].block
		n := i + 1
		for b.src != nil && n < len(s.frames) && s.frames[n].block.src == b.src && s.frames[n].block.off == b.off+b.n && b.n+s.frames[n].block.n <= frameBytes {
			b.n += s.frames[n].block.n
			n++
		}
		all := b.data
		if b.src != nil {
			all = buffers.get(int(b.n))[:b.n]
			if m, err := b.src.ReadAt(all, b.off); m < len(all) {
				return err
			}
		}
		rest := all
		for ; i < n; i++ {
			size := s.frames[i].block.size()
			if !f(i, rest[:size:size]) {
				return nil
			}
			rest = rest[size:]
		}
		if b.src != nil {
			buffers.put(all)
		}
	}
	return nil
}

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
// compares with their checksum. open is called for the files in the order of
// Records. Call it when the files have their final names.
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
// bytes, and gives errs.Conflict when one is another. See Stamp for open.
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
func (s *State) check(stream int, r io.ReaderAt) error {
	rec := s.Records[stream]
	if is := stampOf(r); is != (stamp{}) && is == s.stamps[stream] {
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
	for i := range s.frames {
		n += s.frames[i].n
	}
	return n
}

// The bytes of a state: magic, version, size of the front, front, sha256 of all
// before; then the blocks.
const (
	stateMagic   = "slipway-index\n"
	stateVersion = 3
	stateFixed   = len(stateMagic) + 1 + 8
	sumState     = 108 // bytes of a marshalled sha256
	maxState     = 1 << 30
)

// Encode gives the bytes of a state. extra is the caller's, see [ReadState].
func (s *State) Encode(extra []byte) []byte {
	var b bytes.Buffer
	if _, err := s.WriteTo(&b, extra); err != nil {
		return nil // a state that cannot be read is none
	}
	return b.Bytes()
}

// WriteTo writes a state. The one that it was made from must still be open: what
// is known of kept frames is copied from there.
func (s *State) WriteTo(w io.Writer, extra []byte) (int64, error) {
	var f DataFile
	front := withSum(s.front(extra))
	f.parts = append(f.parts, segment{data: front})
	for i := range s.frames {
		b := s.frames[i].block
		if b.src != nil {
			f.add(b.src, b.off, b.n)
		} else if last := &f.parts[len(f.parts)-1]; last.src == nil {
			last.data = append(last.data, b.data...)
		} else {
			f.parts = append(f.parts, segment{data: b.data[:len(b.data):len(b.data)]})
		}
	}
	return f.WriteTo(w)
}

func (s *State) front(extra []byte) []byte {
	b := make([]byte, stateFixed, 4096+len(extra)+len(s.frames)*80)
	copy(b, stateMagic)
	b[len(stateMagic)] = stateVersion
	b = appendBytes(b, []byte(s.Compression))
	b = append(b, boolByte(s.noOpen), byte(len(s.Records)))
	for i, r := range s.Records {
		b = appendBytes(b, []byte(r.Checksum.Value))
		b = appendBytes(b, []byte(r.OpenChecksum.Value))
		for _, n := range []int64{r.Size, r.OpenSize, r.Timestamp, s.head[i], s.stamps[i].mtime, s.stamps[i].ctime, s.stamps[i].inode} {
			b = binary.AppendVarint(b, n)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(s.frames)))
	for i := range s.frames {
		f := &s.frames[i]
		b = binary.AppendUvarint(b, uint64(f.n))
		b = binary.AppendUvarint(b, uint64(f.block.size()))
		b = binary.LittleEndian.AppendUint32(b, f.crc)
		b = binary.LittleEndian.AppendUint32(b, f.cut)
		b = appendBytes(b, []byte(f.first))
		for _, p := range f.parts[:len(s.Records)] {
			b = binary.AppendUvarint(b, uint64(p.size))
			b = binary.AppendUvarint(b, uint64(p.open))
		}
		kept := f.sums != nil && (i%sumsEvery == sumsEvery-1 || i >= len(s.frames)-2)
		if b = append(b, boolByte(kept)); kept {
			for _, p := range f.sums[:len(s.Records)] {
				b = append(append(b, p.stored...), p.open...)
			}
		}
	}
	b = appendBytes(b, extra)
	binary.LittleEndian.PutUint64(b[len(stateMagic)+1:], uint64(len(b)-stateFixed))
	return b
}

func withSum(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// DecodeState is ReadState of bytes in memory.
func DecodeState(b []byte) (s *State, extra []byte, err error) {
	return ReadState(bytes.NewReader(b), int64(len(b)))
}

// ReadState reads what WriteTo wrote, the front of it; r must stay open as long
// as the state, and one made from it, are used. Anything else is errs.Invalid:
// then there is no last index, and the metadata is to be made from the packages.
func ReadState(src io.ReaderAt, size int64) (s *State, extra []byte, err error) {
	bad := func(why string) (*State, []byte, error) {
		return nil, nil, errs.E(errs.Invalid, "the state of the index cannot be read: "+why, errs.Hint("remove it: the metadata is then made again from the packages"))
	}
	fixed := make([]byte, stateFixed)
	if n, _ := src.ReadAt(fixed, 0); n < stateFixed || string(fixed[:len(stateMagic)]) != stateMagic || size > maxState {
		return bad("it is no state of Slipway")
	}
	// The version stands before the sum is believed: another version may sum otherwise.
	if fixed[len(stateMagic)] != stateVersion {
		return bad("it has another version")
	}
	length := binary.LittleEndian.Uint64(fixed[len(stateMagic)+1:])
	if length > uint64(size) {
		return bad("it is cut")
	}
	b := make([]byte, stateFixed+int(length)+sha256.Size)
	if n, _ := src.ReadAt(b, 0); n < len(b) {
		return bad("it is cut")
	}
	if sum := sha256.Sum256(b[:len(b)-sha256.Size]); !bytes.Equal(sum[:], b[len(b)-sha256.Size:]) {
		return bad("its checksum is wrong")
	}
	r := &stateReader{b: b[stateFixed : len(b)-sha256.Size]}
	s = &State{Compression: Compression(r.bytes())}
	suffix, err := s.Compression.suffix()
	if err != nil {
		return bad("unknown compression")
	}
	s.noOpen = r.take(1)[0] != 0
	streams := int(r.take(1)[0])
	if streams < len(documents) || streams > maxStreams {
		return bad("it is not of three files, nor of four")
	}
	for i := range streams {
		doc := documents[i%len(documents)]
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
		s.Records = append(s.Records, rec)
	}
	at := int64(len(b)) // of the next block
	ends := s.head      // of the next frame
	s.frames = make([]frame, r.count(12+2*streams))
	for i := range s.frames {
		f := &s.frames[i]
		f.n = int(r.varsize())
		f.block = segment{src: src, off: at, n: r.varsize()}
		at += f.block.n
		f.crc, f.cut = binary.LittleEndian.Uint32(r.take(4)), binary.LittleEndian.Uint32(r.take(4))
		f.first = string(r.bytes())
		if f.n == 0 || int64(f.n) > f.block.n/int64(fixedKnown+3) {
			r.failed = true
		}
		for d := range streams {
			f.parts[d] = part{size: r.varsize(), open: r.varsize()}
			ends[d] += f.parts[d].size
		}
		if r.take(1)[0] != 0 {
			f.sums = &[maxStreams]sums{}
			for d := range streams {
				f.sums[d].stored = r.take(sumState)
				if !s.noOpen {
					f.sums[d].open = r.take(sumState)
				}
			}
		}
		if r.failed {
			break
		}
	}
	extra = r.bytes()
	if r.failed || len(r.b) > 0 || at != size {
		return bad("it is cut or too long")
	}
	for d := range streams {
		if ends[d] < 0 || ends[d] > s.Records[d].Size {
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
