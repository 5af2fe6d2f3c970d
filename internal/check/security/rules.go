package security

import "slipway/internal/distro"

// Rule is one question asked of an image.
type Rule struct {
	ID    string       `json:"id"`
	Level distro.Level `json:"level"` // of a finding, unless the rule says another for a milder one
	Asks  string       `json:"asks"`
	Cure  string       `json:"cure"`
}

// Rules are all questions, in the order of a report.
var Rules = []Rule{
	{"password", distro.Block, "is there an account with an empty password, or with one that every copy of the image has?", "lock the account (* in /etc/shadow); the first boot asks for a password or makes one. OpenEmbedded: no empty-root-password, allow-empty-password or debug-tweaks in IMAGE_FEATURES; no usermod -p with a fixed hash"},
	{"uid0", distro.Block, "is root the only account with user number 0?", "remove the account, or give it a number of its own"},
	{"shadow", distro.Block, "can only root read the passwords, and nobody but root write the list of accounts?", "chmod 0400 /etc/shadow, 0644 /etc/passwd, both of root"},
	{"host-key", distro.Block, "does the image hold an ssh host key?", "the first boot makes host keys, for each device its own; remove them from the image"},
	{"authorized-key", distro.Block, "may somebody log in by a key that every copy of the image has?", "remove authorized_keys; the first boot takes the owner's key"},
	{"user-key", distro.Block, "does the image hold a person's ssh key?", "remove it, and the public key wherever it may log in"},
	{"private-key", distro.Block, "does a file hold a private key?", "remove it, and revoke its certificate: who has the image has the key. A key of a package's tests: allow it by name"},
	{"credential", distro.Block, "does the image hold a password or token for another machine?", "remove it; the device's owner sets it"},
	{"machine-id", distro.Block, "is the machine's id empty, so that each device makes its own?", "leave /etc/machine-id empty, and /var/lib/dbus/machine-id away"},
	{"random-seed", distro.Warn, "does the image hold a seed of the random number generator?", "remove it: a seed that all devices share is none"},
	{"setuid", distro.Block, "do only programs on the list run as their owner?", "remove the bit, or allow the program by its path"},
	{"setgid", distro.Block, "do only programs on the list run as their group?", "remove the bit, or allow the program by its path"},
	{"capability", distro.Block, "do only programs on the list have capabilities?", "setcap -r, or allow the program by its path"},
	{"world-writable", distro.Block, "can nobody write another one's files, and remove them from shared folders?", "chmod o-w; a shared folder is 1777"},
	{"owner", distro.Warn, "does each file belong to an account that there is?", "install -o root -g root; a number of the build host has leaked"},
	{"feed", distro.Block, "does each feed check the signatures of packages and of metadata, with a key that is there?", "gpgcheck=1, repo_gpgcheck=1, gpgkey=file:///... of a file in the image; OpenEmbedded's own .repo files say none of it"},
	{"root-login", distro.Block, "may root log in by ssh with a password?", "PermitRootLogin prohibit-password, or no; dropbear -w, -s or -g. OpenEmbedded: no allow-root-login or debug-tweaks"},
	{"empty-password-login", distro.Block, "does ssh let in who has an empty password?", "PermitEmptyPasswords no; dropbear without -B. OpenEmbedded: no allow-empty-password or debug-tweaks"},
	{"autologin", distro.Block, "does a console give a shell to who asks for no password?", "start a getty without autologin. OpenEmbedded: no serial-autologin-root"},
	{"debug-shell", distro.Block, "does the boot loader or systemd give a shell of root?", "remove init=/bin/sh, systemd.debug_shell and debug-shell.service"},
	{"nullok", distro.Warn, "does PAM let in who has an empty password?", "nullok_secure or nothing for nullok. OpenEmbedded: no allow-empty-password or debug-tweaks"},
	{"sudo", distro.Warn, "does sudo ask for a password?", "remove NOPASSWD"},
	{"postinst-logging", distro.Warn, "is the logging of installation scripts off?", "OpenEmbedded: no post-install-logging or debug-tweaks in IMAGE_FEATURES"},
	{"service", distro.Warn, "do only services on the list start by themselves?", "disable it (systemctl disable, a preset, INITSCRIPT_PARAMS), or allow it by name"},
	{"rpmdb", distro.Block, "is the rpm database whole?", "make the image again; rpmdb --rebuilddb in the root file system"},
	{"missing-file", distro.Warn, "is there each file that a package should have brought?", "what removed it from the root file system? The package should not bring it"},
	{"manifest", distro.Block, "has the image the packages that its maker says?", "make image and manifest again, together"},
	{"os-release", distro.Block, "does os-release name the version that its maker says?", "DISTRO_VERSION of the build, and the package with os-release, belong to the release"},
	{"debug-package", distro.Warn, "are packages for developers left out?", "leave -dbg, -dev and the like out of the image"},
	{"debugger", distro.Warn, "are debuggers left out?", "leave it out of the image: tools-debug and eclipse-debug in IMAGE_FEATURES bring them"},
	{"build-path", distro.Warn, "do no files name folders of the build host?", "-ffile-prefix-map; OpenEmbedded's QA test buildpaths"},
	{"history", distro.Warn, "are the traces of a person at work left out?", "remove it from the image"},
	{"nested-image", distro.Warn, "are there images inside the image, which were not looked into?", "look at it on its own: slipway image check"},
	{"unread", distro.Block, "could each partition be looked into?", "look at it in another way, and allow it by its number; an image is best checked before it is encrypted"},
}

var ruleByID = func() map[string]Rule {
	m := map[string]Rule{}
	for _, r := range Rules {
		m[r.ID] = r
	}
	return m
}()

// RuleIDs gives the ids in the order of a report.
func RuleIDs() []string {
	ids := make([]string, len(Rules))
	for i, r := range Rules {
		ids[i] = r.ID
	}
	return ids
}

// BuiltIn gives the objects that a rule allows everywhere.
func BuiltIn(rule string) []string { return builtIn[rule] }

// builtIn are programs and services that a plain system has, as Debian, Fedora and
// OpenEmbedded ship them. Paths are without /, and without usr/.
var builtIn = map[string][]string{
	"setuid": {"bin/su", "bin/su.*", "bin/sudo", "bin/mount", "bin/mount.*", "bin/umount", "bin/umount.*", "bin/ping", "bin/ping.*", "bin/ping6", "bin/ping6.*", "bin/traceroute6.*",
		"bin/passwd", "bin/passwd.*", "bin/chsh", "bin/chsh.*", "bin/chfn", "bin/chfn.*", "bin/newgrp", "bin/newgrp.*", "bin/gpasswd", "bin/gpasswd.*", "bin/chage", "bin/expiry", "bin/newuidmap", "bin/newgidmap",
		"bin/busybox.suid", "bin/crontab", "bin/fusermount", "bin/fusermount3", "bin/pkexec", "lib/polkit-1/polkit-agent-helper-1", "libexec/polkit-agent-helper-1",
		"libexec/dbus-daemon-launch-helper", "libexec/dbus-1/dbus-daemon-launch-helper", "lib/dbus-1.0/dbus-daemon-launch-helper", "lib/dbus/dbus-daemon-launch-helper",
		"libexec/ssh-keysign", "libexec/openssh/ssh-keysign", "lib/openssh/ssh-keysign", "sbin/unix_chkpwd", "sbin/mount.nfs"},
	"setgid": {"bin/wall", "bin/wall.*", "bin/write", "bin/write.*", "bin/crontab", "bin/chage", "bin/expiry", "bin/ssh-agent", "sbin/unix_chkpwd", "lib/utempter/utempter", "libexec/utempter/utempter",
		"libexec/openssh/ssh-keysign"},
	"capability": {"bin/ping", "bin/ping.*", "bin/arping", "bin/arping.*", "bin/clockdiff", "bin/newuidmap", "bin/newgidmap", "bin/mtr-packet", "sbin/mtr-packet", "libexec/gstreamer-1.0/gst-ptp-helper"},
	// systemd's own, what makes a machine reachable, and what keeps its time.
	"service": {"systemd-*", "getty@*", "serial-getty@*", "console-getty.service", "dbus*", "remote-fs.target", "machines.target", "network*", "sshd.socket", "sshd.service", "sshdgenkeys.service", "dropbear.socket", "dropbear.service",
		"dropbearkey.service", "slipway-*", "ldconfig.service", "rngd.service", "rng-tools", "udev*", "run-postinsts*", "fstrim.timer", "run-postinsts", "logrotate.timer", "rngd", "volatile-binds.service", "var-volatile*",
		// OpenEmbedded's scripts of sysvinit
		"alignment.sh", "banner.sh", "bootmisc.sh", "checkroot.sh", "devpts.sh", "devpts", "dmesg.sh", "halt", "hostname.sh", "hwclock.sh", "keymap.sh", "mdev", "modutils.sh", "mountall.sh", "mountnfs.sh", "networking",
		"populate-volatile.sh", "psplash.sh", "read-only-rootfs-hook.sh", "reboot", "rmnologin.sh", "save-rtc.sh", "sendsigs", "single", "sshd", "dropbear", "stop-bootlogd", "syslog*", "sysfs.sh", "umountfs", "umountnfs.sh", "urandom",
		"busybox-klogd*", "busybox-syslog*", "update-timer"},
	// Keys of tests are known to everybody, and open nothing.
	"private-key": {"*/ptest/*", "*/python3*/test/*", "*/perl*/t/*", "*/installed-tests/*", "src/debug/*"},
	"host-key":    {"*/ptest/*"}, "user-key": {"*/ptest/*"}, "authorized-key": {"*/ptest/*"},
	"world-writable": {"*/ptest/*"},
	"build-path":     {"src/debug/*", "lib/debug/*", "*/.debug/*", "src/kernel/*"},
}
