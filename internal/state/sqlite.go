package state

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"slipway/internal/errs"
)

//go:embed migrations/*.sql
var embedded embed.FS

// migrations are the steps from an empty database to the schema of this program;
// the schema after step i has version i+1.
var migrations = func() []string {
	names, _ := fs.Glob(embedded, "migrations/*.sql") // sorted
	texts := make([]string, len(names))
	for i, n := range names {
		b, _ := embedded.ReadFile(n)
		texts[i] = string(b)
	}
	return texts
}()

// db is a Store in one SQLite file.
type db struct {
	*sql.DB
	path  string
	clock func() time.Time
}

// Open opens the state in the file at path for reading and writing. It makes the
// file and its folder when they are absent, and brings an older schema up to
// date. now is the clock of Doc.Updated and Event.Time.
func Open(ctx context.Context, path string, now func() time.Time) (Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fault(err, "make the folder of", path)
	}
	s, err := open(path, "_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate", now)
	if err != nil {
		return nil, err
	}
	// Two that turn a new file into a WAL one at the same time: SQLite refuses one of
	// them at once, whatever its busy timeout is.
	for until := time.Now().Add(10 * time.Second); ; {
		err = s.migrate(ctx, migrations)
		if code(err) != codeBusy || time.Now().After(until) {
			break
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// open makes the pool; params are of the driver modernc.org/sqlite.
func open(path, params string, now func() time.Time) (*db, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, errs.Wrap(err, "open %s", path)
	}
	u := url.URL{Scheme: "file", Path: abs, RawQuery: "_pragma=busy_timeout(10000)&" + params}
	pool, err := sql.Open("sqlite", u.String())
	if err != nil {
		return nil, errs.Wrap(err, "open %s", path)
	}
	// One connection: SQLite has one writer anyway, and goroutines of one process
	// then queue here rather than poll for the lock of the file.
	pool.SetMaxOpenConns(1)
	return &db{pool, path, now}, nil
}

// version gives the version of the schema, 0 for an empty file.
func (s *db) version(ctx context.Context, q querier) (int, error) {
	var v int
	err := q.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_master WHERE name = 'schema_version'`).Scan(&v)
	if err == nil && v > 0 {
		err = q.QueryRowContext(ctx, `SELECT max(version) FROM schema_version`).Scan(&v)
	}
	return v, fault(err, "open", s.path)
}

type querier interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}

func (s *db) migrate(ctx context.Context, steps []string) error {
	v, err := s.version(ctx, s)
	if err != nil || v == len(steps) {
		return err
	}
	if v > len(steps) {
		return s.newer(v, len(steps))
	}
	return s.transact(ctx, "bring up to date", func(tx *sql.Tx) error {
		// Again, now that no other process can migrate.
		v, err := s.version(ctx, tx)
		if err != nil {
			return err
		}
		if v > len(steps) {
			return s.newer(v, len(steps))
		}
		if v == 0 {
			_, err = tx.ExecContext(ctx, `CREATE TABLE schema_version (version BIGINT NOT NULL PRIMARY KEY, applied BIGINT NOT NULL)`)
		}
		for ; err == nil && v < len(steps); v++ {
			if _, err = tx.ExecContext(ctx, steps[v]); err == nil {
				_, err = tx.ExecContext(ctx, `INSERT INTO schema_version (version, applied) VALUES ($1, $2)`, v+1, s.clock().UnixNano())
			}
		}
		return err
	})
}

func (s *db) newer(have, know int) error {
	return errs.E(errs.Invalid, fmt.Sprintf("%s was written by a newer Slipway (schema %d, this program knows up to %d)", s.path, have, know),
		errs.Hint("use the newer Slipway: what it wrote is not understood by this one, and nothing was changed"))
}

// transact runs f in a transaction that takes the write lock at its start.
func (s *db) transact(ctx context.Context, doing string, f func(*sql.Tx) error) error {
	tx, err := s.BeginTx(ctx, nil)
	if err != nil {
		return fault(err, doing, s.path)
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return fault(err, doing, s.path)
	}
	return fault(tx.Commit(), doing, s.path)
}

func (s *db) Get(ctx context.Context, kind, id string) (Doc, error) {
	d := Doc{Kind: kind, ID: id}
	var updated int64
	err := s.QueryRowContext(ctx, `SELECT rev, data, updated FROM documents WHERE kind = $1 AND id = $2`, kind, id).Scan(&d.Rev, &d.Data, &updated)
	if errors.Is(err, sql.ErrNoRows) {
		return Doc{}, absent(kind, id)
	}
	d.Updated = time.Unix(0, updated).UTC()
	return d, fault(err, "read", s.path)
}

func absent(kind, id string) error {
	return errs.E(errs.NotFound, "no "+kind+" "+id)
}

func (s *db) List(ctx context.Context, kind string) ([]Doc, error) {
	rows, err := s.QueryContext(ctx, `SELECT id, rev, data, updated FROM documents WHERE kind = $1`, kind)
	if err != nil {
		return nil, fault(err, "read", s.path)
	}
	defer rows.Close()
	var docs []Doc
	for rows.Next() {
		d := Doc{Kind: kind}
		var updated int64
		if err := rows.Scan(&d.ID, &d.Rev, &d.Data, &updated); err != nil {
			return nil, fault(err, "read", s.path)
		}
		d.Updated = time.Unix(0, updated).UTC()
		docs = append(docs, d)
	}
	if err := rows.Err(); err != nil {
		return nil, fault(err, "read", s.path)
	}
	slices.SortFunc(docs, func(a, b Doc) int { return natural(a.ID, b.ID) })
	return docs, nil
}

func (s *db) Events(ctx context.Context, after int64, limit int) ([]Event, error) {
	if limit <= 0 {
		limit = 1<<31 - 1
	}
	rows, err := s.QueryContext(ctx, `SELECT seq, at, kind, id, type, data FROM events WHERE seq > $1 ORDER BY seq LIMIT $2`, after, limit)
	if err != nil {
		return nil, fault(err, "read", s.path)
	}
	defer rows.Close()
	var events []Event
	for rows.Next() {
		var e Event
		var at int64
		if err := rows.Scan(&e.Seq, &at, &e.Kind, &e.ID, &e.Type, &e.Data); err != nil {
			return nil, fault(err, "read", s.path)
		}
		e.Time = time.Unix(0, at).UTC()
		events = append(events, e)
	}
	return events, fault(rows.Err(), "read", s.path)
}

func (s *db) Apply(ctx context.Context, puts []Put, events []NewEvent) error {
	docs, news, err := encodeAll(puts, events)
	if err != nil {
		return err
	}
	if len(puts)+len(events) == 0 {
		return nil
	}
	now := s.clock().UnixNano()
	return s.transact(ctx, "write", func(tx *sql.Tx) error {
		var conflicts errs.List
		for i, p := range puts {
			ok, err := put(ctx, tx, p, docs[i], now)
			if err != nil {
				return err
			}
			if !ok {
				conflicts = append(conflicts, s.conflict(ctx, tx, p))
			}
		}
		if err := conflicts.Err(); err != nil {
			return err
		}
		if len(events) == 0 {
			return nil
		}
		// Numbered here rather than by the database: without gaps, and in the order
		// of commits, so that "after" never skips one.
		var seq int64
		if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(seq), 0) FROM events`).Scan(&seq); err != nil {
			return err
		}
		for i, e := range events {
			seq++
			if _, err := tx.ExecContext(ctx, `INSERT INTO events (seq, at, kind, id, type, data) VALUES ($1, $2, $3, $4, $5, $6)`, seq, now, e.Kind, e.ID, e.Type, news[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// put writes one document and reports whether its revision was the expected one.
func put(ctx context.Context, tx *sql.Tx, p Put, data string, now int64) (bool, error) {
	var res sql.Result
	var err error
	if p.IfRev == 0 {
		res, err = tx.ExecContext(ctx, `INSERT INTO documents (kind, id, rev, data, updated) VALUES ($1, $2, 1, $3, $4) ON CONFLICT DO NOTHING`, p.Kind, p.ID, data, now)
	} else {
		res, err = tx.ExecContext(ctx, `UPDATE documents SET rev = rev + 1, data = $1, updated = $2 WHERE kind = $3 AND id = $4 AND rev = $5`, data, now, p.Kind, p.ID, p.IfRev)
	}
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n == 1, err
}

func (s *db) conflict(ctx context.Context, tx *sql.Tx, p Put) error {
	var rev int64
	err := tx.QueryRowContext(ctx, `SELECT rev FROM documents WHERE kind = $1 AND id = $2`, p.Kind, p.ID).Scan(&rev)
	absent := errors.Is(err, sql.ErrNoRows)
	if err != nil && !absent {
		return err
	}
	return conflict(p, rev, absent)
}

// conflict says that a document is at another revision than a put expects.
func conflict(p Put, rev int64, absent bool) error {
	msg := fmt.Sprintf("%s %s was changed by somebody else (revision %d, not %d)", p.Kind, p.ID, rev, p.IfRev)
	switch {
	case absent:
		msg = fmt.Sprintf("%s %s does not exist any more (revision %d was expected)", p.Kind, p.ID, p.IfRev)
	case p.IfRev == 0:
		msg = p.Kind + " " + p.ID + " exists already"
	}
	return errs.E(errs.Conflict, msg, errs.Hint("look at it again (slipway status), then run the command again"))
}

func (s *db) Close() error { return fault(s.DB.Close(), "close", s.path) }
