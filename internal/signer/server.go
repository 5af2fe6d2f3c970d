package signer

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"

	"slipway/internal/errs"
	"slipway/internal/keyring"
)

// Server serves the keys of a folder on a socket.
type Server struct {
	*Local
	Users []int          // user ids that may connect, beside the server's own and root
	Roles []keyring.Role // that are served; nil is all
}

// Listen makes the socket: mode 0600, or 0666 when other users are allowed, who are
// told from strangers by the kernel. A socket that a dead signer left is replaced; one
// that answers is Locked.
func Listen(path string, others bool) (*net.UnixListener, error) {
	if len(path) > 100 {
		return nil, errs.E(errs.Invalid, fmt.Sprintf("the path of the socket has %d characters, a kernel takes 107 at most", len(path)), errs.Hint("--socket /run/user/$UID/slipway.sock"))
	}
	if st, err := os.Lstat(path); err == nil {
		if st.Mode().Type() != os.ModeSocket {
			return nil, errs.E(errs.Conflict, path+" is there, and is no socket")
		}
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return nil, errs.E(errs.Locked, "a signer serves at "+path+" already")
		}
		if err := os.Remove(path); err != nil {
			return nil, errs.E(errs.Unavailable, "replace the socket of a dead signer", err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, errs.E(errs.Unavailable, "listen at "+path, err)
	}
	mode := os.FileMode(0o600)
	if others {
		mode = 0o666
	}
	// Between the two calls a stranger may connect, and is sent away: see admit.
	if err := os.Chmod(path, mode); err != nil {
		l.Close()
		return nil, errs.E(errs.Unavailable, "listen at "+path, err)
	}
	return l, nil
}

// Serve answers until ctx is done; then it ends every connection and gives nil.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := l.AcceptUnix()
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			cancel()
			return nil
		}
		if err != nil {
			cancel()
			return errs.E(errs.Unavailable, "wait for clients", err)
		}
		wg.Go(func() {
			defer c.Close()
			w, err := newWire(c)
			if err != nil {
				return
			}
			defer context.AfterFunc(ctx, w.hang)()
			s.converse(ctx, c, w)
			_ = s.Sync() // nobody is left to be told
		})
	}
}

// converse answers one client until it goes.
func (s *Server) converse(ctx context.Context, c *net.UnixConn, w *wire) {
	out := json.NewEncoder(w)
	who, err := s.admit(c)
	if err != nil {
		_ = out.Encode(failed(err))
		return
	}
	in := bufio.NewScanner(w)
	in.Buffer(make([]byte, 4096), maxLine)
	for in.Scan() {
		var r request
		var a response
		err := json.Unmarshal(in.Bytes(), &r)
		switch {
		case err != nil:
			err = errs.E(errs.Invalid, "no request of the signer's protocol", err)
		case s.Roles != nil && !slices.Contains(s.Roles, r.Role):
			err = errs.E(errs.Denied, fmt.Sprintf("this signer does not sign for the role %q", r.Role))
		default:
			a, err = s.answer(ctx, r, who)
		}
		if err != nil {
			a = failed(err)
		}
		if out.Encode(a) != nil {
			return
		}
	}
	if errors.Is(in.Err(), bufio.ErrTooLong) {
		_ = out.Encode(failed(errs.E(errs.Invalid, "no request of the signer's protocol", errTooLong)))
	}
}

// admit tells by the kernel's word who is at the other end.
func (s *Server) admit(c *net.UnixConn) (caller, error) {
	cred, err := peer(c)
	if err != nil {
		return caller{}, err
	}
	uid := int(cred.Uid)
	if uid != os.Geteuid() && uid != 0 && !slices.Contains(s.Users, uid) {
		return caller{}, errs.E(errs.Denied, fmt.Sprintf("user %d may not have anything signed", uid), errs.Hintf("slipway signer serve --allow-user %d lets that user", uid))
	}
	return caller{uid, int(cred.Pid)}, nil
}

func peer(c *net.UnixConn) (*syscall.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, errs.E(errs.Internal, "who is it", err)
	}
	var cred *syscall.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil || cerr != nil {
		return nil, errs.E(errs.Internal, "who is it", errors.Join(err, cerr))
	}
	return cred, nil
}
