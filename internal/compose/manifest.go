package compose

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Manifest says what an image is made of. distro.CanonicalJSON of it is the file
// beside the image, <image file>.json.
type Manifest struct {
	Schema   int            `json:"schema"`            // 1
	Image    string         `json:"image"`             // name of the recipe, "light"
	Board    string         `json:"board,omitempty"`   // "qemux86-64"
	Version  string         `json:"version,omitempty"` // of the release
	Arch     string         `json:"arch,omitempty"`    // package architecture
	Format   string         `json:"format,omitempty"`  // "ext4" (in a GPT) or "oci"
	Date     time.Time      `json:"date"`
	File     string         `json:"file"`   // name, no folder
	Digest   distro.Digest  `json:"digest"` // of the file
	Size     int64          `json:"size"`   // bytes
	Packages []ImagePackage `json:"packages"`
}

// ImagePackage is one package of an image.
type ImagePackage struct {
	NEVRA        string        `json:"nevra"`         // name-[epoch:]version-release.arch
	HeaderDigest distro.Digest `json:"header_digest"` // its identity, whoever signed it
}

// Describe completes a manifest: it hashes the image and lists the packages of
// the root that the image was made of.
func Describe(ctx context.Context, root, image string, m Manifest) (Manifest, error) {
	m.Schema, m.File, m.Date = 1, filepath.Base(image), m.Date.UTC().Truncate(time.Second)
	packages, err := Packages(ctx, root)
	if err != nil {
		return m, err
	}
	m.Packages = make([]ImagePackage, len(packages))
	for i, p := range packages {
		m.Packages[i] = ImagePackage{NEVRA: p.NEVRA(), HeaderDigest: p.HeaderDigest}
	}
	f, err := os.Open(image)
	if err != nil {
		return m, errs.Wrap(err, "hash image")
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	if m.Size, err = io.Copy(sum, f); err != nil {
		return m, errs.Wrap(err, "hash image %s", image)
	}
	m.Digest = distro.DigestFromSum(sum.Sum(nil))
	return m, nil
}
