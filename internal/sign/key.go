package sign

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/eddsa"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"slipway/internal/errs"
)

// Algorithms of [Options].
const (
	Ed25519 = "ed25519" // EdDSA with Ed25519, OpenPGP's algorithm 22: the default
	RSA3072 = "rsa3072"
)

// Options say what key [Generate] makes.
type Options struct {
	Name, Email string        // of the user id "Name <Email>"; at least one
	Algorithm   string        // Ed25519 ("" too) or RSA3072
	Created     time.Time     // of the key; the zero time is now
	Lifetime    time.Duration // till it expires; 0 is never
}

// Key is a private key for signing, kept in a file. It implements [Signer] and
// may be used by several goroutines at once. Printing a Key shows its
// fingerprint only.
type Key struct{ entity *openpgp.Entity }

var _ MidstateSigner = (*Key)(nil)

// Generate makes a new key: version 4, one user id, for signing and certifying,
// no subkeys. It is in memory only until [Key.Save] or [Key.Protect].
func Generate(o Options) (*Key, error) {
	if o.Created.IsZero() {
		o.Created = time.Now()
	}
	o.Created = o.Created.UTC().Truncate(time.Second)
	c := config(o.Created)
	switch o.Algorithm {
	case Ed25519, "":
		c.Algorithm = packet.PubKeyAlgoEdDSA // rpm 4.18 refuses algorithm 27, the newer number of the same
	case RSA3072:
		c.Algorithm, c.RSABits = packet.PubKeyAlgoRSA, 3072
	default:
		return nil, errs.E(errs.Invalid, fmt.Sprintf("no key algorithm %q", o.Algorithm), errs.Hintf("use %s or %s", Ed25519, RSA3072))
	}
	secs := int64(o.Lifetime / time.Second)
	if secs < 0 || secs > 1<<32-1 {
		return nil, errs.Ef(errs.Invalid, "a key cannot live %s", o.Lifetime)
	}
	c.KeyLifetimeSecs = uint32(secs)
	if o.Name == "" && o.Email == "" || strings.ContainsAny(o.Name+o.Email, "()<>\x00\n") {
		return nil, errs.E(errs.Invalid, fmt.Sprintf("%q and %q make no user id of a key", o.Name, o.Email),
			errs.Hint("name and address must not hold any of ()<>, and one of them must be there"))
	}
	e, err := newEntity(o, c)
	if err != nil {
		return nil, errs.E(errs.Internal, "generate key", err)
	}
	return &Key{e}, nil
}

func newEntity(o Options, c *packet.Config) (*openpgp.Entity, error) {
	if c.Algorithm == packet.PubKeyAlgoRSA {
		// By hand, because NewEntity would make a second RSA key.
		raw, err := rsa.GenerateKey(rand.Reader, c.RSABits)
		if err != nil {
			return nil, err
		}
		private := packet.NewRSAPrivateKey(o.Created, raw)
		e := &openpgp.Entity{PrimaryKey: &private.PublicKey, PrivateKey: private, Identities: map[string]*openpgp.Identity{}}
		return e, e.AddUserId(o.Name, "", o.Email, c)
	}
	e, err := openpgp.NewEntity(o.Name, "", o.Email, c)
	if err != nil {
		return nil, err
	}
	e.Subkeys = nil // the library adds one for encryption; nothing is ever encrypted to us
	return e, nil
}

// Sign implements [Signer].
func (k *Key) Sign(ctx context.Context, message io.Reader, at time.Time) ([]byte, error) {
	m, err := Hash(ctx, message)
	if err != nil {
		return nil, err
	}
	return k.SignMidstate(ctx, m, at)
}

// SignMidstate implements [MidstateSigner].
func (k *Key) SignMidstate(ctx context.Context, m Midstate, at time.Time) ([]byte, error) {
	return signMidstate(ctx, k.entity.PrimaryKey, k.signDigest, m, at)
}

func (k *Key) signDigest(_ context.Context, digest []byte) ([][]byte, error) {
	switch key := k.entity.PrivateKey.PrivateKey.(type) {
	case *eddsa.PrivateKey:
		sig, err := signEd25519(key, digest)
		if err != nil {
			return nil, err
		}
		return [][]byte{sig[:32], sig[32:]}, nil
	case *rsa.PrivateKey:
		sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest)
		return [][]byte{sig}, err
	default:
		return nil, errs.Ef(errs.Internal, "a key of type %T", key)
	}
}

// Public gives the public part.
func (k *Key) Public() *Public {
	list, err := ParsePublic(k.PublicArmored())
	if err != nil {
		panic(fmt.Sprintf("sign: the public part of a key that was read: %v", err))
	}
	return list[0]
}

// Fingerprint implements [Signer].
func (k *Key) Fingerprint() string { return hex.EncodeToString(k.entity.PrimaryKey.Fingerprint) }

// KeyID implements [Signer].
func (k *Key) KeyID() string { return fmt.Sprintf("%016x", k.entity.PrimaryKey.KeyId) }

// UserID implements [Signer].
func (k *Key) UserID() string { return userID(k.entity) }

// RPMTag implements [Signer].
func (k *Key) RPMTag() int { return (&Public{k.entity}).RPMTag() }

// PublicArmored implements [Signer].
func (k *Key) PublicArmored() []byte { return publicArmored(k.entity) }

// String shows the fingerprint, never the key.
func (k *Key) String() string { return "key " + k.Fingerprint() }

// GoString is String: %#v must not show the key either.
func (k *Key) GoString() string { return k.String() }
