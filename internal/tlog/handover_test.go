package tlog_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/store"
	"slipway/internal/tlog"
)

// keyLeaf writes the public half of the n-th key as a file of the publication, and gives
// its leaf.
func keyLeaf(t *testing.T, dir string, n byte) tlog.Leaf {
	t.Helper()
	pub := ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(n)), 32))).Public().(ed25519.PublicKey)
	name := fmt.Sprintf("keys/log-%d.asc", n)
	if err := os.MkdirAll(filepath.Join(dir, "keys"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), pub, 0o644); err != nil {
		t.Fatal(err)
	}
	return tlog.Leaf{Type: tlog.Key, At: leaf(1).At, File: name, Digest: distro.DigestOf(pub)}
}

func bare(b []byte) (ed25519.PublicKey, error) {
	if len(b) != ed25519.PublicKeySize {
		return nil, errors.New("no key")
	}
	return b, nil
}

func follow(t *testing.T, tr store.Tree, keys ...tlog.Verifier) ([]tlog.Verifier, []tlog.Handover) {
	t.Helper()
	all, steps, err := tlog.Follow(t.Context(), tr, keys, bare)
	if err != nil {
		t.Fatal(err)
	}
	return all, steps
}

// TestAKeyHandsTheLogOver: two rotations; who trusts the first key alone, with a
// checkpoint of that time or without, comes to the third.
func TestAKeyHandsTheLogOver(t *testing.T) {
	t.Parallel()
	dir, tr := publication(t, 9)
	s1, v1 := key(t, 1)
	s2, v2 := key(t, 2)
	s3, v3 := key(t, 3)
	seen := add(t, tr, s1, leaves(1, 3)...)
	add(t, tr, s1, keyLeaf(t, dir, 2))
	if all, steps := follow(t, tr, v1); len(all) != 1 || steps != nil {
		t.Errorf("the old key still signs: %v", steps)
	}
	if _, err := tlog.Append(t.Context(), tr, s2, leaf(4)); !errs.Is(err, errs.Denied) {
		t.Errorf("a key that does not know the one before it went on: %v", err)
	}
	before := []tlog.Verifier{v1}
	for range 2 { // the same again changes nothing
		c, err := tlog.AppendAfter(t.Context(), tr, s2, before, leaf(4), leaf(5))
		if err != nil || c.Size != 6 {
			t.Fatal(c.Size, err)
		}
	}
	add(t, tr, s2, keyLeaf(t, dir, 3))
	if _, err := tlog.AppendAfter(t.Context(), tr, s3, []tlog.Verifier{v1, v2}, leaf(6)); err != nil {
		t.Fatal(err)
	}
	all, steps := follow(t, tr, v1)
	if len(all) != 3 || len(steps) != 2 || steps[0].File != "keys/log-2.asc" || steps[0].Entry != 3 || steps[1].File != "keys/log-3.asc" {
		t.Fatalf("%v", steps)
	}
	l, r, err := tlog.Verify(t.Context(), tr, all, &seen)
	if err != nil || len(r.Findings) > 0 || l.Checkpoint.Size != 8 {
		t.Fatal(r, err)
	}
	// What was remembered by the first key is read, and its successor takes its place.
	file := filepath.Join(t.TempDir(), "seen")
	if err := tlog.Remember(file, seen, v1); err != nil {
		t.Fatal(err)
	}
	if err := tlog.Remember(file, l.Checkpoint, all...); err != nil {
		t.Fatal(err)
	}
	if c, err := tlog.ReadSeen(file, v3); err != nil || c.Size != 8 {
		t.Errorf("%v, %v", c, err)
	}
	if _, r, err := tlog.Verify(t.Context(), tr, []tlog.Verifier{v1}, nil); err != nil || len(r.Findings) == 0 {
		t.Errorf("the first key alone does not sign this: %v", err)
	}
	// A thief of the first key: cuts back to what it signed, and goes on from there.
	if err := os.RemoveAll(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	add(t, tr, s1, leaves(1, 3)...)
	if _, r, err := tlog.Verify(t.Context(), tr, all, &l.Checkpoint); err != nil || !strings.Contains(strings.Join(r.Findings, "\n"), "it was cut back") {
		t.Errorf("%v, %v", r, err)
	}
}

// TestNoHandover: what a key did not sign hands nothing over.
func TestNoHandover(t *testing.T) {
	t.Parallel()
	s1, v1 := key(t, 1)
	s2, v2 := key(t, 2)
	s4, v4 := key(t, 4)
	for name, do := range map[string]func(dir string, tr store.Tree) error{
		"the next key named itself": func(dir string, tr store.Tree) error {
			add(t, tr, s1, leaves(1, 3)...)
			_, err := tlog.AppendAfter(t.Context(), tr, s2, []tlog.Verifier{v1}, keyLeaf(t, dir, 2), leaf(4))
			return err
		},
		"no leaf": func(dir string, tr store.Tree) error {
			add(t, tr, s1, leaves(1, 3)...)
			_, err := tlog.AppendAfter(t.Context(), tr, s2, []tlog.Verifier{v1}, leaf(4))
			return err
		},
		"another key signed the handover": func(dir string, tr store.Tree) error {
			add(t, tr, s4, append(leaves(1, 3), keyLeaf(t, dir, 2))...)
			_, err := tlog.AppendAfter(t.Context(), tr, s2, []tlog.Verifier{v4}, leaf(4))
			return err
		},
		"the key's file is another": func(dir string, tr store.Tree) error {
			add(t, tr, s1, append(leaves(1, 3), keyLeaf(t, dir, 2))...)
			if _, err := tlog.AppendAfter(t.Context(), tr, s2, []tlog.Verifier{v1}, leaf(4)); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, "keys/log-2.asc"), []byte(strings.Repeat("x", 32)), 0o644)
		},
		"the log goes not on from there": func(dir string, tr store.Tree) error {
			add(t, tr, s1, append(leaves(1, 3), keyLeaf(t, dir, 2))...)
			if _, err := tlog.AppendAfter(t.Context(), tr, s2, []tlog.Verifier{v1}, leaf(4)); err != nil {
				return err
			}
			kept := fmt.Sprintf("log/handover/%08x", v2.KeyHash())
			b, err := os.ReadFile(filepath.Join(dir, kept))
			if err != nil {
				return err
			}
			if err := os.RemoveAll(filepath.Join(dir, "log")); err != nil {
				return err
			}
			add(t, tr, s2, append(leaves(2, 5), keyLeaf(t, dir, 2))...)
			return errors.Join(os.MkdirAll(filepath.Join(dir, "log/handover"), 0o755), os.WriteFile(filepath.Join(dir, kept), b, 0o644))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, tr := publication(t, 5)
			if err := do(dir, tr); err != nil {
				t.Fatal(err)
			}
			if all, steps := follow(t, tr, v1); len(all) != 1 || len(steps) > 0 {
				t.Errorf("followed to %v", steps)
			}
		})
	}
}

// TestHandoverCutOff ends the first append of a new key at every write: the log is by the
// old key or by the new one, and the same append goes on.
func TestHandoverCutOff(t *testing.T) {
	t.Parallel()
	s1, v1 := key(t, 1)
	s2, v2 := key(t, 2)
	for _, after := range []bool{false, true} {
		for n := 1; ; n++ {
			dir, tr := publication(t, 5)
			seen := add(t, tr, s1, append(leaves(1, 3), keyLeaf(t, dir, 2))...)
			_, err := tlog.AppendAfter(t.Context(), &failing{tr, n, after}, s2, []tlog.Verifier{v1}, leaf(4))
			if err == nil {
				if n < 5 {
					t.Errorf("an append of %d writes", n-1)
				}
				break
			}
			if _, r, verr := tlog.Verify(t.Context(), tr, []tlog.Verifier{v1, v2}, &seen); !errors.Is(err, errStop) || verr != nil || len(r.Findings) > 0 {
				t.Fatal(err, verr, r)
			}
			if _, err := tlog.AppendAfter(t.Context(), tr, s2, []tlog.Verifier{v1}, leaf(4)); err != nil {
				t.Fatal(err)
			}
			all, _ := follow(t, tr, v1)
			if _, r, err := tlog.Verify(t.Context(), tr, all, &seen); err != nil || len(r.Findings) > 0 || r.Size != 5 {
				t.Fatalf("write %d: %v, %v", n, r, err)
			}
		}
	}
}

// unreadable fails to read what it is told to.
type unreadable struct {
	store.Tree
	name string
}

func (u unreadable) Open(ctx context.Context, name string) (store.Blob, error) {
	if strings.HasPrefix(name, u.name) {
		return nil, errs.E(errs.Unavailable, "the network", io.ErrUnexpectedEOF)
	}
	return u.Tree.Open(ctx, name)
}

func TestFollowTellsTheNetwork(t *testing.T) {
	t.Parallel()
	s1, v1 := key(t, 1)
	s2, _ := key(t, 2)
	dir, tr := publication(t, 5)
	add(t, tr, s1, append(leaves(1, 3), keyLeaf(t, dir, 2))...)
	if _, err := tlog.AppendAfter(t.Context(), tr, s2, []tlog.Verifier{v1}, leaf(4)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{tlog.CheckpointFile, "log/tile/entries", "log/handover"} {
		if _, _, err := tlog.Follow(t.Context(), unreadable{tr, name}, []tlog.Verifier{v1}, bare); !errs.Is(err, errs.Unavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
