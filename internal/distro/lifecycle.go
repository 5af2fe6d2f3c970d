package distro

import (
	"fmt"

	"slipway/internal/errs"
)

// Status is where a build, a candidate or a release stands.
type Status string

// The statuses of a build.
const (
	Queued    Status = "queued"
	Running   Status = "running"
	Candidate Status = "candidate"
	BuildFail Status = "failed"
	Lost      Status = "lost" // derived when read: lease run out, or process and boot id gone
)

// The statuses of a candidate.
const (
	Testing  Status = "testing"
	Ready    Status = "ready"
	Blocked  Status = "blocked"
	Rejected Status = "rejected"
	Stale    Status = "stale" // derived when read: another release of the series came first
	Approved Status = "approved"
)

// The statuses of a release.
const (
	Publishing Status = "publishing"
	Published  Status = "published"
	Superseded Status = "superseded"
	Withdrawn  Status = "withdrawn"
	Ended      Status = "ended"
)

// Transition is one allowed change. When is the sentence of DESIGN.md's table.
type Transition struct {
	Thing    string // "build", "candidate", "release"
	From, To Status
	When     string
}

// Transitions is the state table: whatever is not listed is refused.
var Transitions = []Transition{
	{"build", Queued, Running, "a worker takes it (lease with heartbeat)"},
	{"build", Running, Candidate, "collected"},
	{"build", Running, BuildFail, "a task failed"},
	{"build", Running, Lost, "derived when read: lease run out, or process and boot id gone"},
	{"build", Lost, Running, "the same command again resumes at the first unfinished step"},
	{"candidate", Testing, Ready, "the verdict"},
	{"candidate", Testing, Blocked, "the verdict"},
	{"candidate", Ready, Blocked, "a new test"},
	{"candidate", Blocked, Ready, "a waiver, or a new test; never by editing"},
	{"candidate", Testing, Rejected, "a person says so"},
	{"candidate", Ready, Rejected, "a person says so"},
	{"candidate", Blocked, Rejected, "a person says so"},
	{"candidate", Stale, Rejected, "a person says so"},
	{"candidate", Testing, Stale, "another release of the series came first"},
	{"candidate", Ready, Stale, "another release of the series came first"},
	{"candidate", Blocked, Stale, "another release of the series came first"},
	{"candidate", Ready, Approved, "a person says so"},
	{"release", Publishing, Published, "the pointers have switched"},
	{"release", Publishing, Withdrawn, "taken back before a snapshot named it; its version stays burned"},
	{"release", Published, Superseded, "the next release"},
	{"release", Published, Withdrawn, "withdrawn for a reason; bytes stay reachable by pin"},
	{"release", Superseded, Withdrawn, "withdrawn for a reason; bytes stay reachable by pin"},
	{"release", Published, Ended, "end of life"},
	{"release", Superseded, Ended, "end of life"},
}

// CanMove gives nil when thing (named id) may go from one status to the other,
// else a Conflict that lists what is possible.
func CanMove(thing, id string, from, to Status) error {
	var possible []Status
	for _, t := range Transitions {
		if t.Thing == thing && t.From == from {
			if t.To == to {
				return nil
			}
			possible = append(possible, t.To)
		}
	}
	hint := fmt.Sprintf("%s is final: a %s changes no more after it", from, thing)
	if len(possible) > 0 {
		hint = fmt.Sprintf("a %s %s can only become %v", from, thing, possible)
	}
	return errs.E(errs.Conflict, fmt.Sprintf("%s %s is %s and cannot become %s", thing, id, from, to), errs.Hint(hint))
}
