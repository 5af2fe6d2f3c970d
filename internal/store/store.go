package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"unicode/utf8"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Blob is an open file of a store. ReadAt may be called from several goroutines;
// Read keeps one position and may not. The caller closes it.
type Blob interface {
	io.Reader
	io.ReaderAt
	io.Closer
	Size() int64 // in bytes
}

// Blobs keeps bytes under their sha256. It is safe for use by several goroutines
// and processes at once.
type Blobs interface {
	// Put stores all of r and gives its digest and size in bytes. Content that
	// is present is not written again. When Put returns nil the blob survives a
	// power cut; when it fails, or is killed, no part of it is visible. An error
	// of r is returned wrapped.
	Put(ctx context.Context, r io.Reader) (distro.Digest, int64, error)
	// Open reads a blob; errs.NotFound when there is none. It does not hash: see
	// [Check].
	Open(ctx context.Context, d distro.Digest) (Blob, error)
	// Stat gives the size in bytes; errs.NotFound when there is none.
	Stat(ctx context.Context, d distro.Digest) (int64, error)
	// List yields every digest once, sorted, on the caller's goroutine. It stops
	// after the first error.
	List(ctx context.Context) iter.Seq2[distro.Digest, error]
	// Delete removes a blob. One that is absent is no error, so that a
	// collection can be repeated.
	Delete(ctx context.Context, d distro.Digest) error
}

// Tree keeps named files. It is safe for use by several goroutines; two
// processes may create files at once, but only the holder of a [Lock] should
// swap pointers. Names are checked by [CheckName].
type Tree interface {
	// Create stores all of r under a name, once. The same bytes again are no
	// error; other bytes are errs.Conflict, and the file stays as it was. A file
	// is visible only whole. It survives a power cut when a later Sync or Swap
	// has returned nil.
	Create(ctx context.Context, name string, r io.Reader) error
	// Swap makes name hold data, replacing what was there: readers see the old
	// or the new bytes. Everything created before is made durable first, so a
	// pointer never names what a power cut could take away. When Swap returns
	// nil the pointer survives a power cut; when it fails, it is old or new.
	Swap(ctx context.Context, name string, data []byte) error
	// Open reads a file; errs.NotFound when there is none.
	Open(ctx context.Context, name string) (Blob, error)
	// Stat gives the size in bytes; errs.NotFound when there is none.
	Stat(ctx context.Context, name string) (int64, error)
	// List yields the names that begin with prefix ("" for all), each once,
	// sorted by bytes, on the caller's goroutine. It stops after the first error.
	List(ctx context.Context, prefix string) iter.Seq2[string, error]
	// Sync is a barrier: when it returns nil, all that Create returned for
	// before survives a power cut.
	Sync(ctx context.Context) error
}

// tempPrefix begins the names of unfinished files. They lie at the top of a store
// and are never shown.
const tempPrefix = ".tmp-"

// CheckName refuses a name that is no name of a [Tree]: names are relative, parts
// are UTF-8 joined by "/", no part is empty, "." or "..", begins with ".tmp-", has
// control characters or is longer than 255 bytes; the whole is at most 1024
// bytes. The error is errs.Invalid.
func CheckName(name string) error {
	bad := func(why string) error {
		return errs.E(errs.Invalid, fmt.Sprintf("the file name %q %s", name, why))
	}
	if len(name) > 1024 {
		return bad("is longer than 1024 bytes")
	}
	if !utf8.ValidString(name) {
		return bad("is not UTF-8")
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		return bad("has control characters")
	}
	for part := range strings.SplitSeq(name, "/") {
		switch {
		case part == "":
			return bad("has an empty part")
		case part == "." || part == "..":
			return bad("has a part " + part)
		case len(part) > 255:
			return bad("has a part longer than 255 bytes")
		case strings.HasPrefix(part, tempPrefix):
			return bad("has a part that begins with " + tempPrefix)
		}
	}
	return nil
}

// PutFile stores the file at path. See [Blobs].Put.
func PutFile(ctx context.Context, b Blobs, path string) (distro.Digest, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, fault(err, "read", path)
	}
	defer f.Close()
	d, n, err := b.Put(ctx, f)
	return d, n, errs.Wrap(err, "store %s", path)
}

// Has reports whether the blob is there. It does not hash: see [Check].
func Has(ctx context.Context, b Blobs, d distro.Digest) (bool, error) {
	_, err := b.Stat(ctx, d)
	if errs.Is(err, errs.NotFound) {
		return false, nil
	}
	return err == nil, err
}

// Check reads all of a blob and compares it with its digest. Other bytes are
// errs.Denied, an absent blob is errs.NotFound.
func Check(ctx context.Context, b Blobs, d distro.Digest) error {
	f, err := b.Open(ctx, d)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, ctxReader{ctx, f})
	if err != nil {
		return errs.Wrap(err, "check blob %s", d)
	}
	if got := distro.DigestFromSum(h.Sum(nil)); got != d {
		return errs.E(errs.Denied, fmt.Sprintf("blob %s was changed: its %d bytes hash to %s", d, n, got),
			errs.Hint("something wrote into the store, or the disk is failing: delete the blob and store it again"))
	}
	return nil
}

// ctxReader ends a long copy when its context does.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
