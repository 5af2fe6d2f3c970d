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

// sign makes one signature of each message for each key that signs for the role at
// that date; the log has all of them before anybody else has one.
func (l *Local) sign(ctx context.Context, r request, messages []message, who caller) ([][]signature, error) {
	l.mu.Lock()
	keys, holders, err := l.ready(ctx, r, messages, who)
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	out := make([][]signature, len(messages))
	for m := range messages {
		out[m] = make([]signature, len(keys))
		for i, h := range holders {
			b, err := h.SignMidstate(ctx, messages[m].Midstate, r.At)
			if err != nil {
				return nil, err
			}
			out[m][i] = signature{keys[i].Fingerprint, b}
		}
	}
	return out, nil
}

// ready gives the keys for a request, unlocked, when the log has what they will sign.
func (l *Local) ready(ctx context.Context, r request, messages []message, who caller) ([]keyring.Key, []sign.MidstateSigner, error) {
	keys, err := l.keys(r.Role, r.At)
	if err != nil {
		return nil, nil, err
	}
	var holders []sign.MidstateSigner
	for _, k := range keys {
		h, err := l.holder(ctx, k)
		if err != nil {
			return nil, nil, err
		}
		holders = append(holders, h)
	}
	now := l.Clock().UTC().Truncate(time.Second)
	var lines []byte
	for _, m := range messages {
		digest, err := sign.Midstate(m.Midstate).Digest()
		if err != nil {
			return nil, nil, err
		}
		for _, k := range keys {
			lines = append(lines, entry{now, r.At.UTC().Truncate(time.Second), r.Role, k.Fingerprint, string(digest), m.What, who.uid, who.pid}.line()...)
		}
	}
	return keys, holders, l.note(lines)
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

// note appends lines to signed.log. They are written before the signatures are made,
// and are on disk after [Local.Sync].
func (l *Local) note(lines []byte) error {
	if l.log == nil {
		f, err := os.OpenFile(filepath.Join(l.Folder.Dir, "signed.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return errs.E(errs.Unavailable, "nothing is signed without a log of it", err)
		}
		l.log = f
	}
	if _, err := l.log.Write(lines); err != nil {
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
		sigs, err := l.sign(ctx, r, []message{{r.Midstate, r.What}}, who)
		if err != nil {
			return response{}, err
		}
		return response{Signatures: sigs[0]}, nil
	case "sign-all":
		if len(r.All) == 0 || len(r.All) > maxMessages {
			return response{}, errs.Ef(errs.Invalid, "%d messages to sign at once; 1 to %d are allowed", len(r.All), maxMessages)
		}
		sigs, err := l.sign(ctx, r, r.All, who)
		return response{All: sigs}, err
	case "checkpoint":
		sigs, err := l.checkpoint(ctx, r, who)
		return response{Signatures: sigs}, err
	}
	return response{}, errs.Ef(errs.Invalid, "the signer knows no %q", r.Op)
}
