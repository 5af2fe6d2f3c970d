package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"slipway/internal/asyncrpc"
	"slipway/internal/config"
	"slipway/internal/errs"
	"slipway/internal/hashserv"
)

func (a *app) hashservCmd() *cobra.Command {
	g := group("hashserv", "hash equivalence server of BitBake", "  slipway hashserv serve --bind :8686",
		a.hashservServeCmd(), a.hashservImportCmd(), a.hashservExportCmd(), a.hashservStatsCmd())
	return g
}

// env gives a default from BitBake's environment variables.
func env(name, def string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return def
}

// level reads BitBake's names of log levels.
func level(name string) (slog.Level, error) {
	switch strings.ToUpper(name) {
	case "DEBUG":
		return slog.LevelDebug, nil
	case "INFO":
		return slog.LevelInfo, nil
	case "WARNING":
		return slog.LevelWarn, nil
	case "ERROR", "CRITICAL":
		return slog.LevelError, nil
	}
	return 0, errs.E(errs.Invalid, fmt.Sprintf("log level %q", name), errs.Hint("ERROR, WARNING, INFO or DEBUG"))
}

const hashDatabase = "./hashserv.db"

type hashservFlags struct {
	o                           hashserv.Options
	bind, database, log, anon   string
	dbUser, dbPassword, metrics string
	reusePort                   bool
	indexMB, connections        int
}

func (a *app) hashservServeCmd() *cobra.Command {
	var f hashservFlags
	c := &cobra.Command{Use: "serve", Short: "serve hash equivalence, with the options of bitbake-hashserv", Args: cobra.NoArgs,
		Example: "  slipway hashserv serve --bind :8686 --database /var/lib/hashserv.db\n  slipway hashserv serve --bind ws://127.0.0.1:8686 --anon-perms @read",
		Long: `Serve answers BitBake 2.0 to 2.19 until it gets SIGTERM. Addresses are as in
BitBake: HOST:PORT, [IPV6]:PORT, :PORT, unix://PATH, ws://HOST:PORT. A database of
BitBake's own server is taken over when it is opened; slipway hashserv export
gives it back. See docs/hashserv.md.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := noSecrets(c, "database"); err != nil {
				return err
			}
			return a.hashservServe(c.Context(), f)
		}}
	fl := c.Flags()
	fl.StringVarP(&f.bind, "bind", "b", env("HASHSERVER_BIND", "unix://./hashserve.sock"), "address to listen on ($HASHSERVER_BIND)")
	fl.StringVarP(&f.database, "database", "d", env("HASHSERVER_DB", hashDatabase), "database file, or postgresql://USER@HOST/DATABASE ($HASHSERVER_DB)")
	fl.StringVarP(&f.log, "log", "l", env("HASHSERVER_LOG_LEVEL", "WARNING"), "ERROR, WARNING, INFO or DEBUG ($HASHSERVER_LOG_LEVEL)")
	fl.StringVarP(&f.o.Upstream, "upstream", "u", env("HASHSERVER_UPSTREAM", ""), "server to ask for what is not known here ($HASHSERVER_UPSTREAM)")
	fl.BoolVarP(&f.o.ReadOnly, "read-only", "r", os.Getenv("HASHSERVER_READ_ONLY") == "1", "write nothing ($HASHSERVER_READ_ONLY=1)")
	fl.StringVar(&f.dbUser, "db-username", env("HASHSERVER_DB_USERNAME", ""), "user of the database server ($HASHSERVER_DB_USERNAME)")
	fl.StringVar(&f.dbPassword, "db-password", "", "not here: $HASHSERVER_DB_PASSWORD, $PGPASSFILE")
	fl.StringVar(&f.anon, "anon-perms", env("HASHSERVER_ANON_PERMS", "@read,@report,@db-admin"), "rights without a login, with commas ($HASHSERVER_ANON_PERMS)")
	fl.StringVar(&f.o.AdminUser, "admin-user", env("HASHSERVER_ADMIN_USER", ""), "make this user, with all rights ($HASHSERVER_ADMIN_USER)")
	fl.StringVar(&f.o.AdminPassword, "admin-password", "", "its password ($HASHSERVER_ADMIN_PASSWORD)")
	fl.BoolVar(&f.reusePort, "reuseport", false, "share the port with other servers")
	fl.BoolVar(&f.o.AnyUnihash, "any-unihash", false, "take unihashes that are not 64 hex digits, as BitBake did before June 2026")
	fl.IntVar(&f.indexMB, "index-mb", 1024, "memory for the index, MiB; -1: no index")
	fl.IntVar(&f.connections, "max-connections", 4096, "connections at once")
	fl.StringVar(&f.metrics, "metrics", "", "address for Prometheus (GET /metrics)")
	return c
}

// limitMemory has the collector keep the process near its index: by itself it lets
// a heap grow to twice of what is in use. $GOMEMLIMIT outweighs it.
func limitMemory(indexMB int) {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(int64(max(indexMB, 0))<<20*5/4 + 192<<20)
	}
}

// logger writes structured lines to the talk of the command.
func (a *app) logger(name string) (*slog.Logger, error) {
	l, err := level(name)
	if err != nil {
		return nil, err
	}
	return slog.New(slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: l})), nil
}

func (a *app) hashservServe(ctx context.Context, f hashservFlags) (err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGQUIT)
	defer stop()
	if f.o.Log, err = a.logger(f.log); err != nil {
		return err
	}
	if f.o.AdminPassword == "" {
		f.o.AdminPassword = os.Getenv("HASHSERVER_ADMIN_PASSWORD")
	}
	f.o.AnonPerms = strings.FieldsFunc(f.anon, func(r rune) bool { return r == ',' || r == ' ' })
	if f.o.AnonPerms == nil {
		f.o.AnonPerms = []string{}
	}
	f.o.Limits = asyncrpc.Limits{Conns: f.connections}
	limitMemory(f.indexMB)
	// Everything is ready before anybody can connect.
	login := dbLogin(f.dbUser)
	login.ReadOnly, login.IndexBytes = f.o.ReadOnly, int64(f.indexMB)<<20
	db, err := openHash(ctx, f.database, login)
	if err != nil {
		return err
	}
	f.o.DB = db
	defer func() {
		if cerr := db.Close(); err == nil {
			err = cerr
		}
	}()
	s, err := hashserv.New(ctx, f.o)
	if err != nil {
		return err
	}
	l, err := asyncrpc.Listen(ctx, f.bind, f.reusePort)
	if err != nil {
		return err
	}
	if f.metrics != "" {
		if err := asyncrpc.ServeMetrics(ctx, f.metrics, s.Metrics); err != nil {
			return err
		}
	}
	if host := strings.TrimPrefix(f.bind, "ws://"); !f.o.ReadOnly && !strings.HasPrefix(f.bind, "unix://") && !config.PrivateAddress(host) && (slices.Contains(f.o.AnonPerms, "@report") || slices.Contains(f.o.AnonPerms, "@db-admin")) {
		f.o.Log.Warn("whoever reaches this server may write, and remove, without a login: if that is everybody, serve with --read-only or --anon-perms @read", "address", l.Address())
	}
	f.o.Log.Info("serving", "address", l.Address(), "database", db.Name(), "upstream", f.o.Upstream, "read_only", f.o.ReadOnly)
	return s.Serve(ctx, l)
}

func (a *app) hashservImportCmd() *cobra.Command {
	var database, user string
	c := &cobra.Command{Use: "import FILE", Short: "add the rows of another database, BitBake's or ours", Args: cobra.ExactArgs(1),
		Example: "  slipway hashserv import build/cache/hashserv.db --database hashserv.db",
		RunE: func(c *cobra.Command, args []string) error {
			if err := noSecrets(c, "database"); err != nil {
				return err
			}
			o := dbLogin(user)
			o.IndexBytes = -1
			d, err := openHash(c.Context(), database, o)
			if err != nil {
				return err
			}
			defer d.Close()
			n, err := d.Import(c.Context(), args[0])
			if err != nil {
				return err
			}
			return a.print(n, func(w io.Writer) {
				fmt.Fprintf(w, "%d unihashes, %d outhashes, %d users\n", n.Unihashes, n.Outhashes, n.Users)
			})
		}}
	c.Flags().StringVarP(&database, "database", "d", env("HASHSERVER_DB", hashDatabase), "database file, or postgresql://...; its server may go on serving")
	c.Flags().StringVar(&user, "db-username", env("HASHSERVER_DB_USERNAME", ""), "user of the database server ($HASHSERVER_DB_USERNAME)")
	return c
}

func (a *app) hashservExportCmd() *cobra.Command {
	var database, user string
	c := &cobra.Command{Use: "export FILE", Short: "write a database that BitBake's server reads, users included", Args: cobra.ExactArgs(1),
		Example: "  slipway hashserv export for-bitbake.db --database hashserv.db",
		RunE: func(c *cobra.Command, args []string) error {
			if err := noSecrets(c, "database"); err != nil {
				return err
			}
			o := dbLogin(user)
			o.ReadOnly, o.IndexBytes = true, -1
			d, err := openHash(c.Context(), database, o)
			if err != nil {
				return err
			}
			defer d.Close()
			return d.Export(c.Context(), args[0])
		}}
	c.Flags().StringVarP(&database, "database", "d", env("HASHSERVER_DB", hashDatabase), "database file, or postgresql://...; its server may go on serving")
	c.Flags().StringVar(&user, "db-username", env("HASHSERVER_DB_USERNAME", ""), "user of the database server ($HASHSERVER_DB_USERNAME)")
	return c
}

func (a *app) hashservStatsCmd() *cobra.Command {
	var address string
	c := &cobra.Command{Use: "stats", Short: "ask a running server for its numbers", Args: cobra.NoArgs,
		Example: "  slipway hashserv stats --bind :8686",
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), 30*time.Second)
			defer cancel()
			r, err := asyncrpc.Dial(ctx, address, hashserv.Protocol, "1.1")
			if err != nil {
				return err
			}
			defer r.Close()
			var stats struct {
				Requests map[string]float64 `json:"requests"`
			}
			var usage struct {
				Usage map[string]struct {
					Rows int64 `json:"rows"`
				} `json:"usage"`
			}
			if err := r.Invoke(ctx, "get-stats", nil, &stats); err != nil {
				return err
			}
			if err := r.Invoke(ctx, "get-db-usage", struct{}{}, &usage); err != nil {
				return err
			}
			return a.print(map[string]any{"requests": stats.Requests, "usage": usage.Usage}, func(w io.Writer) {
				q := stats.Requests
				fmt.Fprintf(w, "%.0f requests, %.3f s in all, %.6f s on average, %.6f s at most\n", q["num"], q["total_time"], q["average"], q["max_time"])
				fmt.Fprintf(w, "%d unihashes, %d outhashes, %d users\n", usage.Usage["unihashes_v3"].Rows, usage.Usage["outhashes_v2"].Rows, usage.Usage["users"].Rows)
			})
		}}
	c.Flags().StringVarP(&address, "bind", "b", env("HASHSERVER_BIND", "unix://./hashserve.sock"), "address of the server")
	return c
}
