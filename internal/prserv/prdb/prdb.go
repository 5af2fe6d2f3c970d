package prdb

import (
	"context"
	"database/sql/driver"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"slipway/internal/errs"
	"slipway/internal/hashserv/litefile"
)

// bitbakeTable is the table of BitBake 2.10 and later.
const bitbakeTable = `CREATE TABLE IF NOT EXISTS PRMAIN (version TEXT NOT NULL, pkgarch TEXT NOT NULL, checksum TEXT NOT NULL, value TEXT, PRIMARY KEY (version, pkgarch, checksum, value));`

// Schema is what a file needs to be a PR database.
func Schema() litefile.Schema {
	return litefile.Schema{Name: "prserv", Steps: []string{bitbakeTable + `
		CREATE TABLE burned (version TEXT NOT NULL, pkgarch TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (version, pkgarch)) STRICT, WITHOUT ROWID;`}, After: takeOver}
}

// takeOver adds the rows of the tables that BitBake used before 2.10. They stay
// where they are: that BitBake could still use them.
func takeOver(c *litefile.Conn) error {
	for _, t := range []string{"PRMAIN_nohist", "PRMAIN_hist"} {
		if ok, err := c.HasTable(t); err != nil {
			return err
		} else if !ok {
			continue
		}
		if err := c.Script(`INSERT OR IGNORE INTO PRMAIN SELECT version, pkgarch, checksum, CAST(value AS TEXT) FROM ` + t); err != nil {
			return err
		}
	}
	return nil
}

// DB is a PR database. It is safe for use by many goroutines.
type DB struct {
	f    *litefile.File
	own  bool
	base *DB // what a fork began with
}

// Open opens or makes the database in the file at path. A read-only one gives
// numbers that it does not keep.
func Open(path string, readOnly bool) (*DB, error) {
	f, err := litefile.Open(path, litefile.Options{Full: true, ReadOnly: readOnly}, Schema())
	if err != nil {
		return nil, err
	}
	return &DB{f: f, own: true}, nil
}

// New gives the database in a file that was opened with [Schema].
func New(f *litefile.File) *DB { return &DB{f: f} }

// Fork gives a database of its own in file f, which begins with all that base
// has. Each number that it gives is burned in base at once, so that no two forks
// give the same one.
func Fork(f *litefile.File, base *DB) *DB { return &DB{f: f, base: base} }

// File is the file that the database lies in.
func (d *DB) File() *litefile.File { return d.f }

// Name is the file's path.
func (d *DB) Name() string { return d.f.Path() }

// Writes counts the transactions that were written, and says when the last one was.
func (d *DB) Writes() (int64, time.Time) { return d.f.Commits(), d.f.LastWrite() }

// Close closes the file if Open opened it.
func (d *DB) Close() error {
	if d.own {
		return d.f.Close()
	}
	return nil
}

// Row is one number.
type Row struct {
	Version  string `json:"version"`
	Pkgarch  string `json:"pkgarch"`
	Checksum string `json:"checksum"`
	Value    string `json:"value"`
}

// Known is what is known of one (version, pkgarch), and of one checksum of it.
type Known struct {
	Max    string // the greatest value; "" for none
	Least  string // of the checksum; "" for none
	Most   string
	burned string // the greatest that was ever given, as far as noted
	values []string
}

func (k *Known) add(c *litefile.Conn, version, pkgarch, checksum string) error {
	if err := c.Rows(`SELECT checksum, value FROM PRMAIN WHERE version = ? AND pkgarch = ?`, []any{version, pkgarch}, func(r []driver.Value) error {
		v, ok := r[1].(string)
		if !ok {
			v = fmt.Sprint(r[1])
		}
		k.Add(v, r[0] == checksum)
		return nil
	}); err != nil {
		return err
	}
	r, err := c.Row(`SELECT value FROM burned WHERE version = ? AND pkgarch = ?`, version, pkgarch)
	if err == nil && r != nil {
		k.Burn(r[0].(string))
	}
	return err
}

// Add adds a value of the (version, pkgarch); own says that it is of the checksum.
func (k *Known) Add(value string, own bool) {
	k.values = append(k.values, value)
	k.Max = greatest(k.Max, value)
	if !own {
		return
	}
	k.Most = greatest(k.Most, value)
	if k.Least == "" || Compare(value, k.Least) < 0 {
		k.Least = value
	}
}

// Burn adds a value that was given once.
func (k *Known) Burn(value string) { k.burned = greatest(k.burned, value) }

// Top is the greatest value that there is, or that was ever given; "" for none.
func (k *Known) Top() string { return greatest(k.Max, k.burned) }

// look gives what is known, c being a connection to d's file.
func (d *DB) look(ctx context.Context, c *litefile.Conn, version, pkgarch, checksum string) (k Known, err error) {
	if d.base != nil {
		if err := d.base.f.Read(ctx, func(b *litefile.Conn) error { return k.add(b, version, pkgarch, checksum) }); err != nil {
			return k, err
		}
	}
	return k, k.add(c, version, pkgarch, checksum)
}

func (d *DB) read(ctx context.Context, version, pkgarch, checksum string) (k Known, err error) {
	err = d.f.Read(ctx, func(c *litefile.Conn) (err error) {
		k, err = d.look(ctx, c, version, pkgarch, checksum)
		return err
	})
	return k, err
}

// Next is a number that was never given for that (version, pkgarch).
func (k *Known) Next() string {
	top := k.Top()
	if top == "" {
		return "0"
	}
	return Increase(top)
}

// Choose gives the number of the checksum, and whether it is a new row: with
// history the first that it got, without one that is not below any other.
func (k *Known) Choose(history bool) (value string, fresh bool) {
	switch {
	case history && k.Least != "":
		return k.Least, false
	case k.Most == "" || !history && Compare(k.Most, k.Max) < 0:
		return k.Next(), true
	}
	return k.Most, false
}

// Get gives the number of an output: with history the first that it got, without
// one that is not below any other of that version and architecture.
func (d *DB) Get(ctx context.Context, version, pkgarch, checksum string, history bool) (string, error) {
	k, err := d.read(ctx, version, pkgarch, checksum)
	if err != nil {
		return "", err
	}
	value, fresh := k.Choose(history)
	if !fresh || d.f.ReadOnly() {
		return value, nil
	}
	err = d.f.Write(ctx, func(tx *litefile.Tx) error {
		k, err := d.look(ctx, tx.Conn, version, pkgarch, checksum)
		if err != nil {
			return err
		}
		if value, fresh = k.Choose(history); !fresh {
			return nil
		}
		if d.base != nil {
			if value, err = d.base.burn(ctx, version, pkgarch, value); err != nil {
				return err
			}
		}
		return store(tx, Row{version, pkgarch, checksum, value})
	})
	return value, err
}

func store(tx *litefile.Tx, r Row) error {
	_, _, err := tx.Exec(`INSERT OR IGNORE INTO PRMAIN VALUES (?, ?, ?, ?)`, r.Version, r.Pkgarch, r.Checksum, r.Value)
	return err
}

// burn notes that a number is given, the wanted one or the next that is free.
func (d *DB) burn(ctx context.Context, version, pkgarch, wanted string) (value string, err error) {
	err = d.f.Write(ctx, func(tx *litefile.Tx) error {
		k, err := d.look(ctx, tx.Conn, version, pkgarch, "")
		if err != nil {
			return err
		}
		value = wanted
		if top := greatest(k.Max, k.burned); top != "" && Compare(value, top) <= 0 {
			value = k.Next()
		}
		return burned(tx, version, pkgarch, value)
	})
	return value, err
}

func burned(tx *litefile.Tx, version, pkgarch, value string) error {
	_, _, err := tx.Exec(`INSERT OR REPLACE INTO burned VALUES (?, ?, ?)`, version, pkgarch, value)
	return err
}

// Reserve gives a whole number above floor and above all that were ever given for
// that version and architecture, and burns it: for a builder that learns only
// afterwards what it has built. The number is on the disk when it is given.
func (d *DB) Reserve(ctx context.Context, version, pkgarch string, floor int) (n int, err error) {
	err = d.f.Write(ctx, func(tx *litefile.Tx) error {
		k, err := d.look(ctx, tx.Conn, version, pkgarch, "")
		if err != nil {
			return err
		}
		if n, err = k.Above(floor, version, pkgarch); err != nil {
			return err
		}
		return burned(tx, version, pkgarch, strconv.Itoa(n))
	})
	return n, err
}

// Above gives a whole number above floor and above all that were ever given.
func (k *Known) Above(floor int, version, pkgarch string) (int, error) {
	whole, _, _ := strings.Cut(k.Top(), ".")
	if top, err := strconv.Atoi(whole); err == nil {
		floor = max(floor, top)
	} else if whole != "" {
		return 0, errs.E(errs.Conflict, fmt.Sprintf("the PR database has the number %q for %s of %s, and none can follow it", whole, version, pkgarch))
	}
	return floor + 1, nil
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

// NextBelow gives a new number base.n, below a number of an upstream server: n is
// one more than the greatest that there is, first 0. Deeper numbers count too, as
// in BitBake ("1.0.0" is followed by "1.0.1").
func (k *Known) NextBelow(base string) string {
	top := ""
	for _, v := range k.values {
		if strings.HasPrefix(v, base+".") {
			top = greatest(top, v)
		}
	}
	if top == "" {
		return base + ".0"
	}
	return Increase(top)
}

// Decide gives an output the number that fn makes of what is known, and stores
// it. Nothing changes between the two. fn may be called more than once.
func (d *DB) Decide(ctx context.Context, version, pkgarch, checksum string, fn func(Known) string) (value string, err error) {
	if d.f.ReadOnly() {
		k, err := d.read(ctx, version, pkgarch, checksum)
		return fn(k), err
	}
	err = d.f.Write(ctx, func(tx *litefile.Tx) error {
		k, err := d.look(ctx, tx.Conn, version, pkgarch, checksum)
		if err != nil {
			return err
		}
		if value = fn(k); value == k.Most {
			return nil
		}
		return store(tx, Row{version, pkgarch, checksum, value})
	})
	return value, err
}

// Put stores a row as it is, unless it is there. A read-only database does not.
func (d *DB) Put(ctx context.Context, rows ...Row) error {
	if d.f.ReadOnly() {
		return nil
	}
	return d.f.Write(ctx, func(tx *litefile.Tx) error {
		for _, r := range rows {
			if err := store(tx, r); err != nil {
				return err
			}
		}
		return nil
	})
}

// Rows gives all rows that match; "" matches anything. Without history only those
// with the greatest number of their version and architecture.
func (d *DB) Rows(ctx context.Context, version, pkgarch, checksum string, history bool) ([]Row, error) {
	seen := map[Row]bool{}
	var rows []Row
	add := func(c *litefile.Conn) error {
		query, args := `SELECT version, pkgarch, checksum, CAST(value AS TEXT) FROM PRMAIN WHERE version <> ''`, []any{}
		for _, w := range []struct{ column, value string }{{"version", version}, {"pkgarch", pkgarch}} {
			if w.value != "" {
				query += ` AND ` + w.column + ` = ?`
				args = append(args, w.value)
			}
		}
		return c.Rows(query, args, func(r []driver.Value) error {
			value, _ := r[3].(string)
			row := Row{r[0].(string), r[1].(string), r[2].(string), value}
			if !seen[row] {
				seen[row] = true
				rows = append(rows, row)
			}
			return nil
		})
	}
	if d.base != nil {
		if err := d.base.f.Read(ctx, add); err != nil {
			return nil, err
		}
	}
	if err := d.f.Read(ctx, add); err != nil {
		return nil, err
	}
	return Select(rows, checksum, history), nil
}

// Select gives, of all rows of some versions, those of a checksum ("" for any), and
// without history only those with the greatest number of their version and
// architecture; in order.
func Select(rows []Row, checksum string, history bool) []Row {
	if !history {
		top := map[[2]string]string{}
		for _, r := range rows {
			k := [2]string{r.Version, r.Pkgarch}
			top[k] = greatest(top[k], r.Value)
		}
		rows = keep(rows, func(r Row) bool { return top[[2]string{r.Version, r.Pkgarch}] == r.Value })
	}
	if checksum != "" {
		rows = keep(rows, func(r Row) bool { return r.Checksum == checksum })
	}
	sort.Slice(rows, func(i, j int) bool {
		a, b := rows[i], rows[j]
		if a.Version != b.Version {
			return a.Version < b.Version
		}
		if a.Pkgarch != b.Pkgarch {
			return a.Pkgarch < b.Pkgarch
		}
		if c := Compare(a.Value, b.Value); c != 0 {
			return c < 0
		}
		return a.Checksum < b.Checksum
	})
	return rows
}

func keep(rows []Row, ok func(Row) bool) []Row {
	out := rows[:0]
	for _, r := range rows {
		if ok(r) {
			out = append(out, r)
		}
	}
	return out
}

// Own gives the rows of a fork that its base does not have, in order.
func (d *DB) Own(ctx context.Context) (rows []Row, err error) {
	err = d.f.Read(ctx, func(c *litefile.Conn) error {
		return c.Rows(`SELECT version, pkgarch, checksum, CAST(value AS TEXT) FROM PRMAIN ORDER BY 1, 2, 3, 4`, nil, func(r []driver.Value) error {
			rows = append(rows, Row{r[0].(string), r[1].(string), r[2].(string), r[3].(string)})
			return nil
		})
	})
	return rows, err
}

// PutIn stores rows in a transaction of the database's file.
func (d *DB) PutIn(tx *litefile.Tx, rows []Row) error {
	for _, r := range rows {
		if err := store(tx, r); err != nil {
			return err
		}
	}
	return nil
}

// BumpChecksum marks the rows that a bump makes: no output has it.
const BumpChecksum = "slipway:bump"

// Bump raises the numbers of a recipe: every version of it gets a higher one at
// its next build, though its output stays the same. recipe is a name, or a whole
// version as BitBake sends it. It gives the rows that it made.
func (d *DB) Bump(ctx context.Context, recipe string) (made []Row, err error) {
	if d.base != nil {
		return nil, errs.E(errs.Invalid, "a fork is not bumped", errs.Hint("bump the series' database"))
	}
	err = d.f.Write(ctx, func(tx *litefile.Tx) error {
		made = nil
		var rows []Row
		if err := tx.Rows(`SELECT DISTINCT version, pkgarch FROM PRMAIN ORDER BY 1, 2`, nil, func(r []driver.Value) error {
			if v := r[0].(string); IsRecipe(v, recipe) {
				rows = append(rows, Row{v, r[1].(string), BumpChecksum, ""})
			}
			return nil
		}); err != nil {
			return err
		}
		for _, r := range rows {
			k, err := d.look(ctx, tx.Conn, r.Version, r.Pkgarch, "")
			if err != nil {
				return err
			}
			r.Value = k.Next()
			if err := store(tx, r); err != nil {
				return err
			}
			made = append(made, r)
		}
		return nil
	})
	if err == nil && made == nil {
		err = NoRecipe(recipe)
	}
	return made, err
}

// NoRecipe is the answer to a bump of what is not there.
func NoRecipe(recipe string) error {
	return errs.E(errs.NotFound, "recipe "+recipe+" in the PR database", errs.Hint("give PN, or the whole version as in the export"))
}

// IsRecipe reports whether a version, PN-EPV-PR, is of that recipe: what follows
// the name must look like a version, because names have dashes too.
func IsRecipe(version, recipe string) bool {
	if version == recipe {
		return true
	}
	rest, ok := strings.CutPrefix(version, recipe+"-")
	if !ok || rest == "" {
		return false
	}
	for _, p := range []string{"git", "svn", "AUTOINC", "v"} {
		if after, ok := strings.CutPrefix(rest, p); ok && (after == "" || !(after[0] >= 'a' && after[0] <= 'z')) {
			return true
		}
	}
	return rest[0] >= '0' && rest[0] <= '9'
}
