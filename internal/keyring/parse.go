package keyring

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/sign"
)

// maxDocument is far above any keyring, in bytes.
const maxDocument = 4 << 20

// Bytes gives the document as it is signed and published.
func (k *Keyring) Bytes() []byte { return distro.CanonicalJSON(k) }

// Parse reads a keyring and checks it, but not its signature: [Open] does. All
// findings come at once, as Invalid.
func Parse(doc []byte) (*Keyring, error) {
	if len(doc) > maxDocument {
		return nil, errs.Ef(errs.Invalid, "keyring: %d bytes, the most are %d", len(doc), maxDocument)
	}
	k := &Keyring{}
	if err := json.Unmarshal(doc, k); err != nil {
		return nil, errs.E(errs.Invalid, "keyring: no document of this format", err)
	}
	if k.Schema != 1 {
		return nil, errs.E(errs.Invalid, fmt.Sprintf("keyring: schema %d, this program knows 1", k.Schema), errs.Hint("a newer slipway reads it"))
	}
	var found errs.List
	bad := func(format string, args ...any) {
		found = append(found, errs.Ef(errs.Invalid, "keyring: "+format, args...))
	}
	if k.Distribution == "" {
		bad("it does not say whose it is")
	}
	seen := map[string]string{}
	once := func(fingerprint, name string) {
		if other := seen[fingerprint]; other != "" {
			bad("%s and %s are the same key %s", other, name, fingerprint)
		}
		seen[fingerprint] = name
	}
	for _, r := range k.Roots {
		once(r.Fingerprint, "root")
		if list, err := sign.ParsePublic([]byte(r.PublicKey)); err != nil || len(list) != 1 || list[0].Fingerprint() != r.Fingerprint {
			bad("public key of root %s is not that one key", r.Fingerprint)
		}
	}
	names := map[string]bool{}
	for _, x := range k.Keys {
		name := x.Name()
		once(x.Fingerprint, name)
		if names[name] {
			bad("two keys are %s", name)
		}
		names[name] = true
		switch {
		case !slices.Contains(Roles, x.Role):
			bad("%s: no such role", name)
		case x.Number < 1:
			bad("%s: numbers start at 1", name)
		case x.Role == Package && x.Epoch < 1:
			bad("%s: a package key has an epoch", name)
		case x.From.IsZero():
			bad("%s: from when?", name)
		case !x.Until.IsZero() && x.Until.Before(x.From):
			bad("%s: it ends before it begins", name)
		}
		switch x.State {
		case Current:
		case Retired, Revoked:
			if x.Because == "" || x.Changed.IsZero() {
				bad("%s: %s without date and reason", name, x.State)
			}
		default:
			bad("%s: no state %q", name, x.State)
		}
		if p, err := x.Public(); err != nil {
			found = append(found, errs.Wrap(err, "keyring"))
		} else if p.Algorithm() != x.Algorithm || p.UserID() != x.UserID {
			bad("%s: algorithm or user id is not that of its public key", name)
		}
	}
	if err := found.Err(); err != nil {
		return nil, err
	}
	k.sort()
	return k, nil
}

// Open reads a keyring that one of the trusted root keys has signed; sigs is the
// armored detached signature, of one root or several. Denied when none has.
func Open(doc, sigs []byte, trusted []*sign.Public) (*Keyring, error) {
	sig, err := sign.Dearmor(sigs)
	if err != nil {
		return nil, errs.E(errs.Denied, "keyring.json.asc is no signature", err)
	}
	if _, err := sign.Verify(trusted, bytes.NewReader(doc), sig); err != nil {
		return nil, errs.Wrap(err, "keyring.json is not signed by a trusted root key")
	}
	return Parse(doc)
}

// Replaces refuses, as Denied, a keyring that must not take the place of an older
// one that was seen before: of another distribution, with a lower number (a
// replay), with the same number and other content, or one that trusts a revoked key
// again or forgets a key.
func (k *Keyring) Replaces(old *Keyring) error {
	var why []string
	switch {
	case k.Distribution != old.Distribution:
		why = append(why, fmt.Sprintf("it is of %s, not of %s", k.Distribution, old.Distribution))
	case k.Number < old.Number:
		why = append(why, fmt.Sprintf("it is number %d, and %d was seen before: an old one is replayed", k.Number, old.Number))
	case k.Number == old.Number && !bytes.Equal(k.Bytes(), old.Bytes()):
		why = append(why, fmt.Sprintf("there are two of number %d", k.Number))
	}
	for _, o := range old.Keys {
		n, err := k.Find(o.Fingerprint)
		switch {
		case err != nil:
			why = append(why, "it forgets "+o.Name())
		case n.Role != o.Role || n.Number != o.Number:
			why = append(why, fmt.Sprintf("%s is %s in it", o.Name(), n.Name()))
		case o.State == Revoked && n.State != Revoked:
			why = append(why, "it trusts "+o.Name()+" again, which was revoked")
		}
	}
	if len(why) > 0 {
		return errs.E(errs.Denied, "this keyring is not to be trusted: "+strings.Join(why, "; "))
	}
	return nil
}
