package sign

import (
	"crypto/ed25519"

	"github.com/ProtonMail/go-crypto/openpgp/eddsa"
)

// Ed25519 gives the bare public key, for formats that are not OpenPGP's; false
// when the key is of another algorithm.
func (p *Public) Ed25519() (ed25519.PublicKey, bool) {
	k, ok := p.entity.PrimaryKey.PublicKey.(*eddsa.PublicKey)
	if !ok || len(k.X) != ed25519.PublicKeySize {
		return nil, false
	}
	return ed25519.PublicKey(k.X), true
}
