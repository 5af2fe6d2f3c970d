package hashdb

import (
	"cmp"
	"context"
	"database/sql/driver"
	"hash/maphash"
	"math"
	"slices"
	"sync"
	"time"

	"slipway/internal/hashserv/litefile"
)

// Reports are written to the journal first, which is one small row for a
// transaction, and moved into the tables behind, many at a time and in the order
// of the keys. Keys are hashes: one by one, each report would change a page of
// every table and index. Until they are moved they are in the file (and survive
// the process), and here for lookups. Whatever else reads or changes the tables
// has them moved before, or looks at both.

// mergeAt is how many reports the journal holds before they are moved: so many
// that a page of the tables gets several of them.
var mergeAt = 65_536 // tests change it

// mergeAge is how long a report stays in the journal at most, more or less.
const mergeAge = 30 * time.Second

// record is what a report said that is not in the tables yet.
type record struct {
	out     string
	created int64 // microseconds
	extra   int64 // of table extra; 0 for none
	mark    int64 // of the row in unihash
	bare    bool  // the task had a unihash: the output alone is to be stored
}

// recentRow is one record; task and uni are those of its change.
type recentRow struct {
	seq    int64 // of the journal
	method uint32
	task   string
	uni    string
	record
	before [3]int32 // in the chains of recents
}

// recents are the records of the journal behind state.merged, in its order.
type recents struct {
	sync.RWMutex
	base   int64 // state.merged
	rows   []*recentRow
	oldest time.Time // when the first of rows came
	seed   maphash.Seed
	chains [3]map[uint64]int32 // by hash of what byOut and so on say: 1 + the last of rows
}

// What records are looked up by.
const (
	byOut = iota
	byTask
	byUni // those that are not bare
)

func newRecents(base int64) *recents {
	r := &recents{base: base, seed: maphash.MakeSeed()}
	r.clear()
	return r
}

func (r *recents) clear() {
	r.rows = nil
	for i := range r.chains {
		r.chains[i] = map[uint64]int32{}
	}
}

// add takes a record; the lock is held.
func (r *recents) add(row *recentRow) {
	if len(r.rows) == 0 {
		r.oldest = time.Now()
	}
	r.rows = append(r.rows, row)
	n := int32(len(r.rows))
	link := func(by int, key string) {
		h := maphash.String(r.seed, key)
		row.before[by] = r.chains[by][h]
		r.chains[by][h] = n
	}
	link(byOut, row.out)
	link(byTask, row.task)
	if !row.bare {
		link(byUni, row.uni)
	}
}

// each gives the records that may have that key, youngest first, until fn says
// false; a lock is held.
func (r *recents) each(by int, key string, fn func(*recentRow) bool) {
	if len(r.rows) == 0 {
		return
	}
	for n := r.chains[by][maphash.String(r.seed, key)]; n != 0; n = r.rows[n-1].before[by] {
		if !fn(r.rows[n-1]) {
			return
		}
	}
}

// merged forgets what has been moved: all up to that row of the journal.
func (r *recents) merged(upTo int64) {
	r.Lock()
	defer r.Unlock()
	if upTo <= r.base {
		return
	}
	rest := r.rows
	for len(rest) > 0 && rest[0].seq <= upTo {
		rest = rest[1:]
	}
	r.base = upTo
	r.clear()
	for _, row := range rest {
		r.add(row)
	}
}

// all gives the records and the state.merged that they come after.
func (r *recents) all() (base int64, rows []*recentRow) {
	r.RLock()
	defer r.RUnlock()
	return r.base, slices.Clone(r.rows)
}

// size gives state.merged as it is known here, and how many records come after it.
func (r *recents) size() (base int64, n int) {
	r.RLock()
	defer r.RUnlock()
	return r.base, len(r.rows)
}

// joined gives the record by which a task that is here got its unihash, else nil.
func (r *recents) joined(method uint32, task string) (found *recentRow) {
	r.RLock()
	defer r.RUnlock()
	r.each(byTask, task, func(row *recentRow) bool {
		if !row.bare && row.task == task && row.method == method {
			found = row
		}
		return found == nil
	})
	return found
}

// unihash gives the unihash of a task that is here.
func (r *recents) unihash(method uint32, task string) (string, bool) {
	if row := r.joined(method, task); row != nil {
		return row.uni, true
	}
	return "", false
}

func (r *recents) exists(uni string) (ok bool) {
	r.RLock()
	defer r.RUnlock()
	r.each(byUni, uni, func(row *recentRow) bool { ok = row.uni == uni; return !ok })
	return ok
}

// withOut gives the records of an output, oldest first.
func (r *recents) withOut(method uint32, out string) (rows []*recentRow) {
	return r.with(byOut, out, func(row *recentRow) bool { return row.out == out && row.method == method })
}

// withTask gives the records of a task, oldest first.
func (r *recents) withTask(method uint32, task string) (rows []*recentRow) {
	return r.with(byTask, task, func(row *recentRow) bool { return row.task == task && row.method == method })
}

func (r *recents) with(by int, key string, match func(*recentRow) bool) (rows []*recentRow) {
	r.RLock()
	defer r.RUnlock()
	r.each(by, key, func(row *recentRow) bool {
		if match(row) {
			rows = append(rows, row)
		}
		return true
	})
	sortByAge(rows)
	return rows
}

func sortByAge(rows []*recentRow) {
	slices.SortFunc(rows, func(a, b *recentRow) int {
		return cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(a.seq, b.seq))
	})
}

// newRecent makes the row of a change with a record.
func newRecent(seq int64, ch change) *recentRow {
	return &recentRow{seq: seq, method: ch.method, task: ch.task, uni: ch.uni, record: *ch.rec}
}

// loadRecents reads the records up to d.seq that are not in the tables, and puts their unihashes into the index. d.apply is held, or nobody else is here.
func (d *DB) loadRecents(c *litefile.Conn) error {
	base, err := c.Int(`SELECT merged FROM state`)
	if err != nil {
		return err
	}
	r := newRecents(base)
	err = unmergedRecords(c, base, d.seq, func(seq int64, ch change) error {
		r.add(newRecent(seq, ch))
		if x := d.idx.Load(); !ch.rec.bare && d.roomFor(x) {
			x.putText(ch.method, ch.task, ch.uni)
		}
		return nil
	})
	if err == nil {
		d.recent.Store(r)
	}
	return err
}

func unmergedRecords(c *litefile.Conn, base, last int64, each func(int64, change) error) error {
	return c.Rows(`SELECT seq, changes FROM journal WHERE seq > ? AND seq <= ? ORDER BY seq`, []any{base, last}, func(r []driver.Value) error {
		b, _ := r[1].([]byte)
		list, err := decodeChanges(b)
		for _, ch := range list {
			if err == nil && ch.rec != nil {
				err = each(r[0].(int64), ch)
			}
		}
		return err
	})
}

// waiting gives the records that the tables lack, as c sees both: tasks with their
// unihash, and outputs. The file may be of a version without any.
func waiting(c *litefile.Conn) (unis, outs []*recentRow, err error) {
	if v, err := c.Int(`SELECT version FROM slipway WHERE name = 'hashserv'`); err != nil || v < 2 {
		return nil, nil, err
	}
	base, err := c.Int(`SELECT merged FROM state`)
	if err != nil {
		return nil, nil, err
	}
	var rows []*recentRow
	if err := unmergedRecords(c, base, math.MaxInt64, func(seq int64, ch change) error {
		rows = append(rows, newRecent(seq, ch))
		return nil
	}); err != nil {
		return nil, nil, err
	}
	seen := map[[2]rowKey]bool{}
	for _, r := range rows {
		if !r.bare {
			n, err := c.Int(`SELECT EXISTS (SELECT 1 FROM unihash WHERE method = ? AND task = ?)`, int(r.method), stored(r.task))
			if err != nil {
				return nil, nil, err
			}
			if n == 0 {
				unis = append(unis, r)
			}
		}
		n, err := c.Int(`SELECT EXISTS (SELECT 1 FROM outhash WHERE method = ? AND task = ? AND out = ?)`, int(r.method), stored(r.task), stored(r.out))
		if err != nil {
			return nil, nil, err
		}
		if k := [2]rowKey{{r.method, r.task}, {r.method, r.out}}; n == 0 && !seen[k] {
			seen[k] = true
			outs = append(outs, r)
		}
	}
	return unis, outs, nil
}

// eachRow gives every row of the tables and every record that waits, in the order
// of age within each: tasks (method, task, unihash, mark), then outputs (method,
// task, out, created, owner, PN, PV, PR, task, siginfo), as values of the file.
func eachRow(c *litefile.Conn, order string, unihash, outhash func([]driver.Value) error) error {
	unis, outs, err := waiting(c)
	if err != nil {
		return err
	}
	methods, marks := map[uint32]string{}, map[int64]string{}
	if err := c.Rows(`SELECT id, name FROM method`, nil, func(r []driver.Value) error { methods[uint32(r[0].(int64))] = str(r[1]); return nil }); err != nil {
		return err
	}
	if err := c.Rows(`SELECT id, name FROM mark`, nil, func(r []driver.Value) error { marks[r[0].(int64)] = str(r[1]); return nil }); err != nil {
		return err
	}
	if err := c.Rows(`SELECT m.name, u.task, coalesce(u.uni, u.task), coalesce(k.name, '') FROM unihash u JOIN method m ON m.id = u.method
		LEFT JOIN mark k ON k.id = u.mark ORDER BY u.method, u.task`, nil, unihash); err != nil {
		return err
	}
	for _, u := range unis {
		if err := unihash([]driver.Value{methods[u.method], stored(u.task), stored(u.uni), marks[u.mark]}); err != nil {
			return err
		}
	}
	if err := c.Rows(`SELECT m.name, o.task, o.out, o.created, e.owner, e.PN, e.PV, e.PR, e.task, e.siginfo FROM outhash o JOIN method m ON m.id = o.method
		LEFT JOIN extra e ON e.id = o.extra ORDER BY `+order, nil, outhash); err != nil {
		return err
	}
	for _, o := range outs {
		r := []driver.Value{methods[o.method], stored(o.task), stored(o.out), o.created, nil, nil, nil, nil, nil, nil}
		if o.extra != 0 {
			e, err := c.Row(`SELECT owner, PN, PV, PR, task, siginfo FROM extra WHERE id = ?`, o.extra)
			if err != nil {
				return err
			}
			copy(r[4:], e)
		}
		if err := outhash(r); err != nil {
			return err
		}
	}
	return nil
}

// putMerged writes records into the tables. What is there stays: it may be half
// of an earlier try.
func putMerged(tx *litefile.Tx, rows []*recentRow, unis, outs bool) error {
	for _, r := range rows {
		if unis && !r.bare {
			var u any
			if r.uni != r.task {
				u = stored(r.uni)
			}
			if _, _, err := tx.Exec(`INSERT OR IGNORE INTO unihash VALUES (?, ?, ?, ?)`, int(r.method), stored(r.task), u, r.mark); err != nil {
				return err
			}
		}
		if !outs {
			continue
		}
		var extra any
		if r.extra != 0 {
			extra = r.extra
		}
		n, _, err := tx.Exec(`INSERT OR IGNORE INTO outhash VALUES (?, ?, ?, ?, ?)`, int(r.method), stored(r.out), r.created, stored(r.task), extra)
		if err != nil {
			return err
		}
		if n == 0 && r.extra != 0 {
			if _, _, err := tx.Exec(`DELETE FROM extra WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM outhash WHERE method = ?2 AND task = ?3 AND out = ?4 AND extra = ?1)`,
				r.extra, int(r.method), stored(r.task), stored(r.out)); err != nil {
				return err
			}
		}
	}
	return nil
}

// mergeChunk is how many rows one transaction moves: others wait for so long.
const mergeChunk = 256

// merge moves the records that are here now into the tables, in small
// transactions. Another process may do the same: what is done twice is done once.
func (d *DB) merge(ctx context.Context) error {
	if d.f.ReadOnly() {
		return nil
	}
	d.merging.Lock()
	defer d.merging.Unlock()
	if err := d.Ready(ctx); err != nil {
		return err
	}
	base, rows := d.recent.Load().all()
	if len(rows) == 0 {
		return nil
	}
	upTo := rows[len(rows)-1].seq
	elsewhere, steps := false, 0
	step := func(fn func(tx *litefile.Tx) error) error {
		if steps++; d.mergeStep != nil {
			d.mergeStep(steps)
		}
		return d.f.Write(ctx, func(tx *litefile.Tx) error {
			now, err := tx.Int(`SELECT merged FROM state`)
			if elsewhere = now != base; err != nil || elsewhere {
				return err
			}
			return fn(tx)
		})
	}
	chunks := func(unis, outs bool) error {
		for chunk := range slices.Chunk(rows, mergeChunk) {
			if err := step(func(tx *litefile.Tx) error { return putMerged(tx, chunk, unis, outs) }); err != nil || elsewhere {
				return err
			}
		}
		return nil
	}
	sortRows := func(key func(*recentRow) string) {
		slices.SortFunc(rows, func(a, b *recentRow) int {
			if n := cmp.Compare(key(a), key(b)); n != 0 {
				return n
			}
			return cmp.Or(cmp.Compare(a.method, b.method), cmp.Compare(a.created, b.created))
		})
	}
	sortRows(func(r *recentRow) string { return r.task })
	if err := chunks(true, false); err != nil || elsewhere {
		return err
	}
	sortRows(func(r *recentRow) string { return r.out })
	if err := chunks(false, true); err != nil || elsewhere {
		return err
	}
	return step(func(tx *litefile.Tx) error {
		if d.pend(tx).direct {
			return nil // all has been moved in this transaction
		}
		_, _, err := tx.Exec(`UPDATE state SET merged = ?`, upTo)
		tx.After(func() { d.recent.Load().merged(upTo) })
		return err
	})
}

// mergeAll moves all records in this transaction; what it reports from now on
// goes to the tables. Call merge before: then there is little to move.
func (p *pending) mergeAll() error {
	if p.direct {
		return nil
	}
	p.direct = true
	_, rows := p.d.recent.Load().all()
	plain := p.list[:0]
	for _, ch := range p.list {
		if ch.rec != nil {
			rows = append(rows, newRecent(0, ch))
			if ch.rec.bare {
				continue
			}
			ch.rec = nil
		}
		plain = append(plain, ch)
	}
	p.list = plain
	return putMerged(p.tx, rows, true, true)
}

// mergeBehind moves records whenever there are many, or they are old.
func (d *DB) mergeBehind() {
	tick := time.NewTicker(mergeAge / 2)
	defer tick.Stop()
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-d.mergeNow:
		case <-tick.C:
			r := d.recent.Load()
			r.RLock()
			young := len(r.rows) == 0 || time.Since(r.oldest) < mergeAge
			r.RUnlock()
			if young {
				continue
			}
		}
		d.merge(d.ctx) // an error is met by the next report too, which has somebody to tell
	}
}
