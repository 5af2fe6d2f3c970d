package hashdb

import (
	"context"
	"database/sql/driver"
	"fmt"
	"os"
	"strings"
	"time"

	"slipway/internal/errs"
	"slipway/internal/hashserv/litefile"
)

// hexSQL is the stored value of a hash column of BitBake's tables.
func hexSQL(column string) string {
	return fmt.Sprintf(`(CASE WHEN length(%[1]s) > 0 AND length(%[1]s) %% 2 = 0 AND %[1]s NOT GLOB '*[^0-9a-f]*' THEN unhex(%[1]s) ELSE %[1]s END)`, column)
}

// createdSQL reads BitBake's two forms of a time: UTC since 2.16, before that the
// local time of the server.
const createdSQL = `(CASE WHEN created IS NULL OR unixepoch(substr(created, 1, 19)) IS NULL THEN 0 ELSE
	(CASE WHEN created LIKE '%+00:00' THEN unixepoch(substr(created, 1, 19)) ELSE unixepoch(substr(created, 1, 19), 'utc') END) * 1000000
	+ (CASE WHEN substr(created, 20, 1) = '.' THEN CAST(substr(created || '000000', 21, 6) AS INTEGER) ELSE 0 END) END)`

// takeOver moves the rows of BitBake's tables, of any version, in schema from
// (main, or an attached file) into ours. In main the old tables go.
func takeOver(c *litefile.Conn) error { return take(c, "main") }

func take(c *litefile.Conn, from string) error {
	has := func(name string) (bool, error) {
		n, err := c.Int(`SELECT count(*) FROM `+from+`.sqlite_master WHERE type = 'table' AND name = ?`, name)
		return n > 0, err
	}
	run := func(scripts ...string) error {
		for _, s := range scripts {
			if err := c.Script(s); err != nil {
				return err
			}
		}
		return nil
	}
	for _, t := range []struct{ name, mark string }{{"unihashes_v3", "gc_mark"}, {"unihashes_v2", "''"}} {
		if ok, err := has(t.name); err != nil {
			return err
		} else if !ok {
			continue
		}
		if err := run(
			fmt.Sprintf(`INSERT OR IGNORE INTO main.method (name) SELECT DISTINCT method FROM %s.%s`, from, t.name),
			fmt.Sprintf(`INSERT OR IGNORE INTO main.mark (name) SELECT DISTINCT %s FROM %s.%s WHERE %[1]s <> ''`, t.mark, from, t.name),
			fmt.Sprintf(`INSERT OR IGNORE INTO main.unihash SELECT m.id, %s, nullif(%s, %[1]s), coalesce(k.id, 0)
				FROM %[3]s.%[4]s t JOIN main.method m ON m.name = t.method LEFT JOIN main.mark k ON k.name = %[5]s`,
				hexSQL("t.taskhash"), hexSQL("t.unihash"), from, t.name, t.mark),
		); err != nil {
			return err
		}
	}
	if ok, err := has("outhashes_v2"); err != nil {
		return err
	} else if ok {
		set := `coalesce(owner, PN, PV, PR, task, outhash_siginfo) IS NOT NULL`
		if err := run(
			fmt.Sprintf(`INSERT OR IGNORE INTO main.method (name) SELECT DISTINCT method FROM %s.outhashes_v2`, from),
			// Numbers of extra that no row has yet: behind the last.
			fmt.Sprintf(`CREATE TEMP TABLE base AS SELECT coalesce(max(id), 0) AS n FROM main.extra;
				INSERT INTO main.extra SELECT base.n + t.id, t.owner, t.PN, t.PV, t.PR, t.task, t.outhash_siginfo FROM %s.outhashes_v2 t, base WHERE %s;
				INSERT OR IGNORE INTO main.outhash SELECT m.id, %s, %s, %s, CASE WHEN %[2]s THEN base.n + t.id END
					FROM %[1]s.outhashes_v2 t JOIN main.method m ON m.name = t.method, base;
				DELETE FROM main.extra WHERE id > (SELECT n FROM base) AND id NOT IN (SELECT extra FROM main.outhash WHERE extra IS NOT NULL);
				DROP TABLE base`,
				from, set, hexSQL("t.outhash"), createdSQL, hexSQL("t.taskhash")),
		); err != nil {
			return err
		}
	}
	if ok, err := has("users"); err != nil {
		return err
	} else if ok {
		if err := run(fmt.Sprintf(`INSERT OR IGNORE INTO main.user SELECT username, token, permissions FROM %s.users`, from)); err != nil {
			return err
		}
	}
	if from != "main" {
		return nil
	}
	if ok, err := has("config"); err != nil {
		return err
	} else if ok {
		if err := run(`INSERT OR IGNORE INTO mark (name) SELECT value FROM config WHERE name = 'gc-mark' AND value <> ''`,
			`UPDATE state SET mark = coalesce((SELECT k.id FROM config c JOIN mark k ON k.name = c.value WHERE c.name = 'gc-mark'), 0)`); err != nil {
			return err
		}
	}
	return run(`DROP TABLE IF EXISTS unihashes_v3; DROP TABLE IF EXISTS unihashes_v2; DROP TABLE IF EXISTS outhashes_v2;
		DROP TABLE IF EXISTS users; DROP TABLE IF EXISTS config; DROP TABLE IF EXISTS tasks_v2`)
}

// bitbakeSchema is what BitBake 2.8 and later make of an empty file.
const bitbakeSchema = `
CREATE TABLE unihashes_v3 (id INTEGER PRIMARY KEY AUTOINCREMENT, method TEXT NOT NULL, taskhash TEXT NOT NULL, unihash TEXT NOT NULL, gc_mark TEXT NOT NULL, UNIQUE(method, taskhash));
CREATE TABLE outhashes_v2 (id INTEGER PRIMARY KEY AUTOINCREMENT, method TEXT NOT NULL, taskhash TEXT NOT NULL, outhash TEXT NOT NULL, created DATETIME,
	owner TEXT, PN TEXT, PV TEXT, PR TEXT, task TEXT, outhash_siginfo TEXT, UNIQUE(method, taskhash, outhash));
CREATE TABLE users (id INTEGER PRIMARY KEY AUTOINCREMENT, username TEXT NOT NULL, token TEXT NOT NULL, permissions TEXT NOT NULL, UNIQUE(username));
CREATE TABLE config (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, value TEXT, UNIQUE(name));
CREATE INDEX taskhash_lookup_v4 ON unihashes_v3 (method, taskhash);
CREATE INDEX unihash_lookup_v1 ON unihashes_v3 (unihash);
CREATE INDEX outhash_lookup_v3 ON outhashes_v2 (method, outhash);
CREATE INDEX config_lookup ON config (name);
`

// timeFormat is how BitBake writes a time since 2.16; it reads no other.
const timeFormat = "2006-01-02T15:04:05.000000+00:00"

// FormatTime writes a time as BitBake does.
func FormatTime(t time.Time) string { return t.UTC().Format(timeFormat) }

// Export writes what the database holds now, users included, to a new file that
// BitBake's server reads. Others go on writing meanwhile.
func (d *DB) Export(ctx context.Context, path string) (err error) {
	return WriteBitBake(ctx, path, func(out *BitBakeFile) error {
		return d.f.Snapshot(ctx, func(c *litefile.Conn) error { return export(c, out) })
	})
}

// BitBakeFile is a database file for BitBake's server that is being written.
type BitBakeFile struct {
	ctx     context.Context
	f       *litefile.File
	pending []func(*litefile.Tx) error
}

// WriteBitBake makes a new file that BitBake's server reads, of what fn puts into
// it. The file appears when all of it is there.
func WriteBitBake(ctx context.Context, path string, fn func(*BitBakeFile) error) (err error) {
	if _, err := os.Stat(path); err == nil {
		return errs.E(errs.Conflict, "export to "+path+": the file exists", errs.Hint("give another name"))
	}
	temp := path + ".part"
	os.Remove(temp)
	f, err := litefile.Open(temp, litefile.Options{}, litefile.Schema{Name: "export", Steps: []string{bitbakeSchema}})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(temp)
		}
	}()
	out := &BitBakeFile{ctx: ctx, f: f}
	if err := fn(out); err != nil {
		return err
	}
	if err := out.flush(); err != nil {
		return err
	}
	if err := f.Write(ctx, func(tx *litefile.Tx) error { return tx.Script(`DROP TABLE slipway`) }); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return errs.Wrap(os.Rename(temp, path), "export to %s", path)
}

func (o *BitBakeFile) flush() error {
	batch := o.pending
	o.pending = nil
	return o.f.Write(o.ctx, func(tx *litefile.Tx) error {
		for _, fn := range batch {
			if err := fn(tx); err != nil {
				return err
			}
		}
		return nil
	})
}

func (o *BitBakeFile) put(insert string, values ...any) error {
	o.pending = append(o.pending, func(tx *litefile.Tx) error {
		_, _, err := tx.Exec(insert, values...)
		return err
	})
	if len(o.pending) < 10_000 {
		return nil
	}
	return o.flush()
}

// Unihash adds a task with its unihash.
func (o *BitBakeFile) Unihash(method, task, uni, mark string) error {
	return o.put(`INSERT INTO unihashes_v3 (method, taskhash, unihash, gc_mark) VALUES (?, ?, ?, ?)`, method, task, uni, mark)
}

// Outhash adds an output; BitBake takes the order of the calls for their age.
func (o *BitBakeFile) Outhash(r Row) error {
	return o.put(`INSERT INTO outhashes_v2 (method, taskhash, outhash, created, owner, PN, PV, PR, task, outhash_siginfo) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		r.Method, r.Taskhash, r.Outhash, FormatTime(r.Created), null(r.Owner), null(r.PN), null(r.PV), null(r.PR), null(r.Task), null(r.Siginfo))
}

// User adds a user.
func (o *BitBakeFile) User(u User) error {
	return o.put(`INSERT INTO users (username, token, permissions) VALUES (?, ?, ?)`, u.Name, u.Token, strings.Join(u.Permissions, " "))
}

// Mark sets the current mark of the garbage collection.
func (o *BitBakeFile) Mark(name string) error {
	return o.put(`INSERT INTO config (name, value) VALUES ('gc-mark', ?)`, name)
}

func export(c *litefile.Conn, out *BitBakeFile) error {
	if err := eachRow(c, `o.created`,
		func(r []driver.Value) error { return out.Unihash(str(r[0]), text(r[1]), text(r[2]), str(r[3])) },
		func(r []driver.Value) error { return out.Outhash(outhashRow(r)) }); err != nil {
		return err
	}
	if err := c.Rows(`SELECT name, token, permissions FROM user`, nil, func(r []driver.Value) error {
		return out.User(User{str(r[0]), str(r[1]), strings.Fields(str(r[2]))})
	}); err != nil {
		return err
	}
	return c.Rows(`SELECT k.name FROM state s JOIN mark k ON k.id = s.mark`, nil, func(r []driver.Value) error { return out.Mark(str(r[0])) })
}
