package keyring

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"slipway/internal/errs"
	"slipway/internal/sign"
)

// sort orders keys by role and number.
func (k *Keyring) sort() {
	slices.SortFunc(k.Keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(slices.Index(Roles, a.Role), slices.Index(Roles, b.Role)), cmp.Compare(a.Number, b.Number))
	})
}

// New gives a keyring without keys.
func New(distribution string) *Keyring {
	return &Keyring{Schema: 1, Distribution: distribution}
}

// Clone gives a copy that can be changed.
func (k *Keyring) Clone() *Keyring {
	c := *k
	c.Roots, c.Keys = slices.Clone(k.Roots), slices.Clone(k.Keys)
	return &c
}

// Add takes a role's first key into the keyring, or a further one after all others
// have ended; it signs from that time on. Denied for a key that must not sign
// ([sign.Public.Check]), Conflict for a key that is there, and when another key of the
// role still signs (that is a rotation).
func (k *Keyring) Add(role Role, p *sign.Public, from time.Time) (Key, error) {
	if keys, err := k.Signing(role, from); err == nil {
		return Key{}, errs.E(errs.Conflict, fmt.Sprintf("the role %s has the key %s (%s)", role, keys[0].Name(), keys[0].Fingerprint),
			errs.Hintf("slipway key rotate --role %s puts another in its place", role))
	}
	return k.add(role, p, from)
}

func (k *Keyring) add(role Role, p *sign.Public, from time.Time) (Key, error) {
	from = from.UTC().Truncate(time.Second)
	if from.Before(p.Created()) {
		from = p.Created()
	}
	if err := p.Check(from); err != nil {
		return Key{}, err
	}
	if old, err := k.Find(p.Fingerprint()); err == nil {
		return Key{}, errs.E(errs.Conflict, fmt.Sprintf("key %s is in the keyring already, as %s (%s)", p.Fingerprint(), old.Name(), old.State),
			errs.Hint("a key has one role, for ever: make another"))
	}
	for _, r := range k.Roots {
		if r.Fingerprint == p.Fingerprint() {
			return Key{}, errs.E(errs.Denied, "key "+p.Fingerprint()+" is the root key, which signs keyrings and nothing else", errs.Hint("slipway key create makes a key for a role"))
		}
	}
	n := Key{Role: role, Number: 1, Fingerprint: p.Fingerprint(), UserID: p.UserID(), Algorithm: p.Algorithm(), From: from, State: Current, PublicKey: string(p.Armored())}
	if role == Package {
		n.Epoch = 1
	}
	for _, x := range k.Of(role) {
		n.Number = max(n.Number, x.Number+1)
		if role != Package {
			continue
		}
		// What a revoked key signed is signed again, beside the old files.
		n.Epoch = max(n.Epoch, x.Epoch)
		if x.State == Revoked {
			n.Epoch = max(n.Epoch, x.Epoch+1)
		}
	}
	k.Keys = append(k.Keys, n)
	k.sort()
	return n, nil
}

// Rotate puts a new key in the place of the one that signs for a role now. For
// the time of the overlap both are listed and trusted. A metadata key signs at once,
// beside the old one; any other only from the end of the overlap on, for a package has
// room for one signature, and devices must have the new key before they need it.
// Errors are those of [Keyring.Add]; Conflict during another rotation.
func (k *Keyring) Rotate(role Role, p *sign.Public, overlap time.Duration, now time.Time) (Key, error) {
	now = now.UTC().Truncate(time.Second)
	if overlap < 0 {
		return Key{}, errs.Ef(errs.Invalid, "an overlap of %s", overlap)
	}
	old, err := k.Signing(role, now)
	if err != nil {
		return Key{}, err
	}
	for _, x := range k.Of(role) {
		if x.State == Current && (x.From.After(now) || !x.Until.IsZero() && x.Until.After(now)) {
			return Key{}, errs.E(errs.Conflict, fmt.Sprintf("a rotation of the role %s goes on: %s", role, x.Window()), errs.Hint("slipway key list shows when it ends"))
		}
	}
	end, from := now.Add(overlap), now.Add(overlap)
	if role == Metadata {
		from = now
	}
	n, err := k.add(role, p, from)
	if err != nil {
		return n, err
	}
	for i := range k.Keys {
		if k.Keys[i].Fingerprint == old[0].Fingerprint {
			k.Keys[i].Until = end
		}
	}
	return n, nil
}

// Window says in words when a key signs.
func (k Key) Window() string {
	s := k.Name() + " signs from " + k.From.Format(time.DateOnly)
	if !k.Until.IsZero() {
		s += " until " + k.Until.Format(time.DateOnly)
	}
	return s
}

// Revoke takes every trust from a key, whatever date its signatures bear. The next
// package key signs into a new epoch of the pool. A key to come, of a rotation that
// had begun, signs from now on. Invalid without a reason, NotFound, Conflict for a key
// that is revoked already.
func (k *Keyring) Revoke(name, because string, now time.Time) (Key, error) {
	return k.end(name, because, now, Revoked)
}

// Retire ends the use of a key whose signatures stay good: one that was lost, or is
// needed no more. Errors are those of [Keyring.Revoke].
func (k *Keyring) Retire(name, because string, now time.Time) (Key, error) {
	return k.end(name, because, now, Retired)
}

func (k *Keyring) end(name, because string, now time.Time, state State) (Key, error) {
	now = now.UTC().Truncate(time.Second)
	if because = strings.TrimSpace(because); because == "" {
		return Key{}, errs.E(errs.Invalid, "a key is not ended without a reason", errs.Hint("--because \"the laptop was stolen\""))
	}
	found, err := k.Find(name)
	if err != nil {
		return found, err
	}
	if found.State == Revoked || found.State == state {
		return found, errs.Ef(errs.Conflict, "key %s was %s on %s: %s", found.Name(), found.State, found.Changed.Format(time.RFC3339), found.Because)
	}
	endless := false
	for i := range k.Keys {
		switch x := &k.Keys[i]; {
		case x.Role != found.Role || x.State != Current:
		case x.Fingerprint == found.Fingerprint:
			x.State, x.Because, x.Changed = state, because, now
			found = *x
		default:
			if x.From.After(now) {
				x.From = now
			}
			if state == Revoked && x.Role == Package && x.Number > found.Number {
				x.Epoch = max(x.Epoch, found.Epoch+1)
			}
			endless = endless || x.Until.IsZero()
		}
	}
	if endless {
		return found, nil
	}
	// The key that was to follow has ended: the one before it goes on.
	for i := range k.Keys {
		if x := &k.Keys[i]; x.Role == found.Role && x.State == Current && x.Until.After(now) {
			x.Until = time.Time{}
		}
	}
	return found, nil
}
