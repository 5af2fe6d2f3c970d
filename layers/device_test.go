package layers

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// device is the root file system of one that does not exist: a shell, the small tools
// that OE-Core's busybox has, and programs of this machine.
type device struct {
	t    *testing.T
	root string
	ro   bool   // the root is mounted read-only; /data and what is below /run and /var/volatile is not
	data string // mounted at /data
}

// applets are those of OE-Core's busybox that the scripts need. The shell is dash:
// busybox's finds all its applets, linked or not.
const applets = "awk cat chmod cp date dd df grep mkdir mount mv rm sed sleep stat sync tee tr umount touch id test ["

func newDevice(t *testing.T, programs ...string) *device {
	t.Helper()
	d := &device{t: t, root: t.TempDir(), data: t.TempDir()}
	for _, dir := range []string{"bin", "usr/sbin", "usr/bin", "sbin", "etc/default", "dev", "proc", "sys", "run", "tmp", "data", "var/lib", "var/log", "var/volatile"} {
		d.mkdir(dir)
	}
	if err := os.Symlink("/run", filepath.Join(d.root, "var/run")); err != nil {
		t.Fatal(err)
	}
	d.copy("busybox", "bin/busybox")
	for _, a := range strings.Fields(applets) {
		if err := os.Symlink("busybox", filepath.Join(d.root, "bin", a)); err != nil {
			t.Fatal(err)
		}
	}
	d.copy("dash", "bin/sh")
	for _, p := range programs {
		d.copy(p, "usr/bin/"+p)
	}
	d.write("etc/passwd", "root:x:0:0:root:/home/root:/bin/sh\nsshd:x:22:22::/:/bin/false\n", 0o644)
	d.write("etc/shadow", "root:*:19000:0:99999:7:::\nsshd:!:19000:0:99999:7:::\n", 0o400)
	d.write("dev/urandom", "", 0o644)
	d.write("dev/null", "", 0o644)
	return d
}

// copy takes a program of this machine, with the libraries that it needs.
func (d *device) copy(program, to string) {
	d.t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		deb := map[string]string{"busybox": "busybox-static", "dropbearkey": "dropbear-bin", "ssh-keygen": "openssh-client", "findfs": "util-linux"}[program]
		d.t.Fatalf("%s: apt-get install %s", program, cmpOr(deb, program))
	}
	data, err := os.ReadFile(path)
	if err != nil {
		d.t.Fatal(err)
	}
	d.write(to, string(data), 0o755)
	out, _ := exec.Command("ldd", path).Output() // fails for a static program
	for _, word := range strings.Fields(string(out)) {
		if !strings.HasPrefix(word, "/") {
			continue
		}
		if _, err := os.Stat(filepath.Join(d.root, word)); err == nil {
			continue
		}
		lib, err := os.ReadFile(word)
		if err != nil {
			d.t.Fatal(err)
		}
		d.write(word, string(lib), 0o755)
	}
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (d *device) mkdir(name string) {
	d.t.Helper()
	if err := os.MkdirAll(filepath.Join(d.root, name), 0o755); err != nil {
		d.t.Fatal(err)
	}
}

func (d *device) write(name, text string, mode os.FileMode) {
	d.t.Helper()
	d.mkdir(filepath.Dir(name))
	path := filepath.Join(d.root, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		d.t.Fatal(err)
	}
}

func (d *device) read(name string) string {
	d.t.Helper()
	data, err := os.ReadFile(filepath.Join(d.root, name))
	if err != nil {
		d.t.Error(err)
	}
	return string(data)
}

func (d *device) mode(name string) os.FileMode {
	d.t.Helper()
	info, err := os.Stat(filepath.Join(d.root, name))
	if err != nil {
		d.t.Error(err)
		return 0
	}
	return info.Mode()
}

// script lays a file of the layer.
func (d *device) script(name, to string) {
	d.t.Helper()
	data, err := fs.ReadFile(MetaSlipway(), "recipes-slipway/"+name)
	if err != nil {
		d.t.Fatal(err)
	}
	d.write(to, string(data), 0o755)
}

// sh runs a command on the device, in mount namespaces of its own, and gives what it
// says on both outputs.
func (d *device) sh(command string) (string, error) {
	d.t.Helper()
	script := `set -e
mount --bind "$ROOT" "$ROOT"
[ -z "$RO" ] || mount -o remount,bind,ro "$ROOT"
mount --bind /dev/urandom "$ROOT/dev/urandom"
mount --bind /dev/null "$ROOT/dev/null"
[ -e "$ROOT/proc/net" ] || mount --rbind /proc "$ROOT/proc"
mount --bind "$DATA" "$ROOT/data"
mount -t tmpfs -o mode=0755 tmpfs "$ROOT/run"
mount -t tmpfs -o mode=0755 tmpfs "$ROOT/var/volatile"
exec chroot "$ROOT" /bin/sh -c "$COMMAND"
`
	args := []string{"-m"}
	if os.Geteuid() != 0 {
		args = append(args, "-r")
	}
	cmd := exec.CommandContext(d.t.Context(), "unshare", append(args, "sh", "-c", script)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "ROOT=" + d.root, "DATA=" + d.data, "COMMAND=" + command}
	if d.ro {
		cmd.Env = append(cmd.Env, "RO=1")
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// must is sh, of a command that succeeds.
func (d *device) must(command string) string {
	d.t.Helper()
	out, err := d.sh(command)
	if err != nil {
		d.t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return out
}

// content is all of the root file system: paths, modes, bytes.
func (d *device) content() map[string]string {
	d.t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(d.root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		text := info.Mode().String()
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += string(data)
		}
		all[path] = text
		return nil
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return all
}
