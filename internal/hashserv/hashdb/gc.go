package hashdb

import (
	"context"
	"database/sql/driver"
	"slices"
	"sort"
	"strings"
	"time"

	"slipway/internal/errs"
	"slipway/internal/hashserv/litefile"
)

// ErrNotCurrent is the answer to a sweep whose mark is not the current one.
var ErrNotCurrent = errs.E(errs.Conflict, "not the current mark")

// ErrSweeping is the answer to a mark while a sweep is under way elsewhere.
var ErrSweeping = errs.E(errs.Locked, "a sweep is under way", errs.Hint("try again when it is done"))

// Where says which rows are meant: columns and the values they must have. Unknown
// columns are ignored; with none that is known, no row is meant.
type Where map[string]string

// Columns of the two tables, as clients name them.
var (
	unihashColumns = []string{"method", "taskhash", "unihash", "gc_mark"}
	outhashColumns = []string{"method", "taskhash", "outhash", "created", "owner", "PN", "PV", "PR", "task", "outhash_siginfo"}
)

// QueryColumns are the columns that a Where may name, but for the time.
func QueryColumns() []string {
	set := map[string]bool{}
	for _, c := range append(append([]string{}, unihashColumns...), outhashColumns...) {
		if c != "created" {
			set[c] = true
		}
	}
	var list []string
	for c := range set {
		list = append(list, c)
	}
	sort.Strings(list)
	return list
}

// unihashWhere gives the condition on table unihash, as u; "" for none.
func (w Where) unihashWhere() (string, []any) {
	var conds []string
	var args []any
	add := func(c string, a ...any) { conds, args = append(conds, c), append(args, a...) }
	if v, ok := w["method"]; ok {
		add(`u.method = (SELECT id FROM method WHERE name = ?)`, v)
	} else if _, ok := w["taskhash"]; ok {
		add(`u.method IN (SELECT id FROM method)`)
	}
	if v, ok := w["taskhash"]; ok {
		add(`u.task = ?`, stored(v))
	}
	if v, ok := w["unihash"]; ok {
		// Two ways to be stored, each with an index.
		add(`(u.method, u.task) IN (SELECT method, task FROM unihash WHERE uni = ? UNION ALL
			SELECT method, task FROM unihash WHERE method IN (SELECT id FROM method) AND task = ? AND uni IS NULL)`, stored(v), stored(v))
	}
	if v, ok := w["gc_mark"]; ok {
		if v == "" {
			add(`u.mark NOT IN (SELECT id FROM mark)`)
		} else {
			add(`u.mark = (SELECT id FROM mark WHERE name = ?)`, v)
		}
	}
	if !w.names(unihashColumns) {
		return "", nil
	}
	return strings.Join(conds, " AND "), args
}

func (w Where) names(columns []string) bool {
	for _, c := range columns {
		if _, ok := w[c]; ok {
			return true
		}
	}
	return false
}

// outhashWhere gives the condition on tables outhash, as o, and extra, as e.
func (w Where) outhashWhere() (string, []any) {
	if !w.names(outhashColumns) {
		return "", nil
	}
	var conds []string
	var args []any
	add := func(c string, a ...any) { conds, args = append(conds, c), append(args, a...) }
	if v, ok := w["method"]; ok {
		add(`o.method = (SELECT id FROM method WHERE name = ?)`, v)
	} else {
		add(`o.method IN (SELECT id FROM method)`)
	}
	if v, ok := w["taskhash"]; ok {
		add(`o.task = ?`, stored(v))
	}
	if v, ok := w["outhash"]; ok {
		add(`o.out = ?`, stored(v))
	}
	if v, ok := w["created"]; ok {
		t, err := time.Parse(time.RFC3339Nano, v)
		if err != nil {
			return `0`, nil
		}
		add(`o.created = ?`, t.UnixMicro())
	}
	for _, c := range []struct{ name, column string }{{"owner", "e.owner"}, {"PN", "e.PN"}, {"PV", "e.PV"}, {"PR", "e.PR"}, {"task", "e.task"}, {"outhash_siginfo", "e.siginfo"}} {
		if v, ok := w[c.name]; ok {
			add(c.column+` = ?`, v)
		}
	}
	return strings.Join(conds, " AND "), args
}

// chunkRows is how many rows one transaction of an import changes, and one of a
// collection at first.
const chunkRows = 500

// chunkTime is how long one transaction of a collection takes, more or less: others
// wait for so long.
const chunkTime = 4 * time.Millisecond

// chunks walks through rows of a table, a chunk at a time, and lets others write
// between two chunks. No reader is open meanwhile: the WAL can begin anew.
type chunks struct {
	d      *DB
	query  string // up to WHERE; the columns of the key come first
	alias  string // of the table
	key    string // that follow the method
	keys   int
	cond   string
	args   []any
	narrow bool // few rows, found by an index
}

func (d *DB) unihashes(w Where, cond string, args []any) chunks {
	return chunks{d, `SELECT u.method, u.task FROM unihash u`, `u`, `u.task`, 1, cond, args, w.narrow()}
}

func (d *DB) outhashes(w Where, cond string, args []any) chunks {
	return chunks{d, `SELECT o.method, o.out, o.created, o.task, o.extra FROM outhash o LEFT JOIN extra e ON e.id = o.extra`, `o`, `o.out, o.created, o.task`, 3, cond, args,
		w["taskhash"] != "" || w["outhash"] != ""}
}

func (x chunks) rows(ctx context.Context, query string, args []any) (rows [][]driver.Value, err error) {
	err = x.d.f.Read(ctx, func(c *litefile.Conn) error {
		return c.Rows(query, args, func(r []driver.Value) error { rows = append(rows, slices.Clone(r)); return nil })
	})
	return rows, err
}

// each gives each chunk to fn, in a transaction that others share, and adds up
// what fn counts.
func (x chunks) each(ctx context.Context, fn func(tx *litefile.Tx, rows [][]driver.Value) (int64, error)) (count int64, err error) {
	size := chunkRows
	write := func(rows [][]driver.Value) error {
		n, start := int64(0), time.Time{}
		err := x.d.f.Write(ctx, func(tx *litefile.Tx) (err error) {
			start = time.Now()
			n, err = fn(tx, rows)
			return err
		})
		took := time.Since(start) // with the commit, and what others did in it
		switch {
		case err != nil:
			return err
		case took > 2*chunkTime:
			size = max(size/2, 50)
		case took < chunkTime/2 && len(rows) == size:
			size = min(size*3/2, 4000)
		}
		count += n
		return nil
	}
	if x.narrow {
		rows, err := x.rows(ctx, x.query+` WHERE `+x.cond, x.args)
		for err == nil && len(rows) > 0 {
			n := min(size, len(rows))
			err, rows = write(rows[:n]), rows[n:]
		}
		return count, err
	}
	methods, err := x.rows(ctx, `SELECT id FROM method ORDER BY id`, nil)
	if err != nil {
		return 0, err
	}
	query := x.query + ` WHERE ` + x.alias + `.method = ? AND (` + x.key + `) > (?` + strings.Repeat(`, ?`, x.keys-1) + `) AND ` + x.cond + ` ORDER BY ` + x.key + ` LIMIT ?`
	for _, m := range methods {
		args := []any{m[0]}
		for range x.keys {
			args = append(args, int64(-1)) // before all values
		}
		for {
			asked := size
			rows, err := x.rows(ctx, query, append(append(slices.Clone(args), x.args...), asked))
			if err != nil {
				return count, err
			}
			if len(rows) > 0 {
				if err := write(rows); err != nil {
					return count, err
				}
			}
			if len(rows) < asked {
				break
			}
			for i := range x.keys {
				args[1+i] = rows[asked-1][1+i]
			}
		}
	}
	return count, nil
}

// Remove removes the rows that w means from both tables, and says how many.
func (d *DB) Remove(ctx context.Context, w Where) (count int64, err error) {
	if err := d.merge(ctx); err != nil {
		return 0, err
	}
	if cond, args := w.outhashWhere(); cond != "" {
		count, err = d.outhashes(w, cond, args).each(ctx, func(tx *litefile.Tx, rows [][]driver.Value) (int64, error) { return dropOutputs(tx, rows, false) })
		if err != nil {
			return count, err
		}
	}
	if cond, args := w.unihashWhere(); cond != "" {
		n, err := d.unihashes(w, cond, args).each(ctx, func(tx *litefile.Tx, rows [][]driver.Value) (int64, error) {
			return d.pend(tx).drop(rows, `DELETE FROM unihash WHERE method = ? AND task = ?`)
		})
		return count + n, err
	}
	return count, nil
}

// drop deletes rows given as method and task by a statement with these arguments
// and more.
func (p *pending) drop(rows [][]driver.Value, statement string, more ...any) (count int64, err error) {
	for _, r := range rows {
		gone, _, err := p.tx.Exec(statement, append([]any{r[0], r[1]}, more...)...)
		if err != nil {
			return 0, err
		}
		if gone > 0 {
			p.dropped(uint32(r[0].(int64)), text(r[1]))
			count++
		}
	}
	return count, nil
}

// dropOutputs deletes rows of outhash given as method, out, created, task, extra;
// with unused only those that still have no unihash.
func dropOutputs(tx *litefile.Tx, rows [][]driver.Value, unused bool) (count int64, err error) {
	cond := ``
	if unused {
		cond = ` AND NOT EXISTS (SELECT 1 FROM unihash u WHERE u.method = outhash.method AND u.task = outhash.task)`
	}
	for _, r := range rows {
		n, _, err := tx.Exec(`DELETE FROM outhash WHERE method = ? AND out = ? AND created = ? AND task = ?`+cond, r[0], r[1], r[2], r[3])
		if err != nil {
			return 0, err
		}
		if count += n; n > 0 && r[4] != nil {
			if _, _, err := tx.Exec(`DELETE FROM extra WHERE id = ?`, r[4]); err != nil {
				return 0, err
			}
		}
	}
	return count, nil
}

// CleanUnused removes the outputs of tasks that have no unihash, if they are
// older than age, and says how many.
func (d *DB) CleanUnused(ctx context.Context, age time.Duration) (count int64, err error) {
	if err := d.merge(ctx); err != nil {
		return 0, err
	}
	before := d.opts.Now().Add(-age).UnixMicro()
	return d.outhashes(nil, `o.created < ? AND NOT EXISTS (SELECT 1 FROM unihash u WHERE u.method = o.method AND u.task = o.task)`, []any{before}).
		each(ctx, func(tx *litefile.Tx, rows [][]driver.Value) (int64, error) { return dropOutputs(tx, rows, true) })
}

// Mark makes mark the current one, which every new row gets, and gives it to the
// rows that each Where means. It gives how many those were.
func (d *DB) Mark(ctx context.Context, mark string, wheres ...Where) ([]int64, error) {
	d.sweeping.Lock()
	run := d.sweep
	d.sweeping.Unlock()
	if run != nil {
		select {
		case <-run.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err := d.merge(ctx); err != nil {
		return nil, err
	}
	counts := make([]int64, len(wheres))
	var id int64
	err := d.f.Write(ctx, func(tx *litefile.Tx) (err error) {
		if n, err := tx.Int(`SELECT sweeping FROM state`); err != nil {
			return err
		} else if n != 0 {
			return ErrSweeping
		}
		// What was reported since the merge is marked too, or comes after the mark.
		if err := d.pend(tx).mergeAll(); err != nil {
			return err
		}
		if id, err = tx.Int(`SELECT id FROM mark WHERE name = ?`, mark); err != nil {
			return err
		}
		if id == 0 {
			if _, id, err = tx.Exec(`INSERT INTO mark (name) VALUES (?)`, mark); err != nil {
				return err
			}
		}
		if _, _, err := tx.Exec(`UPDATE state SET mark = ?`, id); err != nil {
			return err
		}
		d.pend(tx).marked = false
		for i, w := range wheres {
			if !w.narrow() {
				continue
			}
			cond, args := w.unihashWhere()
			if counts[i], _, err = tx.Exec(`UPDATE unihash AS u SET mark = ? WHERE `+cond, append([]any{id}, args...)...); err != nil {
				return err
			}
		}
		return nil
	})
	for i, w := range wheres {
		cond, args := w.unihashWhere()
		if err != nil || w.narrow() || cond == "" {
			continue
		}
		counts[i], err = d.unihashes(w, cond, args).each(ctx, func(tx *litefile.Tx, rows [][]driver.Value) (n int64, err error) {
			for _, r := range rows {
				changed, _, err := tx.Exec(`UPDATE unihash SET mark = ? WHERE method = ? AND task = ?`, id, r[0], r[1])
				if err != nil {
					return 0, err
				}
				n += changed
			}
			return n, nil
		})
	}
	return counts, err
}

// narrow reports that w means few rows, found by an index.
func (w Where) narrow() bool { return w["taskhash"] != "" || w["unihash"] != "" }

// Status is where a collection stands.
type Status struct {
	Keep, Remove int64
	Mark         string // "": none is current
}

// Status counts the rows that a sweep would keep and remove.
func (d *DB) Status(ctx context.Context) (s Status, err error) {
	if err := d.merge(ctx); err != nil {
		return s, err
	}
	err = d.f.Snapshot(ctx, func(c *litefile.Conn) error {
		r, err := c.Row(`SELECT s.mark, k.name FROM state s LEFT JOIN mark k ON k.id = s.mark`)
		if err != nil {
			return err
		}
		s.Mark, _ = r[1].(string)
		return c.Rows(`SELECT mark, count(*) FROM unihash GROUP BY mark`, nil, func(m []driver.Value) error {
			if m[0] == r[0] {
				s.Keep += m[1].(int64)
			} else {
				s.Remove += m[1].(int64)
			}
			return nil
		})
	})
	return s, err
}

// Usage gives the number of rows of each table, by the names that BitBake's
// server uses.
func (d *DB) Usage(ctx context.Context) (map[string]int64, error) {
	usage := map[string]int64{}
	if err := d.merge(ctx); err != nil {
		return nil, err
	}
	err := d.f.Snapshot(ctx, func(c *litefile.Conn) error {
		for name, query := range map[string]string{
			"unihashes_v3": `SELECT count(*) FROM unihash`, "outhashes_v2": `SELECT count(*) FROM outhash`,
			"users": `SELECT count(*) FROM user`, "config": `SELECT count(*) FROM state WHERE mark <> 0 OR sweptmark IS NOT NULL`,
		} {
			n, err := c.Int(query)
			if err != nil {
				return err
			}
			usage[name] = n
		}
		unis, outs, err := waiting(c) // none, but on a server that only reads
		usage["unihashes_v3"] += int64(len(unis))
		usage["outhashes_v2"] += int64(len(outs))
		return err
	})
	return usage, err
}

// sweepRun is a sweep under way.
type sweepRun struct {
	mark  string
	done  chan struct{}
	count int64
	err   error
}

// Sweep removes the rows that do not have the current mark, which must be mark,
// and says how many; afterwards no mark is current. It goes on when ctx ends, and
// over a restart: the same call again joins it, or gives its count when it is done.
func (d *DB) Sweep(ctx context.Context, mark string) (int64, error) {
	if err := d.merge(ctx); err != nil {
		return 0, err
	}
	d.sweeping.Lock()
	run := d.sweep
	if run == nil {
		var count int64
		var finished bool
		err := d.f.Write(ctx, func(tx *litefile.Tx) (err error) {
			// Rows with another mark are all in the table: none comes back behind the sweep.
			if err := d.pend(tx).mergeAll(); err != nil {
				return err
			}
			count, finished, err = beginSweep(tx, mark)
			d.pend(tx).marked = false
			return err
		})
		if err != nil || finished {
			d.sweeping.Unlock()
			return count, err
		}
		run = d.runSweep(mark)
	}
	d.sweeping.Unlock()
	if run.mark != mark {
		return 0, ErrNotCurrent
	}
	select {
	case <-run.done:
		return run.count, run.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// beginSweep notes that a sweep of mark is under way; finished: that it was
// done before, with that count.
func beginSweep(tx *litefile.Tx, mark string) (count int64, finished bool, err error) {
	r, err := tx.Row(`SELECT s.mark, s.sweeping, s.swept, s.sweptmark, k.name FROM state s LEFT JOIN mark k ON k.id = s.mark`)
	if err != nil {
		return 0, false, err
	}
	current, _ := r[4].(string)
	last, hasLast := r[3].(string)
	switch {
	case r[0].(int64) != 0 && current == mark && mark != "" && r[1].(int64) == 0:
		_, _, err = tx.Exec(`UPDATE state SET sweeping = mark, mark = 0, swept = 0, sweptmark = ?`, mark)
		return 0, false, err
	case hasLast && last == mark && r[1].(int64) != 0:
		return 0, false, nil // somebody began it: go on
	case hasLast && last == mark && r[0].(int64) == 0:
		return r[2].(int64), true, nil
	}
	return 0, false, ErrNotCurrent
}

// resumeSweep goes on with a sweep that the last process left.
func (d *DB) resumeSweep() error {
	return d.f.Read(d.ctx, func(c *litefile.Conn) error {
		r, err := c.Row(`SELECT sweeping, sweptmark FROM state`)
		if err == nil && r[0].(int64) != 0 {
			d.sweeping.Lock()
			d.runSweep(r[1].(string))
			d.sweeping.Unlock()
		}
		return err
	})
}

// runSweep starts the sweep that state describes; d.sweeping is held.
func (d *DB) runSweep(mark string) *sweepRun {
	run := &sweepRun{mark: mark, done: make(chan struct{})}
	d.sweep = run
	d.wg.Go(func() {
		run.count, run.err = d.sweepRows()
		d.sweeping.Lock()
		d.sweep = nil
		d.sweeping.Unlock()
		close(run.done)
	})
	return run
}

func (d *DB) sweepRows() (count int64, err error) {
	var id int64
	if err := d.f.Read(d.ctx, func(c *litefile.Conn) (err error) {
		id, err = c.Int(`SELECT sweeping FROM state`)
		return err
	}); err != nil {
		return 0, err
	}
	_, err = d.unihashes(nil, `u.mark <> ?`, []any{id}).each(d.ctx, func(tx *litefile.Tx, rows [][]driver.Value) (int64, error) {
		n, err := d.pend(tx).drop(rows, `DELETE FROM unihash WHERE method = ? AND task = ? AND mark <> ?`, id)
		if err != nil {
			return 0, err
		}
		_, _, err = tx.Exec(`UPDATE state SET swept = swept + ? WHERE sweeping = ?`, n, id)
		return n, err
	})
	if err != nil {
		return 0, err
	}
	err = d.f.Write(d.ctx, func(tx *litefile.Tx) error {
		d.pend(tx).marked = false
		if count, err = tx.Int(`SELECT swept FROM state`); err != nil {
			return err
		}
		// The name may be used again: what it kept this time does not count then.
		if _, _, err := tx.Exec(`DELETE FROM mark WHERE id = ?`, id); err != nil {
			return err
		}
		_, _, err := tx.Exec(`UPDATE state SET sweeping = 0 WHERE sweeping = ?`, id)
		return err
	})
	return count, err
}
