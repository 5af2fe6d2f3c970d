package prdb

import (
	"path/filepath"
	"slices"
	"testing"

	"slipway/internal/hashserv/litefile"
)

func TestRevisions(t *testing.T) {
	t.Parallel()
	order := []string{"", "0", "0.0", "0.1", "0.1.0", "1", "1.0", "1.1.0", "1.2", "2", "9", "9.9", "10", "10.0", "11", "100", "99999999999999999999"}
	for i, a := range order {
		for j, b := range order {
			if c := Compare(a, b); (c < 0) != (i < j) || (c > 0) != (i > j) {
				t.Errorf("Compare(%q, %q) = %d", a, b, c)
			}
		}
	}
	for v, want := range map[string]string{"0": "1", "9": "10", "1.9": "1.10", "3.0": "3.1", "99999999999999999999": "100000000000000000000", "x": "x.0"} {
		if got := Increase(v); got != want {
			t.Errorf("Increase(%s) = %s", v, got)
		}
	}
}

func FuzzRevisions(f *testing.F) {
	f.Add("1.10", "1.9", "2")
	f.Add("", "x.1", "007")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		sign := func(n int) int { return max(-1, min(n, 1)) }
		if sign(Compare(a, b)) != -sign(Compare(b, a)) {
			t.Fatalf("%q %q: not antisymmetric", a, b)
		}
		if Compare(a, b) <= 0 && Compare(b, c) <= 0 && Compare(a, c) > 0 {
			t.Fatalf("%q %q %q: not transitive", a, b, c)
		}
		if Valid(a) && (Compare(Increase(a), a) <= 0) {
			t.Fatalf("Increase(%q) = %q", a, Increase(a))
		}
	})
}

// file makes a database by a script, as BitBake's server of some version would.
func file(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "old.sqlite3")
	f, err := litefile.Open(path, litefile.Options{}, litefile.Schema{Name: "x", Steps: []string{script}})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Write(t.Context(), func(tx *litefile.Tx) error { return tx.Script(`DROP TABLE slipway`) }); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

const oldTable = ` (version TEXT NOT NULL, pkgarch TEXT NOT NULL, checksum TEXT NOT NULL, value INTEGER, PRIMARY KEY (version, pkgarch, checksum));`

func TestOldDatabases(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"2.0 without history": `CREATE TABLE PRMAIN_nohist` + oldTable + `INSERT INTO PRMAIN_nohist VALUES ('v', 'p', 'a', 11), ('v', 'p', 'b', 9);`,
		"2.0 with both":       `CREATE TABLE PRMAIN_nohist` + oldTable + `CREATE TABLE PRMAIN_hist` + oldTable + `INSERT INTO PRMAIN_nohist VALUES ('v', 'p', 'a', 11); INSERT INTO PRMAIN_hist VALUES ('v', 'p', 'b', 9);`,
		"2.10":                bitbakeTable + `INSERT INTO PRMAIN VALUES ('v', 'p', 'a', '11'), ('v', 'p', 'b', '9');`,
		"2.10 that forgot":    bitbakeTable + `INSERT INTO PRMAIN VALUES ('v', 'p', 'b', '0'); CREATE TABLE PRMAIN_nohist` + oldTable + `INSERT INTO PRMAIN_nohist VALUES ('v', 'p', 'a', 11), ('v', 'p', 'b', 9);`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := file(t, script)
			d, err := Open(path, false)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if v, err := d.Get(t.Context(), "v", "p", "a", false); err != nil || v != "11" {
				t.Error(v, err)
			}
			if v, err := d.Get(t.Context(), "v", "p", "new", false); err != nil || v != "12" {
				t.Error(v, err)
			}
			other, err := Open(filepath.Join(t.TempDir(), "other"), false)
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			out := filepath.Join(t.TempDir(), "out")
			n, err := d.Export(t.Context(), out)
			if err != nil {
				t.Fatal(err)
			}
			if m, err := other.Import(t.Context(), out); err != nil || m != n {
				t.Fatal(m, n, err)
			}
			a, _ := d.Rows(t.Context(), "", "", "", true)
			b, _ := other.Rows(t.Context(), "", "", "", true)
			if !slices.Equal(a, b) || len(a) < 3 {
				t.Errorf("%v\n%v", a, b)
			}
		})
	}
}

func TestBump(t *testing.T) {
	t.Parallel()
	d, err := Open(filepath.Join(t.TempDir(), "pr"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, v := range []string{"gcc-13.2-r0", "gcc-cross-13.2-r0", "gcc-git-r0"} {
		d.Get(t.Context(), v, "p", "a", false)
	}
	rows, err := d.Bump(t.Context(), "gcc")
	if err != nil || len(rows) != 2 {
		t.Fatal(rows, err)
	}
	for v, want := range map[string]string{"gcc-13.2-r0": "2", "gcc-git-r0": "2", "gcc-cross-13.2-r0": "0"} {
		if got, _ := d.Get(t.Context(), v, "p", "a", false); got != want {
			t.Errorf("%s: %s", v, got)
		}
	}
	if _, err := d.Bump(t.Context(), "nothing"); err == nil {
		t.Error("an unknown recipe was bumped")
	}
}
