package rpm

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"sync"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Verify compares the file with what it says of itself: the sha256 of the main
// header (in the signature header), the size of header and payload, and the
// digest of the compressed payload (in the main header). It reads the payload
// once, in small pieces, and knows nothing of keys: who made the package is
// shown by its [Signature] over the main header.
//
// Errors: Invalid for an unsound or truncated file and for one without these
// checksums (rpm before 4.14); Denied for bytes that are not those that were
// built; Unavailable when r fails.
func Verify(r io.ReaderAt, size int64, name string) error {
	l, err := readLayout(r, size, name)
	if err != nil {
		return err
	}
	return verify(r, l, name)
}

func verify(r io.ReaderAt, l *layout, name string) error {
	want := l.sig.str(sigSHA256)
	if want == "" {
		return errs.E(errs.Invalid, name+": no sha256 of its header", errs.Hint("build it again with rpm 4.14 or newer"))
	}
	if got := distro.DigestOf(l.main.raw).Hex(); got != want {
		return tampered(name, "the main header's sha256 is %s, the signature header says %s", got, want)
	}
	if want, got := l.sig.integer(sigLongSize, sigSize), l.size-l.main.start; want != 0 && want != got {
		if got < want {
			return damaged(name, "truncated in the payload: %d of %d bytes of header and payload are there", got, want)
		}
		return damaged(name, "%d bytes too many at the end: header and payload are %d bytes, %d are there", got-want, want, got)
	}
	want = l.main.str(tagPayloadDigest)
	if want == "" {
		return errs.E(errs.Invalid, name+": no digest of its payload", errs.Hint("build it again with rpm 4.14 or newer"))
	}
	var h hash.Hash
	switch algo := l.main.integer(tagPayloadDigAlgo); algo {
	case 8:
		h = sha256.New()
	case 9:
		h = sha512.New384()
	case 10:
		h = sha512.New()
	default:
		return errs.Ef(errs.Invalid, "%s: payload digest of kind %d; 8 (sha256), 9 and 10 are known", name, algo)
	}
	buf := verifyBuffers.Get().(*[64 << 10]byte)
	n, err := io.CopyBuffer(h, l.payload(r), buf[:])
	verifyBuffers.Put(buf)
	if err != nil {
		return errs.E(errs.Unavailable, "read payload of "+name, err)
	}
	if there := l.size - l.main.end(); n < there {
		return damaged(name, "truncated in the payload: %d of %d bytes are there", n, there)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return tampered(name, "the payload's digest is %s, the main header says %s", got, want)
	}
	return nil
}

var verifyBuffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

func tampered(name, format string, args ...any) error {
	return errs.E(errs.Denied, fmt.Sprintf("%s was changed after it was built: %s", name, fmt.Sprintf(format, args...)),
		errs.Hint("do not use the file: fetch or build it again, and find out where it was changed"))
}
