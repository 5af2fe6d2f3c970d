package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/keyring"
	"slipway/internal/sign"
	"slipway/internal/store"
)

// known is what a user remembers of a publication that was verified before, by its
// place, as ssh does of a host: the keys that it was trusted with.
type known struct {
	Schema int    `json:"schema"` // 1
	Place  string `json:"place"`
	Keys   string `json:"keys"`          // armored; a root key where there is a keyring
	Log    string `json:"log,omitempty"` // origin of the transparency log that was seen
}

// trusted is what a publication is verified with, and how we came by it.
type trusted struct {
	feed.Trust
	anchor []byte // armored: what is remembered
	log    string // origin of the log that was seen before
	note   string // for the user, "" when the user named the keys
	how    string // given, remembered, faith
	roles  bool   // the keys are known by role
	seen   string // file that remembers the log's checkpoint; "" is the user's own memory
}

// stateDir is where a user's memory lies: $XDG_STATE_HOME/slipway.
func stateDir() string {
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		state = filepath.Join(os.Getenv("HOME"), ".local", "state")
	}
	return filepath.Join(state, "slipway")
}

// knownFile is the file of a place: an address without its last slash, or the
// absolute path of a folder.
func knownFile(place string) string {
	return filepath.Join(stateDir(), "known", url.PathEscape(place)+".json")
}

func readKnown(place string) (known, error) {
	var k known
	b, err := os.ReadFile(knownFile(place))
	if os.IsNotExist(err) {
		return k, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &k)
	}
	if err != nil {
		return k, errs.E(errs.Invalid, knownFile(place)+" cannot be read", err, errs.Hint("remove it, and name the keys that you trust: slipway verify PLACE --key FILE"))
	}
	return k, nil
}

// remember keeps what a place was verified with.
func (t trusted) remember(ctx context.Context, place string) error {
	dir := filepath.Dir(knownFile(place))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return errs.E(errs.Unavailable, "remember the keys of "+place, err)
	}
	tree, err := store.OpenTree(dir)
	if err != nil {
		return err
	}
	k := known{Schema: 1, Place: place, Keys: string(t.anchor), Log: t.log}
	return errs.Wrap(tree.Swap(ctx, filepath.Base(knownFile(place)), distro.CanonicalJSON(k)), "remember the keys of %s", place)
}

// trust finds what to verify a publication with: the keys in files, else those
// that are remembered of the place, else those of the publication itself, on
// faith. Where the publication has a keyring that a trusted root key signs, its
// keys count, each for its role.
func (a *app) trust(ctx context.Context, tree store.Tree, place string, files []string) (trusted, error) {
	memory, err := readKnown(place)
	if err != nil {
		return trusted{}, err
	}
	t := trusted{log: memory.Log}
	ring, armored, err := publishedKeys(ctx, tree)
	if err != nil {
		return t, err
	}
	switch {
	case len(files) > 0:
		t.how = "given"
		texts, err := readFiles(files)
		if err != nil {
			return t, err
		}
		for _, f := range files {
			if _, err := sign.ParsePublic(texts[f]); err != nil {
				return t, errs.Wrap(err, "public key %s", f)
			}
			t.anchor = append(append(t.anchor, texts[f]...), '\n')
		}
	case memory.Keys != "":
		t.how, t.anchor = "remembered", []byte(memory.Keys)
		t.note = fmt.Sprintf("with the keys that are remembered of %s (%s)", place, knownFile(place))
	default:
		t.how = "faith"
		if ring != nil {
			t.anchor = ring.root
		} else {
			t.anchor = armored
		}
		if len(t.anchor) == 0 {
			return t, errs.E(errs.NotFound, place+" has no keys/ to take on faith", errs.Hint("slipway verify PLACE --key FILE"))
		}
	}
	keys, err := sign.ParsePublic(t.anchor)
	if err != nil {
		return t, errs.Wrap(err, "the keys that are trusted")
	}
	if t.how == "faith" {
		var fingers []string
		for _, k := range keys {
			fingers = append(fingers, "  "+k.Fingerprint()+"  "+k.UserID())
		}
		t.note = fmt.Sprintf("THE KEYS ARE TAKEN ON FAITH: they come from the publication itself.\nThis proves that all is signed by one hand, not by whose. Compare with what the\ndistribution says elsewhere, or name the keys with --key:\n%s", strings.Join(fingers, "\n"))
	}
	if ring == nil {
		t.Package, t.Metadata, t.Log = keys, keys, keys
		return t, nil
	}
	k, err := keyring.Open(ring.doc, ring.sig, keys)
	if errs.Is(err, errs.Denied) && len(files) > 0 && !isRoot(ring.doc, keys) {
		t.Package, t.Metadata, t.Log = keys, keys, keys // keys of roles, named one by one
		return t, nil
	}
	if err != nil {
		return t, errs.E(errs.Denied, "the keyring of "+place+" is not the one of the keys that are trusted", err,
			errs.Hint("somebody else's publication, or a new root key: ask the distribution, then slipway verify PLACE --key root.asc"))
	}
	t.roles, t.Ring = true, k
	for role, to := range map[keyring.Role]*[]*sign.Public{keyring.Package: &t.Package, keyring.Metadata: &t.Metadata, keyring.Log: &t.Log} {
		for _, x := range k.Trusted(role) {
			p, err := x.Public()
			if err != nil {
				return t, err
			}
			*to = append(*to, p)
		}
	}
	return t, nil
}

// isRoot reports whether one of keys is a root of the keyring.
func isRoot(doc []byte, keys []*sign.Public) bool {
	k, err := keyring.Parse(doc)
	if err != nil {
		return true
	}
	for _, r := range k.Roots {
		for _, p := range keys {
			if r.Fingerprint == p.Fingerprint() {
				return true
			}
		}
	}
	return false
}

type publishedRing struct{ doc, sig, root []byte }

// publishedKeys reads keys/: the keyring, if there is one, and else the keys of
// each role, one after the other: there are no listings on the web.
func publishedKeys(ctx context.Context, tree store.Tree) (*publishedRing, []byte, error) {
	get := func(name string) ([]byte, error) {
		b, err := feed.ReadFile(ctx, tree, "keys/"+name)
		if errs.Is(err, errs.NotFound) {
			return nil, nil
		}
		return b, err
	}
	var ring publishedRing
	for name, to := range map[string]*[]byte{"keyring.json": &ring.doc, "keyring.json.asc": &ring.sig, "root.asc": &ring.root} {
		b, err := get(name)
		if err != nil {
			return nil, nil, err
		}
		*to = b
	}
	if ring.doc != nil {
		return &ring, nil, nil
	}
	var all []byte
	for _, role := range []keyring.Role{keyring.Package, keyring.Metadata, keyring.Log} {
		for n := 1; ; n++ {
			b, err := get(fmt.Sprintf("%s-%d.asc", role, n))
			if err != nil {
				return nil, nil, err
			}
			if b == nil {
				break
			}
			all = append(append(all, b...), '\n')
		}
	}
	return nil, all, nil
}
