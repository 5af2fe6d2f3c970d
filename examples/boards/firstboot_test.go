package boards_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// firstBoots cuts the power at every point of slipway-firstboot that writes,
// and asks what the next boot makes of it. The root has the package firstboot.
func firstBoots(t *testing.T, r *root) {
	script := filepath.Join(r.dir, "usr/sbin/slipway-firstboot")
	data, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	const commit = `sync && mv -f "$1.new" "$1" && sync`
	if strings.Count(string(data), "sync") != 2 || !strings.Contains(string(data), commit) {
		t.Fatalf("this test does not know how slipway-firstboot writes:\n%s", data)
	}
	cut := "n=0\ncut() { n=$((n + 1)); [ $n != \"$CUT\" ] || kill -9 $$; }\n"
	text := strings.Replace(string(data), commit, `cut && mv -f "$1.new" "$1" && cut`, 1)
	text = strings.Replace(text, "set -u\n", "set -u\n"+cut, 1)
	write(t, filepath.Join(r.dir, "cut"), []byte(text))
	write(t, filepath.Join(r.dir, "dev/urandom"), nil) // a mount point: dropbear writes into it
	shadow, err := os.ReadFile(filepath.Join(r.dir, "etc/shadow"))
	if err != nil {
		t.Fatal(err)
	}
	seed := filepath.Join(r.dir, "sys/firmware/qemu_fw_cfg/by_name/opt/org.slipway/authorized_key/raw")

	for _, key := range []string{"", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEc admiral\n"} {
		points := 0
		for point := 1; ; point++ {
			for _, f := range []string{"etc/machine-id", "etc/dropbear", "root/.ssh", "var/lib/slipway"} {
				os.RemoveAll(filepath.Join(r.dir, f))
			}
			os.Mkdir(filepath.Join(r.dir, "etc/dropbear"), 0o700)
			os.Mkdir(filepath.Join(r.dir, "var/lib/slipway"), 0o755)
			write(t, filepath.Join(r.dir, "etc/shadow"), shadow)
			os.RemoveAll(filepath.Join(r.dir, "sys/firmware"))
			if key != "" {
				write(t, seed, []byte("# no key\n"+key))
			}
			boot := func(point int) (string, error) {
				return try(t, "env", fmt.Sprintf("CUT=%d", point), "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "unshare", "-m", "sh", "-c", `mount --bind /dev/urandom "$0/dev/urandom" && exec chroot "$0" /bin/sh /cut`, r.dir)
			}
			first, err := boot(point)
			if err == nil {
				break
			}
			points++
			second, err := boot(0)
			if err != nil {
				t.Fatalf("after a cut at %d: %v\n%s", point, err, second)
			}
			claimed(t, r, key, first+second)
			if again, err := boot(0); err != nil || again != "" {
				t.Errorf("the third boot after a cut at %d: %v, %s", point, err, again)
			}
		}
		if points != 10 {
			t.Errorf("with the key %q there are %d points, want 10", key, points)
		}
	}
}

var shown = regexp.MustCompile(`slipway: claim password for root: (\S+)\n`)

// claimed asks whether a device is whole and its owner can log in.
func claimed(t *testing.T, r *root, key, said string) {
	t.Helper()
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(r.dir, name))
		if err != nil {
			t.Error(err)
		}
		return string(data)
	}
	if id := read("etc/machine-id"); !regexp.MustCompile(`^[0-9a-f]{32}\n$`).MatchString(id) {
		t.Errorf("the machine id is %q", id)
	}
	if out, err := try(t, "chroot", r.dir, "/usr/bin/dropbearkey", "-y", "-f", "/etc/dropbear/dropbear_ed25519_host_key"); err != nil {
		t.Errorf("the host key: %v\n%s", err, out)
	}
	if info, err := os.Stat(filepath.Join(r.dir, "etc/dropbear/dropbear_ed25519_host_key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the host key: %v, %v", info, err)
	}
	field := strings.Split(strings.Split(read("etc/shadow"), "\n")[0], ":")[1]
	if key != "" {
		if got := read("root/.ssh/authorized_keys"); got != key || field != "*" || !strings.Contains(said, "slipway: claimed by an authorized key\n") {
			t.Errorf("authorized_keys is %q, root's password field %q, and it said\n%s", got, field, said)
		}
		return
	}
	all := shown.FindAllStringSubmatch(said, -1)
	if len(all) == 0 {
		t.Fatalf("no password was shown:\n%s", said)
	}
	salt := strings.Split(field, "$")[2]
	if hash := strings.TrimSpace(run(t, "chroot", r.dir, "/bin/busybox", "mkpasswd", "-m", "sha512", "-S", salt, all[len(all)-1][1])); hash != field {
		t.Errorf("the password shown last does not fit: %s, root has %s", hash, field)
	}
}
