package feed

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/keyring"
	"slipway/internal/rpm"
	"slipway/internal/sign"
	"slipway/internal/store"
	"slipway/internal/tlog"
)

// Trust is what a stranger takes as given: the public keys of each role. One key
// may stand in several.
type Trust struct {
	Package, Metadata, Log []*sign.Public
	// Ring, where there is one, says more: when each key counts, and which was revoked.
	// What a key signed that was revoked later counts when the log had it before.
	Ring *keyring.Keyring
}

// Inspection says how a publication is verified.
type Inspection struct {
	Workers int // packages at once; 0 for 1
	// File asks about one package, of that name for people: only this package of
	// the pool is read, and Report.Package says where it comes from. Statements,
	// snapshots, indexes and the log are verified all the same.
	File     store.Blob
	FileName string
	// SeenLog gives the file that holds the checkpoint of a log which was trusted
	// last, by the log's origin; nil remembers nothing. LogOrigin is the origin of
	// the log that was seen here before, "" for none.
	SeenLog   func(origin string) string
	LogOrigin string
	// LogOptional: the keys of Trust.Log were named without saying which is the log's,
	// so a log that none of them signs is a note.
	LogOptional bool
	Progress    func(done, total int)
}

// Proof says where a package comes from.
type Proof struct {
	File         string         `json:"file"` // as it was asked about
	Name         string         `json:"name"` // in the publication
	Package      string         `json:"package"`
	Release      distro.Version `json:"release"` // that brought it
	Serial       int            `json:"serial"`
	At           time.Time      `json:"at"`
	Digest       distro.Digest  `json:"digest"`
	HeaderDigest distro.Digest  `json:"header_digest"`
	Where        string         `json:"where"` // InCurrent, InHistory, Unlisted
	Statement    string         `json:"statement"`
	// Leaf and Size: the statement is entry Leaf of a log of Size entries, proved to
	// the checkpoint. Size is 0 when there is no log.
	Leaf int64 `json:"leaf"`
	Size int64 `json:"log_size"`
}

// Inspect is [Verify] with a key for each role, in parallel, with the transparency
// log, and for one package. A tree that cannot be read to the end, as when the
// network fails, is an error and no finding. A publication that is switched while
// it is read is read again.
func Inspect(ctx context.Context, t store.Tree, series string, trust Trust, o Inspection) (*Report, error) {
	for again := 2; ; again-- {
		attempt, cancel := context.WithCancelCause(ctx)
		before, _ := ReadFile(ctx, t, Layout{series}.Timestamp())
		r, err := inspect(attempt, reachable{t, cancel}, series, trust, o)
		if cause := context.Cause(attempt); cause != nil {
			r, err = nil, cause
		}
		cancel(nil)
		if err != nil || len(r.Findings) == 0 || again == 0 {
			return r, err
		}
		if after, err := ReadFile(ctx, t, Layout{series}.Timestamp()); err != nil || string(before) == string(after) {
			return r, nil
		}
	}
}

// reachable ends everything when a file cannot be fetched: what the network did is
// nothing that the publisher did.
type reachable struct {
	store.Tree
	stop context.CancelCauseFunc
}

func (r reachable) Open(ctx context.Context, name string) (store.Blob, error) {
	b, err := r.Tree.Open(ctx, name)
	if errs.Is(err, errs.Unavailable) {
		r.stop(err)
	}
	return b, err
}

// claim is what a statement says of a file name.
type claim struct {
	release distro.Version
	serial  int
	at      time.Time
	name    string // in the publication
	record  distro.PackageRecord
}

// claim notes what a statement says of a package. Two statements that give one
// name to different content are a finding.
func (v *verifier) claim(name string, s distro.Statement, r distro.PackageRecord) {
	c := claim{s.Version, s.Serial, s.At, name, r}
	key := path.Join(r.Scope, r.File)
	for _, other := range v.claims[key] {
		if other.record.HeaderDigest != r.HeaderDigest {
			v.find("%s: release %s states it with header %s, release %s with %s", name, s.Version, r.HeaderDigest.Short(), other.release, other.record.HeaderDigest.Short())
		} else if other.name == name && other.record.Digest != r.Digest {
			v.find("%s: release %s states %s, release %s states %s", name, s.Version, r.Digest.Short(), other.release, other.record.Digest.Short())
		}
	}
	v.claims[key] = append(v.claims[key], c)
}

// packages reads those of the pool and whatever else statements answer for, several at
// once; findings come in the order of their names.
func (v *verifier) packages(o Inspection) error {
	names := sortedKeys(v.seen)
	others := v.answered()
	if o.File != nil {
		others = nil
		name, err := v.asked(o)
		if err != nil {
			return err
		}
		names = names[:0]
		if name != "" {
			names = append(names, name)
		}
	}
	packages := len(names)
	names = append(names, others...)
	findings := make([][]string, len(names))
	digests := make([]distro.Digest, len(names))
	var mu sync.Mutex
	var wg sync.WaitGroup
	next, done := 0, 0
	for range max(1, o.Workers) {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= len(names) || v.ctx.Err() != nil {
					return
				}
				w := *v
				w.report = &Report{}
				digests[i] = w.pkg(names[i], v.seen[names[i]])
				findings[i] = w.report.Findings
				mu.Lock()
				v.report.Removed = append(v.report.Removed, w.report.Removed...)
				v.report.Notes = append(v.report.Notes, w.report.Notes...)
				if done++; o.Progress != nil {
					o.Progress(done, len(names))
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := context.Cause(v.ctx); err != nil {
		return err
	}
	slices.SortFunc(v.report.Removed, func(a, b Gone) int { return strings.Compare(a.File, b.File) })
	slices.Sort(v.report.Notes)
	v.report.Packages, v.report.Files = packages, len(others)
	v.report.Findings = append(v.report.Findings, slices.Concat(findings...)...)
	var hashed map[string]distro.Digest
	if o.File == nil {
		hashed = map[string]distro.Digest{}
		for i, name := range names {
			if digests[i] != "" {
				hashed[name] = digests[i]
			}
		}
	}
	v.roots(hashed)
	return nil
}

// asked finds where the one package comes from, and gives its name in the
// publication, "" when nobody published it.
func (v *verifier) asked(o Inspection) (string, error) {
	digest, err := store.Hash(o.File)
	if err != nil {
		return "", errs.E(errs.Unavailable, "read "+o.FileName, err)
	}
	p, err := rpm.Read(o.File, o.File.Size(), o.FileName)
	if err != nil {
		return "", err
	}
	var same, header, named []claim
	for _, k := range sortedKeys(v.claims) {
		for _, c := range v.claims[k] {
			r := c.record
			switch {
			case r.Digest == digest:
				same = append(same, c)
			case r.HeaderDigest == p.HeaderDigest:
				header = append(header, c)
			case r.Name == p.Name && r.EVR() == p.EVR() && r.Arch == p.Arch:
				named = append(named, c)
			}
		}
	}
	first := func(l []claim) claim {
		return slices.MinFunc(l, func(a, b claim) int { return cmp.Compare(a.serial, b.serial) })
	}
	if len(same) == 0 {
		switch {
		case len(header) > 0:
			c := first(header)
			v.find("%s: the package is %s of release %s, but the file is not: its signature was removed or replaced, or its payload changed (%s here, %s published)", o.FileName, c.name, c.release, digest.Short(), c.record.Digest.Short())
		case len(named) > 0:
			c := first(named)
			v.find("%s: not what was published under its name: release %s has %s with header %s, this is %s", o.FileName, c.release, c.record.NEVRA(), c.record.HeaderDigest.Short(), p.HeaderDigest.Short())
		default:
			v.find("%s: no release of series %s published it", o.FileName, v.l.Series)
		}
		return "", nil
	}
	c := first(same)
	for _, other := range named {
		v.find("%s: release %s claims its name for other content: header %s", o.FileName, other.release, other.record.HeaderDigest.Short())
	}
	v.report.Package = &Proof{File: o.FileName, Name: c.name, Package: c.record.NEVRA(), Release: c.release, Serial: c.serial, At: c.at, Digest: digest, HeaderDigest: p.HeaderDigest,
		Where: Unlisted, Statement: v.l.Statement(c.release)}
	for _, in := range []struct{ folder, where string }{{v.l.History(c.record.Scope), InHistory}, {v.l.Current(c.record.Scope), InCurrent}} {
		if slices.Contains(v.lists[in.folder], c.name) {
			v.report.Package.Where = in.where
		}
	}
	if v.tlog != nil {
		return c.name, v.prove(v.report.Package)
	}
	return c.name, nil
}

// prove leads from the file to its statement's root, and from the statement to the
// checkpoint.
func (v *verifier) prove(p *Proof) error {
	for _, s := range v.read {
		if s.Version != p.Release || s.FilesRoot == "" {
			continue
		}
		hop, err := tlog.Prove(v.l.Files(s), p.Name)
		if err != nil {
			return err
		}
		hop.File.SHA256 = p.Digest // of the bytes that were asked about
		if err := tlog.CheckFile(hop, s.FilesRoot); err != nil {
			v.find("%s: %v", p.File, err)
			return nil
		}
	}
	proof, err := v.tlog.Prove(p.Statement)
	if errs.Is(err, errs.NotFound) {
		v.find("%s: release %s states it, but is not in the log", p.File, p.Release)
		return nil
	}
	if err != nil {
		return err
	}
	b, err := ReadFile(v.ctx, v.t, p.Statement)
	if err != nil {
		return err
	}
	if _, err := tlog.CheckLeaf(proof, distro.DigestOf(b), v.logKeys...); err != nil {
		v.find("%s: %v", p.Statement, err)
		return nil
	}
	p.Leaf, p.Size = proof.Index, v.tlog.Checkpoint.Size
	return nil
}

// log verifies the transparency log where there is one, and remembers its
// checkpoint when all of it is sound.
func (v *verifier) log(o Inspection) error {
	b, err := ReadFile(v.ctx, v.t, tlog.CheckpointFile)
	gone := errs.Is(err, errs.NotFound)
	if err != nil && !gone {
		return err
	}
	origin := o.LogOrigin
	if !gone {
		origin, _, _ = strings.Cut(string(b), "\n")
	}
	if origin == "" {
		return nil // no log, and none was seen before
	}
	if gone {
		v.find("%s: gone; a log of %s was seen here before", tlog.CheckpointFile, origin)
		return nil
	}
	signed, err := v.findLogKeys(origin, b)
	switch {
	case err != nil:
		return err
	case !signed && o.LogOptional:
		v.report.Notes = append(v.report.Notes, "the transparency log was not checked: none of the keys that are trusted is the one of "+origin)
		return nil
	case len(v.logKeys) == 0:
		v.find("%s: no log key is trusted, so the transparency log proves nothing", tlog.CheckpointFile)
		return nil
	}
	seenFile := ""
	var seen *tlog.Checkpoint
	mine := v.remembered(origin)
	if o.SeenLog != nil {
		seenFile = o.SeenLog(origin)
		if seen, err = tlog.ReadSeen(seenFile, mine...); errs.Is(err, errs.Denied) {
			v.find("%s: %v", tlog.CheckpointFile, err)
			seenFile = ""
		} else if err != nil {
			return err
		}
	}
	l, r, err := tlog.Verify(v.ctx, v.t, v.logKeys, seen)
	if err != nil {
		return err
	}
	found := len(v.report.Findings)
	v.report.Logged, v.report.LogOrigin = r.Size, origin
	v.report.Findings = append(v.report.Findings, r.Findings...)
	for _, name := range r.Unlogged {
		if v.reached(name) {
			v.find("%s: published, but not in the log", name)
		}
	}
	v.tlog = l
	if l == nil || seenFile == "" || len(v.report.Findings) > found {
		return nil
	}
	return tlog.Remember(seenFile, l.Checkpoint, mine...)
}

// findLogKeys gives the keys that a log's checkpoint may bear, and reports whether it
// bears one. Without a keyring, which would say it, they are those that are trusted and
// those that these handed the log over to.
func (v *verifier) findLogKeys(origin string, checkpoint []byte) (bool, error) {
	for _, k := range v.trust.Log {
		bare, ok := k.Ed25519()
		if !ok {
			continue
		}
		key, err := tlog.NewVerifier(origin, bare)
		if err != nil {
			v.find("%s: %v", tlog.CheckpointFile, err)
			return false, nil
		}
		if !slices.ContainsFunc(v.logKeys, func(x tlog.Verifier) bool { return x.KeyHash() == key.KeyHash() }) {
			v.logKeys = append(v.logKeys, key)
		}
	}
	if len(v.logKeys) == 0 {
		return false, nil
	}
	if v.trust.Ring == nil {
		var steps []tlog.Handover
		var err error
		if v.logKeys, steps, err = tlog.Follow(v.ctx, v.t, v.logKeys, bareKey); err != nil {
			return false, err
		}
		for _, s := range steps {
			v.report.Notes = append(v.report.Notes, fmt.Sprintf("the transparency log has a new key, %s: the key before it says so, in entry %d", s.File, s.Entry))
		}
	}
	_, err := tlog.ParseCheckpoint(checkpoint, v.logKeys...)
	return err == nil, nil
}

// remembered gives the keys that a checkpoint which was seen before may bear: those of
// today, and every one that the keyring ever had. It was good when it was seen.
func (v *verifier) remembered(origin string) []tlog.Verifier {
	keys := slices.Clone(v.logKeys)
	if v.trust.Ring == nil {
		return keys
	}
	for _, k := range v.trust.Ring.Of(keyring.Log) {
		p, err := k.Public()
		if err != nil {
			continue
		}
		if bare, ok := p.Ed25519(); ok {
			key, err := tlog.NewVerifier(origin, bare)
			if err == nil && !slices.ContainsFunc(keys, func(x tlog.Verifier) bool { return x.KeyHash() == key.KeyHash() }) {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// bareKey reads a log key's file.
func bareKey(file []byte) (ed25519.PublicKey, error) {
	keys, err := sign.ParsePublic(file)
	if err != nil {
		return nil, err
	}
	if bare, ok := keys[0].Ed25519(); ok && len(keys) == 1 {
		return bare, nil
	}
	return nil, errs.E(errs.Invalid, "this is no log key")
}

// reached reports whether a statement or snapshot of this series is one that
// current.json has come to: others are of a publish at work.
func (v *verifier) reached(name string) bool {
	for serial, s := range v.known {
		if name == v.l.Snapshot(serial)+"/snapshot.json" || name == v.l.Statement(s.Release) {
			return true
		}
	}
	for _, r := range v.known[v.report.Serial].Removed {
		if name == v.l.Removal(r.Serial) {
			return true
		}
	}
	for serial, release := range v.stated {
		if serial <= v.report.Serial && name == v.l.Statement(release) {
			return true
		}
	}
	return false
}
