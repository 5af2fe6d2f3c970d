package hashdb

import (
	"context"
	"database/sql/driver"
	"io"
	"time"

	"slipway/internal/hashserv/litefile"
)

// Extra is what a report may say beside the hashes. "" is unset.
type Extra struct {
	Owner, PN, PV, PR, Task, Siginfo string
}

// Row is an output hash and, if it is known, the unihash of its task.
type Row struct {
	Method, Taskhash, Outhash string
	Created                   time.Time
	Extra
	Unihash string
	Mark    string // of the garbage collection
}

// Report records that a task with these inputs had this output, and gives the
// unihash of the task. When it had none yet, it becomes that of the oldest other
// task with the same output, else the one that is offered.
func (d *DB) Report(ctx context.Context, method, task, out, offer string, x Extra) (string, error) {
	var uni string
	created := d.now()
	err := d.f.Write(ctx, func(tx *litefile.Tx) error {
		p := d.pend(tx)
		m, err := p.method(method)
		if err != nil {
			return err
		}
		var known bool
		if uni, known, err = p.unihash(m, task); err != nil {
			return err
		}
		if p.direct {
			if err := p.output(m, out, created, task, x); err != nil || known {
				return err
			}
			if uni, known, err = d.equivalent(p, tx.Conn, m, out, task); err == nil && !known {
				uni = offer
			}
			if err != nil {
				return err
			}
			return p.insert(m, task, uni)
		}
		rec := &record{out: out, created: created, bare: known}
		if known {
			if there, err := p.hasOutput(m, task, out); err != nil || there {
				return err
			}
		} else {
			if uni, known, err = d.equivalent(p, tx.Conn, m, out, task); err != nil {
				return err
			}
			if !known {
				uni = offer
			}
			if rec.mark, err = p.currentMark(); err != nil {
				return err
			}
		}
		if x != (Extra{}) {
			if rec.extra, err = p.extra(x); err != nil {
				return err
			}
		}
		p.record(m, task, uni, rec)
		return nil
	})
	return uni, err
}

// record has the journal hold what a report said.
func (p *pending) record(method uint32, task, uni string, rec *record) {
	if !rec.bare {
		p.learn(method, task, uni)
	}
	k := rowKey{method, rec.out}
	p.outs[k] = append(p.outs[k], len(p.list))
	p.list = append(p.list, change{method: method, task: task, uni: uni, rec: rec})
}

// recorded gives the records of an output in this transaction; p may be nil.
func (p *pending) recorded(method uint32, out string) (rows []*recentRow) {
	if p == nil || p.direct {
		return nil
	}
	for _, n := range p.outs[rowKey{method, out}] {
		ch := p.list[n]
		rows = append(rows, newRecent(0, ch))
	}
	return rows
}

// hasOutput reports whether an output of a task is known.
func (p *pending) hasOutput(method uint32, task, out string) (bool, error) {
	for _, r := range append(p.recorded(method, out), p.d.recent.Load().withOut(method, out)...) {
		if r.task == task {
			return true, nil
		}
	}
	n, err := p.tx.Int(`SELECT EXISTS (SELECT 1 FROM outhash WHERE method = ? AND task = ? AND out = ?)`, int(method), stored(task), stored(out))
	return n != 0, err
}

// equivalent gives the unihash of the oldest other task with that output. p is
// nil outside of a transaction.
func (d *DB) equivalent(p *pending, c *litefile.Conn, method uint32, out, task string) (string, bool, error) {
	r := d.recent.Load()
	// What is not in the tables yet, oldest first.
	fresh := append(r.withOut(method, out), p.recorded(method, out)...)
	sortByAge(fresh)
	unihash := func(task string) (string, bool) {
		if p != nil {
			if u, ok := p.known[rowKey{method, task}]; ok {
				return u, true
			}
			if _, ok := p.gone[rowKey{method, task}]; ok {
				return "", false
			}
		}
		return r.unihash(method, task)
	}
	type found struct {
		created   int64
		task, uni string
	}
	var old []found // the last of them has a unihash, or none has
	if err := c.Rows(equivalentSQL, []any{int(method), stored(task), stored(out)}, func(r []driver.Value) error {
		f := found{r[0].(int64), text(r[1]), ""}
		switch {
		case r[2] == nil:
			if u, ok := unihash(f.task); ok {
				f.uni = u
			}
		case r[3] == nil:
			f.uni = f.task
		default:
			f.uni = text(r[3])
		}
		if f.uni == "" {
			return nil
		}
		old = append(old, f)
		return io.EOF
	}); err != nil && err != io.EOF {
		return "", false, err
	}
	for _, f := range fresh {
		if f.task == task || len(old) > 0 && old[0].created <= f.created {
			continue
		}
		if u, ok := unihash(f.task); ok {
			return u, true, nil
		}
		if u, ok, err := unihashOf(c, method, f.task); err != nil || ok {
			return u, ok, err
		}
	}
	if len(old) > 0 {
		return old[0].uni, true, nil
	}
	return "", false, nil
}

const equivalentSQL = `SELECT o.created, o.task, u.task, u.uni FROM outhash o LEFT JOIN unihash u ON u.method = o.method AND u.task = o.task
	WHERE o.method = ?1 AND o.out = ?3 AND o.task <> ?2 ORDER BY o.created`

// extra adds what a report said beside the hashes.
func (p *pending) extra(x Extra) (id int64, err error) {
	_, id, err = p.tx.Exec(`INSERT INTO extra (owner, PN, PV, PR, task, siginfo) VALUES (?, ?, ?, ?, ?, ?)`,
		null(x.Owner), null(x.PN), null(x.PV), null(x.PR), null(x.Task), null(x.Siginfo))
	return id, err
}

// output adds an output hash, unless there is one.
func (p *pending) output(m uint32, out string, created int64, task string, x Extra) error {
	var extra any
	if x != (Extra{}) {
		// The row of extra is made first: a second report of the same is rare.
		there, err := p.hasOutput(m, task, out)
		if err != nil || there {
			return err
		}
		id, err := p.extra(x)
		if err != nil {
			return err
		}
		extra = id
	}
	_, _, err := p.tx.Exec(`INSERT OR IGNORE INTO outhash VALUES (?, ?, ?, ?, ?)`, int(m), stored(out), created, stored(task), extra)
	return err
}

func null(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// Settled reports whether a report of that task and output would be answered
// from what is known here, without the unihash that is offered.
func (d *DB) Settled(ctx context.Context, method, task, out string) (bool, error) {
	if uni, err := d.Unihash(ctx, method, task); err != nil || uni != "" {
		return uni != "", err
	}
	m, ok := (*d.methods.Load())[method]
	if !ok {
		return false, nil
	}
	err := d.f.Read(ctx, func(c *litefile.Conn) (err error) {
		_, ok, err = d.equivalent(nil, c, m, out, task)
		return err
	})
	return ok, err
}

// Assign gives a task a unihash, unless it has one, and says which it has.
func (d *DB) Assign(ctx context.Context, method, task, offer string) (string, error) {
	var uni string
	err := d.f.Write(ctx, func(tx *litefile.Tx) error {
		p := d.pend(tx)
		m, err := p.method(method)
		if err != nil {
			return err
		}
		var ok bool
		if uni, ok, err = p.unihash(m, task); err != nil || ok {
			return err
		}
		uni = offer
		return p.insert(m, task, uni)
	})
	return uni, err
}

// Insert adds rows as another server knows them; what is known here stays.
func (d *DB) Insert(ctx context.Context, rows ...Row) error {
	return d.f.Write(ctx, func(tx *litefile.Tx) error { return d.InsertIn(tx, rows) })
}

// InsertIn is Insert in a transaction of the database's file.
func (d *DB) InsertIn(tx *litefile.Tx, rows []Row) error {
	p := d.pend(tx)
	for _, r := range rows {
		m, err := p.method(r.Method)
		if err != nil {
			return err
		}
		if r.Outhash != "" {
			if err := p.output(m, r.Outhash, r.Created.UnixMicro(), r.Taskhash, r.Extra); err != nil {
				return err
			}
		}
		if r.Unihash == "" {
			continue
		}
		if _, ok, err := p.unihash(m, r.Taskhash); err != nil {
			return err
		} else if !ok {
			if err := p.insert(m, r.Taskhash, r.Unihash); err != nil {
				return err
			}
		}
	}
	return nil
}

const rowColumns = `SELECT o.out, o.created, o.task, e.owner, e.PN, e.PV, e.PR, e.task, e.siginfo, u.task, u.uni, k.name FROM outhash o
	LEFT JOIN unihash u ON u.method = o.method AND u.task = o.task LEFT JOIN extra e ON e.id = o.extra LEFT JOIN mark k ON k.id = u.mark `

// toRow reads rowColumns.
func toRow(method string, r []driver.Value) *Row {
	str := func(v driver.Value) string { s, _ := v.(string); return s }
	row := &Row{Method: method, Outhash: text(r[0]), Created: time.UnixMicro(r[1].(int64)).UTC(), Taskhash: text(r[2]),
		Extra: Extra{str(r[3]), str(r[4]), str(r[5]), str(r[6]), str(r[7]), str(r[8])}, Mark: str(r[11])}
	if r[10] != nil {
		row.Unihash = text(r[10])
	} else {
		row.Unihash = text(r[9])
	}
	return row
}

// ByTask gives the oldest output of a task that has a unihash, nil when it has
// none, or no output is known.
func (d *DB) ByTask(ctx context.Context, method, task string) (*Row, error) {
	return d.oldest(ctx, method, `o.task`, task, true)
}

// ByOutput gives the oldest task with that output; with a unihash only if one is
// asked for.
func (d *DB) ByOutput(ctx context.Context, method, out string, withUnihash bool) (*Row, error) {
	return d.oldest(ctx, method, `o.out`, out, withUnihash)
}

// oldest gives the oldest row whose column has that value.
func (d *DB) oldest(ctx context.Context, method, column, value string, withUnihash bool) (row *Row, err error) {
	if err := d.Ready(ctx); err != nil {
		return nil, err
	}
	m, ok := (*d.methods.Load())[method]
	if !ok {
		return nil, nil
	}
	for {
		recent := d.recent.Load()
		base, _ := recent.size()
		row, err = d.oldestOf(ctx, recent, m, method, column, value, withUnihash)
		if now, _ := recent.size(); err != nil || now == base && d.recent.Load() == recent {
			return row, err
		}
		// Records were moved into the tables meanwhile, and may have been seen in neither.
	}
}

func (d *DB) oldestOf(ctx context.Context, recent *recents, m uint32, method, column, value string, withUnihash bool) (row *Row, err error) {
	err = d.f.Read(ctx, func(c *litefile.Conn) error {
		row = nil
		var joined *recentRow // by which row got its unihash
		// First what waits, then the tables: what is moved meanwhile is seen twice.
		fresh := recent.withOut(m, value)
		if column == `o.task` {
			fresh = recent.withTask(m, value)
		}
		if err := c.Rows(rowColumns+`WHERE o.method = ? AND `+column+` = ? ORDER BY o.created`, []any{int(m), stored(value)}, func(r []driver.Value) error {
			row = toRow(method, r)
			if joined = nil; row.Unihash == "" {
				if joined = recent.joined(m, row.Taskhash); joined != nil {
					row.Unihash = joined.uni
				}
			}
			if withUnihash && row.Unihash == "" {
				row = nil
				return nil
			}
			return io.EOF
		}); err != nil && err != io.EOF {
			return err
		}
		if row != nil && joined != nil {
			var err error
			if row.Mark, err = markName(c, joined.mark); err != nil {
				return err
			}
		}
		for _, f := range fresh {
			if row != nil && !row.Created.After(time.UnixMicro(f.created)) {
				return nil
			}
			r, err := d.recentRow(c, method, f)
			if err != nil {
				return err
			}
			if r.Unihash != "" || !withUnihash {
				row = r
				return nil
			}
		}
		return nil
	})
	return row, err
}

// recentRow gives the row of a record that is not in the tables.
func (d *DB) recentRow(c *litefile.Conn, method string, f *recentRow) (*Row, error) {
	row := &Row{Method: method, Taskhash: f.task, Outhash: f.out, Created: time.UnixMicro(f.created).UTC()}
	mark := int64(0)
	if j := d.recent.Load().joined(f.method, f.task); j != nil {
		row.Unihash, mark = j.uni, j.mark
	}
	r, err := c.Row(`SELECT coalesce(uni, task), mark FROM unihash WHERE method = ? AND task = ?`, int(f.method), stored(f.task))
	if err != nil {
		return nil, err
	}
	if r != nil {
		row.Unihash, mark = text(r[0]), r[1].(int64)
	}
	if row.Mark, err = markName(c, mark); err != nil {
		return nil, err
	}
	if f.extra != 0 {
		r, err := c.Row(`SELECT owner, PN, PV, PR, task, siginfo FROM extra WHERE id = ?`, f.extra)
		if err != nil {
			return nil, err
		}
		if r != nil {
			row.Extra = extraOf(r)
		}
	}
	return row, nil
}

func markName(c *litefile.Conn, id int64) (string, error) {
	if id == 0 {
		return "", nil
	}
	r, err := c.Row(`SELECT name FROM mark WHERE id = ?`, id)
	if err != nil || r == nil {
		return "", err
	}
	return str(r[0]), nil
}
