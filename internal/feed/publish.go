package feed

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"sort"
	"sync"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpm"
	"slipway/internal/sign"
	"slipway/internal/store"
	"slipway/internal/tlog"
)

// Signer makes detached OpenPGP signatures; sign.Key is one.
type Signer interface {
	// Sign gives a binary signature over message, dated at; equal input gives equal bytes.
	Sign(ctx context.Context, message io.Reader, at time.Time) ([]byte, error)
	// RPMTag is the tag of the signature header that a signature by this key goes into.
	RPMTag() int
	PublicArmored() []byte
	Fingerprint() string
}

// Publisher writes the feeds of one series into one tree. Its methods are the
// steps of a publication, each safe to repeat after a crash: with the same
// arguments they write the same bytes. Only [Publisher.Switch] changes what a
// client sees.
type Publisher struct {
	Tree         store.Tree
	Layout       Layout
	Distribution string
	Title        string
	Package      Signer            // signs packages
	Metadata     Signer            // signs repomd.xml, snapshots and statements
	Epoch        int               // key epoch that Package signs into; 0 is 1
	SignedBy     string            // role of Package, when it is another: distro.Bridged
	Keys         map[string][]byte // the files below keys/, as keyring.Folder.Files gives them; nil: the two keys alone
	Log          tlog.Signer       // of the transparency log's checkpoints; nil: there is none
	LogBefore    []tlog.Verifier   // log keys whose checkpoints Log continues
	LogKeys      []string          // files below keys/ of the log keys that the log names: all but the first
	Scopes       []string          // the scopes that every index has, even when empty
	Support      Support           // what the signed pointer says beside the serial

	// Cache is a folder of ours for what the next publish should not find out
	// again (docs/format/index-state.md); "" keeps nothing. It decides no byte of
	// the publication, and may be removed at any time.
	Cache string

	mu      sync.Mutex
	headers map[string]*rpm.Package // by name in the tree
	pending map[string]*scopeIndex  // by scope: what WriteSnapshot made, for Switch
}

// Conflicts reports every new package whose file name is already in the pool
// with other content. Nothing is written; call it before AddPackage, so that a
// refusal leaves no half publication.
func (p *Publisher) Conflicts(ctx context.Context, records []distro.PackageRecord) error {
	var found errs.List
	for _, r := range records {
		if err := p.conflict(ctx, r); err != nil {
			found = append(found, err)
		}
	}
	return found.Err()
}

// WriteStatement writes a release's statement and its signature.
func (p *Publisher) WriteStatement(ctx context.Context, s distro.Statement) error {
	_, err := p.createSigned(ctx, p.Layout.Statement(s.Version), ".sig", distro.CanonicalJSON(s), s.At)
	return err
}

// Switch makes an edition current. It writes the data files of history and
// current, waits until everything written before is durable, then switches the
// pointers: history, current, at.json, timestamp.json, and current.json last of all.
func (p *Publisher) Switch(ctx context.Context, e Edition, s Snapshot) error {
	made, err := p.switchIndexes(ctx, e)
	defer made.close()
	if err != nil {
		return err
	}
	if err := p.appendAt(ctx, e); err != nil {
		return err
	}
	snapshot := distro.DigestOf(distro.CanonicalJSON(s))
	c := Current{Schema: 1, Series: p.Layout.Series, Serial: e.Serial, Release: e.Release, At: e.At.UTC(), Snapshot: snapshot}
	if _, err := p.writeTimestamp(ctx, c, e.At); err != nil {
		return err
	}
	if err := p.swap(ctx, p.Layout.CurrentJSON(), distro.CanonicalJSON(c)); err != nil {
		return errs.Wrap(err, "switch the series to serial %d", e.Serial)
	}
	return p.keep(ctx, e, made)
}

// WriteDistribution swaps distribution.json, what the distribution says of itself.
func (p *Publisher) WriteDistribution(ctx context.Context, doc any) error {
	return p.swap(ctx, "distribution.json", distro.CanonicalJSON(doc))
}

func (p *Publisher) appendAt(ctx context.Context, e Edition) error {
	at := At{Schema: 1, Series: p.Layout.Series}
	b, err := ReadFile(ctx, p.Tree, p.Layout.AtJSON())
	if err == nil {
		if err := json.Unmarshal(b, &at); err != nil {
			return errs.E(errs.Invalid, p.Layout.AtJSON()+" of the publication cannot be read", err, errs.Hint("restore it from a mirror or export of the publication"))
		}
	} else if !errs.Is(err, errs.NotFound) {
		return err
	}
	for _, x := range at.Entries {
		if x.Serial == e.Serial {
			return nil
		}
	}
	at.Entries = append(at.Entries, AtEntry{At: e.At.UTC(), Serial: e.Serial, Release: e.Release})
	sort.Slice(at.Entries, func(i, j int) bool { return at.Entries[i].Serial < at.Entries[j].Serial })
	return p.swap(ctx, p.Layout.AtJSON(), distro.CanonicalJSON(at))
}

// createSigned writes the signature first: whoever sees the file finds it signed. It
// gives the signature.
func (p *Publisher) createSigned(ctx context.Context, name, ending string, data []byte, at time.Time) ([]byte, error) {
	sig, err := p.Metadata.Sign(ctx, bytes.NewReader(data), at)
	if err != nil {
		return nil, errs.Wrap(err, "sign %s", name)
	}
	if err := p.Tree.Create(ctx, name+ending, bytes.NewReader(sign.Armor(sig))); err != nil {
		return nil, errs.Wrap(err, "write %s%s", name, ending)
	}
	return sig, errs.Wrap(p.Tree.Create(ctx, name, bytes.NewReader(data)), "write %s", name)
}

// swapSigned replaces a signed pointer. Two files cannot be switched at once:
// between the swaps the .asc holds the signatures of both the old and the new file,
// the old one first, as librepo 1.15 takes such a file only when the first one is
// good, and most clients that come in this moment hold the old file. What is left
// is a client that reads the file before and the .asc after: it refuses, and its
// next refresh is good.
func (p *Publisher) swapSigned(ctx context.Context, name string, data []byte, at time.Time) error {
	sig, err := p.Metadata.Sign(ctx, bytes.NewReader(data), at)
	if err != nil {
		return errs.Wrap(err, "sign %s", name)
	}
	return p.swapSignature(ctx, name, data, sig)
}

func (p *Publisher) swapSignature(ctx context.Context, name string, data, sig []byte) error {
	old, err := ReadFile(ctx, p.Tree, name)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	both := sig
	if err == nil && !bytes.Equal(old, data) {
		if armored, err := ReadFile(ctx, p.Tree, name+".asc"); err == nil {
			if oldSig, err := sign.Dearmor(armored); err == nil {
				both = append(append([]byte(nil), oldSig...), sig...)
			}
		}
	}
	if err := p.swap(ctx, name+".asc", sign.Armor(both)); err != nil {
		return err
	}
	if err := p.swap(ctx, name, data); err != nil {
		return err
	}
	return p.swap(ctx, name+".asc", sign.Armor(sig))
}

// swap writes a pointer only when it changes.
func (p *Publisher) swap(ctx context.Context, name string, data []byte) error {
	if old, err := ReadFile(ctx, p.Tree, name); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return errs.Wrap(p.Tree.Swap(ctx, name, data), "switch %s", name)
}

// maxHeaders bounds what a Publisher remembers of packages: those of a release
// go into several indexes, a whole pool would fill the memory.
const maxHeaders = 1000

func (p *Publisher) header(ctx context.Context, name string) (*rpm.Package, error) {
	p.mu.Lock()
	h := p.headers[name]
	p.mu.Unlock()
	if h != nil {
		return h, nil
	}
	f, err := p.Tree.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h, err = rpm.Read(f, f.Size(), name)
	if err != nil {
		return nil, err
	}
	p.remember(name, h)
	return h, nil
}

// remember notes the header of a file of the pool, if there is room.
func (p *Publisher) remember(name string, h *rpm.Package) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.headers == nil {
		p.headers = map[string]*rpm.Package{}
	}
	if len(p.headers) < maxHeaders {
		p.headers[name] = h
	}
}

// ReadFile gives a whole small file of a tree: a pointer, a statement, metadata.
func ReadFile(ctx context.Context, t store.Tree, name string) ([]byte, error) {
	f, err := t.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	return b, errs.Wrap(err, "read %s", name)
}
