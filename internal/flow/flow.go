package flow

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"slipway/internal/errs"
)

// Beat says what a step is doing; the next heartbeat saves it. It may be called
// often and from any goroutine, until the step has returned.
type Beat func(note string)

// Step is one idempotent piece of work.
type Step struct {
	Name   string // unique in the run
	Inputs string // a digest of all that the work depends on
	Do     func(ctx context.Context, beat Beat) error
}

// Options are all optional.
type Options struct {
	Clock          func() time.Time // time.Now
	HeartbeatEvery time.Duration    // 10 s; well below Lease
	OnStep         func(StepEvent)  // called on Run's goroutine, in order
}

// StepEvent tells of a step that was skipped, has begun or has ended.
type StepEvent struct {
	Index, Of int // counted from 0
	Step      StepRecord
	Skipped   bool // it was done before, with the same inputs
}

// Wait is what a step returns that cannot go on without something, mostly a
// person. The step begins anew with the next call of Run.
func Wait(reason string, hints ...errs.Hint) error {
	opts := make([]any, len(hints))
	for i, h := range hints {
		opts[i] = h
	}
	return errs.E(errs.Pending, reason, opts...)
}

// Run brings a run to its end, or as far as it goes. It returns nil when all steps
// are done; the error of the step that failed, under the name of the step;
// errs.Pending when a step waits; errs.Locked, naming the owner, when another
// process works on the run. A panic of a step is an error of kind internal. When
// the context ends, the run is left as lost, to be resumed. When a heartbeat finds
// that another process took the run over (this one was taken for dead), the
// context of the step is cancelled and Run returns errs.Locked.
func Run(ctx context.Context, j Journal, run string, owner Owner, steps []Step, opts Options) error {
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	if opts.HeartbeatEvery <= 0 {
		opts.HeartbeatEvery = 10 * time.Second
	}
	if opts.OnStep == nil {
		opts.OnStep = func(StepEvent) {}
	}
	for i, s := range steps {
		if slices.ContainsFunc(steps[:i], func(o Step) bool { return o.Name == s.Name }) {
			return errs.Ef(errs.Internal, "run %s has two steps %q", run, s.Name)
		}
	}
	rec, err := j.Load(ctx, run)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return errs.Wrap(err, "read the journal of %s", run)
	}
	if rec.State(opts.Clock()) == Running {
		return locked(run, rec.Owner)
	}
	r := &runner{j: j, run: run, opts: opts, rec: rec}
	r.rec.Owner = owner
	return r.all(ctx, steps)
}

func locked(run string, o Owner) error {
	return errs.E(errs.Locked, fmt.Sprintf("%s is at work on %s", o, run),
		errs.Hint("wait for it to end; slipway status shows how far it is"))
}

// runner is one call of Run. The mutex orders the saves of steps and heartbeats,
// so that the only conflict left is another process.
type runner struct {
	j    Journal
	run  string
	opts Options

	mu  sync.Mutex
	rec Record
}

// save changes the record and writes it. A conflict is errs.Locked.
func (r *runner) save(ctx context.Context, change func(*Record)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.rec)
	r.rec.Heartbeat = r.opts.Clock()
	// The journal must tell the truth also when the context has ended, and may
	// keep what it gets.
	ctx = context.WithoutCancel(ctx)
	saved := r.rec
	saved.Steps = slices.Clone(r.rec.Steps)
	err := r.j.Save(ctx, r.run, saved)
	if errs.Is(err, errs.Conflict) {
		if now, lerr := r.j.Load(ctx, r.run); lerr == nil {
			return locked(r.run, now.Owner)
		}
	}
	if err != nil {
		return errs.Wrap(err, "write the journal of %s", r.run)
	}
	r.rec.Rev++
	return nil
}

func (r *runner) all(ctx context.Context, steps []Step) error {
	old := r.rec.Steps
	n := 0 // steps that are done
	for ; n < len(steps) && n < len(old); n++ {
		if o := old[n]; o.Name != steps[n].Name || o.Inputs != steps[n].Inputs || o.Status != Done {
			break
		}
		r.opts.OnStep(StepEvent{Index: n, Of: len(steps), Step: old[n], Skipped: true})
	}
	if n == len(steps) {
		if r.rec.Outcome == Done && len(old) == n {
			return nil
		}
		return r.save(ctx, func(rec *Record) { rec.Outcome, rec.Steps = Done, old[:n] })
	}
	for i, s := range steps[n:] {
		at := n + i
		if err := context.Cause(ctx); err != nil {
			if i > 0 {
				r.save(ctx, func(rec *Record) { rec.Outcome = Lost })
			}
			return errs.Wrap(err, "stopped before %s", s.Name)
		}
		sr := StepRecord{Name: s.Name, Inputs: s.Inputs, Attempts: 1}
		if k := slices.IndexFunc(old, func(o StepRecord) bool { return o.Name == s.Name && o.Inputs == s.Inputs }); k >= 0 {
			sr.Attempts = old[k].Attempts + 1
		}
		if err := r.one(ctx, s, sr, at, len(steps)); err != nil {
			return err
		}
	}
	return nil
}

// one runs one step between its two entries in the journal.
func (r *runner) one(ctx context.Context, s Step, sr StepRecord, at, of int) error {
	sr.Status, sr.Started = Started, r.opts.Clock()
	put := func(rec *Record) { rec.Steps = append(slices.Clone(rec.Steps[:at]), sr) }
	if err := r.save(ctx, func(rec *Record) { put(rec); rec.Outcome, rec.Note = "", "" }); err != nil {
		return err
	}
	r.opts.OnStep(StepEvent{Index: at, Of: of, Step: sr})

	err, took := r.do(ctx, s)
	if took != nil {
		return took // the journal is another's now
	}
	outcome := State("")
	sr.Status, sr.Ended = Done, r.opts.Clock()
	switch {
	case err == nil && at == of-1:
		outcome = Done
	case err == nil:
	case errs.Is(err, errs.Pending):
		sr.Status, sr.Error, outcome = Waiting, err.Error(), Waiting
	case context.Cause(ctx) != nil:
		sr.Status, sr.Ended, sr.Error, outcome = Started, time.Time{}, "interrupted", Lost
	default:
		sr.Status, sr.Error, outcome = Failed, err.Error(), Failed
	}
	var p *panicked
	if errors.As(err, &p) {
		sr.Error += "\n" + p.stack
	}
	serr := r.save(ctx, func(rec *Record) { put(rec); rec.Outcome, rec.Note = outcome, "" })
	r.opts.OnStep(StepEvent{Index: at, Of: of, Step: sr})
	if err == nil {
		return serr
	}
	return errs.Wrap(err, "%s", s.Name)
}

// do runs the step with a heartbeat beside it. took tells that the run is no
// longer ours.
func (r *runner) do(ctx context.Context, s Step) (err, took error) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		err := r.heartbeats(ctx, stop)
		if err != nil {
			cancel(err)
		}
		ended <- err
	}()
	defer func() {
		close(stop)
		took = <-ended
		cancel(nil)
	}()
	defer func() {
		if v := recover(); v != nil {
			err = errs.E(errs.Internal, fmt.Sprintf("panic: %v", v), &panicked{stack: string(debug.Stack())})
		}
	}()
	return s.Do(ctx, func(note string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.rec.Note = note
	}), nil
}

// heartbeats saves one heartbeat after another until stop. It gives an error when
// the run was taken over, or may have been: no heartbeat got through for a whole
// lease.
func (r *runner) heartbeats(ctx context.Context, stop <-chan struct{}) error {
	tick := time.NewTicker(r.opts.HeartbeatEvery)
	defer tick.Stop()
	last := r.opts.Clock()
	for {
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
		err := r.save(ctx, func(*Record) {})
		switch {
		case err == nil:
			last = r.opts.Clock()
		case errs.Is(err, errs.Locked), r.opts.Clock().Sub(last) > Lease:
			return err
		}
	}
}

// panicked carries the stack to the journal, not to the user.
type panicked struct{ stack string }

func (p *panicked) Error() string { return "a defect of Slipway; the journal has the stack" }
