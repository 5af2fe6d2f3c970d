// Package sign makes and checks OpenPGP signatures, and keeps keys in files.
// It is the only package that knows the OpenPGP library.
//
// A [Signer] signs: a [Key] in a file, an [AgentKey] that a gpg-agent holds, or the
// signer process (package signer). What it gives is a detached version 4 signature, binary, over
// SHA-256, with the issuer's key id and fingerprint: what rpm 4.14 and newer, gpg and
// dnf accept both in an RPM (tag [Signer.RPMTag], see internal/rpm's Resign) and,
// in [Armor], as repomd.xml.asc. Equal message, key and time give equal bytes.
//
//	key, err := sign.Load(path)
//	sig, err := key.Sign(ctx, bytes.NewReader(repomd), at)
//	err = os.WriteFile("repomd.xml.asc", sign.Armor(sig), 0o644)
//
// The other side: [ParsePublic] reads armored public keys, [Verify] tells who
// signed, or why nobody known did.
package sign

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"slipway/internal/errs"
)

// Tags of an RPM's signature header: where a signature of each algorithm goes.
// EdDSA shares the tag of DSA, as in rpm itself.
const (
	RPMTagEdDSA = 267
	RPMTagRSA   = 268
)

// Signer signs with one key.
type Signer interface {
	// Fingerprint is the key's name: 40 lower-case hexadecimal digits.
	Fingerprint() string
	// KeyID is the fingerprint's last 16 digits.
	KeyID() string
	// UserID is "Name <address>".
	UserID() string
	// PublicArmored is the public key as "rpm --import" and gpg read it; the same bytes every time.
	PublicArmored() []byte
	// Sign gives a binary detached signature made at that time (whole seconds
	// count). The same message and time give the same bytes. An error of message
	// comes back as it is; a cancelled ctx is Interrupted.
	Sign(ctx context.Context, message io.Reader, at time.Time) ([]byte, error)
	// RPMTag is the tag of an RPM's signature header that the signatures belong in.
	RPMTag() int
}

// A MidstateSigner signs what was hashed elsewhere: the signer process needs a
// [Midstate] of what it signs, never the bytes.
type MidstateSigner interface {
	Signer
	// SignMidstate gives the signature that Sign gives over the message with that
	// midstate. An Invalid midstate is refused.
	SignMidstate(ctx context.Context, m Midstate, at time.Time) ([]byte, error)
}

// All signs several messages alike: what [Signer].Sign gives for each. names are what
// the messages are called, for a signer that keeps a log; messages without a name have
// none there. A signer with SignAll, as the signer process, is asked once for many.
func All(ctx context.Context, s interface {
	Sign(ctx context.Context, message io.Reader, at time.Time) ([]byte, error)
}, messages [][]byte, names []string, at time.Time) ([][]byte, error) {
	if many, ok := s.(interface {
		SignAll(ctx context.Context, messages []Midstate, names []string, at time.Time) ([][]byte, error)
	}); ok {
		states := make([]Midstate, len(messages))
		for i, m := range messages {
			var err error
			if states[i], err = Hash(ctx, bytes.NewReader(m)); err != nil {
				return nil, err
			}
		}
		return many.SignAll(ctx, states, names, at)
	}
	out := make([][]byte, len(messages))
	for i, m := range messages {
		sig, err := s.Sign(ctx, bytes.NewReader(m), at)
		if err != nil {
			return nil, err
		}
		out[i] = sig
	}
	return out, nil
}

// config makes the library deterministic: without it every signature gets a
// random notation.
func config(at time.Time) *packet.Config {
	no := false
	return &packet.Config{DefaultHash: crypto.SHA256, Time: func() time.Time { return at }, NonDeterministicSignaturesViaNotation: &no}
}

// reader stops reading when its context is done.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}

const (
	armorSignature = "PGP SIGNATURE"
	armorPublic    = "PGP PUBLIC KEY BLOCK"
	armorPrivate   = "PGP PRIVATE KEY BLOCK"
)

// Armor gives a binary signature as text, as in repomd.xml.asc.
func Armor(sig []byte) []byte { return encodeArmor(armorSignature, sig) }

// Dearmor gives the binary signature of a text that [Armor], gpg or another
// OpenPGP program made. Errors are Invalid.
func Dearmor(text []byte) ([]byte, error) { return decodeArmor(text, armorSignature) }

func encodeArmor(kind string, data []byte) []byte {
	var b bytes.Buffer
	w, err := armor.Encode(&b, kind, nil)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(fmt.Sprintf("sign: armor into memory: %v", err)) // a buffer takes everything
	}
	b.WriteByte('\n')
	return b.Bytes()
}

func decodeArmor(text []byte, kind string) ([]byte, error) {
	block, err := armor.Decode(bytes.NewReader(text))
	if err != nil {
		return nil, errs.E(errs.Invalid, fmt.Sprintf("no armored %s", kind), err)
	}
	if block.Type != kind {
		return nil, errs.Ef(errs.Invalid, "an armored %s where a %s belongs", block.Type, kind)
	}
	data, err := io.ReadAll(block.Body)
	if err != nil {
		return nil, errs.E(errs.Invalid, fmt.Sprintf("damaged armored %s", kind), err)
	}
	return data, nil
}
