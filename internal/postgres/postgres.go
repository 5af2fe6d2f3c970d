package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"slipway/internal/errs"
)

// oldest is the first version of PostgreSQL that is taken, as
// server_version_num says it.
const oldest = 120000

// IsURL reports whether a database's name is the address of a PostgreSQL server,
// rather than a file.
func IsURL(name string) bool {
	scheme, _, ok := strings.Cut(name, "://")
	base, _, _ := strings.Cut(scheme, "+")
	return ok && (base == "postgresql" || base == "postgres")
}

// HasPassword reports whether an address has a password in it.
func HasPassword(name string) bool {
	u, err := url.Parse(name)
	if err != nil {
		return false
	}
	_, in := u.User.Password()
	return in || u.Query().Has("password")
}

// Options of a [DB].
type Options struct {
	ReadOnly       bool // no writes, no tables made: good for a standby
	Durable        bool // a commit is on the disk, whatever the server's default is
	User, Password string
	Conns          int // at once: 8
}

// Schema is a set of tables: its name, and the scripts that bring it from each
// version to the next.
type Schema struct {
	Name  string
	Steps []string
	// After runs once in the transaction of the first step.
	After func(context.Context, *Conn) error
}

// DB is a database. It is safe for use by many goroutines.
type DB struct {
	pool      *pgxpool.Pool
	name      string
	readOnly  bool
	long      chan struct{} // taken while a snapshot is open: connections for short work remain
	commits   atomic.Int64
	lastWrite atomic.Int64
}

// Open connects, and makes the tables or brings them up to date.
func Open(ctx context.Context, address string, o Options, schemas ...Schema) (*DB, error) {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok || !IsURL(address) {
		return nil, errs.E(errs.Invalid, fmt.Sprintf("database %q", scheme), errs.Hint("postgresql://USER@HOST:PORT/DATABASE"))
	}
	_, query, _ := strings.Cut(rest, "?")
	if _, err := url.ParseQuery(query); err != nil {
		return nil, errs.E(errs.Invalid, "the address of the database: its options are no URL's", errs.Hint("postgresql://USER@HOST:PORT/DATABASE?OPTION=VALUE"))
	}
	c, err := pgxpool.ParseConfig("postgresql://" + rest)
	if err != nil {
		// The driver's text would show what it did not understand, perhaps a password.
		return nil, errs.E(errs.Invalid, "the address of the database cannot be read", errs.Hint("postgresql://USER@HOST:PORT/DATABASE; letters that a URL does not take are written %XX"))
	}
	k := c.ConnConfig
	if o.User != "" {
		k.User = o.User
	}
	if o.Password != "" {
		k.Password = o.Password
	}
	if k.ConnectTimeout == 0 {
		k.ConnectTimeout = 5 * time.Second
	}
	if o.Conns == 0 {
		o.Conns = 8
	}
	c.MaxConns = int32(o.Conns)
	set := func(name, value string) {
		if _, ok := k.RuntimeParams[name]; !ok {
			k.RuntimeParams[name] = value
		}
	}
	set("application_name", "slipway")
	// All that is asked often is found by an index. A plan made while a table was
	// small must not stay when it is large.
	// (A plan that is turned off counts as dear, and dear ones would be compiled
	// each time: milliseconds for a row.)
	for _, p := range []string{"enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit"} {
		set(p, "off")
	}
	// A process that hangs with a lock is cut off; who waits says so before its
	// client gives up (30 s).
	set("idle_in_transaction_session_timeout", "15s")
	set("lock_timeout", "20s")
	if o.Durable {
		k.RuntimeParams["synchronous_commit"] = "on"
	}
	if o.ReadOnly {
		k.RuntimeParams["default_transaction_read_only"] = "on"
	}
	d := &DB{name: fmt.Sprintf("postgresql://%s@%s:%d/%s", k.User, k.Host, k.Port, k.Database), readOnly: o.ReadOnly, long: make(chan struct{}, max(1, o.Conns/2-1))}
	if d.pool, err = pgxpool.NewWithConfig(context.WithoutCancel(ctx), c); err != nil {
		return nil, d.fault(err, "open")
	}
	if err := d.prepare(ctx, schemas); err != nil {
		d.pool.Close()
		return nil, err
	}
	return d, nil
}

// Close ends all connections.
func (d *DB) Close() { d.pool.Close() }

// Name is the address, without a password.
func (d *DB) Name() string { return d.name }

// ReadOnly reports whether the database was opened for reading only.
func (d *DB) ReadOnly() bool { return d.readOnly }

// Writes counts the transactions written here, and says when the last one was.
func (d *DB) Writes() (n int64, last time.Time) {
	if t := d.lastWrite.Load(); t != 0 {
		last = time.Unix(0, t)
	}
	return d.commits.Load(), last
}

func tooOld(version int) error {
	if version >= oldest {
		return nil
	}
	return errs.E(errs.Conflict, fmt.Sprintf("PostgreSQL %d.%d is too old", version/10000, version%10000/100), errs.Hintf("use version %d or later", oldest/10000))
}

// prepare looks at the server, and at the tables.
func (d *DB) prepare(ctx context.Context, schemas []Schema) error {
	return d.Read(ctx, func(c *Conn) error {
		version, encoding := 0, ""
		if _, err := c.Row(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_encoding')`, nil, &version, &encoding); err != nil {
			return err
		}
		if err := tooOld(version); err != nil {
			return err
		}
		if encoding != "UTF8" {
			return errs.E(errs.Conflict, "the database "+d.name+" has the encoding "+encoding, errs.Hint("createdb --encoding UTF8 --template template0"))
		}
		for _, s := range schemas {
			if err := d.migrate(ctx, c, s); err != nil {
				return err
			}
		}
		return nil
	})
}

func (d *DB) migrate(ctx context.Context, c *Conn, s Schema) error {
	version := func() (have int, err error) {
		var there bool
		// Not to_regclass: it remembers a table that was not there a moment ago.
		if _, err := c.Row(ctx, `SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_tables WHERE tablename = 'slipway_schema' AND schemaname = ANY (current_schemas(false)))`, nil, &there); err != nil || !there {
			return 0, err
		}
		_, err = c.Row(ctx, `SELECT version FROM slipway_schema WHERE name = $1`, []any{s.Name}, &have)
		return have, err
	}
	have, err := version()
	switch {
	case err != nil || have == len(s.Steps):
		return err
	case have < len(s.Steps) && d.readOnly:
		return errs.E(errs.Conflict, "the database "+d.name+" has no tables of "+s.Name+", or those of an older program", errs.Hint("start a writing server on it once: they are made"))
	}
	if _, err := c.Exec(ctx, `BEGIN`); err != nil {
		return err
	}
	defer c.Exec(context.WithoutCancel(ctx), `ROLLBACK`) // does nothing after the commit
	if _, err := c.Exec(ctx, `SELECT pg_advisory_xact_lock(7236837011)`); err != nil {
		return err
	}
	if have, err = version(); err != nil || have == len(s.Steps) {
		return err // another process was faster
	}
	if have > len(s.Steps) {
		return errs.E(errs.Conflict, "the tables of "+s.Name+" in "+d.name+" are of a newer slipway", errs.Hint("use that program"))
	}
	if _, err := c.Exec(ctx, `CREATE TABLE IF NOT EXISTS slipway_schema (name text PRIMARY KEY, version int NOT NULL)`); err != nil {
		return err
	}
	for _, step := range s.Steps[have:] {
		if err := c.Script(ctx, step); err != nil {
			return err
		}
	}
	if have == 0 && s.After != nil {
		if err := s.After(ctx, c); err != nil {
			return err
		}
	}
	if _, err := c.Exec(ctx, `INSERT INTO slipway_schema VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET version = excluded.version`, s.Name, len(s.Steps)); err != nil {
		return err
	}
	_, err = c.Exec(ctx, `COMMIT`)
	return err
}

// fault says what to do about an error of the driver or of the server.
func (d *DB) fault(err error, doing string) error {
	var e *pgconn.PgError
	code := ""
	if errors.As(err, &e) {
		code = e.Code
	}
	what := doing + " the database " + d.name
	var ours *errs.Error
	// Not the error of a socket itself: who looks for those means its client's.
	plain := func() error { return errors.New(strings.Join(strings.Fields(err.Error()), " ")) }
	switch class := code[:min(2, len(code))]; {
	case err == nil:
		return nil
	case errors.As(err, &ours), errors.Is(err, context.Canceled):
		return err
	case class == "28":
		return errs.E(errs.Denied, what+": the login is refused", errs.Hint("give the user in the address, its password in $PGPASSWORD or a file that $PGPASSFILE names; see pg_hba.conf of the server"), err)
	case code == "3D000":
		return errs.E(errs.NotFound, what, errs.Hint("createdb makes it"), err)
	case code == "42501":
		return errs.E(errs.Denied, what, errs.Hint("the user needs the right to make and to use tables there: let it own the database"), err)
	case code == "25006":
		return errs.E(errs.Denied, what+": it is read-only", errs.Hint("a standby? give the address of the primary, or serve with --read-only"), err)
	case code == "53100":
		return errs.E(errs.Unavailable, what+": the disk of its server is full", errs.Hint("free space there; this server goes on by itself"), err)
	case class == "53":
		return errs.E(errs.Unavailable, what+": its server has no connection or no memory left", errs.Hint("see max_connections there"), err)
	case code == "55P03", code == "40001", code == "40P01":
		return errs.E(errs.Locked, what+": another process has held it for long", errs.Hint("see pg_stat_activity"), err)
	case code == "42P01", code == "42703":
		return errs.E(errs.Conflict, what+": its tables have been changed or removed", errs.Hint("start the server again"), err)
	case code == "" && silent(err), class == "57", class == "08":
		return errs.E(errs.Unavailable, what+": it does not answer", errs.Hint("is the database server up, and the address right? this server goes on by itself when it is"), plain())
	}
	return errs.Wrap(err, "%s", what)
}

// silent reports that the database's server cannot be reached, or does not answer.
func silent(err error) bool {
	return errors.As(err, new(net.Error)) || errors.As(err, new(*pgconn.ConnectError)) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, context.DeadlineExceeded) || pgconn.SafeToRetry(err) || strings.Contains(err.Error(), "conn closed")
}

// broken reports that the connection is gone, rather than that the server said no.
func broken(err error) bool {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code[:2] == "57" || e.Code[:2] == "08" || e.Code == "25P03" // shut down, cut off
	}
	var ours *errs.Error
	return err != nil && !errors.As(err, &ours) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}
