package hashpg

import (
	"bytes"
	"context"
	"encoding/hex"
	"sync"
	"time"

	"slipway/internal/hashserv/hashdb"
	"slipway/internal/postgres"
)

func hexText(b []byte) string { return hex.EncodeToString(b) }

// fresh joins the questions for what is new: who comes while one is on its way
// waits for the next one, which began after it came.
type fresh struct {
	mu   sync.Mutex
	next *look // not on its way yet
	busy bool
}

type look struct {
	done chan struct{}
	err  error
}

// lookState is the question for what is new: of the last transaction, and whether
// the database is the one that it was.
const lookState = `SELECT seq, pg_postmaster_start_time() FROM hash_state`

// lookTime bounds it.
const lookTime = 20 * time.Second

// Ready looks at what other processes have written. The lookups that follow see
// at least what was committed before the call.
func (d *DB) Ready(ctx context.Context) error {
	f := &d.fresh
	f.mu.Lock()
	if f.next == nil {
		f.next = &look{done: make(chan struct{})}
	}
	l := f.next
	if f.busy {
		f.mu.Unlock()
		select {
		case <-l.done:
			return l.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.busy, f.next = true, nil
	f.mu.Unlock()
	d.look(l)
	d.nextLook()
	return l.err
}

// nextLook begins the look that others wait for.
func (d *DB) nextLook() {
	f := &d.fresh
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.next
	if f.busy = l != nil; l == nil {
		return
	}
	f.next = nil
	go func() {
		d.look(l)
		d.nextLook()
	}()
}

func (d *DB) look(l *look) {
	defer close(l.done)
	var seq, started int64
	if l.err = d.probe.Ask(d.ctx, &seq, &started); l.err != nil {
		return
	}
	d.apply.Lock()
	defer d.apply.Unlock()
	if seq == d.seq && started == d.started {
		return
	}
	ctx, cancel := context.WithTimeout(d.ctx, lookTime)
	defer cancel()
	switch {
	case started != d.started, seq < d.seq:
		// Restarted, another server, or put back from a backup: it may be another
		// database than the index is of.
		if l.err = d.beginAnew(ctx); l.err != nil {
			d.started = 0
		}
	case seq > d.seq:
		l.err = d.catchUp(ctx)
	}
}

// catchUp brings the index up to the journal; d.apply is held.
func (d *DB) catchUp(ctx context.Context) error {
	var entries [][]byte
	gap := false
	at := d.seq
	var methods int
	if err := d.pg.Read(ctx, func(c *postgres.Conn) error {
		entries, gap, at = nil, false, d.seq
		if err := c.Rows(ctx, `SELECT seq, changes FROM hash_journal WHERE seq > $1 ORDER BY seq`, []any{d.seq}, func(scan postgres.Scan) error {
			var seq int64
			var b []byte
			if err := scan(&seq, &b); err != nil {
				return err
			}
			if gap = gap || seq != at+1; !gap {
				entries, at = append(entries, b), seq
			}
			return nil
		}); err != nil {
			return err
		}
		if gap || len(entries) == 0 {
			return nil
		}
		if _, err := c.Row(ctx, `SELECT count(*) FROM hash_method`, nil, &methods); err != nil {
			return err
		}
		if methods == len(*d.methods.Load()) {
			return nil
		}
		return d.loadMethods(ctx, c)
	}); err != nil {
		return err
	}
	if gap || len(entries) == 0 { // the journal has been trimmed past us
		return d.beginAnew(ctx)
	}
	for _, b := range entries {
		list, err := hashdb.DecodeChanges(b)
		if err != nil {
			return err
		}
		d.change(list)
	}
	d.seq = at
	return nil
}

// change applies changes to the index; d.apply is held.
func (d *DB) change(list []hashdb.Change) {
	x := d.index.Load()
	for _, ch := range list {
		switch {
		case ch.Drop:
			x.Drop(ch.Method, ch.Task)
			if x.filling {
				x.gone[goneKey{ch.Method, ch.Task}] = true
			}
		case d.roomFor(x):
			x.Put(ch.Method, ch.Task, ch.Uni)
		}
	}
}

// roomFor reports whether the index may grow; when it may not, it is no longer
// complete.
func (d *DB) roomFor(x *memory) bool {
	if _, bytes := x.Size(); d.opts.IndexBytes > 0 && bytes < d.opts.IndexBytes {
		return true
	}
	x.complete.Store(false)
	return false
}

// beginAnew throws the index away, and fills another one behind; d.apply is held.
func (d *DB) beginAnew(ctx context.Context) error {
	x := &memory{MemIndex: hashdb.NewMemIndex(), filling: d.opts.IndexBytes > 0, gone: map[goneKey]bool{}}
	x.ctx, x.stop = context.WithCancel(d.ctx)
	var seq, started int64
	if err := d.pg.Read(ctx, func(c *postgres.Conn) error {
		if _, err := c.Row(ctx, `SELECT seq, (extract(epoch FROM pg_postmaster_start_time() - '2000-01-01 00:00:00+00'::timestamptz) * 1000000)::bigint FROM hash_state`, nil, &seq, &started); err != nil {
			return err
		}
		return d.loadMethods(ctx, c)
	}); err != nil {
		x.stop()
		return err
	}
	if old := d.index.Swap(x); old != nil {
		old.stop()
	}
	d.seq, d.started = seq, started
	if x.filling {
		d.wg.Go(func() { d.fill(x) })
	}
	return nil
}

// fillChunk is how many rows are put into the index under the lock that orders
// its changes: others wait for so long.
const fillChunk = 1000

// fill reads all rows into x, again after an error, until it is done or another
// index is current.
func (d *DB) fill(x *memory) {
	for pause := 100 * time.Millisecond; x.ctx.Err() == nil; pause = min(2*pause, 10*time.Second) {
		full := false
		err := d.pg.Snapshot(x.ctx, func(c *postgres.Conn) error {
			var chunk []hashdb.Change
			flush := func() bool {
				d.apply.Lock()
				defer d.apply.Unlock()
				for _, r := range chunk {
					if full = !d.roomFor(x); full {
						return false
					}
					if !x.gone[goneKey{r.Method, r.Task}] {
						x.Put(r.Method, r.Task, r.Uni)
					}
				}
				chunk = chunk[:0]
				return true
			}
			var method uint32
			var task, uni []byte
			err := c.Rows(x.ctx, `SELECT method, task, uni FROM hash_unihash`, nil, func(scan postgres.Scan) error {
				if err := scan(&method, &task, &uni); err != nil {
					return err
				}
				r := hashdb.Change{Method: method, Task: text(task)}
				if r.Uni = r.Task; uni != nil {
					r.Uni = text(uni)
				}
				if chunk = append(chunk, r); len(chunk) == fillChunk && !flush() {
					return context.Canceled
				}
				return nil
			})
			if err == nil {
				flush()
			}
			return err
		})
		d.apply.Lock()
		if err == nil || full {
			// The snapshot was taken when the index had the journal up to some point
			// before: what came in between went into the index on its own.
			x.complete.Store(!full)
			x.filling, x.gone = false, nil
			d.apply.Unlock()
			return
		}
		d.apply.Unlock()
		select {
		case <-time.After(pause):
		case <-x.ctx.Done():
		}
	}
}

// Unihash gives the unihash of a task, "" when it is unknown.
func (d *DB) Unihash(ctx context.Context, method, task string) (string, error) {
	if d.index.Load().complete.Load() {
		if err := d.Ready(ctx); err != nil {
			return "", err
		}
		if x := d.index.Load(); x.complete.Load() {
			m, ok := (*d.methods.Load())[method]
			if !ok {
				return "", nil
			}
			b, _ := x.AppendUnihash(nil, m, []byte(task))
			return string(b), nil
		}
	}
	return d.ask(ctx, method, task)
}

// ask gives the unihash of a task from the tables.
func (d *DB) ask(ctx context.Context, method, task string) (uni string, err error) {
	err = d.pg.Read(ctx, func(c *postgres.Conn) error {
		var b []byte
		_, err := c.Row(ctx, `SELECT coalesce(uni, task) FROM hash_unihash WHERE method = (SELECT id FROM hash_method WHERE name = $1) AND task = $2`, []any{method, stored(task)}, &b)
		uni = text(b)
		return err
	})
	return uni, err
}

// AppendUnihash appends the unihash of a task to dst, and says whether the index
// has it. It sees what others had written at the last [DB.Ready]. What the index
// does not have, [DB.Unihashes] knows.
func (d *DB) AppendUnihash(_ context.Context, dst, method, task []byte) ([]byte, bool, error) {
	m, ok := (*d.methods.Load())[string(method)]
	if !ok {
		return dst, false, nil
	}
	dst, ok = d.index.Load().AppendUnihash(dst, m, task)
	return dst, ok, nil
}

// Exists reports whether the index has a unihash, of any method; see AppendUnihash.
func (d *DB) Exists(_ context.Context, uni []byte) (bool, error) {
	return d.index.Load().Exists(uni), nil
}

// Unihashes gives the unihash of each line METHOD TASKHASH that is not in the
// index, nil for none: one question for all of them, and none when the index is
// complete.
func (d *DB) Unihashes(ctx context.Context, lines [][]byte) ([][]byte, error) {
	answers := make([][]byte, len(lines))
	if x := d.index.Load(); x.complete.Load() {
		// It may have become complete since the first look.
		for i, l := range lines {
			if w := bytes.Fields(l); len(w) == 2 {
				if m, ok := (*d.methods.Load())[string(w[0])]; ok {
					if u, ok := x.AppendUnihash(nil, m, w[1]); ok {
						answers[i] = u
					}
				}
			}
		}
		return answers, nil
	}
	methods, tasks := make([]string, len(lines)), make([][]byte, len(lines))
	for i, l := range lines {
		if w := bytes.Fields(l); len(w) == 2 {
			methods[i], tasks[i] = string(w[0]), stored(string(w[1]))
		}
	}
	return answers, d.pg.Read(ctx, func(c *postgres.Conn) error {
		return c.Rows(ctx, `SELECT i.n, coalesce(u.uni, u.task) FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS i(method, task, n)
			JOIN hash_method m ON m.name = i.method JOIN hash_unihash u ON u.method = m.id AND u.task = i.task`, []any{methods, tasks}, func(scan postgres.Scan) error {
			var n int
			var b []byte
			err := scan(&n, &b)
			if err == nil {
				answers[n-1] = []byte(text(b))
			}
			return err
		})
	})
}

// Exist says "true" for each unihash that is known, nil for the others; see
// Unihashes.
func (d *DB) Exist(ctx context.Context, unis [][]byte) ([][]byte, error) {
	answers := make([][]byte, len(unis))
	if x := d.index.Load(); x.complete.Load() {
		for i, u := range unis {
			if x.Exists(u) {
				answers[i] = []byte("true")
			}
		}
		return answers, nil
	}
	list := make([][]byte, len(unis))
	for i, u := range unis {
		list[i] = stored(string(u))
	}
	return answers, d.pg.Read(ctx, func(c *postgres.Conn) error {
		return c.Rows(ctx, `SELECT i.n FROM unnest($1::bytea[]) WITH ORDINALITY AS i(uni, n)
			LEFT JOIN LATERAL (SELECT true AS known FROM hash_unihash u WHERE u.uni = i.uni LIMIT 1) a ON true
			LEFT JOIN LATERAL (SELECT true AS known FROM hash_method m JOIN hash_unihash u ON u.method = m.id AND u.task = i.uni AND u.uni IS NULL LIMIT 1) b ON true
			WHERE a.known OR b.known`, []any{list}, func(scan postgres.Scan) error {
			var n int
			err := scan(&n)
			if err == nil {
				answers[n-1] = []byte("true")
			}
			return err
		})
	})
}
