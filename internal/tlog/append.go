package tlog

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"slipway/internal/errs"
	"slipway/internal/store"
)

// identity is what a log holds once.
type identity struct {
	typ    Type
	series string
	what   string
}

func (l Leaf) identity() identity {
	if l.Type == Key {
		return identity{typ: Key, what: l.File}
	}
	return identity{l.Type, l.Series, fmt.Sprint(l.Version, l.Serial)}
}

// Append adds leaves that the log does not hold yet, in their order, and gives the
// checkpoint. A leaf that it holds is skipped; the same release or snapshot with
// other content is errs.Conflict, and nothing is written. A checkpoint by another
// key is errs.Denied. The files of the leaves must be in the tree.
func Append(ctx context.Context, t store.Tree, s Signer, leaves ...Leaf) (Checkpoint, error) {
	return AppendAfter(ctx, t, s, nil, leaves...)
}

// AppendAfter is [Append] by a key that follows others: a checkpoint by one of before is
// continued, too. It is kept then, as the handover to the new key: who trusts the old
// one alone finds the way from there ([Follow]).
func AppendAfter(ctx context.Context, t store.Tree, s Signer, before []Verifier, leaves ...Leaf) (Checkpoint, error) {
	old, records, follows, err := load(ctx, t, s, before)
	if err != nil {
		return old, err
	}
	held := map[identity]Leaf{}
	for i, r := range records {
		l, err := parseLeaf(r)
		if err != nil {
			return old, errs.Wrap(err, "entry %d of the log", i)
		}
		held[l.identity()] = l
	}
	for _, l := range leaves {
		if err := l.check(); err != nil {
			return old, err
		}
		if was, ok := held[l.identity()]; ok && !bytes.Equal(was.entry(), l.entry()) {
			return old, errs.E(errs.Conflict, fmt.Sprintf("the log holds %s with other content: %s of %s there, %s of %s here", l, was.Digest.Short(), was.At, l.Digest.Short(), l.At),
				errs.Hint("what is in the log is for ever: give the new content a new version or serial"))
		} else if !ok {
			held[l.identity()] = l
			records = append(records, l.entry())
		}
	}
	size := int64(len(records))
	if size == old.Size && old.Note != nil && !follows {
		return old, nil
	}
	if follows {
		if err := handOver(ctx, t, s, old); err != nil {
			return old, err
		}
	}
	h, err := hashAll(records)
	if err != nil {
		return old, err
	}
	if err := write(ctx, t, old.Size, records, h); err != nil {
		return old, errs.Wrap(err, "write the log")
	}
	root, err := h.root(size)
	if err != nil {
		return old, err
	}
	next, err := signed(s, size, root)
	if err != nil {
		return old, err
	}
	return next, errs.Wrap(t.Swap(ctx, CheckpointFile, next.Note), "switch the log to %d leaves", size)
}

// load reads the checkpoint and the entries, also those beyond it that an append
// wrote which never came to its end: their names are taken, and write-once. It reports
// whether the checkpoint is by one of before.
func load(ctx context.Context, t store.Tree, s Signer, before []Verifier) (_ Checkpoint, _ [][]byte, follows bool, _ error) {
	old := Checkpoint{Origin: s.Name()}
	b, err := readFile(ctx, t, CheckpointFile)
	switch {
	case errs.Is(err, errs.NotFound):
	case err != nil:
		return old, nil, false, err
	default:
		if old, follows, err = own(b, s, before); err != nil {
			return old, nil, false, err
		}
	}
	records, err := readEntries(ctx, t, old.Size)
	if err != nil {
		return old, nil, false, err
	}
	h, err := hashAll(records)
	if err != nil {
		return old, nil, false, err
	}
	if root, err := h.root(old.Size); err != nil {
		return old, nil, false, err
	} else if old.Size > 0 && root != old.Root {
		return old, nil, false, errs.E(errs.Denied, "the entries of the log are not those that its checkpoint signs", errs.Hint("restore log/ from a mirror or an export of the publication"))
	}
	more, err := unfinished(ctx, t, records)
	return old, append(records, more...), follows, err
}

// own reads a checkpoint that this key signed, or one of those before it.
func own(b []byte, s Signer, before []Verifier) (c Checkpoint, follows bool, err error) {
	// Ed25519 is deterministic: the key's checkpoint is the one that it would sign again.
	if c, err = ParseCheckpoint(b, trusting{s}); err == nil {
		again, err := signed(s, c.Size, c.Root)
		if err != nil || bytes.Equal(again.Note, b) {
			return c, false, err
		}
	}
	if len(before) > 0 {
		if c, err := ParseCheckpoint(b, before...); err == nil {
			return c, true, nil
		}
	}
	return c, false, errs.E(errs.Denied, "the checkpoint of the log was not signed by this log key, nor by one before it", errs.Hint("put back the distribution's log key; slipway verify says whether the log was changed"))
}

// trusting takes any signature of its name: load compares afterwards.
type trusting struct{ Signer }

func (trusting) Verify([]byte, []byte) bool { return true }

// unfinished gives the entries beyond those of the checkpoint. Only leaves whose
// file is in the tree count: nothing else is worth a signature.
func unfinished(ctx context.Context, t store.Tree, records [][]byte) ([][]byte, error) {
	size := len(records)
	var more [][]byte
	for n := int64(size / width); ; n++ {
		have := size + len(more) - int(n)*width // entries of this bundle that are known
		w, err := widest(ctx, t, n)
		if err != nil || w <= have {
			return more, err
		}
		name := bundleName(n, w)
		b, err := readFile(ctx, t, name)
		if err != nil {
			return nil, err
		}
		entries, err := splitBundle(b, w)
		if err != nil {
			return nil, errs.Wrap(err, "%s", name)
		}
		for _, e := range entries[have:] {
			l, err := parseLeaf(e)
			if err == nil {
				err = l.checkFile(ctx, t)
			}
			if err != nil {
				return nil, errs.E(errs.Denied, name+" holds an entry that slipway did not write", err, errs.Hint("remove that file: the checkpoint does not cover it"))
			}
		}
		if more = append(more, entries[have:]...); w < width {
			return more, nil
		}
	}
}

// widest gives the most entries that a bundle n of the tree has; 0 for none.
func widest(ctx context.Context, t store.Tree, n int64) (int, error) {
	most, full := 0, bundleName(n, width)
	for name, err := range t.List(ctx, full) {
		if err != nil {
			return 0, err
		}
		if name == full {
			return width, nil
		}
		if w, err := strconv.Atoi(strings.TrimPrefix(name, full+".p/")); err == nil && name == bundleName(n, w) {
			most = max(most, w)
		}
	}
	return most, nil
}

// checkFile compares the leaf with its file.
func (l Leaf) checkFile(ctx context.Context, t store.Tree) error {
	f, err := t.Open(ctx, l.File)
	if err != nil {
		return err
	}
	defer f.Close()
	d, err := store.Hash(f)
	if err == nil && d != l.Digest {
		err = errs.Ef(errs.Denied, "%s has the digest %s, the log says %s", l.File, d, l.Digest)
	}
	return err
}

// readEntries reads the first size entries, from full bundles and, at the end,
// from one of exactly as many as are left.
func readEntries(ctx context.Context, t store.Tree, size int64) ([][]byte, error) {
	var out [][]byte
	for n := int64(0); n*width < size; n++ {
		w := int(min(width, size-n*width))
		b, err := readFile(ctx, t, bundleName(n, w))
		if err != nil {
			return nil, errs.Wrap(err, "read the log")
		}
		entries, err := splitBundle(b, w)
		if err != nil {
			return nil, errs.Wrap(err, "%s", bundleName(n, w))
		}
		out = append(out, entries...)
	}
	return out, nil
}

// write creates what a log of all records has and one of the first old has not.
func write(ctx context.Context, t store.Tree, old int64, records [][]byte, h hashes) error {
	size := int64(len(records))
	for n := old / width; n*width < size; n++ {
		part := records[n*width : min(size, (n+1)*width)]
		if err := t.Create(ctx, bundleName(n, len(part)), bytes.NewReader(bundle(part))); err != nil {
			return err
		}
	}
	for _, tile := range tlog.NewTiles(height, old, size) {
		data, err := tlog.ReadTileData(tile, h)
		if err != nil {
			return errs.Wrap(err, "tile %s", tileName(tile))
		}
		if err := t.Create(ctx, tileName(tile), bytes.NewReader(data)); err != nil {
			return err
		}
	}
	return nil
}
