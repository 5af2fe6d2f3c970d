package signer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"slipway/internal/errs"
	"slipway/internal/keyring"
)

// Client is a connection to a signer. It may be used by several goroutines; their
// requests wait for each other.
type Client struct {
	mu    sync.Mutex
	c     *net.UnixConn
	wire  *wire
	in    *bufio.Reader
	close func() error // ends a child; nil for a signer that was there before
}

// Dial connects to the signer at a socket. Unavailable when none answers; Denied
// when the socket belongs to another user than this one, root, or those named.
func Dial(ctx context.Context, socket string, users ...int) (*Client, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, errs.E(errs.Unavailable, "no signer answers at "+socket, err, errs.Hintf("slipway signer serve --socket %s", socket))
	}
	u := c.(*net.UnixConn)
	cred, err := peer(u)
	if err == nil {
		ok := int(cred.Uid) == os.Geteuid() || cred.Uid == 0
		for _, x := range users {
			ok = ok || int(cred.Uid) == x
		}
		if !ok {
			err = errs.Ef(errs.Denied, "the signer at %s is run by the user %d, who is not trusted", socket, cred.Uid)
		}
	}
	if err != nil {
		u.Close()
		return nil, err
	}
	w, err := newWire(u)
	if err != nil {
		u.Close()
		return nil, errs.E(errs.Internal, "talk to the signer", err)
	}
	return &Client{c: u, wire: w, in: bufio.NewReaderSize(w, 4096)}, nil
}

// Role gives a signer for a role: with the keys that sign for it at that time, now as
// a rule. Errors are those of [keyring.Keyring.Signing], from the signer.
func (c *Client) Role(ctx context.Context, role keyring.Role, at time.Time) (*Remote, error) {
	return newRemote(ctx, role, at, c.do)
}

// Close ends the connection, and the signer if it is a child.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.c.Close()
	if c.close != nil {
		err = c.close()
		c.close = nil
	}
	return err
}

func (c *Client) do(ctx context.Context, r request) (response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return response{}, err
	}
	// A connection that was given up in the middle of an answer is of no more use.
	stop := context.AfterFunc(ctx, c.wire.hang)
	defer stop()
	line, err := json.Marshal(r)
	if err != nil {
		return response{}, errs.E(errs.Internal, "ask the signer", err)
	}
	var a response
	// A signer that sends us away says so and is gone, perhaps before it is asked.
	_, _ = c.wire.Write(append(line, '\n'))
	line, err = c.in.ReadBytes('\n')
	switch {
	case ctx.Err() != nil:
		return a, ctx.Err()
	case err != nil:
		return a, errs.E(errs.Unavailable, "the signer is gone", err)
	}
	if err := json.Unmarshal(line, &a); err != nil {
		return a, errs.E(errs.Unavailable, "the signer's answer", err)
	}
	if a.Error != nil {
		return a, a.Error.err()
	}
	return a, nil
}

// Start starts a signer as a child of this process and connects to it: program with
// args, then "--socket <path> --child". The child asks for passphrases on the terminal
// by itself, if it has to. It ends with [Client.Close], and by itself when this process
// is gone. What it says on stderr is passed on; its error is the error.
func Start(ctx context.Context, program string, args []string, stderr io.Writer) (*Client, error) {
	dir, err := os.MkdirTemp("", "slipway-signer-") // mode 0700
	if err != nil {
		return nil, errs.E(errs.Unavailable, "start the signer", err)
	}
	socket := filepath.Join(dir, "s")
	cmd := exec.Command(program, append(append([]string(nil), args...), "--socket", socket, "--child")...)
	// It answers one request after the other: threads that look for more work cost more than the signatures.
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	var said bytes.Buffer
	cmd.Stderr = io.MultiWriter(&said, stderr)
	alive, err := cmd.StdinPipe() // its end tells the child that the parent is gone
	if err != nil {
		return nil, errs.E(errs.Unavailable, "start the signer", err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, errs.E(errs.Unavailable, "start the signer", err)
	}
	end := func() error {
		alive.Close()
		err := cmd.Wait()
		os.RemoveAll(dir)
		return err
	}
	stop := context.AfterFunc(ctx, func() { alive.Close() })
	line, _ := bufio.NewReader(out).ReadBytes('\n')
	stop()
	var a response
	if err := json.Unmarshal(line, &a); err != nil {
		werr := end()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, errs.E(errs.Unavailable, fmt.Sprintf("the signer did not start: %s", strings.TrimSpace(said.String())), werr)
	}
	if a.Error != nil {
		_ = end()
		return nil, a.Error.err()
	}
	c, err := Dial(ctx, socket)
	if err != nil {
		_ = end()
		return nil, err
	}
	c.close = end
	return c, nil
}

// Ready is what a child says on stdout when it serves, or why it does not.
func Ready(w io.Writer, err error) error {
	a := response{}
	if err != nil {
		a = failed(err)
	}
	return json.NewEncoder(w).Encode(a)
}
