package hashdb

import (
	"context"
	"database/sql/driver"
	"strings"

	"slipway/internal/hashserv/litefile"
)

// User may log in. Token is the salted digest of what the user knows.
type User struct {
	Name        string
	Token       string
	Permissions []string
}

// User gives a user, nil when there is none of that name.
func (d *DB) User(ctx context.Context, name string) (u *User, err error) {
	err = d.f.Read(ctx, func(c *litefile.Conn) error {
		r, err := c.Row(`SELECT token, permissions FROM user WHERE name = ?`, name)
		if err == nil && r != nil {
			u = &User{name, r[0].(string), strings.Fields(r[1].(string))}
		}
		return err
	})
	return u, err
}

// Users gives all users, by name.
func (d *DB) Users(ctx context.Context) (list []User, err error) {
	err = d.f.Read(ctx, func(c *litefile.Conn) error {
		return c.Rows(`SELECT name, token, permissions FROM user ORDER BY name`, nil, func(r []driver.Value) error {
			list = append(list, User{r[0].(string), r[1].(string), strings.Fields(r[2].(string))})
			return nil
		})
	})
	return list, err
}

func (d *DB) userExec(ctx context.Context, query string, args ...any) (done bool, err error) {
	err = d.f.Write(ctx, func(tx *litefile.Tx) error {
		n, _, err := tx.Exec(query, args...)
		done = n > 0
		return err
	})
	return done, err
}

// AddUser adds a user; false: there is one of that name.
func (d *DB) AddUser(ctx context.Context, u User) (bool, error) {
	return d.userExec(ctx, `INSERT OR IGNORE INTO user VALUES (?, ?, ?)`, u.Name, u.Token, strings.Join(u.Permissions, " "))
}

// PutUser adds or replaces a user.
func (d *DB) PutUser(ctx context.Context, u User) error {
	_, err := d.userExec(ctx, `INSERT OR REPLACE INTO user VALUES (?, ?, ?)`, u.Name, u.Token, strings.Join(u.Permissions, " "))
	return err
}

// SetToken changes a token; false: no such user.
func (d *DB) SetToken(ctx context.Context, name, token string) (bool, error) {
	return d.userExec(ctx, `UPDATE user SET token = ? WHERE name = ?`, token, name)
}

// SetPermissions changes permissions; false: no such user.
func (d *DB) SetPermissions(ctx context.Context, name string, perms []string) (bool, error) {
	return d.userExec(ctx, `UPDATE user SET permissions = ? WHERE name = ?`, strings.Join(perms, " "), name)
}

// DeleteUser removes a user; false: no such user.
func (d *DB) DeleteUser(ctx context.Context, name string) (bool, error) {
	return d.userExec(ctx, `DELETE FROM user WHERE name = ?`, name)
}
