package boots

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"slipway/internal/check"
	"slipway/internal/imagefs"
	"slipway/internal/rpm"
)

// ownedFiles gives the files of an image whose contents its packages decide:
// regular ones, neither configuration nor %ghost, with their SHA-256 digests, by
// path. nil means that nobody knows what the image holds, or that another digest is
// used.
func ownedFiles(ctx context.Context, bed *check.Bed, image check.BootImage) (map[string]string, error) {
	i := slices.IndexFunc(bed.Contents, func(c check.ImageContent) bool { return c.Board == image.Board && c.Image == image.Image })
	if i < 0 || bed.Read == nil || len(bed.Contents[i].Packages) == 0 {
		return nil, nil
	}
	files := map[string]string{}
	for _, p := range bed.Contents[i].Packages {
		h, err := bed.Read(ctx, p)
		if err != nil {
			return nil, err
		}
		for _, f := range h.Files {
			switch {
			case !f.IsRegular() || f.Flags&(rpm.FileConfig|rpm.FileGhost) != 0 || f.Digest == "":
			case len(f.Digest) != 2*sha256.Size:
				return nil, nil
			default:
				files[f.Path] = f.Digest
			}
		}
	}
	return files, nil
}

// compareFiles reads the disk of a device that is off and compares the contents of
// the files with what their packages say. A file that is not there is the concern
// of rpm -Va on the device.
func (d *device) compareFiles(disk string, owned map[string]string) error {
	img, err := imagefs.Open(disk)
	if err != nil {
		d.find("disk", "the file system must be whole after poweroff", "the disk of the device cannot be read when it is off: %v", err)
		return nil
	}
	defer func() { _ = img.Close() }()
	d.asked++
	for _, path := range slices.Sorted(maps.Keys(owned)) {
		want := owned[path]
		digest, err := digestOf(img, path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			d.find("read:"+path, "the file system must be whole after poweroff", "%s cannot be read when the device is off: %v", path, err)
		case digest != want:
			d.find("verify:"+path, "the first boot or a service changes a file that a package owns: %ghost, %config, or leave it alone",
				"%s of the booted device has other contents than its package: sha256 %s, not %s", path, digest, want)
		}
	}
	return nil
}

func digestOf(img *imagefs.Image, path string) (string, error) {
	f, err := img.Open(strings.TrimLeft(path, "/"))
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
