package keyring

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"slipway/internal/errs"
	"slipway/internal/sign"
)

// Folder is where a distribution's keys lie on the machine that signs, outside of
// every workspace, mode 0700:
//
//	keyring.json, keyring.json.asc   the keyring as the root signed it
//	draft.json                       changes that the root has not signed yet
//	root.asc                         the public root key, or keys, that are trusted here
//	package.key, package-2.key       private keys: of number 1 without the number
//	package.ref                      or where one is instead: "gpg:<fingerprint>"
//	package.asc, package-2.asc       public keys
//	signed.log                       what the signer process signed
//
// A folder without any keyring, with public keys alone, stands for a keyring of
// those.
type Folder struct{ Dir string }

func (f Folder) path(name string) string { return filepath.Join(f.Dir, name) }

// base is the name of a key's files, without ending.
func base(k Key) string {
	if k.Number == 1 {
		return string(k.Role)
	}
	return k.Name()
}

// PrivatePath and PublicPath are the files of a key.
func (f Folder) PrivatePath(k Key) string { return f.path(base(k) + ".key") }

// PublicPath is where a key's public half lies.
func (f Folder) PublicPath(k Key) string { return f.path(base(k) + ".asc") }

func (f Folder) refPath(k Key) string { return f.path(base(k) + ".ref") }

// Status says how far the root has spoken.
type Status struct {
	Root    bool // there is a root key
	Signed  bool // there is a keyring that it signed
	Pending bool // a draft waits for the root's signature
}

// Load gives the keyring as it is in force: what the root signed, but for the keys
// that a draft revokes or retires, for that cannot wait; without a signed keyring
// the draft, or the public keys that lie there. The keys' own files are not looked at. NotFound
// when there is nothing, Denied when the signature is not that of root.asc.
func (f Folder) Load(distribution string) (*Keyring, Status, error) {
	signed, draft, st, err := f.read(distribution)
	switch {
	case err != nil:
		return nil, st, err
	case signed == nil && draft == nil:
		return nil, st, errs.E(errs.NotFound, fmt.Sprintf("no keys of %s in %s", distribution, f.Dir),
			errs.Hint("copy the distribution's key files there; slipway key create makes keys where there are none"))
	case signed == nil:
		return draft, st, nil
	case draft != nil:
		for i, x := range signed.Keys {
			if d, err := draft.Find(x.Fingerprint); err == nil && d.State != Current && x.State != Revoked {
				signed.Keys[i].State, signed.Keys[i].Because, signed.Keys[i].Changed = d.State, d.Because, d.Changed
			}
		}
	}
	return signed, st, nil
}

// Draft gives the keyring with all changes, to change it further and [Folder.Save]
// it. A folder without one gives an empty keyring.
func (f Folder) Draft(distribution string) (*Keyring, error) {
	signed, draft, _, err := f.read(distribution)
	switch {
	case err != nil:
		return nil, err
	case draft != nil:
		return draft, nil
	case signed != nil:
		return signed.Clone(), nil
	}
	return New(distribution), nil
}

func (f Folder) read(distribution string) (signed, draft *Keyring, st Status, err error) {
	roots, err := f.Roots()
	if err != nil {
		return nil, nil, st, err
	}
	st.Root = len(roots) > 0
	doc, err := f.file("keyring.json")
	if err != nil {
		return nil, nil, st, err
	}
	if doc != nil {
		sigs, err := f.file("keyring.json.asc")
		if err != nil {
			return nil, nil, st, err
		}
		if signed, err = Open(doc, sigs, roots); err != nil {
			return nil, nil, st, errs.E(errs.KindOf(err), "the keyring in "+f.Dir, err, errs.Hint("put back keyring.json and keyring.json.asc from the publication's keys/ folder, and root.asc from your own copy"))
		}
		st.Signed = true
	}
	if doc, err = f.file("draft.json"); err != nil {
		return nil, nil, st, err
	}
	if doc != nil {
		if draft, err = Parse(doc); err != nil {
			return nil, nil, st, errs.Wrap(err, "%s", f.path("draft.json"))
		}
		st.Pending = true
	}
	if signed == nil && draft == nil {
		if draft, err = f.fromPublic(distribution); err != nil {
			return nil, nil, st, err
		}
	}
	for _, k := range []*Keyring{signed, draft} {
		if k != nil && k.Distribution != distribution {
			return nil, nil, st, errs.E(errs.Denied, fmt.Sprintf("the keys in %s are those of %s, not of %s", f.Dir, k.Distribution, distribution), errs.Hint("keys: in settings.yaml names the folder"))
		}
	}
	return signed, draft, st, nil
}

// fromPublic makes a keyring of the public keys of a folder that has none.
func (f Folder) fromPublic(distribution string) (*Keyring, error) {
	k := New(distribution)
	for _, role := range Roles {
		path := f.path(string(role) + ".asc")
		b, err := f.file(string(role) + ".asc")
		if err != nil {
			return nil, err
		}
		if b == nil {
			continue
		}
		list, err := sign.ParsePublic(b)
		if err == nil && len(list) != 1 {
			err = errs.Ef(errs.Invalid, "it holds %d keys", len(list))
		}
		if err != nil {
			return nil, errs.E(errs.Invalid, fmt.Sprintf("the public %s key %s", role, path), err, errs.Hint("remove that file; slipway key create writes it again from the private key"))
		}
		if _, err := k.add(role, list[0], list[0].Created()); err != nil {
			return nil, errs.Wrap(err, "the public %s key %s", role, path)
		}
	}
	if len(k.Keys) == 0 {
		return nil, nil
	}
	return k, nil
}

// file reads a small file; nil when there is none.
func (f Folder) file(name string) ([]byte, error) {
	file, err := os.Open(f.path(name))
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, errs.E(errs.Unavailable, "read the keys", err)
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxDocument+1))
	if err != nil {
		return nil, errs.E(errs.Unavailable, "read "+f.path(name), err)
	}
	return b, nil
}

// Stamp changes when what [Folder.Load] reads does: every file of it gets its name by
// a rename, which the folder's time tells.
func (f Folder) Stamp() string {
	st, err := os.Stat(f.Dir)
	if err != nil {
		return ""
	}
	return st.ModTime().String()
}

// Roots gives the public root keys that are trusted here; none is no error.
func (f Folder) Roots() ([]*sign.Public, error) {
	b, err := f.file("root.asc")
	if b == nil || err != nil {
		return nil, err
	}
	roots, err := sign.ParsePublic(b)
	return roots, errs.Wrap(err, "%s", f.path("root.asc"))
}

// Save writes the draft. It is in force at once only where no root has signed yet.
func (f Folder) Save(k *Keyring) error {
	if _, err := Parse(k.Bytes()); err != nil {
		return errs.E(errs.Internal, "a draft that could not be read again", err)
	}
	return f.write("draft.json", k.Bytes(), 0o644)
}

// Sign makes the draft, or without one the keyring as it is, the signed keyring: the
// next number, signed by every root. Where a root is trusted already, one of them must
// be; all of them are trusted afterwards, and no other. A crash leaves the old or the new
// keyring in force.
func (f Folder) Sign(ctx context.Context, distribution string, roots []sign.Signer, now time.Time) (*Keyring, error) {
	signed, draft, _, err := f.read(distribution)
	if err != nil {
		return nil, err
	}
	next := draft
	if next == nil {
		next = signed
	}
	if next == nil {
		return nil, errs.E(errs.NotFound, "there are no keys to sign", errs.Hint("slipway key create"))
	}
	next = next.Clone()
	if signed != nil {
		next.Number = signed.Number
	}
	next.Number, next.At, next.Roots = next.Number+1, now.UTC().Truncate(time.Second), nil
	var publics []byte
	for _, r := range roots {
		list, err := sign.ParsePublic(r.PublicArmored())
		if err != nil {
			return nil, err
		}
		if err := list[0].Check(now); err != nil {
			return nil, errs.Wrap(err, "root key")
		}
		next.Roots = append(next.Roots, Root{r.Fingerprint(), r.UserID(), string(r.PublicArmored())})
		publics = append(publics, r.PublicArmored()...)
	}
	doc := next.Bytes()
	if _, err := Parse(doc); err != nil {
		return nil, err
	}
	if signed != nil {
		if err := next.Replaces(signed); err != nil {
			return nil, err
		}
	}
	var sig []byte
	for _, r := range roots {
		s, err := r.Sign(ctx, bytes.NewReader(doc), now)
		if err != nil {
			return nil, err
		}
		sig = append(sig, s...)
	}
	trusted, err := f.Roots()
	if err != nil {
		return nil, err
	}
	if len(trusted) > 0 {
		if _, err := sign.Verify(trusted, bytes.NewReader(doc), sig); err != nil {
			return nil, errs.E(errs.Denied, "none of these roots is the one that is trusted", err, errs.Hint("give the old root's file as well: --root OLD --root NEW"))
		}
	}
	if err := f.promote(doc, sig, publics, trusted); err != nil {
		return nil, err
	}
	return next, nil
}

// promote switches the three files so that each cut leaves a keyring that its
// signature fits and that root.asc trusts.
func (f Folder) promote(doc, sig, publics []byte, trusted []*sign.Public) error {
	between := sig
	if old, err := f.file("keyring.json.asc"); err == nil && old != nil {
		if oldSig, err := sign.Dearmor(old); err == nil {
			between = append(bytes.Clone(sig), oldSig...)
		}
	}
	steps := []struct {
		name string
		data []byte
	}{{"keyring.json.asc", sign.Armor(between)}, {"keyring.json", doc}, {"keyring.json.asc", sign.Armor(sig)}, {"root.asc", publics}}
	if len(trusted) == 0 {
		steps = append(steps[3:], steps[:3]...)
	}
	for _, s := range steps {
		if err := f.write(s.name, s.data, 0o644); err != nil {
			return err
		}
	}
	if err := os.Remove(f.path("draft.json")); err != nil && !os.IsNotExist(err) {
		return errs.E(errs.Unavailable, "remove the draft", err)
	}
	return nil
}

// write replaces a file: whole or not at all, and durable.
func (f Folder) write(name string, data []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(f.Dir, 0o700); err != nil {
		return errs.E(errs.Unavailable, "write the keys", err)
	}
	tmp, err := os.CreateTemp(f.Dir, name+".tmp")
	if err != nil {
		return errs.E(errs.Unavailable, "write the keys", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), f.path(name))
	}
	if err == nil {
		err = syncDir(f.Dir)
	}
	if err != nil {
		return errs.E(errs.Unavailable, "write "+f.path(name), err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// WritePublic writes a key's public half beside its private one.
func (f Folder) WritePublic(k Key) error {
	return f.write(base(k)+".asc", []byte(k.PublicKey), 0o644)
}

// Refer notes that a key's private half is elsewhere: "gpg:" and its fingerprint.
func (f Folder) Refer(k Key, ref string) error {
	return f.write(base(k)+".ref", []byte(ref+"\n"), 0o600)
}

// Held says where a key's private half is: "file", "gpg:<fingerprint>", or "" when it
// is not here.
func (f Folder) Held(k Key) string {
	if b, err := f.file(base(k) + ".ref"); err == nil && b != nil {
		return strings.TrimSpace(string(b))
	}
	if _, err := os.Lstat(f.PrivatePath(k)); err == nil {
		return "file"
	}
	return ""
}

// Lost is the error for a key whose private half is not here: what was lost, and
// what to do.
func (f Folder) Lost(k Key) error {
	return errs.E(errs.NotFound, fmt.Sprintf("the private half of the %s key %s (%s) is not in %s; the public half is", k.Role, k.Name(), k.Fingerprint, f.Dir),
		errs.Hintf("put %s back from your copy; devices trust no other key", f.PrivatePath(k)),
		errs.Hintf("if it is lost for good: slipway key rotate --role %s --lost, and docs/keys.md, A lost key", k.Role))
}

// Passphrases answer for a protected key.
type Passphrases struct {
	File  func() ([]byte, error) // of a key file; nil: it must not be protected
	Agent func() ([]byte, error) // of a gpg-agent's key; nil: the agent asks with its own pinentry
}

// Unlock opens a key's private half, wherever it is. Denied when it is another key than
// the keyring says.
func (f Folder) Unlock(ctx context.Context, k Key, p Passphrases) (sign.MidstateSigner, error) {
	var s sign.MidstateSigner
	switch held := f.Held(k); {
	case strings.HasPrefix(held, "gpg:"):
		a, err := sign.OpenAgent(ctx, strings.TrimPrefix(held, "gpg:"), sign.AgentOptions{Passphrase: p.Agent})
		if err != nil {
			return nil, errs.Wrap(err, "%s key", k.Role)
		}
		s = a
	case held == "":
		return nil, f.Lost(k)
	case held == "file":
		file, err := sign.Unlock(f.PrivatePath(k), p.File)
		if err != nil {
			return nil, errs.Wrap(err, "%s key", k.Role)
		}
		s = file
	default:
		return nil, errs.E(errs.Invalid, f.refPath(k)+fmt.Sprintf(" says %q", held), errs.Hint("gpg: and a fingerprint"))
	}
	if s.Fingerprint() != k.Fingerprint {
		return nil, errs.E(errs.Denied, fmt.Sprintf("the private %s key in %s is another than the public one: %s, public is %s", k.Role, f.Dir, s.Fingerprint(), k.Fingerprint),
			errs.Hint("put back the distribution's own key files; devices trust no other"))
	}
	return s, nil
}

// Files gives what the publication's keys/ folder must hold, by name below it: the
// public key of every key, <role>-<number>.asc, each written once; and, where a root
// signed, keyring.json and keyring.json.asc, which are pointers, and root.asc.
func (f Folder) Files(distribution string) (map[string][]byte, error) {
	k, st, err := f.Load(distribution)
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for _, x := range k.Keys {
		out[x.Name()+".asc"] = []byte(x.PublicKey)
	}
	if st.Signed {
		for _, name := range []string{"keyring.json", "keyring.json.asc", "root.asc"} {
			if out[name], err = f.file(name); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}
