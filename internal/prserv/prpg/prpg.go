// Package prpg is the database of a PR server on PostgreSQL: what prdb is on a
// file. Several server processes share it, and no two give one number to two
// outputs: who makes a number holds a lock for that (version, package
// architecture) until it is committed.
//
// When a method returns a number, it is on the disk of the database's server
// (synchronous_commit is asked for, whatever the default there is).
//
// The tables are described in docs/format/prserv-database.md.
package prpg

import (
	"context"
	"strconv"
	"time"

	"slipway/internal/errs"
	"slipway/internal/postgres"
	"slipway/internal/prserv/prdb"
)

// Schema is the tables of a PR database: BitBake's columns.
func Schema() postgres.Schema {
	return postgres.Schema{Name: "prserv", Steps: []string{`
		CREATE TABLE pr_main (version text NOT NULL, pkgarch text NOT NULL, checksum text NOT NULL, value text NOT NULL, PRIMARY KEY (version, pkgarch, checksum, value));
		CREATE TABLE pr_burned (version text NOT NULL, pkgarch text NOT NULL, value text NOT NULL, PRIMARY KEY (version, pkgarch));`}}
}

// DB is a PR database. It is safe for use by many goroutines.
type DB struct{ pg *postgres.DB }

// Options of a [DB].
type Options struct {
	ReadOnly       bool // numbers are given, and not kept
	User, Password string
}

// Open connects to the database at that address, and makes the tables.
func Open(ctx context.Context, address string, o Options) (*DB, error) {
	pg, err := postgres.Open(ctx, address, postgres.Options{ReadOnly: o.ReadOnly, User: o.User, Password: o.Password, Durable: true}, Schema())
	if err != nil {
		return nil, err
	}
	return &DB{pg}, nil
}

// Close ends the connections.
func (d *DB) Close() error {
	d.pg.Close()
	return nil
}

// Name is the database's address, without its password.
func (d *DB) Name() string { return d.pg.Name() }

// Writes counts the transactions that were written, and says when the last one was.
func (d *DB) Writes() (int64, time.Time) { return d.pg.Writes() }

// timeout bounds what a client waits for: it waits for 30 s.
const timeout = 25 * time.Second

// look asks what is known of a (version, pkgarch), and of a checksum of it.
func look(k *prdb.Known, version, pkgarch, checksum string) *postgres.Batch {
	*k = prdb.Known{}
	var b postgres.Batch
	b.Rows(func(scan postgres.Scan) error {
		var sum, value string
		err := scan(&sum, &value)
		k.Add(value, sum == checksum)
		return err
	}, `SELECT checksum, value FROM pr_main WHERE version = $1 AND pkgarch = $2`, version, pkgarch)
	b.Rows(func(scan postgres.Scan) error {
		var value string
		err := scan(&value)
		k.Burn(value)
		return err
	}, `SELECT value FROM pr_burned WHERE version = $1 AND pkgarch = $2`, version, pkgarch)
	return &b
}

func (d *DB) read(ctx context.Context, version, pkgarch, checksum string) (k prdb.Known, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err = d.pg.Read(ctx, func(c *postgres.Conn) error { return c.Send(ctx, look(&k, version, pkgarch, checksum)) })
	return k, err
}

// locked runs fn on what is known, while nobody else makes a number for that
// (version, pkgarch), and stores the value that it gives; "" for none.
func (d *DB) locked(ctx context.Context, version, pkgarch, checksum string, fn func(prdb.Known) (value string, burn bool, err error)) error {
	if d.pg.ReadOnly() {
		return errs.E(errs.Denied, "the database "+d.Name()+" is open for reading only")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// Done twice it gives the same number: the checksum has it the second time. (A
	// burned number stays burned.)
	return d.pg.Write(ctx, true, func(c *postgres.Conn) (*postgres.Batch, error) {
		var k prdb.Known
		b := &postgres.Batch{}
		lock(b, version, pkgarch)
		b.Add(look(&k, version, pkgarch, checksum))
		if err := c.Send(ctx, b); err != nil {
			return nil, err
		}
		value, burn, err := fn(k)
		if err != nil || value == "" {
			return nil, err
		}
		last := &postgres.Batch{}
		if burn {
			last.Exec(nil, `INSERT INTO pr_burned VALUES ($1, $2, $3) ON CONFLICT (version, pkgarch) DO UPDATE SET value = excluded.value`, version, pkgarch, value)
		} else {
			last.Exec(nil, insert, version, pkgarch, checksum, value)
		}
		return last, nil
	})
}

const insert = `INSERT INTO pr_main VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`

// lock takes the lock of a (version, pkgarch) until the end of the transaction.
func lock(b *postgres.Batch, version, pkgarch string) {
	b.Rows(func(postgres.Scan) error { return nil }, `SELECT pg_advisory_xact_lock(hashtextextended($1 || E'\n' || $2, 7236837))::text`, version, pkgarch)
}

// Get gives the number of an output; see prdb.DB.
func (d *DB) Get(ctx context.Context, version, pkgarch, checksum string, history bool) (string, error) {
	k, err := d.read(ctx, version, pkgarch, checksum)
	if err != nil {
		return "", err
	}
	value, fresh := k.Choose(history)
	if !fresh || d.pg.ReadOnly() {
		return value, nil
	}
	err = d.locked(ctx, version, pkgarch, checksum, func(k prdb.Known) (string, bool, error) {
		if value, fresh = k.Choose(history); !fresh {
			return "", false, nil
		}
		return value, false, nil
	})
	if err != nil {
		return "", err
	}
	return value, nil
}

// Find gives the number that an output has, "" for none: with history the
// smallest, else the greatest.
func (d *DB) Find(ctx context.Context, version, pkgarch, checksum string, history bool) (string, error) {
	k, err := d.read(ctx, version, pkgarch, checksum)
	if history {
		return k.Least, err
	}
	return k.Most, err
}

// Max gives the greatest number of a version and architecture, "" for none.
func (d *DB) Max(ctx context.Context, version, pkgarch string) (string, error) {
	k, err := d.read(ctx, version, pkgarch, "")
	return k.Max, err
}

// Decide gives an output the number that fn makes of what is known, and stores
// it. Nothing changes between the two. fn may be called more than once.
func (d *DB) Decide(ctx context.Context, version, pkgarch, checksum string, fn func(prdb.Known) string) (value string, err error) {
	if d.pg.ReadOnly() {
		k, err := d.read(ctx, version, pkgarch, checksum)
		if err != nil {
			return "", err
		}
		return fn(k), nil
	}
	err = d.locked(ctx, version, pkgarch, checksum, func(k prdb.Known) (string, bool, error) {
		if value = fn(k); value == k.Most {
			return "", false, nil
		}
		return value, false, nil
	})
	if err != nil {
		return "", err
	}
	return value, nil
}

// Put stores rows as they are, unless they are there. A read-only database does not.
func (d *DB) Put(ctx context.Context, rows ...prdb.Row) error {
	if d.pg.ReadOnly() || len(rows) == 0 {
		return nil
	}
	var columns [4][]string
	for _, r := range rows {
		for i, v := range []string{r.Version, r.Pkgarch, r.Checksum, r.Value} {
			columns[i] = append(columns[i], v)
		}
	}
	return d.pg.Write(ctx, true, func(c *postgres.Conn) (*postgres.Batch, error) {
		// Whoever chooses a number for one of them meanwhile has it chosen, or sees
		// the rows: the locks are taken in one order, so that nobody waits for ever.
		b := &postgres.Batch{}
		b.Rows(func(postgres.Scan) error { return nil }, `SELECT count(pg_advisory_xact_lock(k)) FROM (SELECT DISTINCT hashtextextended(v || E'\n' || p, 7236837) AS k FROM unnest($1::text[], $2::text[]) AS i(v, p) ORDER BY 1) AS keys`, columns[0], columns[1])
		if err := c.Send(ctx, b); err != nil {
			return nil, err
		}
		last := &postgres.Batch{}
		last.Exec(nil, `INSERT INTO pr_main SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) ON CONFLICT DO NOTHING`, columns[0], columns[1], columns[2], columns[3])
		return last, nil
	})
}

// Rows gives all rows that match; "" matches anything. Without history only those
// with the greatest number of their version and architecture.
func (d *DB) Rows(ctx context.Context, version, pkgarch, checksum string, history bool) (rows []prdb.Row, err error) {
	err = d.pg.Snapshot(ctx, func(c *postgres.Conn) error {
		rows = nil
		return c.Rows(ctx, `SELECT version, pkgarch, checksum, value FROM pr_main WHERE ($1 = '' OR version = $1) AND ($2 = '' OR pkgarch = $2)`, []any{version, pkgarch}, func(scan postgres.Scan) error {
			var r prdb.Row
			err := scan(&r.Version, &r.Pkgarch, &r.Checksum, &r.Value)
			rows = append(rows, r)
			return err
		})
	})
	return prdb.Select(rows, checksum, history), err
}

// Bump raises the numbers of a recipe; see prdb.DB.
func (d *DB) Bump(ctx context.Context, recipe string) (made []prdb.Row, err error) {
	rows, err := d.Rows(ctx, "", "", "", true)
	if err != nil {
		return nil, err
	}
	seen := map[[2]string]bool{}
	for _, r := range rows {
		k := [2]string{r.Version, r.Pkgarch}
		if seen[k] || !prdb.IsRecipe(r.Version, recipe) {
			continue
		}
		seen[k] = true
		r.Checksum = prdb.BumpChecksum
		if r.Value, err = d.raise(ctx, r); err != nil {
			return made, err
		}
		made = append(made, r)
	}
	if made == nil {
		err = prdb.NoRecipe(recipe)
	}
	return made, err
}

// raise stores a number above all that there are, for the checksum of r.
func (d *DB) raise(ctx context.Context, r prdb.Row) (value string, err error) {
	err = d.locked(ctx, r.Version, r.Pkgarch, r.Checksum, func(k prdb.Known) (string, bool, error) {
		value = k.Next()
		return value, false, nil
	})
	return value, err
}

// Reserve gives a whole number above floor and above all that were ever given for
// that version and architecture, and burns it.
func (d *DB) Reserve(ctx context.Context, version, pkgarch string, floor int) (n int, err error) {
	err = d.locked(ctx, version, pkgarch, "", func(k prdb.Known) (string, bool, error) {
		if n, err = k.Above(floor, version, pkgarch); err != nil {
			return "", false, err
		}
		return strconv.Itoa(n), true, nil
	})
	return n, err
}

// Import adds the rows of a database file of BitBake's server, of any version, or
// of ours, and says how many it read.
func (d *DB) Import(ctx context.Context, path string) (int64, error) {
	return prdb.Read(ctx, path, d.Put)
}

// Export writes all rows to a new file that BitBake 2.10 and later reads, and ours.
func (d *DB) Export(ctx context.Context, path string) (int64, error) {
	rows, err := d.Rows(ctx, "", "", "", true)
	if err != nil {
		return 0, err
	}
	return prdb.WriteBitBake(ctx, path, rows)
}
