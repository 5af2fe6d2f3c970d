package security_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/check/security"
	"slipway/internal/distro"
	"slipway/internal/errs"
)

func TestNothingToFind(t *testing.T) {
	t.Parallel()
	r := examine(t, pack(t, sound()), security.Options{})
	if d := cmp.Diff([]string(nil), told(r)); d != "" || r.Status != distro.Ready {
		t.Errorf("%s %s", r.Status, d)
	}
	if r.Files != len(sound()) || r.Asked < 25 || !r.Parts[0].Root {
		t.Errorf("%d files of %d, %d asked, %+v", r.Files, len(sound()), r.Asked, r.Parts)
	}
	if d := cmp.Diff([]string{"no manifest beside the image: its packages are not compared", "no rpm database: packages are not judged"}, r.Notes); d != "" {
		t.Error(d)
	}
}

// planted is one fault each, with all that is found of it.
var planted = []struct {
	name  string
	plant map[string]node
	want  string
}{
	{"empty password in shadow", map[string]node{"etc/shadow": {text: "root::20454:0:99999:7:::\n", mode: 0o400}}, "block password:root"},
	{"empty password in passwd", map[string]node{"etc/passwd": {text: "root::0:0:root:/root:/bin/sh\n"}}, "block password:root"},
	{"a password", map[string]node{"etc/shadow": {text: "root:$6$salt$hash:20454:::::\n", mode: 0o400}}, "block password:root"},
	{"a password in passwd, by DES", map[string]node{"etc/passwd": {text: "root:x:0:0::/:/bin/sh\nguest:ab4kP0wbU3Ya.:1000:1000::/:/bin/sh\n"}}, "block password:guest"},
	{"a locked password", map[string]node{"etc/shadow": {text: "root:!$6$salt$hash:20454:::::\n", mode: 0o400}}, "warn password:root"},
	{"a password in a copy", map[string]node{"etc/shadow-": {text: "root:$6$salt$hash:20454:::::\n", mode: 0o400}}, "block password:root"},
	{"a second root", map[string]node{"etc/passwd": {text: "root:x:0:0::/:/bin/sh\ntoor:x:0:0::/:/bin/sh\n"}}, "block uid0:toor"},
	{"everybody reads shadow", map[string]node{"etc/shadow": {text: "root:*:1::::::\n", mode: 0o644}}, "block shadow:etc/shadow"},
	{"a host key", map[string]node{"etc/ssh/ssh_host_ed25519_key": {text: key, mode: 0o600}}, "block host-key:etc/ssh/ssh_host_ed25519_key"},
	{"dropbear's host key", map[string]node{"etc/dropbear/dropbear_rsa_host_key": {text: "\x00\x00", mode: 0o600}}, "block host-key:etc/dropbear/dropbear_rsa_host_key"},
	{"an authorized key", map[string]node{"root/.ssh/authorized_keys": {text: "# none\nssh-ed25519 AAAA me@host\n"}}, "block authorized-key:root/.ssh/authorized_keys"},
	{"authorized_keys without a key", map[string]node{"root/.ssh/authorized_keys": {text: "# none\n\n"}}, ""},
	{"a person's key", map[string]node{"home/me/.ssh/id_work": {text: key}}, "block user-key:home/me/.ssh/id_work"},
	{"a private key", map[string]node{"etc/ssl/server.key": {text: "x\n" + key}}, "block private-key:etc/ssl/server.key"},
	{"a private key far in a large file", map[string]node{"opt/blob": {text: strings.Repeat("x", 262143+1024) + "\n" + strings.ReplaceAll(key, "OPENSSH", "RSA")}}, "block private-key:opt/blob"},
	{"a key of OpenPGP", map[string]node{"root/key.asc": {text: "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBGPMh0UBCADL9dHkhu\n"}}, "block private-key:root/key.asc"},
	{"a password of a network", map[string]node{"etc/wpa_supplicant.conf": {text: "network={\n\tssid=\"x\"\n\tpsk=\"secret\"\n}\n"}}, "block credential:etc/wpa_supplicant.conf"},
	{"a token", map[string]node{"root/.netrc": {text: "machine x login y password z\n"}}, "block credential:root/.netrc"},
	{"a machine id", map[string]node{"etc/machine-id": {text: "0123456789abcdef0123456789abcdef\n"}}, "block machine-id:etc/machine-id"},
	{"an uninitialized machine id", map[string]node{"etc/machine-id": {text: "uninitialized\n"}}, ""},
	{"a seed", map[string]node{"var/lib/systemd/random-seed": {text: "x"}}, "warn random-seed:var/lib/systemd/random-seed"},
	{"setuid", map[string]node{"usr/bin/vendor": {text: "x", mode: 0o4755}}, "block setuid:usr/bin/vendor"},
	{"setgid", map[string]node{"opt/tool": {text: "x", mode: 0o2755}}, "block setgid:opt/tool"},
	{"capabilities", map[string]node{"opt/tool": {text: "x", mode: 0o755, caps: netRaw}}, "block capability:opt/tool"},
	{"world-writable", map[string]node{"opt/x": {text: "x", mode: 0o666}, "opt/d": {folder: true, mode: 0o777}}, "block world-writable:opt/d block world-writable:opt/x"},
	{"files of nobody", map[string]node{"opt/x": {text: "x", uid: 1000}, "opt/y": {text: "x", uid: 1000}}, "warn owner:1000"},
	{"a feed without signatures", map[string]node{"etc/yum.repos.d/oe.repo": {text: "[oe]\nbaseurl=http://x/\ngpgcheck=0\n"}},
		"block feed:oe:gpgcheck block feed:oe:gpgkey block feed:oe:repo_gpgcheck"},
	{"a feed that is off", map[string]node{"etc/yum.repos.d/x.repo": {text: "[x]\nenabled=0\ngpgcheck=1\nrepo_gpgcheck=1\ngpgkey=file:///nowhere\n"}}, "warn feed:x:gpgkey"},
	{"dnf.conf says so for all", map[string]node{"etc/dnf/dnf.conf": {text: "[main]\ngpgcheck=True\nrepo_gpgcheck = yes\n"}, "etc/yum.repos.d/x.repo": {text: "[x]\ngpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-halyard\n"}}, ""},
	{"a key from the net", map[string]node{"etc/yum.repos.d/x.repo": {text: "[x]\ngpgcheck=1\nrepo_gpgcheck=1\ngpgkey=https://x/key\n"}}, "block feed:x:gpgkey"},
	{"opkg", map[string]node{"etc/opkg/opkg.conf": {text: "src/gz main http://x/main\n"}}, "block feed:main:check_signature"},
	{"opkg with signatures", map[string]node{"etc/opkg/opkg.conf": {text: "option check_signature 1\nsrc/gz main http://x/main\n"}}, ""},
	{"apt", map[string]node{"etc/apt/sources.list": {text: "deb [trusted=yes] http://x/ stable main\n"}}, "block feed:etc/apt/sources.list:trusted"},
	{"root by ssh", map[string]node{"etc/ssh/sshd_config": {text: "PermitRootLogin yes\n"}}, "block root-login:etc/ssh/sshd_config"},
	{"root by ssh, included", map[string]node{"etc/ssh/sshd_config": {text: "Include /etc/ssh/sshd_config.d/*.conf\nPermitRootLogin no\n"}, "etc/ssh/sshd_config.d/10-dev.conf": {text: "PermitRootLogin=yes\n"}},
		"block root-login:etc/ssh/sshd_config.d/10-dev.conf"},
	{"empty passwords by ssh", map[string]node{"etc/ssh/sshd_config_readonly": {text: "PermitEmptyPasswords\tyes\n"}}, "block empty-password-login:etc/ssh/sshd_config_readonly"},
	{"a Match block", map[string]node{"etc/ssh/sshd_config": {text: "PermitRootLogin no\nMatch Address 10.0.0.0/8\n  PermitRootLogin yes\n"}}, "block root-login:etc/ssh/sshd_config"},
	{"dropbear with -B", map[string]node{"etc/default/dropbear": {text: "DROPBEAR_EXTRA_ARGS=\" -B\"\n"}}, "block empty-password-login:etc/default/dropbear warn root-login:dropbear"},
	{"autologin of OpenEmbedded", map[string]node{"usr/bin/start_getty": {text: "options=\"--autologin root -L\"\n", mode: 0o755}}, "block autologin:start_getty"},
	{"autologin of systemd", map[string]node{"usr/lib/systemd/system/serial-getty@.service": {text: "[Service]\nExecStart=-/sbin/agetty --autologin root -8 %I\n"}}, "block autologin:usr/lib/systemd/system/serial-getty@.service"},
	{"a shell on the console", map[string]node{"etc/inittab": {text: "ttyS0::askfirst:-/bin/sh\n"}}, "block autologin:inittab:ttyS0:sh"},
	{"busybox getty with a shell", map[string]node{"etc/inittab": {text: "ttyS0::respawn:/sbin/getty -n -l /bin/sh 115200 ttyS0\n"}}, "block autologin:inittab:ttyS0:getty"},
	{"a desktop", map[string]node{"etc/lightdm/lightdm.conf": {text: "[Seat:*]\nautologin-user=me\n"}}, "block autologin:etc/lightdm/lightdm.conf"},
	{"a shell from the boot loader", map[string]node{"boot/loader/entries/a.conf": {text: "options root=/dev/vda init=/bin/sh\n"}}, "block debug-shell:boot/loader/entries/a.conf"},
	{"systemd's debug shell", map[string]node{"usr/lib/systemd/systemd": {text: "x"}, "etc/systemd/system/sysinit.target.wants/debug-shell.service": {link: "/usr/lib/systemd/system/debug-shell.service"}}, "block debug-shell:debug-shell.service"},
	{"nullok", map[string]node{"etc/pam.d/common-auth": {text: "auth required pam_unix.so nullok\n"}}, "warn nullok:etc/pam.d/common-auth"},
	{"sudo", map[string]node{"etc/sudoers.d/me": {text: "%wheel ALL=(ALL) NOPASSWD: ALL\n"}}, "warn sudo:etc/sudoers.d/me"},
	{"logged scripts", map[string]node{"etc/default/postinst": {text: "POSTINST_LOGGING=1\n"}}, "warn postinst-logging:etc/default/postinst"},
	{"a service", map[string]node{"etc/rc5.d/S90vendord": {link: "../init.d/vendord"}}, "warn service:vendord"},
	{"telnet", map[string]node{"etc/inetd.conf": {text: "telnet stream tcp nowait root /usr/sbin/telnetd telnetd\n"}}, "block service:telnet"},
	{"a unit", map[string]node{"usr/lib/systemd/systemd": {text: "x"}, "etc/systemd/system/multi-user.target.wants/vendor.service": {link: "/lib/systemd/system/vendor.service"}}, "warn service:vendor.service"},
	{"gdbserver", map[string]node{"usr/bin/gdbserver": {text: "x", mode: 0o755}}, "warn debugger:gdbserver"},
	{"a build path", map[string]node{"usr/lib/x.so": {text: "\x7fELF\x00/home/me/build/tmp/work/core2-64-poky-linux/x/1.0/x.c\x00"}}, "warn build-path:usr/lib/x.so"},
	{"a shared build path", map[string]node{"usr/lib/x.so": {text: "/b/tmp-glibc/work-shared/qemux86-64/kernel-source"}}, "warn build-path:usr/lib/x.so"},
	{"what a person did", map[string]node{"root/.bash_history": {text: "ls\n"}}, "warn history:root/.bash_history"},
	{"an image inside", map[string]node{"opt/inner.squashfs": {text: "hsqs" + strings.Repeat("x", 1<<20)}}, "warn nested-image:opt/inner.squashfs"},
	{"os-release", map[string]node{"usr/lib/os-release": {text: "ID=halyard\n"}}, "warn os-release:ID"},
	{"a damaged rpm database", map[string]node{"var/lib/rpm/rpmdb.sqlite": {text: "SQLite format 3\x00" + strings.Repeat("\x01", 8192)}}, "block rpmdb:var/lib/rpm/rpmdb.sqlite"},
}

func TestPlanted(t *testing.T) {
	t.Parallel()
	for _, tt := range planted {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tree := sound()
			for name, n := range tt.plant {
				tree[name] = n
			}
			r := examine(t, pack(t, tree), security.Options{})
			if got := strings.Join(told(r), " "); got != tt.want {
				t.Errorf("found  %s\nwanted %s", got, tt.want)
			}
			for _, f := range r.Findings {
				if f.Text == "" || f.Cure == "" || f.Object == "" {
					t.Errorf("%+v", f)
				}
			}
			if blocks := strings.Contains(tt.want, "block "); blocks != (r.Status == distro.Blocked) {
				t.Error(r.Status)
			}
		})
	}
	covered := map[string]bool{"unread": true, "missing-file": true, "manifest": true, "debug-package": true} // in tests of their own
	for _, tt := range planted {
		for _, id := range strings.Fields(tt.want) {
			rule, _, _ := strings.Cut(id, ":")
			covered[rule] = true
		}
	}
	for _, r := range security.Rules {
		if !covered[r.ID] {
			t.Errorf("no fault is planted for rule %s", r.ID)
		}
	}
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	tree := sound()
	tree["usr/bin/vendor-su"] = node{text: "x", mode: 0o4755}
	tree["etc/rc5.d/S90vendord"] = node{link: "../init.d/vendord"}
	path := pack(t, tree)
	r := examine(t, path, security.Options{Policy: security.Policy{Allow: map[string][]string{"setuid": {"/bin/vendor-*"}}, Levels: map[string]distro.Level{"service": distro.Block}}})
	if got := strings.Join(told(r), " "); got != "block service:vendord" {
		t.Error(got)
	}
	if r = examine(t, path, security.Options{Policy: security.Policy{Levels: map[string]distro.Level{"service": distro.Off, "setuid": distro.Info}}}); strings.Join(told(r), " ") != "info setuid:usr/bin/vendor-su" || r.Status != distro.Ready {
		t.Error(told(r), r.Status)
	}
	_, err := security.Examine(t.Context(), path, security.Options{Policy: security.Policy{Allow: map[string][]string{"setuidd": nil}, Levels: map[string]distro.Level{"feed": "blok"}}})
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), `no rule "setuidd"`) || !strings.Contains(err.Error(), `no level "blok"`) || !strings.Contains(fmt.Sprint(errs.Hints(err)), `did you mean "setuid"?`) {
		t.Error(err, errs.Hints(err))
	}
}

// TestMany: an image with very many findings of one rule names the first ones, and
// says how many there are.
func TestMany(t *testing.T) {
	t.Parallel()
	tree := sound()
	for i := range 120 {
		tree[fmt.Sprintf("opt/%03d", i)] = node{text: "x", mode: 0o666}
	}
	r := examine(t, pack(t, tree), security.Options{})
	if len(r.Findings) != 51 || r.Findings[50].ID != "world-writable:more" || r.Findings[50].Text != "and 70 more, the next is opt/050" || r.Findings[50].Level != distro.Block {
		t.Errorf("%d: %+v", len(r.Findings), r.Findings[len(r.Findings)-1])
	}
}
