package distro

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"slipway/internal/errs"
)

// Digest is "sha256:" and 64 lower-case hexadecimal digits.
type Digest string

// DigestOf hashes bytes.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return DigestFromSum(sum[:])
}

// DigestFromSum wraps a finished sha256 sum.
func DigestFromSum(sum []byte) Digest { return Digest("sha256:" + hex.EncodeToString(sum)) }

// ParseDigest checks the form.
func ParseDigest(s string) (Digest, error) {
	h, ok := strings.CutPrefix(s, "sha256:")
	if _, err := hex.DecodeString(h); !ok || err != nil || len(h) != 64 || strings.ToLower(h) != h {
		return "", errs.E(errs.Invalid, fmt.Sprintf("%q is no digest (sha256: and 64 hexadecimal digits)", s))
	}
	return Digest(s), nil
}

// Hex gives the digits alone.
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), "sha256:") }

// Short gives the first twelve digits, for people.
func (d Digest) Short() string {
	h := d.Hex()
	return h[:min(12, len(h))]
}

// CanonicalJSON gives the bytes that are hashed and signed for a document: Go's
// encoding/json of v (struct order, sorted map keys), no HTML escaping, one
// newline at the end.
func CanonicalJSON(v any) []byte {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("distro.CanonicalJSON(%T): %v", v, err))
	}
	return []byte(b.String())
}
