package signer

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"slipway/internal/errs"
	"slipway/internal/keyring"
	"slipway/internal/sign"
)

// exchange sends a request and gives the answer; an error of the signer is an error.
type exchange func(context.Context, request) (response, error)

// Remote signs for one role with keys that are elsewhere. Its names (Fingerprint,
// KeyID, PublicArmored and so on) are those of the first key that signed for the role
// when the Remote was made; a signature is that of every key that signs at its date, one
// after the other. What the signer gives is checked before anybody sees it.
type Remote struct {
	role keyring.Role
	do   exchange
	at   time.Time
	keys []keyring.Key
	tag  int

	mu      sync.Mutex
	publics map[string]*sign.Public
}

var _ sign.MidstateSigner = (*Remote)(nil)

func newRemote(ctx context.Context, role keyring.Role, at time.Time, do exchange) (*Remote, error) {
	r := &Remote{role: role, at: at, do: do, publics: map[string]*sign.Public{}}
	if err := r.learn(ctx, at); err != nil {
		return nil, err
	}
	return r, nil
}

// learn asks for the keys that sign at that time.
func (r *Remote) learn(ctx context.Context, at time.Time) error {
	a, err := r.do(ctx, request{Op: "keys", Role: r.role, At: at})
	if err != nil {
		return err
	}
	if len(a.Keys) == 0 {
		return errs.Ef(errs.Internal, "the signer names no %s key", r.role)
	}
	for _, k := range a.Keys {
		p, err := k.Public()
		if err != nil {
			return err
		}
		r.publics[k.Fingerprint] = p
	}
	if r.keys == nil {
		r.keys, r.tag = a.Keys, r.publics[a.Keys[0].Fingerprint].RPMTag()
	}
	return nil
}

// Keys are the keys that signed for the role when the Remote was made.
func (r *Remote) Keys() []keyring.Key { return r.keys }

// Fingerprint implements [sign.Signer].
func (r *Remote) Fingerprint() string { return r.keys[0].Fingerprint }

// KeyID implements [sign.Signer].
func (r *Remote) KeyID() string { return r.keys[0].Fingerprint[24:] }

// UserID implements [sign.Signer].
func (r *Remote) UserID() string { return r.keys[0].UserID }

// PublicArmored implements [sign.Signer].
func (r *Remote) PublicArmored() []byte { return []byte(r.keys[0].PublicKey) }

// RPMTag implements [sign.Signer].
func (r *Remote) RPMTag() int { return r.tag }

// Sign implements [sign.Signer].
func (r *Remote) Sign(ctx context.Context, message io.Reader, at time.Time) ([]byte, error) {
	m, err := sign.Hash(ctx, message)
	if err != nil {
		return nil, err
	}
	return r.SignMidstate(ctx, m, at)
}

// SignMidstate implements [sign.MidstateSigner].
func (r *Remote) SignMidstate(ctx context.Context, m sign.Midstate, at time.Time) ([]byte, error) {
	return r.SignNamed(ctx, m, at, "")
}

// SignNamed is SignMidstate with a name for the signer's log, such as the file's.
func (r *Remote) SignNamed(ctx context.Context, m sign.Midstate, at time.Time, what string) ([]byte, error) {
	a, err := r.do(ctx, request{Op: "sign", Role: r.role, At: at, Midstate: m, What: what})
	if err != nil {
		return nil, err
	}
	return r.check(ctx, m, a.Signatures, at)
}

// SignAll is SignNamed for several messages, asked for together: see [sign.All]. Every
// message has a name, or "".
func (r *Remote) SignAll(ctx context.Context, messages []sign.Midstate, names []string, at time.Time) ([][]byte, error) {
	if len(names) != len(messages) {
		return nil, errs.Ef(errs.Internal, "%d names for %d messages to sign", len(names), len(messages))
	}
	var out [][]byte
	for len(out) < len(messages) {
		req := request{Op: "sign-all", Role: r.role, At: at}
		room := maxNames
		for i := len(out); i < len(messages) && len(req.All) < maxMessages; i++ {
			if room -= jsonLength(names[i]); room < 0 && len(req.All) > 0 {
				break
			}
			req.All = append(req.All, message{messages[i], names[i]})
		}
		a, err := r.do(ctx, req)
		if err != nil {
			return nil, err
		}
		if len(a.All) != len(req.All) {
			return nil, errs.Ef(errs.Internal, "the signer answered for %d messages of %d", len(a.All), len(req.All))
		}
		for i, sigs := range a.All {
			sig, err := r.check(ctx, req.All[i].Midstate, sigs, at)
			if err != nil {
				return nil, err
			}
			out = append(out, sig)
		}
	}
	return out, nil
}

// jsonLength is at least what a text takes in a line of the protocol.
func jsonLength(s string) int {
	n := 2
	for _, c := range []byte(s) {
		if n++; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			n += 5
		}
	}
	return n
}

// check joins the signatures of a message, when they are good.
func (r *Remote) check(ctx context.Context, m sign.Midstate, sigs []signature, at time.Time) ([]byte, error) {
	// The newest key's signature comes first: zypper looks at the last one alone, and a
	// device in the middle of a rotation knows the oldest key, if any.
	var out []byte
	for _, s := range slices.Backward(sigs) {
		p, err := r.public(ctx, s.Key, at)
		if err != nil {
			return nil, err
		}
		if _, err := sign.VerifyMidstate([]*sign.Public{p}, m, s.Bytes); err != nil {
			return nil, errs.Wrap(err, "what the signer gave")
		}
		out = append(out, s.Bytes...)
	}
	if len(out) == 0 {
		return nil, errs.E(errs.Internal, "the signer gave no signature")
	}
	return out, nil
}

func (r *Remote) public(ctx context.Context, fingerprint string, at time.Time) (*sign.Public, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.publics[fingerprint]; p != nil {
		return p, nil
	}
	if err := r.learn(ctx, at); err != nil {
		return nil, err
	}
	if p := r.publics[fingerprint]; p != nil {
		return p, nil
	}
	return nil, errs.E(errs.Denied, fmt.Sprintf("the signer signs with key %s, and does not say that it may", fingerprint))
}
