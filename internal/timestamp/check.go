package timestamp

import (
	"fmt"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Reason says in one word why a pointer is not to be followed.
type Reason string

// The reasons.
const (
	Replayed Reason = "replayed" // older than what was seen, or another history of the same serial
	Frozen   Reason = "frozen"   // expired
	Clock    Reason = "clock"    // this machine's clock is wrong
	Foreign  Reason = "foreign"  // of another distribution or series
)

// Refusal is why a pointer is not to be followed. It is an errs.Denied.
type Refusal struct {
	Reason Reason
	err    error
}

func (r *Refusal) Error() string { return r.err.Error() }

// Unwrap gives the error with its kind and hints.
func (r *Refusal) Unwrap() error { return r.err }

func refuse(reason Reason, hint, format string, args ...any) error {
	return &Refusal{reason, errs.E(errs.Denied, fmt.Sprintf(format, args...), errs.Hint(hint))}
}

// Seen is what a device remembers of the last pointer that it trusted. The zero
// value has seen nothing.
type Seen struct {
	Serial   int           `json:"serial"`
	Snapshot distro.Digest `json:"snapshot"`
	Issued   time.Time     `json:"issued"`
}

// After gives what is remembered once t is trusted.
func (s Seen) After(t Timestamp) Seen {
	s.Serial, s.Snapshot = t.Serial, t.Snapshot
	if t.Issued.After(s.Issued) {
		s.Issued = t.Issued
	}
	return s
}

// Expected is what a device knows by itself.
type Expected struct {
	Distribution, Series string
	Seen                 Seen
	Now                  time.Time
	// NotBefore is a time that has surely passed: when the installed system was
	// made. The zero time says nothing.
	NotBefore time.Time
}

// Check tells whether a pointer, whose signature is good, is to be followed. An
// error is a [*Refusal]. What cannot depend on the clock comes first: a replay is
// called one even when the replayed pointer has expired, too.
//
// A pointer with the serial that was seen last may be older than that one: mirrors
// differ by a refresh. It still expires.
func (t Timestamp) Check(e Expected) error {
	const timeFormat = time.RFC3339
	if t.Distribution != e.Distribution || t.Series != e.Series {
		return refuse(Foreign, "the address of the feed leads to another publication: look at slipway_url",
			"the pointer is of %s %s, this is %s %s", t.Distribution, t.Series, e.Distribution, e.Series)
	}
	if t.Serial < e.Seen.Serial {
		return refuse(Replayed, "somebody serves an old copy, or a mirror has lost data: use another mirror",
			"replayed: serial %d, but %d was seen before", t.Serial, e.Seen.Serial)
	}
	if t.Serial == e.Seen.Serial && t.Snapshot != e.Seen.Snapshot {
		return refuse(Replayed, "a serial is given once: ask the distribution's security contact",
			"serial %d has another snapshot (%s) than the one seen before (%s)", t.Serial, t.Snapshot.Short(), e.Seen.Snapshot.Short())
	}
	now := e.Now.UTC()
	for _, past := range []struct {
		at   time.Time
		what string
	}{{e.NotBefore, "the installed system was made"}, {e.Seen.Issued, "the last pointer seen was issued"}, {t.Issued, "the pointer was issued"}} {
		if now.Before(past.at.Add(-skew)) {
			return refuse(Clock, "set this machine's clock", "the clock is wrong: it says %s, but %s at %s", now.Format(timeFormat), past.what, past.at.UTC().Format(timeFormat))
		}
	}
	if !now.Before(t.Expires.Add(skew)) {
		return refuse(Frozen, "use another mirror; if all say so the distribution publishes no more, or this machine's clock is ahead",
			"frozen: the pointer expired at %s, now is %s", t.Expires.UTC().Format(timeFormat), now.Format(timeFormat))
	}
	return nil
}
