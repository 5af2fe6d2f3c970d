package rpmmd

import (
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"iter"
	"runtime"

	"slipway/internal/errs"
)

// Update makes the next index of a repository from the last one: what is new is
// read, hashed and compressed; frames whose packages are the same are copied.
// The bytes depend on the list of items and the options alone, not on Last.
type Update struct {
	Options
	// Last is what the last Update left; nil makes all from nothing. One of
	// another compression counts as nil.
	Last *State
	// Open gives a data file of Last by its name. It must stay open, and as it
	// is, until the result was written; the caller closes it. An error, or a file
	// that is not what Last says, is errs.Conflict: give nil as Last then.
	Open func(name string) (io.ReaderAt, error)
	// Load reads a package that the last index does not have. It is called from
	// several goroutines, at most once for each item.
	Load func(ctx context.Context, it Item) (Entry, error)
	// NoOpenChecksum leaves open-checksum out of repomd.xml (clients do without).
	// Without it, a change in the middle costs opening all frames behind.
	NoOpenChecksum bool
	// Twin, if not nil, makes a second index of the same packages with other hrefs:
	// only its primary.xml differs.
	Twin *Twin
	// Donor, if not nil, is another index that may have frames alike.
	Donor *Donor
}

// Unusable is the message of the errs.Conflict that is about [Update.Last].
const Unusable = "the last index cannot be used"

// Index is the metadata of a repository, ready to be written: first Files, then
// Repomd.
type Index struct {
	Repomd []byte // repomd.xml
	Files  []*DataFile
	// TwinRepomd and TwinFiles are the same of the twin.
	TwinRepomd []byte
	TwinFiles  []*DataFile
	State      *State // for the next Update; see [State.Stamp]
	// Same: primary, filelists and other are byte for byte those of Last.
	Same bool
	// Packages there are, Loaded of them by Load. Frames there are, Made of them new.
	Packages, Loaded, Frames, Made int
}

// Do makes the index of items, in their order; each href must occur once. All
// errors of Load come together, in the order of items, each after its href.
func (u Update) Do(ctx context.Context, items iter.Seq[Item]) (*Index, error) {
	if u.Last != nil && !u.fits() {
		u.Last = nil
	}
	return u.do(ctx, func() ([]planned, error) { return plan(items, u.Last) })
}

// Change makes the index of the packages that Last has, without those whose Sort
// is in remove, and with add: where their Sort says, or at the end. It costs what
// changes, but for copying and hashing. No Last, or one that was made with other
// options, is errs.Conflict.
func (u Update) Change(ctx context.Context, add []Item, remove []string) (*Index, error) {
	if u.Last == nil || !u.fits() {
		return nil, errs.E(errs.Conflict, Unusable)
	}
	return u.do(ctx, func() ([]planned, error) { return planChange(u.Last, add, remove) })
}

// fits reports whether Last was made with the same options.
func (u *Update) fits() bool {
	c := u.Compression
	if c == "" {
		c = Zstd
	}
	return u.Last.Compression == c && u.Last.noOpen == u.NoOpenChecksum && len(u.Last.Records) == u.streams()
}

func (u *Update) streams() int {
	if u.Twin != nil {
		return maxStreams
	}
	return len(documents)
}

func (u Update) do(ctx context.Context, plan func() ([]planned, error)) (*Index, error) {
	suffix, err := u.Compression.suffix()
	if err != nil {
		return nil, err
	}
	if u.Revision == "" {
		return nil, errs.E(errs.Internal, "repository metadata without a revision")
	}
	if u.Compression == "" {
		u.Compression = Zstd
	}
	u.Timestamp = max(u.Timestamp, 0)
	w := &writer{Update: u, index: &Index{State: &State{Compression: u.Compression, noOpen: u.NoOpenChecksum}}}
	w.docs = make([]stream, u.streams())
	if w.plan, err = plan(); err != nil {
		return nil, errs.E(errs.Conflict, Unusable, err)
	}
	if err := w.open(); err != nil {
		return nil, err
	}
	if u.Donor != nil && u.Twin == nil {
		if w.donor, err = newDonor(u.Donor); err != nil {
			return nil, errs.E(errs.Internal, "the other index", err)
		}
	}
	if err := w.frames(ctx); err != nil {
		return nil, err
	}
	return w.finish(suffix)
}

// writer is one Do or Change.
type writer struct {
	Update
	plan   []planned
	old    [maxStreams]io.ReaderAt // data files of Last
	start  []offsets               // of Last's frames
	where  map[key]place           // packages of Last's frames that are not kept
	docs   []stream
	donor  *donor // nil: none
	summed int    // so many frames stand in the sums
	index  *Index
}

type offsets [maxStreams]int64

// place is a package of the last index.
type place struct{ frame, at int }

// stream is one data file as it grows.
type stream struct {
	file      DataFile
	sum, open hash.Hash
	size      int64
	openSize  int64
	// behind is what sum does not have yet: a window of the last index.
	behind segment
}

// open prepares the last index and begins the new one.
func (w *writer) open() error {
	if w.Last != nil {
		for i := range w.docs {
			open := w.Open
			if i == len(documents) {
				open = w.Twin.Open
			}
			r, err := open(w.Last.Records[i].name())
			if err == nil {
				err = w.Last.check(i, r)
			}
			if err != nil {
				return errs.E(errs.Conflict, Unusable, err)
			}
			w.old[i] = r
		}
		kept := make([]bool, len(w.Last.frames))
		for _, p := range w.plan {
			if p.old >= 0 {
				kept[p.old] = true
			}
		}
		w.where, w.start = map[key]place{}, make([]offsets, len(w.Last.frames))
		at := w.Last.head
		for i := range w.Last.frames {
			f := &w.Last.frames[i]
			w.start[i] = at
			for d := range w.docs {
				at[d] += f.parts[d].size
			}
			if !kept[i] {
				list, err := w.Last.look(i)
				if err != nil {
					return errs.E(errs.Conflict, Unusable, err)
				}
				for j := range list {
					w.where[list[j].key] = place{i, j}
				}
			}
		}
	}
	for i := range w.docs {
		s := &w.docs[i]
		s.sum = sha256.New()
		if !w.NoOpenChecksum {
			s.open = sha256.New()
		}
		if err := w.append(i, []byte(documents[i%len(documents)].head()), nil); err != nil {
			return err
		}
		w.index.State.head[i] = s.size
	}
	return w.resume()
}

// resume takes over the sums that the last index has of the frames that both
// begin with.
func (w *writer) resume() error {
	prefix := 0
	for prefix < len(w.plan) && w.plan[prefix].old == prefix {
		prefix++
	}
	for i := prefix - 1; i >= 0; i-- {
		kept := w.Last.frames[i].sums
		if kept == nil {
			continue
		}
		for d := range w.docs {
			if err := restore(w.docs[d].sum, kept[d].stored); err != nil {
				return errs.E(errs.Conflict, Unusable, err)
			}
			if s := &w.docs[d]; s.open != nil {
				if err := restore(s.open, kept[d].open); err != nil {
					return errs.E(errs.Conflict, Unusable, err)
				}
			}
		}
		w.summed = i + 1
		return nil
	}
	return nil
}

// append adds a piece, open and, when it was compressed before, stored.
func (w *writer) append(doc int, open, stored []byte) error {
	s := &w.docs[doc]
	if stored == nil {
		var err error
		if stored, err = w.Compression.pack(open); err != nil {
			return errs.E(errs.Internal, "compressing "+documents[doc%len(documents)].kind+".xml", err)
		}
	}
	if err := s.catchUp(); err != nil {
		return errs.E(errs.Conflict, Unusable, err)
	}
	s.sum.Write(stored)
	if s.open != nil {
		s.open.Write(open)
	}
	s.size += int64(len(stored))
	s.openSize += int64(len(open))
	s.file.parts = append(s.file.parts, segment{data: stored})
	return nil
}

// catchUp hashes what was kept.
func (s *stream) catchUp() error {
	if s.behind.n == 0 {
		return nil
	}
	buf := buffers.get(1 << 18)[:1<<18]
	defer buffers.put(buf)
	for s.behind.n > 0 {
		b := buf[:min(s.behind.n, int64(len(buf)))]
		if n, err := s.behind.src.ReadAt(b, s.behind.off); n < len(b) {
			return fmt.Errorf("a data file ends too early: %w", err)
		}
		s.sum.Write(b)
		s.behind.off, s.behind.n = s.behind.off+int64(len(b)), s.behind.n-int64(len(b))
	}
	return nil
}

// made is a new frame; open are the elements of its packages.
type made struct {
	open, stored [maxStreams][]byte
	loaded       int
	err          errs.List
}

// frames goes through the plan in order; new frames are made ahead, by as many
// goroutines as there are processors.
func (w *writer) frames(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	next := w.ahead(ctx)
	var problems errs.List
	prefix := true
	state := w.index.State
	state.frames = make([]frame, 0, len(w.plan))
	for i, p := range w.plan {
		if p.old >= 0 {
			prefix = prefix && p.old == i
			if len(problems) == 0 {
				if err := w.keep(p.old, prefix); err != nil {
					return errs.E(errs.Conflict, Unusable, err)
				}
			}
			continue
		}
		prefix = false
		m := next(p)
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if problems = append(problems, m.err...); len(problems) > 0 {
			continue
		}
		block := appendBlock(nil, p.known)
		f := frame{n: len(p.known), first: p.known[0].sort, cut: p.known[0].cut, block: segment{data: block}, crc: crc32.Checksum(block, castagnoli)}
		for d := range w.docs {
			f.parts[d] = part{int64(len(m.stored[d])), int64(len(m.open[d]))}
			if err := w.append(d, m.open[d], m.stored[d]); err != nil {
				return err
			}
			buffers.put(m.open[d])
		}
		f.sums = w.sums()
		state.frames = append(state.frames, f)
		w.index.Made, w.index.Loaded = w.index.Made+1, w.index.Loaded+m.loaded
	}
	w.index.Same = prefix && w.Last != nil && len(w.plan) == len(w.Last.frames)
	return problems.Err()
}

// ahead gives what gives the new frames of the plan, one after the other.
func (w *writer) ahead(ctx context.Context) func(planned) *made {
	workers := w.workers()
	if workers == 1 {
		return func(p planned) *made { return w.make(ctx, p) }
	}
	ahead := make(chan chan *made, workers)
	go func() {
		defer close(ahead)
		for _, p := range w.plan {
			if p.old >= 0 {
				continue
			}
			c := make(chan *made, 1)
			select {
			case ahead <- c:
			case <-ctx.Done():
				return
			}
			go func() { c <- w.make(ctx, p) }()
		}
	}()
	return func(planned) *made {
		if c, ok := <-ahead; ok {
			return <-c
		}
		return nil // ctx is done
	}
}

// workers is how many frames are made at once: few frames are not worth the tables
// and windows of a second encoder.
func (w *writer) workers() int {
	frames := 0
	for _, p := range w.plan {
		if p.old < 0 {
			frames++
		}
	}
	return min(runtime.GOMAXPROCS(0), 1+frames/framesEach)
}

// framesEach are made by one worker before another helps.
const framesEach = 64

// sums gives the sums up to here. Where the open sum is left out changes come
// anywhere: no sum is kept.
func (w *writer) sums() *[maxStreams]sums {
	if w.NoOpenChecksum {
		return nil
	}
	var out [maxStreams]sums
	for d := range w.docs {
		out[d] = sums{marshal(w.docs[d].sum), marshal(w.docs[d].open)}
	}
	return &out
}

// keep copies a frame of the last index, which may stand in the sums already.
func (w *writer) keep(old int, prefix bool) error {
	f := w.Last.frames[old]
	for d := range w.docs {
		s, part := &w.docs[d], f.parts[d]
		at := w.start[old][d]
		s.file.add(w.old[d], at, part.size)
		s.size += part.size
		s.openSize += part.open
		if prefix && old < w.summed {
			continue
		}
		if s.open == nil { // one reading for many
			if s.behind.n == 0 {
				s.behind = segment{src: w.old[d], off: at}
			} else if s.behind.off+s.behind.n != at {
				if err := s.catchUp(); err != nil {
					return err
				}
				s.behind = segment{src: w.old[d], off: at}
			}
			s.behind.n += part.size
			continue
		}
		stored, err := w.stored(old, d)
		if err != nil {
			return err
		}
		s.sum.Write(stored)
		open, err := w.Compression.unpack(stored, part.open)
		if err != nil {
			return err
		}
		s.open.Write(open)
		buffers.put(stored)
		buffers.put(open)
	}
	if !prefix || old >= w.summed {
		f.sums = w.sums()
	}
	w.index.State.frames = append(w.index.State.frames, f)
	return nil
}

// finish closes the documents and writes repomd.xml.
func (w *writer) finish(suffix string) (*Index, error) {
	x := w.index
	x.Frames, x.Packages = len(x.State.frames), x.State.Packages()
	for i := range w.docs {
		doc, s := documents[i%len(documents)], &w.docs[i]
		if err := w.append(i, []byte(doc.tail()), nil); err != nil {
			return nil, err
		}
		s.file.fill(doc.kind, suffix, s.sum, s.open, s.size, s.openSize, w.Timestamp)
		x.State.Records = append(x.State.Records, s.file.Record)
		if i < len(documents) {
			x.Files = append(x.Files, &s.file)
		}
	}
	if w.Updateinfo != nil {
		f, err := w.updateinfo(suffix)
		if err != nil {
			return nil, err
		}
		x.Files = append(x.Files, f)
	}
	x.Repomd = w.repomd(x.Files)
	if w.Twin != nil {
		x.TwinFiles = append([]*DataFile{&w.docs[len(documents)].file}, x.Files[1:]...)
		x.TwinRepomd = w.repomd(x.TwinFiles)
	}
	return x, nil
}

func (w *writer) repomd(files []*DataFile) []byte {
	records := make([]Record, len(files))
	for i, f := range files {
		records[i] = f.Record
	}
	return EncodeRepomd(w.Revision, append(records, w.Keep...))
}

// fill writes the record of a finished file; open may be nil.
func (f *DataFile) fill(kind, suffix string, sum, open hash.Hash, size, openSize, timestamp int64) {
	stored := hex.EncodeToString(sum.Sum(nil))
	f.Name = stored + "-" + kind + ".xml" + suffix
	f.Record = Record{Type: kind, Href: "repodata/" + f.Name, Checksum: Checksum{"sha256", stored}, Size: size, OpenSize: openSize, Timestamp: timestamp}
	if open != nil {
		f.OpenChecksum = Checksum{"sha256", hex.EncodeToString(open.Sum(nil))}
	}
}

func marshal(h hash.Hash) []byte {
	b, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		panic(err) // sha256 never fails
	}
	return b
}

func restore(h hash.Hash, state []byte) error {
	return h.(encoding.BinaryUnmarshaler).UnmarshalBinary(state)
}
