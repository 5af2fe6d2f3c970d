package litefile

import (
	"context"
	"runtime"
	"time"

	"slipway/internal/errs"
)

// Tx is a transaction that writes. Its connection must not be kept.
type Tx struct {
	*Conn
	before []func() error
	after  []func()
	state  map[any]any
}

// Before adds a function that runs before the commit, once all functions of the
// transaction have run.
func (t *Tx) Before(fn func() error) { t.before = append(t.before, fn) }

// After adds a function that runs after the commit, before anybody is answered.
func (t *Tx) After(fn func()) { t.after = append(t.after, fn) }

// State is what a package keeps for the time of the transaction, under a key of
// its own, made on first use.
func (t *Tx) State(key any, make func() any) any {
	v, ok := t.state[key]
	if !ok {
		v = make()
		t.state[key] = v
	}
	return v
}

type op struct {
	fn   func(*Tx) error
	done chan error
}

// maxGroup bounds the functions of one transaction, and so how long a client
// waits for those of others.
const maxGroup = 256

// Write runs fn in a transaction, perhaps together with others, and returns when
// it is committed. An error of fn alone undoes only what fn did.
func (f *File) Write(ctx context.Context, fn func(*Tx) error) error {
	if f.opts.ReadOnly {
		return errs.E(errs.Denied, "the database "+f.path+" is open for reading only")
	}
	o := &op{fn, make(chan error, 1)}
	select {
	case f.ops <- o:
	case <-ctx.Done():
		return ctx.Err()
	case <-f.quit:
		return errClosed(f.path)
	}
	select {
	case err := <-o.done:
		return err
	case <-f.done:
		select {
		case err := <-o.done:
			return err
		default:
			return errClosed(f.path)
		}
	}
}

// writer is the goroutine that owns the writing connection.
func (f *File) writer() {
	defer close(f.done)
	var group []*op
	for {
		group = group[:0]
		select {
		case o := <-f.ops:
			group = append(group, o)
		case <-f.quit:
			for len(f.ops) > 0 {
				group = append(group, <-f.ops)
			}
			if len(group) == 0 {
				f.endCheckpoints()
				return
			}
		}
		group = f.gather(group)
		f.commit(group)
		f.checkpoint()
	}
}

// gather takes what is queued, and lets those who are about to queue do so: a
// commit costs as much as many writes. Where many wrote a moment ago, many will
// again: it waits a moment for them.
func (f *File) gather(group []*op) []*op {
	for quiet, waits := 0, 0; len(group) < maxGroup; {
		select {
		case o := <-f.ops:
			group = append(group, o)
			quiet = 0
			continue
		default:
		}
		if quiet++; quiet < 2 {
			runtime.Gosched()
			continue
		}
		if waits == 2 || len(group)*4 > f.crowd*3 || f.crowd < minCrowd {
			break
		}
		waits++
		quiet = 0
		time.Sleep(crowdWait)
	}
	f.crowd = max(len(group), f.crowd*7/8)
	return group
}

// From how many writers at once on, and how long, the next commit waits for more.
const (
	minCrowd  = 8
	crowdWait = 200 * time.Microsecond
)

// commit runs a group in one transaction, and alone who fails in company.
func (f *File) commit(group []*op) {
	err := f.transaction(group)
	if err != nil && len(group) > 1 {
		for _, o := range group {
			o.done <- f.transaction([]*op{o})
		}
		return
	}
	for _, o := range group {
		o.done <- err
	}
}

func (f *File) transaction(group []*op) (err error) {
	if _, _, err := f.w.Exec(`BEGIN IMMEDIATE`); err != nil {
		return err
	}
	began := f.counter.load() // ours alone until the commit
	defer func() {
		if err != nil {
			f.w.Exec(`ROLLBACK`)
			f.mu.Lock()
			f.expect.Store(uint64(uint32(f.expect.Load())))
			f.mu.Unlock()
		}
	}()
	if err := f.catchUp(began); err != nil {
		return err
	}
	t := &Tx{Conn: f.w, state: map[any]any{}}
	for _, o := range group {
		if err := o.fn(t); err != nil {
			return err
		}
	}
	for _, fn := range t.before {
		if err := fn(); err != nil {
			return err
		}
	}
	f.mu.Lock()
	f.expect.Store(1<<32 | uint64(began))
	f.mu.Unlock()
	if _, _, err := f.w.Exec(`COMMIT`); err != nil {
		return err
	}
	for _, fn := range t.after {
		fn()
	}
	f.settleOwn(began)
	f.commits.Add(1)
	f.lastWrite.Store(time.Now().UnixNano())
	return nil
}

// catchUp has the others' commits looked at, while nobody can add to them.
func (f *File) catchUp(now uint32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if uint32(f.expect.Load()) == now {
		return nil
	}
	for _, fn := range f.foreign {
		if err := fn(f.w); err != nil {
			return err
		}
	}
	f.expect.Store(uint64(now))
	return nil
}

// settleOwn says that our transaction, which began at that count, is over.
func (f *File) settleOwn(began uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.counter.load()
	if now != began {
		now = began + 1 // whatever came later is not ours
	}
	f.expect.Store(uint64(now))
}
