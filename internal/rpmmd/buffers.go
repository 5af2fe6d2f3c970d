package rpmmd

import "sync"

// buffers keeps the large slices of frames: without it each frame costs the
// collector some megabytes.
var buffers bufferPool

type bufferPool struct{ p sync.Pool }

// get gives an empty slice with room for n bytes.
func (b *bufferPool) get(n int) []byte {
	if v, ok := b.p.Get().(*[]byte); ok && cap(*v) >= n {
		return (*v)[:0]
	}
	return make([]byte, 0, max(n, 64<<10))
}

func (b *bufferPool) put(v []byte) { b.p.Put(&v) }
