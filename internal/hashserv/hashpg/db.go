package hashpg

import (
	"context"
	_ "embed"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"slipway/internal/hashserv/hashdb"
	"slipway/internal/postgres"
)

//go:embed schema.sql
var schema string

// Schema is the tables of a hash equivalence database.
func Schema() postgres.Schema {
	return postgres.Schema{Name: "hashserv", Steps: []string{schema}, After: takeOver}
}

// Options of a [DB].
type Options struct {
	ReadOnly       bool
	User, Password string
	IndexBytes     int64            // memory of the index: 1 GiB; negative: none
	Now            func() time.Time // nil: the machine's
}

// DB is a hash equivalence database. It is safe for use by many goroutines.
type DB struct {
	pg   *postgres.DB
	opts Options
	ctx  context.Context
	end  context.CancelFunc
	wg   sync.WaitGroup

	methods atomic.Pointer[map[string]uint32]
	index   atomic.Pointer[memory]
	fresh   fresh
	apply   sync.Mutex // orders changes of the index
	seq     int64      // of the journal, applied to the index
	started int64      // when the database server was started
	probe   *postgres.Probe

	ops   chan *op
	clock sync.Mutex
	last  int64 // creation time given last

	sweeping sync.Mutex
	sweep    *sweepRun
}

// memory is the index at one time.
type memory struct {
	hashdb.MemIndex
	complete atomic.Bool // it holds all rows
	ctx      context.Context
	stop     context.CancelFunc // of what fills it

	// While it is being filled: rows that went meanwhile, which the filling
	// reader, who sees an older state, must not bring back.
	filling bool
	gone    map[goneKey]bool
}

type goneKey struct {
	method uint32
	task   string
}

// Open connects to the database at that address, and makes the tables.
func Open(ctx context.Context, address string, o Options) (*DB, error) {
	if o.IndexBytes == 0 {
		o.IndexBytes = 1 << 30
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	pg, err := postgres.Open(ctx, address, postgres.Options{ReadOnly: o.ReadOnly, User: o.User, Password: o.Password}, Schema())
	if err != nil {
		return nil, err
	}
	d := &DB{pg: pg, opts: o, ops: make(chan *op, 1024), probe: pg.Probe(lookState, lookTime)}
	d.ctx, d.end = context.WithCancel(context.Background())
	d.methods.Store(&map[string]uint32{})
	d.apply.Lock()
	err = d.beginAnew(ctx)
	d.apply.Unlock()
	if err != nil {
		d.Close()
		return nil, err
	}
	if !o.ReadOnly {
		d.wg.Go(d.writer)
		if err := d.resumeSweep(ctx); err != nil {
			d.Close()
			return nil, err
		}
	}
	return d, nil
}

// Close ends what runs behind, and the connections.
func (d *DB) Close() error {
	d.end()
	d.wg.Wait()
	d.probe.Close()
	d.pg.Close()
	return nil
}

// Name is the database's address, without its password.
func (d *DB) Name() string { return d.pg.Name() }

// Writes counts the transactions that were written, and says when the last one was.
func (d *DB) Writes() (int64, time.Time) { return d.pg.Writes() }

// Index gives the state of the index.
func (d *DB) Index() hashdb.IndexState {
	x := d.index.Load()
	rows, bytes := x.Size()
	return hashdb.IndexState{Rows: rows, Bytes: bytes, Complete: x.complete.Load()}
}

// WaitIndex waits until the index is complete, or ctx ends.
func (d *DB) WaitIndex(ctx context.Context) {
	for !d.index.Load().complete.Load() && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
}

func (d *DB) loadMethods(ctx context.Context, c *postgres.Conn) error {
	m := map[string]uint32{}
	err := c.Rows(ctx, `SELECT id, name FROM hash_method`, nil, func(scan postgres.Scan) error {
		var id uint32
		var name string
		err := scan(&id, &name)
		m[name] = id
		return err
	})
	if err == nil {
		d.methods.Store(&m)
	}
	return err
}

// method gives the number of a method, a new one when need be. Numbers stay.
func (d *DB) method(ctx context.Context, name string) (uint32, error) {
	if id, ok := (*d.methods.Load())[name]; ok {
		return id, nil
	}
	var id uint32
	err := d.pg.Write(ctx, true, func(c *postgres.Conn) (*postgres.Batch, error) {
		var b postgres.Batch
		b.Exec(nil, `INSERT INTO hash_method (name) VALUES ($1) ON CONFLICT (name) DO NOTHING`, name)
		b.Rows(func(scan postgres.Scan) error { return scan(&id) }, `SELECT id FROM hash_method WHERE name = $1`, name)
		return &b, nil
	})
	if err != nil {
		return 0, err
	}
	d.apply.Lock()
	defer d.apply.Unlock()
	m := maps.Clone(*d.methods.Load())
	m[name] = id
	d.methods.Store(&m)
	return id, nil
}

// now gives a creation time, in microseconds, later than any before.
func (d *DB) now() int64 {
	d.clock.Lock()
	defer d.clock.Unlock()
	d.last = max(d.last+1, d.opts.Now().UnixMicro())
	return d.last
}

// stored gives the value of a hash in the tables; see schema.sql.
func stored(s string) []byte {
	if len(s) == 64 {
		if b, ok := hashdb.Unhex(s); ok {
			return b
		}
	}
	if len(s) >= 32 {
		return append([]byte{1}, s...)
	}
	return []byte(s)
}

// text is the hash of a stored value.
func text(b []byte) string {
	switch {
	case len(b) == 32:
		return hexText(b)
	case len(b) > 32:
		return string(b[1:])
	}
	return string(b)
}
