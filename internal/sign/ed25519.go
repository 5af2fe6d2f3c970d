package sign

import (
	"crypto/ed25519"

	"github.com/ProtonMail/go-crypto/openpgp/eddsa"

	"slipway/internal/errs"
)

// signEd25519 gives the bare signature, by the standard library: it takes a third of
// the time of the OpenPGP library's.
func signEd25519(key *eddsa.PrivateKey, message []byte) ([]byte, error) {
	if len(key.D) != ed25519.SeedSize || len(key.X) != ed25519.PublicKeySize {
		return nil, errs.E(errs.Invalid, "the key is no Ed25519 key")
	}
	private := make(ed25519.PrivateKey, 0, ed25519.PrivateKeySize)
	return ed25519.Sign(append(append(private, key.D...), key.X...), message), nil
}

// Ed25519 gives the bare public key, for formats that are not OpenPGP's; false
// when the key is of another algorithm.
func (p *Public) Ed25519() (ed25519.PublicKey, bool) {
	k, ok := p.entity.PrimaryKey.PublicKey.(*eddsa.PublicKey)
	if !ok || len(k.X) != ed25519.PublicKeySize {
		return nil, false
	}
	return ed25519.PublicKey(k.X), true
}
