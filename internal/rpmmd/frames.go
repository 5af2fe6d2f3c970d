package rpmmd

import (
	"crypto/sha256"
	"iter"
	"slices"
)

// Item is a package of an index, as far as it is known before anything is read.
type Item struct {
	// ID stands for the bytes of the package and all else that the metadata says
	// of it but Href: equal ID and Href must mean an equal element. A digest of
	// the file, or its size and time.
	ID string
	// Href is where the file is, see [Entry.Href].
	Href string
	// Cut decides, by its hash alone, whether a frame may begin here. Give the
	// package's name where versions replace each other in place: the frames after
	// it then stay as they are. "" stands for Href.
	Cut string
	// Ref is the caller's, for Load.
	Ref any
}

// key is what an index remembers of an item.
type key [16]byte

func (it *Item) key(buf []byte) (key, []byte) {
	buf = append(append(append(buf[:0], it.ID...), 0), it.Href...)
	sum := sha256.Sum256(buf)
	return key(sum[:16]), buf
}

// Where frames end depends on the items alone, not on what was there before: the
// same list gives the same bytes from nothing and from any earlier index, and a
// change moves few ends. Frames hold about minFrame + cutEvery packages.
const (
	minFrame = 32
	cutEvery = 96
	maxFrame = 320
)

type cutter struct{ n int }

// begins reports whether a new frame begins at it; call it once for each item.
func (c *cutter) begins(it *Item) bool {
	if c.n >= maxFrame || c.n >= minFrame && cutHash(it)%cutEvery == 0 {
		c.n = 1
		return true
	}
	c.n++
	return false
}

// cutHash is FNV-1a, mixed at the end: its low bits alone are poor. It is part of
// the format: another one would make every index anew.
func cutHash(it *Item) uint32 {
	s := it.Cut
	if s == "" {
		s = it.Href
	}
	h := uint32(2166136261)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}

// planned is a frame of the new index: one of the last index as it is, or one to
// be made of items.
type planned struct {
	old   int // the frame of the last index; -1
	keys  []key
	items []Item // when old is -1
}

// plan divides the items into frames and finds those that the last index has.
func plan(items iter.Seq[Item], last *State) []planned {
	var frames []frame
	if last != nil {
		frames = last.frames
	}
	first := make(map[key]int, len(frames))
	for i, f := range frames {
		first[f.keys[0]] = i
	}
	var out []planned
	var keys []key
	var held []Item
	flush := func() {
		if len(keys) == 0 {
			return
		}
		if old, ok := first[keys[0]]; ok && slices.Equal(frames[old].keys, keys) {
			out = append(out, planned{old: old, keys: frames[old].keys})
		} else {
			out = append(out, planned{old: -1, keys: slices.Clone(keys), items: slices.Clone(held)})
		}
		keys, held = keys[:0], held[:0]
	}
	var c cutter
	var buf []byte
	var k key
	for it := range items {
		if c.begins(&it) {
			flush()
		}
		k, buf = it.key(buf)
		keys, held = append(keys, k), append(held, it)
	}
	flush()
	return out
}
