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
	published, err := w.published(ctx)
	if err != nil {
		return nil, err
	}
	known := map[string]distro.PackageRecord{}
	for _, r := range feed.Newest(feed.Union(published, b.Packages)) {
		known[r.Name+" "+distro.RPMArch(r.Arch)+" "+r.Version] = r
	}
	var out []check.ImageContent
	for _, a := range b.Artifacts {
		stem, isManifest := strings.CutSuffix(a.Name, manifestEnding)
		board, image, ok := strings.Cut(stem, "/")
		if a.Class != distro.Images || !isManifest || !ok {
			continue
		}
		data, err := w.readBlob(ctx, a.Digest)
		if err != nil {
			return nil, errs.Wrap(err, "manifest %s", a.Name)
		}
		c := check.ImageContent{Board: board, Image: image, Name: stem}
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
			c.Packages = append(c.Packages, r)
		}
		out = append(out, c)
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

// bootable are the endings of images that a rig can boot, the best first.
var bootable = []string{".wic", ".ext4"}

// bitbakeDisks lays out the disks of a build's images of the definition, for the
// boards that have a rig.
func (w *Workspace) bitbakeDisks(ctx context.Context, b Build, lay func(a distro.Artifact) (string, error)) ([]check.BootImage, error) {
	boards, err := w.boardsOf(b.ID)
	if err != nil {
		return nil, err
	}
	var out []check.BootImage
	for _, board := range boards {
		for _, image := range board.Images {
			if board.Boot.Rig == "" {
				continue
			}
			var found *distro.Artifact
			for _, ending := range bootable {
				for _, a := range b.Artifacts {
					if found == nil && a.Class == distro.Images && strings.HasPrefix(a.Name, board.Name+"/"+image+"-"+board.Name) && strings.HasSuffix(a.Name, ending) {
						found = &a
					}
				}
			}
			if found == nil {
				continue
			}
			path, err := lay(*found)
			if err != nil {
				return nil, errs.Wrap(err, "image %s of %s", image, board.Name)
			}
			out = append(out, check.BootImage{Board: board.Name, Image: image, Path: path, Rig: board.Boot.Rig})
		}
	}
	return out, nil
}
