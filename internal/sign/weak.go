package sign

import (
	"crypto"
	"fmt"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"slipway/internal/errs"
)

// minRSA is the fewest bits of an RSA key that may sign.
const minRSA = 3072

// weak says why a key must not be trusted, "" when nothing speaks against it. self
// is the signature that binds it.
func weak(key *packet.PublicKey, self *packet.Signature) string {
	switch key.PubKeyAlgo {
	case packet.PubKeyAlgoRSA:
		if n, err := key.BitLength(); err != nil || n < minRSA {
			return fmt.Sprintf("is weak: RSA with %d bits, %d are the least", n, minRSA)
		}
	case packet.PubKeyAlgoEdDSA:
	case packet.PubKeyAlgoEd25519:
		return "is of algorithm 27 (Ed25519 of RFC 9580), which rpm 4 cannot read; 22 is the same curve in the form that it can"
	default:
		return fmt.Sprintf("is of algorithm %d, only 22 (EdDSA) and 1 (RSA) are known to every client", key.PubKeyAlgo)
	}
	if key.Version != 4 {
		return fmt.Sprintf("is of version %d, which rpm 4 cannot read", key.Version)
	}
	if self != nil && self.Hash != crypto.SHA256 && self.Hash != crypto.SHA384 && self.Hash != crypto.SHA512 {
		return fmt.Sprintf("is weak: it binds its own name with %v", self.Hash)
	}
	return ""
}

// Check refuses a key that must not sign at that time, with the reason and the
// cure: it is weak (RSA of less than 3072 bits, a self-signature with SHA-1), of an
// algorithm or version that rpm cannot read (27, version 6), expired, revoked by its
// owner, or not for signing. Errors are Denied.
func (p *Public) Check(at time.Time) error {
	key := p.entity.PrimaryKey
	self, _ := p.entity.PrimarySelfSignature()
	id := fmt.Sprintf("key %s (%s) ", p.KeyID(), p.UserID())
	end := p.Expires()
	why, cure := "", "slipway key rotate --role ROLE makes a new one"
	switch {
	case len(p.entity.Revocations) > 0:
		why = "is revoked by its owner"
	case self == nil:
		why = "has no valid signature by itself"
	case self.FlagsValid && !self.FlagSign:
		why, cure = "is not for signing", "the primary key itself must be able to sign: rpm does not reliably know subkeys"
	case !end.IsZero() && at.After(end):
		why = "expired at " + end.Format(time.RFC3339)
	case at.Before(p.Created()):
		why, cure = "was made at "+p.Created().Format(time.RFC3339)+", after "+at.UTC().Format(time.RFC3339), "check the clock"
	default:
		if why = weak(key, self); why == "" {
			return nil
		}
		cure = "slipway key create makes an ed25519 key that every client can read"
	}
	return errs.E(errs.Denied, id+why, errs.Hint(cure))
}

// Algorithm names what the key signs with: ed25519, rsa3072 and so on.
func (p *Public) Algorithm() string {
	n, err := p.entity.PrimaryKey.BitLength()
	switch algo := p.entity.PrimaryKey.PubKeyAlgo; {
	case algo == packet.PubKeyAlgoEdDSA || algo == packet.PubKeyAlgoEd25519:
		return Ed25519
	case algo == packet.PubKeyAlgoRSA && err == nil:
		return fmt.Sprintf("rsa%d", n)
	default:
		return fmt.Sprintf("algorithm %d", algo)
	}
}
