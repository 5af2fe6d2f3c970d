package store

import (
	"crypto/sha256"
	"io"

	"slipway/internal/distro"
)

// Hash reads r to its end and gives the digest of its bytes.
func Hash(r io.Reader) (distro.Digest, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return distro.DigestFromSum(h.Sum(nil)), nil
}
