package signer

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strconv"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/keyring"
)

// plainSigner is a private key that signs what is not OpenPGP's; [sign.Key] is one.
type plainSigner interface {
	SignPlain(message []byte) ([]byte, error)
}

// checkCheckpoint refuses what is no text of a checkpoint of the distribution's log:
// origin, size, root, each on a line, and nothing else. So the log key signs nothing
// that could mean something elsewhere.
func checkCheckpoint(distribution string, text []byte) error {
	lines := bytes.Split(text, []byte("\n"))
	bad := len(lines) != 4 || len(lines[3]) != 0 || string(lines[0]) != distribution
	if !bad {
		size, err := strconv.ParseInt(string(lines[1]), 10, 64)
		root, rerr := base64.StdEncoding.DecodeString(string(lines[2]))
		bad = err != nil || rerr != nil || size < 0 || strconv.FormatInt(size, 10) != string(lines[1]) || len(root) != 32
	}
	if bad {
		return errs.Ef(errs.Denied, "the log key signs the checkpoints of %s and nothing else", distribution)
	}
	return nil
}

// checkpoint signs a checkpoint's text, with the log key.
func (l *Local) checkpoint(ctx context.Context, r request, who caller) ([]signature, error) {
	if err := checkCheckpoint(l.Distribution, r.Text); err != nil {
		return nil, err
	}
	if r.Role != keyring.Log {
		return nil, errs.Ef(errs.Denied, "a key of the role %q signs no checkpoint", r.Role)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	keys, err := l.keys(keyring.Log, r.At)
	if err != nil {
		return nil, err
	}
	h, err := l.holder(ctx, keys[0])
	if err != nil {
		return nil, err
	}
	p, ok := h.(plainSigner)
	if !ok {
		return nil, errs.E(errs.Invalid, fmt.Sprintf("the log key %s is held by a gpg-agent, which signs no notes", keys[0].Name()), errs.Hint("slipway key rotate --role log makes a key file"))
	}
	e := entry{l.Clock().UTC().Truncate(time.Second), r.At.UTC().Truncate(time.Second), r.Role, keys[0].Fingerprint, string(distro.DigestOf(r.Text)), r.What, who.uid, who.pid}
	if err := l.note(e.line()); err != nil {
		return nil, err
	}
	sig, err := p.SignPlain(r.Text)
	if err != nil {
		return nil, err
	}
	return []signature{{keys[0].Fingerprint, sig}}, nil
}

// SignCheckpoint signs the text of a checkpoint of the transparency log with the log
// key, as of the time for which the Remote was made, and gives the bare Ed25519
// signature. Denied for any other text.
func (r *Remote) SignCheckpoint(ctx context.Context, text []byte) ([]byte, error) {
	a, err := r.do(ctx, request{Op: "checkpoint", Role: r.role, At: r.at, Text: text, What: "log/checkpoint"})
	if err != nil {
		return nil, err
	}
	key, err := r.Ed25519()
	if err != nil {
		return nil, err
	}
	if len(a.Signatures) != 1 || a.Signatures[0].Key != r.keys[0].Fingerprint || !ed25519.Verify(key, text, a.Signatures[0].Bytes) {
		return nil, errs.E(errs.Denied, "what the signer gave is no signature of the checkpoint by the log key "+r.keys[0].Fingerprint)
	}
	return a.Signatures[0].Bytes, nil
}

// Ed25519 gives the bare public key; Invalid when it is of another algorithm.
func (r *Remote) Ed25519() (ed25519.PublicKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key, ok := r.publics[r.keys[0].Fingerprint].Ed25519()
	if !ok {
		return nil, errs.E(errs.Invalid, fmt.Sprintf("the %s key %s is no Ed25519 key", r.role, r.keys[0].Name()), errs.Hintf("slipway key rotate --role %s --algorithm ed25519", r.role))
	}
	return key, nil
}
