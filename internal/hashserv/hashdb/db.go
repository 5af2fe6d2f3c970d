package hashdb

import (
	"context"
	"database/sql/driver"
	_ "embed"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"slipway/internal/errs"
	"slipway/internal/hashserv/litefile"
)

//go:embed schema.sql
var schema string

// schema2: reports wait in the journal until they are moved into the tables.
const schema2 = `ALTER TABLE state ADD COLUMN merged INTEGER NOT NULL DEFAULT 0;
UPDATE state SET merged = (SELECT max(seq) FROM journal);`

// Schema is what a file needs to be a hash equivalence database.
func Schema() litefile.Schema {
	return litefile.Schema{Name: "hashserv", Steps: []string{schema, schema2}, After: takeOver}
}

// Options of a [DB].
type Options struct {
	ReadOnly   bool
	IndexBytes int64            // memory of the index: 1 GiB; negative: none
	Now        func() time.Time // nil: the machine's
}

// DB is a hash equivalence database. It is safe for use by many goroutines.
type DB struct {
	f    *litefile.File
	own  bool // f is ours to close
	opts Options
	end  context.CancelFunc
	ctx  context.Context
	wg   sync.WaitGroup

	filling sync.WaitGroup

	idx     atomic.Pointer[index]
	filled  atomic.Bool // the index holds all rows
	apply   sync.Mutex  // orders changes of the index
	seq     int64       // of the journal, applied to the index
	methods atomic.Pointer[map[string]uint32]

	recent    atomic.Pointer[recents]
	merging   sync.Mutex
	mergeNow  chan struct{}
	mergeStep func(int) // tests: before each transaction of a merge

	clock sync.Mutex
	last  int64 // creation time given last

	sweeping sync.Mutex
	sweep    *sweepRun
}

// Open opens or makes the database in the file at path.
func Open(path string, o Options) (*DB, error) {
	f, err := litefile.Open(path, litefile.Options{ReadOnly: o.ReadOnly}, Schema())
	if err != nil {
		return nil, err
	}
	d, err := New(f, o)
	if err != nil {
		f.Close()
		return nil, err
	}
	d.own = true
	return d, nil
}

// New gives the database in a file that was opened with [Schema]; the caller
// closes the file after the database.
func New(f *litefile.File, o Options) (*DB, error) {
	if o.IndexBytes == 0 {
		o.IndexBytes = 1 << 30
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	d := &DB{f: f, opts: o, mergeNow: make(chan struct{}, 1)}
	d.ctx, d.end = context.WithCancel(context.Background())
	d.idx.Store(newIndex())
	d.methods.Store(&map[string]uint32{})
	err := f.Snapshot(d.ctx, func(c *litefile.Conn) (err error) {
		if d.seq, err = c.Int(`SELECT max(seq) FROM journal`); err != nil {
			return err
		}
		if err := d.loadMethods(c); err != nil {
			return err
		}
		return d.loadRecents(c)
	})
	if err != nil {
		return nil, err
	}
	f.OnForeign(d.catchUp)
	d.startFill()
	if !o.ReadOnly && !f.ReadOnly() {
		d.wg.Go(d.mergeBehind)
		if err := d.resumeSweep(); err != nil {
			d.Close()
			return nil, err
		}
	}
	return d, nil
}

// Close ends what runs behind, and closes the file if Open opened it.
func (d *DB) Close() error {
	d.end()
	d.wg.Wait()
	d.filling.Wait()
	if d.own {
		return d.f.Close()
	}
	return nil
}

// File is the file that the database lies in.
func (d *DB) File() *litefile.File { return d.f }

// Name is the file's path.
func (d *DB) Name() string { return d.f.Path() }

// Writes counts the transactions that were written, and says when the last one was.
func (d *DB) Writes() (int64, time.Time) { return d.f.Commits(), d.f.LastWrite() }

// IndexState says how the index in memory stands.
type IndexState struct {
	Rows     int64 `json:"rows"`
	Bytes    int64 `json:"bytes"`
	Complete bool  `json:"complete"` // no lookup needs the file
}

// Index gives the state of the index.
func (d *DB) Index() IndexState {
	x := d.idx.Load()
	return IndexState{x.count.Load(), x.bytes.Load(), d.filled.Load()}
}

// WaitIndex waits until the index holds all that it is going to hold.
func (d *DB) WaitIndex() { d.filling.Wait() }

func (d *DB) loadMethods(c *litefile.Conn) error {
	m := map[string]uint32{}
	err := c.Rows(`SELECT id, name FROM method`, nil, func(r []driver.Value) error {
		m[r[1].(string)] = uint32(r[0].(int64))
		return nil
	})
	if err == nil {
		d.methods.Store(&m)
	}
	return err
}

// Ready looks at what other processes have written since the last call. The
// lookups that follow see at least that.
func (d *DB) Ready(ctx context.Context) error {
	if d.f.Fresh() {
		return nil
	}
	return d.f.Settle(func() error { return d.f.Read(ctx, d.catchUp) })
}

// catchUp brings the index up to the journal as c sees it.
func (d *DB) catchUp(c *litefile.Conn) error {
	d.apply.Lock()
	defer d.apply.Unlock()
	if err := d.loadMethods(c); err != nil {
		return err
	}
	gap := false
	err := c.Rows(`SELECT seq, changes FROM journal WHERE seq >= ? ORDER BY seq`, []any{d.seq}, func(r []driver.Value) error {
		seq, changes := r[0].(int64), r[1]
		if seq == d.seq || gap {
			return nil
		}
		if gap = seq != d.seq+1; gap {
			return nil
		}
		b, _ := changes.([]byte)
		list, err := decodeChanges(b)
		if err != nil {
			return err
		}
		d.change(seq, list)
		d.seq = seq
		return nil
	})
	if err != nil {
		return err
	}
	if gap {
		// The journal has been trimmed past us: begin anew.
		d.filled.Store(false)
		d.idx.Store(newIndex())
		if d.seq, err = c.Int(`SELECT max(seq) FROM journal`); err != nil {
			return err
		}
		if err := d.loadRecents(c); err != nil {
			return err
		}
		d.startFill()
		return nil
	}
	merged, err := c.Int(`SELECT merged FROM state`)
	if err == nil && merged <= d.seq {
		d.recent.Load().merged(merged)
	}
	return err
}

// change applies the changes of one row of the journal; d.apply is held.
func (d *DB) change(seq int64, list []change) {
	x := d.idx.Load()
	r := d.recent.Load()
	locked := false
	for _, ch := range list {
		if ch.rec != nil {
			if !locked {
				r.Lock()
				defer r.Unlock()
				locked = true
			}
			r.add(newRecent(seq, ch))
			if ch.rec.bare {
				continue
			}
		}
		switch {
		case ch.drop:
			x.dropText(ch.method, ch.task)
		case d.roomFor(x):
			x.putText(ch.method, ch.task, ch.uni)
		}
	}
	if locked && len(r.rows) >= mergeAt {
		select {
		case d.mergeNow <- struct{}{}:
		default:
		}
	}
}

// roomFor reports whether the index may grow; when it may not, it is no longer
// complete.
func (d *DB) roomFor(x *index) bool {
	if d.opts.IndexBytes > 0 && x.bytes.Load() < d.opts.IndexBytes {
		return true
	}
	d.filled.Store(false)
	return false
}

// fillChunk is how many rows are read at once to fill the index: others wait for
// so long.
const fillChunk = 1000

// startFill fills the index that is current now, behind.
func (d *DB) startFill() {
	if d.opts.IndexBytes < 0 {
		return
	}
	x := d.idx.Load()
	d.filling.Go(func() {
		// An error is met by the next request too, which has somebody to tell.
		if done, err := d.fill(x); err == nil && done {
			d.apply.Lock()
			if d.idx.Load() == x && x.bytes.Load() < d.opts.IndexBytes {
				d.filled.Store(true)
			}
			d.apply.Unlock()
		}
	})
}

// fill reads all rows into x. Each chunk is read and put under the lock that
// orders changes: a row that is removed meanwhile cannot come back.
func (d *DB) fill(x *index) (done bool, err error) {
	err = d.f.ReadAlone(func(c *litefile.Conn) error {
		done, err = d.fillFrom(c, x)
		return err
	})
	return done, err
}

func (d *DB) fillFrom(c *litefile.Conn, x *index) (done bool, err error) {
	method, task := int64(-1), any(int64(-1))
	for {
		n := 0
		err := func() error {
			d.apply.Lock()
			defer d.apply.Unlock()
			if d.idx.Load() != x {
				return errs.E(errs.Conflict, "another index")
			}
			// The rest of one method, then the next one: a range of the primary key.
			const cols = `SELECT method, task, uni FROM unihash `
			take := func(r []driver.Value) error {
				n++
				method, task = r[0].(int64), r[1]
				t := text(r[1])
				if u := r[2]; u != nil {
					x.putText(uint32(method), t, text(u))
				} else {
					x.putText(uint32(method), t, t)
				}
				return nil
			}
			if err := c.Rows(cols+`WHERE method = ? AND task > ? ORDER BY task LIMIT ?`, []any{method, task, fillChunk}, take); err != nil || n > 0 {
				return err
			}
			return c.Rows(cols+`WHERE method > ? ORDER BY method, task LIMIT ?`, []any{method, fillChunk}, take)
		}()
		switch {
		case err != nil:
			return false, err
		case n == 0:
			return true, nil
		case x.bytes.Load() >= d.opts.IndexBytes:
			return false, nil
		case d.ctx.Err() != nil:
			return false, d.ctx.Err()
		}
	}
}

// Unihash gives the unihash of a task, "" when it is unknown.
func (d *DB) Unihash(ctx context.Context, method, task string) (string, error) {
	if err := d.Ready(ctx); err != nil {
		return "", err
	}
	b, _, err := d.AppendUnihash(ctx, nil, []byte(method), []byte(task))
	return string(b), err
}

// AppendUnihash appends the unihash of a task to dst, and says whether it is
// known. It sees what others had written at the last [DB.Ready].
func (d *DB) AppendUnihash(ctx context.Context, dst, method, task []byte) ([]byte, bool, error) {
	m, ok := (*d.methods.Load())[string(method)]
	if !ok {
		return dst, false, nil
	}
	x := d.idx.Load()
	if t, ok := parseSum(task); ok {
		if u, ok := x.get(m, t); ok {
			return u.append(dst), true, nil
		}
	}
	if x.odd.n.Load() > 0 {
		if u, ok := x.getText(m, string(task)); ok {
			return append(dst, u...), true, nil
		}
	}
	if whole := d.whole(); whole != nil {
		// It may have become whole since the first look.
		u, ok := whole.getText(m, string(task))
		return append(dst, u...), ok, nil
	}
	uni, ok := d.recent.Load().unihash(m, string(task))
	if ok {
		return append(dst, uni...), true, nil
	}
	err := d.f.Read(ctx, func(c *litefile.Conn) (err error) {
		uni, ok, err = unihashOf(c, m, string(task))
		return err
	})
	return append(dst, uni...), ok, err
}

// whole gives the index if it holds all rows: what it does not say then, nobody
// does. A look that was made before does not count: the row may have come since.
func (d *DB) whole() *index {
	if x := d.idx.Load(); d.filled.Load() && d.idx.Load() == x {
		return x
	}
	return nil
}

func unihashOf(c *litefile.Conn, method uint32, task string) (string, bool, error) {
	r, err := c.Row(`SELECT uni FROM unihash WHERE method = ? AND task = ?`, int(method), stored(task))
	switch {
	case err != nil || r == nil:
		return "", false, err
	case r[0] == nil:
		return task, true, nil
	}
	return text(r[0]), true, nil
}

// Exists reports whether a unihash is known, of any method; see AppendUnihash.
func (d *DB) Exists(ctx context.Context, uni []byte) (bool, error) {
	x := d.idx.Load()
	if h, ok := parseSum(uni); ok {
		if x.exists(h) {
			return true, nil
		}
	} else if x.existsText(string(uni)) {
		return true, nil
	}
	if whole := d.whole(); whole != nil {
		return whole.existsText(string(uni)), nil
	}
	if d.recent.Load().exists(string(uni)) {
		return true, nil
	}
	var n int64
	err := d.f.Read(ctx, func(c *litefile.Conn) (err error) {
		u := stored(string(uni))
		n, err = c.Int(`SELECT EXISTS (SELECT 1 FROM unihash WHERE uni = ?)
			OR EXISTS (SELECT 1 FROM unihash WHERE method IN (SELECT id FROM method) AND task = ? AND uni IS NULL)`, u, u)
		return err
	})
	return n != 0, err
}

// now gives a creation time, in microseconds, later than any before.
func (d *DB) now() int64 {
	d.clock.Lock()
	defer d.clock.Unlock()
	d.last = max(d.last+1, d.opts.Now().UnixMicro())
	return d.last
}

// publish makes new methods known to readers.
func (d *DB) publish(fresh map[string]uint32) {
	m := maps.Clone(*d.methods.Load())
	maps.Copy(m, fresh)
	d.methods.Store(&m)
}
