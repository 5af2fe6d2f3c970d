package cli

import (
	"context"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"slipway/internal/errs"
	"slipway/internal/hashserv"
	"slipway/internal/hashserv/hashdb"
	"slipway/internal/hashserv/hashpg"
	"slipway/internal/postgres"
	"slipway/internal/prserv"
	"slipway/internal/prserv/prdb"
	"slipway/internal/prserv/prpg"
)

// hashTables is a hash equivalence database, in a file or on PostgreSQL.
type hashTables interface {
	hashserv.Database
	Import(ctx context.Context, path string) (hashdb.Imported, error)
	Export(ctx context.Context, path string) error
	Close() error
}

// openHash opens the database that --database names.
func openHash(ctx context.Context, name string, o hashpg.Options) (hashTables, error) {
	if err := onlyPostgres(name); err != nil {
		return nil, err
	}
	if postgres.IsURL(name) {
		return hashpg.Open(ctx, name, o)
	}
	if o.User != "" || o.Password != "" {
		return nil, errs.E(errs.Invalid, "a user or a password for the database "+name+", which is a file", errs.Hint("they are for postgresql://..."))
	}
	return hashdb.Open(name, hashdb.Options{ReadOnly: o.ReadOnly, IndexBytes: o.IndexBytes})
}

// prTables is a PR database, in a file or on PostgreSQL.
type prTables interface {
	prserv.Database
	Import(ctx context.Context, path string) (int64, error)
	Export(ctx context.Context, path string) (int64, error)
	Bump(ctx context.Context, recipe string) ([]prdb.Row, error)
	Close() error
}

// openPR opens the database that --file names.
func openPR(ctx context.Context, name string, readOnly bool) (prTables, error) {
	if err := onlyPostgres(name); err != nil {
		return nil, err
	}
	if postgres.IsURL(name) {
		return prpg.Open(ctx, name, prpg.Options{ReadOnly: readOnly})
	}
	return prdb.Open(name, readOnly)
}

// onlyPostgres refuses the address of a database server of another kind.
func onlyPostgres(name string) error {
	if scheme := schemeOf(name); scheme != "" && !postgres.IsURL(name) {
		return errs.E(errs.Invalid, "a database of kind "+scheme, errs.Hint("a file, or postgresql://USER@HOST:PORT/DATABASE"))
	}
	return nil
}

// noSecrets refuses passwords on the command line, where everybody on the machine
// can read them.
func noSecrets(c *cobra.Command, database string) error {
	if f := c.Flags().Lookup(database); f.Changed && postgres.IsURL(f.Value.String()) && postgres.HasPassword(f.Value.String()) {
		return errs.E(errs.Invalid, "a password in --"+database+": everybody on the machine can read it", errs.Hint("put it into $PGPASSWORD, or into a file that $PGPASSFILE names"))
	}
	if f := c.Flags().Lookup("db-password"); f != nil && f.Changed {
		return errs.E(errs.Invalid, "--db-password: everybody on the machine can read it", errs.Hint("put it into $HASHSERVER_DB_PASSWORD, or into a file that $PGPASSFILE names"))
	}
	return nil
}

// dbLogin are BitBake's variables for a database server.
func dbLogin(user string) hashpg.Options {
	return hashpg.Options{User: user, Password: os.Getenv("HASHSERVER_DB_PASSWORD")}
}

// schemeOf gives the kind of database in an address, "" for a file.
func schemeOf(name string) string {
	scheme, _, ok := strings.Cut(name, "://")
	if !ok || strings.ContainsAny(scheme, "/.") {
		return ""
	}
	return scheme
}
