package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway/internal/check/security"
)

// TestRealBitBakeImage takes an image and an SDK that BitBake makes through the whole cycle: the
// gate looks at the image's files, it is published with its manifest, and restored. One that
// lets somebody in stops at the gate; of a build that took a changed object of the cache
// nothing is stored.
func TestRealBitBakeImage(t *testing.T) {
	s := newBitBakeSeries(t)
	s.edit("slipway.yaml", "{name: fixture-a}", "{name: fixture-a, images: [fixture-image]}")
	s.edit("slipway.yaml", "targets: [packagegroup-fixture]", `targets: [packagegroup-fixture, "fixture-image:do_populate_sdk"]`)
	s.do("key", "create", "--no-passphrase")
	s.do("run", "--yes", "--by", "Ada Byron")

	const stem = "fixture-image-fixture-a.rootfs-1.1"
	published := filepath.Join(s.ws, "publication", "1", "images", "fixture-a", "1.1")
	manifest, err := os.ReadFile(filepath.Join(published, stem+".manifest"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"hello core2_64 1.0\n", "libgreet1 core2_64 1.0\n", "fixture-board fixture_a 1.0\n", "fixture-config noarch 1.0\n"} {
		if !strings.Contains(string(manifest), line) {
			t.Errorf("%q is not in the published manifest:\n%s", line, manifest)
		}
	}
	disk := filepath.Join(published, stem+".tar.gz")
	var r security.Report
	if out := run(t, s.ws, 0, "slipway", "image", "check", disk, "--json"); json.Unmarshal([]byte(out), &r) != nil || r.Files < 20 || r.Asked < 20 {
		t.Errorf("image check says %s", out)
	}
	t.Log(run(t, s.ws, 0, "slipway", "image", "check", disk))
	s.do("verify")

	restored := filepath.Join(s.dir, "restored")
	s.do("restore", "1.1", "--into", restored)
	images := func(name string) bool { return strings.HasPrefix(name, "fixture-image-") }
	want, got := sums(t, published, images), sums(t, restored, images)
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if t.Logf("%s  %s", want[name], name); got[name] != want[name] {
			t.Errorf("%s was restored as %q, published is %s", name, got[name], want[name])
		}
	}
	// The SDK has what is for its host, and for the target.
	anything := func(string) bool { return true }
	if a, b := sums(t, filepath.Join(s.ws, "publication", "1", "sdk", "1.1"), anything), sums(t, filepath.Join(restored, "sdk"), anything); len(a) < 3 || !maps.Equal(a, b) {
		t.Errorf("of the SDK is published %v, restored %v", a, b)
	}
	installers, err := filepath.Glob(filepath.Join(s.ws, "publication", "1", "sdk", "1.1", "*-toolchain-1.1.sh"))
	if err != nil || len(installers) != 1 {
		t.Fatal(installers, err)
	}
	inside := run(t, s.dir, 0, "sh", "-c", `tail -n +$(($(grep -na -m1 '^MARKER:$' "$0" | cut -d: -f1) + 1)) "$0" | tar --zstd -tf -`, installers[0])
	for _, file := range []string{"/usr/include/greet.h", "/libgreet.so.1.0.0", "/usr/bin/fixture-tool", "relocate_sdk.py"} {
		if !strings.Contains(inside, file+"\n") {
			t.Errorf("%s is not in the SDK:\n%s", file, inside)
		}
	}
	if want[stem+".tar.gz"] == "" {
		t.Errorf("published are %v, restored %v", want, got)
	}

	const recipe = recipes + "images/fixture-image.bb"
	s.edit(recipe, "inherit image\n", `inherit image
ROOTFS_POSTPROCESS_COMMAND += "planted"
planted() {
    install -d ${IMAGE_ROOTFS}/home/root/.ssh
    echo ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA ada > ${IMAGE_ROOTFS}/home/root/.ssh/authorized_keys
}
`)
	if code, out := s.try("run"); code != 7 || !strings.Contains(out, "security/fixture-a/fixture-image:authorized-key:home/root/.ssh/authorized_keys") {
		t.Errorf("an image with somebody's key: exit code %d", code)
	}
	s.do("reject", "1.2-c1", "--because", "the image lets somebody in")

	// Somebody changes an object of the released cache: it unpacks as before, and nothing
	// that was built with it is stored.
	s.edit(recipe, `ROOTFS_POSTPROCESS_COMMAND += "planted"`, "")
	found, err := filepath.Glob(filepath.Join(s.ws, ".slipway/mirror/sstate/*/*/sstate:fixture-config:*_package_write_rpm.tar.zst"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	run(t, t.TempDir(), 0, "sh", "-ec", `tar --zstd -xf "$0"; echo 1 > evil; rm "$0"; tar --zstd -cf "$0" .; chmod 644 "$0"`, found[0])
	if code, out := s.try("build"); code != 4 || !strings.Contains(out, "was changed in the mirror") || !strings.Contains(out, "made again of the releases") {
		t.Errorf("a changed object of the cache: exit code %d", code)
	}
}
