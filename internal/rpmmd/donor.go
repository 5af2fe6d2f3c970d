package rpmmd

import (
	"fmt"
	"io"
	"sort"
	"strings"
)

// Donor is an index with a twin, just made, of which an [Update] takes over what is
// alike: a frame with the same packages in the same order has the same bytes, when
// its hrefs are those of the donor's twin. So an index that is made from nothing beside
// another costs little more than copying.
type Donor struct {
	Index *Index
	Twin  *Twin // of the donor's Update
}

// donor is a Donor at work.
type donor struct {
	state    *State
	from, to string
	first    map[key]int // frames, by the key of their first package
	start    []offsets
	files    [len(documents)]io.ReaderAt
	streams  [len(documents)]int // where the state has the files
}

func newDonor(d *Donor) (*donor, error) {
	if d.Index.State == nil || len(d.Index.TwinFiles) < len(documents) {
		return nil, fmt.Errorf("an index without a twin is no donor")
	}
	out := &donor{state: d.Index.State, from: d.Twin.From, to: d.Twin.To, first: map[key]int{}}
	for i := range documents {
		out.files[i], out.streams[i] = d.Index.TwinFiles[i].readerAt(), i
	}
	out.streams[0] = len(documents) // the primary of the twin
	at := out.state.head
	for i := range out.state.frames {
		f := &out.state.frames[i]
		b, err := f.block.bytes()
		if err != nil {
			return nil, err
		}
		out.first[key(b)] = i
		out.start = append(out.start, at)
		for s := range at {
			at[s] += f.parts[s].size
		}
	}
	return out, nil
}

// match gives the frame of the donor that holds these packages; false when there is none.
func (d *donor) match(items []Item) (int, bool, error) {
	var buf []byte
	var list []known
	frame := 0
	for i, it := range items {
		rest, ok := strings.CutPrefix(it.Href, d.to)
		if !ok {
			return 0, false, nil
		}
		it.Href = d.from + rest
		var k known
		k, buf = it.known(buf)
		if i == 0 {
			if frame, ok = d.first[k.key]; !ok || d.state.frames[frame].n != len(items) {
				return 0, false, nil
			}
			var err error
			if list, err = d.state.known(frame); err != nil {
				return 0, false, err
			}
		}
		if list[i].key != k.key {
			return 0, false, nil
		}
	}
	return frame, len(items) > 0, nil
}

// take gives a frame of the donor as a new frame.
func (d *donor) take(c Compression, frame int) (*made, error) {
	m := &made{}
	for i, s := range d.streams {
		part := d.state.frames[frame].parts[s]
		m.stored[i] = make([]byte, part.size)
		if n, err := d.files[i].ReadAt(m.stored[i], d.start[frame][s]); n < len(m.stored[i]) {
			return nil, fmt.Errorf("frame %d of %s: %w", frame, documents[i].kind, err)
		}
		var err error
		if m.open[i], err = c.unpack(m.stored[i], part.open); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// readerAt reads a file by its pieces.
func (f *DataFile) readerAt() io.ReaderAt {
	p := &pieces{parts: f.parts}
	for _, s := range f.parts {
		p.ends = append(p.ends, p.size()+s.size())
	}
	return p
}

type pieces struct {
	parts []segment
	ends  []int64
}

func (p *pieces) size() int64 {
	if len(p.ends) == 0 {
		return 0
	}
	return p.ends[len(p.ends)-1]
}

func (p *pieces) ReadAt(b []byte, off int64) (done int, err error) {
	i := sort.Search(len(p.ends), func(i int) bool { return p.ends[i] > off })
	for ; done < len(b); i++ {
		if i == len(p.parts) {
			return done, io.EOF
		}
		s := p.parts[i]
		in := off + int64(done) - (p.ends[i] - s.size())
		n := int(min(int64(len(b)-done), s.size()-in))
		if s.src == nil {
			copy(b[done:done+n], s.data[in:])
		} else if m, err := s.src.ReadAt(b[done:done+n], s.off+in); m < n {
			return done + m, err
		}
		done += n
	}
	return done, nil
}
