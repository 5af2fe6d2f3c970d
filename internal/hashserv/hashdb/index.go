package hashdb

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// index holds unihashes in memory. It never says what the file does not; whether
// it says all of it is for its owner to know. Keys of other than 64 hex digits
// lie in plain maps: they are rare.
type index struct {
	seed  maphash.Seed
	rows  [shards]rowShard
	unis  [shards]uniShard
	odd   oddShard
	bytes atomic.Int64
	count atomic.Int64
}

const shards = 64

// row is one (method, taskhash). uni 0 stands for a unihash that equals the task
// hash, as it does for every task that was the first with its output; else it is
// 1 + the place in unis, its shard in the low bits.
type row struct {
	task   sum
	method uint32
	uni    uint32
}

// uniEntry is a unihash that differs from its task's hash, and by how many rows
// it is used.
type uniEntry struct {
	uni sum
	n   uint32
}

type rowShard struct {
	sync.RWMutex
	table[row]
}

type uniShard struct {
	sync.RWMutex
	table[uniEntry]
}

type oddKey struct {
	method uint32
	task   string
}

type oddShard struct {
	sync.RWMutex
	n    atomic.Int64
	unis map[oddKey]string
	used map[string]int // unihashes, by rows of unis
}

// table is an open-addressed hash table of entries that lie in blocks: no entry
// moves when it grows, and nothing in it is for the garbage collector to follow.
type table[T any] struct {
	slots  []uint32 // 0 empty; else 1 + place of the entry; linear probing
	blocks []*[blockLen]T
	next   uint32 // places given out so far
	free   []uint32
	used   int
}

const blockLen = 512

func (t *table[T]) at(place uint32) *T { return &t.blocks[place/blockLen][place%blockLen] }

// find gives the place of the first entry with that hash that match accepts, and
// its slot.
func (t *table[T]) find(h uint64, match func(*T) bool) (place uint32, slot int, ok bool) {
	if len(t.slots) == 0 {
		return 0, 0, false
	}
	mask := len(t.slots) - 1
	for i := int(h) & mask; ; i = (i + 1) & mask {
		s := t.slots[i]
		if s == 0 {
			return 0, i, false
		}
		if match(t.at(s - 1)) {
			return s - 1, i, true
		}
	}
}

// insert adds an entry and gives its place; rehash gives the hash of an entry.
func (t *table[T]) insert(h uint64, v T, rehash func(*T) uint64) (place uint32, grown int64) {
	if (t.used+1)*5 > len(t.slots)*4 {
		grown += t.grow(rehash)
	}
	if n := len(t.free); n > 0 {
		place, t.free = t.free[n-1], t.free[:n-1]
	} else {
		place = t.next
		t.next++
		if int(place/blockLen) == len(t.blocks) {
			b := new([blockLen]T)
			t.blocks = append(t.blocks, b)
			grown += int64(entrySize(b))
		}
	}
	*t.at(place) = v
	mask := len(t.slots) - 1
	i := int(h) & mask
	for t.slots[i] != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = place + 1
	t.used++
	return place, grown
}

func (t *table[T]) grow(rehash func(*T) uint64) int64 {
	old := t.slots
	t.slots = make([]uint32, max(64, 2*len(old)))
	mask := len(t.slots) - 1
	for _, s := range old {
		if s == 0 {
			continue
		}
		i := int(rehash(t.at(s-1))) & mask
		for t.slots[i] != 0 {
			i = (i + 1) & mask
		}
		t.slots[i] = s
	}
	return int64(4 * (len(t.slots) - len(old)))
}

// remove empties a slot and closes the gap, so that no probe ends too early.
func (t *table[T]) remove(slot int, rehash func(*T) uint64) {
	mask := len(t.slots) - 1
	t.free = append(t.free, t.slots[slot]-1)
	t.used--
	hole := slot
	for i := (slot + 1) & mask; t.slots[i] != 0; i = (i + 1) & mask {
		home := int(rehash(t.at(t.slots[i]-1))) & mask
		if (i-home)&mask >= (i-hole)&mask {
			t.slots[hole] = t.slots[i]
			hole = i
		}
	}
	t.slots[hole] = 0
}

func entrySize[T any](b *[blockLen]T) int {
	switch any(b).(type) {
	case *[blockLen]row:
		return blockLen * 40
	default:
		return blockLen * 36
	}
}

func newIndex() *index {
	x := &index{seed: maphash.MakeSeed()}
	x.odd.unis, x.odd.used = map[oddKey]string{}, map[string]int{}
	return x
}

func (x *index) hash(s *sum) uint64 { return maphash.Bytes(x.seed, s[:]) }

func shardOf(h uint64) uint64               { return h >> 58 }
func (x *index) rowHash(r *row) uint64      { return x.hash(&r.task) }
func (x *index) uniHash(u *uniEntry) uint64 { return x.hash(&u.uni) }

// get gives the unihash of a task.
func (x *index) get(method uint32, task sum) (uni sum, ok bool) {
	h := x.hash(&task)
	sh := &x.rows[shardOf(h)]
	sh.RLock()
	r := sh.lookup(h, &task, method)
	if r == nil || r.uni == 0 {
		sh.RUnlock()
		return task, r != nil
	}
	// The row's shard stays locked: that keeps the unihash alive.
	us := &x.unis[(r.uni-1)%shards]
	us.RLock()
	uni = us.at((r.uni - 1) / shards).uni
	us.RUnlock()
	sh.RUnlock()
	return uni, true
}

// lookup is find for the one search that must be fast.
func (sh *rowShard) lookup(h uint64, task *sum, method uint32) *row {
	if len(sh.slots) == 0 {
		return nil
	}
	mask := len(sh.slots) - 1
	for i := int(h) & mask; ; i = (i + 1) & mask {
		s := sh.slots[i]
		if s == 0 {
			return nil
		}
		if r := &sh.blocks[(s-1)/blockLen][(s-1)%blockLen]; r.task == *task && r.method == method {
			return r
		}
	}
}

// exists reports whether any row has that unihash.
func (x *index) exists(uni sum) bool {
	h := x.hash(&uni)
	sh := &x.rows[shardOf(h)]
	sh.RLock()
	ok := sh.first(h, &uni)
	sh.RUnlock()
	if ok {
		return true
	}
	us := &x.unis[shardOf(h)]
	us.RLock()
	_, _, ok = us.find(h, func(e *uniEntry) bool { return e.uni == uni })
	us.RUnlock()
	if ok || x.odd.n.Load() == 0 {
		return ok
	}
	return x.existsOdd(string(uni.append(nil)))
}

// first reports whether a task, of any method, is its own unihash.
func (sh *rowShard) first(h uint64, task *sum) bool {
	if len(sh.slots) == 0 {
		return false
	}
	mask := len(sh.slots) - 1
	for i := int(h) & mask; ; i = (i + 1) & mask {
		s := sh.slots[i]
		if s == 0 {
			return false
		}
		if r := &sh.blocks[(s-1)/blockLen][(s-1)%blockLen]; r.task == *task && r.uni == 0 {
			return true
		}
	}
}

// put adds a row, unless there is one.
func (x *index) put(method uint32, task, uni sum) {
	h := x.hash(&task)
	sh := &x.rows[shardOf(h)]
	sh.Lock()
	defer sh.Unlock()
	if _, _, ok := sh.find(h, func(r *row) bool { return r.task == task && r.method == method }); ok {
		return
	}
	r := row{task: task, method: method}
	if uni != task {
		r.uni = x.use(uni)
	}
	_, grown := sh.insert(h, r, x.rowHash)
	x.bytes.Add(grown)
	x.count.Add(1)
}

// use counts one more row of a unihash, and gives what the row says of it.
func (x *index) use(uni sum) uint32 {
	h := x.hash(&uni)
	n := shardOf(h)
	us := &x.unis[n]
	us.Lock()
	defer us.Unlock()
	place, _, ok := us.find(h, func(e *uniEntry) bool { return e.uni == uni })
	if ok {
		us.at(place).n++
	} else {
		var grown int64
		place, grown = us.insert(h, uniEntry{uni, 1}, x.uniHash)
		x.bytes.Add(grown)
	}
	return 1 + place*shards + uint32(n)
}

// drop removes a row.
func (x *index) drop(method uint32, task sum) {
	h := x.hash(&task)
	sh := &x.rows[shardOf(h)]
	sh.Lock()
	defer sh.Unlock()
	place, slot, ok := sh.find(h, func(r *row) bool { return r.task == task && r.method == method })
	if !ok {
		return
	}
	u := sh.at(place).uni
	sh.remove(slot, x.rowHash)
	x.count.Add(-1)
	if u == 0 {
		return
	}
	us := &x.unis[(u-1)%shards]
	us.Lock()
	defer us.Unlock()
	e := us.at((u - 1) / shards)
	if e.n--; e.n > 0 {
		return
	}
	uni := e.uni
	if _, slot, ok := us.find(x.hash(&uni), func(e *uniEntry) bool { return e.uni == uni }); ok {
		us.remove(slot, x.uniHash)
	}
}

// The same for hashes of any text.

func (x *index) getText(method uint32, task string) (string, bool) {
	if t, ok := parseSum(task); ok {
		if u, ok := x.get(method, t); ok {
			return string(u.append(nil)), true
		}
	}
	if x.odd.n.Load() == 0 {
		return "", false
	}
	x.odd.RLock()
	defer x.odd.RUnlock()
	u, ok := x.odd.unis[oddKey{method, task}]
	return u, ok
}

func (x *index) existsText(uni string) bool {
	if u, ok := parseSum(uni); ok {
		return x.exists(u)
	}
	return x.odd.n.Load() > 0 && x.existsOdd(uni)
}

func (x *index) existsOdd(uni string) bool {
	x.odd.RLock()
	defer x.odd.RUnlock()
	return x.odd.used[uni] > 0
}

func (x *index) putText(method uint32, task, uni string) {
	t, ok1 := parseSum(task)
	u, ok2 := parseSum(uni)
	if _, known := x.getText(method, task); known {
		return
	}
	if ok1 && ok2 {
		x.put(method, t, u)
		return
	}
	x.odd.Lock()
	defer x.odd.Unlock()
	k := oddKey{method, task}
	if _, ok := x.odd.unis[k]; ok {
		return
	}
	x.odd.unis[k] = uni
	x.odd.used[uni]++
	x.odd.n.Add(1)
	x.count.Add(1)
	x.bytes.Add(int64(150 + len(task) + 2*len(uni)))
}

func (x *index) dropText(method uint32, task string) {
	if t, ok := parseSum(task); ok {
		x.drop(method, t)
	}
	x.odd.Lock()
	defer x.odd.Unlock()
	k := oddKey{method, task}
	uni, ok := x.odd.unis[k]
	if !ok {
		return
	}
	delete(x.odd.unis, k)
	if x.odd.used[uni]--; x.odd.used[uni] == 0 {
		delete(x.odd.used, uni)
	}
	x.odd.n.Add(-1)
	x.count.Add(-1)
	x.bytes.Add(-int64(150 + len(task) + 2*len(uni)))
}
