package boots

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/rpm"
)

func regular(path, content string, flags uint32) rpm.File {
	return rpm.File{Path: path, Mode: 0o100644, Flags: flags, Digest: strings.TrimPrefix(string(distro.DigestOf([]byte(content))), "sha256:")}
}

// What a device has written over is found on its disk when it is off; what is its
// own business is not.
func TestFilesOfTheDisk(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, text := range map[string]string{"usr/bin/tool": "changed", "usr/bin/same": "same", "etc/conf": "edited", "var/ghost": "grown"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	disk := filepath.Join(t.TempDir(), "disk.img")
	if out, err := exec.Command("/sbin/mke2fs", "-q", "-t", "ext4", "-d", root, disk, "8M").CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v\n%s", err, out)
	}
	p := distro.PackageRecord{Name: "tool", Version: "1", Release: "1", Arch: "noarch"}
	bed := &check.Bed{
		Contents: []check.ImageContent{{Board: "tiny", Image: "light", Packages: []distro.PackageRecord{p}}},
		Read: func(context.Context, distro.PackageRecord) (*rpm.Package, error) {
			return &rpm.Package{Files: []rpm.File{regular("/usr/bin/tool", "tool", 0), regular("/usr/bin/same", "same", 0), regular("/usr/bin/gone", "gone", 0),
				regular("/etc/conf", "conf", rpm.FileConfig), regular("/var/ghost", "", rpm.FileGhost), {Path: "/usr/bin", Mode: 0o040755}}}, nil
		},
	}
	image := check.BootImage{Board: "tiny", Image: "light"}
	owned, err := ownedFiles(t.Context(), bed, image)
	if err != nil || len(owned) != 3 {
		t.Fatalf("%v, %v", owned, err)
	}
	d := &device{image: image, n: 1, told: map[string]bool{}}
	if err := d.compareFiles(disk, owned); err != nil || d.asked != 1 || len(d.findings) != 1 || d.findings[0].ID != "tiny/light:verify:/usr/bin/tool" {
		t.Errorf("asked %d, %v: %+v", d.asked, err, d.findings)
	}
	if err := os.Truncate(disk, 64<<10); err != nil {
		t.Fatal(err)
	}
	d = &device{image: image, n: 1, told: map[string]bool{}}
	if err := d.compareFiles(disk, owned); err != nil || len(d.findings) == 0 {
		t.Errorf("half a disk: %v: %+v", err, d.findings)
	}
	if owned, err := ownedFiles(t.Context(), bed, check.BootImage{Board: "tiny", Image: "other"}); owned != nil || err != nil {
		t.Errorf("an image of unknown contents: %v, %v", owned, err)
	}
}
