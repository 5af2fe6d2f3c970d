package sign

import (
	"bytes"
	"crypto"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"slipway/internal/errs"
)

func secretFolder(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestProtect(t *testing.T) {
	t.Parallel()
	k, dir := keys[Ed25519](), secretFolder(t)
	for name, p := range map[string]Protection{"argon2": Argon2, "iterated": Iterated} {
		path := filepath.Join(dir, name)
		if err := k.Protect(path, []byte("correct horse"), p); err != nil {
			t.Fatal(err)
		}
		if p, err := Protected(path); err != nil || !p {
			t.Errorf("%s: %v %v", name, p, err)
		}
		asked := 0
		l, err := Unlock(path, func() ([]byte, error) { asked++; return []byte("correct horse"), nil })
		if err != nil || asked != 1 || !bytes.Equal(mustSign(t, l, "x", at), mustSign(t, k, "x", at)) {
			t.Errorf("%s: asked %d times: %v", name, asked, err)
		}
		_, err = Unlock(path, func() ([]byte, error) { return []byte("wrong horse"), nil })
		if !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), "wrong passphrase") || strings.Contains(err.Error(), "horse") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Load(path); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "protected by a passphrase") {
			t.Errorf("%s: %v", name, err)
		}
		want := errors.New("no terminal")
		if _, err := Unlock(path, func() ([]byte, error) { return nil, want }); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
		mustSign(t, k, "still usable", at)
	}
	if err := k.Protect(filepath.Join(dir, "empty"), nil, Argon2); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
	// What Iterated is for: gpg reads it, and signs with it.
	home := gpgHome(t)
	if out, err := gpg(t, home, "--pinentry-mode", "loopback", "--passphrase", "correct horse", "--import", filepath.Join(dir, "iterated")); err != nil {
		t.Fatal(out)
	}
	if out, err := gpg(t, home, "--pinentry-mode", "loopback", "--passphrase", "correct horse", "--output", filepath.Join(home, "sig"), "--detach-sign", filepath.Join(dir, "iterated")); err != nil {
		t.Error(out)
	}
}

func TestUnprotectedIsNotAsked(t *testing.T) {
	t.Parallel()
	path := filepath.Join(secretFolder(t), "k")
	if err := keys[Ed25519]().Save(path); err != nil {
		t.Fatal(err)
	}
	if _, err := Unlock(path, func() ([]byte, error) { t.Error("asked"); return nil, nil }); err != nil {
		t.Error(err)
	}
	if p, err := Protected(path); p || err != nil {
		t.Error(p, err)
	}
}

// sha1Self asks odd for a self-signature with SHA-1; the library has no option for it.
const sha1Self = packet.CompressionZLIB

// odd makes a key that Generate would not make, and writes it to a file.
func odd(t testing.TB, change func(*packet.Config)) (*openpgp.Entity, string) {
	t.Helper()
	c := config(at.Add(-time.Hour))
	change(c)
	e, err := openpgp.NewEntity("Odd", "", "odd@example.org", c)
	if err != nil {
		t.Fatal(err)
	}
	e.Subkeys = nil
	if c.DefaultCompressionAlgo == sha1Self {
		for name, id := range e.Identities {
			id.SelfSignature.Hash = crypto.SHA1
			if err := id.SelfSignature.SignUserId(name, e.PrimaryKey, e.PrivateKey, c); err != nil {
				t.Fatal(err)
			}
			id.Signatures = []*packet.Signature{id.SelfSignature}
		}
	}
	var b bytes.Buffer
	if err := e.SerializePrivateWithoutSigning(&b, nil); err != nil {
		t.Fatal(err)
	}
	return e, writeFile(t, filepath.Join(t.TempDir(), "odd"), encodeArmor(armorPrivate, b.Bytes()))
}

func TestWeakKeysAreRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*packet.Config)
		want   string
	}{
		"rsa2048": {func(c *packet.Config) { c.Algorithm, c.RSABits = packet.PubKeyAlgoRSA, 2048 }, "is weak: RSA with 2048 bits, 3072 are the least"},
		"27":      {func(c *packet.Config) { c.Algorithm = packet.PubKeyAlgoEd25519 }, "is of algorithm 27"},
		"sha1": {func(c *packet.Config) { c.Algorithm, c.DefaultCompressionAlgo = packet.PubKeyAlgoEdDSA, sha1Self },
			"is weak: it binds its own name with SHA-1"},
		"ecdsa": {func(c *packet.Config) { c.Algorithm, c.Curve = packet.PubKeyAlgoECDSA, packet.CurveNistP256 }, "is of algorithm 19"},
	} {
		e, path := odd(t, tt.change)
		if _, err := Load(path); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: load: %v", name, err)
		}
		p := &Public{e}
		if err := p.Check(at); !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), tt.want) || len(errs.Hints(err)) != 1 {
			t.Errorf("%s: check: %v", name, err)
		}
		id := e.PrimaryKey.KeyId
		s := &packet.Signature{Version: 4, PubKeyAlgo: e.PrimaryKey.PubKeyAlgo, Hash: crypto.SHA256, CreationTime: at, IssuerKeyId: &id}
		h := crypto.SHA256.New()
		var sig bytes.Buffer
		if err := errors.Join(s.Sign(h, e.PrivateKey, config(at)), s.Serialize(&sig)); err != nil {
			t.Fatal(err)
		}
		if _, err := Verify([]*Public{p}, strings.NewReader(""), sig.Bytes()); !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: verify: %v", name, err)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	short := generate(Options{Algorithm: Ed25519, Lifetime: 2 * time.Hour}).Public()
	if err := short.Check(at); err != nil {
		t.Error(err)
	}
	if err := short.Check(at.Add(3 * time.Hour)); !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), "expired at 2026-11-02T04:04:05Z") {
		t.Error(err)
	}
	if err := short.Check(at.Add(-3 * time.Hour)); !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), "was made at") {
		t.Error(err)
	}
	revoked := generate(Options{Algorithm: Ed25519})
	if err := revoked.entity.RevokeKey(packet.KeyCompromised, "stolen", config(at)); err != nil {
		t.Fatal(err)
	}
	if err := revoked.Public().Check(at); !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), "is revoked") {
		t.Error(err)
	}
	if a, b := keys[Ed25519]().Public().Algorithm(), keys[RSA3072]().Public().Algorithm(); a != Ed25519 || b != RSA3072 {
		t.Error(a, b)
	}
}
