package rpmmd

import (
	"bytes"
	"context"
	"fmt"

	"slipway/internal/errs"
)

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
	if w.donor != nil {
		frame, ok, err := w.donor.match(p.items)
		if ok && err == nil {
			var m *made
			if m, err = w.donor.take(w.Compression, frame); err == nil {
				return m
			}
		}
		if err != nil {
			return &made{err: errs.List{errs.E(errs.Internal, "the other index", err)}}
		}
	}
	m := &made{}
	was := map[int]*elementsOf{} // of frames of the last index
	defer func() {
		for _, e := range was {
			for _, b := range e.open {
				buffers.put(b)
			}
		}
	}()
	for i := range m.open {
		m.open[i] = buffers.get(0)
	}
	for i, it := range p.items {
		if ctx.Err() != nil {
			return m
		}
		if at, ok := w.where[p.known[i].key]; ok {
			if was[at.frame] == nil {
				e, err := w.elements(at.frame)
				if err != nil {
					m.err = append(m.err, errs.E(errs.Conflict, Unusable, err))
					return m
				}
				was[at.frame] = e
			}
			for d := range documents {
				m.open[d] = append(m.open[d], was[at.frame].of[d][at.at]...)
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
	if w.Twin != nil && len(m.err) == 0 {
		last := len(documents)
		var err error
		if m.open[last], err = w.Twin.translate(buffers.get(len(m.open[0])), m.open[0], len(p.items)); err != nil {
			m.err = append(m.err, err)
		}
	}
	for d := range w.docs {
		if len(m.err) > 0 {
			break
		}
		var err error
		if m.stored[d], err = w.Compression.pack(m.open[d]); err != nil {
			m.err = append(m.err, errs.E(errs.Internal, "compressing "+documents[d%len(documents)].kind+".xml", err))
		}
	}
	return m
}

// elementsOf are the packages of a frame of the last index.
type elementsOf struct {
	of   [len(documents)][][]byte // windows of open
	open [len(documents)][]byte
}

func (w *writer) elements(frame int) (*elementsOf, error) {
	var out elementsOf
	f := &w.Last.frames[frame]
	for d := range documents {
		stored, err := w.stored(frame, d)
		if err != nil {
			return nil, err
		}
		open, err := w.Compression.unpack(stored, f.parts[d].open)
		if err != nil {
			return nil, err
		}
		buffers.put(stored)
		out.open[d], out.of[d] = open, make([][]byte, 0, f.n)
		for len(open) > 0 {
			i := bytes.Index(open, elementEnd)
			if i < 0 {
				return nil, fmt.Errorf("%s: frame %d does not end with a package", w.Last.Records[d].Href, frame)
			}
			out.of[d] = append(out.of[d], open[:i+len(elementEnd)])
			open = open[i+len(elementEnd):]
		}
		if len(out.of[d]) != f.n {
			return nil, fmt.Errorf("%s: frame %d has %d packages, not %d", w.Last.Records[d].Href, frame, len(out.of[d]), f.n)
		}
	}
	return &out, nil
}
