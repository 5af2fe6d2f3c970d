package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"slipway/internal/asyncrpc"
	"slipway/internal/config"
	"slipway/internal/cycle"
	"slipway/internal/errs"
	"slipway/internal/hashserv"
	"slipway/internal/hashserv/hashdb"
	"slipway/internal/prserv"
	"slipway/internal/prserv/prdb"
	"slipway/internal/web"
)

type serveFlags struct{ listen, hash, pr, metrics string }

func (a *app) serveCmd() *cobra.Command {
	var f serveFlags
	c := &cobra.Command{Use: "serve", Short: "serve the publication over HTTP, and the databases to BitBake", Args: cobra.NoArgs,
		Example: "  slipway serve\n  slipway serve --listen 127.0.0.1:9000\n  slipway serve --hashserv 0.0.0.0:8686 --prserv 127.0.0.1:8585",
		Long: `Serve gives the publication to browsers and package managers until Ctrl-C. With
--hashserv and --prserv it also answers BitBake with what the approved releases
have, for reading only: approving a build is what adds to the databases. See
docs/hashserv.md and docs/prserv.md.`,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(c.Context(), read, func(ctx context.Context, w *cycle.Workspace) error { return a.serve(ctx, w, f) })
		}}
	fl := c.Flags()
	fl.StringVar(&f.listen, "listen", "", "address and port (default: settings.yaml, 127.0.0.1:8080)")
	fl.StringVar(&f.hash, "hashserv", "", "address for hash equivalence: HOST:PORT, unix://PATH, ws://HOST:PORT (default: settings.yaml, none)")
	fl.StringVar(&f.pr, "prserv", "", "address for PR numbers, HOST:PORT of a private network (default: settings.yaml, none)")
	fl.StringVar(&f.metrics, "metrics", "", "address for Prometheus (GET /metrics), of --hashserv and --prserv")
	return c
}

func (a *app) serve(ctx context.Context, w *cycle.Workspace, f serveFlags) (err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	log, err := a.logger("WARNING")
	if err != nil {
		return err
	}
	if f.hash == "" {
		f.hash = w.Settings.Serve.Hashserv
	}
	if f.pr == "" {
		f.pr = w.Settings.Serve.Prserv
	} else if !config.PrivateAddress(f.pr) {
		return errs.E(errs.Refused, fmt.Sprintf("a PR server at %q may be reached by everybody", f.pr), errs.Hint("PR servers are never public: give an address of this machine or of a private network, as 127.0.0.1:8585"))
	}
	done := make(chan error, 3)
	running := 0
	start := func(serve func() error) {
		running++
		go func() {
			done <- serve()
			stop() // one that ends, ends all
		}()
	}
	// What runs has ended before the databases below are closed.
	closing := []func() error{}
	defer func() {
		stop()
		keep := func(e error) {
			if err == nil {
				err = e
			}
		}
		for range running {
			keep(<-done)
		}
		for _, c := range slices.Backward(closing) {
			keep(c())
		}
	}()
	var numbers []func() []asyncrpc.Metric
	if f.hash != "" {
		db, err := hashdb.Open(w.Databases(), hashdb.Options{ReadOnly: true})
		if err != nil {
			return noDatabases(err)
		}
		closing = append(closing, db.Close)
		s, err := hashserv.New(ctx, hashserv.Options{DB: db, ReadOnly: true, AnonPerms: []string{"@read"}, Log: log})
		if err != nil {
			return err
		}
		l, err := asyncrpc.Listen(ctx, f.hash, false)
		if err != nil {
			return err
		}
		numbers = append(numbers, s.Metrics)
		start(func() error { return s.Serve(ctx, l) })
		fmt.Fprintf(a.Err, "hash equivalence at %s\n", l.Address())
	}
	if f.pr != "" {
		db, err := prdb.Open(w.Databases(), true)
		if err != nil {
			return noDatabases(err)
		}
		closing = append(closing, db.Close)
		s, err := prserv.New(prserv.Options{DB: db, ReadOnly: true, Log: log})
		if err != nil {
			return err
		}
		l, err := asyncrpc.Listen(ctx, f.pr, false)
		if err != nil {
			return err
		}
		numbers = append(numbers, s.Metrics)
		start(func() error { return s.Serve(ctx, l) })
		fmt.Fprintf(a.Err, "PR numbers at %s\n", l.Address())
	}
	if f.metrics != "" {
		if len(numbers) == 0 {
			return errs.E(errs.Invalid, "--metrics without --hashserv or --prserv: the publication has none")
		}
		if err := asyncrpc.ServeMetrics(ctx, f.metrics, func() (all []asyncrpc.Metric) {
			for _, n := range numbers {
				all = append(all, n()...)
			}
			return all
		}); err != nil {
			return err
		}
	}
	if f.listen == "" {
		f.listen = w.Settings.Serve.Listen
	}
	start(func() error {
		err := web.Serve(ctx, f.listen, web.Handler(w.Settings.PublicationDir()), func(addr string) {
			fmt.Fprintf(a.Err, "serving %s at http://%s/ (Ctrl-C ends it)\n", w.Settings.PublicationDir(), addr)
		})
		if ctx.Err() != nil {
			return nil
		}
		return err
	})
	<-ctx.Done()
	return nil
}

// noDatabases says what makes the databases of a workspace.
func noDatabases(err error) error {
	if errs.Is(err, errs.NotFound) {
		return errs.E(errs.NotFound, "this workspace has no databases yet", errs.Hint("slipway build makes them"))
	}
	return err
}
