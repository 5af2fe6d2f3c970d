package cycle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/prserv/fork"
	"slipway/internal/prserv/prdb"
)

// The PR and hash equivalence databases of the series are .slipway/databases/series.db;
// what a build adds lies in builds/<id>/ beside it until its candidate is decided.
// The decision is the document of the build: whoever comes next brings the
// databases to it ([Workspace.settleDatabases]), so that a crash in between leaves
// a decision without its effect for a while, and never an effect without one.

func (w *Workspace) overlay(id distro.BuildID) string {
	return w.internal("databases", "builds", string(id))
}

// Databases is the file with the PR and hash equivalence databases of the series.
func (w *Workspace) Databases() string { return w.internal("databases", "series.db") }

func (w *Workspace) openDatabases(ctx context.Context) (*fork.Base, error) {
	path := w.Databases()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, errs.E(errs.Unavailable, "make the folder of the databases", err)
	}
	if err := w.restoreDatabases(ctx, path); err != nil {
		return nil, err
	}
	b, err := fork.Open(path)
	return b, errs.Wrap(err, "PR and hash equivalence databases")
}

// settleDatabases adds the overlays of approved builds to the series' databases
// and removes those of builds that were rejected or failed.
func (w *Workspace) settleDatabases(ctx context.Context) (err error) {
	entries, err := os.ReadDir(w.internal("databases", "builds"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return errs.E(errs.Unavailable, "look for overlays of the databases", err)
	}
	var base *fork.Base
	defer func() {
		if base != nil {
			err = errors.Join(err, base.Close())
		}
	}()
	for _, e := range entries {
		id := distro.BuildID(e.Name())
		dir := w.overlay(id)
		b, err := w.Build(ctx, e.Name())
		switch {
		case errs.Is(err, errs.NotFound), err == nil && (b.Status == distro.BuildFail || b.Candidate.Status == distro.Rejected):
		case err != nil:
			return err
		case b.Candidate.Approval == nil:
			continue
		default:
			if base == nil {
				if base, err = w.openDatabases(ctx); err != nil {
					return err
				}
			}
			if _, err := base.Promote(ctx, dir); err != nil && !errs.Is(err, errs.NotFound) {
				return errs.Wrap(err, "add the numbers and hashes of build %s to the series", id)
			}
		}
		if err := removeAll(dir); err != nil {
			return err
		}
	}
	return nil
}

// numbers gives PR numbers from the series' database. A number is burned when it
// is given: it is on the disk before the builder hears of it, and whatever becomes
// of the build it is never given again. Gaps are fine.
type numbers struct {
	databases *fork.Base
	base      map[distro.NumberKey]int // of the base release
}

// Next gives a number above every one that was given for the key and above the
// base release's own.
func (n *numbers) Next(ctx context.Context, _ distro.BuildID, key distro.NumberKey) (int, error) {
	got, err := n.databases.PR.Reserve(ctx, fork.PRVersion(key.Source, key.Version), key.Arch, n.base[key])
	return got, errs.Wrap(err, "number for %s", key)
}

// oldNumber is a document of the kind "number", as programs before the databases wrote
// them: no number up to Last may be given again for its key.
type oldNumber struct {
	Key  distro.NumberKey `json:"key"`
	Last int              `json:"last"`
}

// burnedChecksum marks the rows of numbers that such programs gave: no output has it.
const burnedChecksum = "slipway:burned"

// burnOld brings the numbers that a program before the databases gave, those of failed
// and rejected builds too, into the series' database. What is there already is left
// alone, so it costs nothing after the first time; the documents stay.
func (n *numbers) burnOld(ctx context.Context, w *Workspace) error {
	docs, err := w.State.List(ctx, kindNumber)
	if err != nil {
		return err
	}
	var rows []prdb.Row
	for _, d := range docs {
		if !strings.HasPrefix(d.ID, w.Definition.Series.Name+"/") {
			continue
		}
		var o oldNumber
		if err := json.Unmarshal(d.Data, &o); err != nil || o.Key.Source == "" || o.Last < 0 {
			return errs.E(errs.Invalid, fmt.Sprintf("the number document %s of an older slipway cannot be read: numbers that it burned could be given again", d.ID), err, errs.Hint("restore .slipway/state.db from a backup"))
		}
		version := fork.PRVersion(o.Key.Source, o.Key.Version)
		most, err := n.databases.PR.Max(ctx, version, o.Key.Arch)
		if err != nil {
			return errs.Wrap(err, "numbers of %s", o.Key)
		}
		if last := strconv.Itoa(o.Last); o.Last > 0 && (most == "" || prdb.Compare(most, last) < 0) {
			rows = append(rows, prdb.Row{Version: version, Pkgarch: o.Key.Arch, Checksum: burnedChecksum, Value: last})
		}
	}
	if len(rows) == 0 {
		return nil
	}
	return errs.Wrap(n.databases.PR.Put(ctx, rows...), "burn the numbers of an older slipway")
}

// startFrom takes the numbers of the base release as those that were given: the
// database may be a new one. So may the whole workspace be of an older program.
func (n *numbers) startFrom(ctx context.Context, w *Workspace, v distro.Version) error {
	if err := n.burnOld(ctx, w); err != nil {
		return err
	}
	n.base = map[distro.NumberKey]int{}
	if v == "" {
		return nil
	}
	r, err := w.Release(ctx, v)
	for _, row := range r.Numbers {
		n.base[row.NumberKey] = row.Number
	}
	return err
}

// recordOutputs notes what a build made in its overlay, and writes the databases
// as they are with it to a file, which becomes an artifact.
func (n *numbers) recordOutputs(ctx context.Context, w *Workspace, b *Build, rows []distro.NumberRow) (path string, err error) {
	outputs := make([]fork.Output, len(rows))
	for i, r := range rows {
		outputs[i] = fork.Output{Recipe: r.Source, Version: r.Version, Arch: r.Arch, Number: r.Number, Inputs: r.Inputs.Hex(), Content: r.Content.Hex()}
	}
	dir := w.overlay(b.ID)
	if w.yocto() {
		outputs = nil // it has asked and reported itself
	}
	if err := n.databases.Record(ctx, dir, b.Created, outputs); err != nil {
		return "", errs.Wrap(err, "record numbers and hashes")
	}
	path = filepath.Join(w.work(b.ID), databasesName)
	if err := removeAll(path); err != nil {
		return "", err
	}
	return path, errs.Wrap(n.databases.SaveWith(ctx, dir, path), "save the databases")
}

// databasesName is the artifact, of class pr-database, that holds both databases.
const databasesName = "databases.db"
