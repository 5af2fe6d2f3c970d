package hashserv

import (
	"context"
	"time"

	"slipway/internal/hashserv/hashdb"
)

// Database is what a server answers from: a file (hashdb.DB), or PostgreSQL
// (hashpg.DB). What each method promises is said at hashdb.DB; one suite of tests
// runs over both.
type Database interface {
	// Ready looks at what other processes have written; the lookups that follow
	// see at least that.
	Ready(ctx context.Context) error
	AppendUnihash(ctx context.Context, dst, method, task []byte) ([]byte, bool, error)
	Exists(ctx context.Context, uni []byte) (bool, error)
	Unihash(ctx context.Context, method, task string) (string, error)
	ByTask(ctx context.Context, method, task string) (*hashdb.Row, error)
	ByOutput(ctx context.Context, method, out string, withUnihash bool) (*hashdb.Row, error)

	Report(ctx context.Context, method, task, out, offer string, x hashdb.Extra) (string, error)
	Settled(ctx context.Context, method, task, out string) (bool, error)
	Assign(ctx context.Context, method, task, offer string) (string, error)
	Insert(ctx context.Context, rows ...hashdb.Row) error

	Remove(ctx context.Context, w hashdb.Where) (int64, error)
	CleanUnused(ctx context.Context, age time.Duration) (int64, error)
	Mark(ctx context.Context, mark string, wheres ...hashdb.Where) ([]int64, error)
	Sweep(ctx context.Context, mark string) (int64, error)
	Status(ctx context.Context) (hashdb.Status, error)
	Usage(ctx context.Context) (map[string]int64, error)

	User(ctx context.Context, name string) (*hashdb.User, error)
	Users(ctx context.Context) ([]hashdb.User, error)
	AddUser(ctx context.Context, u hashdb.User) (bool, error)
	PutUser(ctx context.Context, u hashdb.User) error
	SetToken(ctx context.Context, name, token string) (bool, error)
	SetPermissions(ctx context.Context, name string, perms []string) (bool, error)
	DeleteUser(ctx context.Context, name string) (bool, error)

	// Index says how the index in memory stands.
	Index() hashdb.IndexState
	// Writes counts transactions written, and says when the last one was: zero for none.
	Writes() (n int64, last time.Time)
	// Name is the file, or the address of the database without its password.
	Name() string
}

// remote is a database that is dear to ask: AppendUnihash and Exists answer from
// its index alone, and what that does not decide is asked once for a burst.
type remote interface {
	// Unihashes gives the unihash of each line METHOD TASKHASH, nil for none.
	Unihashes(ctx context.Context, lines [][]byte) ([][]byte, error)
	// Exist says "true" for each unihash that is known, nil for the others.
	Exist(ctx context.Context, unis [][]byte) ([][]byte, error)
}
