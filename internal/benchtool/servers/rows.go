package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"slipway/internal/hashserv/hashdb"
	"slipway/internal/hashserv/litefile"
)

const method = "oe.sstatesig.OEOuthashBasic"

// manyRows is from how many rows on the tables of outputs stay empty: only lookups
// are measured there, and the file would not fit.
const manyRows = 5_000_000

// prepare makes the databases, or copies those that an earlier run has left.
func prepare(ctx context.Context, c config, ours, theirs string) error {
	kept := func(path, name string) string {
		if c.cache == "" {
			return path
		}
		return filepath.Join(c.cache, fmt.Sprintf("%s-%d.db", name, c.rows))
	}
	once := func(path string, fn func(path string) error) error {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		if err := fn(path + ".part"); err != nil {
			return err
		}
		return os.Rename(path+".part", path)
	}
	files := map[string]string{kept(ours, "ours"): ours}
	if err := once(kept(ours, "ours"), func(path string) error { return makeRows(ctx, path, c.rows) }); err != nil {
		return err
	}
	if c.bitbake != "" {
		files[kept(theirs, "theirs")] = theirs
		if err := once(kept(theirs, "theirs"), func(path string) error { return export(ctx, kept(ours, "ours"), path) }); err != nil {
			return err
		}
	}
	for from, to := range files {
		if from == to {
			continue
		}
		if b, err := exec.CommandContext(ctx, "cp", "--reflink=auto", from, to).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, b)
		}
	}
	return nil
}

func export(ctx context.Context, ours, theirs string) error {
	d, err := hashdb.Open(ours, hashdb.Options{IndexBytes: -1})
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Export(ctx, theirs)
}

// makeRows makes our database: of four tasks three are the first with their
// output, and the fourth is equal to one before it, as builds are. The tables are
// written in the order of their keys, and the indexes afterwards: a server takes
// minutes for a million reports.
func makeRows(ctx context.Context, path string, n int) error {
	f, err := litefile.Open(path, litefile.Options{}, hashdb.Schema())
	if err != nil {
		return err
	}
	defer f.Close()
	var indexes []string
	if err := f.Write(ctx, func(tx *litefile.Tx) error {
		for _, name := range []string{"unihash_uni", "outhash_task"} {
			r, err := tx.Row(`SELECT sql FROM sqlite_master WHERE name = ?`, name)
			if err != nil {
				return err
			}
			indexes = append(indexes, r[0].(string))
			if err := tx.Script(`DROP INDEX ` + name); err != nil {
				return err
			}
		}
		_, _, err := tx.Exec(`INSERT INTO method VALUES (1, ?)`, method)
		return err
	}); err != nil {
		return err
	}
	uni := func(i int) int {
		if i%4 == 3 {
			return i - 3
		}
		return i
	}
	insert := func(key func(i int) int, row func(tx *litefile.Tx, i int) error) error {
		order := make([]uint32, n)
		for i := range order {
			order[i] = uint32(i)
		}
		slices.SortFunc(order, func(a, b uint32) int { return cmp.Compare(prefix(key(int(a))), prefix(key(int(b)))) })
		for chunk := range slices.Chunk(order, 20_000) {
			if err := f.Write(ctx, func(tx *litefile.Tx) error {
				for _, i := range chunk {
					if err := row(tx, int(i)); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	}
	if err := insert(func(i int) int { return i }, func(tx *litefile.Tx, i int) error {
		var u any
		if uni(i) != i {
			u = raw(uni(i))
		}
		_, _, err := tx.Exec(`INSERT INTO unihash VALUES (1, ?, ?, 0)`, raw(i), u)
		return err
	}); err != nil {
		return err
	}
	out := func(i int) int { return uni(i) + 1<<40 }
	if n < manyRows {
		if err := insert(out, func(tx *litefile.Tx, i int) error {
			_, _, err := tx.Exec(`INSERT INTO outhash VALUES (1, ?, ?, ?, NULL)`, raw(out(i)), 1_700_000_000_000_000+int64(i)*1000, raw(i))
			return err
		}); err != nil {
			return err
		}
	}
	for _, sql := range indexes {
		if err := f.Write(ctx, func(tx *litefile.Tx) error { return tx.Script(sql) }); err != nil {
			return err
		}
	}
	return f.Close()
}
