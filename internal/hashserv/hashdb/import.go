package hashdb

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"
	"time"

	"slipway/internal/errs"
	"slipway/internal/hashserv/litefile"
)

// Imported counts what an import brought.
type Imported struct {
	Unihashes int64 `json:"unihashes"`
	Outhashes int64 `json:"outhashes"`
	Users     int64 `json:"users"`
}

// Sink takes what an import reads; what it has stays.
type Sink interface {
	Insert(ctx context.Context, rows ...Row) error
	AddUser(ctx context.Context, u User) (bool, error)
}

// Import adds what a database file of BitBake's server (any table version) or of
// ours holds; what is known here stays. The server may go on serving meanwhile.
func (d *DB) Import(ctx context.Context, path string) (Imported, error) { return Read(ctx, path, d) }

// Read gives what a database file of BitBake's server (any table version) or of
// ours holds to another database.
func Read(ctx context.Context, path string, to Sink) (n Imported, err error) {
	d := reader{to}
	err = litefile.ReadSource(path, func(c *litefile.Conn) error {
		ours, err := c.HasTable("unihash")
		if err != nil {
			return err
		}
		if !ours {
			return d.importBitBake(ctx, c, path, &n)
		}
		return d.importOurs(ctx, c, &n)
	})
	return n, err
}

type reader struct{ Sink }

// batch inserts rows in small transactions.
type batch struct {
	ctx  context.Context
	to   Sink
	n    *int64
	rows []Row
}

func (b *batch) add(r Row) error {
	if b.rows = append(b.rows, r); len(b.rows) < chunkRows {
		return nil
	}
	return b.flush()
}

func (b *batch) flush() error {
	if len(b.rows) == 0 {
		return nil
	}
	err := b.to.Insert(b.ctx, b.rows...)
	*b.n += int64(len(b.rows))
	b.rows = b.rows[:0]
	return err
}

// importRows reads rows by query, and inserts them.
func (d reader) importRows(ctx context.Context, c *litefile.Conn, query string, n *int64, row func([]driver.Value) Row) error {
	b := batch{ctx: ctx, to: d, n: n}
	if err := c.Rows(query, nil, func(r []driver.Value) error { return b.add(row(r)) }); err != nil {
		return err
	}
	return b.flush()
}

func (d reader) importUsers(ctx context.Context, c *litefile.Conn, query string, n *int64) error {
	return c.Rows(query, nil, func(r []driver.Value) error {
		added, err := d.AddUser(ctx, User{r[0].(string), r[1].(string), strings.Fields(r[2].(string))})
		if added {
			*n++
		}
		return err
	})
}

func str(v driver.Value) string { s, _ := v.(string); return s }

// byKey is the order of the outputs' keys.
const byKey = `o.method, o.out, o.created, o.task`

func unihashRow(r []driver.Value) Row {
	return Row{Method: str(r[0]), Taskhash: text(r[1]), Unihash: text(r[2])}
}

func outhashRow(r []driver.Value) Row {
	return Row{Method: str(r[0]), Taskhash: text(r[1]), Outhash: text(r[2]), Created: time.UnixMicro(r[3].(int64)).UTC(), Extra: extraOf(r[4:])}
}

// All gives every row: first the tasks with a unihash, then the outputs.
func (d *DB) All(ctx context.Context) (rows []Row, err error) {
	err = d.f.Snapshot(ctx, func(c *litefile.Conn) error {
		return eachRow(c, byKey,
			func(r []driver.Value) error { rows = append(rows, unihashRow(r)); return nil },
			func(r []driver.Value) error { rows = append(rows, outhashRow(r)); return nil })
	})
	return rows, err
}

func (d reader) importOurs(ctx context.Context, c *litefile.Conn, n *Imported) error {
	unis, outs := batch{ctx: ctx, to: d, n: &n.Unihashes}, batch{ctx: ctx, to: d, n: &n.Outhashes}
	if err := eachRow(c, byKey,
		func(r []driver.Value) error { return unis.add(unihashRow(r)) },
		func(r []driver.Value) error {
			if err := unis.flush(); err != nil {
				return err
			}
			return outs.add(outhashRow(r))
		}); err != nil {
		return err
	}
	if err := unis.flush(); err != nil {
		return err
	}
	if err := outs.flush(); err != nil {
		return err
	}
	return d.importUsers(ctx, c, `SELECT name, token, permissions FROM user`, &n.Users)
}

func extraOf(r []driver.Value) Extra {
	return Extra{str(r[0]), str(r[1]), str(r[2]), str(r[3]), str(r[4]), str(r[5])}
}

func (d reader) importBitBake(ctx context.Context, c *litefile.Conn, path string, n *Imported) error {
	found := false
	for _, table := range []string{"unihashes_v3", "unihashes_v2"} {
		if ok, err := c.HasTable(table); err != nil {
			return err
		} else if !ok {
			continue
		}
		found = true
		if err := d.importRows(ctx, c, `SELECT method, taskhash, unihash FROM `+table, &n.Unihashes, func(r []driver.Value) Row {
			return Row{Method: str(r[0]), Taskhash: str(r[1]), Unihash: str(r[2])}
		}); err != nil {
			return err
		}
	}
	if !found {
		return errs.E(errs.Invalid, path+" is no database of a hash equivalence server", errs.Hint("BitBake's is called hashserv.db, ours as --database says"))
	}
	if ok, err := c.HasTable("outhashes_v2"); err != nil {
		return err
	} else if ok {
		if err := d.importRows(ctx, c, fmt.Sprintf(`SELECT method, taskhash, outhash, %s, owner, PN, PV, PR, task, outhash_siginfo FROM outhashes_v2`, createdSQL), &n.Outhashes, func(r []driver.Value) Row {
			created, _ := r[3].(int64)
			return Row{Method: str(r[0]), Taskhash: str(r[1]), Outhash: str(r[2]), Created: time.UnixMicro(created), Extra: extraOf(r[4:])}
		}); err != nil {
			return err
		}
	}
	if ok, err := c.HasTable("users"); err != nil || !ok {
		return err
	}
	return d.importUsers(ctx, c, `SELECT username, token, permissions FROM users`, &n.Users)
}
