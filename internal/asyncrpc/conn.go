package asyncrpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"

	"slipway/internal/errs"
)

// chunk is how many characters BitBake puts on one line of a message.
const chunk = 32*1024 - 1

// Limits bound what one server or client takes. Zero values are the defaults.
type Limits struct {
	Line      int           // bytes of one line: 1 MiB
	Message   int           // bytes of one message, joined: 32 MiB
	Memory    int64         // bytes of all messages over 64 KiB in flight: 256 MiB
	Conns     int           // connections: 4096
	Handshake time.Duration // for a client to finish its handshake: 30 s
	Write     time.Duration // for a client to take what was written: 60 s, and up to half as long again
}

func (l Limits) filled() Limits {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.Line, 1<<20)
	def(&l.Message, 32<<20)
	def(&l.Conns, 4096)
	if l.Memory <= 0 {
		l.Memory = 256 << 20
	}
	if l.Handshake <= 0 {
		l.Handshake = 30 * time.Second
	}
	if l.Write <= 0 {
		l.Write = 60 * time.Second
	}
	return l
}

// errTooLong ends a connection whose peer sends a line or a message over the limit.
var errTooLong = errors.New("a line or message over the limit")

// errNoMemory ends a connection whose message no longer fits beside those of others.
var errNoMemory = errors.New("no memory left for another large message")

// wire is a transport of lines.
type wire interface {
	readLine() ([]byte, error) // without its newline; valid until the next call
	more() bool                // another line has arrived already
	writeLine(line []byte) error
	flush() error
	close() error
	bye(ctx context.Context) // end in good order, as far as the transport knows one
	release()                // give the memory back: the reader has ended
	chunks() bool            // messages are cut
	peer() string
	deadline(t time.Time) // for reads; zero: none
}

// Conn is one connection. It is not safe for use by two goroutines at once, but
// one may read while another writes, and Close may be called at any time.
type Conn struct {
	w      wire
	limits Limits
	memory *budget
}

// ReadLine gives the next line, without its newline. It is valid until the next
// read. io.EOF: the peer has ended in good order.
func (c *Conn) ReadLine() ([]byte, error) { return c.w.readLine() }

// More reports whether another line has arrived, so that ReadLine will not wait.
func (c *Conn) More() bool { return c.w.more() }

// WriteLine queues a line, which must not hold a newline. [Conn.Flush] sends it.
func (c *Conn) WriteLine(line []byte) error { return c.w.writeLine(line) }

// WriteLines queues lines that each end in a newline.
func (c *Conn) WriteLines(lines []byte) error {
	if s, ok := c.w.(*stream); ok {
		return s.write(lines)
	}
	for line := range bytes.Lines(lines) {
		if err := c.w.writeLine(line[:len(line)-1]); err != nil {
			return err
		}
	}
	return nil
}

// Flush sends what was queued.
func (c *Conn) Flush() error { return c.w.flush() }

// Close ends the connection.
func (c *Conn) Close() error { return c.w.close() }

// Peer is the address of the other side, for logs.
func (c *Conn) Peer() string { return c.w.peer() }

// ReadMessage gives the next message, joined if it came in pieces. done returns
// its memory and must be called when the bytes are no longer needed.
func (c *Conn) ReadMessage() (msg []byte, done func(), err error) {
	line, err := c.w.readLine()
	if err != nil {
		return nil, nil, err
	}
	if !c.w.chunks() || !isChunkStream(line) {
		return line, func() {}, nil
	}
	var held int64
	done = func() { c.memory.give(held) }
	for {
		line, err := c.w.readLine()
		if err != nil {
			done()
			return nil, nil, unexpected(err)
		}
		if len(line) == 0 {
			break
		}
		if len(msg)+len(line) > c.limits.Message {
			done()
			return nil, nil, errTooLong
		}
		if need := grown(cap(msg), len(msg)+len(line)); need > cap(msg) {
			if !c.memory.take(int64(need - cap(msg))) {
				done()
				return nil, nil, errNoMemory
			}
			held += int64(need - cap(msg))
			msg = append(make([]byte, 0, need), msg...)
		}
		msg = append(msg, line...)
	}
	if isChunkStream(msg) {
		done()
		return nil, nil, errs.E(errs.Invalid, "a chunk stream inside a chunk stream")
	}
	return msg, done, nil
}

// grown is the capacity for n bytes: small messages cost little, large ones double.
func grown(have, n int) int {
	if n <= have {
		return have
	}
	c := max(have, 64<<10)
	for c < n {
		c *= 2
	}
	return c
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// isChunkStream looks for the key only when it can be there, so that the small
// messages of every build are parsed once.
func isChunkStream(msg []byte) bool {
	if len(msg) > 256 || !bytes.Contains(msg, []byte(`chunk-stream`)) {
		return false
	}
	var m map[string]json.RawMessage
	return json.Unmarshal(msg, &m) == nil && m["chunk-stream"] != nil
}

// WriteMessage queues v as JSON and sends it. A json.RawMessage is taken as it is.
func (c *Conn) WriteMessage(v any) error {
	b, ok := v.(json.RawMessage)
	if !ok {
		var buf bytes.Buffer
		enc := json.NewEncoder(&buf)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(v); err != nil {
			return errs.Wrap(err, "encode a message")
		}
		b = bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	}
	b = ascii(b)
	if len(b) < chunk || !c.w.chunks() {
		if err := c.w.writeLine(b); err != nil {
			return err
		}
		return c.w.flush()
	}
	if err := c.w.writeLine([]byte(`{"chunk-stream": null}`)); err != nil {
		return err
	}
	for len(b) > 0 {
		n := cut(b)
		if err := c.w.writeLine(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	if err := c.w.writeLine(nil); err != nil {
		return err
	}
	return c.w.flush()
}

// cut gives how much of b goes on the next line: no more than BitBake's readers
// take, and not up to a blank, which they would strip. A run of blanks as long
// as a line cannot be cut well: its blanks become \u0020 before.
func cut(b []byte) int {
	n := min(len(b), chunk)
	for m := n; m > 0; m-- {
		if b[m-1] != ' ' {
			return m
		}
	}
	return n
}

// ascii escapes what is not ASCII, and every blank in a run of blanks too long
// to be cut behind.
func ascii(b []byte) []byte {
	long := bytes.Contains(b, bytes.Repeat([]byte(" "), chunk/2))
	plain := !long
	for _, c := range b {
		if c >= 0x80 || c == 0x7f {
			plain = false
			break
		}
	}
	if plain {
		return b
	}
	const hex = "0123456789abcdef"
	var out strings.Builder
	unit := func(u uint16) {
		out.WriteString(`\u`)
		for s := 12; s >= 0; s -= 4 {
			out.WriteByte(hex[u>>s&15])
		}
	}
	for _, r := range string(b) {
		switch {
		case r == ' ' && long:
			unit(' ')
		case r < 0x7f:
			out.WriteByte(byte(r))
		case r >= 0x10000:
			r -= 0x10000
			unit(uint16(0xd800 + r>>10))
			unit(uint16(0xdc00 + r&0x3ff))
		default:
			unit(uint16(r))
		}
	}
	return []byte(out.String())
}
