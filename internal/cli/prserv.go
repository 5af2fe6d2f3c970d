package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"slipway/internal/asyncrpc"
	"slipway/internal/config"
	"slipway/internal/errs"
	"slipway/internal/prserv"
)

const prDatabase = "prserv.sqlite3"

func (a *app) prservCmd() *cobra.Command {
	return group("prserv", "numbers of packages: the PR server of BitBake", "  slipway prserv serve --port 8585",
		a.prservServeCmd(), a.prservImportCmd(), a.prservExportCmd(), a.prservBumpCmd(), a.prservStatsCmd())
}

type prservFlags struct {
	o                                  prserv.Options
	file, logFile, level, host, metric string
	port                               int
	start, stop                        bool
}

func (a *app) prservServeCmd() *cobra.Command {
	var f prservFlags
	c := &cobra.Command{Use: "serve", Short: "serve PR numbers, with the options of bitbake-prserv", Args: cobra.NoArgs,
		Example: "  slipway prserv serve --host 127.0.0.1 --port 8585 --file prserv.sqlite3\n  slipway prserv serve --start --file prserv.sqlite3 --log prserv.log\n  slipway prserv serve --stop",
		Long: `Serve answers BitBake 2.0 to 2.19 until it gets SIGTERM. With --start it goes to
the background, once it listens; --stop ends that server (the same --host and
--port). Without either it stays in the foreground. See docs/prserv.md.

Never make a PR server public: whoever reaches it can take numbers.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := noSecrets(c, "file"); err != nil {
				return err
			}
			switch {
			case f.start && f.stop:
				return errs.E(errs.Invalid, "--start and --stop exclude each other")
			case f.stop:
				return a.prservStop(c.Context(), f)
			case f.start:
				return a.prservStart(c.Context(), f)
			}
			return a.prservServe(c.Context(), f)
		}}
	fl := c.Flags()
	fl.StringVarP(&f.file, "file", "f", prDatabase, "database file, or postgresql://USER@HOST/DATABASE")
	fl.StringVarP(&f.logFile, "log", "l", "prserv.log", "log file of a server in the background")
	fl.StringVar(&f.level, "loglevel", "INFO", "ERROR, WARNING, INFO or DEBUG")
	fl.BoolVar(&f.start, "start", false, "start in the background")
	fl.BoolVar(&f.stop, "stop", false, "stop the one in the background")
	fl.StringVar(&f.host, "host", "127.0.0.1", "address to listen on: of this machine or a private network")
	fl.IntVar(&f.port, "port", 8585, "port to listen on")
	fl.BoolVarP(&f.o.ReadOnly, "read-only", "r", false, "keep no new numbers")
	fl.StringVarP(&f.o.Upstream, "upstream", "u", env("PRSERV_UPSTREAM", ""), "PR server to give numbers below, HOST:PORT ($PRSERV_UPSTREAM)")
	fl.IntVar(&f.o.Offset, "offset", 0, "first number of each package: above those of an official server, for releases without PRSERV_UPSTREAM")
	fl.StringVar(&f.metric, "metrics", "", "address for Prometheus (GET /metrics)")
	return c
}

// readyEnv names the descriptor on which a server in the background says that it
// listens, in the environment of that server alone.
const readyEnv = "SLIPWAY_PRSERV_READY_FD"

func (a *app) prservServe(ctx context.Context, f prservFlags) (err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGQUIT)
	defer stop()
	if f.o.Log, err = a.logger(f.level); err != nil {
		return err
	}
	db, err := openPR(ctx, f.file, f.o.ReadOnly)
	if err != nil {
		return err
	}
	f.o.DB = db
	defer func() {
		if cerr := db.Close(); err == nil {
			err = cerr
		}
	}()
	s, err := prserv.New(f.o)
	if err != nil {
		return err
	}
	l, err := asyncrpc.Listen(ctx, net.JoinHostPort(f.host, strconv.Itoa(f.port)), false)
	if err != nil {
		return err
	}
	if f.metric != "" {
		if err := asyncrpc.ServeMetrics(ctx, f.metric, s.Metrics); err != nil {
			return err
		}
	}
	if host := net.JoinHostPort(f.host, strconv.Itoa(f.port)); !config.PrivateAddress(host) {
		f.o.Log.Warn("a PR server must never be public: whoever reaches it takes numbers, and imports some", "address", l.Address())
	}
	f.o.Log.Info("serving", "address", l.Address(), "database", db.Name(), "upstream", f.o.Upstream, "read_only", f.o.ReadOnly, "pid", os.Getpid())
	if fd, err := strconv.Atoi(os.Getenv(readyEnv)); err == nil {
		ready := os.NewFile(uintptr(fd), "ready")
		fmt.Fprintln(ready, "ready")
		ready.Close()
	}
	return s.Serve(ctx, l)
}

// pidFile is where BitBake's program keeps the process number, so that either
// program stops the other's server.
func pidFile(ctx context.Context, f prservFlags) (string, error) {
	ip := f.host
	if net.ParseIP(ip) == nil {
		addrs, err := net.DefaultResolver.LookupIP(ctx, "ip4", f.host)
		if err != nil || len(addrs) == 0 {
			return "", errs.E(errs.NotFound, "host "+f.host, err)
		}
		ip = addrs[0].String()
	}
	return fmt.Sprintf("/tmp/PRServer_%s_%d.pid", ip, f.port), nil
}

// running reads a pid file; 0 when there is none, or its process is gone.
func running(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 || syscall.Kill(pid, 0) == syscall.ESRCH || ended(pid) {
		return 0
	}
	return pid
}

// ended reports a process that has ended and that nobody has waited for: in a
// container that may be for ever.
func ended(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(b), ") ") // the name may hold anything
	return err == nil && strings.HasPrefix(rest, "Z")
}

func (a *app) prservStart(ctx context.Context, f prservFlags) error {
	pids, err := pidFile(ctx, f)
	if err != nil {
		return err
	}
	if pid := running(pids); pid != 0 {
		return errs.E(errs.Conflict, fmt.Sprintf("a server for %s:%d runs already, process %d", f.host, f.port, pid), errs.Hintf("slipway prserv serve --stop --host %s --port %d", f.host, f.port))
	}
	self, err := os.Executable()
	if err != nil {
		return errs.Wrap(err, "find this program")
	}
	logPath, err := filepath.Abs(f.logFile)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(logPath, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return errs.E(errs.Unavailable, "log file "+logPath, errs.Hint("give another one with --log"), err)
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	file := f.file
	if schemeOf(file) == "" {
		if file, err = filepath.Abs(file); err != nil {
			return err
		}
	}
	args := []string{self, "prserv", "serve", "--file", file, "--host", f.host, "--port", strconv.Itoa(f.port), "--loglevel", f.level, "--metrics", f.metric, "--upstream", f.o.Upstream, "--offset", strconv.Itoa(f.o.Offset)}
	if f.o.ReadOnly {
		args = append(args, "--read-only")
	}
	p, err := os.StartProcess(self, args, &os.ProcAttr{Dir: "/", Env: append(os.Environ(), readyEnv+"=3"), Files: []*os.File{null, log, log, w}, Sys: &syscall.SysProcAttr{Setsid: true}})
	w.Close()
	if err != nil {
		return errs.E(errs.Unavailable, "start the server", err)
	}
	os.Remove(pids)
	if err := os.WriteFile(pids, fmt.Appendln(nil, p.Pid), 0o644); err != nil {
		p.Kill()
		return errs.E(errs.Unavailable, "pid file "+pids, err)
	}
	// The other end closes without a word when the server fails.
	said, _ := io.ReadAll(r)
	if string(said) == "ready\n" {
		return p.Release()
	}
	p.Wait()
	os.Remove(pids)
	return errs.E(errs.Failed, "the server did not start: "+lastLine(logPath), errs.Hint("see "+logPath))
}

func lastLine(path string) string {
	b, _ := os.ReadFile(path)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	for _, l := range lines[max(0, len(lines)-4):] {
		if e, ok := strings.CutPrefix(l, "error: "); ok {
			return e
		}
	}
	return lines[len(lines)-1]
}

func (a *app) prservStop(ctx context.Context, f prservFlags) error {
	pids, err := pidFile(ctx, f)
	if err != nil {
		return err
	}
	pid := running(pids)
	if pid == 0 {
		others, _ := filepath.Glob(strings.TrimSuffix(pids, strconv.Itoa(f.port)+".pid") + "*.pid")
		hint := "no server of this host runs in the background"
		if len(others) > 0 {
			hint = "others run: " + strings.Join(others, " ")
		}
		return errs.E(errs.NotFound, fmt.Sprintf("a server for %s:%d (%s)", f.host, f.port, pids), errs.Hint(hint))
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && err != syscall.ESRCH {
		return errs.E(errs.Denied, fmt.Sprintf("stop process %d", pid), err)
	}
	for end := time.Now().Add(10 * time.Second); running(pids) == pid; {
		if time.Now().After(end) || ctx.Err() != nil {
			return errs.E(errs.Failed, fmt.Sprintf("process %d does not end", pid))
		}
		time.Sleep(10 * time.Millisecond)
	}
	os.Remove(pids)
	return nil
}

// withPR runs fn on the database of --file.
func withPR(c *cobra.Command, file *string, fn func(context.Context, prTables) error) error {
	if err := noSecrets(c, "file"); err != nil {
		return err
	}
	d, err := openPR(c.Context(), *file, false)
	if err != nil {
		return err
	}
	defer d.Close()
	return fn(c.Context(), d)
}

func prFile(c *cobra.Command) *string {
	return c.Flags().StringP("file", "f", prDatabase, "database file, or postgresql://...; its server may go on serving")
}

func (a *app) prservImportCmd() *cobra.Command {
	var file *string
	c := &cobra.Command{Use: "import FILE", Short: "add the numbers of another database, BitBake's of any version or ours", Args: cobra.ExactArgs(1),
		Example: "  slipway prserv import build/cache/prserv.sqlite3 --file prserv.sqlite3",
		RunE: func(c *cobra.Command, args []string) error {
			return withPR(c, file, func(ctx context.Context, d prTables) error {
				n, err := d.Import(ctx, args[0])
				if err != nil {
					return err
				}
				return a.print(map[string]int64{"rows": n}, func(w io.Writer) { fmt.Fprintf(w, "%d numbers\n", n) })
			})
		}}
	file = prFile(c)
	return c
}

func (a *app) prservExportCmd() *cobra.Command {
	var file *string
	c := &cobra.Command{Use: "export FILE", Short: "write the numbers to a database that BitBake's server reads", Args: cobra.ExactArgs(1),
		Example: "  slipway prserv export for-bitbake.sqlite3 --file prserv.sqlite3",
		RunE: func(c *cobra.Command, args []string) error {
			return withPR(c, file, func(ctx context.Context, d prTables) error {
				n, err := d.Export(ctx, args[0])
				if err != nil {
					return err
				}
				return a.print(map[string]int64{"rows": n}, func(w io.Writer) { fmt.Fprintf(w, "%d numbers\n", n) })
			})
		}}
	file = prFile(c)
	return c
}

func (a *app) prservBumpCmd() *cobra.Command {
	var file *string
	c := &cobra.Command{Use: "bump RECIPE", Short: "raise the numbers of a recipe: its next build gets higher ones", Args: cobra.ExactArgs(1),
		Example: "  slipway prserv bump busybox --file prserv.sqlite3",
		RunE: func(c *cobra.Command, args []string) error {
			return withPR(c, file, func(ctx context.Context, d prTables) error {
				rows, err := d.Bump(ctx, args[0])
				if err != nil {
					return err
				}
				return a.print(map[string]any{"raised": rows}, func(w io.Writer) {
					for _, r := range rows {
						fmt.Fprintf(w, "%s %s: above %s\n", r.Version, r.Pkgarch, r.Value)
					}
				})
			})
		}}
	file = prFile(c)
	return c
}

func (a *app) prservStatsCmd() *cobra.Command {
	var file *string
	c := &cobra.Command{Use: "stats", Short: "say how many numbers a database holds", Args: cobra.NoArgs,
		Example: "  slipway prserv stats --file prserv.sqlite3",
		RunE: func(c *cobra.Command, _ []string) error {
			return withPR(c, file, func(ctx context.Context, d prTables) error {
				rows, err := d.Rows(ctx, "", "", "", true)
				if err != nil {
					return err
				}
				packages := map[[2]string]bool{}
				for _, r := range rows {
					packages[[2]string{r.Version, r.Pkgarch}] = true
				}
				return a.print(map[string]int{"rows": len(rows), "packages": len(packages)}, func(w io.Writer) {
					fmt.Fprintf(w, "%d numbers of %d packages\n", len(rows), len(packages))
				})
			})
		}}
	file = prFile(c)
	return c
}
