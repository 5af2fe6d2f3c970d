package hashpg

import (
	"context"
	"fmt"
	"strings"
	"time"

	"slipway/internal/hashserv/hashdb"
	"slipway/internal/postgres"
)

// conds is a condition that grows.
type conds struct {
	list []string
	args []any
}

// add adds a condition, with ? for its value.
func (c *conds) add(cond string, values ...any) {
	for _, v := range values {
		c.args = append(c.args, v)
		cond = strings.Replace(cond, "?", fmt.Sprintf("$%d", len(c.args)), 1)
	}
	c.list = append(c.list, cond)
}

func (c *conds) where() string { return strings.Join(c.list, " AND ") }

// unihashConds gives the condition on hash_unihash, as u; nil for none.
func unihashConds(w hashdb.Where) *conds {
	if !w.NamesUnihash() {
		return nil
	}
	c := &conds{}
	if v, ok := w["method"]; ok {
		c.add(`u.method = (SELECT id FROM hash_method WHERE name = ?)`, v)
	} else if _, ok := w["taskhash"]; ok {
		c.add(`u.method IN (SELECT id FROM hash_method)`)
	}
	if v, ok := w["taskhash"]; ok {
		c.add(`u.task = ?`, stored(v))
	}
	if v, ok := w["unihash"]; ok {
		// Two ways to be stored, each with an index.
		c.add(`(u.method, u.task) IN (SELECT method, task FROM hash_unihash WHERE uni = ? UNION ALL
			SELECT method, task FROM hash_unihash WHERE method IN (SELECT id FROM hash_method) AND task = ? AND uni IS NULL)`, stored(v), stored(v))
	}
	if v, ok := w["gc_mark"]; ok {
		if v == "" {
			c.add(`u.mark NOT IN (SELECT id FROM hash_mark)`)
		} else {
			c.add(`u.mark = (SELECT id FROM hash_mark WHERE name = ?)`, v)
		}
	}
	return c
}

// outhashConds gives the condition on hash_outhash, as o; nil for none.
func outhashConds(w hashdb.Where) *conds {
	if !w.NamesOuthash() {
		return nil
	}
	c := &conds{}
	if v, ok := w["method"]; ok {
		c.add(`o.method = (SELECT id FROM hash_method WHERE name = ?)`, v)
	} else {
		c.add(`o.method IN (SELECT id FROM hash_method)`)
	}
	if v, ok := w["taskhash"]; ok {
		c.add(`o.task = ?`, stored(v))
	}
	if v, ok := w["outhash"]; ok {
		c.add(`o."out" = ?`, stored(v))
	}
	if v, ok := w["created"]; ok {
		t, err := time.Parse(time.RFC3339Nano, v)
		if err != nil {
			c.add(`false`)
		}
		c.add(`o.created = ?`, t.UnixMicro())
	}
	for _, k := range []struct{ name, column string }{{"owner", "owner"}, {"PN", "pn"}, {"PV", "pv"}, {"PR", "pr"}, {"task", "taskname"}, {"outhash_siginfo", "siginfo"}} {
		if v, ok := w[k.name]; ok {
			c.add(`o.`+k.column+` = ?`, v)
		}
	}
	return c
}

// chunkRows is how many rows one transaction of a collection changes: others wait
// for so long.
const chunkRows = 500

// key is a row of hash_unihash or, with out, of hash_outhash.
type key struct {
	method    uint32
	task, out []byte
}

// eachChunk runs a query of keys in one snapshot and gives them in chunks to fn,
// which writes.
func (d *DB) eachChunk(ctx context.Context, outputs bool, query string, args []any, fn func([]key) error) error {
	return d.pg.Snapshot(ctx, func(c *postgres.Conn) error {
		var chunk []key
		err := c.Rows(ctx, query, args, func(scan postgres.Scan) (err error) {
			var k key
			if outputs {
				err = scan(&k.method, &k.task, &k.out)
			} else {
				err = scan(&k.method, &k.task)
			}
			if err != nil {
				return err
			}
			if chunk = append(chunk, k); len(chunk) < chunkRows {
				return nil
			}
			err = fn(chunk)
			chunk = chunk[:0]
			return err
		})
		if err == nil && len(chunk) > 0 {
			err = fn(chunk)
		}
		return err
	})
}

func columns(chunk []key) (methods []int32, tasks, outs [][]byte) {
	for _, k := range chunk {
		methods, tasks, outs = append(methods, int32(k.method)), append(tasks, k.task), append(outs, k.out)
	}
	return methods, tasks, outs
}

// dropTasks removes rows of hash_unihash, if cond ($3) holds for them too.
func (d *DB) dropTasks(ctx context.Context, chunk []key, cond string, mark int) (n int64, err error) {
	methods, tasks, _ := columns(chunk)
	err = d.transact(ctx, nil, func(ctx context.Context, c *postgres.Conn, s *state) (*postgres.Batch, []hashdb.Change, error) {
		var changes []hashdb.Change
		if err := c.Rows(ctx, `DELETE FROM hash_unihash u USING unnest($1::int[], $2::bytea[]) AS i(method, task)
			WHERE u.method = i.method AND u.task = i.task AND `+cond+` RETURNING u.method, u.task`, []any{methods, tasks, mark}, func(scan postgres.Scan) error {
			var k key
			err := scan(&k.method, &k.task)
			changes = append(changes, hashdb.Change{Drop: true, Method: k.method, Task: text(k.task)})
			return err
		}); err != nil {
			return nil, nil, err
		}
		n = int64(len(changes))
		b := &postgres.Batch{}
		if mark != 0 {
			b.Exec(nil, `UPDATE hash_state SET swept = swept + $1 WHERE sweeping = $2`, n, mark)
		}
		return b, changes, nil
	})
	return n, err
}

// dropOutputs removes rows of hash_outhash; with unused only those that still
// have no unihash.
func (d *DB) dropOutputs(ctx context.Context, chunk []key, unused bool) (n int64, err error) {
	methods, tasks, outs := columns(chunk)
	cond := ``
	if unused {
		cond = ` AND NOT EXISTS (SELECT 1 FROM hash_unihash u WHERE u.method = o.method AND u.task = o.task)`
	}
	// The lock of the state keeps reports away: what has no unihash now gets none
	// before the row is gone.
	err = d.transact(ctx, nil, func(context.Context, *postgres.Conn, *state) (*postgres.Batch, []hashdb.Change, error) {
		b := &postgres.Batch{}
		b.Exec(func(changed int64) { n = changed }, `DELETE FROM hash_outhash o USING unnest($1::int[], $2::bytea[], $3::bytea[]) AS i(method, task, "out")
			WHERE o.method = i.method AND o.task = i.task AND o."out" = i."out"`+cond, methods, tasks, outs)
		return b, nil, nil
	})
	return n, err
}

// Remove removes the rows that w means from both tables, and says how many.
func (d *DB) Remove(ctx context.Context, w hashdb.Where) (count int64, err error) {
	if c := outhashConds(w); c != nil {
		if err := d.eachChunk(ctx, true, `SELECT o.method, o.task, o."out" FROM hash_outhash o WHERE `+c.where(), c.args, func(chunk []key) error {
			n, err := d.dropOutputs(ctx, chunk, false)
			count += n
			return err
		}); err != nil {
			return count, err
		}
	}
	if c := unihashConds(w); c != nil {
		if err := d.eachChunk(ctx, false, `SELECT u.method, u.task FROM hash_unihash u WHERE `+c.where(), c.args, func(chunk []key) error {
			n, err := d.dropTasks(ctx, chunk, `$3 = 0`, 0)
			count += n
			return err
		}); err != nil {
			return count, err
		}
	}
	return count, nil
}

// CleanUnused removes the outputs of tasks that have no unihash, if they are
// older than age, and says how many.
func (d *DB) CleanUnused(ctx context.Context, age time.Duration) (count int64, err error) {
	before := d.opts.Now().Add(-age).UnixMicro()
	err = d.eachChunk(ctx, true, `SELECT o.method, o.task, o."out" FROM hash_outhash o WHERE o.created < $1
		AND NOT EXISTS (SELECT 1 FROM hash_unihash u WHERE u.method = o.method AND u.task = o.task)`, []any{before}, func(chunk []key) error {
		n, err := d.dropOutputs(ctx, chunk, true)
		count += n
		return err
	})
	return count, err
}

// Mark makes mark the current one, which every new row gets, and gives it to the
// rows that each Where means. It gives how many those were.
func (d *DB) Mark(ctx context.Context, mark string, wheres ...hashdb.Where) ([]int64, error) {
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
	narrow := func(w hashdb.Where) bool { return w["taskhash"] != "" || w["unihash"] != "" }
	counts := make([]int64, len(wheres))
	var id int
	err := d.transact(ctx, nil, func(ctx context.Context, c *postgres.Conn, s *state) (*postgres.Batch, []hashdb.Change, error) {
		if s.sweeping != 0 {
			return nil, nil, hashdb.ErrSweeping
		}
		if _, err := c.Exec(ctx, `INSERT INTO hash_mark (name) VALUES ($1) ON CONFLICT (name) DO NOTHING`, mark); err != nil {
			return nil, nil, err
		}
		if _, err := c.Row(ctx, `SELECT id FROM hash_mark WHERE name = $1`, []any{mark}, &id); err != nil {
			return nil, nil, err
		}
		b := &postgres.Batch{}
		b.Exec(nil, `UPDATE hash_state SET mark = $1`, id)
		for i, w := range wheres {
			k := unihashConds(w)
			if k == nil || !narrow(w) {
				continue
			}
			b.Exec(func(n int64) { counts[i] = n }, fmt.Sprintf(`UPDATE hash_unihash u SET mark = $%d WHERE %s`, len(k.args)+1, k.where()), append(k.args, id)...)
		}
		return b, nil, nil
	})
	for i, w := range wheres {
		k := unihashConds(w)
		if err != nil || k == nil || narrow(w) {
			continue
		}
		err = d.eachChunk(ctx, false, `SELECT u.method, u.task FROM hash_unihash u WHERE `+k.where(), k.args, func(chunk []key) error {
			methods, tasks, _ := columns(chunk)
			n := int64(0)
			err := d.transact(ctx, nil, func(context.Context, *postgres.Conn, *state) (*postgres.Batch, []hashdb.Change, error) {
				b := &postgres.Batch{}
				b.Exec(func(changed int64) { n = changed }, `UPDATE hash_unihash u SET mark = $3 FROM unnest($1::int[], $2::bytea[]) AS i(method, task) WHERE u.method = i.method AND u.task = i.task`, methods, tasks, id)
				return b, nil, nil
			})
			counts[i] += n
			return err
		})
	}
	return counts, err
}

// Status counts the rows that a sweep would keep and remove.
func (d *DB) Status(ctx context.Context) (s hashdb.Status, err error) {
	err = d.pg.Snapshot(ctx, func(c *postgres.Conn) error {
		s = hashdb.Status{}
		var current int
		var name *string
		if _, err := c.Row(ctx, `SELECT s.mark, k.name FROM hash_state s LEFT JOIN hash_mark k ON k.id = s.mark`, nil, &current, &name); err != nil {
			return err
		}
		s.Mark = str(name)
		return c.Rows(ctx, `SELECT mark, count(*) FROM hash_unihash GROUP BY mark`, nil, func(scan postgres.Scan) error {
			var mark int
			var n int64
			err := scan(&mark, &n)
			if mark == current {
				s.Keep += n
			} else {
				s.Remove += n
			}
			return err
		})
	})
	return s, err
}

// Usage gives the number of rows of each table, by the names that BitBake's
// server uses.
func (d *DB) Usage(ctx context.Context) (map[string]int64, error) {
	usage := map[string]int64{}
	err := d.pg.Snapshot(ctx, func(c *postgres.Conn) error {
		for name, query := range map[string]string{
			"unihashes_v3": `SELECT count(*) FROM hash_unihash`, "outhashes_v2": `SELECT count(*) FROM hash_outhash`,
			"users": `SELECT count(*) FROM hash_user`, "config": `SELECT count(*) FROM hash_state WHERE mark <> 0 OR sweptmark IS NOT NULL`,
		} {
			var n int64
			if _, err := c.Row(ctx, query, nil, &n); err != nil {
				return err
			}
			usage[name] = n
		}
		return nil
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
// and says how many; see hashdb.DB. Several processes may join one sweep.
func (d *DB) Sweep(ctx context.Context, mark string) (int64, error) {
	d.sweeping.Lock()
	run := d.sweep
	if run == nil {
		var count int64
		var finished bool
		err := d.transact(ctx, nil, func(ctx context.Context, c *postgres.Conn, s *state) (*postgres.Batch, []hashdb.Change, error) {
			var name string
			if _, err := c.Row(ctx, `SELECT name FROM hash_mark WHERE id = $1`, []any{s.mark}, &name); err != nil {
				return nil, nil, err
			}
			b := &postgres.Batch{}
			count, finished = 0, false
			last := s.sweptMark != nil && *s.sweptMark == mark
			switch {
			case s.mark != 0 && name == mark && mark != "" && s.sweeping == 0:
				b.Exec(nil, `UPDATE hash_state SET sweeping = mark, mark = 0, swept = 0, sweptmark = $1`, mark)
			case last && s.sweeping != 0: // somebody began it: go on
			case last && s.mark == 0:
				count, finished = s.swept, true
			default:
				return nil, nil, hashdb.ErrNotCurrent
			}
			return b, nil, nil
		})
		if err != nil || finished {
			d.sweeping.Unlock()
			return count, err
		}
		run = d.runSweep(mark)
	}
	d.sweeping.Unlock()
	if run.mark != mark {
		return 0, hashdb.ErrNotCurrent
	}
	select {
	case <-run.done:
		return run.count, run.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// resumeSweep goes on with a sweep that the last process left.
func (d *DB) resumeSweep(ctx context.Context) error {
	var id int
	var mark *string
	err := d.pg.Read(ctx, func(c *postgres.Conn) error {
		_, err := c.Row(ctx, `SELECT sweeping, sweptmark FROM hash_state`, nil, &id, &mark)
		return err
	})
	if err == nil && id != 0 {
		d.sweeping.Lock()
		d.runSweep(str(mark))
		d.sweeping.Unlock()
	}
	return err
}

// runSweep starts the sweep that the state describes; d.sweeping is held.
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
	ctx := d.ctx
	var id int
	if err := d.pg.Read(ctx, func(c *postgres.Conn) error {
		_, err := c.Row(ctx, `SELECT sweeping FROM hash_state`, nil, &id)
		return err
	}); err != nil {
		return 0, err
	}
	if id != 0 {
		if err := d.eachChunk(ctx, false, `SELECT method, task FROM hash_unihash WHERE mark <> $1`, []any{id}, func(chunk []key) error {
			_, err := d.dropTasks(ctx, chunk, `u.mark <> $3`, id)
			return err
		}); err != nil {
			return 0, err
		}
	}
	err = d.transact(ctx, nil, func(_ context.Context, _ *postgres.Conn, s *state) (*postgres.Batch, []hashdb.Change, error) {
		count = s.swept
		b := &postgres.Batch{}
		if s.sweeping == id && id != 0 { // else another process was first
			// The name may be used again: what it kept this time does not count then.
			b.Exec(nil, `DELETE FROM hash_mark WHERE id = $1`, id)
			b.Exec(nil, `UPDATE hash_state SET sweeping = 0`)
		}
		return b, nil, nil
	})
	return count, err
}
