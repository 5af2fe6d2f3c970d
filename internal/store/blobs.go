package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// folderBlobs is Blobs in DIR/sha256/ab/<64 digits>.
type folderBlobs struct{ dir string }

// ReadBlobs gives the blobs in a folder for reading: nothing is made or cleaned.
// A folder that does not exist holds no blobs.
func ReadBlobs(dir string) Blobs { return folderBlobs{dir} }

// OpenBlobs gives the blobs in a folder for writing: it makes the folder and
// removes what crashed writers left.
func OpenBlobs(dir string) (Blobs, error) {
	if err := makeRoot(dir); err != nil {
		return nil, err
	}
	if err := cleanTemps(dir); err != nil {
		return nil, err
	}
	return folderBlobs{dir}, nil
}

func (b folderBlobs) path(d distro.Digest) string {
	h := d.Hex()
	return filepath.Join(b.dir, "sha256", h[:2], h)
}

func (b folderBlobs) Put(ctx context.Context, r io.Reader) (distro.Digest, int64, error) {
	// A file that is here already costs one reading of it and no writing.
	if s, ok := r.(io.Seeker); ok {
		if at, err := s.Seek(0, io.SeekCurrent); err == nil {
			h := sha256.New()
			n, err := io.Copy(h, ctxReader{ctx, r})
			if err != nil {
				return "", 0, errs.Wrap(err, "read the content to store")
			}
			d := distro.DigestFromSum(h.Sum(nil))
			if size, err := b.Stat(ctx, d); err == nil && size == n {
				return d, n, b.sync(d)
			}
			if _, err := s.Seek(at, io.SeekStart); err != nil {
				return "", 0, errs.Wrap(err, "read the content to store again")
			}
		}
	}
	t, err := newTemp(b.dir)
	if err != nil {
		return "", 0, fault(err, "write", filepath.Join(b.dir, "sha256"))
	}
	defer t.drop()
	h := sha256.New()
	n, err := t.fill(ctx, io.TeeReader(r, h), 0o444, filepath.Join(b.dir, "sha256"))
	if err != nil {
		return "", 0, err
	}
	d := distro.DigestFromSum(h.Sum(nil))
	path := b.path(d)
	// Another size is damage of the disk: the new bytes heal it.
	if size, err := b.Stat(ctx, d); err != nil || size != n {
		if err := makeDir(filepath.Dir(path)); err != nil {
			return "", 0, err
		}
		if err := os.Rename(t.f.Name(), path); err != nil {
			return "", 0, fault(err, "write", path)
		}
		t.moved = true
	}
	return d, n, b.sync(d)
}

// sync makes the name of a blob durable. It is done for present blobs, too: who
// wrote one may have died before its own sync. On a clean folder it is cheap.
func (b folderBlobs) sync(d distro.Digest) error {
	sub := filepath.Dir(b.path(d))
	for _, p := range []string{sub, filepath.Dir(sub), b.dir} {
		if err := syncDir(p); err != nil {
			return err
		}
	}
	return nil
}

func (b folderBlobs) Open(ctx context.Context, d distro.Digest) (Blob, error) {
	if _, err := distro.ParseDigest(string(d)); err != nil {
		return nil, err
	}
	return openFile(b.path(d), "blob "+string(d))
}

func (b folderBlobs) Stat(ctx context.Context, d distro.Digest) (int64, error) {
	if _, err := distro.ParseDigest(string(d)); err != nil {
		return 0, err
	}
	return statFile(b.path(d), "blob "+string(d))
}

func (b folderBlobs) List(ctx context.Context) iter.Seq2[distro.Digest, error] {
	return func(yield func(distro.Digest, error) bool) {
		top := filepath.Join(b.dir, "sha256")
		subs, err := readDir(top)
		if err != nil {
			yield("", err)
			return
		}
		for _, sub := range subs {
			files, err := readDir(filepath.Join(top, sub.Name()))
			if err == nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				yield("", err)
				return
			}
			for _, f := range files {
				d, err := distro.ParseDigest("sha256:" + f.Name())
				if err == nil && f.Type().IsRegular() && d.Hex()[:2] == sub.Name() && !yield(d, nil) {
					return
				}
			}
		}
	}
}

func (b folderBlobs) Delete(ctx context.Context, d distro.Digest) error {
	if _, err := distro.ParseDigest(string(d)); err != nil {
		return err
	}
	path := b.path(d)
	if err := os.Remove(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fault(err, "delete", path)
	}
	return syncDir(filepath.Dir(path))
}

// readDir lists a folder, sorted; an absent one, or a file, is empty.
func readDir(path string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		if st, serr := os.Stat(path); errors.Is(err, fs.ErrNotExist) || serr == nil && !st.IsDir() {
			return nil, nil
		}
		return nil, fault(err, "read", path)
	}
	return entries, nil
}
