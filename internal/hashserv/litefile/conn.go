package litefile

import (
	"context"
	"database/sql/driver"
	"io"
	"net/url"

	"modernc.org/sqlite"
)

// Conn is one connection to a file, with its statements prepared once. It is used
// by one goroutine at a time. Arguments are nil, int64, string and []byte (and
// int, bool); so are the values of rows (int64, string, []byte, float64, nil).
type Conn struct {
	c     driver.Conn
	path  string
	stmts map[string]driver.Stmt
	dest  []driver.Value
	args  []driver.NamedValue
}

var drv = &sqlite.Driver{}

func connect(path, params string) (*Conn, error) {
	u := url.URL{Scheme: "file", Path: path, RawQuery: params}
	c, err := drv.Open(u.String())
	if err != nil {
		return nil, fault(err, "open", path)
	}
	return &Conn{c: c, path: path, stmts: map[string]driver.Stmt{}}, nil
}

func (c *Conn) close() error {
	for _, s := range c.stmts {
		s.Close()
	}
	c.stmts = nil
	return fault(c.c.Close(), "close", c.path)
}

// maxStmts bounds the statements that stay prepared.
const maxStmts = 100

func (c *Conn) stmt(query string) (driver.Stmt, error) {
	if s, ok := c.stmts[query]; ok {
		return s, nil
	}
	s, err := c.c.Prepare(query)
	if err != nil {
		return nil, fault(err, "use", c.path)
	}
	if len(c.stmts) >= maxStmts {
		for q, old := range c.stmts {
			old.Close()
			delete(c.stmts, q)
			break
		}
	}
	c.stmts[query] = s
	return s, nil
}

func (c *Conn) values(args []any) []driver.NamedValue {
	c.args = c.args[:0]
	for i, a := range args {
		switch v := a.(type) {
		case int:
			a = int64(v)
		case bool:
			if a = int64(0); v {
				a = int64(1)
			}
		}
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	return c.args
}

// never is a context without an end: with it the driver needs no goroutine that
// watches over each statement.
var never = context.Background()

// Exec runs a statement and says how many rows it changed, and the last rowid.
func (c *Conn) Exec(query string, args ...any) (changed, rowid int64, err error) {
	s, err := c.stmt(query)
	if err != nil {
		return 0, 0, err
	}
	r, err := s.(driver.StmtExecContext).ExecContext(never, c.values(args))
	if err != nil {
		return 0, 0, fault(err, "write", c.path)
	}
	changed, _ = r.RowsAffected()
	rowid, _ = r.LastInsertId()
	return changed, rowid, nil
}

// Script runs statements that are not kept.
func (c *Conn) Script(script string) error {
	s, err := c.c.Prepare(script)
	if err != nil {
		return fault(err, "use", c.path)
	}
	defer s.Close()
	_, err = s.(driver.StmtExecContext).ExecContext(never, nil)
	return fault(err, "write", c.path)
}

// Rows runs a query and gives each row to each, whose slice is valid during the
// call. each must not use the connection.
func (c *Conn) Rows(query string, args []any, each func(row []driver.Value) error) error {
	s, err := c.stmt(query)
	if err != nil {
		return err
	}
	rows, err := s.(driver.StmtQueryContext).QueryContext(never, c.values(args))
	if err != nil {
		return fault(err, "read", c.path)
	}
	defer rows.Close()
	n := len(rows.Columns())
	if cap(c.dest) < n {
		c.dest = make([]driver.Value, n)
	}
	dest := c.dest[:n]
	for {
		switch err := rows.Next(dest); err {
		case nil:
			if err := each(dest); err != nil {
				return err
			}
		case io.EOF:
			return nil
		default:
			return fault(err, "read", c.path)
		}
	}
}

// Row gives the first row of a query, nil when there is none.
func (c *Conn) Row(query string, args ...any) ([]driver.Value, error) {
	var out []driver.Value
	err := c.Rows(query, args, func(row []driver.Value) error {
		out = append(out, row...)
		return io.EOF
	})
	if err == io.EOF {
		err = nil
	}
	return out, err
}

// Int gives the first value of a query's first row as a number, 0 without one.
func (c *Conn) Int(query string, args ...any) (int64, error) {
	row, err := c.Row(query, args...)
	if err != nil || len(row) == 0 {
		return 0, err
	}
	n, _ := row[0].(int64)
	return n, nil
}

// HasTable reports whether a table of that name exists.
func (c *Conn) HasTable(name string) (bool, error) {
	n, err := c.Int(`SELECT count(*) FROM sqlite_master WHERE type='table' AND name=?`, name)
	return n > 0, err
}
