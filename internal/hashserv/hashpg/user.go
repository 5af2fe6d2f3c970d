package hashpg

import (
	"context"
	"strings"

	"slipway/internal/errs"
	"slipway/internal/hashserv/hashdb"
	"slipway/internal/postgres"
)

// User gives a user, nil when there is none of that name.
func (d *DB) User(ctx context.Context, name string) (*hashdb.User, error) {
	list, err := d.users(ctx, `SELECT name, token, permissions FROM hash_user WHERE name = $1`, name)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &list[0], nil
}

// Users gives all users, by name.
func (d *DB) Users(ctx context.Context) ([]hashdb.User, error) {
	return d.users(ctx, `SELECT name, token, permissions FROM hash_user ORDER BY name COLLATE "C"`)
}

func (d *DB) users(ctx context.Context, query string, args ...any) (list []hashdb.User, err error) {
	err = d.pg.Read(ctx, func(c *postgres.Conn) error {
		list = nil
		return c.Rows(ctx, query, args, func(scan postgres.Scan) error {
			u, err := scanUser(scan)
			list = append(list, u)
			return err
		})
	})
	return list, err
}

func scanUser(scan postgres.Scan) (hashdb.User, error) {
	var name, token, perms string
	err := scan(&name, &token, &perms)
	return hashdb.User{Name: name, Token: token, Permissions: strings.Fields(perms)}, err
}

func (d *DB) userExec(ctx context.Context, repeatable bool, query string, args ...any) (done bool, err error) {
	if d.opts.ReadOnly {
		return false, d.readOnly()
	}
	err = d.pg.Write(ctx, repeatable, func(*postgres.Conn) (*postgres.Batch, error) {
		b := &postgres.Batch{}
		b.Exec(func(n int64) { done = n > 0 }, query, args...)
		return b, nil
	})
	return done, err
}

// AddUser adds a user; false: there is one of that name.
func (d *DB) AddUser(ctx context.Context, u hashdb.User) (bool, error) {
	return d.userExec(ctx, false, `INSERT INTO hash_user VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, u.Name, u.Token, strings.Join(u.Permissions, " "))
}

// PutUser adds or replaces a user.
func (d *DB) PutUser(ctx context.Context, u hashdb.User) error {
	_, err := d.userExec(ctx, true, `INSERT INTO hash_user VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE SET token = excluded.token, permissions = excluded.permissions`,
		u.Name, u.Token, strings.Join(u.Permissions, " "))
	return err
}

// SetToken changes a token; false: no such user.
func (d *DB) SetToken(ctx context.Context, name, token string) (bool, error) {
	return d.userExec(ctx, true, `UPDATE hash_user SET token = $1 WHERE name = $2`, token, name)
}

// SetPermissions changes permissions; false: no such user.
func (d *DB) SetPermissions(ctx context.Context, name string, perms []string) (bool, error) {
	return d.userExec(ctx, true, `UPDATE hash_user SET permissions = $1 WHERE name = $2`, strings.Join(perms, " "), name)
}

// DeleteUser removes a user; false: no such user.
func (d *DB) DeleteUser(ctx context.Context, name string) (bool, error) {
	return d.userExec(ctx, false, `DELETE FROM hash_user WHERE name = $1`, name)
}

// Import adds what a database file of BitBake's server (any table version) or of
// ours holds; what is known here stays. Servers may go on serving meanwhile.
func (d *DB) Import(ctx context.Context, path string) (hashdb.Imported, error) {
	return hashdb.Read(ctx, path, d)
}

// Export writes what the database holds now, users included, to a new SQLite file
// that BitBake's server reads, and ours. Others go on writing meanwhile.
func (d *DB) Export(ctx context.Context, path string) error {
	return hashdb.WriteBitBake(ctx, path, func(out *hashdb.BitBakeFile) error {
		begun := false
		return d.pg.Snapshot(ctx, func(c *postgres.Conn) error {
			if begun {
				return errs.E(errs.Unavailable, "the connection was lost in the middle of an export", errs.Hint("do it again"))
			}
			begun = true
			return export(ctx, c, out)
		})
	})
}

func export(ctx context.Context, c *postgres.Conn, out *hashdb.BitBakeFile) error {
	if err := c.Rows(ctx, `SELECT m.name, u.task, coalesce(u.uni, u.task), k.name FROM hash_unihash u JOIN hash_method m ON m.id = u.method LEFT JOIN hash_mark k ON k.id = u.mark ORDER BY u.method, u.task`, nil, func(scan postgres.Scan) error {
		var method string
		var task, uni []byte
		var mark *string
		if err := scan(&method, &task, &uni, &mark); err != nil {
			return err
		}
		return out.Unihash(method, text(task), text(uni), str(mark))
	}); err != nil {
		return err
	}
	if err := c.Rows(ctx, `SELECT `+rowColumns+`, NULL::bytea, m.name FROM hash_outhash o JOIN hash_method m ON m.id = o.method ORDER BY o.created, o.method, o.task`, nil, func(scan postgres.Scan) error {
		row, err := scanRow("", scan)
		if err != nil {
			return err
		}
		row.Method, row.Mark = row.Mark, ""
		return out.Outhash(*row)
	}); err != nil {
		return err
	}
	if err := c.Rows(ctx, `SELECT name, token, permissions FROM hash_user ORDER BY name`, nil, func(scan postgres.Scan) error {
		u, err := scanUser(scan)
		if err != nil {
			return err
		}
		return out.User(u)
	}); err != nil {
		return err
	}
	return c.Rows(ctx, `SELECT k.name FROM hash_state s JOIN hash_mark k ON k.id = s.mark`, nil, func(scan postgres.Scan) error {
		var name string
		if err := scan(&name); err != nil {
			return err
		}
		return out.Mark(name)
	})
}
