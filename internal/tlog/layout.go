package tlog

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"slipway/internal/errs"
	"slipway/internal/store"
)

// The names in a publication.
const (
	CheckpointFile = "log/checkpoint" // the one pointer; everything else is written once
	height         = 8                // of tiles: 256 hashes
	width          = 1 << height
	entriesLevel   = -1 // of x/mod's tiles: the entries themselves
)

// tileName gives the name of a tile by the rules of C2SP tlog-tiles, which differ
// from those of Go's checksum database: no height, and "entries" for its "data".
func tileName(t tlog.Tile) string {
	p := strings.TrimPrefix(t.Path(), fmt.Sprintf("tile/%d/", t.H))
	if rest, ok := strings.CutPrefix(p, "data/"); ok {
		p = "entries/" + rest
	}
	return "log/tile/" + p
}

// bundleName gives the name of the n-th bundle of entries that holds w of them.
func bundleName(n int64, w int) string {
	return tileName(tlog.Tile{H: height, L: entriesLevel, N: n, W: w})
}

// bundle joins entries: each with its length in two bytes before it.
func bundle(entries [][]byte) []byte {
	var out []byte
	for _, e := range entries {
		out = binary.BigEndian.AppendUint16(out, uint16(len(e)))
		out = append(out, e...)
	}
	return out
}

// splitBundle takes a bundle of n entries apart.
func splitBundle(b []byte, n int) ([][]byte, error) {
	out := make([][]byte, 0, n)
	for len(b) > 0 {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return nil, errs.Ef(errs.Invalid, "entry %d of the bundle is cut short", len(out))
		}
		size := int(binary.BigEndian.Uint16(b))
		out = append(out, b[2:2+size])
		b = b[2+size:]
	}
	if len(out) != n {
		return nil, errs.Ef(errs.Invalid, "the bundle has %d entries, not %d", len(out), n)
	}
	return out, nil
}

// hashes are those of all complete subtrees, in x/mod's order.
type hashes []tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		if x >= int64(len(h)) {
			return nil, errs.Ef(errs.Internal, "hash %d of %d", x, len(h))
		}
		out[i] = h[x]
	}
	return out, nil
}

// hashAll gives the hashes of a tree over records.
func hashAll(records [][]byte) (hashes, error) {
	var h hashes
	for i, r := range records {
		more, err := tlog.StoredHashes(int64(i), r, h)
		if err != nil {
			return nil, errs.Wrap(err, "hash record %d", i)
		}
		h = append(h, more...)
	}
	return h, nil
}

// root gives the root of the tree over the first n records.
func (h hashes) root(n int64) (tlog.Hash, error) {
	r, err := tlog.TreeHash(n, h)
	return r, errs.Wrap(err, "root of the tree of %d", n)
}

// largest is more than any bundle: 256 entries of 64 KiB.
const largest = width * (2 + 1<<16)

func readFile(ctx context.Context, t store.Tree, name string) ([]byte, error) {
	f, err := t.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if f.Size() > largest {
		return nil, errs.Ef(errs.Invalid, "%s has %d bytes: it is no part of a log", name, f.Size())
	}
	b, err := io.ReadAll(f)
	return b, errs.Wrap(err, "read %s", name)
}
