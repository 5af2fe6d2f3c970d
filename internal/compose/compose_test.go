package compose_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/internal/compose"
	"slipway/internal/distro"
	"slipway/internal/dnf"
	"slipway/internal/dnf/dnftest"
	"slipway/internal/errs"
	"slipway/internal/imagefs"
)

var (
	date = time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)
	seed = distro.DigestOf([]byte("seed"))
)

// spec has what makes installs differ, and what is easily got wrong: scriptlets
// that write files and logs, a user of today, links, holes, an absolute link in
// the way of a folder that is cleaned.
const spec = `Name: odd
Version: 1
Release: 1
BuildArch: noarch
Requires: plain
%install
mkdir -p %{buildroot}/tmp %{buildroot}/etc %{buildroot}/usr/bin %{buildroot}/usr/lib %{buildroot}/var/lib/odd %{buildroot}/volatile/log/own %{buildroot}/var/cache/odd %{buildroot}/dev
cd %{buildroot}
echo 'root:*:20000:0:99999:7:::' > etc/shadow
echo 'echo odd' > usr/bin/odd
echo twice > usr/bin/twice
ln usr/bin/twice usr/bin/odd-again
ln -s odd usr/bin/odd-link
ln -s /volatile/log var/log
ln -s usr/bin bin
echo first > usr/lib/holes
truncate -s 1M usr/lib/holes
echo last >> usr/lib/holes
truncate -s 300K usr/lib/zeros
for i in $(seq 400); do echo $i > usr/lib/a-file-with-quite-a-long-name-so-that-the-folder-becomes-large-$i; done
ln -s /usr/lib/$(printf 'x%.0s' $(seq 200)) usr/lib/long-link
touch -h -d 2025-06-01T00:00:00Z usr/lib/*
echo kept > volatile/log/own/kept
%post
echo "user:!:$(( $(date +%%s) / 86400 )):0:99999:7:::" >> /etc/shadow
date > /var/lib/odd/made-without-its-date
echo same > /var/lib/odd/made-without-its-date
date > /volatile/log/install.log
date > /var/cache/odd/cache
date > /etc/machine-id
date > /tmp/left
%files
%attr(0600,root,root) /etc/shadow
/bin
/usr/bin/*
%attr(4755,root,root) %caps(cap_net_raw=ep) /usr/bin/odd
/usr/lib/*
/var/lib/odd
/volatile/log/own
/var/log
%dir /var/cache/odd
%attr(1777,root,root) %dir /tmp
`

const plain = `Name: plain
Version: 2
Release: 3
Epoch: 1
BuildArch: noarch
%install
mkdir -p %{buildroot}/etc
echo plain > %{buildroot}/etc/plain
%files
%config /etc/plain
`

// shell gives roots a shell: it is not what is tested here.
const shell = `Name: shell
Version: 1
Release: 1
AutoReqProv: no
Provides: /bin/sh
%install
mkdir -p %{buildroot}/usr/bin
cp /usr/bin/busybox %{buildroot}/usr/bin/busybox
ln -s busybox %{buildroot}/usr/bin/sh
ln -s busybox %{buildroot}/usr/bin/date
%files
/usr/bin/*
`

func install(t *testing.T, tool *dnf.Tool, packages []string, first ...string) string {
	t.Helper()
	key := dnftest.NewKey(t, "feed")
	dir := t.TempDir()
	var rpms []string
	for _, p := range packages {
		data, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(dir, filepath.Base(p))
		if err := os.WriteFile(copied, data, 0o644); err != nil {
			t.Fatal(err)
		}
		rpms = append(rpms, copied)
	}
	key.Sign(t, rpms...)
	feed, _ := key.Feed(t, rpms...)
	root, err := tool.NewRoot(t.Context(), filepath.Join(t.TempDir(), "r"), dnf.Options{Repos: []dnf.Repo{feed}})
	if err != nil {
		t.Fatal(err)
	}
	for _, names := range [][]string{first, {"odd", "shell"}} {
		if len(names) == 0 {
			continue
		}
		res, err := root.Install(t.Context(), names...)
		if err != nil || len(res.Scriptlets) > 0 {
			t.Fatalf("%v %v\n%s", err, res.Scriptlets, res.Output)
		}
	}
	return root.Path()
}

func sum(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// tree lists a root: all that an image could tell of it.
func tree(t *testing.T, root string) string {
	t.Helper()
	out, err := exec.Command("find", root, "-printf", `/%P %y %m %U:%G %s %T@ %l\n`).Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(out), "\n")
	for i, l := range lines {
		if f := strings.Fields(l); len(f) > 4 && slices.Contains(f[:3], "d") {
			f[len(f)-2] = "-" // size of a folder: the file system's affair
			lines[i] = strings.Join(f, " ")
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func need(t *testing.T, programs map[string]string) {
	t.Helper()
	for program, debian := range programs {
		if _, err := exec.LookPath(program); err != nil {
			if _, err := os.Stat("/usr/sbin/" + program); err != nil {
				t.Fatalf("%s is not installed: apt-get install %s", program, debian)
			}
		}
	}
}

func run(t *testing.T, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/sbin:"+os.Getenv("PATH"), "LC_ALL=C")
	if p, err := exec.LookPath("/usr/sbin/" + argv[0]); err == nil {
		cmd.Path, cmd.Err = p, nil
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out)
}

// TestTwoInstalls is the promise of the package.
func TestTwoInstalls(t *testing.T) {
	need(t, map[string]string{"mke2fs": "e2fsprogs", "debugfs": "e2fsprogs", "e2fsck": "e2fsprogs", "skopeo": "skopeo", "sgdisk": "gdisk"})
	ctx := t.Context()
	tool := dnftest.Find(t)
	packages := slices.Concat(dnftest.Build(t, spec), dnftest.Build(t, plain), dnftest.Build(t, shell))
	a := install(t, tool, packages)
	b := install(t, tool, packages, "plain") // in another order
	dbs := [2]string{sum(t, filepath.Join(a, "var/lib/rpm/rpmdb.sqlite")), sum(t, filepath.Join(b, "var/lib/rpm/rpmdb.sqlite"))}
	if tree(t, a) == tree(t, b) || dbs[0] == dbs[1] {
		t.Error("two installs were the same from the beginning: the test tests nothing")
	}
	for _, r := range []string{a, b} {
		if err := compose.Clean(ctx, r, date); err != nil {
			t.Fatal(err)
		}
	}
	if x, y := tree(t, a), tree(t, b); x != y {
		t.Errorf("trees differ:\n%s\n-----\n%s", x, y)
	}
	run(t, "diff", "-r", "--no-dereference", a, b)
	again := tree(t, a)
	if err := compose.Clean(ctx, a, date); err != nil {
		t.Fatal(err)
	}
	if again != tree(t, a) {
		t.Error("a second Clean changes something")
	}

	t.Run("disk", func(t *testing.T) { checkDisk(t, a, b) })
	t.Run("oci", func(t *testing.T) { checkOCI(t, a, b) })
	t.Run("root", func(t *testing.T) { checkRoot(t, a) }) // the last: rpm leaves files
}

func checkRoot(t *testing.T, root string) {
	for _, gone := range []string{"tmp/left", "volatile/log/install.log", "var/cache/odd/cache", "var/lib/dnf", "dev/null", "var/lib/rpm/.rpm.lock", "var/lib/rpm/rpmdb.sqlite-wal"} {
		if _, err := os.Lstat(filepath.Join(root, gone)); err == nil {
			t.Errorf("%s is still there", gone)
		}
	}
	for name, want := range map[string]string{"volatile/log/own/kept": "kept\n", "etc/machine-id": "", "etc/shadow": "root:*:20000:0:99999:7:::\nuser:!:20458:0:99999:7:::\n"} {
		if b, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	// What is not config is as the packages say, by rpm's own judgement.
	db := "--dbpath=" + filepath.Join(root, "var/lib/rpm")
	if got := run(t, "rpm", db, "-qa", "--qf", "%{NAME} %{INSTALLTIME} %{INSTALLTID} %{RSAHEADER} %{SIGPGP} %{DBINSTANCE}\n"); got !=
		"odd 1767614400 1767614400 (none) (none) 1\nplain 1767614400 1767614400 (none) (none) 2\nshell 1767614400 1767614400 (none) (none) 3\n" {
		t.Errorf("rpm -qa:\n%s", got)
	}
	if os.Geteuid() == 0 {
		out, _ := exec.Command("rpm", "--root", root, "--dbpath", "/var/lib/rpm", "-Va").CombinedOutput()
		if got := string(out); got != "S.5....T.    /etc/shadow\n" {
			t.Errorf("rpm -Va:\n%s", got)
		}
	}
}

func checkDisk(t *testing.T, a, b string) {
	ctx := t.Context()
	opts := compose.DiskOptions{Size: 32 << 20, Label: "light", Seed: seed, Date: date, Arch: "x86_64"}
	one, two := filepath.Join(t.TempDir(), "one.img"), filepath.Join(t.TempDir(), "two.img")
	for root, out := range map[string]string{a: one, b: two} {
		if err := compose.Disk(ctx, root, out, opts); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s %s\n%s %s", sum(t, one), one, sum(t, two), two)
	if sum(t, one) != sum(t, two) {
		t.Error("two installs make two images")
	}
	run(t, "e2fsck", "-fn", one+"?offset=1048576")
	if got := run(t, "sgdisk", "-v", one); !strings.Contains(got, "No problems found") {
		t.Error(got)
	}
	if got := run(t, "sgdisk", "-i", "1", one); !strings.Contains(got, "Partition name: 'light'") || !strings.Contains(got, "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709") || !strings.Contains(got, "First sector: 2048 ") {
		t.Error(got)
	}
	compare(t, a, one)
	opts.Seed = distro.DigestOf([]byte("another"))
	other := filepath.Join(t.TempDir(), "other.img")
	if err := compose.Disk(ctx, a, other, opts); err != nil {
		t.Fatal(err)
	}
	if sum(t, one) == sum(t, other) {
		t.Error("the seed changes nothing")
	}
	m, err := compose.Describe(ctx, a, one, compose.Manifest{Image: "light", Board: "qemux86-64", Date: date})
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Packages) != 3 || m.Packages[1].NEVRA != "plain-1:2-3.noarch" || m.Digest.Hex() != sum(t, one) || m.Size != 32<<20 || m.File != "one.img" {
		t.Errorf("%+v", m)
	}
	for _, p := range m.Packages {
		if _, err := distro.ParseDigest(string(p.HeaderDigest)); err != nil {
			t.Errorf("%s: %v", p.NEVRA, err)
		}
	}
}

// compare reads an image and compares it with the root that it was made of.
func compare(t *testing.T, root, image string) {
	t.Helper()
	img, err := imagefs.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = img.Close() }()
	var want, got []string
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		fi, _ := d.Info()
		rel, _ := filepath.Rel(root, path)
		line := fmt.Sprint(rel, " ", fi.Mode(), " ", fi.ModTime().UTC())
		if fi.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %x", fi.Size(), sha256.Sum256(b))
		} else if fi.Mode()&fs.ModeSymlink != 0 {
			l, _ := os.Readlink(path)
			line += " " + l
		}
		want = append(want, line)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = fs.WalkDir(img, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, _ := d.Info()
		in := fi.Sys().(*imagefs.Inode)
		for _, when := range []time.Time{in.ATime, in.CTime, in.Born} {
			if !when.Equal(date) {
				t.Errorf("%s: %v", path, when)
			}
		}
		if in.UID != 0 || in.GID != 0 {
			t.Errorf("%s belongs to %d:%d", path, in.UID, in.GID)
		}
		if path == "lost+found" {
			return nil
		}
		line := fmt.Sprint(path, " ", fi.Mode(), " ", fi.ModTime())
		if fi.Mode().IsRegular() {
			b, err := img.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %x", fi.Size(), sha256.Sum256(b))
		} else if fi.Mode()&fs.ModeSymlink != 0 {
			l, err := img.ReadLink(path)
			if err != nil {
				return err
			}
			line += " " + l
		}
		got = append(got, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range max(len(want), len(got)) {
		if i >= len(want) || i >= len(got) || want[i] != got[i] {
			t.Fatalf("root and image differ at line %d:\n%v\n%v", i, want[min(i, len(want)):min(i+2, len(want))], got[min(i, len(got)):min(i+2, len(got))])
		}
	}
}

func checkOCI(t *testing.T, a, b string) {
	ctx := t.Context()
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one.tar"), filepath.Join(dir, "two.tar")
	opts := compose.OCIOptions{Date: date, Arch: "aarch64", Name: "halyard:1.3", Labels: map[string]string{"org.opencontainers.image.version": "1.3"}}
	for root, out := range map[string]string{a: one, b: two} {
		if err := compose.OCI(ctx, root, out, opts); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s %s", sum(t, one), one)
	if sum(t, one) != sum(t, two) {
		t.Error("two installs make two container images")
	}
	var got struct {
		Name, Architecture, Os string
		Created                time.Time
		Labels                 map[string]string
		Layers                 []string
	}
	if err := json.Unmarshal([]byte(run(t, "skopeo", "--override-arch", "arm64", "inspect", "oci-archive:"+one)), &got); err != nil {
		t.Fatal(err)
	}
	if got.Architecture != "arm64" || got.Os != "linux" || !got.Created.Equal(date) || got.Labels["org.opencontainers.image.version"] != "1.3" || len(got.Layers) != 1 {
		t.Errorf("%+v", got)
	}
	// skopeo checks every digest on the way.
	run(t, "skopeo", "--insecure-policy", "--override-arch", "arm64", "copy", "-q", "oci-archive:"+one, "dir:"+filepath.Join(dir, "copied"))
	unpacked := filepath.Join(dir, "unpacked")
	if err := os.Mkdir(unpacked, 0o755); err != nil {
		t.Fatal(err)
	}
	layer := filepath.Join(dir, "copied", strings.TrimPrefix(got.Layers[0], "sha256:"))
	run(t, "tar", "-xzpf", layer, "-C", unpacked, "--numeric-owner", "--xattrs", "--xattrs-include=*")
	if err := os.Chmod(unpacked, 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		_, x, _ := strings.Cut(tree(t, a), "\n/ d ") // the root's own time is that of unpacking
		_, y, _ := strings.Cut(tree(t, unpacked), "\n/ d ")
		if x[strings.IndexByte(x, '\n'):] != y[strings.IndexByte(y, '\n'):] {
			t.Error("the layer is not the root")
		}
		if got := run(t, "getfattr", "-n", "security.capability", "--only-values", filepath.Join(unpacked, "usr/bin/odd")); got == "" {
			t.Error("file capabilities are lost")
		}
	}
	run(t, "diff", "-r", "--no-dereference", a, unpacked)
	opts.Arch = "vax"
	if err := compose.OCI(ctx, a, one, opts); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
}
