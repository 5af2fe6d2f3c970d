package asyncrpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// wsWire is a wire of WebSocket frames: one text frame is a line. A goroutine
// reads ahead, because a frame that has arrived cannot be asked for otherwise.
type wsWire struct {
	c      *websocket.Conn
	lim    Limits
	from   string
	mem    *budget
	held   int64 // of mem, for the frame that was given out last
	lines  chan []byte
	end    context.CancelFunc
	ended  chan struct{} // closed when the reader has stopped; then err is set
	err    error
	queue  [][]byte
	timer  *time.Timer // of the read deadline
	tmutex sync.Mutex
}

// readAhead bounds the frames that wait to be read.
const readAhead = 512

func newWS(c *websocket.Conn, from string, lim Limits, mem *budget) *wsWire {
	c.SetReadLimit(int64(lim.Message))
	ctx, end := context.WithCancel(context.Background())
	w := &wsWire{c: c, lim: lim, mem: mem, from: from, lines: make(chan []byte, readAhead), end: end, ended: make(chan struct{})}
	go w.read(ctx)
	return w
}

func (w *wsWire) read(ctx context.Context) {
	defer close(w.ended)
	for {
		typ, b, err := w.c.Read(ctx)
		if err == nil && typ != websocket.MessageText {
			err = errors.New("a frame that is no text")
		}
		if err == nil && len(b) > largeBuf && !w.mem.take(int64(len(b))) {
			err = errNoMemory
		}
		if err != nil {
			if s := websocket.CloseStatus(err); s == websocket.StatusNormalClosure || s == websocket.StatusGoingAway {
				err = io.EOF
			}
			w.err = err
			return
		}
		select {
		case w.lines <- bytes.TrimSuffix(b, []byte("\n")):
		case <-ctx.Done():
			w.err = ctx.Err()
			return
		}
	}
}

func (w *wsWire) readLine() ([]byte, error) {
	w.mem.give(w.held)
	w.held = 0
	select {
	case b := <-w.lines:
		return w.given(b), nil
	default:
	}
	select {
	case b := <-w.lines:
		return w.given(b), nil
	case <-w.ended:
		select {
		case b := <-w.lines: // what came before the end
			return w.given(b), nil
		default:
			return nil, w.err
		}
	}
}

func (w *wsWire) given(b []byte) []byte {
	if len(b) > largeBuf {
		w.held = int64(len(b))
	}
	return b
}

func (w *wsWire) release() {
	w.mem.give(w.held)
	w.held = 0
	for {
		select {
		case b := <-w.lines:
			w.given(b)
			w.mem.give(w.held)
			w.held = 0
		default:
			return
		}
	}
}

func (w *wsWire) more() bool   { return len(w.lines) > 0 }
func (w *wsWire) chunks() bool { return false }
func (w *wsWire) peer() string { return w.from }

func (w *wsWire) writeLine(line []byte) error {
	w.queue = append(w.queue, bytes.Clone(line))
	if len(w.queue) >= readAhead {
		return w.flush()
	}
	return nil
}

func (w *wsWire) flush() error {
	ctx, done := context.WithTimeout(context.Background(), w.lim.Write)
	defer done()
	for _, l := range w.queue {
		if err := w.c.Write(ctx, websocket.MessageText, l); err != nil {
			w.queue = nil
			return err
		}
	}
	w.queue = w.queue[:0]
	return nil
}

// farewell is how long a client may take to answer the close frame.
const farewell = 2 * time.Second

func (w *wsWire) bye(ctx context.Context) {
	done := make(chan struct{})
	go func() { w.c.Close(websocket.StatusNormalClosure, ""); close(done) }()
	t := time.NewTimer(farewell)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	case <-ctx.Done():
	}
}

func (w *wsWire) close() error {
	w.end()
	return w.c.CloseNow()
}

func (w *wsWire) deadline(t time.Time) {
	w.tmutex.Lock()
	defer w.tmutex.Unlock()
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	if !t.IsZero() {
		w.timer = time.AfterFunc(time.Until(t), func() { w.close() })
	}
}

// serveWS accepts WebSockets on l until it is closed, and hands each to accept,
// which keeps it until the connection is over. Pages of other origins are
// refused: a browser must not talk to the server in its user's name.
func serveWS(l net.Listener, lim Limits, mem *budget, accept func(wire)) error {
	srv := &http.Server{
		ReadHeaderTimeout: lim.Handshake,
		MaxHeaderBytes:    16 << 10,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
			if err != nil {
				return // it has been answered
			}
			accept(newWS(c, r.RemoteAddr, lim, mem))
		}),
	}
	return srv.Serve(l)
}

func dialWS(ctx context.Context, url string, lim Limits) (wire, error) {
	c, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return nil, err
	}
	return newWS(c, url, lim, nil), nil
}
