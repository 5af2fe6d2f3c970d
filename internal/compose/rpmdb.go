package compose

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

const (
	dbFolder = "var/lib/rpm"
	dbFile   = "rpmdb.sqlite"
)

// keyPackage is how rpm keeps a public key that was imported.
const keyPackage = "gpg-pubkey"

// Packages lists what the rpm database of a root holds, sorted by name: name,
// version, architecture and header digest. Imported keys are left out. It works
// on a cleaned root as on any other.
func Packages(ctx context.Context, root string) ([]distro.PackageRecord, error) {
	dir, err := inside(root, dbFolder)
	if err != nil {
		return nil, errs.Wrap(err, "packages of %s", root)
	}
	// A copy: even a reader of the database leaves files beside it.
	tmp, err := os.MkdirTemp("", "slipway-rpmdb-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	for _, name := range []string{dbFile, dbFile + "-wal"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(tmp, name), b, 0o600)
		} else if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
	}
	headers, err := export(ctx, tmp)
	if err != nil {
		return nil, errs.Wrap(err, "packages of %s", root)
	}
	records := make([]distro.PackageRecord, len(headers))
	for i, h := range headers {
		records[i] = h.record()
	}
	return records, nil
}

// export reads all headers of a database but the keys, sorted by name,
// version, architecture and digest.
func export(ctx context.Context, dir string) ([]*header, error) {
	if _, err := os.Stat(filepath.Join(dir, dbFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, errs.E(errs.Invalid, "no rpm database ("+dbFolder+"/"+dbFile+")", errs.Hint("images are made from a folder that dnf has installed packages into"))
	} else if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if _, err := rpmdb(ctx, dir, "--exportdb", command{stdout: &out}); err != nil {
		return nil, err
	}
	headers, err := readHeaders(&out)
	if err != nil {
		return nil, err
	}
	kept := headers[:0]
	for _, h := range headers {
		if h.text(tagName) != keyPackage {
			kept = append(kept, h)
		}
	}
	sort.SliceStable(kept, func(i, j int) bool {
		a, b := kept[i].record(), kept[j].record()
		if a.Name != b.Name {
			return a.Name < b.Name
		}
		if c := a.CompareEVR(b); c != 0 {
			return c < 0
		}
		if a.Arch != b.Arch {
			return a.Arch < b.Arch
		}
		return a.HeaderDigest < b.HeaderDigest
	})
	return kept, nil
}

// rpmdb works on the database in a folder of this machine. Not with --root: that
// would be a chroot, and needs root.
func rpmdb(ctx context.Context, dir, what string, c command) (string, error) {
	c.args = []string{"rpmdb", "--define", "_dbpath " + dir, "--define", "_db_backend sqlite", what}
	c.mapped = true
	said, err := c.run(ctx)
	return said, errs.Wrap(err, "rpm database %s", dir)
}

// rebuildDatabase writes the database anew from its headers, sorted: numbers,
// order and free pages then tell nothing of how the root came to be. Keys that
// dnf imported go: a device imports those that its .repo files name, and must
// not trust the throw-away key of a candidate. It gives the headers.
func rebuildDatabase(ctx context.Context, root string, date time.Time) ([]*header, error) {
	dir, err := inside(root, dbFolder)
	if err != nil {
		return nil, err
	}
	headers, err := export(ctx, dir)
	if err != nil {
		return nil, err
	}
	var list bytes.Buffer
	for _, h := range headers {
		h.normalise(uint32(date.Unix()))
		list.Write(h.encode())
	}
	tmp, err := os.MkdirTemp(dir, ".slipway-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	said, err := rpmdb(ctx, tmp, "--importdb", command{stdin: &list})
	if err != nil {
		return nil, err
	}
	if said != "" {
		return nil, errs.E(errs.Failed, "rpmdb --importdb: "+lastLine(said))
	}
	// Otherwise nobody would know of a header that was silently left out.
	again, err := export(ctx, tmp)
	if err != nil {
		return nil, err
	}
	if len(again) != len(headers) {
		return nil, errs.Ef(errs.Internal, "rpm database of %s: %d packages went in, %d came out", root, len(headers), len(again))
	}
	// The log of the old database must not meet the new one.
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(filepath.Join(dir, dbFile+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if err := os.Rename(filepath.Join(tmp, dbFile), filepath.Join(dir, dbFile)); err != nil {
		return nil, err
	}
	return headers, os.Chmod(filepath.Join(dir, dbFile), 0o644)
}
