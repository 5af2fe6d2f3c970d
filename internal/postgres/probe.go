package postgres

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/errs"
)

// Probe is one short question that is asked all the time: a connection of its own,
// and none of the work that other questions need. It is safe for use by many
// goroutines, one after the other.
type Probe struct {
	d       *DB
	query   string
	timeout time.Duration

	mu     sync.Mutex
	closed bool
	c      *pgxpool.Conn
}

// Probe makes a probe of a query without arguments whose first row has columns of
// 8 bytes: bigint, timestamptz. An answer takes no longer than timeout.
func (d *DB) Probe(query string, timeout time.Duration) *Probe {
	return &Probe{d: d, query: query, timeout: timeout}
}

// Ask asks, and reads the first row into values: numbers as they are, times as
// microseconds since 2000.
func (p *Probe) Ask(ctx context.Context, values ...*int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errs.E(errs.Unavailable, "the database "+p.d.name+" is closed")
	}
	err := p.ask(ctx, values)
	if err != nil {
		p.drop()
		if broken(err) && ctx.Err() == nil {
			p.d.pool.Reset() // the others are gone, too
			if err = p.ask(ctx, values); err != nil {
				p.drop()
			}
		}
	}
	return p.d.fault(err, "read")
}

func (p *Probe) ask(ctx context.Context, values []*int64) error {
	if p.c == nil {
		limit, cancel := context.WithTimeout(ctx, p.timeout)
		defer cancel()
		c, err := p.d.pool.Acquire(limit)
		if err != nil {
			return err
		}
		p.c = c
		if _, err := c.Conn().PgConn().Prepare(limit, "probe", p.query, nil); err != nil {
			return err
		}
	}
	c := p.c.Conn().PgConn()
	// A deadline of the socket, not a context that somebody has to watch.
	if err := c.Conn().SetDeadline(time.Now().Add(p.timeout)); err != nil {
		return err
	}
	r := c.ExecPrepared(context.Background(), "probe", nil, nil, []int16{1})
	rows, bad := 0, false
	for r.NextRow() {
		if rows++; rows > 1 {
			continue
		}
		row := r.Values()
		bad = len(row) != len(values)
		for i := 0; i < len(row) && !bad; i++ {
			if bad = len(row[i]) != 8; !bad {
				*values[i] = int64(binary.BigEndian.Uint64(row[i]))
			}
		}
	}
	if _, err := r.Close(); err != nil {
		return err
	}
	if bad || rows != 1 {
		return errs.E(errs.Conflict, "the tables in "+p.d.name+" have been changed", errs.Hint("start the server again"))
	}
	return nil
}

// Close gives the connection up; nobody is answered afterwards.
func (p *Probe) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.drop()
}

func (p *Probe) drop() {
	if p.c != nil {
		p.c.Conn().Close(context.Background())
		p.c.Release()
		p.c = nil
	}
}
