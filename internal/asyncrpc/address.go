package asyncrpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"slipway/internal/errs"
)

// Address is where a server is, in BitBake's notation: HOST:PORT, [V6]:PORT,
// :PORT (every interface), unix://PATH, ws://HOST:PORT, and for clients wss://.
type Address struct {
	Kind string // tcp, unix, ws
	Host string // HOST:PORT of tcp; the URL of ws; the path of unix
}

// ParseAddress reads an address.
func ParseAddress(s string) (Address, error) {
	if p, ok := strings.CutPrefix(s, "unix://"); ok {
		if p == "" {
			return Address{}, errs.E(errs.Invalid, fmt.Sprintf("address %q: no path", s), errs.Hint("unix:///run/hashserv.sock"))
		}
		return Address{"unix", p}, nil
	}
	if strings.HasPrefix(s, "ws://") || strings.HasPrefix(s, "wss://") {
		if u, err := url.Parse(s); err != nil || u.Host == "" {
			return Address{}, errs.E(errs.Invalid, fmt.Sprintf("address %q: no host", s), errs.Hint("ws://HOST:PORT"))
		}
		return Address{"ws", s}, nil
	}
	_, port, err := net.SplitHostPort(s)
	if n, perr := strconv.Atoi(port); err != nil || perr != nil || n < 0 || n > 65535 {
		return Address{}, errs.E(errs.Invalid, fmt.Sprintf("address %q", s), errs.Hint("HOST:PORT, [IPV6]:PORT, :PORT, unix://PATH or ws://HOST:PORT"))
	}
	return Address{"tcp", s}, nil
}

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 15 * time.Second, Count: 4}

// soReusePort is SO_REUSEPORT of Linux, which package syscall does not name.
const soReusePort = 0xf

// listenTCP binds hostport. An empty host is every interface.
func listenTCP(ctx context.Context, hostport string, reusePort bool) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive}
	if reusePort {
		lc.Control = func(_, _ string, raw syscall.RawConn) error {
			var err error
			if cerr := raw.Control(func(fd uintptr) {
				err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, soReusePort, 1)
			}); cerr != nil {
				return cerr
			}
			return err
		}
	}
	l, err := lc.Listen(ctx, "tcp", hostport)
	return l, bindFault(err, hostport)
}

func bindFault(err error, addr string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EADDRINUSE):
		return errs.E(errs.Conflict, "listen on "+addr, errs.Hint("another server listens there: stop it, or give another address"), err)
	case errors.Is(err, syscall.EACCES):
		return errs.E(errs.Denied, "listen on "+addr, errs.Hint("ports below 1024 and foreign folders need rights: give another address"), err)
	}
	return errs.E(errs.Unavailable, "listen on "+addr, err)
}

// unixListener removes its socket when it is closed, if the socket is still its own.
type unixListener struct {
	*net.UnixListener
	path string
	mine os.FileInfo
}

func (l *unixListener) Close() error {
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.mine) {
		os.Remove(l.path)
	}
	return l.UnixListener.Close()
}

// listenUnix binds path, which may be longer than a socket address. A socket that
// nobody listens on is replaced.
func listenUnix(path string) (net.Listener, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, errs.Wrap(err, "listen on %s", path)
	}
	short, done, err := shortPath(abs)
	if err != nil {
		return nil, errs.E(errs.NotFound, "listen on unix://"+path, errs.Hintf("make the folder %s first", filepath.Dir(path)), err)
	}
	defer done()
	if fi, err := os.Lstat(abs); err == nil {
		if fi.Mode()&os.ModeSocket == 0 {
			return nil, errs.E(errs.Conflict, "listen on unix://"+path+": there is a file that is no socket", errs.Hint("remove it, or give another path"))
		}
		if c, err := net.DialTimeout("unix", short, 2*time.Second); err == nil {
			c.Close()
			return nil, errs.E(errs.Conflict, "listen on unix://"+path, errs.Hint("another server listens there: stop it, or give another path"))
		}
		os.Remove(abs)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return nil, bindFault(err, "unix://"+path)
	}
	l.SetUnlinkOnClose(false)
	fi, err := os.Lstat(abs)
	if err != nil {
		l.Close()
		return nil, errs.Wrap(err, "listen on unix://%s", path)
	}
	return &unixListener{l, abs, fi}, nil
}

// shortPath names a socket so that it fits into a socket address (108 bytes):
// through a descriptor of its folder when it is long. done closes that.
func shortPath(path string) (short string, done func(), err error) {
	if len(path) < 108 {
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return "", nil, err
		}
		return path, func() {}, nil
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), filepath.Base(path)), func() { d.Close() }, nil
}

// dial connects to a stream address.
func dial(ctx context.Context, a Address) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: keepAlive}
	if a.Kind == "unix" {
		abs, err := filepath.Abs(a.Host)
		if err != nil {
			return nil, err
		}
		short, done, err := shortPath(abs)
		if err != nil {
			return nil, err
		}
		defer done()
		return d.DialContext(ctx, "unix", short)
	}
	return d.DialContext(ctx, "tcp", a.Host)
}
