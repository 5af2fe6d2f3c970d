package feed

import (
	"bytes"
	"context"
	"fmt"

	"slipway/internal/errs"
	"slipway/internal/keyring"
	"slipway/internal/sign"
	"slipway/internal/store"
)

// The keyring of a publication: docs/format/keyring.md.
const (
	keyringFile = "keys/keyring.json"
	rootFile    = "keys/root.asc"
)

// WriteKeys writes the folder keys/: every public key, once and for ever, and, where a
// root key has signed them, the keyring as a pointer that a reader finds with a good
// signature at any moment. Without [Publisher.Keys] it writes the two keys that sign.
// A keyring that must not follow the published one (an older, another's) is Denied.
func (p *Publisher) WriteKeys(ctx context.Context) error {
	files := p.Keys
	if files == nil {
		files = map[string][]byte{"package-1.asc": p.Package.PublicArmored(), "metadata-1.asc": p.Metadata.PublicArmored()}
	}
	doc := files["keyring.json"]
	if err := p.mayFollow(ctx, doc); err != nil {
		return err
	}
	for _, name := range sortedKeys(files) {
		switch name {
		case "keyring.json", "keyring.json.asc", "root.asc":
			continue
		}
		if err := p.Tree.Create(ctx, "keys/"+name, bytes.NewReader(files[name])); err != nil {
			return errs.Wrap(err, "write the public key keys/%s", name)
		}
	}
	if doc == nil {
		return nil
	}
	sig, err := sign.Dearmor(files["keyring.json.asc"])
	if err != nil {
		return errs.Wrap(err, "%s.asc", keyringFile)
	}
	if err := p.swapSignature(ctx, keyringFile, doc, sig); err != nil {
		return err
	}
	return p.swap(ctx, rootFile, files["root.asc"])
}

// mayFollow refuses a keyring, nil for none, that must not take the place of the
// published one.
func (p *Publisher) mayFollow(ctx context.Context, doc []byte) error {
	old, err := ReadFile(ctx, p.Tree, keyringFile)
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if doc == nil {
		return errs.E(errs.Denied, "the publication has a keyring, and the key folder has none", errs.Hint("put back keyring.json, keyring.json.asc and root.asc from your copy of the key folder"))
	}
	was, err := keyring.Parse(old)
	if err != nil {
		return errs.Wrap(err, "the published %s", keyringFile)
	}
	next, err := keyring.Parse(doc)
	if err != nil {
		return err
	}
	if err := next.Replaces(was); err != nil {
		return errs.E(errs.KindOf(err), "the keyring here must not follow the published one", err, errs.Hintf("the key folder is an old copy: %s of the publication has number %d", keyringFile, was.Number))
	}
	return nil
}

// ReadKeyring gives the keyring of a publication when one of roots has signed it.
// NotFound when there is none, Denied when none has.
func ReadKeyring(ctx context.Context, t store.Tree, roots []*sign.Public) (*keyring.Keyring, error) {
	doc, err := ReadFile(ctx, t, keyringFile)
	if err != nil {
		return nil, err
	}
	sigs, err := ReadFile(ctx, t, keyringFile+".asc")
	if err != nil {
		return nil, errs.E(errs.Denied, fmt.Sprintf("%s is not signed", keyringFile), err)
	}
	return keyring.Open(doc, sigs, roots)
}
