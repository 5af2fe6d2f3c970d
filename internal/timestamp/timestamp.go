// Package timestamp is the format of what a client reads to learn what is
// current: <series>/timestamp.json, signed and with an expiry, and the two
// documents that it vouches for by digest, snapshot.json and at.json
// (docs/format/timestamp.md). It is pure: bytes in, bytes out; the caller checks
// the signature first and brings the time.
//
// A signature alone does not tell an old file from a new one. Two rules do:
//
//   - The serial only rises. A device keeps what it saw last ([Seen]); a lower
//     serial, or the same serial with another snapshot, is a replay.
//   - A pointer expires. A publisher that lives signs a new one before that, even
//     when nothing is new; a device that gets only an expired one is cut off from
//     what is new (frozen), or its clock is wrong.
//
// The publisher makes one with [New], the device reads it with [Parse] and asks
// [Timestamp.Check]. What Check says no to is a [Refusal] with a [Reason].
package timestamp

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Life is how long a pointer is good when the publisher says nothing else.
const Life = 30 * 24 * time.Hour

// MaxSize is far above any file of this package, in bytes: a reader asks for no more.
const MaxSize = 16 << 20

// skew is how far two honest clocks may differ.
const skew = 10 * time.Minute

// Timestamp is the file <series>/timestamp.json.
type Timestamp struct {
	Schema       int            `json:"schema"` // 1
	Distribution string         `json:"distribution"`
	Series       string         `json:"series"`
	Serial       int            `json:"serial"`  // of the newest snapshot
	Release      distro.Version `json:"release"` // the release that is current in it
	At           time.Time      `json:"at"`      // date of the snapshot
	// Snapshot and History are the digests of snapshots/<serial>/snapshot.json and at.json.
	Snapshot distro.Digest `json:"snapshot"`
	History  distro.Digest `json:"history"`
	// Days (YYYY-MM-DD) on which support of the series ends; "" when not said.
	SecuritySupportEnds string    `json:"security_support_ends,omitempty"`
	Ends                string    `json:"ends,omitempty"`
	Issued              time.Time `json:"issued"`
	Expires             time.Time `json:"expires"`
}

// Snapshot is the file snapshots/<serial>/snapshot.json: the signed index of all
// feeds of a series.
type Snapshot struct {
	Schema       int            `json:"schema"` // 1
	Distribution string         `json:"distribution"`
	Series       string         `json:"series"`
	Serial       int            `json:"serial"`
	Release      distro.Version `json:"release"` // the release that is current in it
	At           time.Time      `json:"at"`
	Feeds        []ScopeIndex   `json:"feeds"` // by scope
	// Withdrawn are all releases that were taken back until now: no index names what
	// they alone brought.
	Withdrawn []Withdrawn `json:"withdrawn,omitempty"`
	// Removed are all removals until now, by serial: removals/<serial>.json names the files
	// whose bytes had to go.
	Removed []Removed `json:"removed,omitempty"`
}

// Removed names a removal and its notice.
type Removed struct {
	Serial int           `json:"serial"`
	Notice distro.Digest `json:"notice"` // of removals/<serial>.json
}

// Withdrawn is a release that was taken back.
type Withdrawn struct {
	Release distro.Version `json:"release"`
	At      time.Time      `json:"at"`
	By      string         `json:"by,omitempty"`
	Because string         `json:"because"`
}

// ScopeIndex says what one feed of a snapshot is.
type ScopeIndex struct {
	Scope    string        `json:"scope"`
	Packages int           `json:"packages"`
	Repomd   distro.Digest `json:"repomd"` // of snapshots/<serial>/<scope>/repodata/repomd.xml
	// Current is that of the repomd.xml which the feed current has while the snapshot is
	// the newest: the same packages by other hrefs. "" in snapshots of older programs.
	Current distro.Digest `json:"current,omitempty"`
}

// At is the pointer at.json: every serial with its date, oldest first.
type At struct {
	Schema  int       `json:"schema"`
	Series  string    `json:"series"`
	Entries []AtEntry `json:"entries"`
}

// AtEntry is one line of at.json: from At on, Serial was current.
type AtEntry struct {
	At      time.Time      `json:"at"`
	Serial  int            `json:"serial"`
	Release distro.Version `json:"release"`
}

// New completes t: issued at that time (whole seconds, UTC), good for life.
func New(t Timestamp, issued time.Time, life time.Duration) Timestamp {
	t.Schema, t.At = 1, t.At.UTC()
	t.Issued = issued.UTC().Truncate(time.Second)
	t.Expires = t.Issued.Add(life).Truncate(time.Second)
	return t
}

// Encode gives the bytes that are signed and published.
func (t Timestamp) Encode() []byte { return distro.CanonicalJSON(t) }

// Parse reads a timestamp.json. Unknown keys are no error: the format grows.
// Errors are Invalid.
func Parse(b []byte) (Timestamp, error) {
	var t Timestamp
	if err := decode("timestamp.json", b, &t); err != nil {
		return t, err
	}
	_, serr := distro.ParseDigest(string(t.Snapshot))
	_, herr := distro.ParseDigest(string(t.History))
	switch {
	case t.Schema != 1:
		return t, schema("timestamp.json", t.Schema)
	case t.Distribution == "" || t.Series == "" || t.Serial < 1 || t.Release == "":
		return t, errs.E(errs.Invalid, "timestamp.json does not say what is current")
	case serr != nil || herr != nil:
		return t, errs.E(errs.Invalid, "timestamp.json", serr, herr)
	case t.Issued.IsZero() || !t.Expires.After(t.Issued):
		return t, errs.E(errs.Invalid, "timestamp.json has no time in which it is good")
	}
	return t, nil
}

// ParseSnapshot reads a snapshot.json. Errors are Invalid.
func ParseSnapshot(b []byte) (Snapshot, error) {
	var s Snapshot
	if err := decode("snapshot.json", b, &s); err != nil {
		return s, err
	}
	if s.Schema != 1 {
		return s, schema("snapshot.json", s.Schema)
	}
	if s.Series == "" || s.Serial < 1 {
		return s, errs.E(errs.Invalid, "snapshot.json does not say of what")
	}
	return s, nil
}

// ParseAt reads an at.json. Errors are Invalid.
func ParseAt(b []byte) (At, error) {
	var a At
	if err := decode("at.json", b, &a); err != nil {
		return a, err
	}
	if a.Schema != 1 {
		return a, schema("at.json", a.Schema)
	}
	for i, e := range a.Entries {
		if e.Serial < 1 || i > 0 && e.Serial <= a.Entries[i-1].Serial {
			return a, errs.Ef(errs.Invalid, "at.json: serial %d does not rise", e.Serial)
		}
	}
	return a, nil
}

func decode(what string, b []byte, into any) error {
	if len(b) > MaxSize {
		return errs.Ef(errs.Invalid, "%s is larger than %d bytes", what, MaxSize)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return errs.E(errs.Invalid, what+" cannot be read", err)
	}
	return nil
}

func schema(what string, n int) error {
	return errs.E(errs.Invalid, fmt.Sprintf("%s has schema %d, this program knows 1", what, n), errs.Hint("update this program"))
}

// Serial gives the serial of a release: the newest snapshot that it is current
// in. NotFound when there is none.
func (a At) Serial(v distro.Version) (int, error) {
	for i := len(a.Entries) - 1; i >= 0; i-- {
		if a.Entries[i].Release == v {
			return a.Entries[i].Serial, nil
		}
	}
	return 0, errs.E(errs.NotFound, fmt.Sprintf("series %s has no release %s", a.Series, v), errs.Hintf("its releases: %s", a.releases()),
		errs.Hintf("or a day (2026-12-24), a time (RFC 3339), snapshots/%d, current", a.last()))
}

// On gives the serial that was current at a time. NotFound before the first.
func (a At) On(at time.Time) (int, error) {
	serial := 0
	for _, e := range a.Entries {
		if !e.At.After(at) {
			serial = e.Serial
		}
	}
	if serial == 0 {
		return 0, errs.E(errs.NotFound, fmt.Sprintf("series %s had no release on %s", a.Series, at.UTC().Format(time.RFC3339)), errs.Hintf("its releases: %s", a.releases()))
	}
	return serial, nil
}

// last is the newest serial, 0 when there is none.
func (a At) last() int {
	if len(a.Entries) == 0 {
		return 0
	}
	return a.Entries[len(a.Entries)-1].Serial
}

// releases names the releases with their dates, of many the first and the last.
func (a At) releases() string {
	var all []string
	last := distro.Version("")
	for _, e := range a.Entries {
		if e.Release != last {
			last = e.Release
			all = append(all, fmt.Sprintf("%s (%s)", e.Release, e.At.UTC().Format(time.DateOnly)))
		}
	}
	if len(all) > 12 {
		all = slices.Concat(all[:1], []string{"..."}, all[len(all)-10:])
	}
	return strings.Join(all, ", ")
}
