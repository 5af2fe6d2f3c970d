package flow

import (
	"context"
	"time"
)

// Journal keeps the records of runs.
type Journal interface {
	// Load gives the record of a run with its Rev; errs.NotFound when there is
	// none.
	Load(ctx context.Context, run string) (Record, error)
	// Save replaces the record whose revision is r.Rev (0: there must be none)
	// durably; it is then at r.Rev+1. When the stored one is at another revision,
	// it is errs.Conflict and nothing changes.
	Save(ctx context.Context, run string, r Record) error
}

// State is what a run or a step is doing.
type State string

// The states. Of a run, Lost is derived when read; of a step, Started is what was
// written before it began, and stays when its process dies.
const (
	Running State = "running" // of a run
	Lost    State = "lost"    // of a run: its owner died or was stopped; the same command goes on with it
	Started State = "started" // of a step
	Waiting State = "waiting"
	Done    State = "done"
	Failed  State = "failed"
)

// Record is the journal of one run.
type Record struct {
	Rev       int64        `json:"-"` // of the journal; see Journal
	Owner     Owner        `json:"owner"`
	Heartbeat time.Time    `json:"heartbeat"`
	Note      string       `json:"note,omitempty"`    // the last beat of the step at work
	Outcome   State        `json:"outcome,omitempty"` // "" while the owner works; then done, failed, waiting, or lost (interrupted)
	Steps     []StepRecord `json:"steps"`             // as far as the run came
}

// StepRecord is the journal of one step.
type StepRecord struct {
	Name     string    `json:"name"`
	Inputs   string    `json:"inputs"`
	Status   State     `json:"status"` // started, done, failed, waiting
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended,omitzero"`
	Error    string    `json:"error,omitempty"` // of failed: why; of waiting: for what
	Attempts int       `json:"attempts"`        // with these inputs, this one included
}

// State derives how the run stands at the time now: running, lost, waiting, done
// or failed. The zero Record, of a run that never began, gives "".
func (r Record) State(now time.Time) State {
	switch {
	case r.Outcome != "":
		return r.Outcome
	case r.Owner == Owner{}:
		return ""
	case Alive(r.Owner, r.Heartbeat, now):
		return Running
	}
	return Lost
}
