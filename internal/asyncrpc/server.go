package asyncrpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"slipway/internal/errs"
)

// Refusal is an error that the client is told, as {"invoke-error": ...}. Any
// other error of a session closes the connection without a word, as BitBake does.
type Refusal string

func (r Refusal) Error() string { return string(r) }

// Session answers the messages of one connection, one at a time.
type Session interface {
	// Handle answers one message, an object with at least one key. A nil answer
	// sends nothing: the session has used the connection itself.
	Handle(ctx context.Context, msg map[string]json.RawMessage) (any, error)
	// Close is called once, when the connection is over.
	Close()
}

// Quick is what a [Session] may have beside Handle, for messages that are
// frequent and small: it answers msg by appending JSON of less than 32,767 ASCII
// characters to out, or leaves it to Handle (ok is false). It changes nothing
// before it is sure to answer. msg is valid during the call.
type Quick interface {
	Quick(ctx context.Context, msg, out []byte) (answer []byte, ok bool, err error)
}

// maxQuick bounds the messages that are offered to Quick, and so its answers.
const maxQuick = 8 << 10

// Null is the answer null.
var Null = json.RawMessage("null")

// Protocol is what a server speaks.
type Protocol struct {
	Name    string                      // first word of the handshake
	Accepts func(major, minor int) bool // versions
	New     func(c *Conn) Session       // a session for a client that has shaken hands
	Log     *slog.Logger                // nil: silent
	Limits  Limits
}

// Server serves one protocol on any number of listeners.
type Server struct {
	Protocol
	memory *budget

	mu       sync.Mutex
	conns    map[wire]struct{}
	closed   bool
	working  sync.WaitGroup
	total    atomic.Int64
	refused  atomic.Int64
	received atomic.Int64
	failed   atomic.Int64
	faultAt  atomic.Int64
}

// NewServer makes a server; it does nothing before [Server.Serve].
func NewServer(p Protocol) *Server {
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	p.Limits = p.Limits.filled()
	return &Server{Protocol: p, memory: newBudget(p.Limits.Memory), conns: map[wire]struct{}{}}
}

// Counts are numbers of a server since it was made.
type Counts struct {
	Open     int   `json:"open"`     // connections now
	Total    int64 `json:"total"`    // connections ever
	Refused  int64 `json:"refused"`  // over the limit of connections
	Messages int64 `json:"messages"` // without the lines of streams
	Failed   int64 `json:"failed"`   // clients cut off by an error of the server
}

// Counts gives the numbers.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Counts{len(s.conns), s.total.Load(), s.refused.Load(), s.received.Load(), s.failed.Load()}
}

// Listener is a bound address; clients may connect from now on.
type Listener struct {
	net.Listener
	ws   bool
	addr string
}

// Address is where clients find it, the port filled in.
func (l *Listener) Address() string { return l.addr }

// Listen binds an address. reusePort lets several processes share a port.
func Listen(ctx context.Context, address string, reusePort bool) (*Listener, error) {
	a, err := ParseAddress(address)
	if err != nil {
		return nil, err
	}
	switch a.Kind {
	case "unix":
		l, err := listenUnix(a.Host)
		if err != nil {
			return nil, err
		}
		return &Listener{l, false, "unix://" + l.(*unixListener).path}, nil
	case "ws":
		u, err := url.Parse(a.Host)
		if err != nil || u.Scheme != "ws" {
			return nil, errs.E(errs.Invalid, "listen on "+address, errs.Hint("TLS is the business of a proxy in front: bind ws://"))
		}
		hostport := u.Host
		if u.Port() == "" {
			hostport = net.JoinHostPort(u.Hostname(), "80")
		}
		l, err := listenTCP(ctx, hostport, reusePort)
		if err != nil {
			return nil, err
		}
		return &Listener{l, true, "ws://" + l.Addr().String()}, nil
	}
	l, err := listenTCP(ctx, a.Host, reusePort)
	if err != nil {
		return nil, err
	}
	return &Listener{l, false, l.Addr().String()}, nil
}

// Serve accepts clients until ctx is done; then it stops listening, ends every
// connection, waits for the sessions, and returns nil. A listener that fails is
// an error.
func (s *Server) Serve(ctx context.Context, listeners ...*Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { failed <- s.acceptAll(ctx, l) }()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	cancel()
	s.mu.Lock()
	s.closed = true
	for w := range s.conns {
		w.close()
	}
	s.mu.Unlock()
	for _, l := range listeners {
		l.Close()
	}
	s.working.Wait()
	return err
}

func (s *Server) acceptAll(ctx context.Context, l *Listener) error {
	if l.ws {
		err := serveWS(l, s.Limits, s.memory, func(w wire) { s.serve(ctx, w) })
		if ctx.Err() != nil {
			return nil
		}
		return errs.E(errs.Unavailable, "accept on "+l.addr, err)
	}
	pause := 5 * time.Millisecond
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return errs.E(errs.Unavailable, "accept on "+l.addr, err)
			}
			// Out of descriptors: those who are connected go on.
			s.Log.Warn("accept", "address", l.addr, "error", err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, time.Second)
			continue
		}
		pause = 5 * time.Millisecond
		go s.serve(ctx, newStream(c, s.Limits, s.memory))
	}
}

// serve is the life of one connection.
func (s *Server) serve(ctx context.Context, w wire) {
	s.mu.Lock()
	if s.closed || len(s.conns) >= s.Limits.Conns {
		full := !s.closed
		s.mu.Unlock()
		if full {
			s.refused.Add(1)
			s.Log.Warn("too many connections", "limit", s.Limits.Conns, "client", w.peer())
		}
		w.close()
		return
	}
	s.conns[w] = struct{}{}
	s.working.Add(1)
	s.mu.Unlock()
	s.total.Add(1)
	defer func() {
		w.close()
		w.release()
		s.mu.Lock()
		delete(s.conns, w)
		s.mu.Unlock()
		s.working.Done()
	}()
	err := s.talk(ctx, &Conn{w, s.Limits, s.memory})
	w.bye(ctx)
	switch {
	case err == nil, errors.Is(err, io.EOF), ctx.Err() != nil:
		s.Log.Debug("client left", "client", w.peer())
	case ours(err):
		s.fault(w.peer(), err)
	default:
		s.Log.Info("client cut off", "client", w.peer(), "error", err)
	}
}

// ours reports whether an error is the server's and not its client's: a database
// that is full, damaged or locked.
func ours(err error) bool {
	var e *errs.Error
	if !errors.As(err, &e) || errors.As(err, new(net.Error)) {
		return false
	}
	switch e.Kind {
	case errs.Unavailable, errs.Locked, errs.Denied, errs.Conflict, errs.Failed, errs.Internal:
		return true
	}
	return false
}

// fault logs an error of the server, at most one a second.
func (s *Server) fault(client string, err error) {
	s.failed.Add(1)
	now := time.Now().UnixNano()
	if last := s.faultAt.Load(); now-last < int64(time.Second) || !s.faultAt.CompareAndSwap(last, now) {
		return
	}
	s.Log.Error("a request failed, its client was cut off", "client", client, "error", err, "hints", errs.Hints(err), "failed_so_far", s.failed.Load())
}

func (s *Server) talk(ctx context.Context, c *Conn) error {
	c.w.deadline(time.Now().Add(s.Limits.Handshake))
	if err := s.handshake(c); err != nil {
		return err
	}
	c.w.deadline(time.Time{})
	session := s.New(c)
	defer session.Close()
	quick, _ := session.(Quick)
	var out []byte
	for {
		b, done, err := c.ReadMessage()
		if err != nil {
			return err
		}
		if quick != nil && len(b) <= maxQuick {
			answer, ok, err := quick.Quick(ctx, b, out[:0])
			if ok || err != nil {
				done()
				s.received.Add(1)
				if err != nil {
					return s.refuse(c, err)
				}
				if err := c.WriteLine(answer); err != nil {
					return err
				}
				if out = answer; c.More() {
					continue // answers to what has arrived leave together
				}
				if err := c.Flush(); err != nil {
					return err
				}
				continue
			}
		}
		if err := c.Flush(); err != nil {
			done()
			return err
		}
		if len(b) > maxSimple && elements(b) > maxElements {
			done()
			return errs.E(errs.Invalid, "a message of too many parts")
		}
		var msg map[string]json.RawMessage
		if err := json.Unmarshal(b, &msg); err != nil {
			done()
			return errs.E(errs.Invalid, "a message that is no JSON object", err)
		}
		if len(msg) == 0 { // null ends a connection in good order
			done()
			return nil
		}
		s.received.Add(1)
		answer, err := session.Handle(ctx, msg)
		done()
		if err != nil {
			return s.refuse(c, err)
		}
		if answer != nil {
			if err := c.WriteMessage(answer); err != nil {
				return err
			}
		}
	}
}

// A message of many megabytes may be one long text; one of a million small values
// would take a hundred times its size when it is decoded.
const (
	maxSimple   = 64 << 10
	maxElements = 20_000
)

// elements counts the commas and brackets of a JSON text outside of its strings.
func elements(b []byte) (n int) {
	inside := false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			inside = !inside
		case !inside:
			if c == ',' || c == '{' || c == '[' {
				n++
			}
		case c == '\\':
			i++
		}
	}
	return n
}

// refuse tells the client of a Refusal; other errors it gives back. Answers that
// were ready leave before.
func (s *Server) refuse(c *Conn, err error) error {
	var no Refusal
	if errors.As(err, &no) {
		s.Log.Info("refused", "client", c.Peer(), "reason", fmt.Sprintf("%.300s", string(no)))
		return c.WriteMessage(map[string]any{"invoke-error": map[string]string{"message": string(no)}})
	}
	c.Flush()
	return err
}

// maxHeaders bounds the header lines of a handshake.
const maxHeaders = 100

// handshake reads what the client says of itself, and answers if it wants headers.
func (s *Server) handshake(c *Conn) error {
	line, err := c.ReadLine()
	if err != nil {
		return err
	}
	name, version, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
	major, minor, ok := parseVersion(strings.TrimSpace(version))
	if name != s.Name || !ok || !s.Accepts(major, minor) {
		return errs.E(errs.Invalid, "a handshake for another protocol or version")
	}
	wants := false
	for n := 0; ; n++ {
		line, err := c.ReadLine()
		if err != nil {
			return unexpected(err)
		}
		h := strings.TrimSpace(string(line))
		if h == "" {
			break
		}
		tag, value, ok := strings.Cut(h, ":")
		if !ok || n == maxHeaders {
			return errs.E(errs.Invalid, "a bad header line, or too many")
		}
		if strings.EqualFold(tag, "needs-headers") {
			wants = strings.TrimSpace(value) == "true"
		}
	}
	if !wants {
		return nil
	}
	if err := c.WriteLine(nil); err != nil { // no headers are defined
		return err
	}
	return c.Flush()
}

func parseVersion(s string) (major, minor int, ok bool) {
	a, b, ok := strings.Cut(s, ".")
	if !ok {
		return 0, 0, false
	}
	major, err1 := strconv.Atoi(a)
	minor, err2 := strconv.Atoi(b)
	return major, minor, err1 == nil && err2 == nil && major >= 0 && minor >= 0
}
