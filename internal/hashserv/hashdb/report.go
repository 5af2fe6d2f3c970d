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
		if err := p.output(m, out, created, task, x); err != nil {
			return err
		}
		var ok bool
		if uni, ok, err = p.unihash(m, task); err != nil || ok {
			return err
		}
		uni, err = p.join(m, task, out, offer)
		return err
	})
	return uni, err
}

// join adds a row that is not there, with the unihash of the oldest other task
// with that output, else with the one that is offered: one statement for what
// most reports do.
func (p *pending) join(method uint32, task, out, offer string) (uni string, err error) {
	mark, err := p.currentMark()
	if err != nil {
		return "", err
	}
	r, err := p.tx.Row(`INSERT INTO unihash SELECT ?1, ?2, nullif(coalesce((`+equivalentSQL+`), ?4), ?2), ?5 RETURNING uni`, int(method), stored(task), stored(out), stored(offer), mark)
	if err != nil {
		return "", err
	}
	if uni = task; r[0] != nil {
		uni = text(r[0])
	}
	p.came(method, task, uni)
	return uni, nil
}

// output adds an output hash, unless there is one.
func (p *pending) output(method uint32, out string, created int64, task string, x Extra) error {
	var extra any
	if x != (Extra{}) {
		// The row of extra is made first: a second report of the same is rare.
		n, err := p.tx.Int(`SELECT EXISTS (SELECT 1 FROM outhash WHERE method = ? AND task = ? AND out = ?)`, int(method), stored(task), stored(out))
		if err != nil || n != 0 {
			return err
		}
		_, id, err := p.tx.Exec(`INSERT INTO extra (owner, PN, PV, PR, task, siginfo) VALUES (?, ?, ?, ?, ?, ?)`,
			null(x.Owner), null(x.PN), null(x.PV), null(x.PR), null(x.Task), null(x.Siginfo))
		if err != nil {
			return err
		}
		extra = id
	}
	_, _, err := p.tx.Exec(`INSERT OR IGNORE INTO outhash VALUES (?, ?, ?, ?, ?)`, int(method), stored(out), created, stored(task), extra)
	return err
}

func null(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// equivalent gives the unihash of the oldest other task with that output.
func equivalent(c *litefile.Conn, method uint32, out, task string) (string, bool, error) {
	r, err := c.Row(equivalentSQL, int(method), stored(task), stored(out))
	if err != nil || r == nil {
		return "", false, err
	}
	return text(r[0]), true, nil
}

const equivalentSQL = `SELECT coalesce(u.uni, u.task) FROM outhash o JOIN unihash u ON u.method = o.method AND u.task = o.task
	WHERE o.method = ?1 AND o.out = ?3 AND o.task <> ?2 ORDER BY o.created LIMIT 1`

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
		_, ok, err = equivalent(c, m, out, task)
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

const rowColumns = `SELECT o.out, o.created, o.task, e.owner, e.PN, e.PV, e.PR, e.task, e.siginfo, u.task, u.uni, k.name FROM outhash o `

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

const rowExtras = ` LEFT JOIN extra e ON e.id = o.extra LEFT JOIN mark k ON k.id = u.mark `

// ByTask gives the oldest output of a task that has a unihash, nil when it has
// none, or no output is known.
func (d *DB) ByTask(ctx context.Context, method, task string) (*Row, error) {
	return d.oldest(ctx, method, `JOIN unihash u ON u.method = o.method AND u.task = o.task`+rowExtras+`WHERE o.method = ? AND o.task = ?`, stored(task))
}

// ByOutput gives the oldest task with that output; with a unihash only if one is
// asked for.
func (d *DB) ByOutput(ctx context.Context, method, out string, withUnihash bool) (*Row, error) {
	join := `LEFT JOIN`
	if withUnihash {
		join = `JOIN`
	}
	return d.oldest(ctx, method, join+` unihash u ON u.method = o.method AND u.task = o.task`+rowExtras+`WHERE o.method = ? AND o.out = ?`, stored(out))
}

func (d *DB) oldest(ctx context.Context, method, where string, arg any) (row *Row, err error) {
	if err := d.Ready(ctx); err != nil {
		return nil, err
	}
	m, ok := (*d.methods.Load())[method]
	if !ok {
		return nil, nil
	}
	err = d.f.Read(ctx, func(c *litefile.Conn) error {
		err := c.Rows(rowColumns+where+` ORDER BY o.created LIMIT 1`, []any{int(m), arg}, func(r []driver.Value) error {
			row = toRow(method, r)
			return io.EOF
		})
		if err == io.EOF {
			err = nil
		}
		return err
	})
	return row, err
}
