package sign

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/ProtonMail/go-crypto/openpgp/s2k"

	"slipway/internal/errs"
)

// Protection says how a passphrase becomes the key that a private key is
// encrypted with.
type Protection int

const (
	// Argon2 costs an attacker 64 MiB of memory for each guess (RFC 9106, second
	// recommended choice); gpg 2.2 and 2.4 cannot read such a key.
	Argon2 Protection = iota
	// Iterated hashes 65,011,712 bytes for each guess, OpenPGP's most; every gpg reads it.
	Iterated
)

func (p Protection) config() *packet.Config {
	if p == Iterated {
		return &packet.Config{DefaultCipher: packet.CipherAES256, S2KConfig: &s2k.Config{S2KMode: s2k.IteratedSaltedS2K, S2KCount: 65011712}}
	}
	return &packet.Config{DefaultCipher: packet.CipherAES256, AEADConfig: &packet.AEADConfig{DefaultMode: packet.AEADModeOCB},
		S2KConfig: &s2k.Config{S2KMode: s2k.Argon2S2K, Argon2Config: &s2k.Argon2Config{NumberOfPasses: 3, DegreeOfParallelism: 4, Memory: 64 << 10}}}
}

// Save writes the key to path, which must not exist, as an armored OpenPGP
// private key without passphrase: mode 0600, in a folder that is made with mode
// 0700 if it is missing. After a crash path holds the whole key or does not exist
// (a file path.tmp* may be left). Errors: Conflict when path exists, Denied when
// the folder is open to others, Unavailable.
func (k *Key) Save(path string) error {
	var b bytes.Buffer
	if err := k.entity.SerializePrivateWithoutSigning(&b, nil); err != nil {
		return errs.E(errs.Internal, "save key "+k.KeyID(), err)
	}
	return writeKey(path, b.Bytes())
}

// Protect is [Key.Save] with the private part encrypted by a passphrase, which must
// not be empty. The key in memory stays usable.
func (k *Key) Protect(path string, passphrase []byte, p Protection) error {
	if len(passphrase) == 0 {
		return errs.E(errs.Invalid, "an empty passphrase protects nothing")
	}
	// Through bytes, because the library encrypts in place.
	var b bytes.Buffer
	if err := k.entity.SerializePrivateWithoutSigning(&b, nil); err != nil {
		return errs.E(errs.Internal, "save key "+k.KeyID(), err)
	}
	list, err := openpgp.ReadKeyRing(&b)
	if err == nil && len(list) == 1 {
		err = list[0].EncryptPrivateKeys(passphrase, p.config())
	}
	b.Reset()
	if err == nil {
		err = list[0].SerializePrivateWithoutSigning(&b, nil)
	}
	if err != nil {
		return errs.E(errs.Internal, "encrypt key "+k.KeyID(), err)
	}
	return writeKey(path, b.Bytes())
}

// writeKey writes a private key file: see [Key.Save].
func writeKey(path string, key []byte) error {
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
	f, err := os.CreateTemp(dir, filepath.Base(path)+".tmp") // mode 0600
	if err != nil {
		return errs.E(errs.Unavailable, "save key", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(encodeArmor(armorPrivate, key))
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
		return linkless(f.Name(), path, err)
	}
	return syncDir(dir)
}

// linkless puts a file in place where there are no hard links: a USB stick with FAT.
func linkless(from, to string, why error) error {
	if _, err := os.Lstat(to); !os.IsNotExist(err) {
		return errs.E(errs.Unavailable, "save key", why)
	}
	if err := os.Rename(from, to); err != nil {
		return errs.E(errs.Unavailable, "save key", err)
	}
	return syncDir(filepath.Dir(to))
}

func syncDir(dir string) error {
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
// private key that can sign, is weak ([Public.Check]), or is protected by a
// passphrase. No error shows anything of the key.
func Load(path string) (*Key, error) { return Unlock(path, nil) }

// Unlock is [Load] for a key that may be protected: passphrase is asked once, and
// only if it is. A wrong one is Denied; an error of passphrase comes back.
func Unlock(path string, passphrase func() ([]byte, error)) (*Key, error) {
	text, err := readKey(path)
	if err != nil {
		return nil, err
	}
	return parseKey("key file "+path, text, passphrase)
}

// Protected tells whether a key file is encrypted. Errors are those of [Load].
func Protected(path string) (bool, error) {
	text, err := readKey(path)
	if err != nil {
		return false, err
	}
	e, err := parseEntity("key file "+path, text)
	return err == nil && e.PrivateKey.Encrypted, err
}

func readKey(path string) ([]byte, error) {
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
	if len(text) > maxKeyFile {
		return nil, badKey("key file "+path, "is too large")
	}
	return text, nil
}

func badKey(what, why string) error {
	return errs.E(errs.Invalid, what+" "+why, errs.Hint("expected one armored OpenPGP private key: ed25519 (algorithm 22), or rsa of 3072 bits or more"))
}

func parseEntity(what string, text []byte) (*openpgp.Entity, error) {
	// The library's errors are dropped on purpose: they may quote what they read.
	data, err := decodeArmor(text, armorPrivate)
	if err != nil {
		return nil, badKey(what, "holds no armored private key")
	}
	list, err := openpgp.ReadKeyRing(bytes.NewReader(data))
	if err != nil || len(list) != 1 {
		return nil, badKey(what, "holds no single OpenPGP key")
	}
	e := list[0]
	if e.PrivateKey == nil || e.PrivateKey.Dummy() {
		return nil, badKey(what, "holds no private part")
	}
	self, _ := e.PrimarySelfSignature()
	if why := weak(e.PrimaryKey, self); why != "" {
		return nil, badKey(what, "holds a key that "+why)
	}
	if self == nil || self.FlagsValid && !self.FlagSign {
		return nil, badKey(what, "holds a key that is not for signing")
	}
	return e, nil
}

func parseKey(what string, text []byte, passphrase func() ([]byte, error)) (*Key, error) {
	e, err := parseEntity(what, text)
	if err != nil {
		return nil, err
	}
	if e.PrivateKey.Encrypted {
		if passphrase == nil {
			return nil, badKey(what, "is protected by a passphrase, and none was given")
		}
		secret, err := passphrase()
		if err != nil {
			return nil, err
		}
		if e.PrivateKey.Decrypt(secret) != nil {
			return nil, errs.E(errs.Denied, what+": wrong passphrase")
		}
	}
	e.Subkeys = nil // signing is by the primary key; a subkey's private part may be locked
	k := &Key{e}
	// A damaged private part would otherwise show as bad signatures, once they are published.
	sig, err := k.Sign(context.Background(), strings.NewReader(what), e.PrimaryKey.CreationTime)
	if err == nil {
		_, err = Verify([]*Public{{e}}, strings.NewReader(what), sig)
	}
	if err != nil {
		return nil, badKey(what, "holds a key that cannot sign: it has expired or is damaged")
	}
	return k, nil
}
