package sstate

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/internal/errs"
	"slipway/internal/sign"
)

var at = time.Date(2026, 11, 2, 3, 4, 5, 0, time.UTC)

var keys = sync.OnceValue(func() []*sign.Key {
	var out []*sign.Key
	for range 2 {
		k, err := sign.Generate(sign.Options{Name: "Cache", Created: at.Add(-time.Hour)})
		if err != nil {
			panic(err)
		}
		out = append(out, k)
	}
	return out
})

// names as generate_sstatefn makes them: folders by hash and by system.
var names = []string{
	"ab/cd/sstate:zlib:core2-64-oe-linux:1.3.1:r0:core2-64:14:abcd0123_package.tar.zst",
	"ab/ce/sstate:zlib:core2-64-oe-linux:1.3.1:r0:core2-64:14:abce4567_populate_sysroot.tar.zst",
	"universal/00/11/sstate:quilt-native:x86_64-linux:0.68:r0:x86_64:14:0011_populate_sysroot.tar.zst",
	"12/34/sstate:old::1.0:r0::3:1234_package_qa.tgz",
	"12/35/sstate:old::1.0:r0::3:1235_package_qa.tgz",
}

func cache(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, n := range names {
		write(t, filepath.Join(dir, n), "archive "+n)
		write(t, filepath.Join(dir, n+".siginfo"), "{}")
	}
	write(t, filepath.Join(dir, "README"), "no archive")
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func trusts(keys ...*sign.Key) Check {
	var publics []*sign.Public
	for _, k := range keys {
		publics = append(publics, k.Public())
	}
	return func(message io.Reader, sig []byte) error {
		_, err := sign.Verify(publics, message, sig)
		return err
	}
}

func TestSignAndVerify(t *testing.T) {
	t.Parallel()
	dir, k, other := cache(t), keys()[0], keys()[1]
	rep, err := Sign(t.Context(), dir, 3, k, trusts(k), at)
	if err != nil || rep.Archives != 5 || rep.Signed != 5 || rep.Err() != nil {
		t.Fatal(rep, err)
	}
	before, err := os.Stat(filepath.Join(dir, names[0]+".sig"))
	if err != nil {
		t.Fatal(err)
	}
	if rep, err := Sign(t.Context(), dir, 3, k, trusts(k), at.Add(time.Hour)); err != nil || rep.Signed != 0 || rep.Archives != 5 {
		t.Error("signed twice", rep, err)
	}
	if after, err := os.Stat(filepath.Join(dir, names[0]+".sig")); err != nil || !os.SameFile(before, after) {
		t.Error("written twice", err)
	}
	if rep, err := Verify(t.Context(), dir, 3, trusts(k)); err != nil || rep.Archives != 5 || rep.Err() != nil {
		t.Error(rep, err)
	}
	if files, err := filepath.Glob(filepath.Join(dir, "*/*/.*")); err != nil || len(files) > 0 {
		t.Error("left behind", files)
	}

	// Every way to be wrong, at once.
	write(t, filepath.Join(dir, names[0]), "tampered")
	if err := os.Remove(filepath.Join(dir, names[1]+".sig")); err != nil {
		t.Fatal(err)
	}
	sig, err := other.Sign(t.Context(), strings.NewReader("archive "+names[2]), at)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, names[2]+".sig"), string(sig))
	write(t, filepath.Join(dir, names[3]+".sig"), "garbage")
	if err := os.Remove(filepath.Join(dir, names[4])); err != nil {
		t.Fatal(err)
	}
	want := []Finding{
		{names[3], Bad, "damaged signature"}, {names[4] + ".sig", Orphan, "not there"}, {names[0], Tampered, "these are not the bytes that key " + k.KeyID()},
		{names[1], Missing, "no signature"}, {names[2], Foreign, "made by the unknown key " + other.KeyID()},
	}
	rep, err = Verify(t.Context(), dir, 2, trusts(k))
	if err != nil || rep.Archives != 4 || len(rep.Findings) != len(want) || !errs.Is(rep.Err(), errs.Denied) {
		t.Fatalf("%+v %v", rep, err)
	}
	for i, w := range want {
		if got := rep.Findings[i]; got.Path != w.Path || got.Reason != w.Reason || !strings.Contains(got.Detail, w.Detail) {
			t.Errorf("got %+v, want %+v", got, w)
		}
	}
	// Signing again launders none of it: only what has no signature gets one.
	rep, err = Sign(t.Context(), dir, 2, k, trusts(k), at)
	if err != nil || rep.Signed != 1 || len(rep.Findings) != 3 {
		t.Errorf("%+v %v", rep, err)
	}
}

// TestGPG asks as BitBake does (LocalSigner.verify of lib/oe/gpg_sign.py): gpg --verify <archive>.sig, and its GOODSIG.
// With --batch gpg does not look for the signed file by the signature's name.
func TestGPG(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("gpg"); err != nil {
		t.Fatal("gpg is missing: install Debian's package gpg")
	}
	dir, k := cache(t), keys()[0]
	home, err := os.MkdirTemp("/tmp", "g")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	gpg := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), "gpg", append([]string{"--no-permission-warning", "--status-fd", "1", "--homedir", home}, args...)...).Output()
		return string(out), err
	}
	public := filepath.Join(home, "k")
	write(t, public, string(k.PublicArmored()))
	if out, err := gpg("--batch", "--import", public); err != nil {
		t.Fatal(out, err)
	}
	if _, err := Sign(t.Context(), dir, 1, k, trusts(k), at); err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		out, err := gpg("--verify", filepath.Join(dir, n+".sig"))
		if err != nil || !strings.Contains(out, "[GNUPG:] GOODSIG "+strings.ToUpper(k.KeyID())+" ") {
			t.Errorf("%s: %v\n%s", n, err, out)
		}
	}
	write(t, filepath.Join(dir, names[0]), "tampered")
	if out, err := gpg("--verify", filepath.Join(dir, names[0]+".sig")); err == nil {
		t.Errorf("gpg accepts other bytes: the test proves nothing\n%s", out)
	}
	// And the other way: what BitBake's gpg signs (detach_sign, armor=False) is good here.
	secret := filepath.Join(home, "secret", "k")
	if err := k.Save(secret); err != nil {
		t.Fatal(err)
	}
	if out, err := gpg("--batch", "--import", secret); err != nil {
		t.Fatal(out, err)
	}
	sig := filepath.Join(dir, names[0]+".sig")
	if out, err := gpg("--batch", "--detach-sign", "--yes", "-u", k.KeyID(), "-o", sig, filepath.Join(dir, names[0])); err != nil {
		t.Fatal(out, err)
	}
	if rep, err := Verify(t.Context(), dir, 1, trusts(k)); err != nil || rep.Err() != nil {
		t.Error(rep, err)
	}
}

type failing struct{ err error }

func (f failing) SignMidstate(context.Context, sign.Midstate, time.Time) ([]byte, error) {
	return nil, f.err
}

func TestFailures(t *testing.T) {
	t.Parallel()
	dir, want := cache(t), errors.New("the signer is gone")
	if rep, err := Sign(t.Context(), dir, 2, failing{want}, trusts(), at); !errors.Is(err, want) || rep.Signed != 0 {
		t.Error(rep, err)
	}
	if _, err := Verify(t.Context(), filepath.Join(dir, "none"), 1, trusts()); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	if _, err := Verify(t.Context(), filepath.Join(dir, "README"), 1, trusts()); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Verify(ctx, dir, 1, trusts()); !errs.Is(err, errs.Interrupted) {
		t.Error(err)
	}
	// A link is another cache's: verified, never signed.
	link := filepath.Join(dir, "ff/ff/sstate:link:::::14:ffff_package.tar.zst")
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, names[0]), link); err != nil {
		t.Fatal(err)
	}
	k := keys()[0]
	if rep, err := Sign(t.Context(), dir, 1, k, trusts(k), at); err != nil || rep.Archives != 5 {
		t.Error(rep, err)
	}
	if rep, err := Verify(t.Context(), dir, 1, trusts(k)); err != nil || len(rep.Findings) != 1 || rep.Findings[0].Reason != Missing {
		t.Error(rep, err)
	}
}
