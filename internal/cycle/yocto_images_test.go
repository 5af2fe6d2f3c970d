package cycle

import (
	"testing"

	"slipway/internal/distro"
)

// TestDiskOf: of an image's files the best one is taken, by the names of old releases
// (NAME-BOARD-VERSION.rootfs.ENDING) and new ones (NAME-BOARD.rootfs-VERSION.ENDING).
func TestDiskOf(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		files        []string
		want, ending string
	}{
		{[]string{"b/core-image-b.rootfs-1.1.manifest", "b/core-image-b.rootfs-1.1.tar.gz", "b/core-image-b.rootfs-1.1.ext4", "b/core-image-b.rootfs-1.1.wic"}, "b/core-image-b.rootfs-1.1.wic", ".wic"},
		{[]string{"b/core-image-b-1.1.rootfs.tar.gz", "b/core-image-b-1.1.rootfs.ext4"}, "b/core-image-b-1.1.rootfs.ext4", ".ext4"},
		{[]string{"b/core-image-b.rootfs-1.1.wic.zst", "b/core-image-b.rootfs-1.1.tar.zst"}, "b/core-image-b.rootfs-1.1.tar.zst", ".tar.zst"},
		{[]string{"b/core-image-b.rootfs-1.1.squashfs-xz"}, "b/core-image-b.rootfs-1.1.squashfs-xz", ".squashfs-xz"},
		{[]string{"b/core-image-minimal-b.rootfs-1.1.ext4", "b2/core-image-b2.rootfs-1.1.ext4", "b/core-image-b.rootfs-1.1.manifest", "b/core-image-b.rootfs-1.1.spdx.json", "b/bzImage-b.bin"}, "", ""},
	} {
		var b Build
		for _, f := range tt.files {
			b.Artifacts = append(b.Artifacts, distro.Artifact{Class: distro.Packages, Name: f}, distro.Artifact{Class: distro.Images, Name: f})
		}
		a, ending := diskOf(b, "b", "core-image")
		if got := a; (got == nil) != (tt.want == "") || got != nil && (got.Name != tt.want || got.Class != distro.Images) || ending != tt.ending {
			t.Errorf("%v: %+v %s", tt.files, a, ending)
		}
	}
	for file, want := range map[string]string{"core-image-b.rootfs-1.1": "core-image", "core-image-b-1.1.rootfs": "core-image", "image-b-b.rootfs-1.1": "image-b", "other": "other"} {
		if got := imageIn("b", file); got != want {
			t.Errorf("%s: %s", file, got)
		}
	}
}
