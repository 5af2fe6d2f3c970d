package web

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"

	"slipway/internal/errs"
)

// noTime tells http.ServeContent that a body has no date.
var noTime time.Time

// grace is how long running downloads may go on after the context ends.
const grace = 3 * time.Second

// Serve listens on an address such as "127.0.0.1:8080" (port 0 takes a free
// one), calls ready once with the address that it really has, and serves until
// ctx ends; running downloads then get a few seconds. A server that was told to
// end returns nil.
//
// Errors: Unavailable when the address is in use, Denied when the port is
// privileged, Invalid when the address makes no sense.
func Serve(ctx context.Context, listen string, handler http.Handler, ready func(addr string)) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", listen)
	if err != nil {
		return listenError(listen, err)
	}
	srv := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	if ready != nil {
		ready(l.Addr().String())
	}
	select {
	case err := <-done:
		return errs.Wrap(err, "serve %s", listen)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := srv.Shutdown(end); err != nil {
		srv.Close() // a client that never reads must not keep us
	}
	<-done
	return nil
}

func listenError(listen string, err error) error {
	var dns *net.DNSError
	var addr *net.AddrError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return errs.E(errs.Unavailable, fmt.Sprintf("address %s is in use", listen),
			errs.Hint("slipway serve --listen 127.0.0.1:0 takes any free port"))
	case errors.Is(err, syscall.EACCES):
		return errs.E(errs.Denied, fmt.Sprintf("not allowed to listen on %s", listen),
			errs.Hint("ports below 1024 are root's: slipway serve --listen 127.0.0.1:8080"))
	case errors.As(err, &dns), errors.As(err, &addr):
		return errs.E(errs.Invalid, fmt.Sprintf("%q is no address to listen on", listen),
			errs.Hint("host:port, for instance 127.0.0.1:8080"), err)
	case errors.Is(err, context.Canceled):
		return err
	}
	return errs.E(errs.Unavailable, "listen on "+listen, err)
}
