package sign

import (
	"github.com/ProtonMail/go-crypto/openpgp/eddsa"

	"slipway/internal/errs"
)

// SignPlain gives the bare Ed25519 signature of a message, 64 bytes, for formats that
// are not OpenPGP's: signed notes. Invalid for a key of another algorithm. The caller
// sees to it that no message is one that OpenPGP would sign.
func (k *Key) SignPlain(message []byte) ([]byte, error) {
	key, ok := k.entity.PrivateKey.PrivateKey.(*eddsa.PrivateKey)
	if !ok {
		return nil, errs.E(errs.Invalid, "key "+k.Fingerprint()+" is not an Ed25519 key, and a note needs one", errs.Hint("slipway key rotate --role log --algorithm ed25519"))
	}
	return signEd25519(key, message)
}
