package signer

import (
	"io"
	"net"
	"syscall"
)

// wire reads and writes a connection with blocking calls, around Go's poller: an
// exchange is two lines, and waking the poller costs more than both. A read that waits
// is ended by hang.
type wire struct {
	c   *net.UnixConn
	raw syscall.RawConn
}

func newWire(c *net.UnixConn) (*wire, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var berr error
	if err := raw.Control(func(fd uintptr) { berr = syscall.SetNonblock(int(fd), false) }); err != nil {
		return nil, err
	}
	return &wire{c, raw}, berr
}

func (w *wire) Read(b []byte) (n int, err error) {
	rerr := w.raw.Read(func(fd uintptr) bool {
		for {
			if n, err = syscall.Read(int(fd), b); err != syscall.EINTR {
				return true
			}
		}
	})
	switch {
	case rerr != nil:
		return 0, rerr
	case err != nil:
		return 0, err
	case n == 0 && len(b) > 0:
		return 0, io.EOF
	}
	return n, nil
}

func (w *wire) Write(b []byte) (done int, err error) {
	rerr := w.raw.Write(func(fd uintptr) bool {
		for done < len(b) {
			n, werr := syscall.Write(int(fd), b[done:])
			if werr == syscall.EINTR {
				continue
			}
			if werr != nil {
				err = werr
				return true
			}
			done += n
		}
		return true
	})
	if rerr != nil {
		err = rerr
	}
	return done, err
}

// hang ends the conversation for both sides; a read that waits gets io.EOF.
func (w *wire) hang() {
	_ = w.c.CloseRead()
	_ = w.c.CloseWrite()
}
