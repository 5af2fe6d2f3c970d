package signer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"slipway/internal/errs"
	"slipway/internal/keyring"
	"slipway/internal/sign"
)

// maxAhead is how far in the future a signature may be dated: clocks differ.
const maxAhead = 5 * time.Minute

// Local signs with the keys of a folder, in this process. A [Server] has one inside.
// It may be used by several goroutines.
type Local struct {
	Folder       keyring.Folder
	Distribution string
	Clock        func() time.Time
	// Passphrases answer for the protected keys, once for each; nil when there are none.
	Passphrases func(ctx context.Context, k keyring.Key) keyring.Passphrases

	mu      sync.Mutex
	stamp   string
	ring    *keyring.Keyring
	last    map[keyring.Role]choice        // a publish dates everything alike
	holders map[string]sign.MidstateSigner // by fingerprint
	log     *os.File
}

// Keys gives the keys that sign for a role at that time: see [keyring.Keyring.Signing].
func (l *Local) Keys(role keyring.Role, at time.Time) ([]keyring.Key, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.keys(role, at)
}

func (l *Local) keys(role keyring.Role, at time.Time) ([]keyring.Key, error) {
	if now := l.Clock(); at.After(now.Add(maxAhead)) {
		return nil, errs.E(errs.Denied, fmt.Sprintf("nothing is signed for the future: %s, it is %s", at.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339)), errs.Hint("check the clock"))
	}
	// A revocation must be felt by a signer that runs for months.
	if s := l.Folder.Stamp(); s != l.stamp || l.ring == nil {
		ring, _, err := l.Folder.Load(l.Distribution)
		if err != nil {
			return nil, err
		}
		l.ring, l.stamp, l.last = ring, s, map[keyring.Role]choice{}
	}
	if c, ok := l.last[role]; ok && c.at.Equal(at) {
		return c.keys, nil
	}
	keys, err := l.ring.Signing(role, at)
	if err == nil {
		l.last[role] = choice{at, keys}
	}
	return keys, err
}

// choice is which keys sign at a date.
type choice struct {
	at   time.Time
	keys []keyring.Key
}

// caller is who asked, for the log.
type caller struct{ uid, pid int }

// sign makes one signature for each key that signs for the role at that date; the
// log has it before anybody else.
func (l *Local) sign(ctx context.Context, r request, who caller) ([]signature, error) {
	digest, err := sign.Midstate(r.Midstate).Digest()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	keys, err := l.keys(r.Role, r.At)
	var holders []sign.MidstateSigner
	for _, k := range keys {
		h, herr := l.holder(ctx, k)
		if herr != nil {
			err = herr
			break
		}
		holders = append(holders, h)
	}
	if err == nil {
		for _, k := range keys {
			e := entry{l.Clock().UTC().Truncate(time.Second), r.At.UTC().Truncate(time.Second), r.Role, k.Fingerprint, string(digest), r.What, who.uid, who.pid}
			if err = l.note(e); err != nil {
				break
			}
		}
	}
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	out := make([]signature, len(keys))
	for i, h := range holders {
		b, err := h.SignMidstate(ctx, r.Midstate, r.At)
		if err != nil {
			return nil, err
		}
		out[i] = signature{keys[i].Fingerprint, b}
	}
	return out, nil
}

func (l *Local) holder(ctx context.Context, k keyring.Key) (sign.MidstateSigner, error) {
	if h := l.holders[k.Fingerprint]; h != nil {
		return h, nil
	}
	var p keyring.Passphrases
	if l.Passphrases != nil {
		p = l.Passphrases(ctx, k)
	}
	h, err := l.Folder.Unlock(ctx, k, p)
	if err != nil {
		return nil, err
	}
	if l.holders == nil {
		l.holders = map[string]sign.MidstateSigner{}
	}
	l.holders[k.Fingerprint] = h
	return h, nil
}

// note appends to signed.log. The line is written before the signature is made; it
// is on disk after [Local.Sync].
func (l *Local) note(e entry) error {
	if l.log == nil {
		f, err := os.OpenFile(filepath.Join(l.Folder.Dir, "signed.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return errs.E(errs.Unavailable, "nothing is signed without a log of it", err)
		}
		l.log = f
	}
	if _, err := l.log.Write(e.line()); err != nil {
		return errs.E(errs.Unavailable, "nothing is signed without a log of it", err)
	}
	return nil
}

// Unlock opens the private keys of roles that sign now, so that passphrases are asked
// before work begins.
func (l *Local) Unlock(ctx context.Context, roles ...keyring.Role) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, role := range roles {
		keys, err := l.keys(role, l.Clock())
		if err != nil {
			return err
		}
		for _, k := range keys {
			if _, err := l.holder(ctx, k); err != nil {
				return err
			}
		}
	}
	return nil
}

// Sync makes the log durable.
func (l *Local) Sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.log == nil {
		return nil
	}
	return l.log.Sync()
}

// Role gives a signer for a role: see [Client.Role].
func (l *Local) Role(ctx context.Context, role keyring.Role, at time.Time) (*Remote, error) {
	return newRemote(ctx, role, at, l.local)
}

// Close ends the use of the keys.
func (l *Local) Close() error {
	err := l.Sync()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holders = nil
	if l.log != nil {
		l.log.Close()
		l.log = nil
	}
	return err
}

func (l *Local) local(ctx context.Context, r request) (response, error) {
	return l.answer(ctx, r, caller{os.Getuid(), os.Getpid()})
}

func (l *Local) answer(ctx context.Context, r request, who caller) (response, error) {
	switch r.Op {
	case "keys":
		keys, err := l.Keys(r.Role, r.At)
		return response{Keys: keys}, err
	case "sign":
		sigs, err := l.sign(ctx, r, who)
		return response{Signatures: sigs}, err
	case "checkpoint":
		sigs, err := l.checkpoint(ctx, r, who)
		return response{Signatures: sigs}, err
	}
	return response{}, errs.Ef(errs.Invalid, "the signer knows no %q", r.Op)
}
