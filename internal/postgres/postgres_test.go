package postgres

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	"slipway/internal/errs"
	"slipway/internal/postgres/postgrestest"
)

func TestMain(m *testing.M) { postgrestest.Main(m) }

func TestAddresses(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][2]bool{
		"postgresql://u@h/db":                   {true, false},
		"postgres://u:secret@h/db":              {true, true},
		"postgresql+asyncpg://u:@h/db":          {true, true},
		"postgresql://h/db?password=secret":     {true, true},
		"/var/lib/hashserv.db":                  {false, false},
		"sqlite+aiosqlite:///x":                 {false, false},
		"mysql://u@h/db":                        {false, false},
		"./postgresql.db":                       {false, false},
		"postgresql+psycopg://u@/db?host=/run/": {true, false},
	} {
		if IsURL(name) != want[0] || IsURL(name) && HasPassword(name) != want[1] {
			t.Errorf("%s: %v %v", name, IsURL(name), HasPassword(name))
		}
	}
}

func open(t *testing.T, url string, o Options, s ...Schema) *DB {
	t.Helper()
	d, err := Open(t.Context(), url, o, s...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// What is wrong is said, with what to do, and without the password.
func TestRefusals(t *testing.T) {
	t.Parallel()
	c := postgrestest.New(t)
	c.SQL(t, `CREATE ROLE guest LOGIN PASSWORD 'right'`)
	c.SQL(t, `CREATE DATABASE latin ENCODING LATIN1 LOCALE 'C' TEMPLATE template0`)
	c.Conf(t, "pg_hba.conf", "local all guest scram-sha-256\nlocal all all trust\n")
	url := func(user, db string) string {
		return strings.Replace(strings.Replace(c.URL(), "postgres@", user+"@", 1), "/postgres?", "/"+db+"?", 1)
	}
	s := Schema{Name: "x", Steps: []string{`CREATE TABLE x (n int)`}}
	for _, tt := range []struct {
		name, url string
		o         Options
		kind      errs.Kind
		says      string
	}{
		{"wrong password", url("guest", "postgres"), Options{Password: "hush"}, errs.Denied, "login is refused"},
		{"wrong password in the address", url("guest:hush", "postgres"), Options{}, errs.Denied, "login is refused"},
		{"no such user", url("nobody", "postgres"), Options{}, errs.Denied, "login is refused"},
		{"no such database", url("postgres", "none"), Options{}, errs.NotFound, "none"},
		{"another encoding", url("postgres", "latin"), Options{}, errs.Conflict, "LATIN1"},
		{"no right to make tables", url("guest", "postgres"), Options{Password: "right"}, errs.Denied, "permission denied"},
		{"nothing to read", url("postgres", "postgres"), Options{ReadOnly: true}, errs.Conflict, "no tables"},
		{"nobody there", "postgresql://u@127.0.0.1:1/db", Options{Password: "hush"}, errs.Unavailable, "does not answer"},
		{"no address", "postgresql://u:hush@h:port/db", Options{}, errs.Invalid, "cannot be read"},
		{"bad escapes", "postgresql://u:hush%zz@h/db", Options{}, errs.Invalid, "cannot be read"},
		{"bad option", "postgresql://u:hush@h/db?sslmode=hush", Options{}, errs.Invalid, "cannot be read"},
		{"another kind", "mysql://u:hush@h/db", Options{}, errs.Invalid, "mysql"},
	} {
		d, err := Open(t.Context(), tt.url, tt.o, s)
		if err == nil {
			d.Close()
			t.Errorf("%s: opened", tt.name)
			continue
		}
		if !errs.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.says) || len(errs.Hints(err)) == 0 {
			t.Errorf("%s: %s %v, hints %v", tt.name, errs.KindOf(err), err, errs.Hints(err))
		}
		if strings.Contains(err.Error()+strings.Join(errs.Hints(err), ""), "hush") {
			t.Errorf("%s: the password is shown: %v", tt.name, err)
		}
	}
	d := open(t, url("postgres:hush", "postgres"), Options{}, s)
	if strings.Contains(d.Name(), "hush") {
		t.Error(d.Name())
	}
	if err := tooOld(90624); !errs.Is(err, errs.Conflict) || !strings.Contains(err.Error(), "9.6") {
		t.Error(err)
	}
	c.SQL(t, `UPDATE slipway_schema SET version = 2`)
	if _, err := Open(t.Context(), url("postgres", "postgres"), Options{}, s); !errs.Is(err, errs.Conflict) {
		t.Error("tables of a newer program:", err)
	}
	c.SQL(t, `UPDATE slipway_schema SET version = 1; ALTER DATABASE postgres SET default_transaction_read_only = on`)
	ro := open(t, url("postgres", "postgres"), Options{}, s)
	if err := ro.Write(t.Context(), true, func(*Conn) (*Batch, error) {
		b := &Batch{}
		b.Exec(nil, `INSERT INTO x VALUES (1)`)
		return b, nil
	}); !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), "read-only") {
		t.Error("a read-only database:", err)
	}
}

// Who comes at the same time makes the tables once, and later steps follow.
func TestSchemas(t *testing.T) {
	t.Parallel()
	url := postgrestest.Schema(t)
	one := Schema{Name: "x", Steps: []string{`CREATE TABLE x (n int); INSERT INTO x VALUES (1)`}}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			d, err := Open(t.Context(), url, Options{}, one)
			if err != nil {
				t.Error(err)
				return
			}
			d.Close()
		})
	}
	wg.Wait()
	two := one
	two.Steps = append(two.Steps, `INSERT INTO x VALUES (2)`)
	if _, err := Open(t.Context(), url, Options{ReadOnly: true}, two); !errs.Is(err, errs.Conflict) {
		t.Error("older tables, read-only:", err)
	}
	d := open(t, url, Options{}, two)
	var n int
	if err := d.Read(t.Context(), func(c *Conn) error {
		_, err := c.Row(t.Context(), `SELECT sum(n)::int FROM x`, nil, &n)
		return err
	}); err != nil || n != 3 {
		t.Error(n, err)
	}
}

// A connection that is lost is made again, also in the middle of a transaction.
func TestConnectionsAreMadeAgain(t *testing.T) {
	t.Parallel()
	c := postgrestest.New(t)
	d := open(t, c.URL(), Options{Conns: 2}, Schema{Name: "x", Steps: []string{`CREATE TABLE x (n int PRIMARY KEY)`}})
	put := func(n int, in func(*Conn)) error {
		return d.Write(t.Context(), false, func(c *Conn) (*Batch, error) {
			var b Batch
			b.Exec(nil, `SELECT 1`)
			if err := c.Send(t.Context(), &b); err != nil {
				return nil, err
			}
			if in != nil {
				in(c)
			}
			last := &Batch{}
			last.Exec(nil, `INSERT INTO x VALUES ($1)`, n)
			return last, nil
		})
	}
	if err := put(1, nil); err != nil {
		t.Fatal(err)
	}
	c.Stop()
	if err := put(2, nil); !errs.Is(err, errs.Unavailable) || len(errs.Hints(err)) == 0 || errors.As(err, new(net.Error)) {
		t.Error("the database is down:", err)
	}
	c.Restart(t)
	if err := put(2, nil); err != nil {
		t.Error("it is up again:", err)
	}
	cut := false
	if err := put(3, func(x *Conn) {
		if !cut {
			cut = true
			c.SQL(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'slipway'`)
		}
	}); err == nil {
		t.Error("a transaction that was cut off in the commit, and must not be repeated, went through")
	}
	if err := put(3, nil); err != nil {
		t.Error(err)
	}
	if got := c.SQL(t, `SELECT string_agg(n::text, ' ' ORDER BY n) FROM x`); got != "1 2 3" {
		t.Error(got)
	}
	// An error of the caller undoes what it did.
	mine := errors.New("mine")
	if err := d.Write(t.Context(), true, func(x *Conn) (*Batch, error) {
		b := &Batch{}
		b.Exec(nil, `INSERT INTO x VALUES (9)`)
		return nil, errors.Join(x.Send(t.Context(), b), mine)
	}); !errors.Is(err, mine) {
		t.Error(err)
	}
	if got := c.SQL(t, `SELECT count(*) FROM x`); got != "3" {
		t.Error("rows after an undone transaction:", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Read(ctx, func(*Conn) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
