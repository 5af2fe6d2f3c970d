package feed

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/internal/errs"
	"slipway/internal/keyring"
	"slipway/internal/sign"
)

// keyFolder has a package and a metadata key, signed by a root.
type keyFolder struct {
	t *testing.T
	keyring.Folder
	root *sign.Key
	keys map[string]*sign.Key // by fingerprint
}

func newKeyFolder(t *testing.T) *keyFolder {
	t.Helper()
	f := &keyFolder{t: t, Folder: keyring.Folder{Dir: filepath.Join(t.TempDir(), "keys")}, keys: map[string]*sign.Key{}}
	f.root = f.generate("root")
	for _, role := range []keyring.Role{keyring.Package, keyring.Metadata, keyring.Log} {
		f.change(testStart, func(r *keyring.Keyring) (keyring.Key, error) {
			return r.Add(role, f.generate(string(role)).Public(), testStart)
		})
	}
	return f
}

func (f *keyFolder) generate(name string) *sign.Key {
	f.t.Helper()
	k, err := sign.Generate(sign.Options{Name: name, Created: testStart})
	if err != nil {
		f.t.Fatal(err)
	}
	f.keys[k.Fingerprint()] = k
	return k
}

// change changes the keyring, and has it signed.
func (f *keyFolder) change(at time.Time, do func(*keyring.Keyring) (keyring.Key, error)) keyring.Key {
	f.t.Helper()
	ring, err := f.Draft("test")
	if err != nil {
		f.t.Fatal(err)
	}
	k, err := do(ring)
	if err == nil {
		err = f.Save(ring)
	}
	if err == nil {
		_, err = f.Sign(f.t.Context(), "test", []sign.Signer{f.root}, at)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return k
}

func (f *keyFolder) files() map[string][]byte {
	f.t.Helper()
	files, err := f.Files("test")
	if err != nil {
		f.t.Fatal(err)
	}
	return files
}

// The folder keys/ of a publication follows the key folder, and only forwards.
func TestWriteKeys(t *testing.T) {
	b := setup(t)
	f := newKeyFolder(t)
	ctx := t.Context()
	write := func(files map[string][]byte, want errs.Kind, text string) {
		t.Helper()
		b.p.Keys = files
		err := b.p.WriteKeys(ctx)
		if want == "" && err != nil || want != "" && (!errs.Is(err, want) || !strings.Contains(err.Error(), text)) {
			t.Fatalf("%v, want %s %s", err, want, text)
		}
	}
	one := f.files()
	write(one, "", "")
	write(one, "", "")
	f.change(testStart.AddDate(0, 0, 1), func(r *keyring.Keyring) (keyring.Key, error) {
		return r.Rotate(keyring.Metadata, f.generate("next").Public(), time.Hour, testStart.AddDate(0, 0, 1))
	})
	two := f.files()
	write(two, "", "")
	for name, want := range two {
		if got, err := ReadFile(ctx, b.tree, "keys/"+name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ring, err := ReadKeyring(ctx, b.tree, []*sign.Public{f.root.Public()})
	if err != nil || ring.Number != 4 || len(ring.Keys) != 4 {
		t.Errorf("%+v, %v", ring, err)
	}
	if _, err := ReadKeyring(ctx, b.tree, []*sign.Public{b.key.Public()}); !errs.Is(err, errs.Denied) {
		t.Errorf("a stranger's root: %v", err)
	}
	write(one, errs.Denied, "an old one is replayed")
	write(nil, errs.Denied, "the publication has a keyring")
	write(newKeyFolder(t).files(), errs.Denied, "it forgets package-1")
}

// Without a root there are keys alone; another key of the same name is refused.
func TestWriteKeysWithoutAKeyring(t *testing.T) {
	b := setup(t)
	if err := b.p.WriteKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.p.Package = newKeyFolder(t).root
	if err := b.p.WriteKeys(t.Context()); !errs.Is(err, errs.Conflict) {
		t.Errorf("another package key: %v", err)
	}
}
