package feed

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/tlog"
)

// Files gives the files of the publication that a statement answers for, with their
// digests: packages and whatever artifact is published. Their Merkle root is the
// statement's files_root.
func (l Layout) Files(s distro.Statement) []tlog.File {
	var out []tlog.File
	for _, r := range s.Packages {
		out = append(out, tlog.File{Path: l.Package(r), SHA256: r.Digest})
	}
	for _, a := range s.Artifacts {
		if a.File != "" {
			out = append(out, tlog.File{Path: a.File, SHA256: a.Digest})
		}
	}
	return out
}

// WriteLog enters what an edition wrote into the transparency log: the release's
// statement, when the edition brings one, and the snapshot. Call it when both are
// written, and before [Publisher.Switch]. A log that begins takes in first what was
// published before it. Without a log key there is no log; a publication that has one
// does not go on without (Denied).
func (p *Publisher) WriteLog(ctx context.Context, e Edition) error {
	_, err := p.Tree.Stat(ctx, tlog.CheckpointFile)
	begins := errs.Is(err, errs.NotFound)
	if err != nil && !begins {
		return err
	}
	if p.Log == nil {
		if begins {
			return nil
		}
		return errs.E(errs.Denied, "the publication has a transparency log, and there is no log key to go on with", errs.Hint("put the log key back into the key folder; slipway key list says which is not here"))
	}
	var leaves []tlog.Leaf
	if begins {
		at, err := Moments(ctx, p.Tree, p.Layout.Series)
		if err != nil {
			return err
		}
		for _, x := range at.Entries {
			if x.Serial < e.Serial {
				more, err := p.leaves(ctx, x.Serial, x.Release)
				if err != nil {
					return err
				}
				leaves = append(leaves, more...)
			}
		}
	}
	more, err := p.leaves(ctx, e.Serial, e.Release)
	if err != nil {
		return err
	}
	keys, err := p.keyLeaves(ctx, e.At)
	if err != nil {
		return err
	}
	_, err = tlog.AppendAfter(ctx, p.Tree, p.Log, p.LogBefore, append(append(leaves, keys...), more...)...)
	return errs.Wrap(err, "enter serial %d into the log", e.Serial)
}

// WriteLogKeys enters the log keys that the log does not name yet, and lets the key of
// today sign the checkpoint: whoever trusts the key before it alone can follow then. It
// does nothing where there is no log, or no log key.
func (p *Publisher) WriteLogKeys(ctx context.Context, now time.Time) error {
	if _, err := p.Tree.Stat(ctx, tlog.CheckpointFile); p.Log == nil || errs.Is(err, errs.NotFound) {
		return nil
	} else if err != nil {
		return err
	}
	keys, err := p.keyLeaves(ctx, now)
	if err != nil {
		return err
	}
	_, err = tlog.AppendAfter(ctx, p.Tree, p.Log, p.LogBefore, keys...)
	return errs.Wrap(err, "enter the log's keys into it")
}

// keyLeaves gives a leaf for each of LogKeys that the log does not name.
func (p *Publisher) keyLeaves(ctx context.Context, at time.Time) ([]tlog.Leaf, error) {
	if len(p.LogKeys) == 0 {
		return nil, nil
	}
	named, err := tlog.Named(ctx, p.Tree)
	if err != nil {
		return nil, err
	}
	var out []tlog.Leaf
	for _, file := range p.LogKeys {
		name := "keys/" + file
		if named[name] {
			continue
		}
		b, err := ReadFile(ctx, p.Tree, name)
		if err != nil {
			return nil, errs.Wrap(err, "enter the log key %s into the log", name)
		}
		out = append(out, tlog.Leaf{Type: tlog.Key, At: second(at), File: name, Digest: distro.DigestOf(b)})
	}
	return out, nil
}

// leaves gives those of a serial, as the tree holds its files.
func (p *Publisher) leaves(ctx context.Context, serial int, release distro.Version) ([]tlog.Leaf, error) {
	var out []tlog.Leaf
	name := p.Layout.Statement(release)
	b, err := ReadFile(ctx, p.Tree, name)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return nil, err
	}
	if err == nil {
		var s distro.Statement
		if err := json.Unmarshal(b, &s); err != nil {
			return nil, errs.E(errs.Invalid, name+" cannot be read", err)
		}
		if s.Serial == serial { // another serial of a release brings no statement
			out = append(out, tlog.Leaf{Type: tlog.Release, Series: p.Layout.Series, Version: release, At: second(s.At), File: name, Digest: distro.DigestOf(b)})
		}
	}
	name = p.Layout.Snapshot(serial) + "/snapshot.json"
	if b, err = ReadFile(ctx, p.Tree, name); err != nil {
		return nil, errs.Wrap(err, "the snapshot of serial %d", serial)
	}
	var s Snapshot
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, errs.E(errs.Invalid, fmt.Sprintf("%s cannot be read", name), err)
	}
	out = append(out, tlog.Leaf{Type: tlog.Snapshot, Series: p.Layout.Series, Serial: serial, At: second(s.At), File: name, Digest: distro.DigestOf(b)})
	if slices.ContainsFunc(s.Removed, func(r Removed) bool { return r.Serial == serial }) {
		name = p.Layout.Removal(serial)
		if b, err = ReadFile(ctx, p.Tree, name); err != nil {
			return nil, errs.Wrap(err, "the notice of removal %d", serial)
		}
		out = append(out, tlog.Leaf{Type: tlog.Removal, Series: p.Layout.Series, Serial: serial, At: second(s.At), File: name, Digest: distro.DigestOf(b)})
	}
	return out, nil
}

func second(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
