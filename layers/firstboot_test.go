package layers

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const (
	admiral = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEc admiral\n"
	seed    = "sys/firmware/qemu_fw_cfg/by_name/opt/org.slipway/authorized_key/raw"
	boot    = "/usr/sbin/slipway-firstboot"
	// As slipway-firstboot_1.0.bb writes it.
	defaults = "hostkey=/etc/dropbear/dropbear_rsa_host_key\n"
)

// servers are the ssh servers that an image may have: the program that makes its key,
// what OE-Core configures, the key's file.
var servers = []struct{ name, program, key string }{
	{"dropbear", "dropbearkey", "etc/dropbear/dropbear_rsa_host_key"},
	{"openssh", "ssh-keygen", "etc/ssh/ssh_host_ed25519_key"},
}

// server gives a device with an ssh server as OE-Core configures it.
func server(t *testing.T, name, program string) *device {
	d := newDevice(t, program, "openssl", "findfs")
	d.script("slipway-firstboot/files/slipway-firstboot", "usr/sbin/slipway-firstboot")
	d.mkdir("home/root/.ssh")
	if name == "dropbear" {
		d.write("etc/default/dropbear", "# Disallow root logins by default\nDROPBEAR_EXTRA_ARGS=\"-w\"\n", 0o644)
		d.mkdir("etc/dropbear")
	} else {
		d.mkdir("etc/ssh/sshd_config.d")
	}
	d.write("etc/default/slipway-firstboot", "state=/var/lib/slipway\n"+defaults, 0o644)
	return d
}

// TestFirstBoot cuts the power at every point at which the script writes, and asks
// what the next boot makes of it.
func TestFirstBoot(t *testing.T) {
	t.Parallel()
	data, err := fs.ReadFile(MetaSlipway(), "recipes-slipway/slipway-firstboot/files/slipway-firstboot")
	if err != nil {
		t.Fatal(err)
	}
	const commit = `sync && mv -f "$1.new" "$1" && sync`
	if strings.Count(string(data), "sync") != 2 || !strings.Contains(string(data), commit) {
		t.Fatal("this test does not know how slipway-firstboot writes")
	}
	cut := "n=0\ncut() { n=$((n + 1)); [ $n != \"$CUT\" ] || kill -9 $$; }\n"
	text := strings.Replace(string(data), commit, `cut && mv -f "$1.new" "$1" && cut`, 1)
	text = strings.Replace(text, "set -u\n", "set -u\n"+cut, 1)
	const points = 12 // two each: machine id, host key, the claim's two files, the server's configuration, the end
	for _, s := range servers {
		for _, key := range []string{"", admiral} {
			t.Run(fmt.Sprintf("%s with key %t", s.name, key != ""), func(t *testing.T) {
				t.Parallel()
				d := server(t, s.name, s.program)
				if s.name == "openssh" {
					// An earlier boot has made two of the three keys: they take the time.
					d.write("etc/ssh/ssh_host_rsa_key", "made before", 0o600)
					d.write("etc/ssh/ssh_host_ecdsa_key", "made before", 0o600)
				}
				fresh := filepath.Join(t.TempDir(), "fresh")
				save := `mkdir -p "$2" && cd "$1" && rm -rf "$2"/* && cp -a etc home var "$2"`
				if out, err := exec.Command("sh", "-c", save, "sh", d.root, fresh).CombinedOutput(); err != nil {
					t.Fatal(err, string(out))
				}
				n := 0
				for point := 1; ; point++ {
					if out, err := exec.Command("sh", "-c", `cd "$1" && rm -rf etc home var sys/firmware && cp -a "$2"/* .`, "sh", d.root, fresh).CombinedOutput(); err != nil {
						t.Fatal(err, string(out))
					}
					d.write("cut", text, 0o755)
					if key != "" {
						d.write(seed, "# no key\n"+key, 0o644)
					}
					first, err := d.sh(fmt.Sprintf("CUT=%d /bin/sh /cut", point))
					if err == nil {
						break
					}
					n++
					second, err := d.sh("CUT=0 /bin/sh /cut")
					if err != nil {
						t.Fatalf("after a cut at %d: %v\n%s", point, err, second)
					}
					claimed(t, d, s.key, key, first+second)
					if again, err := d.sh("CUT=0 /bin/sh /cut"); err != nil || again != "" {
						t.Errorf("the third boot after a cut at %d: %v, %s", point, err, again)
					}
				}
				if n != points {
					t.Errorf("there are %d points, want %d", n, points)
				}
			})
		}
	}
}

var shown = regexp.MustCompile(`slipway: claim password for root: (\S+)\n`)

// claimed asks whether a device with a writable root is whole and its owner can log in.
func claimed(t *testing.T, d *device, hostkey, key, said string) {
	t.Helper()
	if id := d.read("etc/machine-id"); !regexp.MustCompile(`^[0-9a-f]{32}\n$`).MatchString(id) {
		t.Errorf("the machine id is %q", id)
	}
	if m := d.mode(hostkey); m.Perm() != 0o600 {
		t.Errorf("the host key's mode is %v", m)
	}
	if !regexp.MustCompile(`slipway: host key SHA256:\S{20,}\n`).MatchString(said) {
		t.Errorf("no fingerprint in\n%s", said)
	}
	how, fits := "key", d.read("etc/shadow")
	if key == "" {
		how = "password"
		all := shown.FindAllStringSubmatch(said, -1)
		if len(all) == 0 {
			t.Fatalf("no password was shown:\n%s", said)
		}
		fits = passwordFits(t, fits, all[len(all)-1][1])
	} else if got := d.read("home/root/.ssh/authorized_keys"); got != key || !strings.Contains(said, "slipway: claimed by an authorized key\n") {
		t.Errorf("authorized_keys is %q, and it said\n%s", got, said)
	}
	if !strings.HasPrefix(fits, "root:*:") || !strings.Contains(fits, "\nsshd:!:") {
		t.Errorf("shadow is\n%s", fits)
	}
	if m := d.mode("etc/shadow"); m.Perm() != 0o400 {
		t.Errorf("shadow's mode is %v", m)
	}
	if got := d.read("var/lib/slipway/claimed"); got != how+"\n" {
		t.Errorf("claimed by %q, want %q", got, how)
	}
	if strings.Contains(hostkey, "dropbear") {
		if got := d.read("etc/default/dropbear"); !strings.Contains(got, `DROPBEAR_EXTRA_ARGS="-j -k"`) || d.mode("etc/default/dropbear").Perm() != 0o644 {
			t.Errorf("dropbear is configured so:\n%s", got)
		}
		return
	}
	want := "AllowTcpForwarding no\n"
	if key == "" {
		want += "PermitRootLogin yes\n"
	}
	if got := d.read("etc/ssh/sshd_config.d/50-slipway.conf"); got != want {
		t.Errorf("sshd is configured so:\n%s", got)
	}
}

// passwordFits tells whether root's password is this one, and gives the file with "*"
// in its place.
func passwordFits(t *testing.T, shadow, password string) string {
	t.Helper()
	if len(password) != 20 {
		t.Errorf("the password %q has not 20 characters", password)
	}
	field := strings.Split(strings.Split(shadow, "\n")[0], ":")[1]
	parts := strings.Split(field, "$")
	if len(parts) != 4 {
		t.Fatalf("root's password is %q", field)
	}
	out, err := exec.Command("openssl", "passwd", "-6", "-salt", parts[2], password).Output()
	if err != nil || strings.TrimSpace(string(out)) != field {
		t.Errorf("the password shown does not fit: %s, root has %s, %v", out, field, err)
	}
	return strings.Replace(shadow, field, "*", 1)
}

// TestFirstBootReadOnly: nothing is written to the root; the device is the same at
// each boot, and its owner's.
func TestFirstBootReadOnly(t *testing.T) {
	t.Parallel()
	for _, s := range servers {
		for _, key := range []string{"", admiral} {
			t.Run(fmt.Sprintf("%s with key %t", s.name, key != ""), func(t *testing.T) {
				t.Parallel()
				d := server(t, s.name, s.program)
				d.ro = true
				d.write("etc/machine-id", "", 0o444)
				d.write("etc/default/slipway-firstboot", "state=/data/slipway\n"+defaults, 0o644)
				view := "cat /etc/machine-id /etc/shadow /data/slipway/claimed; ls -l /home/root/.ssh; cat /home/root/.ssh/authorized_keys 2>/dev/null; "
				if s.name == "dropbear" {
					// read_only_rootfs_hook of OE-Core adds this line.
					d.write("etc/default/dropbear", d.read("etc/default/dropbear")+"DROPBEAR_RSAKEY_DIR=/var/lib/dropbear\n", 0o644)
					d.mkdir("var/lib/dropbear")
					view += "cat /etc/default/dropbear; dropbearkey -y -f /var/lib/dropbear/dropbear_rsa_host_key"
				} else {
					view += "cat /etc/ssh/sshd_config.d/*; ssh-keygen -l -f /var/run/ssh/ssh_host_ed25519_key; ssh-keygen -l -f /var/run/ssh/ssh_host_rsa_key; ssh-keygen -l -f /var/run/ssh/ssh_host_ecdsa_key"
				}
				view = strings.ReplaceAll(view, "ls -l", "stat -c '%a %u %n'")
				if key != "" {
					d.write(seed, key, 0o644)
				}
				before := d.content()
				said := d.must(boot + " > /data/said 2>&1; " + view)
				console, err := os.ReadFile(filepath.Join(d.data, "said"))
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(string(console), "slipway: host key SHA256:") || strings.Contains(string(console), "does not outlive") {
					t.Errorf("the console said\n%s", console)
				}
				for _, want := range []string{"\nsshd:!:19000", "700 0 /home/root/.ssh\n", map[bool]string{true: "\nroot:*:19000:0", false: "\nroot:$6$"}[key != ""]} {
					if !strings.Contains(said, want) {
						t.Errorf("%q is not in\n%s", want, said)
					}
				}
				if key != "" && !strings.Contains(said, admiral) {
					t.Errorf("the owner's key is not in\n%s", said)
				}
				if key == "" {
					all := shown.FindAllStringSubmatch(string(console), -1)
					shadow := said[strings.Index(said, "root:"):]
					if len(all) != 1 {
						t.Fatalf("the console said\n%s", console)
					}
					passwordFits(t, shadow, all[0][1])
				}
				if s.name == "dropbear" && !strings.Contains(said, `DROPBEAR_EXTRA_ARGS="-j -k"`) || s.name == "openssh" && !strings.Contains(said, "AllowTcpForwarding no\n") {
					t.Errorf("the ssh server is configured so:\n%s", said)
				}
				if again := d.must(boot + "; " + view); again != said {
					t.Errorf("the second boot is another device:\n%s\nthe first was\n%s", again, said)
				}
				if after := d.content(); !maps.Equal(before, after) {
					t.Error("the root was written")
				}
			})
		}
	}
}

// TestFirstBootForgets: a device that keeps nothing says so at each boot.
func TestFirstBootForgets(t *testing.T) {
	t.Parallel()
	d := server(t, "dropbear", "dropbearkey")
	d.ro = true
	d.write("etc/default/slipway-firstboot", "state=/var/volatile/slipway\n"+defaults, 0o644)
	for range 2 {
		if out := d.must(boot); !strings.Contains(out, "slipway: /var/volatile/slipway does not outlive a reboot") || !shown.MatchString(out) {
			t.Errorf("it says\n%s", out)
		}
	}
}

// TestFirstBootBySystemd: the machine id is systemd's.
func TestFirstBootBySystemd(t *testing.T) {
	t.Parallel()
	d := server(t, "openssh", "ssh-keygen")
	d.write("etc/machine-id", "", 0o444)
	d.must("mkdir -p /run/systemd/system; " + boot)
	if id := d.read("etc/machine-id"); id != "" {
		t.Errorf("the machine id is %q", id)
	}
}

// TestFirstBootFails: what cannot be done is told, and the next boot goes on.
func TestFirstBootFails(t *testing.T) {
	t.Parallel()
	d := server(t, "openssh", "ssh-keygen")
	program := filepath.Join(d.root, "usr/bin/openssl")
	if err := os.Rename(program, program+".gone"); err != nil {
		t.Fatal(err)
	}
	out, err := d.sh(boot)
	if err == nil || !strings.Contains(out, "slipway: the claim could not be finished\n") || strings.Contains(out, "claim password") {
		t.Errorf("without a way to hash a password: %v\n%s", err, out)
	}
	if shadow := d.read("etc/shadow"); !strings.HasPrefix(shadow, "root:*:") {
		t.Errorf("shadow is %s", shadow)
	}
	if err := os.Rename(program+".gone", program); err != nil {
		t.Fatal(err)
	}
	if out := d.must(boot); !shown.MatchString(out) {
		t.Errorf("the next boot says\n%s", out)
	}
}
