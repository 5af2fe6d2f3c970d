package tlog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/store"
)

// Type says what a leaf stands for.
type Type string

// The types.
const (
	Release  Type = "release"  // a release's statement
	Snapshot Type = "snapshot" // an index of all feeds of a series
	Removal  Type = "removal"  // the notice of a removal by law
	Key      Type = "key"      // a public key that may sign this log's checkpoints from now on
)

// Leaf is one entry of the log: a file of the publication that is there for ever.
type Leaf struct {
	Type    Type           `json:"type"`
	Series  string         `json:"series,omitempty"`  // not of a key
	Version distro.Version `json:"version,omitempty"` // of a release
	Serial  int            `json:"serial,omitempty"`  // of a snapshot
	At      time.Time      `json:"at"`                // what the file says of its date; UTC, whole seconds
	File    string         `json:"file"`              // its name in the publication
	Digest  distro.Digest  `json:"digest"`            // of its bytes
}

// String names what the leaf stands for.
func (l Leaf) String() string {
	switch l.Type {
	case Release:
		return "release " + string(l.Version)
	case Key:
		return "log key " + l.File
	case Removal:
		return fmt.Sprintf("removal %d of series %s", l.Serial, l.Series)
	}
	return fmt.Sprintf("snapshot %d of series %s", l.Serial, l.Series)
}

// entry gives the bytes of the leaf in the log: canonical JSON.
func (l Leaf) entry() []byte { return distro.CanonicalJSON(l) }

func (l Leaf) check() error {
	_, err := distro.ParseDigest(string(l.Digest))
	switch {
	case l.Type != Release && l.Type != Snapshot && l.Type != Removal && l.Type != Key:
		return errs.Ef(errs.Invalid, "a leaf of the type %q", l.Type)
	case l.Type == Key && (l.Series != "" || l.Version != "" || l.Serial != 0):
		return errs.Ef(errs.Invalid, "a leaf of a key that names more than its file: %s", l.entry())
	case l.Type != Key && (l.Series == "" || l.Type == Release && (l.Version == "" || l.Serial != 0) || l.Type != Release && (l.Version != "" || l.Serial < 1)):
		return errs.Ef(errs.Invalid, "a leaf that names neither a release nor a snapshot: %s", l.entry())
	case l.At.IsZero() || !l.At.Equal(l.At.Truncate(time.Second)) || l.At.Location() != time.UTC:
		return errs.Ef(errs.Invalid, "the leaf of %s has the time %s, not a whole second of UTC", l, l.At.Format(time.RFC3339Nano))
	case err != nil:
		return errs.Wrap(err, "the leaf of %s", l)
	}
	return errs.Wrap(store.CheckName(l.File), "the leaf of %s", l)
}

// parseLeaf reads an entry. Only the canonical form is one.
func parseLeaf(b []byte) (Leaf, error) {
	var l Leaf
	if err := json.Unmarshal(b, &l); err != nil {
		return l, errs.E(errs.Invalid, "an entry of the log is no leaf", err)
	}
	if err := l.check(); err != nil {
		return l, err
	}
	if !bytes.Equal(l.entry(), b) {
		return l, errs.Ef(errs.Invalid, "the entry of %s in the log is not in canonical form", l)
	}
	return l, nil
}
