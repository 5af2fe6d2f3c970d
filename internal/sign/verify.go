package sign

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/eddsa"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"slipway/internal/errs"
)

// Public is somebody's public key.
type Public struct{ entity *openpgp.Entity }

// Fingerprint is 40 lower-case hexadecimal digits.
func (p *Public) Fingerprint() string { return hex.EncodeToString(p.entity.PrimaryKey.Fingerprint) }

// KeyID is the fingerprint's last 16 digits.
func (p *Public) KeyID() string { return fmt.Sprintf("%016x", p.entity.PrimaryKey.KeyId) }

// UserID is "Name <address>".
func (p *Public) UserID() string { return userID(p.entity) }

// Created is when the key was made.
func (p *Public) Created() time.Time { return p.entity.PrimaryKey.CreationTime.UTC() }

// Expires is when the key expires, the zero time if never.
func (p *Public) Expires() time.Time {
	self, _ := p.entity.PrimarySelfSignature()
	if self == nil {
		return time.Time{}
	}
	return expires(p.entity.PrimaryKey, self)
}

// RPMTag is the tag of an RPM's signature header that the key's signatures belong in.
func (p *Public) RPMTag() int {
	if p.entity.PrimaryKey.PubKeyAlgo == packet.PubKeyAlgoRSA {
		return RPMTagRSA
	}
	return RPMTagEdDSA
}

// Armored gives the key as text again.
func (p *Public) Armored() []byte { return publicArmored(p.entity) }

// ParsePublic reads the public keys of an armored text, which may hold several
// blocks; "rpm --import" and gpg read the same. A private key is refused: it does not
// belong there. Errors are Invalid.
func ParsePublic(armored []byte) ([]*Public, error) {
	var out []*Public
	for _, block := range blocks(armored) {
		data, err := decodeArmor(block, armorPublic)
		if err != nil {
			return nil, err
		}
		list, err := openpgp.ReadKeyRing(bytes.NewReader(data))
		if err != nil {
			return nil, errs.E(errs.Invalid, "no OpenPGP public key", err)
		}
		for _, e := range list {
			if e.PrivateKey != nil {
				return nil, errs.E(errs.Invalid, "a private key where a public one belongs", errs.Hint("slipway key export gives the public part"))
			}
			out = append(out, &Public{e})
		}
	}
	if len(out) == 0 {
		return nil, errs.E(errs.Invalid, "no OpenPGP public key")
	}
	return out, nil
}

// blocks cuts an armored text before each block but the first.
func blocks(text []byte) [][]byte {
	var out [][]byte
	begin := []byte("\n-----BEGIN PGP ")
	for {
		i := bytes.Index(text[min(1, len(text)):], begin)
		if i < 0 {
			return append(out, text)
		}
		out, text = append(out, text[:i+2]), text[i+2:]
	}
}

// Single is one signature of several that lie one after the other.
type Single struct {
	KeyID string    // of the key that claims to have made it
	At    time.Time // when, as it claims
	Bytes []byte    // the signature alone
}

// Split takes the signatures of a detached signature apart, without checking any.
// Those that do not say who made them have no KeyID. Errors are Denied.
func Split(sig []byte) ([]Single, error) {
	list, err := parseSignatures(sig)
	if err != nil {
		return nil, err
	}
	out := make([]Single, len(list))
	for i, s := range list {
		var b bytes.Buffer
		if err := s.Serialize(&b); err != nil {
			return nil, errs.E(errs.Denied, "damaged signature", err)
		}
		out[i] = Single{At: s.CreationTime.UTC(), Bytes: b.Bytes()}
		if s.IssuerKeyId != nil {
			out[i].KeyID = fmt.Sprintf("%016x", *s.IssuerKeyId)
		}
	}
	return out, nil
}

// Verify tells which of keys made sig, a binary detached signature ([Dearmor]
// first), over message. Everything else is Denied, with the reason: no signature,
// an unknown key id, other bytes than were signed, a hash weaker than SHA-256, a key
// that had expired or was not yet made when it signed, that is revoked, is weak
// ([Public.Check]), or is not for signing. A key that expired later is no reason: what it signed in time stays good.
// Of several signatures one good one is enough.
func Verify(keys []*Public, message io.Reader, sig []byte) (*Public, error) {
	sigs, err := parseSignatures(sig)
	if err != nil {
		return nil, err
	}
	var attempts []*attempt
	var hashes []io.Writer // one pass over the message serves every signature
	var reasons []string
	for _, s := range sigs {
		a, why := begin(keys, s)
		if why != "" {
			reasons = append(reasons, why)
			continue
		}
		attempts, hashes = append(attempts, a), append(hashes, a.hash)
	}
	if len(attempts) > 0 {
		if _, err := io.Copy(io.MultiWriter(hashes...), message); err != nil {
			return nil, errs.Wrap(err, "read the signed bytes")
		}
	}
	return conclude(keys, attempts, reasons)
}

// VerifyMidstate is [Verify] for a message of which only the midstate is at hand.
// Signatures with another hash than SHA-256 do not count.
func VerifyMidstate(keys []*Public, m Midstate, sig []byte) (*Public, error) {
	sigs, err := parseSignatures(sig)
	if err != nil {
		return nil, err
	}
	var attempts []*attempt
	var reasons []string
	for _, s := range sigs {
		a, why := begin(keys, s)
		if why == "" && s.Hash != crypto.SHA256 {
			why = fmt.Sprintf("hash %v, and the message was hashed with SHA-256", s.Hash)
		}
		if why != "" {
			reasons = append(reasons, why)
			continue
		}
		if a.hash, err = m.resume(); err != nil {
			return nil, err
		}
		attempts = append(attempts, a)
	}
	return conclude(keys, attempts, reasons)
}

// conclude gives the owner of the first attempt whose mathematics is right.
func conclude(keys []*Public, attempts []*attempt, reasons []string) (*Public, error) {
	for _, a := range attempts {
		if a.good() {
			return a.owner, nil
		}
		reasons = append(reasons, fmt.Sprintf("bad signature: these are not the bytes that key %s (%s) signed", a.owner.KeyID(), a.owner.UserID()))
	}
	known := make([]string, len(keys))
	for i, k := range keys {
		known[i] = k.KeyID() + " " + k.UserID()
	}
	return nil, errs.E(errs.Denied, strings.Join(reasons, "; "), errs.Hintf("trusted keys: %s", strings.Join(known, ", ")))
}

// maxSignatures is how many signatures may be side by side.
const maxSignatures = 16

func parseSignatures(b []byte) ([]*packet.Signature, error) {
	var out []*packet.Signature
	packets := packet.NewReader(bytes.NewReader(b))
	for {
		p, err := packets.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, errs.E(errs.Denied, "damaged signature", err)
		}
		s, ok := p.(*packet.Signature)
		if !ok || len(out) == maxSignatures {
			return nil, errs.E(errs.Denied, "no detached OpenPGP signature")
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		return nil, errs.E(errs.Denied, "no signature")
	}
	return out, nil
}

// attempt is a signature whose key is known and was valid when it signed.
type attempt struct {
	sig   *packet.Signature
	hash  hash.Hash
	key   *packet.PublicKey
	owner *Public
}

// good does the mathematics. For Ed25519 the standard library does, twice as fast as
// the OpenPGP library's: the signer's client checks every signature that it gets.
func (a *attempt) good() bool {
	pub, ok := a.key.PublicKey.(*eddsa.PublicKey)
	if !ok || a.sig.Version != 4 || a.sig.PubKeyAlgo != packet.PubKeyAlgoEdDSA || len(pub.X) != ed25519.PublicKeySize {
		return a.key.VerifySignature(a.hash, a.sig) == nil
	}
	a.hash.Write(a.sig.HashSuffix)
	digest := a.hash.Sum(nil)
	r, s := a.sig.EdDSASigR.Bytes(), a.sig.EdDSASigS.Bytes()
	if !bytes.Equal(digest[:2], a.sig.HashTag[:]) || len(r) > 32 || len(s) > 32 {
		return false
	}
	var sig [ed25519.SignatureSize]byte // the integers of the packet have no leading zeros
	copy(sig[32-len(r):32], r)
	copy(sig[64-len(s):], s)
	return ed25519.Verify(pub.X, digest, sig[:])
}

// begin finds the key of a signature and checks all but the mathematics; why
// says what is wrong.
func begin(keys []*Public, s *packet.Signature) (a *attempt, why string) {
	switch {
	case s.IssuerKeyId == nil:
		return nil, "the signature does not say which key made it"
	case s.SigType != packet.SigTypeBinary:
		return nil, fmt.Sprintf("signature of type %d, only binary ones (0) count", s.SigType)
	case s.Hash != crypto.SHA256 && s.Hash != crypto.SHA384 && s.Hash != crypto.SHA512:
		return nil, fmt.Sprintf("hash %v is too weak", s.Hash)
	case s.SigLifetimeSecs != nil && *s.SigLifetimeSecs != 0 && s.SigExpired(time.Now()):
		return nil, "the signature has expired"
	}
	for _, n := range s.Notations {
		if n.IsCritical {
			return nil, fmt.Sprintf("unknown critical notation %q", n.Name)
		}
	}
	for _, k := range keys {
		key, self, revoked := k.find(*s.IssuerKeyId)
		if key == nil {
			continue
		}
		id := fmt.Sprintf("key %016x (%s) ", key.KeyId, k.UserID())
		end := expires(key, self)
		if e := k.Expires(); !e.IsZero() && (end.IsZero() || e.Before(end)) {
			end = e
		}
		switch {
		case revoked:
			return nil, id + "is revoked"
		case self == nil || self.FlagsValid && !self.FlagSign:
			return nil, id + "is not for signing"
		case weak(key, self) != "":
			return nil, id + weak(key, self)
		case s.CreationTime.Before(key.CreationTime):
			return nil, id + "was made after the signature: " + key.CreationTime.UTC().Format(time.RFC3339)
		case !end.IsZero() && s.CreationTime.After(end):
			return nil, id + "had expired when it signed: " + end.Format(time.RFC3339)
		}
		h, err := s.PrepareVerify()
		if err != nil {
			return nil, err.Error()
		}
		return &attempt{s, h, key, k}, ""
	}
	return nil, fmt.Sprintf("made by the unknown key %016x", *s.IssuerKeyId)
}

// find gives the primary key or subkey with that id, the signature that says
// what it is for, and whether it is revoked.
func (p *Public) find(id uint64) (key *packet.PublicKey, self *packet.Signature, revoked bool) {
	e := p.entity
	revoked = len(e.Revocations) > 0
	if e.PrimaryKey.KeyId == id {
		self, _ = e.PrimarySelfSignature()
		return e.PrimaryKey, self, revoked
	}
	for _, s := range e.Subkeys {
		if s.PublicKey.KeyId == id {
			return s.PublicKey, s.Sig, revoked || len(s.Revocations) > 0
		}
	}
	return nil, nil, false
}

// expires gives when a key expires by the signature that binds it, else the zero time.
func expires(key *packet.PublicKey, self *packet.Signature) time.Time {
	if self == nil || self.KeyLifetimeSecs == nil || *self.KeyLifetimeSecs == 0 {
		return time.Time{}
	}
	return key.CreationTime.Add(time.Duration(*self.KeyLifetimeSecs) * time.Second).UTC()
}

// userID gives the first user id by name, one that is marked primary before
// others: the library's own choice between equals is random.
func userID(e *openpgp.Entity) string {
	best := ""
	for _, name := range slices.Sorted(maps.Keys(e.Identities)) {
		self := e.Identities[name].SelfSignature
		if self != nil && self.IsPrimaryId != nil && *self.IsPrimaryId {
			return name
		}
		if best == "" {
			best = name
		}
	}
	return best
}

// publicArmored serializes with the user ids in order: the library's own order is random.
func publicArmored(e *openpgp.Entity) []byte {
	var b bytes.Buffer
	one := *e
	one.Identities, one.Subkeys = nil, nil
	err := one.Serialize(&b) // key, revocations, direct signatures
	for _, name := range slices.Sorted(maps.Keys(e.Identities)) {
		id := e.Identities[name]
		err = errors.Join(err, id.UserId.Serialize(&b))
		for _, s := range id.Signatures {
			err = errors.Join(err, s.Serialize(&b))
		}
	}
	for _, sub := range e.Subkeys {
		err = errors.Join(err, sub.PublicKey.Serialize(&b))
		for _, s := range append(slices.Clone(sub.Revocations), sub.Sig) {
			err = errors.Join(err, s.Serialize(&b))
		}
	}
	if err != nil {
		panic(fmt.Sprintf("sign: serialize a public key that was read: %v", err))
	}
	return encodeArmor(armorPublic, b.Bytes())
}
