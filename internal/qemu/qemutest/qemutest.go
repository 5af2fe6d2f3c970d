// Package qemutest makes tiny guests for tests: a Debian cloud kernel and an
// initramfs of busybox and dropbear, which can be told to be a good device (keys
// of its own, kept on a raw disk) or a bad one. They need no packages of ours and
// boot in about three seconds.
//
// The Debian packages are downloaded once, by apt, into the user's cache folder.
// Where they cannot be had the test fails and says so.
package qemutest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"slipway/internal/qemu"
)

// Find gives a rig, or fails the test.
func Find(t testing.TB, name string) *qemu.Rig {
	t.Helper()
	r, err := qemu.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Native names the rig of this machine's architecture, which boots fastest.
func Native() string {
	if runtime.GOARCH == "arm64" {
		return "qemu-aarch64"
	}
	return "qemu-x86_64"
}

// Device is the last part of a guest's start: a good one. Its host keys and who
// may log in are kept on the first disk if there is one, as a tar behind its
// file system, from byte 64 Mi on.
const Device = `
if [ -e /dev/vda ]; then dd if=/dev/vda bs=1M skip=64 2>/dev/null | tar x -C /keep 2>/dev/null; fi
if [ ! -s /keep/host ]; then
	dropbearkey -t ed25519 -f /keep/host >/dev/null 2>&1
	cp /sys/firmware/qemu_fw_cfg/by_name/opt/org.slipway/authorized_key/raw /keep/authorized_keys 2>/dev/null ||
		echo "slipway: claim password for root: three-small-ships"
	if [ -e /dev/vda ]; then tar c -C /keep . | dd of=/dev/vda bs=1M seek=64 conv=notrunc 2>/dev/null; sync; fi
fi
mkdir -p /root/.ssh
cp /keep/authorized_keys /root/.ssh/ 2>/dev/null
chmod 700 /root/.ssh; chmod 600 /root/.ssh/authorized_keys
dropbear -r /keep/host -p 22
`

// Say prints the line that a guest is ready.
const Say = "\necho 'slipway: ready' >/dev/console\n"

// Kernel makes what a rig boots: rc is shell that runs at the end of the start.
func Kernel(t testing.TB, rig, rc string) qemu.Kernel {
	t.Helper()
	r := Find(t, rig)
	p, err := partsOf(r.Arch)
	if err != nil {
		t.Fatalf("the tiny guest's Debian packages cannot be had (it needs apt-get, dpkg-deb and a mirror): %v", err)
	}
	var a archive
	for _, d := range []string{"bin", "dev", "proc", "sys", "root", "tmp", "etc", "keep", "lib", "lib64", "modules"} {
		a.dir(d)
	}
	files := p.files
	for _, name := range slices.Sorted(maps.Keys(files)) {
		a.file(name, 0o755, files[name])
	}
	a.link("init", "bin/busybox")
	a.link("bin/sh", "busybox")
	a.file("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\n"))
	a.file("etc/shells", 0o644, []byte("/bin/sh\n"))
	// openssl passwd -6, of three-small-ships
	a.file("etc/shadow", 0o600, []byte("root:"+passwordHash+":1::::::\n"))
	a.file("etc/inittab", 0o644, []byte("::sysinit:/bin/sh /etc/rc\n"))
	a.file("etc/rc", 0o755, []byte(prelude+p.insmod()+network+rc))
	return qemu.Kernel{Name: "/boot/vmlinuz-" + p.version, Image: p.kernel, Initramfs: a.bytes(), Cmdline: "console=" + r.Console + " panic=10"}
}

// Image makes a disk image that names what [Kernel] gives: an ext4 file system
// with /boot alone, and 2 MiB behind it for a [Device].
func Image(t testing.TB, rig, rc string) string {
	t.Helper()
	k := Kernel(t, rig, rc)
	dir := t.TempDir()
	path, boot := filepath.Join(dir, "disk.img"), filepath.Join(dir, "root", "boot")
	if err := os.MkdirAll(boot, 0o755); err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf("kernel=%s\ninitramfs=/boot/initramfs.img\ncmdline=%s\n", k.Name, k.Cmdline)
	for name, b := range map[string][]byte{filepath.Base(k.Name): k.Image, "initramfs.img": k.Initramfs, filepath.Base(qemu.BootConf): []byte(conf)} {
		if err := os.WriteFile(filepath.Join(boot, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("/sbin/mke2fs", "-q", "-t", "ext4", "-d", filepath.Join(dir, "root"), path, "64M").CombinedOutput()
	if err != nil {
		t.Fatalf("mke2fs (Debian's e2fsprogs): %v\n%s", err, out)
	}
	if err := errors.Join(os.Truncate(path, 66<<20), os.RemoveAll(filepath.Join(dir, "root"))); err != nil {
		t.Fatal(err)
	}
	return path
}

const prelude = `exec >/dev/console 2>&1
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts; mount -t devpts pts /dev/pts
`

const network = `
ip link set lo up; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2
`

const passwordHash = "$6$slipway$CCme13os48rTfF01Ry3nAjETajeg8mZvANWKr6VI9U6uDceDhXluStEMSSQlZj4otjUmxyh6kb3M7cT7me1vb/"

// parts of a guest, of one architecture.
type parts struct {
	version string
	kernel  []byte
	files   map[string][]byte
	modules []string // in the order in which they go in
}

func (p parts) insmod() string {
	var b strings.Builder
	for _, m := range p.modules {
		fmt.Fprintf(&b, "insmod /modules/%s.ko\n", m)
	}
	return b.String()
}

var (
	lock   sync.Mutex
	loaded = map[string]parts{}
)

func partsOf(arch string) (parts, error) {
	lock.Lock()
	defer lock.Unlock()
	if p, ok := loaded[arch]; ok {
		return p, nil
	}
	dir, err := packages(map[string]string{"x86_64": "amd64", "aarch64": "arm64"}[arch])
	if err != nil {
		return parts{}, err
	}
	p := parts{files: map[string][]byte{}}
	take := func(name string, globs ...string) {
		for _, glob := range globs {
			found, _ := filepath.Glob(filepath.Join(dir, glob))
			for _, f := range found {
				if st, e := os.Stat(f); e == nil && st.Mode().IsRegular() && err == nil {
					p.files[strings.ReplaceAll(name, "*", filepath.Base(f))], err = os.ReadFile(f)
				}
			}
		}
	}
	take("bin/busybox", "bin/busybox")
	take("bin/dropbear", "usr/sbin/dropbear")
	take("bin/dropbearkey", "usr/bin/dropbearkey")
	for _, lib := range []string{"libc.so.6", "libcrypt.so.1", "libgmp.so.10", "libtomcrypt.so.1", "libtommath.so.1", "libz.so.1"} {
		take("lib/*", "lib/*-linux-gnu/"+lib, "usr/lib/*-linux-gnu/"+lib)
	}
	take("lib64/*", "lib64/ld-linux-x86-64.so.2")
	take("lib/*", "lib/ld-linux-aarch64.so.1")
	kernels, _ := filepath.Glob(filepath.Join(dir, "boot/vmlinuz-*"))
	if len(kernels) != 1 || err != nil {
		return p, fmt.Errorf("kernels %v: %w", kernels, err)
	}
	p.version = strings.TrimPrefix(filepath.Base(kernels[0]), "vmlinuz-")
	if p.kernel, err = os.ReadFile(kernels[0]); err != nil {
		return p, err
	}
	if err := p.addModules(filepath.Join(dir, "lib/modules"), "virtio_pci", "virtio_net", "virtio_blk", "qemu_fw_cfg", "button"); err != nil {
		return p, err
	}
	loaded[arch] = p
	return p, nil
}

// addModules takes modules with what they depend on, in order.
func (p *parts) addModules(dir string, names ...string) error {
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok {
			found[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
	if err != nil {
		return err
	}
	var add func(name string) error
	add = func(name string) error {
		path := found[name]
		if path == "" || slices.Contains(p.modules, name) {
			return nil // built in
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if _, after, ok := bytes.Cut(b, []byte("\x00depends=")); ok {
			deps, _, _ := bytes.Cut(after, []byte{0})
			for d := range strings.SplitSeq(string(deps), ",") {
				if err := add(strings.ReplaceAll(d, "-", "_")); err != nil {
					return err
				}
			}
		}
		p.modules = append(p.modules, name)
		p.files["modules/"+name+".ko"] = b
		return nil
	}
	for _, n := range names {
		if err := add(n); err != nil {
			return err
		}
	}
	return nil
}

// packages gives a folder with what the guest needs, unpacked; it is made once.
func packages(arch string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "slipway", "qemutest", arch)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), arch+"-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(work) }()
	// A state of apt's own: the other architecture's lists are no business of the host.
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "debs", "root"} {
		if err := os.MkdirAll(filepath.Join(work, d), 0o755); err != nil {
			return "", err
		}
	}
	if err := os.WriteFile(filepath.Join(work, "status"), nil, 0o644); err != nil {
		return "", err
	}
	options := []string{"-qq", "-o", "Dir::State=" + work + "/state", "-o", "Dir::State::status=" + work + "/status", "-o", "Dir::Cache=" + work + "/cache",
		"-o", "APT::Architecture=" + arch, "-o", "APT::Architectures=" + arch, "-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none"}
	run := func(program string, args ...string) (string, error) {
		cmd := exec.Command(program, args...)
		cmd.Dir = filepath.Join(work, "debs")
		var msg bytes.Buffer
		cmd.Stderr = &msg
		out, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("%s %s: %w\n%s", program, args[len(args)-1], err, msg.String())
		}
		return string(out), nil
	}
	if _, err := run("apt-get", append(options, "update")...); err != nil {
		return "", err
	}
	names, err := run("apt-cache", append(options, "pkgnames", "linux-image-6.")...)
	if err != nil {
		return "", err
	}
	kernel, newest := "", 0
	for _, m := range regexp.MustCompile(`(?m)^linux-image-6\.[0-9.]+-(\d+)-cloud-`+arch+`$`).FindAllStringSubmatch(names, -1) {
		if n, _ := strconv.Atoi(m[1]); n > newest {
			kernel, newest = m[0], n
		}
	}
	if kernel == "" {
		return "", fmt.Errorf("apt knows no linux-image-6.*-cloud-%s", arch)
	}
	if _, err := run("apt-get", append(options, "download", kernel, "busybox-static", "dropbear-bin", "libc6", "libcrypt1", "libgmp10", "libtomcrypt1", "libtommath1", "zlib1g")...); err != nil {
		return "", err
	}
	debs, _ := filepath.Glob(filepath.Join(work, "debs", "*.deb"))
	for _, d := range debs {
		if _, err := run("dpkg-deb", "-x", d, filepath.Join(work, "root")); err != nil {
			return "", err
		}
	}
	// Another test may have been faster; then its folder is as good.
	if err := os.Rename(filepath.Join(work, "root"), dir); err != nil {
		if _, e := os.Stat(dir); e != nil {
			return "", err
		}
	}
	return dir, nil
}
