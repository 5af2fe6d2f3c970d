package tlog

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"slices"

	"slipway/internal/errs"
	"slipway/internal/store"
)

// A log outlives its key. While the old key signs, a leaf of type [Key] names the next
// one; the last checkpoint of the old key stays in the tree when the next one takes over.
// Whoever trusts the old key alone follows: the old key signed a tree that holds the leaf,
// and the log of today continues that tree.

// handoverName is the last checkpoint before the key of that number ([KeyID]) signed.
func handoverName(next uint32) string { return fmt.Sprintf("log/handover/%08x", next) }

// handOver keeps the checkpoint that a key found when it first signed.
func handOver(ctx context.Context, t store.Tree, next Signer, last Checkpoint) error {
	name := handoverName(next.KeyHash())
	if _, err := t.Stat(ctx, name); !errs.Is(err, errs.NotFound) {
		return err // one is there: a clock went back in between
	}
	return errs.Wrap(t.Create(ctx, name, bytes.NewReader(last.Note)), "keep the last checkpoint of the log key before")
}

// Handover is a step from one log key to the next.
type Handover struct {
	File  string // of the next key
	Entry int    // the leaf that names it
	Key   Verifier
}

// Follow finds the keys that those in hand have handed the log over to, one after the
// other: each named by a leaf in a tree that a key before it signed, and that the log of
// today continues. public reads a key's file. What leads nowhere is no error: [Verify]
// with the keys that are given back says what is wrong. An error is returned only when
// the tree could not be read.
func Follow(ctx context.Context, t store.Tree, keys []Verifier, public func([]byte) (ed25519.PublicKey, error)) ([]Verifier, []Handover, error) {
	b, err := readFile(ctx, t, CheckpointFile)
	if err != nil {
		return keys, nil, unread(err)
	}
	if len(keys) == 0 {
		return keys, nil, nil
	}
	if _, err := ParseCheckpoint(b, keys...); err == nil {
		return keys, nil, nil
	}
	text, _, _ := bytes.Cut(b, []byte("\n\n"))
	now, err := parseText(string(text) + "\n")
	if err != nil {
		return keys, nil, nil
	}
	records, err := readEntries(ctx, t, now.Size)
	if err != nil {
		return keys, nil, unread(err)
	}
	h, err := hashAll(records)
	if err != nil {
		return keys, nil, err
	}
	var steps []Handover
	for i, r := range records {
		leaf, err := parseLeaf(r)
		if err != nil || leaf.Type != Key || leaf.checkFile(ctx, t) != nil {
			continue
		}
		file, err := readFile(ctx, t, leaf.File)
		if err != nil {
			return keys, nil, unread(err)
		}
		pub, err := public(file)
		if err != nil {
			continue
		}
		next, err := NewVerifier(keys[0].Name(), pub)
		if err != nil || slices.ContainsFunc(keys, func(v Verifier) bool { return v.KeyHash() == next.KeyHash() }) {
			continue
		}
		last, err := readFile(ctx, t, handoverName(next.KeyHash()))
		if errs.Is(err, errs.NotFound) {
			continue
		}
		if err != nil {
			return keys, nil, err
		}
		c, err := ParseCheckpoint(last, keys...)
		if err != nil || c.Size <= int64(i) || c.Size > now.Size {
			continue
		}
		if root, err := h.root(c.Size); err != nil || root != c.Root {
			continue
		}
		keys = append(slices.Clone(keys), next)
		steps = append(steps, Handover{leaf.File, i, next})
	}
	return keys, steps, nil
}

// unread is what reading did when it decides nothing.
func unread(err error) error {
	if errs.Is(err, errs.Unavailable) || errs.Is(err, errs.Interrupted) {
		return err
	}
	return nil
}

// Named gives the files that the log of a tree has leaves for; none where there is no
// log. No signature is looked at: an append checks them.
func Named(ctx context.Context, t store.Tree) (map[string]bool, error) {
	out := map[string]bool{}
	b, err := readFile(ctx, t, CheckpointFile)
	if errs.Is(err, errs.NotFound) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	text, _, _ := bytes.Cut(b, []byte("\n\n"))
	c, err := parseText(string(text) + "\n")
	if err != nil {
		return nil, err
	}
	records, err := readEntries(ctx, t, c.Size)
	if err != nil {
		return nil, err
	}
	more, err := unfinished(ctx, t, records)
	if err != nil {
		return nil, err
	}
	for _, r := range append(records, more...) {
		l, err := parseLeaf(r)
		if err != nil {
			return nil, err
		}
		out[l.File] = true
	}
	return out, nil
}
