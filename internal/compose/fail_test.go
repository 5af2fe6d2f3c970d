package compose_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"slipway/internal/compose"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/imagefs"
)

// smallRoot is a root with n random-looking MiB and no packages.
func smallRoot(t testing.TB, n int) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := os.WriteFile(filepath.Join(root, fmt.Sprint("file", i)), bytes.Repeat([]byte{byte(i + 1)}, 1<<20), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func options(mib int64) compose.DiskOptions {
	return compose.DiskOptions{Size: mib << 20, Seed: seed, Date: date, Arch: "aarch64"}
}

func empty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

// TestTooSmall: the size that the hint names is enough, and not far too much.
func TestTooSmall(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ files, size int64 }{{0, 1}, {20, 4}, {20, 20}} {
		root, dir := smallRoot(t, int(tt.files)), t.TempDir()
		out := filepath.Join(dir, "image")
		err := compose.Disk(t.Context(), root, out, options(tt.size))
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), fmt.Sprintf("%d MiB are too small", tt.size)) {
			t.Fatalf("%v", err)
		}
		empty(t, dir)
		m := regexp.MustCompile(`size: (\d+)M is enough`).FindStringSubmatch(strings.Join(errs.Hints(err), "\n"))
		if m == nil {
			t.Fatal(errs.Hints(err))
		}
		n, _ := strconv.ParseInt(m[1], 10, 64)
		if err := compose.Disk(t.Context(), root, out, options(n)); err != nil || n > tt.files*11/10+16 {
			t.Errorf("%d MiB of files, %d MiB named: %v", tt.files, n, err)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	root, dir := smallRoot(t, 1), t.TempDir()
	out := filepath.Join(dir, "image")
	for name, change := range map[string]func(*compose.DiskOptions){
		"no seed":    func(o *compose.DiskOptions) { o.Seed = "" },
		"no date":    func(o *compose.DiskOptions) { o.Date = time.Time{} },
		"long label": func(o *compose.DiskOptions) { o.Label = "a label that is too long" },
	} {
		o := options(16)
		change(&o)
		if err := compose.Disk(t.Context(), root, out, o); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := compose.Clean(t.Context(), root, date); !errs.Is(err, errs.Invalid) && !errs.Is(err, errs.Internal) {
		t.Errorf("a root without packages: %v", err)
	}
	if err := compose.Disk(t.Context(), root, filepath.Join(dir, "none", "image"), options(16)); !errs.Is(err, errs.NotFound) {
		t.Errorf("no such folder: %v", err)
	}
	if err := compose.Disk(t.Context(), filepath.Join(dir, "none"), out, options(16)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such root: %v", err)
	}
	empty(t, dir)
	// An image that exists stays when a new one cannot be made.
	if err := os.WriteFile(out, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := compose.Disk(t.Context(), root, out, options(1)); err == nil {
		t.Error("too small, and made")
	}
	if b, _ := os.ReadFile(out); string(b) != "old" {
		t.Errorf("%q", b)
	}
}

// TestChild runs in a world of its own, see the tests below.
func TestChild(t *testing.T) {
	what, dir, _ := strings.Cut(os.Getenv("SLIPWAY_COMPOSE_CHILD"), ":")
	root := filepath.Join(dir, "root")
	out := filepath.Join(dir, "out", "image")
	var err error
	switch what {
	case "":
		t.Skip("only run by other tests")
	case "full disk":
		err = compose.Disk(t.Context(), root, out, options(64))
		empty(t, filepath.Dir(out))
		if err == nil || !errs.Is(err, errs.Unavailable) || !strings.Contains(strings.Join(errs.Hints(err), ""), "make room") {
			t.Errorf("disk: %v", err)
		}
		err = compose.OCI(t.Context(), root, out, compose.OCIOptions{Date: date, Arch: "x86_64"})
		empty(t, filepath.Dir(out))
		if err == nil || !errs.Is(err, errs.Unavailable) {
			t.Errorf("oci: %v", err)
		}
	case "user":
		if err := compose.Disk(t.Context(), root, out, options(16)); err != nil {
			t.Fatal(err)
		}
		img, err := imagefs.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"file0", "secret", "."} {
			if fi, err := img.Stat(name); err != nil || fi.Sys().(*imagefs.Inode).UID != 0 || fi.Sys().(*imagefs.Inode).GID != 0 {
				t.Errorf("%s: %+v, %v", name, fi, err)
			}
		}
		if b, err := img.ReadFile("secret"); err != nil || string(b) != "not readable" {
			t.Errorf("%q %v", b, err)
		}
		if err := compose.OCI(t.Context(), root, out+".oci", compose.OCIOptions{Date: date, Arch: "x86_64"}); err != nil {
			t.Fatal(err)
		}
	}
}

func child(t *testing.T, what, dir string, argv ...string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	argv = append(argv, exe, "-test.run=^TestChild$")
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "SLIPWAY_COMPOSE_CHILD="+what+":"+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", what, err, out)
	}
}

// TestFullDisk works in a file system of 6 MiB that no other process sees.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	random := make([]byte, 16<<20) // must not compress
	for i, x := 0, distro.DigestOf(nil); i < len(random); i += 64 {
		x = distro.DigestOf([]byte(x))
		copy(random[i:], x.Hex())
	}
	for name, data := range map[string][]byte{"root/file": random, "out/x": nil} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755), os.WriteFile(filepath.Join(dir, name), data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	child(t, "full disk", dir, "unshare", "-rm", "sh", "-c", `mount -t tmpfs -o size=6M none "$1/out" && shift && exec "$@"`, "sh", dir)
}

// TestOrdinaryUser: files of the user are root's in the image.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "compose-") // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	root := filepath.Join(dir, "root")
	if err := errors.Join(os.MkdirAll(root, 0o755), os.Mkdir(filepath.Join(dir, "out"), 0o755), os.WriteFile(filepath.Join(root, "file0"), []byte("x"), 0o644),
		os.WriteFile(filepath.Join(root, "secret"), []byte("not readable"), 0)); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		child(t, "user", dir)
		return
	}
	const nobody = 65534
	for _, name := range []string{"", "root", "out", "root/file0", "root/secret"} {
		if err := os.Chown(filepath.Join(dir, name), nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// The test's own program lies in a folder that is closed to others.
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run(t, "cp", exe, filepath.Join(dir, "test"))
	cmd := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", filepath.Join(dir, "test"), "-test.run=^TestChild$")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "SLIPWAY_COMPOSE_CHILD=user:"+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
