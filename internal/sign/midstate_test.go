package sign

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// TestSignaturesAreTheLibrarys: the packets written by hand are, to the byte, those
// that the OpenPGP library writes.
func TestSignaturesAreTheLibrarys(t *testing.T) {
	t.Parallel()
	for algorithm, key := range keys {
		k := key()
		id := k.entity.PrimaryKey.KeyId
		s := &packet.Signature{Version: 4, SigType: packet.SigTypeBinary, PubKeyAlgo: k.entity.PrimaryKey.PubKeyAlgo, Hash: crypto.SHA256,
			CreationTime: at, IssuerKeyId: &id, IssuerFingerprint: k.entity.PrimaryKey.Fingerprint}
		h := crypto.SHA256.New()
		h.Write([]byte("hello"))
		if err := s.Sign(h, k.entity.PrivateKey, config(at)); err != nil {
			t.Fatal(err)
		}
		var want bytes.Buffer
		if err := s.Serialize(&want); err != nil {
			t.Fatal(err)
		}
		if got := mustSign(t, k, "hello", at); !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s\n got %x\nwant %x", algorithm, got, want.Bytes())
		}
	}
}

func TestMidstate(t *testing.T) {
	t.Parallel()
	k := keys[Ed25519]()
	for _, n := range []int{0, 1, 55, 63, 64, 65, 1000} {
		message := strings.Repeat("x", n)
		m, err := Hash(t.Context(), strings.NewReader(message))
		if err != nil {
			t.Fatal(err)
		}
		if d, err := m.Digest(); err != nil || d != distro.DigestOf([]byte(message)) {
			t.Errorf("%d bytes: %v %v", n, d, err)
		}
		sig, err := k.SignMidstate(t.Context(), m, at)
		if err != nil || !bytes.Equal(sig, mustSign(t, k, message, at)) {
			t.Errorf("%d bytes: %v", n, err)
		}
		if _, err := VerifyMidstate([]*Public{public(t, k)}, m, sig); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
		other, err := Hash(t.Context(), strings.NewReader(message+"y"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := VerifyMidstate([]*Public{public(t, k)}, other, sig); !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), "bad signature") {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for _, bad := range []Midstate{nil, make([]byte, MidstateSize), make([]byte, 32), make([]byte, MidstateSize+1)} {
		if _, err := k.SignMidstate(t.Context(), bad, at); !errs.Is(err, errs.Invalid) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
		if _, err := bad.Digest(); !errs.Is(err, errs.Invalid) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

// TestMidstateForm holds what docs/format/signer.md says of the bytes: a client that
// is not written in Go must be able to make them.
func TestMidstateForm(t *testing.T) {
	t.Parallel()
	m, err := Hash(t.Context(), strings.NewReader("abc"))
	if err != nil {
		t.Fatal(err)
	}
	// Nothing is compressed yet: the chaining words are SHA-256's initial ones (FIPS 180-4).
	want := "73686103" + "6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19" +
		"616263" + strings.Repeat("00", 61) + "0000000000000003"
	if got := hex.EncodeToString(m); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

// TestShortIntegers: one signature of 128 has an R or S that begins with a zero byte, which the packet leaves out.
func TestShortIntegers(t *testing.T) {
	t.Parallel()
	k := keys[Ed25519]()
	trusted := []*Public{public(t, k)}
	for i := range 1000 {
		message := strings.Repeat("x", i)
		if _, err := Verify(trusted, strings.NewReader(message), mustSign(t, k, message, at)); err != nil {
			t.Errorf("%d bytes: %v", i, err)
		}
	}
}

func TestIntegers(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"": "0000", "00": "0000", "01": "000101", "0001ff": "000901ff", "80": "000880"} {
		b, err := hex.DecodeString(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(appendInteger(nil, b)); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
