package signer

import (
	"bytes"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/errs"
	"slipway/internal/keyring"
	"slipway/internal/sign"
)

// The log key signs checkpoints of its own log, through the socket, and nothing that
// another key or another format could mean.
func TestCheckpoints(t *testing.T) {
	t.Parallel()
	f := folder(t)
	ring, err := f.Draft("halyard")
	if err != nil {
		t.Fatal(err)
	}
	k, err := ring.Add(keyring.Log, keys()[3].Public(), made)
	if err == nil {
		err = keys()[3].Save(f.PrivatePath(k))
	}
	if err == nil {
		err = f.Save(ring)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := serve(t, &Server{Local: local(f.Dir)})
	r, err := c.Role(t.Context(), keyring.Log, now)
	if err != nil {
		t.Fatal(err)
	}
	root := strings.Repeat("A", 43) + "="
	text := []byte("halyard\n2\n" + root + "\n")
	sig, err := r.SignCheckpoint(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	public, err := r.Ed25519()
	if err != nil || !ed25519.Verify(public, text, sig) {
		t.Errorf("the signature is bad: %v", err)
	}
	again, err := r.SignCheckpoint(t.Context(), text)
	if err != nil || !bytes.Equal(sig, again) {
		t.Errorf("the same text gives another signature: %v", err)
	}
	for name, text := range map[string]string{
		"empty": "", "another log": "knot\n2\n" + root + "\n", "size": "halyard\n02\n" + root + "\n", "negative": "halyard\n-2\n" + root + "\n",
		"root": "halyard\n2\nAAAA\n", "more": "halyard\n2\n" + root + "\nx\n", "open end": "halyard\n2\n" + root, "a digest": strings.Repeat("x", 32),
	} {
		if _, err := r.SignCheckpoint(t.Context(), []byte(text)); !errs.Is(err, errs.Denied) {
			t.Errorf("%s: %v", name, err)
		}
	}
	m, err := c.Role(t.Context(), keyring.Metadata, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.SignCheckpoint(t.Context(), text); !errs.Is(err, errs.Denied) {
		t.Errorf("the metadata key signs a checkpoint: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(f.Dir, "signed.log")); err != nil || bytes.Count(b, []byte(`"log/checkpoint"`)) != 2 {
		t.Errorf("signed.log: %s, %v", b, err)
	}
}

func TestANoteNeedsEd25519(t *testing.T) {
	t.Parallel()
	k, err := sign.Generate(sign.Options{Name: "Test", Algorithm: sign.RSA3072, Created: made})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.SignPlain([]byte("x")); !errs.Is(err, errs.Invalid) {
		t.Errorf("%v", err)
	}
}
