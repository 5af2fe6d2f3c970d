package sign

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
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

var _ Signer = (*Key)(nil)

// Generate makes a new key: version 4, one user id, for signing and certifying,
// no subkeys. It is in memory only until [Key.Save].
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

// Save writes the key to path, which must not exist, as an armored OpenPGP
// private key without passphrase: mode 0600, in a folder that is made with mode
// 0700 if it is missing. After a crash path holds the whole key or does not exist
// (a file path.tmp* may be left). Errors: Conflict when path exists, Denied when
// the folder is open to others, Unavailable.
func (k *Key) Save(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return errs.E(errs.Unavailable, "save key", err)
	}
	st, err := os.Stat(dir)
	if err != nil {
		return errs.E(errs.Unavailable, "save key", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return errs.E(errs.Denied, fmt.Sprintf("save key: others may enter the folder %s (mode %04o)", dir, st.Mode().Perm()), errs.Hintf("chmod 700 %s", dir))
	}
	var b bytes.Buffer
	if err := k.entity.SerializePrivateWithoutSigning(&b, nil); err != nil {
		return errs.E(errs.Internal, "save key "+k.KeyID(), err)
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+".tmp") // mode 0600
	if err != nil {
		return errs.E(errs.Unavailable, "save key", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(encodeArmor(armorPrivate, b.Bytes()))
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return errs.E(errs.Unavailable, "save key", err)
	}
	// A link, not a rename: it does not replace a key that is there.
	if err := os.Link(f.Name(), path); os.IsExist(err) {
		return errs.E(errs.Conflict, "save key: "+path+" exists", errs.Hint("a key is never overwritten: choose another name, or move the old one away"))
	} else if err != nil {
		return errs.E(errs.Unavailable, "save key", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return errs.E(errs.Unavailable, "save key", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return errs.E(errs.Unavailable, "save key", err)
	}
	return nil
}

// maxKeyFile is far above any key that this package can use, in bytes.
const maxKeyFile = 1 << 20

// Load reads a key that [Key.Save] or "gpg --export-secret-keys --armor" wrote.
// Errors: NotFound; Denied for a file that others may read; Invalid for what is no
// private key that can sign, or is protected by a passphrase. No error shows
// anything of the key.
func Load(path string) (*Key, error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, errs.E(errs.NotFound, "no key file "+path, errs.Hint("slipway key create makes one"))
	} else if err != nil {
		return nil, errs.E(errs.Unavailable, "load key", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, errs.E(errs.Unavailable, "load key", err)
	}
	if !st.Mode().IsRegular() {
		return nil, errs.E(errs.Invalid, "key file "+path+" is no regular file")
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, errs.E(errs.Denied, fmt.Sprintf("others may read the key file %s (mode %04o)", path, st.Mode().Perm()), errs.Hintf("chmod 600 %s", path))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, errs.E(errs.Unavailable, "load key", err)
	}
	bad := func(why string) error {
		return errs.E(errs.Invalid, "key file "+path+" "+why, errs.Hint("expected one armored OpenPGP private key (ed25519 or rsa) without passphrase"))
	}
	if len(text) > maxKeyFile {
		return nil, bad("is too large")
	}
	// The library's errors are dropped on purpose: they may quote what they read.
	data, err := decodeArmor(text, armorPrivate)
	if err != nil {
		return nil, bad("holds no armored private key")
	}
	list, err := openpgp.ReadKeyRing(bytes.NewReader(data))
	if err != nil || len(list) != 1 {
		return nil, bad("holds no single OpenPGP key")
	}
	e := list[0]
	switch key := e.PrivateKey; {
	case key == nil || key.Dummy():
		return nil, bad("holds no private part")
	case key.Encrypted:
		return nil, bad("is protected by a passphrase")
	case key.Version != 4:
		return nil, bad(fmt.Sprintf("holds a key of version %d, only 4 can be used", key.Version))
	case key.PubKeyAlgo != packet.PubKeyAlgoEdDSA && key.PubKeyAlgo != packet.PubKeyAlgoRSA:
		return nil, bad(fmt.Sprintf("holds a key of algorithm %d, only 22 (EdDSA) and 1 (RSA) can be used", key.PubKeyAlgo))
	}
	if self, _ := e.PrimarySelfSignature(); self == nil || self.FlagsValid && !self.FlagSign {
		return nil, bad("holds a key that is not for signing")
	}
	k := &Key{e}
	// A damaged private part would otherwise show as bad signatures, once they are published.
	sig, err := k.Sign(context.Background(), strings.NewReader(path), e.PrimaryKey.CreationTime)
	if err == nil {
		_, err = Verify([]*Public{{e}}, strings.NewReader(path), sig)
	}
	if err != nil {
		return nil, bad("holds a key that cannot sign: it has expired or is damaged")
	}
	return k, nil
}

// Fingerprint implements [Signer].
func (k *Key) Fingerprint() string { return hex.EncodeToString(k.entity.PrimaryKey.Fingerprint) }

// KeyID implements [Signer].
func (k *Key) KeyID() string { return fmt.Sprintf("%016x", k.entity.PrimaryKey.KeyId) }

// UserID implements [Signer].
func (k *Key) UserID() string { return userID(k.entity) }

// RPMTag implements [Signer].
func (k *Key) RPMTag() int {
	if k.entity.PrimaryKey.PubKeyAlgo == packet.PubKeyAlgoRSA {
		return RPMTagRSA
	}
	return RPMTagEdDSA
}

// PublicArmored implements [Signer].
func (k *Key) PublicArmored() []byte { return publicArmored(k.entity) }

// String shows the fingerprint, never the key.
func (k *Key) String() string { return "key " + k.Fingerprint() }

// GoString is String: %#v must not show the key either.
func (k *Key) GoString() string { return k.String() }
