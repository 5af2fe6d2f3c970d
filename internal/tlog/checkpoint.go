package tlog

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"slipway/internal/errs"
)

// Signer signs checkpoints. Its name is the log's origin, such as
// feeds.example.org/halyard; its signatures must be deterministic, as Ed25519's are.
type Signer = note.Signer

// Verifier checks the signatures of one log key.
type Verifier = note.Verifier

const algEd25519 = 1 // of signed notes

// signer is a Signer whose private key is elsewhere.
type signer struct {
	Verifier
	sign func(message []byte) ([]byte, error)
}

func (s signer) Sign(msg []byte) ([]byte, error) { return s.sign(msg) }

// NewSigner gives a Signer of an Ed25519 key that signs elsewhere, in a signer
// process or an agent; sign gives the plain signature of 64 bytes.
func NewSigner(origin string, public ed25519.PublicKey, sign func(message []byte) ([]byte, error)) (Signer, error) {
	v, err := NewVerifier(origin, public)
	return signer{v, sign}, err
}

// NewVerifier gives the Verifier of an Ed25519 key. A bad origin is errs.Invalid:
// it is not empty and has no spaces and no "+".
func NewVerifier(origin string, public ed25519.PublicKey) (Verifier, error) {
	key, err := note.NewEd25519VerifierKey(origin, public)
	if err != nil {
		return nil, errs.E(errs.Invalid, "the log key", err)
	}
	v, err := note.NewVerifier(key)
	if err != nil {
		return nil, errs.E(errs.Invalid, fmt.Sprintf("the log's origin %q", origin), err, errs.Hint("a name such as feeds.example.org/halyard: no spaces, no +"))
	}
	return v, nil
}

// KeyID is the number by which signatures name a key: see C2SP signed-note.
func KeyID(origin string, public ed25519.PublicKey) uint32 {
	h := sha256.Sum256(append(append([]byte(origin+"\n"), algEd25519), public...))
	return binary.BigEndian.Uint32(h[:4])
}

// Checkpoint is what the log key signs: how long the log is and the root of its
// tree.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   tlog.Hash
	Note   []byte // the signed file
}

func (c Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, c.Root)
}

// ParseCheckpoint reads a signed checkpoint. A signature that does not fit, or
// none by one of the keys, is errs.Denied.
func ParseCheckpoint(b []byte, keys ...Verifier) (Checkpoint, error) {
	n, err := note.Open(b, note.VerifierList(keys...))
	if err != nil {
		return Checkpoint{}, errs.E(errs.Denied, "the checkpoint of the log is not signed by its key", err, errs.Hint("the log was changed from outside, or the key is another log's"))
	}
	c, err := parseText(n.Text)
	if err == nil && c.Origin != keys[0].Name() {
		err = errs.Ef(errs.Invalid, "the checkpoint of the log cannot be read: its origin is %q, not %q", c.Origin, keys[0].Name())
	}
	c.Note = b
	return c, err
}

// parseText reads what a checkpoint says.
func parseText(text string) (Checkpoint, error) {
	bad := func(why string) (Checkpoint, error) {
		return Checkpoint{}, errs.E(errs.Invalid, "the checkpoint of the log cannot be read: "+why)
	}
	lines := strings.Split(text, "\n")
	if len(lines) < 4 || lines[len(lines)-1] != "" {
		return bad("it has fewer than three lines")
	}
	c := Checkpoint{Origin: lines[0]}
	var err error
	if c.Size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || c.Size < 0 || strconv.FormatInt(c.Size, 10) != lines[1] {
		return bad(fmt.Sprintf("%q is no size", lines[1]))
	}
	if c.Root, err = tlog.ParseHash(lines[2]); err != nil {
		return bad(fmt.Sprintf("%q is no hash", lines[2]))
	}
	return c, nil
}

// signed gives the checkpoint of a tree.
func signed(s Signer, size int64, root tlog.Hash) (Checkpoint, error) {
	c := Checkpoint{Origin: s.Name(), Size: size, Root: root}
	var err error
	c.Note, err = note.Sign(&note.Note{Text: c.text()}, s)
	return c, errs.Wrap(err, "sign the checkpoint of the log")
}
