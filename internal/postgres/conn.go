package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Conn is one connection. Its methods take Go's types: integers, strings, []byte,
// bool, pointers to them for what may be null, and slices for arrays. It is used
// by one goroutine at a time.
type Conn struct {
	c     *pgx.Conn
	begun bool
	lazy  bool // BEGIN goes with what is sent first
	sent  bool // the last batch, with COMMIT, is on its way
	fail  error
}

func (c *Conn) note(err error) error {
	if err != nil {
		c.fail = err
	}
	return err
}

// Exec runs a statement and says how many rows it changed.
func (c *Conn) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	t, err := c.c.Exec(ctx, query, args...)
	return t.RowsAffected(), c.note(err)
}

// Script runs statements without arguments.
func (c *Conn) Script(ctx context.Context, script string) error {
	_, err := c.c.PgConn().Exec(ctx, script).ReadAll()
	return c.note(err)
}

// Scan reads the columns of a row into pointers.
type Scan func(dest ...any) error

// Rows runs a query and gives each row to each, which must not use the connection.
func (c *Conn) Rows(ctx context.Context, query string, args []any, each func(Scan) error) error {
	rows, err := c.c.Query(ctx, query, args...)
	if err != nil {
		return c.note(err)
	}
	return c.rows(rows, each)
}

func (c *Conn) rows(rows pgx.Rows, each func(Scan) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	rows.Close()
	return c.note(rows.Err())
}

// Row reads the first row of a query into dest; false: there is none.
func (c *Conn) Row(ctx context.Context, query string, args []any, dest ...any) (ok bool, err error) {
	rows, err := c.c.Query(ctx, query, args...)
	if err != nil {
		return false, c.note(err)
	}
	defer rows.Close()
	if rows.Next() {
		ok = true
		if err := rows.Scan(dest...); err != nil {
			return false, c.note(err)
		}
	}
	rows.Close()
	return ok, c.note(rows.Err())
}

// Batch is statements that are sent together, in one round trip. The first that
// fails ends it.
type Batch struct{ items []item }

type item struct {
	query string
	args  []any
	each  func(Scan) error
	done  func(changed int64)
}

// Exec adds a statement; done, which may be nil, hears how many rows it changed.
func (b *Batch) Exec(done func(changed int64), query string, args ...any) {
	b.items = append(b.items, item{query, args, nil, done})
}

// Rows adds a query.
func (b *Batch) Rows(each func(Scan) error, query string, args ...any) {
	b.items = append(b.items, item{query, args, each, nil})
}

// Send runs a batch.
func (c *Conn) Send(ctx context.Context, b *Batch) error { return c.send(ctx, b, false) }

func (c *Conn) send(ctx context.Context, b *Batch, last bool) error {
	var p pgx.Batch
	before := 0
	if c.lazy && !c.begun {
		p.Queue(`BEGIN`)
		before = 1
	}
	for _, it := range b.items {
		p.Queue(it.query, it.args...)
	}
	if last {
		p.Queue(`COMMIT`)
	}
	r := c.c.SendBatch(ctx, &p)
	err := func() error {
		for range before {
			if _, err := r.Exec(); err != nil {
				return c.note(err)
			}
			c.begun = true
		}
		for _, it := range b.items {
			if it.each != nil {
				rows, err := r.Query()
				if err != nil {
					return c.note(err)
				}
				if err := c.rows(rows, it.each); err != nil {
					return err
				}
				continue
			}
			t, err := r.Exec()
			if err != nil {
				return c.note(err)
			}
			if it.done != nil {
				it.done(t.RowsAffected())
			}
		}
		if last {
			if _, err := r.Exec(); err != nil {
				return c.note(err)
			}
			c.begun = false
		}
		return nil
	}()
	if cerr := r.Close(); err == nil {
		err = c.note(cerr)
	}
	return err
}

// Read runs fn with a connection for reading; each statement sees all that was
// committed before it. fn is called again when the connection was lost.
func (d *DB) Read(ctx context.Context, fn func(*Conn) error) error {
	return d.fault(d.use(ctx, func(c *Conn) (bool, error) { return true, fn(c) }), "read")
}

// use runs fn with a connection, and once more with another one when the first
// turns out to be lost and fn says that this is right.
func (d *DB) use(ctx context.Context, fn func(*Conn) (again bool, err error)) error {
	for try := 0; ; try++ {
		p, err := d.pool.Acquire(ctx)
		if err != nil {
			return err
		}
		c := &Conn{c: p.Conn()}
		again, err := fn(c)
		lost := broken(c.fail)
		if lost {
			// The others that wait in the pool are gone, too.
			p.Conn().Close(ctx)
			d.pool.Reset()
		}
		p.Release()
		if err == nil || !lost || !again || try == 1 || ctx.Err() != nil {
			return err
		}
	}
}

// Snapshot runs fn in one transaction that reads: all statements see the same
// state. Whole tables may be read in it.
func (d *DB) Snapshot(ctx context.Context, fn func(*Conn) error) error {
	select {
	case d.long <- struct{}{}:
		defer func() { <-d.long }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return d.Read(ctx, func(c *Conn) error {
		for _, s := range []string{`BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`, `SET LOCAL enable_seqscan = on`, `SET LOCAL enable_hashjoin = on`, `SET LOCAL idle_in_transaction_session_timeout = 0`} {
			if _, err := c.Exec(ctx, s); err != nil {
				return err
			}
		}
		defer c.c.Exec(context.WithoutCancel(ctx), `ROLLBACK`)
		return fn(c)
	})
}

// Write runs fn in a transaction. What fn returns goes to the server with the
// commit; what it sends first takes the beginning along: a transaction that looks
// and then writes is two round trips. repeatable says that running all of it twice
// does no harm; it is then tried again when the connection is lost in the middle
// of the commit, which is else an error of unknown outcome.
func (d *DB) Write(ctx context.Context, repeatable bool, fn func(*Conn) (*Batch, error)) error {
	err := d.use(ctx, func(c *Conn) (again bool, err error) {
		c.lazy = true
		last, err := fn(c)
		if err == nil {
			if last == nil {
				last = &Batch{}
			}
			c.sent = true
			err = c.send(ctx, last, true)
		}
		if c.begun {
			c.c.Exec(context.WithoutCancel(ctx), `ROLLBACK`)
		}
		return repeatable || !c.sent, err
	})
	if err == nil {
		d.commits.Add(1)
		d.lastWrite.Store(time.Now().UnixNano())
	}
	return d.fault(err, "write")
}

// Add adds what is in another batch.
func (b *Batch) Add(other *Batch) {
	if other != nil {
		b.items = append(b.items, other.items...)
	}
}
