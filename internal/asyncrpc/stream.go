package asyncrpc

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// stream is a wire over a byte stream. While it waits for its peer it holds no
// buffer: a thousand silent clients cost their sockets.
type stream struct {
	c    net.Conn
	raw  syscall.RawConn // of c; nil when it has none
	lim  Limits
	mem  *budget
	held int64  // of mem, for a buffer over largeBuf
	buf  []byte // buf[r:] has been read and not been given out
	r    int
	out  []byte

	until time.Time // the deadline of writes that is set

	attempt func(fd uintptr) bool // s.try, made once
	err     error                 // of the last try
}

const (
	smallBuf = 4 << 10  // up to here an answer needs no buffer of the pool
	largeBuf = 64 << 10 // what is read at once
)

// buffers are of largeBuf bytes, for what has just arrived and for what is about
// to leave.
var buffers = sync.Pool{New: func() any { return new([largeBuf]byte) }}

func takeBuffer() []byte { return buffers.Get().(*[largeBuf]byte)[:0] }

// giveBuffer takes a buffer of the pool back; others are left to the collector.
func giveBuffer(b []byte) {
	if cap(b) == largeBuf {
		buffers.Put((*[largeBuf]byte)(b[:largeBuf]))
	}
}

func newStream(c net.Conn, lim Limits, mem *budget) *stream {
	s := &stream{c: c, lim: lim, mem: mem}
	if sc, ok := c.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			s.raw = raw
		}
	}
	s.attempt = s.try
	return s
}

func (s *stream) chunks() bool         { return true }
func (s *stream) close() error         { return s.c.Close() }
func (s *stream) bye(context.Context)  {}
func (s *stream) deadline(t time.Time) { s.c.SetReadDeadline(t) }

func (s *stream) release() {
	s.mem.give(s.held)
	giveBuffer(s.buf)
	giveBuffer(s.out)
	s.held, s.buf, s.out = 0, nil, nil
}

func (s *stream) peer() string {
	if a := s.c.RemoteAddr(); a != nil && a.String() != "" && a.String() != "@" {
		return a.String()
	}
	return "local"
}

func (s *stream) more() bool { return bytes.IndexByte(s.buf[s.r:], '\n') >= 0 }

func (s *stream) readLine() ([]byte, error) {
	seen := 0
	for {
		if i := bytes.IndexByte(s.buf[s.r+seen:], '\n'); i >= 0 {
			line := s.buf[s.r : s.r+seen+i]
			s.r += seen + i + 1
			if len(line) > s.lim.Line {
				return nil, errTooLong
			}
			if n := len(line); n > 0 && line[n-1] == '\r' {
				line = line[:n-1]
			}
			return line, nil
		}
		seen = len(s.buf) - s.r
		if seen > s.lim.Line {
			return nil, errTooLong
		}
		if err := s.fill(); err != nil {
			if err == io.EOF && seen > 0 {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// fill reads once, after making room: to the front, then by growing.
func (s *stream) fill() error {
	have := len(s.buf) - s.r
	switch {
	case have == 0:
		if cap(s.buf) > largeBuf {
			s.mem.give(s.held)
			s.held, s.buf = 0, nil
		}
		s.buf = s.buf[:0]
	case have*2 > cap(s.buf):
		n := int64(cap(s.buf)) * 2
		if !s.mem.take(n) {
			return errNoMemory
		}
		s.mem.give(s.held)
		s.held = n
		old := s.buf
		s.buf = append(make([]byte, 0, n), old[s.r:]...)
		giveBuffer(old)
	default:
		s.buf = append(s.buf[:0], s.buf[s.r:]...)
	}
	s.r = 0
	if s.raw == nil {
		s.room()
		n, err := s.c.Read(s.buf[have:cap(s.buf)])
		s.buf = s.buf[:have+n]
		if n > 0 {
			return nil
		}
		if err == nil {
			return io.ErrNoProgress
		}
		return err
	}
	s.err = nil
	if err := s.raw.Read(s.attempt); err != nil {
		return err
	}
	return s.err
}

func (s *stream) room() {
	if cap(s.buf) == 0 {
		s.buf = takeBuffer()
	}
}

// try reads what has arrived; false: nothing has, so wait.
func (s *stream) try(fd uintptr) bool {
	s.room()
	have := len(s.buf)
	for {
		n, err := syscall.Read(int(fd), s.buf[have:cap(s.buf)])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			s.rest()
			return false
		case err != nil:
			s.err = os.NewSyscallError("read", err)
		case n == 0:
			s.err = io.EOF
		default:
			s.buf = s.buf[:have+n]
		}
		return true
	}
}

// rest gives back the buffers that are empty, before a wait.
func (s *stream) rest() {
	if s.r == len(s.buf) && cap(s.buf) == largeBuf {
		giveBuffer(s.buf)
		s.buf, s.r = nil, 0
	}
	if len(s.out) == 0 && cap(s.out) > smallBuf {
		giveBuffer(s.out)
		s.out = nil
	}
}

// write queues bytes, and sends what is queued when it is much.
func (s *stream) write(b []byte) error {
	for {
		if len(s.out)+len(b) > smallBuf && cap(s.out) < largeBuf {
			s.out = append(takeBuffer(), s.out...)
		}
		n := len(b)
		if room := largeBuf - len(s.out); cap(s.out) >= largeBuf && n >= room {
			n = room
		}
		s.out = append(s.out, b[:n]...)
		if b = b[n:]; len(s.out) >= largeBuf {
			if err := s.flush(); err != nil {
				return err
			}
		}
		if len(b) == 0 {
			return nil
		}
	}
}

var newline = []byte("\n")

func (s *stream) writeLine(line []byte) error {
	if err := s.write(line); err != nil {
		return err
	}
	return s.write(newline)
}

func (s *stream) flush() error {
	if len(s.out) == 0 {
		return nil
	}
	// Setting a deadline costs as much as a small write: one serves for a while.
	if now := time.Now(); s.until.Sub(now) < s.lim.Write {
		s.until = now.Add(s.lim.Write * 3 / 2)
		s.c.SetWriteDeadline(s.until)
	}
	_, err := s.c.Write(s.out)
	s.out = s.out[:0]
	return err
}
