package rpmmd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"iter"
	"runtime"
	"sync"

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
	// Memo, if not nil, is shared by Updates of indexes that hold the same packages
	// under other hrefs: what they have in common is compressed once.
	Memo *Memo
}

// Memo keeps compressed frames of filelists and other, which no href stands in.
// The zero value is ready. All that share it have one compression.
type Memo struct{ frames sync.Map } // sha256 of the open text -> stored

// Unusable is the message of the errs.Conflict that is about [Update.Last].
const Unusable = "the last index cannot be used"

// Index is the metadata of a repository, ready to be written: first Files, then
// Repomd.
type Index struct {
	Repomd []byte // repomd.xml
	Files  []*DataFile
	State  *State // for the next Update; see [State.Stamp]
	// Same: primary, filelists and other are byte for byte those of Last.
	Same bool
	// Packages there are, Loaded of them by Load. Frames there are, Made of them new.
	Packages, Loaded, Frames, Made int
}

// Do makes the index of items, in their order; each href must occur once. All
// errors of Load come together, in the order of items, each after its href.
func (u Update) Do(ctx context.Context, items iter.Seq[Item]) (*Index, error) {
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
	if u.Last != nil && (u.Last.Compression != u.Compression || u.Last.noOpen != u.NoOpenChecksum) {
		u.Last = nil
	}
	u.Timestamp = max(u.Timestamp, 0)
	w := &writer{Update: u, index: &Index{State: &State{Compression: u.Compression, noOpen: u.NoOpenChecksum}}}
	w.plan = plan(items, u.Last)
	if err := w.open(); err != nil {
		return nil, err
	}
	if err := w.frames(ctx); err != nil {
		return nil, err
	}
	return w.finish(suffix)
}

// writer is one Do.
type writer struct {
	Update
	plan  []planned
	old   [len(documents)]io.ReaderAt // data files of Last
	start []offsets                   // of Last's frames
	where map[key]place               // packages of Last's frames that are not kept
	docs  [len(documents)]stream
	index *Index
}

type offsets [len(documents)]int64

// place is a package of the last index.
type place struct{ frame, at int }

// stream is one data file as it grows. The sums are behind while kept frames
// stand where they stood: the state of Last continues them.
type stream struct {
	file      DataFile
	sum, open hash.Hash
	size      int64
	openSize  int64
}

// open prepares the last index and begins the new one.
func (w *writer) open() error {
	if w.Last != nil {
		for i := range documents {
			r, err := w.Open(w.Last.Records[i].name())
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
		for i, f := range w.Last.frames {
			w.start[i] = at
			for d := range documents {
				at[d] += f.parts[d].size
			}
			if !kept[i] {
				for j, k := range f.keys {
					w.where[k] = place{i, j}
				}
			}
		}
	}
	for i, doc := range documents {
		s := &w.docs[i]
		s.sum = sha256.New()
		if !w.NoOpenChecksum {
			s.open = sha256.New()
		}
		if err := w.append(i, []byte(doc.head()), nil); err != nil {
			return err
		}
		w.index.State.head[i] = s.size
	}
	return nil
}

// append adds a piece, open and, when it was compressed before, stored.
func (w *writer) append(doc int, open, stored []byte) error {
	s := &w.docs[doc]
	if stored == nil {
		var err error
		if stored, err = w.Compression.pack(open); err != nil {
			return errs.E(errs.Internal, "compressing "+documents[doc].kind+".xml", err)
		}
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

// made is a new frame; open are the elements of its packages.
type made struct {
	open, stored [len(documents)][]byte
	loaded       int
	err          errs.List
}

// frames goes through the plan in order; new frames are made ahead, by as many
// goroutines as there are processors.
func (w *writer) frames(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	workers := runtime.GOMAXPROCS(0)
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
	var problems errs.List
	prefix := true
	for i, p := range w.plan {
		if p.old >= 0 {
			prefix = prefix && p.old == i
			if len(problems) == 0 {
				if err := w.keep(p, prefix); err != nil {
					return errs.E(errs.Conflict, Unusable, err)
				}
			}
			continue
		}
		prefix = false
		var m *made
		if c, ok := <-ahead; ok {
			m = <-c
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if problems = append(problems, m.err...); len(problems) > 0 {
			continue
		}
		f := frame{keys: p.keys}
		for d := range documents {
			before, openBefore := w.docs[d].size, w.docs[d].openSize
			if err := w.append(d, m.open[d], m.stored[d]); err != nil {
				return err
			}
			f.parts[d] = w.docs[d].part(before, openBefore)
			buffers.put(m.open[d])
		}
		w.index.State.frames = append(w.index.State.frames, f)
		w.index.Made, w.index.Loaded = w.index.Made+1, w.index.Loaded+m.loaded
	}
	w.index.Same = prefix && w.Last != nil && len(w.plan) == len(w.Last.frames)
	return problems.Err()
}

// part notes what was appended since, with the sums up to here.
func (s *stream) part(before, openBefore int64) part {
	p := part{size: s.size - before, open: s.openSize - openBefore, sum: marshal(s.sum)}
	if s.open != nil {
		p.openSum = marshal(s.open)
	}
	return p
}

// keep copies a frame of the last index. In the prefix that both have, its sums
// are those that the state holds; behind, its bytes are read once.
func (w *writer) keep(p planned, prefix bool) error {
	f := frame{keys: p.keys, parts: w.Last.frames[p.old].parts}
	for d := range documents {
		s, part := &w.docs[d], &f.parts[d]
		at := w.start[p.old][d]
		s.file.add(w.old[d], at, part.size)
		s.size += part.size
		s.openSize += part.open
		if prefix {
			if err := restore(s.sum, part.sum); err != nil {
				return err
			}
			if s.open != nil {
				if err := restore(s.open, part.openSum); err != nil {
					return err
				}
			}
			continue
		}
		stored, err := w.stored(p.old, d)
		if err != nil {
			return err
		}
		s.sum.Write(stored)
		part.sum = marshal(s.sum)
		if s.open != nil {
			open, err := w.Compression.unpack(stored, part.open)
			if err != nil {
				return err
			}
			s.open.Write(open)
			part.openSum = marshal(s.open)
		}
		buffers.put(stored)
	}
	w.index.State.frames = append(w.index.State.frames, f)
	return nil
}

// stored reads a frame of the last index.
func (w *writer) stored(frame, doc int) ([]byte, error) {
	n := w.Last.frames[frame].parts[doc].size
	b := buffers.get(int(n))[:n]
	if n, err := w.old[doc].ReadAt(b, w.start[frame][doc]); n < len(b) {
		return nil, fmt.Errorf("%s ends too early: %w", w.Last.Records[doc].Href, err)
	}
	return b, nil
}

// make makes one new frame.
func (w *writer) make(ctx context.Context, p planned) *made {
	m := &made{}
	was := map[int]*[len(documents)][][]byte{} // elements of frames of the last index
	for i := range m.open {
		m.open[i] = buffers.get(0)
	}
	for i, it := range p.items {
		if ctx.Err() != nil {
			return m
		}
		if at, ok := w.where[p.keys[i]]; ok {
			if was[at.frame] == nil {
				elements, err := w.elements(at.frame)
				if err != nil {
					m.err = append(m.err, errs.E(errs.Conflict, Unusable, err))
					return m
				}
				was[at.frame] = elements
			}
			for d := range documents {
				m.open[d] = append(m.open[d], was[at.frame][d][at.at]...)
			}
			continue
		}
		e, err := w.Load(ctx, it)
		m.loaded++
		if e.Href = it.Href; err == nil {
			err = e.check()
		}
		if err != nil {
			m.err = append(m.err, err)
			continue
		}
		for d, doc := range documents {
			m.open[d] = doc.encode(m.open[d], &e)
		}
	}
	for d, doc := range documents {
		if len(m.err) > 0 {
			break
		}
		var err error
		if m.stored[d], err = w.pack(d, m.open[d]); err != nil {
			m.err = append(m.err, errs.E(errs.Internal, "compressing "+doc.kind+".xml", err))
		}
	}
	return m
}

// pack compresses a frame, or gives what another Update made of the same.
func (w *writer) pack(doc int, open []byte) ([]byte, error) {
	if w.Memo == nil || doc == 0 {
		return w.Compression.pack(open)
	}
	key := sha256.Sum256(open)
	if v, ok := w.Memo.frames.Load(key); ok {
		return v.([]byte), nil
	}
	stored, err := w.Compression.pack(open)
	if err == nil {
		w.Memo.frames.Store(key, stored)
	}
	return stored, err
}

// elements gives the packages of a frame of the last index.
func (w *writer) elements(frame int) (*[len(documents)][][]byte, error) {
	var out [len(documents)][][]byte
	for d := range documents {
		stored, err := w.stored(frame, d)
		if err != nil {
			return nil, err
		}
		f := w.Last.frames[frame]
		open, err := w.Compression.unpack(stored, f.parts[d].open)
		if err != nil {
			return nil, err
		}
		buffers.put(stored)
		for len(open) > 0 {
			i := bytes.Index(open, elementEnd)
			if i < 0 {
				return nil, fmt.Errorf("%s: frame %d does not end with a package", w.Last.Records[d].Href, frame)
			}
			out[d] = append(out[d], open[:i+len(elementEnd)])
			open = open[i+len(elementEnd):]
		}
		if len(out[d]) != len(f.keys) {
			return nil, fmt.Errorf("%s: frame %d has %d packages, not %d", w.Last.Records[d].Href, frame, len(out[d]), len(f.keys))
		}
	}
	return &out, nil
}

// finish closes the documents and writes repomd.xml.
func (w *writer) finish(suffix string) (*Index, error) {
	x := w.index
	x.Frames = len(x.State.frames)
	for _, f := range x.State.frames {
		x.Packages += len(f.keys)
	}
	for i, doc := range documents {
		s := &w.docs[i]
		if err := w.append(i, []byte(doc.tail()), nil); err != nil {
			return nil, err
		}
		s.file.fill(doc.kind, suffix, s.sum, s.open, s.size, s.openSize, w.Timestamp)
		x.State.Records[i] = s.file.Record
		x.Files = append(x.Files, &s.file)
	}
	if w.Updateinfo != nil {
		f, err := w.updateinfo(suffix)
		if err != nil {
			return nil, err
		}
		x.Files = append(x.Files, f)
	}
	records := make([]Record, len(x.Files))
	for i, f := range x.Files {
		records[i] = f.Record
	}
	x.Repomd = EncodeRepomd(w.Revision, append(records, w.Keep...))
	return x, nil
}

func (w *writer) updateinfo(suffix string) (*DataFile, error) {
	if err := checkUpdateinfo(w.Updateinfo); err != nil {
		return nil, err
	}
	stored, err := w.Compression.pack(w.Updateinfo)
	if err != nil {
		return nil, errs.E(errs.Internal, "compressing updateinfo.xml", err)
	}
	f := &DataFile{parts: []segment{{data: stored}}}
	sum, open := sha256.New(), sha256.New()
	sum.Write(stored)
	open.Write(w.Updateinfo)
	f.fill("updateinfo", suffix, sum, open, int64(len(stored)), int64(len(w.Updateinfo)), w.Timestamp)
	return f, nil
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
