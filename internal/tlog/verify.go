package tlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/store"
)

// Log is a log that was read whole and agrees with its checkpoint.
type Log struct {
	Checkpoint Checkpoint
	Leaves     []Leaf
	hashes     hashes
}

// Report is what Verify found.
type Report struct {
	Size int64 `json:"size"` // leaves
	// Unlogged are statements and snapshots in the tree that have no leaf: of a
	// publish that is at work or was cut off, or put there by somebody else.
	Unlogged []string `json:"unlogged,omitempty"`
	Findings []string `json:"findings"`
}

// Verify reads a log as a stranger would: the signature of its checkpoint by one of the
// keys, every entry and tile, every file that a leaf names, and the dates, which never go
// back within a series. seen is the checkpoint that was trusted last, or nil. All
// findings come at once; the Log is nil when there is none that agrees with its
// checkpoint. An error is returned only when the tree could not be read.
func Verify(ctx context.Context, t store.Tree, keys []Verifier, seen *Checkpoint) (*Log, *Report, error) {
	r := &Report{Findings: []string{}}
	find := func(format string, args ...any) { r.Findings = append(r.Findings, fmt.Sprintf(format, args...)) }
	l, err := read(ctx, t, keys)
	switch {
	case errs.Is(err, errs.Unavailable), errs.Is(err, errs.Interrupted):
		return nil, nil, err
	case err != nil:
		find("log: %v", err)
		if seen != nil && errs.Is(err, errs.NotFound) {
			find("log: a checkpoint of %d leaves was seen before: the log was removed, or cut", seen.Size)
		}
		return nil, r, nil
	}
	r.Size = l.Checkpoint.Size
	if seen != nil {
		if err := l.Consistent(*seen); err != nil {
			find("log: %v", err)
		}
	}
	for _, tile := range tlog.NewTiles(height, 0, r.Size) {
		want, err := tlog.ReadTileData(tile, l.hashes)
		if err != nil {
			return nil, nil, errs.Wrap(err, "verify the log")
		}
		if got, err := readFile(ctx, t, tileName(tile)); err != nil {
			find("%s: %v", tileName(tile), err)
		} else if !bytes.Equal(got, want) {
			find("%s: not what the entries make", tileName(tile))
		}
	}
	logged, last := map[string]bool{}, map[string]Leaf{}
	for _, leaf := range l.Leaves {
		if err := context.Cause(ctx); err != nil {
			return nil, nil, err
		}
		logged[leaf.File] = true
		if err := leaf.checkFile(ctx, t); errs.Is(err, errs.NotFound) {
			find("%s: removed; %s is in the log", leaf.File, leaf)
		} else if errs.Is(err, errs.Denied) {
			find("%s: replaced: %v", leaf.File, err)
		} else if err != nil {
			find("%s: %v", leaf.File, err)
		}
		if leaf.Type == Key { // named when the rotation begins, whatever else goes on
			continue
		}
		key := leaf.Series + "/" + string(leaf.Type)
		if was, ok := last[key]; ok && (leaf.At.Before(was.At) || leaf.Type != Release && leaf.Serial <= was.Serial) {
			find("%s: back-dated: %s of %s came into the log after %s of %s", leaf.File, leaf, day(leaf.At), was, day(was.At))
		}
		last[key] = leaf
	}
	for name, err := range t.List(ctx, "") {
		if err != nil {
			return nil, nil, err
		}
		if !logged[name] && isLogged(name) {
			r.Unlogged = append(r.Unlogged, name)
		}
	}
	return l, r, nil
}

func day(t time.Time) string { return t.Format(time.RFC3339) }

// isLogged reports whether a file of that name has a leaf: <series>/releases/
// <version>/release.json, <series>/snapshots/<serial>/snapshot.json and
// <series>/removals/<serial>.json.
func isLogged(name string) bool {
	release, _ := path.Match("*/releases/*/release.json", name)
	snapshot, _ := path.Match("*/snapshots/*/snapshot.json", name)
	removal, _ := path.Match("*/removals/*.json", name)
	return release || snapshot || removal
}

// read gives a log that agrees with its checkpoint.
func read(ctx context.Context, t store.Tree, keys []Verifier) (*Log, error) {
	b, err := readFile(ctx, t, CheckpointFile)
	if err != nil {
		return nil, err
	}
	l := &Log{}
	if l.Checkpoint, err = ParseCheckpoint(b, keys...); err != nil {
		return nil, err
	}
	records, err := readEntries(ctx, t, l.Checkpoint.Size)
	if err != nil {
		return nil, err
	}
	if l.hashes, err = hashAll(records); err != nil {
		return nil, err
	}
	if root, err := l.hashes.root(l.Checkpoint.Size); err != nil {
		return nil, err
	} else if root != l.Checkpoint.Root {
		return nil, errs.Ef(errs.Denied, "the entries are not those that the checkpoint of %d leaves signs", l.Checkpoint.Size)
	}
	for i, r := range records {
		leaf, err := parseLeaf(r)
		if err != nil {
			return nil, errs.Wrap(err, "entry %d", i)
		}
		l.Leaves = append(l.Leaves, leaf)
	}
	return l, nil
}

// Consistent checks that the log continues what an earlier checkpoint signed; if
// not, errs.Denied: something was removed, replaced or slipped in.
func (l *Log) Consistent(seen Checkpoint) error {
	hint := errs.Hint("keep both checkpoints: with their signatures they prove that the publisher, or whoever holds the log key, showed two histories")
	if seen.Size > l.Checkpoint.Size {
		return errs.E(errs.Denied, fmt.Sprintf("it was cut back: a checkpoint of %d leaves was seen before, now there are %d", seen.Size, l.Checkpoint.Size), hint)
	}
	root, err := l.hashes.root(seen.Size)
	if err != nil {
		return err
	}
	if seen.Size > 0 && root != seen.Root {
		return errs.E(errs.Denied, fmt.Sprintf("it was rewritten: its first %d leaves are not those of the checkpoint that was seen before", seen.Size), hint)
	}
	return nil
}

// LeafProof proves that a leaf is in the log of a checkpoint.
type LeafProof struct {
	Leaf       Leaf        `json:"leaf"`
	Index      int64       `json:"index"`
	Path       []tlog.Hash `json:"hashes"`
	Checkpoint string      `json:"checkpoint"` // the signed file
}

// Prove proves the leaf of a file; errs.NotFound when it has none.
func (l *Log) Prove(file string) (LeafProof, error) {
	for i, leaf := range l.Leaves {
		if leaf.File == file {
			p, err := tlog.ProveRecord(l.Checkpoint.Size, int64(i), l.hashes)
			return LeafProof{Leaf: leaf, Index: int64(i), Path: p, Checkpoint: string(l.Checkpoint.Note)}, errs.Wrap(err, "prove %s", file)
		}
	}
	return LeafProof{}, errs.E(errs.NotFound, file+" is not in the log", errs.Hint("a publish is at work, or it was never published by the holder of the log key"))
}

// CheckLeaf checks a proof: the leaf is for a file with that digest, and in the
// log that the checkpoint signs. Otherwise errs.Denied.
func CheckLeaf(p LeafProof, digest distro.Digest, keys ...Verifier) (Checkpoint, error) {
	c, err := ParseCheckpoint([]byte(p.Checkpoint), keys...)
	if err != nil {
		return c, err
	}
	if p.Leaf.Digest != digest {
		return c, errs.E(errs.Denied, fmt.Sprintf("%s has the digest %s, its leaf says %s", p.Leaf.File, digest, p.Leaf.Digest))
	}
	if p.Index < 0 || p.Index >= c.Size || tlog.CheckRecord(p.Path, c.Size, c.Root, p.Index, tlog.RecordHash(p.Leaf.entry())) != nil {
		return c, errs.E(errs.Denied, fmt.Sprintf("the leaf of %s is not in the log of %d leaves", p.Leaf, c.Size))
	}
	return c, nil
}

// SeenFile is where a user keeps the checkpoint of a log that was trusted last:
// below slipway/log in the folder for state ($XDG_STATE_HOME, else
// ~/.local/state).
func SeenFile(getenv func(string) string, origin string) string {
	state := getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		state = filepath.Join(getenv("HOME"), ".local", "state")
	}
	return filepath.Join(state, "slipway", "log", strings.ReplaceAll(origin, "/", "_")+".checkpoint")
}

// ReadSeen gives the checkpoint that was remembered, nil for none. It may be by any of
// the keys, one before that of today.
func ReadSeen(file string, keys ...Verifier) (*Checkpoint, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errs.E(errs.Unavailable, "read the checkpoint seen last", err)
	}
	c, err := ParseCheckpoint(b, keys...)
	if err != nil {
		return nil, errs.E(errs.Denied, file+" is no checkpoint of this log", err, errs.Hint("when the log has a new key on purpose, remove that file; else ask the publisher"))
	}
	return &c, nil
}

// Remember keeps a checkpoint that was verified. It never goes back: a shorter one
// than what the file holds changes nothing.
func Remember(file string, c Checkpoint, keys ...Verifier) error {
	was, err := ReadSeen(file, keys...)
	if err != nil || was != nil && was.Size >= c.Size {
		return err
	}
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return errs.E(errs.Unavailable, "remember the checkpoint", err)
	}
	t, err := store.OpenTree(dir) // writes, syncs and renames
	if err != nil {
		return err
	}
	return errs.Wrap(t.Swap(context.Background(), filepath.Base(file), c.Note), "remember the checkpoint")
}
