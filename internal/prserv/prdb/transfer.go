package prdb

import (
	"context"
	"database/sql/driver"
	"fmt"
	"os"

	"slipway/internal/errs"
	"slipway/internal/hashserv/litefile"
)

// Import adds the rows of a database file of BitBake's server, of any version, or
// of ours, and says how many it read.
func (d *DB) Import(ctx context.Context, path string) (n int64, err error) {
	return Read(ctx, path, d.Put)
}

// Read gives the rows of a database file, of BitBake's server or of ours, to put.
func Read(ctx context.Context, path string, put func(context.Context, ...Row) error) (n int64, err error) {
	err = litefile.ReadSource(path, func(c *litefile.Conn) error {
		found := false
		for _, table := range []string{"PRMAIN", "PRMAIN_nohist", "PRMAIN_hist"} {
			if ok, err := c.HasTable(table); err != nil {
				return err
			} else if !ok {
				continue
			}
			found = true
			var rows []Row
			if err := c.Rows(`SELECT version, pkgarch, checksum, value FROM `+table, nil, func(r []driver.Value) error {
				rows = append(rows, Row{fmt.Sprint(r[0]), fmt.Sprint(r[1]), fmt.Sprint(r[2]), fmt.Sprint(r[3])})
				return nil
			}); err != nil {
				return err
			}
			for len(rows) > 0 {
				k := min(len(rows), 1000)
				if err := put(ctx, rows[:k]...); err != nil {
					return err
				}
				rows = rows[k:]
				n += int64(k)
			}
		}
		if !found {
			return errs.E(errs.Invalid, path+" is no database of a PR server", errs.Hint("BitBake's is called prserv.sqlite3"))
		}
		return nil
	})
	return n, err
}

// Export writes all rows to a new file that BitBake 2.10 and later reads.
func (d *DB) Export(ctx context.Context, path string) (n int64, err error) {
	rows, err := d.Rows(ctx, "", "", "", true)
	if err != nil {
		return 0, err
	}
	return WriteBitBake(ctx, path, rows)
}

// WriteBitBake writes rows to a new file that BitBake 2.10 and later reads.
func WriteBitBake(ctx context.Context, path string, rows []Row) (n int64, err error) {
	if _, err := os.Stat(path); err == nil {
		return 0, errs.E(errs.Conflict, "export to "+path+": the file exists", errs.Hint("give another name"))
	}
	temp := path + ".part"
	os.Remove(temp)
	out, err := litefile.Open(temp, litefile.Options{Full: true}, litefile.Schema{Name: "export", Steps: []string{bitbakeTable}})
	if err != nil {
		return 0, err
	}
	defer os.Remove(temp)
	if err := out.Write(ctx, func(tx *litefile.Tx) error {
		for _, r := range rows {
			if err := store(tx, r); err != nil {
				return err
			}
		}
		return tx.Script(`DROP TABLE slipway`)
	}); err != nil {
		out.Close()
		return 0, err
	}
	if err := out.Close(); err != nil {
		return 0, err
	}
	return int64(len(rows)), errs.Wrap(os.Rename(temp, path), "export to %s", path)
}
