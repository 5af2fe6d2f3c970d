package litefile

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"slipway/internal/errs"
)

// Options of a [File]. The zero value is right for a hash equivalence server.
type Options struct {
	ReadOnly bool // no writes; the file must exist
	Full     bool // a commit survives a power cut, for an fsync each
	Readers  int  // connections for reading at once: 4
}

// Schema is a set of tables in a file: its name, and the scripts that bring it
// from each version to the next. Several can share a file.
type Schema struct {
	Name  string
	Steps []string
	// After runs once in the transaction of the first step, to take over tables
	// that BitBake's server made.
	After func(*Conn) error
}

// File is one open database file. It is safe for use by many goroutines.
type File struct {
	path    string
	opts    Options
	counter *counter

	readers chan *Conn
	ops     chan *op
	quit    chan struct{}
	done    chan struct{}
	w       *Conn
	closing sync.Once
	err     error

	// expect is what the counter reads while nobody else has written: its low
	// half, or one more while pending (its high half is 1) is our own commit.
	expect  atomic.Uint64
	mu      sync.Mutex // serialises changes of expect
	foreign []func(*Conn) error

	crowd     int // how many wrote at once a moment ago
	check     checkpoints
	lastWrite atomic.Int64
	commits   atomic.Int64
}

// Open opens or makes the file at path, with these schemas. An unknown newer
// version is refused.
func Open(path string, o Options, schemas ...Schema) (*File, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, errs.Wrap(err, "open %s", path)
	}
	if o.Readers <= 0 {
		o.Readers = 4
	}
	if err := local(filepath.Dir(abs)); err != nil {
		return nil, err
	}
	if o.ReadOnly {
		if _, err := os.Stat(abs); err != nil {
			return nil, errs.E(errs.NotFound, "database "+abs, errs.Hint("a read-only server needs one that exists: start a writing server on it once"), err)
		}
	}
	f := &File{path: abs, opts: o, check: checkpoints{at: checkAt, done: make(chan bool, 1)}, readers: make(chan *Conn, o.Readers), ops: make(chan *op, 1024), quit: make(chan struct{}), done: make(chan struct{})}
	sync := "NORMAL"
	if o.Full {
		sync = "FULL"
	}
	// A read-only server opens the file for writing too: WAL needs its index. It
	// never starts a transaction that writes.
	if f.w, err = connect(abs, "_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous("+sync+")&_pragma=wal_autocheckpoint(0)&_pragma=cache_size(-32768)&_pragma=temp_store(MEMORY)"); err != nil {
		return nil, err
	}
	for _, s := range schemas {
		if err := f.migrate(s); err != nil {
			f.w.close()
			return nil, err
		}
	}
	// A read makes SQLite map the WAL index, so that the counter can be too.
	if _, err := f.w.Int(`SELECT count(*) FROM sqlite_master`); err != nil {
		f.w.close()
		return nil, err
	}
	if f.counter, err = openCounter(abs + "-shm"); err != nil {
		f.w.close()
		return nil, err
	}
	f.expect.Store(uint64(f.counter.load()))
	for range o.Readers {
		f.readers <- nil
	}
	go f.writer()
	return f, nil
}

// Path is the file's absolute path.
func (f *File) Path() string { return f.path }

// Commits counts transactions that this File has committed.
func (f *File) Commits() int64 { return f.commits.Load() }

// LastWrite is when this File last committed; zero when it has not.
func (f *File) LastWrite() time.Time {
	if n := f.lastWrite.Load(); n != 0 {
		return time.Unix(0, n)
	}
	return time.Time{}
}

// Close finishes what is queued, moves the WAL into the file and closes it.
func (f *File) Close() error {
	f.closing.Do(func() {
		close(f.quit)
		<-f.done
		for range f.opts.Readers {
			if c := <-f.readers; c != nil {
				c.close()
			}
		}
		f.w.Script(`PRAGMA wal_checkpoint(PASSIVE)`)
		f.err = f.w.close()
		f.counter.close()
	})
	return f.err
}

// Read runs fn with a connection for reading. Each statement sees all that was
// committed before it.
func (f *File) Read(ctx context.Context, fn func(*Conn) error) error {
	var c *Conn
	select {
	case c = <-f.readers:
	case <-ctx.Done():
		return ctx.Err()
	case <-f.quit:
		return errClosed(f.path)
	}
	defer func() { f.readers <- c }()
	if c == nil {
		var err error
		if c, err = connect(f.path, "_pragma=busy_timeout(10000)&_pragma=query_only(1)&_pragma=cache_size(-8192)&_pragma=temp_store(MEMORY)"); err != nil {
			return err
		}
	}
	return fn(c)
}

// Snapshot is Read in one transaction: all statements see the same state.
func (f *File) Snapshot(ctx context.Context, fn func(*Conn) error) error {
	return f.Read(ctx, func(c *Conn) error {
		if err := c.Script(`BEGIN`); err != nil {
			return err
		}
		defer c.Script(`ROLLBACK`)
		return fn(c)
	})
}

func errClosed(path string) error {
	return errs.E(errs.Unavailable, "the database "+path+" is closed")
}

// OnForeign has fn called, at the beginning of a writing transaction and with its
// connection, when somebody else has committed since [File.Settle]. It is set
// before the first write.
func (f *File) OnForeign(fn func(*Conn) error) { f.foreign = append(f.foreign, fn) }

// Fresh reports that nobody else has committed since the last Settle.
func (f *File) Fresh() bool {
	v := f.counter.load()
	e := f.expect.Load()
	return v == uint32(e) || e>>32 != 0 && v == uint32(e)+1
}

// Settle runs fn, which looks at all that others have committed, unless the file
// is fresh; afterwards it is. One runs at a time.
func (f *File) Settle(fn func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.Fresh() {
		return nil
	}
	v := f.counter.load()
	if err := fn(); err != nil {
		return err
	}
	f.expect.Store(f.expect.Load()>>32<<32 | uint64(v))
	return nil
}

// migrate brings one schema up to date, in one transaction.
func (f *File) migrate(s Schema) error {
	c := f.w
	version := func() (int, error) {
		if ok, err := c.HasTable("slipway"); err != nil || !ok {
			return 0, err
		}
		n, err := c.Int(`SELECT version FROM slipway WHERE name=?`, s.Name)
		return int(n), err
	}
	have, err := version()
	if err != nil || have == len(s.Steps) {
		return err
	}
	if f.opts.ReadOnly && have < len(s.Steps) {
		return errs.E(errs.Conflict, "the database "+f.path+" is of an older program, or BitBake's", errs.Hint("start a writing server on it once: it is brought up to date"))
	}
	if err := c.Script(`BEGIN IMMEDIATE`); err != nil {
		return err
	}
	defer c.Script(`ROLLBACK`) // fails without harm after the commit
	if have, err = version(); err != nil || have == len(s.Steps) {
		return err // another process was faster
	}
	if have > len(s.Steps) {
		return errs.E(errs.Conflict, "the database "+f.path+" is of a newer slipway", errs.Hint("use that program"))
	}
	if err := c.Script(`CREATE TABLE IF NOT EXISTS slipway (name TEXT PRIMARY KEY, version INTEGER NOT NULL)`); err != nil {
		return err
	}
	for _, step := range s.Steps[have:] {
		if err := c.Script(step); err != nil {
			return err
		}
	}
	if have == 0 && s.After != nil {
		if err := s.After(c); err != nil {
			return errs.Wrap(err, "take over BitBake's database %s", f.path)
		}
	}
	if _, _, err := c.Exec(`INSERT OR REPLACE INTO slipway VALUES (?, ?)`, s.Name, len(s.Steps)); err != nil {
		return err
	}
	return c.Script(`COMMIT`)
}

// ReadOnly reports whether the file was opened for reading only.
func (f *File) ReadOnly() bool { return f.opts.ReadOnly }

// ReadSource runs fn on another SQLite file, in one transaction, without changing it.
func ReadSource(path string, fn func(*Conn) error) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return errs.Wrap(err, "open %s", path)
	}
	if _, err := os.Stat(abs); err != nil {
		return errs.E(errs.NotFound, "database "+path, err)
	}
	c, err := connect(abs, "mode=ro&_pragma=busy_timeout(10000)&_pragma=query_only(1)")
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.Script(`BEGIN`); err != nil {
		return err
	}
	defer c.Script(`ROLLBACK`)
	return fn(c)
}

// CopyTo writes the file as it is at one moment to a new file. Others go on
// writing meanwhile.
func (f *File) CopyTo(path string) error {
	c, err := connect(f.path, "_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	defer c.close()
	_, _, err = c.Exec(`VACUUM INTO ?`, path)
	return err
}

// ReadAlone is Read with a connection of its own: for long work that must not
// wait for others, nor they for it.
func (f *File) ReadAlone(fn func(*Conn) error) error {
	c, err := connect(f.path, "_pragma=busy_timeout(10000)&_pragma=query_only(1)&_pragma=cache_size(-8192)")
	if err != nil {
		return err
	}
	defer c.close()
	return fn(c)
}
