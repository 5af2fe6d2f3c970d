package rpmmd

import "sync"

// buffers keeps the large slices of frames: without it each frame costs the
// collector some megabytes.
var buffers bufferPool

type bufferPool struct{ p sync.Pool }

// frameBytes is more than most frames have, open.
const frameBytes = 256 << 10

// get gives an empty slice with room for n bytes.
func (b *bufferPool) get(n int) []byte {
	if v, ok := b.p.Get().(*[]byte); ok && cap(*v) >= n {
		return (*v)[:0]
	}
	return make([]byte, 0, max(n, frameBytes))
}

func (b *bufferPool) put(v []byte) {
	if cap(v) >= frameBytes { // none that get would throw away
		b.p.Put(&v)
	}
}
