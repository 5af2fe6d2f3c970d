package asyncrpc

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"time"

	"slipway/internal/errs"
)

// Client is a connection to a server. It is not safe for use by two goroutines at
// once. After an error it is of no more use: [Client.Close] it and dial again.
type Client struct {
	c      *Conn
	addr   string
	stream string // the command of the stream that is open
}

// Dial connects and shakes hands. Both wait no longer than ctx.
func Dial(ctx context.Context, address, name, version string) (*Client, error) {
	a, err := ParseAddress(address)
	if err != nil {
		return nil, err
	}
	lim := Limits{}.filled()
	var w wire
	if a.Kind == "ws" {
		w, err = dialWS(ctx, a.Host, lim)
	} else {
		var c net.Conn
		if c, err = dial(ctx, a); err == nil {
			w = newStream(c, lim, nil)
		}
	}
	if err != nil {
		return nil, errs.E(errs.Unavailable, "connect to "+address, errs.Hint("is the server running, and is the address right?"), err)
	}
	c := &Client{c: &Conn{w, lim, nil}, addr: address}
	for _, l := range []string{name + " " + version, "needs-headers: false", ""} {
		c.c.WriteLine([]byte(l))
	}
	if err := c.c.Flush(); err != nil {
		w.close()
		return nil, c.fault(err)
	}
	return c, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.c.Close() }

// fault says whose fault it was; a refusal stays what it is.
func (c *Client) fault(err error) error {
	var no Refusal
	if err == nil || errors.As(err, &no) {
		return err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errs.E(errs.Unavailable, "server "+c.addr+" closed the connection")
	}
	return errs.E(errs.Unavailable, "talk to the server "+c.addr, err)
}

// within applies ctx to the reads that follow; the function it gives ends that.
func (c *Client) within(ctx context.Context) func() {
	if d, ok := ctx.Deadline(); ok {
		c.c.w.deadline(d)
	}
	stop := context.AfterFunc(ctx, func() { c.c.w.deadline(time.Unix(1, 0)) })
	return func() {
		stop()
		c.c.w.deadline(time.Time{})
		if s, ok := c.c.w.(*stream); ok {
			s.rest() // until it is used again
		}
	}
}

// Invoke runs a command and decodes its answer into answer, when that is not
// nil. A server that refuses gives a [Refusal].
func (c *Client) Invoke(ctx context.Context, command string, request, answer any) error {
	if err := c.End(ctx); err != nil {
		return err
	}
	defer c.within(ctx)()
	return c.fault(c.invoke(command, request, answer))
}

func (c *Client) invoke(command string, request, answer any) error {
	if err := c.c.WriteMessage(map[string]any{command: request}); err != nil {
		return err
	}
	b, done, err := c.c.ReadMessage()
	if err != nil {
		return unexpected(err)
	}
	defer done()
	if err := refusal(b); err != nil {
		return err
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return errs.E(errs.Unavailable, "an answer to "+command+" that is not understood", err)
	}
	return nil
}

func refusal(b []byte) error {
	if len(b) < 16 || string(b[:3]) != `{"i` {
		return nil
	}
	var r struct {
		No *struct{ Message string } `json:"invoke-error"`
	}
	if json.Unmarshal(b, &r) != nil || r.No == nil {
		return nil
	}
	return Refusal(r.No.Message)
}

// Stream sends lines to the stream of that command, opening it when another
// one is, and gives each answer to each, in order; the bytes are valid during
// the call. Lines go out while answers come in: it costs one round trip.
func (c *Client) Stream(ctx context.Context, command string, lines [][]byte, each func(i int, answer []byte) error) error {
	defer c.within(ctx)()
	return c.fault(c.send(command, lines, each))
}

func (c *Client) send(command string, lines [][]byte, each func(int, []byte) error) error {
	if c.stream != command {
		if err := c.end(); err != nil {
			return err
		}
		var ok string
		if err := c.invoke(command, nil, &ok); err != nil {
			return err
		}
		if ok != "ok" {
			return errs.E(errs.Unavailable, "the server did not open the stream "+command)
		}
		c.stream = command
	}
	sent := make(chan error, 1)
	write := func() error {
		for _, l := range lines {
			if err := c.c.WriteLine(l); err != nil {
				return err
			}
		}
		return c.c.Flush()
	}
	if len(lines) < 64 { // they fit into the buffers of the sockets
		if err := write(); err != nil {
			return err
		}
		sent <- nil
	} else {
		go func() { sent <- write() }()
	}
	for i := range lines {
		b, err := c.c.ReadLine()
		if err == nil {
			if err = refusal(b); err == nil {
				err = each(i, b)
			}
		}
		if err != nil {
			c.c.Close()
			<-sent
			return unexpected(err)
		}
	}
	return <-sent
}

// End leaves the stream that is open, if one is.
func (c *Client) End(ctx context.Context) error {
	if c.stream == "" {
		return nil
	}
	defer c.within(ctx)()
	return c.fault(c.end())
}

func (c *Client) end() error {
	if c.stream == "" {
		return nil
	}
	c.stream = ""
	c.c.WriteLine([]byte("END"))
	if err := c.c.Flush(); err != nil {
		return err
	}
	b, err := c.c.ReadLine()
	if err != nil {
		return unexpected(err)
	}
	if string(b) != "ok" {
		return errs.E(errs.Unavailable, "the server did not end the stream")
	}
	return nil
}
