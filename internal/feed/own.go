package feed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feedindex"
	"slipway/internal/rpm"
	"slipway/internal/sign"
	"slipway/internal/store"
)

// Own is a feed beside the official one: a folder of a downstream user with
// packages, an index and a key of their own, and nothing of a release's history.
//
//	own-feed.json             this, so that more can be added
//	<name>.repo               for /etc/yum.repos.d
//	RPM-GPG-KEY-<name>        the public key
//	packages/<file>.rpm       signed
//	repodata/                 of packages/, and repomd.xml.asc
//
// The private key never lies in it: what is in the folder is published.
type Own struct {
	Schema      int    `json:"schema"` // 1
	Name        string `json:"name"`
	Title       string `json:"title"`
	BaseURL     string `json:"base_url"` // of the folder, as devices see it
	Priority    int    `json:"priority"` // dnf's: the lower goes first, 99 is that of feeds without one
	Fingerprint string `json:"fingerprint"`

	Dir string `json:"-"`
}

const ownFile = "own-feed.json"

var ownName = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

// CreateOwn makes an empty feed in a folder that must not exist or be empty. After
// a crash the folder lacks own-feed.json, which is written last: remove it, and begin again.
func CreateOwn(ctx context.Context, o Own, key Signer, at time.Time) error {
	var found errs.List
	if !ownName.MatchString(o.Name) {
		found = append(found, errs.E(errs.Invalid, fmt.Sprintf("%q is no name of a feed", o.Name), errs.Hint("lower-case letters, digits and single dashes, a letter first: my-boat")))
	}
	if o.Priority < 1 || o.Priority > 999 {
		found = append(found, errs.Ef(errs.Invalid, "priority %d is not from 1 to 999", o.Priority))
	}
	if strings.ContainsAny(o.BaseURL, " '\"$\\\n") || !regexp.MustCompile(`^(https?|file)://`).MatchString(o.BaseURL) {
		found = append(found, errs.E(errs.Invalid, fmt.Sprintf("%q is no address of a feed", o.BaseURL), errs.Hint("http, https or file: https://feeds.example.org/my-boat")))
	}
	if strings.ContainsAny(o.Title, "\n\r") {
		found = append(found, errs.E(errs.Invalid, "the title has several lines"))
	}
	if entries, err := os.ReadDir(o.Dir); err == nil && len(entries) > 0 {
		found = append(found, errs.E(errs.Conflict, "folder "+o.Dir+" is not empty", errs.Hint("name a new folder; slipway feed add brings packages into a feed that exists")))
	}
	if err := found.Err(); err != nil {
		return err
	}
	o.Schema, o.Fingerprint = 1, key.Fingerprint()
	tree, err := store.OpenTree(o.Dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(o.Dir, "packages"), 0o755); err != nil {
		return errs.E(errs.Unavailable, "make the feed's folder", err)
	}
	if err := tree.Create(ctx, o.keyName(), bytes.NewReader(key.PublicArmored())); err != nil {
		return err
	}
	if err := tree.Create(ctx, o.Name+".repo", strings.NewReader(o.RepoFile())); err != nil {
		return err
	}
	if _, err := o.index(ctx, key, at); err != nil {
		return err
	}
	data, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return err
	}
	if err := tree.Create(ctx, ownFile, bytes.NewReader(append(data, '\n'))); err != nil {
		return err
	}
	return tree.Sync(ctx)
}

// OpenOwn reads the feed of a folder.
func OpenOwn(dir string) (Own, error) {
	o := Own{Dir: dir}
	data, err := os.ReadFile(filepath.Join(dir, ownFile))
	if os.IsNotExist(err) {
		return o, errs.E(errs.NotFound, dir+" is no feed of this kind: it has no "+ownFile, errs.Hintf("slipway feed create NAME --dir %s --key FILE", dir))
	}
	if err == nil {
		err = json.Unmarshal(data, &o)
	}
	if err != nil || o.Schema != 1 || !ownName.MatchString(o.Name) {
		return o, errs.E(errs.Invalid, filepath.Join(dir, ownFile)+" cannot be read", err)
	}
	return o, nil
}

func (o Own) keyName() string { return "RPM-GPG-KEY-" + o.Name }

// RepoFile gives the text of the .repo file: packages and metadata are checked.
func (o Own) RepoFile() string {
	base := strings.TrimSuffix(o.BaseURL, "/")
	return fmt.Sprintf("[%s]\nname=%s\nbaseurl=%s\nenabled=1\ngpgcheck=1\nrepo_gpgcheck=1\ngpgkey=%s/%s\npriority=%d\n", o.Name, o.Title, base, base, o.keyName(), o.Priority)
}

// Added says what came of adding packages.
type Added struct {
	New      []string `json:"new"`      // NEVRA
	There    []string `json:"there"`    // were in the feed already, with the same content
	Resigned []string `json:"resigned"` // of New: had somebody else's signature, which is gone
	Packages int      `json:"packages"` // in the feed now
}

// Add signs packages into the feed and its index. All are looked at before any is
// written: a bad one, or a name, version and release that the feed has with other
// content, leaves the feed as it is. Between the new index and its signature
// clients refuse it for a moment and try again; after a crash there the same call
// (or one with no packages) signs it.
func (o Own) Add(ctx context.Context, key Signer, files []string, at time.Time) (Added, error) {
	res := Added{New: []string{}, There: []string{}, Resigned: []string{}}
	if key.Fingerprint() != o.Fingerprint {
		return res, errs.E(errs.Denied, fmt.Sprintf("key %s is not the one of feed %s: %s", key.Fingerprint(), o.Name, o.Fingerprint), errs.Hint("--key names the file that the feed was created with"))
	}
	type job struct{ from, to, nevra string }
	var todo []job
	var found errs.List
	taken := map[string]distro.Digest{}
	for _, f := range files {
		p, err := rpm.ReadFile(f)
		if err != nil {
			found = append(found, err)
			continue
		}
		arch := p.Arch
		if p.Source {
			arch = "src"
		}
		name := fmt.Sprintf("%s-%s-%s.%s.rpm", p.Name, p.Version, p.Release, arch)
		if strings.ContainsAny(name, "/\n") || strings.HasPrefix(name, ".") {
			found = append(found, errs.E(errs.Invalid, fmt.Sprintf("%s calls itself %q", f, name)))
			continue
		}
		to := filepath.Join(o.Dir, "packages", name)
		nevra := fmt.Sprintf("%s-%s.%s", p.Name, p.EVR(), arch)
		there, known := taken[name]
		if old, err := rpm.ReadFile(to); err == nil && !known {
			there, known = old.HeaderDigest, true
		} else if err != nil && !errs.Is(err, errs.NotFound) && !os.IsNotExist(err) {
			if _, serr := os.Stat(to); serr == nil {
				found = append(found, errs.Wrap(err, "the feed's own %s", name))
				continue
			}
		}
		switch {
		case known && there == p.HeaderDigest:
			res.There = append(res.There, nevra)
		case known:
			found = append(found, errs.E(errs.Conflict, fmt.Sprintf("%s is in the feed with other content: header %s there, %s here", nevra, there.Short(), p.HeaderDigest.Short()),
				errs.Hint("devices that have it would never fetch yours: raise Release and build again")))
		default:
			taken[name] = p.HeaderDigest
			res.New = append(res.New, nevra)
			if len(p.Signatures) > 0 {
				res.Resigned = append(res.Resigned, nevra)
			}
			todo = append(todo, job{f, to, nevra})
		}
	}
	if err := found.Err(); err != nil {
		return res, err
	}
	for _, j := range todo {
		if err := resignFile(ctx, key, j.from, j.to, at); err != nil {
			return res, errs.Wrap(err, "sign %s", j.nevra)
		}
	}
	n, err := o.index(ctx, key, at)
	res.Packages = n
	return res, err
}

// index brings the index up to date and signs it; a signature that is good stays.
func (o Own) index(ctx context.Context, key Signer, at time.Time) (int, error) {
	r, err := feedindex.Index(ctx, o.Dir, feedindex.Options{Keep: 1, At: at})
	if err != nil {
		return 0, err
	}
	repomd := filepath.Join(o.Dir, "repodata", "repomd.xml")
	data, err := os.ReadFile(repomd)
	if err != nil {
		return 0, errs.E(errs.Unavailable, "read the index", err)
	}
	if old, err := os.ReadFile(repomd + ".asc"); err == nil {
		public, perr := sign.ParsePublic(key.PublicArmored())
		sig, serr := sign.Dearmor(old)
		if perr == nil && serr == nil {
			if _, err := sign.Verify(public, bytes.NewReader(data), sig); err == nil {
				return r.Packages, nil
			}
		}
	}
	sig, err := key.Sign(ctx, bytes.NewReader(data), at)
	if err != nil {
		return 0, errs.Wrap(err, "sign the index")
	}
	return r.Packages, whole(repomd+".asc", func(w io.Writer) error { _, err := w.Write(sign.Armor(sig)); return err })
}

func resignFile(ctx context.Context, key Signer, from, to string, at time.Time) error {
	f, err := os.Open(from)
	if err != nil {
		return errs.E(errs.Unavailable, "read "+from, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return errs.E(errs.Unavailable, "read "+from, err)
	}
	return whole(to, func(w io.Writer) error {
		return rpm.Resign(w, f, st.Size(), func(header []byte) ([]byte, int, error) {
			sig, err := key.Sign(ctx, bytes.NewReader(header), at)
			return sig, key.RPMTag(), err
		})
	})
}

// whole writes a file so that after a crash it is there whole or as it was.
func whole(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, fs.FileMode(0o644))
	if err != nil {
		return errs.E(errs.Unavailable, "write "+path, err)
	}
	err = write(f)
	if serr := f.Sync(); err == nil && serr != nil {
		err = errs.E(errs.Unavailable, "write "+path, serr)
	}
	f.Close()
	if err == nil {
		if rerr := os.Rename(path+".new", path); rerr != nil {
			err = errs.E(errs.Unavailable, "write "+path, rerr)
		}
	}
	if err != nil {
		os.Remove(path + ".new")
	}
	return err
}
