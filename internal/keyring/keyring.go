// Package keyring knows which key of a distribution may sign what, and when.
//
// A [Keyring] is one document, keyring.json (docs/format/keyring.md): every public
// key that the distribution ever had, each with one role, the time from and until which
// it signs, and its state. It is signed by an offline root key, so that a stranger who
// trusts the root alone knows all others; the root is needed only when the document
// changes, never to publish.
//
//	k, err := keyring.Open(doc, signature, roots) // as a stranger
//	key, err := k.Verify(keyring.Metadata, bytes.NewReader(repomd), sig)
//	keys, err := k.Signing(keyring.Package, at)   // as a publisher
//
// Changes ([Keyring.Add], [Keyring.Rotate], [Keyring.Revoke]) make a draft in the key
// folder ([Folder]), which also holds the private keys or says where they are.
// Nothing here signs: see packages sign and signer.
package keyring

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"slipway/internal/errs"
	"slipway/internal/sign"
)

// Role is what a key is for. A key has one role.
type Role string

const (
	Package  Role = "package"  // signs packages
	Metadata Role = "metadata" // signs repomd.xml, snapshots, statements, timestamp.json
	SState   Role = "sstate"   // signs the build cache
	Log      Role = "log"      // signs checkpoints of the transparency log
)

// Roles are all roles, in the order in which they are shown.
var Roles = []Role{Package, Metadata, SState, Log}

// ParseRole checks a role's name; Invalid with the near one.
func ParseRole(s string) (Role, error) {
	names := make([]string, len(Roles))
	for i, r := range Roles {
		if names[i] = string(r); names[i] == s {
			return r, nil
		}
	}
	hint := errs.Hint("the roles are: " + strings.Join(names, ", "))
	if near := errs.Near(s, names); near != "" {
		hint = errs.Hintf("did you mean %q?", near)
	}
	return "", errs.E(errs.Invalid, fmt.Sprintf("there is no role %q", s), hint)
}

// State is what became of a key.
type State string

const (
	Current State = "current" // signs from From until Until
	Retired State = "retired" // signs no more; what it signed stays good
	Revoked State = "revoked" // nothing that it signed counts, whatever date it bears
)

// Key is one public key.
type Key struct {
	Role        Role      `json:"role"`
	Number      int       `json:"number"`            // within its role, from 1
	Epoch       int       `json:"epoch,omitempty"`   // of a package key: the pool's key epoch that it signs into
	Fingerprint string    `json:"fingerprint"`       // 40 lower-case hexadecimal digits
	UserID      string    `json:"user_id"`           // "Name <address>"
	Algorithm   string    `json:"algorithm"`         // ed25519, rsa3072
	From        time.Time `json:"from"`              // it signs nothing dated before
	Until       time.Time `json:"until,omitzero"`    // nor from then on; absent: no end is set
	State       State     `json:"state"`             //
	Because     string    `json:"because,omitempty"` // why it was retired or revoked
	Changed     time.Time `json:"changed,omitzero"`  // when it was
	PublicKey   string    `json:"public_key"`        // armored
}

// Name is the key's name in files and messages: package-1.
func (k Key) Name() string { return fmt.Sprintf("%s-%d", k.Role, k.Number) }

// Public parses the public key. It is good in every keyring that [Parse] gave.
func (k Key) Public() (*sign.Public, error) {
	list, err := sign.ParsePublic([]byte(k.PublicKey))
	if err != nil {
		return nil, errs.Wrap(err, "public key of %s", k.Name())
	}
	if len(list) != 1 || list[0].Fingerprint() != k.Fingerprint {
		return nil, errs.Ef(errs.Invalid, "public key of %s is not the one key %s", k.Name(), k.Fingerprint)
	}
	return list[0], nil
}

// Root is an offline key that signs keyrings and nothing else.
type Root struct {
	Fingerprint string `json:"fingerprint"`
	UserID      string `json:"user_id"`
	PublicKey   string `json:"public_key"`
}

// Keyring is the document. Keys are ordered by role and number.
type Keyring struct {
	Schema       int       `json:"schema"` // 1
	Distribution string    `json:"distribution"`
	Number       int       `json:"number"`      // rises with every signed keyring; 0: never signed
	At           time.Time `json:"at,omitzero"` // when it was signed
	Roots        []Root    `json:"roots,omitempty"`
	Keys         []Key     `json:"keys"`
}

// Of gives the keys of a role, by number.
func (k *Keyring) Of(role Role) []Key {
	var out []Key
	for _, x := range k.Keys {
		if x.Role == role {
			out = append(out, x)
		}
	}
	return out
}

// Find gives the key with that fingerprint, key id or name (package-2).
func (k *Keyring) Find(name string) (Key, error) {
	lower := strings.ToLower(strings.ReplaceAll(name, " ", ""))
	for _, x := range k.Keys {
		if x.Fingerprint == lower || x.Name() == lower || len(lower) == 16 && strings.HasSuffix(x.Fingerprint, lower) {
			return x, nil
		}
	}
	return Key{}, errs.E(errs.NotFound, "no key "+name+" in the keyring", errs.Hint("slipway key list"))
}

// against says why a key must not sign, or have signed, at that time; "" when it may.
func (k Key) against(at time.Time) (why, cure string) {
	day := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	switch {
	case k.State == Revoked:
		return fmt.Sprintf("was revoked on %s: %s", day(k.Changed), k.Because), "what it signed must be signed again: docs/keys.md, A compromised key"
	case k.State == Retired && !at.Before(k.Changed):
		return fmt.Sprintf("was retired on %s: %s", day(k.Changed), k.Because), "slipway key rotate --role " + string(k.Role)
	case at.Before(k.From):
		return fmt.Sprintf("signs from %s only, this is dated %s", day(k.From), day(at)), "wait until then, or check the clock"
	case !k.Until.IsZero() && !at.Before(k.Until):
		return fmt.Sprintf("signed until %s only, this is dated %s", day(k.Until), day(at)), "slipway key rotate --role " + string(k.Role)
	}
	return "", ""
}

// Signing gives the keys that sign for a role at that time, the oldest first. Only
// for metadata there may be several, during a rotation's overlap: each document gets
// the signatures of all. Denied with the reason and the cure for each key when there
// is none, NotFound when the role has no key.
func (k *Keyring) Signing(role Role, at time.Time) ([]Key, error) {
	var out []Key
	var reasons []string
	var hints []any
	for _, x := range k.Of(role) {
		why, cure := x.against(at)
		if why == "" {
			p, err := x.Public()
			if err != nil {
				return nil, err
			}
			if err := p.Check(at); err != nil {
				reasons = append(reasons, err.Error())
				for _, h := range errs.Hints(err) {
					hints = append(hints, errs.Hint(h))
				}
				continue
			}
			if len(out) == 0 || role == Metadata {
				out = append(out, x)
			}
			continue
		}
		reasons = append(reasons, fmt.Sprintf("key %s (%s) %s", x.Name(), x.Fingerprint[24:], why))
		if h := errs.Hint(cure); !slices.Contains(hints, any(h)) {
			hints = append(hints, h)
		}
	}
	switch {
	case len(out) > 0:
		return out, nil
	case len(reasons) == 0:
		return nil, errs.E(errs.NotFound, fmt.Sprintf("the keyring has no %s key", role), errs.Hintf("slipway key create --role %s", role))
	}
	return nil, errs.E(errs.Denied, fmt.Sprintf("no %s key may sign: %s", role, strings.Join(reasons, "; ")), hints...)
}

// Verify tells which key of a role made sig, a binary detached signature of one or
// more keys, over message. Everything else is Denied with the reason of each
// signature: those of [sign.Verify], a key of another role, a revoked key, a date
// outside of the key's validity.
func (k *Keyring) Verify(role Role, message io.Reader, sig []byte) (Key, error) {
	singles, err := sign.Split(sig)
	if err != nil {
		return Key{}, err
	}
	var publics []*sign.Public
	var good []byte
	var reasons []string
	for _, s := range singles {
		key, why := k.allowed(role, s)
		if why != "" {
			reasons = append(reasons, why)
			continue
		}
		p, err := key.Public()
		if err != nil {
			return Key{}, err
		}
		publics, good = append(publics, p), append(good, s.Bytes...)
	}
	denied := func() error {
		return errs.E(errs.Denied, strings.Join(reasons, "; "), errs.Hintf("keys of role %s: %s", role, k.names(role)))
	}
	if len(good) == 0 {
		return Key{}, denied()
	}
	p, err := sign.Verify(publics, message, good)
	if errs.Is(err, errs.Denied) {
		reasons = append(reasons, err.Error())
		return Key{}, denied()
	}
	if err != nil {
		return Key{}, err
	}
	return k.Find(p.Fingerprint())
}

func (k *Keyring) allowed(role Role, s sign.Single) (Key, string) {
	if s.KeyID == "" {
		return Key{}, "the signature does not say which key made it"
	}
	key, err := k.Find(s.KeyID)
	if err != nil {
		return key, "made by the unknown key " + s.KeyID
	}
	if key.Role != role {
		return key, fmt.Sprintf("made by the key %s (%s), which is not for %s", key.Name(), s.KeyID, role)
	}
	if why, _ := key.against(s.At); why != "" {
		return key, fmt.Sprintf("key %s (%s) %s", key.Name(), s.KeyID, why)
	}
	return key, ""
}

func (k *Keyring) names(role Role) string {
	var out []string
	for _, x := range k.Of(role) {
		out = append(out, x.Name()+" "+x.Fingerprint[24:]+" ("+string(x.State)+")")
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}

// Trusted gives the keys of a role that clients must know: all that are not revoked,
// those to come and the retired ones included, for packages that a retired key
// signed stay in the feeds.
func (k *Keyring) Trusted(role Role) []Key {
	return slices.DeleteFunc(k.Of(role), func(x Key) bool { return x.State == Revoked })
}

// Armored gives the trusted public keys of roles as one text, a block for each: the
// form of a file in /etc/pki/rpm-gpg, which dnf and "rpm --import" read whole.
func (k *Keyring) Armored(roles ...Role) []byte {
	var b bytes.Buffer
	for _, r := range roles {
		for _, x := range k.Trusted(r) {
			b.WriteString(x.PublicKey)
		}
	}
	return b.Bytes()
}

// PackageEpoch is the pool's key epoch at that time: that of the key that signs
// packages. Errors are those of [Keyring.Signing].
func (k *Keyring) PackageEpoch(at time.Time) (int, error) {
	keys, err := k.Signing(Package, at)
	if err != nil {
		return 0, err
	}
	return keys[0].Epoch, nil
}
