package feed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/store"
	"slipway/internal/timestamp"
	"slipway/internal/tlog"
)

// Removal is the notice of a removal by law; its format is internal/timestamp's.
type (
	Removal     = timestamp.Removal
	RemovedFile = timestamp.RemovedFile
	Removed     = timestamp.Removed
)

// WriteRemoval writes the notice of a removal and its signature, of the metadata key.
// Nothing is removed by it. Write it before the snapshot that lists it.
func (p *Publisher) WriteRemoval(ctx context.Context, r Removal) error {
	if _, err := timestamp.ParseRemoval(r.Encode()); err != nil {
		return err
	}
	_, err := p.createSigned(ctx, p.Layout.Removal(r.Serial), ".asc", r.Encode(), r.At)
	return err
}

// Remove puts a notice in the place of the bytes that it names. It comes last: the
// notice, the snapshot that lists it and the log are there, durable, and the pointers
// have switched. Bytes that are not those which the notice names are not touched
// (Denied): they were never published under that name. Killed anywhere, each file is as it
// was or the notice, and the same call goes on. Nothing else removes published bytes.
func (p *Publisher) Remove(ctx context.Context, r Removal, progress func(done, total int)) error {
	doc := r.Encode()
	there, err := ReadFile(ctx, p.Tree, p.Layout.Removal(r.Serial))
	if err == nil && !bytes.Equal(there, doc) {
		err = errs.E(errs.Denied, p.Layout.Removal(r.Serial)+" is not the notice of this removal")
	}
	if err != nil {
		return errs.Wrap(err, "remove by law")
	}
	for i, f := range r.Files {
		if _, err := bury(ctx, p.Tree, f, doc); err != nil {
			return err
		}
		if progress != nil {
			progress(i+1, len(r.Files))
		}
	}
	return nil
}

// bury swaps one file for the notice, and reports whether it did; the notice in its place
// already is no error, nor is an absent file, which gets the notice.
func bury(ctx context.Context, t store.Tree, f RemovedFile, notice []byte) (bool, error) {
	b, err := t.Open(ctx, f.File)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return false, err
	}
	if err == nil {
		got, err := store.Hash(b)
		b.Close()
		if err != nil {
			return false, errs.E(errs.Unavailable, "read "+f.File, err)
		}
		if got == distro.DigestOf(notice) {
			return false, nil
		}
		if got != f.Digest {
			return false, errs.E(errs.Denied, fmt.Sprintf("%s is neither what was published nor the notice: %s, published was %s", f.File, got.Short(), f.Digest.Short()),
				errs.Hint("slipway verify says what else was changed; bring the file back from a mirror, then run the same command again"))
		}
	}
	return true, errs.Wrap(t.Swap(ctx, f.File, notice), "remove %s", f.File)
}

// notice reads what stands in a file's place, if that is the notice of its removal. No
// signature is looked at: it only says why a name is taken.
func (p *Publisher) notice(ctx context.Context, name string) (Removal, bool) {
	f, err := p.Tree.Open(ctx, name)
	if err != nil {
		return Removal{}, false
	}
	defer f.Close()
	if f.Size() > timestamp.MaxSize {
		return Removal{}, false
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return Removal{}, false
	}
	r, err := timestamp.ParseRemoval(b)
	return r, err == nil && slices.ContainsFunc(r.Files, func(x RemovedFile) bool { return x.File == name })
}

// Gone is a file that was removed by law, as a verification found it: the notice stands
// in its place, signed, and in the log where there is one.
type Gone struct {
	RemovedFile
	Notice string `json:"notice"` // its name in the publication
	At     string `json:"at"`
	By     string `json:"by"`
	Why    string `json:"because"`
}

// burial is what a verifier believes of a removed file.
type burial struct {
	file   RemovedFile
	by     Removal
	notice distro.Digest
}

// removals reads the notices that the newest snapshot lists. One counts when the metadata
// role signed it, a snapshot lists it and the log, where there is one, holds it.
func (v *verifier) removals() {
	v.removed = map[string]burial{}
	said := map[int]bool{}
	for _, serial := range sortedSerials(v.known) {
		now := map[int]bool{}
		for _, r := range v.known[serial].Removed {
			now[r.Serial], said[r.Serial] = true, true
			if r.Serial > serial {
				v.find("%s/snapshot.json: lists removal %d, which was not yet", v.l.Snapshot(serial), r.Serial)
			}
		}
		for _, r := range sortedSerials(said) {
			if !now[r] {
				v.find("%s/snapshot.json: removal %d was listed before, and is not any more", v.l.Snapshot(serial), r)
				delete(said, r)
			}
		}
	}
	for _, listed := range v.known[v.report.Serial].Removed {
		serial := listed.Serial
		name := v.l.Removal(serial)
		b := v.signed(name, ".asc")
		if b == nil {
			continue
		}
		if distro.DigestOf(b) != listed.Notice {
			v.find("%s: signed, but not the one that snapshot %d lists", name, v.report.Serial)
			continue
		}
		r, err := timestamp.ParseRemoval(b)
		switch {
		case err != nil:
			v.find("%s: %v", name, err)
			continue
		case r.Series != v.l.Series || r.Serial != serial:
			v.find("%s: it is the notice of removal %d of series %s", name, r.Serial, r.Series)
			continue
		case v.tlog != nil && !slices.ContainsFunc(v.tlog.Leaves, func(l tlog.Leaf) bool {
			return l.Type == tlog.Removal && l.File == name && l.Digest == distro.DigestOf(b)
		}):
			v.find("%s: not in the log: nothing was removed by it", name)
			continue
		}
		for _, f := range r.Files {
			if _, ok := v.removed[f.File]; !ok {
				v.removed[f.File] = burial{f, r, distro.DigestOf(b)}
			}
		}
	}
	for name, err := range v.t.List(v.ctx, path.Join(v.l.Series, "removals")+"/") {
		if err != nil {
			v.find("%s: %v", path.Join(v.l.Series, "removals"), err)
			return
		}
		serial, err := strconv.Atoi(strings.TrimSuffix(path.Base(name), ".json"))
		if err == nil && serial <= v.report.Serial && !said[serial] {
			v.find("%s: no snapshot lists it", name)
		}
	}
}

// buried checks what stands at the name of a removed file, got its digest, and reports
// whether that settles it.
func (v *verifier) buried(name string, got distro.Digest) bool {
	b, ok := v.removed[name]
	switch {
	case !ok:
		return false
	case got == b.notice:
		v.report.Removed = append(v.report.Removed, Gone{b.file, v.l.Removal(b.by.Serial), b.by.At.UTC().Format("2006-01-02T15:04:05Z"), b.by.By, b.by.Because})
		return true
	case got == b.file.Digest:
		v.report.Notes = append(v.report.Notes, fmt.Sprintf("%s: removed by law (%s), and its bytes are still here", name, v.l.Removal(b.by.Serial)))
	}
	return false
}

// stillOffered finds removed files that the feeds of today offer.
func (v *verifier) stillOffered() {
	if len(v.report.Unfinished) > 0 {
		return
	}
	for _, f := range v.known[v.report.Serial].Feeds {
		for _, folder := range []string{v.l.Current(f.Scope), v.l.History(f.Scope), path.Join(v.l.Snapshot(v.report.Serial), f.Scope)} {
			for _, name := range v.lists[folder] {
				if b, ok := v.removed[name]; ok {
					v.find("%s: %s offers it, and removal %d took it away", name, folder, b.by.Serial)
				}
			}
		}
	}
}

// exportedRemovals gives the removals that a publication's newest snapshots list, by the
// pointers that were read: each checked by trust, for a copy loses bytes by them.
func exportedRemovals(ctx context.Context, from store.Tree, pointers map[string][]byte, trust func(series string) (Trust, error)) ([]Removal, error) {
	var out []Removal
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range pointers {
			if rank(n) == 7 && !yield(n) {
				return
			}
		}
	}) {
		var cur Current
		if err := json.Unmarshal(pointers[name], &cur); err != nil {
			return nil, errs.E(errs.Invalid, name+" cannot be read", err)
		}
		l := Layout{cur.Series}
		b, err := ReadFile(ctx, from, l.Snapshot(cur.Serial)+"/snapshot.json")
		if err != nil {
			return nil, errs.Wrap(err, "the snapshot that %s names", name)
		}
		if distro.DigestOf(b) != cur.Snapshot {
			return nil, errs.E(errs.Denied, l.Snapshot(cur.Serial)+"/snapshot.json is not the one that "+name+" states", errs.Hint("slipway verify names every damaged file"))
		}
		s, err := timestamp.ParseSnapshot(b)
		if err != nil {
			return nil, errs.Wrap(err, "%s", l.Snapshot(cur.Serial))
		}
		if len(s.Removed) == 0 {
			continue
		}
		if trust == nil {
			return nil, errs.E(errs.Denied, fmt.Sprintf("series %s has removals by law, and no keys are trusted to check their notices with", cur.Series))
		}
		t, err := trust(cur.Series)
		if err != nil {
			return nil, err
		}
		v := &verifier{ctx: ctx, t: from, l: l, keys: t.Metadata, trust: t, claims: map[string][]claim{}, seen: map[string]string{},
			report: &Report{Series: cur.Series, Serial: cur.Serial}, known: map[int]Snapshot{cur.Serial: s}}
		if b := v.signed(l.Snapshot(cur.Serial)+"/snapshot.json", ".asc"); b != nil && len(v.doubts) > 0 {
			return nil, errs.E(errs.Denied, l.Snapshot(cur.Serial)+"/snapshot.json: signature", v.doubts[0].finding, errs.Hint("a key was revoked: publish a new serial first, slipway publish --resign for instance"))
		}
		v.removals() // the snapshot's digest answers for a notice by a key that was revoked later
		if len(v.report.Findings) > 0 {
			return nil, errs.E(errs.Denied, "the notices of removals are not as they were signed: "+strings.Join(v.report.Findings, "; "), errs.Hint("slipway verify says more; no byte of the copy was changed"))
		}
		have := map[int]bool{}
		for _, name := range sortedKeys(v.removed) {
			if r := v.removed[name].by; !have[r.Serial] {
				have[r.Serial] = true
				out = append(out, r)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Removal) int { return strings.Compare(a.Series, b.Series) })
	return out, nil
}
