package sign

import (
	"bytes"
	"strings"
	"testing"

	"slipway/internal/errs"
)

// FuzzParsePublic: no input panics, every error is Invalid, and a key that is
// read can be written and read again.
func FuzzParsePublic(f *testing.F) {
	for _, key := range keys {
		f.Add(key().PublicArmored())
	}
	f.Add([]byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n=AAAA\n-----END PGP PUBLIC KEY BLOCK-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := ParsePublic(text)
		if err != nil {
			if !errs.Is(err, errs.Invalid) {
				t.Fatalf("%v is no Invalid", err)
			}
			return
		}
		for _, p := range list {
			again, err := ParsePublic(p.Armored())
			if err != nil || again[0].Fingerprint() != p.Fingerprint() {
				t.Fatalf("%s and again: %v", p.Fingerprint(), err)
			}
			p.Expires()
		}
	})
}

// FuzzDearmor: no input panics; a text and the signature in it survive a round.
// Whatever comes out is no signature of ours over another message.
func FuzzDearmor(f *testing.F) {
	for _, key := range keys {
		f.Add(Armor(mustSign(f, key(), "hello", at)))
	}
	f.Add([]byte("-----BEGIN PGP SIGNATURE-----\nVersion: x\n\niQ==\n-----END PGP SIGNATURE-----\n"))
	trusted := []*Public{public(f, keys[Ed25519]()), public(f, keys[RSA3072]())}
	f.Fuzz(func(t *testing.T, text []byte) {
		sig, err := Dearmor(text)
		if err != nil {
			if !errs.Is(err, errs.Invalid) {
				t.Fatalf("%v is no Invalid", err)
			}
			return
		}
		if again, err := Dearmor(Armor(sig)); err != nil || !bytes.Equal(again, sig) {
			t.Fatalf("armor and back: %v", err)
		}
		if _, err := Verify(trusted, strings.NewReader("another message"), sig); !errs.Is(err, errs.Denied) {
			t.Fatalf("not denied: %v", err)
		}
	})
}
