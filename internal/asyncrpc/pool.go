package asyncrpc

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"slipway/internal/errs"
)

// Pool keeps connections to an upstream server. While it does not answer it is
// left alone, for longer and longer up to half a minute.
type Pool struct {
	addr, name, version string
	deadline            time.Duration
	log                 *slog.Logger

	mu     sync.Mutex
	idle   []*Client
	closed bool

	until    atomic.Int64 // not asked before, Unix nanoseconds
	patience atomic.Int64 // how long it was left alone last time

	failed, skipped atomic.Int64
}

const (
	maxIdle     = 16
	firstAbsent = time.Second
	longAbsent  = 30 * time.Second
)

// NewPool makes a pool for the server at addr. deadline is for each use; 0 is 5 s.
func NewPool(addr, name, version string, deadline time.Duration, log *slog.Logger) *Pool {
	if deadline <= 0 {
		deadline = 5 * time.Second
	}
	return &Pool{addr: addr, name: name, version: version, deadline: deadline, log: log}
}

// ErrAbsent says that the upstream does not answer, or did not a moment ago.
var ErrAbsent = errs.E(errs.Unavailable, "the upstream server does not answer")

// Absent reports that it is being left alone.
func (p *Pool) Absent() bool { return time.Now().UnixNano() < p.until.Load() }

// Failed counts the times that it did not answer, Skipped those that it was not
// asked because of that.
func (p *Pool) Failed() int64  { return p.failed.Load() }
func (p *Pool) Skipped() int64 { return p.skipped.Load() }

// Do runs fn with a connection, again with a new one when an idle connection
// turns out to be dead: fn must be repeatable. It gives fn's Refusal, or ErrAbsent.
func (p *Pool) Do(ctx context.Context, fn func(context.Context, *Client) error) error {
	if p.Absent() {
		p.skipped.Add(1)
		return ErrAbsent
	}
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, p.deadline)
	defer cancel()
	for {
		c := p.take()
		old := c != nil
		var err error
		if !old {
			c, err = Dial(ctx, p.addr, p.name, p.version)
		}
		if err == nil {
			if err = fn(ctx, c); err == nil {
				p.give(c)
				if p.patience.Swap(0) != 0 {
					p.log.Info("the upstream answers again", "upstream", p.addr)
				}
				return nil
			}
			c.Close()
		}
		var no Refusal
		switch {
		case outer.Err() != nil:
			return outer.Err()
		case errors.As(err, &no):
			p.log.Warn("the upstream refuses", "upstream", p.addr, "reason", string(no))
			return err
		case old && ctx.Err() == nil:
			continue
		}
		p.failed.Add(1)
		wait := min(max(2*time.Duration(p.patience.Load()), firstAbsent), longAbsent)
		p.patience.Store(int64(wait))
		p.until.Store(time.Now().Add(wait).UnixNano())
		p.log.Warn("the upstream does not answer", "upstream", p.addr, "left_alone", wait, "error", err)
		return ErrAbsent
	}
}

func (p *Pool) take() *Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	c := p.idle[n-1]
	p.idle = p.idle[:n-1]
	return c
}

func (p *Pool) give(c *Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= maxIdle {
		c.Close()
		return
	}
	p.idle = append(p.idle, c)
}

// Close ends the connections that are idle; those in use end when they are given back.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.idle {
		c.Close()
	}
	p.idle = nil
}
