package sign

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"slipway/internal/errs"
)

var at = time.Date(2026, 11, 2, 3, 4, 5, 0, time.UTC)

// keys are made once, when first used: an RSA key takes a while.
var keys = map[string]func() *Key{
	Ed25519: sync.OnceValue(func() *Key { return generate(Options{Algorithm: Ed25519}) }),
	RSA3072: sync.OnceValue(func() *Key { return generate(Options{Algorithm: RSA3072}) }),
}

func generate(o Options) *Key {
	o.Name, o.Email = "Test "+o.Algorithm, "test@example.org"
	if o.Created.IsZero() {
		o.Created = at.Add(-time.Hour)
	}
	k, err := Generate(o)
	if err != nil {
		panic(err)
	}
	return k
}

// tool fails the test when a program is missing: CI installs all of them.
func tool(t testing.TB, name, debian string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is missing: install Debian's package %s", name, debian)
	}
}

func mustSign(t testing.TB, k *Key, message string, at time.Time) []byte {
	t.Helper()
	sig, err := k.Sign(t.Context(), strings.NewReader(message), at)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func public(t testing.TB, k *Key) *Public {
	t.Helper()
	p, err := ParsePublic(k.PublicArmored())
	if err != nil || len(p) != 1 {
		t.Fatal(p, err)
	}
	return p[0]
}

func writeFile(t testing.TB, path string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// gpg runs gpg with a home of its own.
func gpg(t testing.TB, home string, args ...string) (string, error) {
	t.Helper()
	tool(t, "gpg", "gpg")
	c := exec.CommandContext(t.Context(), "gpg", append([]string{"--homedir", home, "--batch", "--no-tty", "--status-fd", "1"}, args...)...)
	out, err := c.CombinedOutput()
	return string(out), err
}

func TestGPGAcceptsDetachedSignature(t *testing.T) {
	t.Parallel()
	for algorithm, key := range keys {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			k, dir := key(), t.TempDir()
			if out, err := gpg(t, dir, "--import", writeFile(t, filepath.Join(dir, "key"), k.PublicArmored())); err != nil {
				t.Fatal(out)
			}
			data := writeFile(t, filepath.Join(dir, "repomd.xml"), []byte("hello"))
			sig := writeFile(t, filepath.Join(dir, "repomd.xml.asc"), Armor(mustSign(t, k, "hello", at)))
			out, err := gpg(t, dir, "--verify", sig, data)
			if want := fmt.Sprintf("VALIDSIG %s 2026-11-02 %d 0 4 0 ", strings.ToUpper(k.Fingerprint()), at.Unix()); err != nil || !strings.Contains(out, want) {
				t.Errorf("%v, want %s\n%s", err, want, out)
			}
			writeFile(t, data, []byte("hallo"))
			if out, err := gpg(t, dir, "--verify", sig, data); err == nil || !strings.Contains(out, "BADSIG") {
				t.Errorf("accepted other bytes: %s", out)
			}
		})
	}
}

func TestLoadsWhatGPGExports(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if out, err := gpg(t, dir, "--passphrase", "", "--quick-generate-key", "Some One <one@example.org>", "ed25519", "sign", "never"); err != nil {
		t.Fatal(out)
	}
	t.Cleanup(func() { _ = exec.Command("gpgconf", "--homedir", dir, "--kill", "all").Run() })
	path := filepath.Join(dir, "secret.asc")
	if out, err := gpg(t, dir, "--armor", "--output", path, "--export-secret-keys"); err != nil {
		t.Fatal(out)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	k, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Verify([]*Public{public(t, k)}, strings.NewReader("x"), mustSign(t, k, "x", time.Now())); err != nil || k.UserID() != "Some One <one@example.org>" {
		t.Error(err, k.UserID())
	}
}

func TestSignaturesAreEqualAndVerify(t *testing.T) {
	t.Parallel()
	for algorithm, key := range keys {
		k := key()
		sig := mustSign(t, k, "hello", at)
		if again := mustSign(t, k, "hello", at.Add(300*time.Millisecond)); !bytes.Equal(sig, again) {
			t.Errorf("%s: two signatures differ", algorithm)
		}
		plain, err := Dearmor(Armor(sig))
		if err != nil || !bytes.Equal(plain, sig) {
			t.Errorf("%s: armor and back: %v", algorithm, err)
		}
		got, err := Verify([]*Public{public(t, keys[Ed25519]()), public(t, keys[RSA3072]())}, strings.NewReader("hello"), sig)
		if err != nil || got.Fingerprint() != k.Fingerprint() || got.UserID() != "Test "+algorithm+" <test@example.org>" || got.KeyID() != k.KeyID() {
			t.Errorf("%s: %v %v", algorithm, got, err)
		}
		if len(k.Fingerprint()) != 40 || k.Fingerprint()[24:] != k.KeyID() {
			t.Error(k.Fingerprint(), k.KeyID())
		}
	}
}

func TestVerifyDenies(t *testing.T) {
	t.Parallel()
	k := keys[Ed25519]()
	other := generate(Options{Algorithm: Ed25519})
	short := generate(Options{Algorithm: Ed25519, Lifetime: 2 * time.Hour})
	good := mustSign(t, k, "hello", at)
	forged := func(change func(*packet.Signature)) []byte {
		p, err := packet.Read(bytes.NewReader(good))
		if err != nil {
			t.Fatal(err)
		}
		s := p.(*packet.Signature)
		change(s)
		h := s.Hash.New()
		h.Write([]byte("hello"))
		if err := s.Sign(h, k.entity.PrivateKey, config(at)); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := s.Serialize(&b); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	all := []*Public{public(t, k), public(t, short)}
	for name, tt := range map[string]struct {
		keys    []*Public
		message string
		sig     []byte
		want    string
	}{
		"unknown":   {all, "hello", mustSign(t, other, "hello", at), "made by the unknown key " + other.KeyID()},
		"no keys":   {nil, "hello", good, "made by the unknown key " + k.KeyID()},
		"tampered":  {all, "hallo", good, "bad signature: these are not the bytes that key " + k.KeyID()},
		"expired":   {all, "hello", mustSign(t, short, "hello", at.Add(3*time.Hour)), "had expired when it signed: 2026-11-02T04:04:05Z"},
		"too early": {all, "hello", forged(func(s *packet.Signature) { s.CreationTime = at.Add(-2 * time.Hour) }), "was made after the signature"},
		"text":      {all, "hello", forged(func(s *packet.Signature) { s.SigType = packet.SigTypeText }), "signature of type 1"},
		"brief": {all, "hello", forged(func(s *packet.Signature) {
			n := uint32(1)
			s.CreationTime, s.SigLifetimeSecs = at.Add(-time.Minute), &n
		}), "the signature has expired"},
		"empty":     {all, "hello", nil, "no signature"},
		"truncated": {all, "hello", good[:len(good)-1], "damaged signature"},
		"garbage":   {all, "hello", []byte("hello"), "damaged signature"},
		"a key":     {all, "hello", mustDearmor(t, k.PublicArmored()), "no detached OpenPGP signature"},
	} {
		if name == "brief" && time.Now().Before(at) {
			t.Fatal("the clock of this machine is wrong")
		}
		_, err := Verify(tt.keys, strings.NewReader(tt.message), tt.sig)
		if !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
	if _, err := Verify(all, strings.NewReader("hello"), append(mustSign(t, other, "hello", at), good...)); err != nil {
		t.Errorf("one good signature of two is not enough: %v", err)
	}
	if _, err := Verify(all, strings.NewReader("hello"), mustSign(t, short, "hello", at)); err != nil {
		t.Errorf("signed in time: %v", err)
	}
}

func mustDearmor(t testing.TB, text []byte) []byte {
	t.Helper()
	b, err := decodeArmor(text, armorPublic)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRevokedKeyIsDenied(t *testing.T) {
	t.Parallel()
	k := generate(Options{Algorithm: Ed25519})
	sig := mustSign(t, k, "hello", at)
	if err := k.entity.RevokeKey(packet.KeyCompromised, "stolen", config(at)); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify([]*Public{public(t, k)}, strings.NewReader("hello"), sig); !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), "is revoked") {
		t.Error(err)
	}
}

func TestSaveLoad(t *testing.T) {
	t.Parallel()
	for algorithm, key := range keys {
		k := key()
		path := filepath.Join(t.TempDir(), "keys", "a.asc")
		if err := k.Save(path); err != nil {
			t.Fatal(err)
		}
		if err := k.Save(path); !errs.Is(err, errs.Conflict) {
			t.Errorf("overwrote a key: %v", err)
		}
		l, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(l.PublicArmored(), k.PublicArmored()) || l.RPMTag() != k.RPMTag() || !bytes.Equal(mustSign(t, l, "x", at), mustSign(t, k, "x", at)) {
			t.Errorf("%s: the loaded key is another one", algorithm)
		}
		if files, _ := os.ReadDir(filepath.Dir(path)); len(files) != 1 {
			t.Errorf("left behind: %v", files)
		}
		for p, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
			if st, err := os.Stat(p); err != nil || st.Mode().Perm() != want {
				t.Errorf("%s: %v %v", p, st.Mode(), err)
			}
		}
	}
	if keys[Ed25519]().RPMTag() != 267 || keys[RSA3072]().RPMTag() != 268 {
		t.Error("wrong tags")
	}
}

func TestKeyFilesThatAreRefused(t *testing.T) {
	t.Parallel()
	k := keys[Ed25519]()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "good.asc")
	if err := k.Save(path); err != nil {
		t.Fatal(err)
	}
	secret, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(secret)
	damaged[len(damaged)/3] ^= 1
	for name, tt := range map[string]struct {
		text []byte
		mode os.FileMode
		kind errs.Kind
	}{
		"open":     {secret, 0o640, errs.Denied},
		"world":    {secret, 0o604, errs.Denied},
		"damaged":  {damaged, 0o600, errs.Invalid},
		"half":     {secret[:len(secret)/2], 0o600, errs.Invalid},
		"public":   {k.PublicArmored(), 0o600, errs.Invalid},
		"password": {[]byte("s3cret"), 0o600, errs.Invalid},
		"empty":    {nil, 0o600, errs.Invalid},
	} {
		p := writeFile(t, filepath.Join(dir, name), tt.text)
		if err := os.Chmod(p, tt.mode); err != nil {
			t.Fatal(err)
		}
		_, err := Load(p)
		if !errs.Is(err, tt.kind) {
			t.Errorf("%s: %v, want %s", name, err, tt.kind)
			continue
		}
		all := fmt.Sprintf("%+v %v", err, errs.Hints(err))
		for _, line := range strings.Fields(string(tt.text)) {
			if len(line) > 5 && strings.Contains(all, line) && name != "public" && !strings.Contains("-----BEGIN PRIVATE BLOCK-----", line) {
				t.Errorf("%s: the error shows the key: %s", name, all)
			}
		}
	}
	if _, err := Load(filepath.Join(dir, "missing")); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	open := filepath.Join(dir, "open-folder")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := k.Save(filepath.Join(open, "k")); !errs.Is(err, errs.Denied) {
		t.Errorf("saved into a folder that others may read: %v", err)
	}
	if s := fmt.Sprintf("%v %+v %#v %s", k, k, k, k); strings.Count(s, "key "+k.Fingerprint()) != 4 || len(s) != 4*44+3 {
		t.Error("printing a key shows more than its fingerprint")
	}
	if _, err := ParsePublic(secret); !errs.Is(err, errs.Invalid) {
		t.Errorf("a private key passed for a public one: %v", err)
	}
}

func TestOptionsAndTimesThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{Name: "x", Algorithm: "dsa"}, {}, {Name: "a <b>"}, {Name: "x", Lifetime: -time.Second}, {Name: "x\ny"}} {
		if _, err := Generate(o); !errs.Is(err, errs.Invalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	k := keys[Ed25519]()
	if _, err := k.Sign(t.Context(), strings.NewReader(""), at.Add(-2*time.Hour)); !errs.Is(err, errs.Invalid) {
		t.Errorf("signed before the key was made: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.Sign(ctx, strings.NewReader("x"), at); !errs.Is(err, errs.Interrupted) {
		t.Error(err)
	}
	want := errors.New("disk")
	if _, err := k.Sign(t.Context(), failing{want}, at); !errors.Is(err, want) {
		t.Error(err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
