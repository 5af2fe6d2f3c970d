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

// importRows reads rows by query, and inserts them in small transactions.
func (d reader) importRows(ctx context.Context, c *litefile.Conn, query string, n *int64, row func([]driver.Value) Row) error {
	var rows []Row
	flush := func() error {
		if len(rows) == 0 {
			return nil
		}
		err := d.Insert(ctx, rows...)
		*n += int64(len(rows))
		rows = rows[:0]
		return err
	}
	if err := c.Rows(query, nil, func(r []driver.Value) error {
		if rows = append(rows, row(r)); len(rows) < chunkRows {
			return nil
		}
		return flush()
	}); err != nil {
		return err
	}
	return flush()
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

// All rows of our tables, in the order of their keys.
const (
	allUnihashes = `SELECT m.name, u.task, coalesce(u.uni, u.task) FROM unihash u JOIN method m ON m.id = u.method ORDER BY u.method, u.task`
	allOuthashes = `SELECT m.name, o.task, o.out, o.created, e.owner, e.PN, e.PV, e.PR, e.task, e.siginfo FROM outhash o JOIN method m ON m.id = o.method
		LEFT JOIN extra e ON e.id = o.extra ORDER BY o.method, o.out, o.created, o.task`
)

func unihashRow(r []driver.Value) Row {
	return Row{Method: str(r[0]), Taskhash: text(r[1]), Unihash: text(r[2])}
}

func outhashRow(r []driver.Value) Row {
	return Row{Method: str(r[0]), Taskhash: text(r[1]), Outhash: text(r[2]), Created: time.UnixMicro(r[3].(int64)).UTC(), Extra: extraOf(r[4:])}
}

// All gives every row: first the tasks with a unihash, then the outputs.
func (d *DB) All(ctx context.Context) (rows []Row, err error) {
	err = d.f.Snapshot(ctx, func(c *litefile.Conn) error {
		if err := c.Rows(allUnihashes, nil, func(r []driver.Value) error { rows = append(rows, unihashRow(r)); return nil }); err != nil {
			return err
		}
		return c.Rows(allOuthashes, nil, func(r []driver.Value) error { rows = append(rows, outhashRow(r)); return nil })
	})
	return rows, err
}

func (d reader) importOurs(ctx context.Context, c *litefile.Conn, n *Imported) error {
	if err := d.importRows(ctx, c, allUnihashes, &n.Unihashes, unihashRow); err != nil {
		return err
	}
	if err := d.importRows(ctx, c, allOuthashes, &n.Outhashes, outhashRow); err != nil {
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
