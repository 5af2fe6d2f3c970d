package sign

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"slipway/internal/errs"
)

// gpgHome is a GNUPGHOME whose agent ends with the test; the path of its socket must be short.
func gpgHome(t testing.TB) string {
	t.Helper()
	tool(t, "gpg-connect-agent", "gpg-agent")
	home, err := os.MkdirTemp("/tmp", "g")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	return home
}

// importKey gives a key to gpg, protected if there is a passphrase.
func importKey(t testing.TB, home string, k *Key, passphrase string) {
	t.Helper()
	path := filepath.Join(secretFolder(t), "k")
	args := []string{"--import", path}
	if passphrase == "" {
		if err := k.Save(path); err != nil {
			t.Fatal(err)
		}
	} else {
		if err := k.Protect(path, []byte(passphrase), Iterated); err != nil {
			t.Fatal(err)
		}
		args = append([]string{"--pinentry-mode", "loopback", "--passphrase", passphrase}, args...)
	}
	if out, err := gpg(t, home, args...); err != nil {
		t.Fatal(out)
	}
}

// TestAgentSignsAsTheFileDoes: the same key in a real gpg-agent and in a file give
// the same bytes, so that nothing has to be remembered to publish twice.
func TestAgentSignsAsTheFileDoes(t *testing.T) {
	t.Parallel()
	home := gpgHome(t)
	for algorithm, key := range keys {
		k := key()
		importKey(t, home, k, "")
		a, err := OpenAgent(t.Context(), strings.ToUpper(k.Fingerprint()), AgentOptions{Home: home})
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		if a.Fingerprint() != k.Fingerprint() || a.KeyID() != k.KeyID() || a.RPMTag() != k.RPMTag() || a.UserID() != k.UserID() {
			t.Errorf("%s: another key", algorithm)
		}
		var wg sync.WaitGroup
		for _, message := range []string{"hello", "", strings.Repeat("long", 10000)} {
			wg.Go(func() {
				sig, err := a.Sign(t.Context(), strings.NewReader(message), at)
				if err != nil || !bytes.Equal(sig, mustSign(t, k, message, at)) {
					t.Errorf("%s: another signature: %v", algorithm, err)
				}
			})
		}
		wg.Wait()
		// The agent ends and is started again by the next one that opens the key.
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if _, err := a.Sign(t.Context(), strings.NewReader("x"), at); err != nil {
			t.Error("a closed key opens again:", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := a.Sign(ctx, strings.NewReader("x"), at); !errs.Is(err, errs.Interrupted) {
			t.Error(err)
		}
	}
}

// TestAgentSigned packages are accepted by rpm, as those of a file are.
func TestAgentSignedPackage(t *testing.T) {
	t.Parallel()
	home, k := gpgHome(t), keys[Ed25519]()
	importKey(t, home, k, "")
	a, err := OpenAgent(t.Context(), k.Fingerprint(), AgentOptions{Home: home})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	pkg, err := os.ReadFile(buildSmall(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := writeFile(t, filepath.Join(dir, "small.rpm"), resign(t, a, pkg))
	if out, err := exec.CommandContext(t.Context(), "rpmkeys", "--dbpath", filepath.Join(dir, "db"), "--import", writeFile(t, filepath.Join(dir, "key.asc"), a.PublicArmored())).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), "rpmkeys", "--dbpath", filepath.Join(dir, "db"), "--define", "_pkgverify_level all", "-Kv", f).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestAgentPassphrase(t *testing.T) {
	t.Parallel()
	home, k := gpgHome(t), generate(Options{Algorithm: Ed25519})
	importKey(t, home, k, "50% of a\tsecret")
	open := func(passphrase func() ([]byte, error)) *AgentKey {
		a, err := OpenAgent(t.Context(), k.Fingerprint(), AgentOptions{Home: home, Passphrase: passphrase})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { a.Close() })
		return a
	}
	clear := func() {
		if out, err := exec.CommandContext(t.Context(), "gpg-connect-agent", "--homedir", home, "RELOADAGENT", "/bye").CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
	}
	clear()
	if _, err := open(func() ([]byte, error) { return []byte("wrong"), nil }).Sign(t.Context(), strings.NewReader("x"), at); !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), "wrong passphrase") {
		t.Error(err)
	}
	want := errors.New("no terminal")
	if _, err := open(func() ([]byte, error) { return nil, want }).Sign(t.Context(), strings.NewReader("x"), at); !errors.Is(err, want) {
		t.Error(err)
	}
	if sig, err := open(func() ([]byte, error) { return []byte("50% of a\tsecret"), nil }).Sign(t.Context(), strings.NewReader("x"), at); err != nil || !bytes.Equal(sig, mustSign(t, k, "x", at)) {
		t.Error(err)
	}
}

func TestAgentKeysThatAreRefused(t *testing.T) {
	t.Parallel()
	home := gpgHome(t)
	_, weak := weakGPG(t, home)
	public := generate(Options{Algorithm: Ed25519})
	if out, err := gpg(t, home, "--import", writeFile(t, filepath.Join(home, "p"), public.PublicArmored())); err != nil {
		t.Fatal(out)
	}
	for name, tt := range map[string]struct {
		fingerprint string
		kind        errs.Kind
		want        string
	}{
		"none":    {strings.Repeat("ab", 20), errs.NotFound, "gpg has no key abab"},
		"name":    {"ada@example.org", errs.Invalid, "is no fingerprint"},
		"public":  {public.Fingerprint(), errs.NotFound, "public part of " + public.Fingerprint() + " only"},
		"rsa2048": {weak, errs.Denied, "is weak: RSA with 2048 bits"},
	} {
		if _, err := OpenAgent(t.Context(), tt.fingerprint, AgentOptions{Home: home}); !errs.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// weakGPG lets gpg make an RSA key of 2048 bits.
func weakGPG(t testing.TB, home string) (string, string) {
	t.Helper()
	if out, err := gpg(t, home, "--passphrase", "", "--quick-generate-key", "Weak <weak@example.org>", "rsa2048", "sign", "never"); err != nil {
		t.Fatal(out)
	}
	out, err := gpg(t, home, "--with-colons", "--list-secret-keys", "weak@example.org")
	if err != nil {
		t.Fatal(out)
	}
	_, after, _ := strings.Cut(out, "\nfpr:::::::::")
	fpr, _, _ := strings.Cut(after, ":")
	return home, strings.ToLower(fpr)
}

func TestParseSigVal(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"(7:sig-val(3:rsa(1:s2:ab)))":            "ab",
		"(7:sig-val(5:eddsa(1:r2:ab)(1:s2:cd)))": "ab cd",
		"(7:sig-val(5:eddsa(1:s2:cd)(1:r2:ab)))": "ab cd",
		"(7:sig-val(5:ecdsa(1:r2:ab)(1:s2:cd)))": "",
		"(7:sig-val(5:eddsa(1:s2:cd)))":          "",
		"(7:sig-val(3:rsa(1:s9:ab)))":            "",
		"(7:sig-val(3:rsa(1:s2:ab))":             "",
		"(7:sig-val(3:rsa(1:s2:ab)))x":           "",
		")":                                      "",
		"":                                       "",
		"7:sig-val":                              "",
		"(-1:x)":                                 "",
		"(99999999999999999999:x)":               "",
	} {
		got, err := parseSigVal([]byte(in))
		if s := string(bytes.Join(got, []byte(" "))); s != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q %v", in, s, err)
		}
	}
	if got := unescape([]byte("a%25b%0Ac%zz%2")); string(got) != "a%b\nc%zz%2" {
		t.Errorf("%q", got)
	}
}

func FuzzParseSigVal(f *testing.F) {
	f.Add([]byte("(7:sig-val(3:rsa(1:s2:ab)))"))
	f.Add([]byte("(7:sig-val(5:eddsa(1:r2:ab)(1:s2:cd)))"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := parseSigVal(b); (err == nil) != (len(got) > 0) {
			t.Errorf("%q %v", got, err)
		}
	})
}
