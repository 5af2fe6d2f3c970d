package rpmmd

import (
	"crypto/sha256"
	"encoding/binary"
	"iter"
	"slices"
	"strings"
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
	// Sort is where the item stands: those of an index rise by it, bytewise, no
	// two are equal. "" for all: the order is the caller's, and only appending is
	// cheap. The state keeps it, and Note, which is the caller's.
	Sort, Note string
	// Ref is the caller's, for Load; no state keeps it.
	Ref any
}

// key is what an index remembers of an item.
type key [16]byte

// known is an item as the state keeps it.
type known struct {
	key        key
	cut        uint32
	sort, note string
}

func (it *Item) known(buf []byte) (known, []byte) {
	buf = append(append(append(buf[:0], it.ID...), 0), it.Href...)
	sum := sha256.Sum256(buf)
	return known{key(sum[:16]), cutHash(it), it.Sort, it.Note}, buf
}

// Where frames end depends on the items alone, not on what was there before: the
// same list gives the same bytes from nothing and from any earlier index, and a
// change moves few ends. Frames hold about minFrame + cutEvery packages.
const (
	minFrame = 16
	cutEvery = 32
	maxFrame = 128
)

type cutter struct{ n int }

// begins reports whether a new frame begins at an item; call it once for each.
func (c *cutter) begins(cut uint32) bool {
	if c.n >= maxFrame || c.n >= minFrame && cut%cutEvery == 0 {
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
// be made of items. Of an item that the last index has, known is all there is.
type planned struct {
	old   int // the frame of the last index; -1
	known []known
	items []Item
}

// planner collects items to frames.
type planner struct {
	last *State
	out  []planned
	cutter
	known []known
	items []Item
}

func (p *planner) add(k known, it Item) {
	if p.begins(k.cut) {
		p.flush()
	}
	p.known, p.items = append(p.known, k), append(p.items, it)
}

// flush ends a frame; the next item begins another.
func (p *planner) flush() {
	if len(p.known) > 0 {
		p.out = append(p.out, planned{old: -1, known: slices.Clone(p.known), items: slices.Clone(p.items)})
	}
	p.known, p.items = p.known[:0], p.items[:0]
}

// plan divides the items into frames and finds those that the last index has.
func plan(items iter.Seq[Item], last *State) ([]planned, error) {
	first := map[key]int{}
	if last != nil {
		for i := range last.frames {
			b, err := last.frames[i].block.bytes()
			if err != nil {
				return nil, err
			}
			first[key(b)] = i
		}
	}
	p := planner{last: last}
	var buf []byte
	var k known
	var failed error
	for it := range items {
		k, buf = it.known(buf)
		if p.begins(k.cut) {
			if failed = p.match(first); failed != nil {
				return nil, failed
			}
		}
		p.known, p.items = append(p.known, k), append(p.items, it)
	}
	return p.out, p.match(first)
}

// match is flush for what may be a frame of the last index.
func (p *planner) match(first map[key]int) error {
	if len(p.known) == 0 {
		return nil
	}
	i, ok := first[p.known[0].key]
	if ok && p.last.frames[i].n == len(p.known) {
		was, err := p.last.known(i)
		if err != nil {
			return err
		}
		if slices.Equal(was, p.known) {
			p.out = append(p.out, planned{old: i})
			p.known, p.items = p.known[:0], p.items[:0]
			return nil
		}
	}
	p.flush()
	return nil
}

// edit is what changes in one frame of the last index.
type edit struct {
	add    []Item
	remove map[string]bool // by Sort
}

// planChange is plan for the items of the last index without those whose Sort is
// in remove, and with add: only frames near a change are looked into.
func planChange(last *State, add []Item, remove []string) ([]planned, error) {
	add = slices.Clone(add)
	slices.SortStableFunc(add, func(a, b Item) int { return strings.Compare(a.Sort, b.Sort) })
	edits := map[int]*edit{}
	at := func(i int) *edit {
		if edits[i] == nil {
			edits[i] = &edit{remove: map[string]bool{}}
		}
		return edits[i]
	}
	frameOf := func(sort string) int {
		i, found := slices.BinarySearchFunc(last.frames, sort, func(f frame, s string) int { return strings.Compare(f.first, s) })
		if found {
			return i
		}
		return max(0, i-1)
	}
	for _, it := range add {
		i := len(last.frames) - 1
		if it.Sort != "" {
			i = frameOf(it.Sort)
		}
		e := at(max(0, i))
		e.add = append(e.add, it)
	}
	for _, sort := range remove {
		i := frameOf(sort)
		at(i).remove[sort] = true
		if i > 0 && last.frames[i].first == sort {
			at(i - 1) // what comes next may belong to the frame before
		}
	}
	p := planner{last: last}
	p.out = make([]planned, 0, len(last.frames)+len(edits))
	aligned := true // the next frame of last begins where a new one does
	var buf []byte
	var none edit
	for i := 0; i < max(1, len(last.frames)); i++ {
		e := edits[i]
		if aligned && e == nil {
			if i < len(last.frames) {
				p.out = append(p.out, planned{old: i})
			}
			continue
		}
		if e == nil {
			e = &none
		}
		var was []known
		if i < len(last.frames) {
			var err error
			if was, err = last.look(i); err != nil {
				return nil, err
			}
		}
		if aligned {
			p.cutter = cutter{}
		}
		fresh := 0
		put := func(before string, all bool) {
			for ; fresh < len(e.add) && (all || e.add[fresh].Sort < before); fresh++ {
				var k known
				k, buf = e.add[fresh].known(buf)
				p.add(k, e.add[fresh])
			}
		}
		for _, k := range was {
			if k.sort != "" {
				put(k.sort, false)
			}
			if !e.remove[k.sort] || k.sort == "" {
				p.add(k, Item{})
			}
		}
		put("", true)
		aligned = false
		if i+1 < len(last.frames) {
			if next := edits[i+1]; next == nil || !next.remove[last.frames[i+1].first] || last.frames[i+1].first == "" {
				c := p.cutter
				if c.begins(last.frames[i+1].cut) {
					p.flush()
					aligned = true
				}
			}
		}
	}
	p.flush()
	return p.out, nil
}

// The bytes of a block: what is known of the packages of a frame. Keys first, so
// that they can be looked through without the rest.
const fixedKnown = len(key{}) + 4

func appendBlock(b []byte, list []known) []byte {
	for _, k := range list {
		b = binary.LittleEndian.AppendUint32(append(b, k.key[:]...), k.cut)
	}
	before := ""
	for _, k := range list {
		n := 0
		for n < len(before) && n < len(k.sort) && before[n] == k.sort[n] {
			n++
		}
		b = binary.AppendUvarint(b, uint64(n))
		b = appendBytes(b, []byte(k.sort[n:]))
		b = appendBytes(b, []byte(k.note))
		before = k.sort
	}
	return b
}

// readBlock gives the n packages of a block; nil when it is none.
func readBlock(b []byte, n int) []known {
	if n > len(b)/(fixedKnown+3) {
		return nil
	}
	out := make([]known, n)
	r := &stateReader{b: b[n*fixedKnown:]}
	before := ""
	for i := range out {
		k := &out[i]
		k.key, k.cut = key(b[i*fixedKnown:]), binary.LittleEndian.Uint32(b[i*fixedKnown+len(key{}):])
		shared := int(r.varsize())
		if shared > len(before) {
			return nil
		}
		k.sort = before[:shared] + string(r.bytes())
		k.note = string(r.bytes())
		before = k.sort
	}
	if r.failed || len(r.b) > 0 {
		return nil
	}
	return out
}
