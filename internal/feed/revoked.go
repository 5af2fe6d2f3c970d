package feed

import (
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"slipway/internal/errs"
	"slipway/internal/keyring"
	"slipway/internal/sign"
)

// doubt is a file whose signature is by a key that was revoked later: it counts only
// when the log had the file before.
type doubt struct {
	name    string
	revoked time.Time
	finding error
}

// allowed checks a signature: by a key of the role, within its time, when there is a
// keyring; else by any of keys. A doubt is given for one by a key that was revoked
// after the date that it bears, and which anybody who stole the key may have made.
func (v *verifier) allowed(role keyring.Role, keys []*sign.Public, name string, message io.ReadSeeker, sig []byte) (*doubt, error) {
	ring := v.trust.Ring
	if ring == nil {
		_, err := sign.Verify(keys, message, sig)
		return nil, err
	}
	_, err := ring.Verify(role, message, sig)
	if !errs.Is(err, errs.Denied) {
		return nil, err
	}
	if _, serr := message.Seek(0, io.SeekStart); serr != nil {
		return nil, errs.E(errs.Unavailable, "read "+name, serr)
	}
	if k, werr := asBefore(ring).Verify(role, message, sig); werr == nil {
		return &doubt{name, k.Changed, err}, nil
	}
	return nil, err
}

// asBefore is the keyring as it would be had revoked keys only been retired.
func asBefore(ring *keyring.Keyring) *keyring.Keyring {
	before := ring.Clone()
	for i := range before.Keys {
		if before.Keys[i].State == keyring.Revoked {
			before.Keys[i].State = keyring.Retired
		}
	}
	return before
}

// settle makes findings of the doubts that the log does not settle.
func (v *verifier) settle() {
	for _, d := range v.doubts {
		if !v.loggedBefore(d.name, d.revoked) {
			v.find("%s: signature: %v", d.name, d.finding)
		}
	}
	v.doubts = nil
}

// loggedBefore reports whether the log has a file, or one that answers for it with its
// digest, with a date before that time: the statement of a package, the snapshot of an
// index.
func (v *verifier) loggedBefore(name string, at time.Time) bool {
	if v.tlog == nil {
		return false
	}
	answers := []string{name}
	if rest, ok := strings.CutPrefix(name, path.Join(v.l.Series, "snapshots")+"/"); ok {
		serial, _, _ := strings.Cut(rest, "/")
		answers = append(answers, path.Join(v.l.Series, "snapshots", serial, "snapshot.json"))
	}
	if scope, file, ok := v.l.inPool(name); ok {
		for _, c := range v.claims[path.Join(scope, file)] {
			if c.name == name && string(c.record.Digest) == v.seen[name] {
				answers = append(answers, v.l.Statement(c.release))
			}
		}
	}
	for _, leaf := range v.tlog.Leaves {
		if leaf.At.Before(at) && slices.Contains(answers, leaf.File) {
			return true
		}
	}
	return false
}

// inPool takes the name of a package's file apart.
func (l Layout) inPool(name string) (scope, file string, ok bool) {
	rest, ok := strings.CutPrefix(name, path.Join(l.Series, "pool/rpm")+"/")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 {
		return "", "", false
	}
	return parts[0], parts[2], true
}
