package layers

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"slipway/internal/feed"
)

// buildUser is who real BitBake runs as when the tests run as root; it is made
// if it is not there. docs/builder-bitbake.md says so.
const buildUser = "slipway-build"

// yocto is a folder where real BitBake builds, with borrowed tools: the fixture of
// internal/bitbake, meta-slipway, and testdata/meta-device.
type yocto struct {
	t             *testing.T
	dir           string
	bitbake, core string
	who           *syscall.Credential // nil: as we are
}

// checkouts gives those of a release, by the ends of the variables' names.
func checkouts(t *testing.T, series string) (bitbake, core string) {
	t.Helper()
	bitbake, core = os.Getenv("SLIPWAY_TEST_BITBAKE"+series), os.Getenv("SLIPWAY_TEST_OECORE"+series)
	if bitbake == "" || core == "" {
		t.Skipf("SKIPPED: real BitBake: SLIPWAY_TEST_BITBAKE%s and SLIPWAY_TEST_OECORE%s name no checkouts", series, series)
	}
	return bitbake, core
}

func newYocto(t *testing.T, series string) *yocto {
	t.Helper()
	bitbake, core := checkouts(t, series)
	y := &yocto{t: t, dir: t.TempDir(), bitbake: bitbake, core: core}
	if os.Geteuid() == 0 {
		if _, err := user.Lookup(buildUser); err != nil {
			if out, err := exec.Command("useradd", "--system", "--create-home", "--shell", "/bin/sh", buildUser).CombinedOutput(); err != nil {
				t.Fatalf("useradd %s: %v\n%s", buildUser, err, out)
			}
		}
		u, err := user.Lookup(buildUser)
		if err != nil {
			t.Fatal(err)
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		y.who = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: []uint32{}}
		// t.TempDir's parent is for its owner alone.
		for _, d := range []string{y.dir, filepath.Dir(y.dir)} {
			if err := os.Chmod(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, from := range map[string]fs.FS{"meta-slipway": MetaSlipway(), "meta-fixture": os.DirFS("../internal/bitbake/testdata/meta-fixture"), "meta-device": os.DirFS("testdata/meta-device")} {
		if err := os.CopyFS(y.path("layers", name), from); err != nil {
			t.Fatal(err)
		}
	}
	return y
}

func (y *yocto) path(parts ...string) string {
	return filepath.Join(append([]string{y.dir}, parts...)...)
}

// write lays a file; own gives all to the build user, when everything is laid.
func (y *yocto) write(name, text string) {
	y.t.Helper()
	path := y.path(name)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(text), 0o644)
	}
	if err != nil {
		y.t.Fatal(err)
	}
}

func (y *yocto) own() {
	y.t.Helper()
	if y.who == nil {
		return
	}
	if out, err := exec.Command("chown", "-R", fmt.Sprintf("%d:%d", y.who.Uid, y.who.Gid), y.dir).CombinedOutput(); err != nil {
		y.t.Fatal(err, string(out))
	}
}

// configure writes the configuration; layers are BBLAYERS beside OE-Core's meta.
func (y *yocto) configure(conf string, layers ...string) {
	y.t.Helper()
	list := y.core + "/meta"
	for _, l := range layers {
		list += " " + y.path("layers", l)
	}
	y.write("top/conf/bblayers.conf", "BBPATH = \"${TOPDIR}\"\nBBFILES ?= \"\"\nBBLAYERS = \""+list+"\"\n")
	y.write("top/conf/local.conf", `SANITY_TESTED_DISTROS = ""
BB_NO_NETWORK = "1"
CONNECTIVITY_CHECK_URIS = ""
TMPDIR = "${TOPDIR}/tmp"
SSTATE_DIR = "${TOPDIR}/sstate"
DL_DIR = "${TOPDIR}/downloads"
`+conf)
	y.own()
}

// run runs a program of BitBake's, and gives what it says on both outputs.
func (y *yocto) run(args ...string) (string, error) {
	y.t.Helper()
	path := strings.Join([]string{y.path("layers/meta-fixture/host-tools"), y.bitbake + "/bin", y.core + "/scripts", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"}, ":")
	cmd := exec.CommandContext(y.t.Context(), "/usr/bin/env", append([]string{"-i", "PATH=" + path, "HOME=" + y.dir, "LANG=en_US.UTF-8", "LC_ALL=en_US.UTF-8",
		"BBPATH=" + y.path("top"), "BUILDDIR=" + y.path("top"), "PYTHONDONTWRITEBYTECODE=1", "BB_SERVER_TIMEOUT=0", "BB_ENV_PASSTHROUGH_ADDITIONS=BB_SERVER_TIMEOUT"}, args...)...)
	cmd.Dir = y.path("top")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: y.who, Setpgid: true}
	// The server is in a session of its own: asked to end, BitBake ends it, too.
	cmd.Cancel = func() error { return syscall.Kill(cmd.Process.Pid, syscall.SIGTERM) }
	err := cmd.Run()
	return out.String(), err
}

func (y *yocto) must(args ...string) string {
	y.t.Helper()
	out, err := y.run(args...)
	if err != nil {
		y.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "WARNING: ") && strings.Contains(line, "slipway") {
			y.t.Errorf("%s", line)
		}
	}
	return out
}

// value is that of a variable, as bitbake -e gives it.
func value(environment, name string) string {
	for line := range strings.Lines(environment) {
		if rest, ok := strings.CutPrefix(line, name+"=\""); ok {
			return strings.Join(strings.Fields(strings.TrimSuffix(strings.TrimSuffix(rest, "\n"), "\"")), " ")
		}
	}
	return "(not set)"
}

// little masks what of OE-Core is not needed here, so that parsing takes seconds.
const little = `BBMASK = "/meta/recipes-(?!core/meta/|core/base-files/|core/base-passwd/|kernel/linux/linux-dummy|extended/images/|devtools/run-postinsts/)"
`

// deviceConf is the configuration of the device's distribution.
func (y *yocto) deviceConf(init string) string {
	return little + `MACHINE = "fixture-a"
DISTRO = "device"
BB_HASHSERVE = "auto"
PRSERV_HOST = "localhost:0"
DEVICE_INIT = "` + init + `"
SLIPWAY_FEED_CONFIG = "` + y.path("feed") + `"
SLIPWAY_DEVICE_DIR = "` + y.path("programs") + `"
`
}

// given lays what Slipway, or the user, gives to the recipes.
func (y *yocto) given() {
	y.t.Helper()
	keys := map[string][]byte{"package": []byte("the package key\n"), "metadata": []byte("the metadata key\n")}
	for name, data := range feed.Configuration("halyard", "Halyard Linux", "1", "https://feeds.example.org/halyard", []string{"noarch", feed.ArchVariable, feed.MachineVariable, feed.SoCVariable}, keys) {
		y.write("feed/"+name, string(data))
	}
	program := exec.CommandContext(y.t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", y.path("programs/slipway-device-amd64"), "../cmd/slipway-device")
	program.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := program.CombinedOutput(); err != nil {
		y.t.Fatal(err, string(out))
	}
}

// deployed is the folder of packages: older releases add the C library's name to TMPDIR.
func (y *yocto) deployed() string {
	y.t.Helper()
	found, err := filepath.Glob(y.path("top/tmp*/deploy/rpm"))
	if err != nil || len(found) != 1 {
		y.t.Fatal("folders with packages:", found, err)
	}
	return found[0]
}

// packages are those that were made, by name; without -dev and -dbg.
func (y *yocto) packages() map[string]string {
	y.t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(y.deployed(), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".rpm") {
			return err
		}
		out, err := exec.Command("rpm", "-qp", "--qf", "%{NAME} %{EVR}", path).Output()
		name, version, _ := strings.Cut(string(out), " ")
		if !strings.HasSuffix(name, "-dev") && !strings.HasSuffix(name, "-dbg") {
			all[name] = version
		}
		return err
	})
	if err != nil {
		y.t.Fatal(err)
	}
	return all
}

// target is a root file system into which a real dnf installs.
type target struct {
	t          *testing.T
	root, home string
	feeds      string
}

// newTarget has what base-files and the kernel would lay: the links of a merged /usr,
// and /dev/null.
func newTarget(t *testing.T, merged bool) *target {
	t.Helper()
	r := &target{t: t, root: t.TempDir(), home: t.TempDir(), feeds: t.TempDir()}
	for _, dir := range []string{"usr/bin", "usr/sbin", "usr/lib", "dev", "var/tmp"} {
		if err := os.MkdirAll(filepath.Join(r.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin", "sbin", "lib"} {
		if !merged {
			break
		}
		if err := os.Symlink("usr/"+dir, filepath.Join(r.root, dir)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(r.root, "dev/null"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"home/.rpmmacros": "%_dbpath /var/lib/rpm\n", "root/root/.rpmmacros": "%_dbpath /var/lib/rpm\n",
		"home/.rpmrc": "arch_compat: x86_64: fixture_a core2_64 noarch\n", "home/vars/arch": "fixture_a:core2_64:x86_64\n"} {
		dir, rest, _ := strings.Cut(name, "/")
		path := filepath.Join(map[string]string{"home": r.home, "root": r.root}[dir], rest)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// add puts what was built into the feed, which is cumulative.
func (r *target) add(y *yocto) {
	r.t.Helper()
	for _, args := range [][]string{{"cp", "-r", "-n", y.deployed() + "/.", r.feeds}, {"createrepo_c", "-q", r.feeds}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			r.t.Fatal(args, err, string(out))
		}
	}
}

func (r *target) dnf(args ...string) string {
	r.t.Helper()
	argv := append([]string{"HOME=" + r.home, "dnf", "-y", "-q", "--installroot=" + r.root, "--releasever=1", "--disablerepo=*", "--noplugins", "--setopt=reposdir=/nowhere",
		"--setopt=cachedir=" + r.home, "--setopt=logdir=" + r.home, "--nogpgcheck", "--refresh", "--setopt=ignorearch=1", "--setopt=varsdir=" + filepath.Join(r.home, "vars"),
		"--repofrompath=built,file://" + r.feeds}, args...)
	out, err := exec.CommandContext(r.t.Context(), "env", argv...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("dnf %v: %v\n%s", args, err, out)
	}
	for line := range strings.Lines(string(out)) {
		for _, bad := range []string{"scriptlet", "warning", "error", "Error", "conflict"} {
			if strings.Contains(line, bad) {
				r.t.Errorf("dnf %v says: %s", args, line)
			}
		}
	}
	return string(out)
}

// rpm asks the root's database. rpm -V exits with 1 for any difference.
func (r *target) rpm(args ...string) string {
	out, _ := exec.Command("env", append([]string{"HOME=" + r.home, "rpm", "--root=" + r.root}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out))
}

func (r *target) read(name string) string {
	r.t.Helper()
	data, err := os.ReadFile(filepath.Join(r.root, name))
	if err != nil {
		r.t.Error(err)
	}
	return string(data)
}

// boots is where the name that the boot loader knows leads.
func (r *target) boots() string {
	r.t.Helper()
	to, err := os.Readlink(filepath.Join(r.root, "boot/bzImage"))
	if err != nil {
		r.t.Error(err)
	}
	return to
}

// kernels are the images in /boot.
func (r *target) kernels() string {
	found, _ := filepath.Glob(filepath.Join(r.root, "boot/bzImage-*"))
	for i := range found {
		found[i] = filepath.Base(found[i])
	}
	slices.Sort(found)
	return strings.Join(found, " ")
}
