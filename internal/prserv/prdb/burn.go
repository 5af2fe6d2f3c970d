package prdb

import (
	"context"
	"database/sql/driver"

	"slipway/internal/hashserv/litefile"
)

// Given gives the greatest number that was given for each version and architecture,
// those of overlays that were dropped included. Checksums are "".
func (d *DB) Given(ctx context.Context) (rows []Row, err error) {
	top := map[[2]string]string{}
	err = d.f.Read(ctx, func(c *litefile.Conn) error {
		for _, table := range []string{"PRMAIN", "burned"} {
			if err := c.Rows(`SELECT version, pkgarch, CAST(value AS TEXT) FROM `+table, nil, func(r []driver.Value) error {
				k := [2]string{r[0].(string), r[1].(string)}
				top[k] = greatest(top[k], r[2].(string))
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	})
	for k, v := range top {
		rows = append(rows, Row{Version: k[0], Pkgarch: k[1], Value: v})
	}
	return rows, err
}

// Burn notes numbers as given, so that no output gets them or one below; what is
// known already and higher stays. All of it or nothing after a crash.
func (d *DB) Burn(ctx context.Context, rows []Row) error {
	return d.f.Write(ctx, func(tx *litefile.Tx) error {
		for _, r := range rows {
			k, err := d.look(ctx, tx.Conn, r.Version, r.Pkgarch, "")
			if err != nil {
				return err
			}
			if top := greatest(k.Max, k.burned); top != "" && Compare(r.Value, top) <= 0 {
				continue
			}
			if err := burned(tx, r.Version, r.Pkgarch, r.Value); err != nil {
				return err
			}
		}
		return nil
	})
}
