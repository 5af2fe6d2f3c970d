package litefile

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"slipway/internal/errs"
)

var schema = Schema{Name: "t", Steps: []string{`CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT) STRICT;`}}

func open(t *testing.T, path string) *File {
	t.Helper()
	f, err := Open(path, Options{}, schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func put(k int, v string) func(*Tx) error {
	return func(tx *Tx) error {
		_, _, err := tx.Exec(`INSERT INTO t VALUES (?, ?)`, k, v)
		return err
	}
}

func count(t *testing.T, f *File) (n int64) {
	t.Helper()
	if err := f.Read(t.Context(), func(c *Conn) (err error) {
		n, err = c.Int(`SELECT count(*) FROM t`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAGroupSharesATransactionAndNotItsErrors(t *testing.T) {
	t.Parallel()
	f := open(t, filepath.Join(t.TempDir(), "a.db"))
	hold, held := make(chan struct{}), make(chan struct{})
	go f.Write(context.Background(), func(*Tx) error { close(held); <-hold; return nil })
	<-held
	var wg sync.WaitGroup
	errsOf := make([]error, 20)
	for i := range errsOf {
		wg.Go(func() {
			errsOf[i] = f.Write(t.Context(), func(tx *Tx) error {
				if err := put(i, "x")(tx); err != nil {
					return err
				}
				if i == 7 {
					return errors.New("seven")
				}
				return nil
			})
		})
	}
	for len(f.ops) < 20 {
	}
	close(hold)
	wg.Wait()
	for i, err := range errsOf {
		if (err != nil) != (i == 7) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if n := count(t, f); n != 19 {
		t.Errorf("%d rows", n)
	}
}

func TestForeignWritesAreSeenAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	a, b := open(t, path), open(t, path)
	if err := a.Settle(func() error { return nil }); err != nil || !a.Fresh() {
		t.Fatal(err, a.Fresh())
	}
	seen := 0
	a.OnForeign(func(*Conn) error { seen++; return nil })
	for i := range 10 {
		if err := a.Write(t.Context(), put(i, "a")); err != nil || !a.Fresh() {
			t.Fatalf("own write %d: %v, fresh %v", i, err, a.Fresh())
		}
	}
	if seen != 0 {
		t.Errorf("own writes were taken for others' %d times", seen)
	}
	if err := b.Write(t.Context(), put(100, "b")); err != nil || a.Fresh() {
		t.Fatalf("%v; a write of another file handle was not seen", err)
	}
	if err := a.Settle(func() error { seen++; return nil }); err != nil || !a.Fresh() || seen != 1 {
		t.Fatal(err, a.Fresh(), seen)
	}
	if err := b.Write(t.Context(), put(101, "b")); err != nil {
		t.Fatal(err)
	}
	if err := a.Write(t.Context(), put(102, "a")); err != nil || seen != 2 || !a.Fresh() {
		t.Fatal("not looked at in the transaction", err, seen)
	}
	if err := a.Settle(func() error { return errors.New("never") }); err != nil {
		t.Fatal(err)
	}
}

func TestClosedAndReopened(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	f := open(t, path)
	if err := f.Write(t.Context(), put(1, "x")); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Write(t.Context(), put(2, "x")); !errs.Is(err, errs.Unavailable) {
		t.Errorf("write after close: %v", err)
	}
	if _, err := os.Stat(path + "-wal"); err == nil {
		t.Error("the WAL is still there")
	}
	if n := count(t, open(t, path)); n != 1 {
		t.Errorf("%d rows", n)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, []byte("this is not a database, though it is long enough to be one ........................................................."), 0o600); err != nil {
		t.Fatal(err)
	}
	newer := filepath.Join(dir, "newer")
	f, err := Open(newer, Options{}, Schema{Name: "t", Steps: []string{`CREATE TABLE t (k)`, `CREATE TABLE u (k)`}})
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, tt := range []struct {
		path string
		o    Options
		kind errs.Kind
	}{
		{garbage, Options{}, errs.Unavailable},
		{newer, Options{}, errs.Conflict},
		{filepath.Join(dir, "no", "folder.db"), Options{}, errs.NotFound},
		{filepath.Join(dir, "none.db"), Options{ReadOnly: true}, errs.NotFound},
	} {
		_, err := Open(tt.path, tt.o, schema)
		if !errs.Is(err, tt.kind) || len(errs.Hints(err)) == 0 {
			t.Errorf("%s: %v, hints %v; want %s and a hint", tt.path, err, errs.Hints(err), tt.kind)
		}
	}
}

func TestManyWritesKeepTheWALSmall(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	f := open(t, path)
	if err := f.Write(t.Context(), func(*Tx) error { f.check.at = 500; return nil }); err != nil {
		t.Fatal(err)
	}
	big := fmt.Sprintf("%0100000d", 1)
	for i := range 12 {
		if err := f.Write(t.Context(), func(tx *Tx) error {
			for j := range 20 {
				if err := put(i*20+j, big)(tx); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	fi, err := os.Stat(path + "-wal")
	if err != nil || fi.Size() > 16<<20 {
		t.Fatalf("WAL of %d MB after 24 MB of writes: %v", fi.Size()>>20, err)
	}
	var rows int
	if err := f.Read(t.Context(), func(c *Conn) error {
		return c.Rows(`SELECT k FROM t`, nil, func([]driver.Value) error { rows++; return nil })
	}); err != nil || rows != 240 {
		t.Fatal(rows, err)
	}
}
