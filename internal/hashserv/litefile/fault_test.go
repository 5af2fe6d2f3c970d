package litefile

import (
	"bytes"
	"database/sql/driver"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/errs"
)

// script runs statements on the writing connection.
func script(t *testing.T, f *File, s string) {
	t.Helper()
	if err := f.Write(t.Context(), func(tx *Tx) error { return tx.Script(s) }); err != nil {
		t.Fatal(err)
	}
}

// refused checks the kind of a refusal, and that it says what to do.
func refused(t *testing.T, err error, kind errs.Kind, word string) {
	t.Helper()
	if !errs.Is(err, kind) || len(errs.Hints(err)) == 0 || !strings.Contains(err.Error(), word) {
		t.Errorf("%v, hints %v; want %s, %q and a hint", err, errs.Hints(err), kind, word)
	}
}

// TestFull lets the file reach its greatest size, which SQLite reports as it does
// a full disk: what was answered stays, and with room again the server goes on.
func TestFull(t *testing.T) {
	t.Parallel()
	f := open(t, filepath.Join(t.TempDir(), "a.db"))
	script(t, f, `PRAGMA max_page_count = 40`)
	big := strings.Repeat("x", 3000)
	stored := 0
	for ; stored < 100; stored++ {
		if err := f.Write(t.Context(), put(stored, big)); err != nil {
			refused(t, err, errs.Unavailable, "the disk is full")
			break
		}
	}
	if stored < 20 || stored == 100 {
		t.Fatalf("%d rows in 40 pages", stored)
	}
	if n := count(t, f); n != int64(stored) {
		t.Errorf("%d rows, %d were answered", n, stored)
	}
	script(t, f, `PRAGMA max_page_count = 1000`)
	if err := f.Write(t.Context(), put(stored, big)); err != nil {
		t.Error("with room again:", err)
	}
}

func TestLocked(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	f := open(t, path)
	script(t, f, `PRAGMA busy_timeout = 1`)
	other, err := connect(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	if err := other.Script(`BEGIN IMMEDIATE`); err != nil {
		t.Fatal(err)
	}
	refused(t, f.Write(t.Context(), put(1, "x")), errs.Locked, "write")
	if n := count(t, f); n != 0 {
		t.Errorf("%d rows: readers go on", n)
	}
	if err := other.Script(`ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	if err := f.Write(t.Context(), put(1, "x")); err != nil {
		t.Error("when the other is gone:", err)
	}
}

// TestDamaged overwrites the pages of the table: an error, and never fewer rows.
func TestDamaged(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.db")
	f := open(t, path)
	for i := range 200 {
		if err := f.Write(t.Context(), put(i, strings.Repeat("x", 500))); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(b, []byte("xxxx")) / 4096 * 4096
	copy(b[at:], bytes.Repeat([]byte{0xaa}, 4096))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f = open(t, path)
	rows := 0
	err = f.Read(t.Context(), func(c *Conn) error {
		return c.Rows(`SELECT v FROM t`, nil, func([]driver.Value) error { rows++; return nil })
	})
	refused(t, err, errs.Unavailable, "it is damaged")
}

func TestNetworkFileSystems(t *testing.T) {
	t.Parallel()
	for magic, name := range network {
		refused(t, remote(magic, "/srv"), errs.Refused, name)
	}
	for _, magic := range []int64{0xef53, 0x01021994, 0x58465342, 0x9123683e, 0x794c7630} { // ext4, tmpfs, XFS, Btrfs, overlay
		if err := remote(magic, "/srv"); err != nil {
			t.Errorf("%#x: %v", magic, err)
		}
	}
}
