package boards_test

import (
	"fmt"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// packages lists what is installed, without the keys that dnf has imported.
const packages = "/usr/bin/rpm -qa | grep -v ^gpg-pubkey | sort"

// says runs a command that must say these texts.
func (b *bench) says(command string, texts ...string) {
	b.t.Helper()
	out := b.sh(command)
	for _, text := range texts {
		if !strings.Contains(out, text) {
			b.t.Errorf("%s does not say %q:\n%s", command, text, out)
		}
	}
}

// fullDisk runs the update with 6 MiB left: the kernel of release 3 needs more.
func (b *bench) fullDisk(job, why string) {
	b.t.Helper()
	b.sh("free=$(df -k / | awk 'NR == 2 { print $4 }'); dd if=/dev/zero of=/var/filler bs=1024 count=$((free - 6144)) 2>/dev/null; sync")
	if _, err := b.shell.Run(b.t.Context(), job); !errs.Is(err, errs.Failed) {
		b.t.Errorf("an upgrade with a full disk: %v", err)
	}
	b.says("cat /var/log/slipway-update.log; rm /var/filler", "upgrade begins at 1.1\n", "the upgrade failed: the disk is full, ", why)
}

// consists asks whether all that is installed is of one release.
func (b *bench) consists(release []distro.PackageRecord) {
	b.t.Helper()
	var want []string
	for _, p := range release {
		want = append(want, p.NEVRA())
	}
	for p := range strings.Lines(b.sh(packages)) {
		if p = strings.TrimSpace(p); !slices.Contains(want, p) {
			b.t.Errorf("%s is not of this release", p)
		}
	}
}

// intact asks rpm whether packages are as they were built, but for edited
// configuration, and whether an update left anything.
func (b *bench) intact(what string) {
	b.t.Helper()
	bad := b.sh(fmt.Sprintf("/usr/bin/rpm -V %s | grep -v ' [cg] /'; find /boot /etc /usr -name '*;*'; ls /var/lib/slipway-device/journal.json /var/cache/slipway-device 2>/dev/null; true", what))
	if bad != "" {
		b.t.Errorf("rpm -V %s and what is left over:\n%s", what, bad)
	}
}

// goesBack: a device that is pinned to release 1.1 has again what it had before.
func (b *bench) goesBack(before string) {
	b.t.Helper()
	b.says("slipway-device update", "done: serial 1, release 1.1\n")
	after := b.sh(packages)
	for p := range strings.Lines(before) {
		if !strings.Contains(after, p) {
			b.t.Errorf("back at release 1.1 there is no %s", p)
		}
	}
	if strings.Contains(after, "rigging-extras") {
		b.t.Error("back at release 1.1 a package of release 1.3 is there")
	}
	b.intact("kernel-set halyard-release libknot rigging-tools")
}

// dnfAlone: a device without slipway-device is updated, too.
func (b *bench) dnfAlone(job string) {
	b.sh("echo current > /etc/dnf/vars/slipway_snapshot; mv /usr/sbin/slipway-device /root")
	b.fullDisk(job, "No space left")
	b.sh(job + " && grep -q 'upgrade done, now at 1.3$' /var/log/slipway-update.log")
	b.sh("mv /root/slipway-device /usr/sbin")
	if err := b.guest.Reboot(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.login()
	b.says("slipway-device status", "halyard 1.3", "reboot     not needed")
}
