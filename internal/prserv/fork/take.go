package fork

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"slipway/internal/errs"
	"slipway/internal/hashserv/hashdb"
	"slipway/internal/prserv/prdb"
)

// Take adds what the database files of other servers have to the overlay in dir, as
// far as the series does not have it: of a build that asked those servers. The files
// may be of BitBake's servers, which may go on serving, or of ours; "" is none. Numbers
// that they gave are burned in the series at once, as those of [Base.Fork] are. It may be
// repeated.
func (b *Base) Take(ctx context.Context, dir, pr, hash string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return errs.E(errs.Unavailable, "make the folder of a fork", err)
	}
	x, err := Open(filepath.Join(dir, overlay))
	if err != nil {
		return err
	}
	if pr != "" {
		_, err = prdb.Read(ctx, pr, func(ctx context.Context, rows ...prdb.Row) error {
			var fresh []prdb.Row
			for _, r := range rows {
				known, err := b.PR.Find(ctx, r.Version, r.Pkgarch, r.Checksum, false)
				if err != nil {
					return err
				}
				if known != r.Value {
					fresh = append(fresh, r)
				}
			}
			return errors.Join(x.PR.Put(ctx, fresh...), b.PR.Burn(ctx, fresh))
		})
		err = errs.Wrap(err, "PR database %s", pr)
	}
	if hash != "" && err == nil {
		_, err = hashdb.Read(ctx, hash, unknown{x.Hash, b.Hash})
		err = errs.Wrap(err, "hash equivalence database %s", hash)
	}
	return errors.Join(err, x.Close())
}

// unknown takes the rows that the series does not have, and no users.
type unknown struct{ to, base *hashdb.DB }

func (u unknown) Insert(ctx context.Context, rows ...hashdb.Row) error {
	var fresh []hashdb.Row
	for _, r := range rows {
		var known bool
		if r.Outhash == "" {
			uni, err := u.base.Unihash(ctx, r.Method, r.Taskhash)
			if err != nil {
				return err
			}
			known = uni != ""
		} else {
			old, err := u.base.ByOutput(ctx, r.Method, r.Outhash, false)
			if err != nil {
				return err
			}
			known = old != nil && old.Taskhash == r.Taskhash
		}
		if !known {
			fresh = append(fresh, r)
		}
	}
	return u.to.Insert(ctx, fresh...)
}

func (u unknown) AddUser(context.Context, hashdb.User) (bool, error) { return true, nil }
