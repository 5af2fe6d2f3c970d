package hashdb

// MemIndex is the index in memory, for a database of another kind: unihashes by
// method number and task hash. It never says what was not put into it. It is safe
// for use by many goroutines.
type MemIndex struct{ x *index }

// NewMemIndex makes an empty index.
func NewMemIndex() MemIndex { return MemIndex{newIndex()} }

// AppendUnihash appends the unihash of a task to dst, and says whether the index
// has it.
func (m MemIndex) AppendUnihash(dst []byte, method uint32, task []byte) ([]byte, bool) {
	if t, ok := parseSum(task); ok {
		if u, ok := m.x.get(method, t); ok {
			return u.append(dst), true
		}
	}
	if m.x.odd.n.Load() > 0 {
		if u, ok := m.x.getText(method, string(task)); ok {
			return append(dst, u...), true
		}
	}
	return dst, false
}

// Exists reports whether the index has a task with that unihash.
func (m MemIndex) Exists(uni []byte) bool {
	if h, ok := parseSum(uni); ok {
		return m.x.exists(h)
	}
	return m.x.existsText(string(uni))
}

// Put adds a task, unless it is there.
func (m MemIndex) Put(method uint32, task, uni string) { m.x.putText(method, task, uni) }

// Drop removes a task.
func (m MemIndex) Drop(method uint32, task string) { m.x.dropText(method, task) }

// Size gives the number of tasks and the memory in bytes.
func (m MemIndex) Size() (rows, bytes int64) { return m.x.count.Load(), m.x.bytes.Load() }

// Change is one task that got a unihash, or lost it: what the journal of a
// database says to the indexes of other processes.
type Change struct {
	Drop   bool
	Method uint32
	Task   string
	Uni    string
}

// EncodeChanges writes changes down (docs/format/hashserv-database.md).
func EncodeChanges(list []Change) []byte {
	in := make([]change, len(list))
	for i, c := range list {
		in[i] = change{drop: c.Drop, method: c.Method, task: c.Task, uni: c.Uni}
	}
	return encodeChanges(in)
}

// DecodeChanges reads them.
func DecodeChanges(b []byte) ([]Change, error) {
	in, err := decodeChanges(b)
	out := make([]Change, len(in))
	for i, c := range in {
		out[i] = Change{c.drop, c.method, c.task, c.uni}
	}
	return out, err
}

// Unhex gives the bytes of a hash, and whether it is an even number of lower-case
// hex digits.
func Unhex(s string) ([]byte, bool) { return unhex(s) }

// NamesUnihash reports whether w names a column of the tasks.
func (w Where) NamesUnihash() bool { return w.names(unihashColumns) }

// NamesOuthash reports whether w names a column of the outputs.
func (w Where) NamesOuthash() bool { return w.names(outhashColumns) }
