package timestamp

import (
	"strings"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Removal is the file removals/<serial>.json, a tombstone: the signed notice that
// stands in the place of published bytes which had to go (docs/format/removal.md). It
// takes nothing else back: statements, snapshots and the log stay.
type Removal struct {
	Schema       int           `json:"schema"` // 1
	Distribution string        `json:"distribution"`
	Series       string        `json:"series"`
	Serial       int           `json:"serial"` // of the first snapshot whose feeds do not offer the files
	At           time.Time     `json:"at"`
	By           string        `json:"by"`
	Because      string        `json:"because"`
	Files        []RemovedFile `json:"files"` // by name
}

// RemovedFile is a file whose bytes are gone.
type RemovedFile struct {
	File         string           `json:"file"`                    // its name in the publication
	Digest       distro.Digest    `json:"digest"`                  // of the bytes that stood there
	Size         int64            `json:"size"`                    // of them
	Package      string           `json:"package,omitempty"`       // NEVRA of a package
	HeaderDigest distro.Digest    `json:"header_digest,omitempty"` // of a package
	Releases     []distro.Version `json:"releases"`                // that state it
}

// Encode gives the bytes that are signed and published.
func (r Removal) Encode() []byte { return distro.CanonicalJSON(r) }

// ParseRemoval reads a notice. It names files of its own series alone: below pool/ and
// images/. Errors are Invalid.
func ParseRemoval(b []byte) (Removal, error) {
	var r Removal
	if err := decode("the notice of a removal", b, &r); err != nil {
		return r, err
	}
	if r.Schema != 1 {
		return r, schema("the notice of a removal", r.Schema)
	}
	if r.Series == "" || r.Serial < 1 || r.At.IsZero() || r.Because == "" || len(r.Files) == 0 {
		return r, errs.E(errs.Invalid, "the notice of a removal does not say what was removed and why")
	}
	for i, f := range r.Files {
		rest, ok := strings.CutPrefix(f.File, r.Series+"/")
		if _, err := distro.ParseDigest(string(f.Digest)); err != nil || !ok || !strings.HasPrefix(rest, "pool/") && !strings.HasPrefix(rest, "images/") {
			return r, errs.Ef(errs.Invalid, "the notice of a removal names %q: only packages and images of series %s can be removed", f.File, r.Series)
		}
		if i > 0 && f.File <= r.Files[i-1].File {
			return r, errs.Ef(errs.Invalid, "the notice of a removal names %q out of order", f.File)
		}
	}
	return r, nil
}
