package cycle

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
)

// manifestEnding is that of BitBake's list of an image's packages: lines of
// "name architecture version" (write_image_manifest and format_pkg_list in OE-Core's
// meta/lib/oe). What else has the name before it belongs to the image.
const manifestEnding = ".manifest"

// bitbakeImages reads what BitBake's images hold, from their manifests. A package of
// a manifest that neither the build nor a release has stands there with its name
// alone, without a licence: rules about licences keep the image in.
func (w *Workspace) bitbakeImages(ctx context.Context, b Build) ([]check.ImageContent, error) {
	known, err := w.knownPackages(ctx, b)
	if err != nil {
		return nil, err
	}
	var out []check.ImageContent
	for _, a := range b.Artifacts {
		stem, isManifest := strings.CutSuffix(a.Name, manifestEnding)
		board, image, ok := strings.Cut(stem, "/")
		if a.Class != distro.Images || !isManifest || !ok {
			continue
		}
		packages, err := w.manifest(ctx, a, known)
		if err != nil {
			return nil, err
		}
		out = append(out, check.ImageContent{Board: board, Image: imageIn(board, image), Name: stem, Packages: packages})
	}
	return out, nil
}

// knownPackages are those of a build and of the releases, by what a manifest says of one.
func (w *Workspace) knownPackages(ctx context.Context, b Build) (map[string]distro.PackageRecord, error) {
	published, err := w.published(ctx)
	if err != nil {
		return nil, err
	}
	known := map[string]distro.PackageRecord{}
	for _, r := range feed.Newest(feed.Union(published, b.Packages)) {
		known[r.Name+" "+distro.RPMArch(r.Arch)+" "+r.Version] = r
	}
	return known, nil
}

// manifest reads a list of packages.
func (w *Workspace) manifest(ctx context.Context, a distro.Artifact, known map[string]distro.PackageRecord) ([]distro.PackageRecord, error) {
	data, err := w.readBlob(ctx, a.Digest)
	if err != nil {
		return nil, errs.Wrap(err, "manifest %s", a.Name)
	}
	var out []distro.PackageRecord
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) == 0 {
			continue
		}
		if len(f) != 3 {
			return nil, errs.E(errs.Invalid, fmt.Sprintf("manifest %s has the line %q: no name, architecture and version", a.Name, s.Text()))
		}
		r, ok := known[f[0]+" "+distro.RPMArch(f[1])+" "+f[2]]
		if !ok {
			r = distro.PackageRecord{Name: f[0], Arch: distro.RPMArch(f[1]), Version: f[2]}
		}
		out = append(out, r)
	}
	return out, nil
}

// imageOrigins gives what a file beside BitBake's images is made of: the packages of
// the image whose name it begins with, else something that nothing is known of (a
// kernel, a boot loader).
func imageOrigins(contents []check.ImageContent, name string) []distro.Origin {
	i := slices.IndexFunc(contents, func(c check.ImageContent) bool { return name == c.Name || strings.HasPrefix(name, c.Name+".") })
	if i < 0 {
		return []distro.Origin{{}}
	}
	return contents[i].Origins()
}

// imageIn gives the recipe's name of a file of an image: BitBake puts the board, and
// the version, behind it.
func imageIn(board, file string) string {
	if i := strings.LastIndex(file, "-"+board); i > 0 {
		return file[:i]
	}
	return file
}

// bootable are the endings of images that a rig can boot, and readable those whose
// files can be looked at, the best first.
var (
	bootable = []string{".wic", ".ext4"}
	readable = slices.Concat(bootable, []string{".ext3", ".ext2", ".squashfs", ".squashfs-xz", ".squashfs-zst", ".squashfs-lz4", ".tar", ".tar.zst", ".tar.gz", ".tar.xz", ".tar.bz2",
		".wic.zst", ".wic.gz", ".wic.xz", ".wic.bz2", ".ext4.zst", ".ext4.gz", ".ext4.xz", ".ext4.bz2"})
)

// bitbakeDisks lays out one file of each of a build's images of the definition: a disk,
// where there is one. Not booted is what has no disk, and what is of a board without a rig.
func (w *Workspace) bitbakeDisks(ctx context.Context, b Build, lay func(a distro.Artifact) (string, error)) ([]check.BootImage, error) {
	boards, err := w.boardsOf(b.ID)
	if err != nil {
		return nil, err
	}
	var out []check.BootImage
	for _, board := range boards {
		for _, image := range board.Images {
			found, ending := diskOf(b, board.Name, image)
			if found == nil {
				continue
			}
			path, err := lay(*found)
			if err != nil {
				return nil, errs.Wrap(err, "image %s of %s", image, board.Name)
			}
			i, err := w.bootPolicy(board, check.BootImage{Board: board.Name, Image: image, Path: path, Digest: found.Digest})
			if err != nil {
				return nil, err
			}
			switch {
			case i.Rig == "" && i.Command == "":
				i.Unbooted = "slipway.yaml names no boot.rig for board " + board.Name
			case !slices.Contains(bootable, ending):
				i.Unbooted = ending + " is no disk; IMAGE_FSTYPES of the image would have to name one of " + strings.Join(bootable, ", ")
			}
			out = append(out, i)
		}
	}
	return out, nil
}

// diskOf finds the best file of an image, and its ending.
func diskOf(b Build, board, image string) (*distro.Artifact, string) {
	for _, ending := range readable {
		for _, a := range b.Artifacts {
			of, file, _ := strings.Cut(a.Name, "/")
			if a.Class == distro.Images && of == board && strings.HasSuffix(file, ending) && imageIn(board, file) == image {
				return &a, ending
			}
		}
	}
	return nil, ""
}
