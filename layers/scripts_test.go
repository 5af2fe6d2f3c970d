package layers

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestShellcheck: the scripts are clean, each by itself, as POSIX shell.
func TestShellcheck(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("shellcheck"); err != nil {
		t.Fatal("apt-get install shellcheck")
	}
	var scripts []string
	err := fs.WalkDir(MetaSlipway(), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := fs.ReadFile(MetaSlipway(), path)
		if strings.HasPrefix(string(data), "#!/bin/sh\n") {
			scripts = append(scripts, filepath.Join("meta-slipway", path))
		}
		return err
	})
	if err != nil || len(scripts) != 6 {
		t.Fatalf("%d scripts, %v", len(scripts), err)
	}
	if out, err := exec.Command("shellcheck", append([]string{"--shell=sh"}, scripts...)...).CombinedOutput(); err != nil {
		t.Errorf("%s", out)
	}
}

// TestUnits: systemd has nothing to say against the units, and orders them without a
// cycle.
func TestUnits(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Fatal("apt-get install systemd")
	}
	d := newDevice(t)
	// What the units run, and what they wait for, as OE-Core has it.
	for _, program := range []string{"usr/sbin/slipway-firstboot", "usr/sbin/slipway-ready", "usr/sbin/slipway-update", "usr/libexec/slipway/slipway-device", "usr/sbin/dropbear"} {
		d.write(program, "#!/bin/sh\n", 0o755)
	}
	units := "usr/lib/systemd/system/"
	for _, u := range []string{"basic.target", "sysinit.target", "sockets.target", "timers.target", "multi-user.target", "local-fs.target", "network-online.target", "shutdown.target", "paths.target", "slices.target", "default.target"} {
		text, err := os.ReadFile("/lib/systemd/system/" + u)
		if u == "default.target" {
			text, err = []byte("[Unit]\nRequires=multi-user.target\nAfter=multi-user.target\n"), nil
		}
		if err != nil {
			t.Fatal(err)
		}
		d.write(units+u, string(text), 0o644)
	}
	d.write(units+"dropbear.socket", "[Unit]\nConflicts=dropbear.service\n[Socket]\nListenStream=22\nAccept=yes\n", 0o644)
	d.write(units+"dropbear@.service", "[Unit]\nWants=dropbearkey.service\nAfter=dropbearkey.service\n[Service]\nExecStart=-/usr/sbin/dropbear -i\nStandardInput=socket\n", 0o644)
	var names []string
	for name, target := range map[string]string{"firstboot/files/slipway-firstboot.service": "basic", "firstboot/files/slipway-ready.service": "multi-user", "device/files/slipway-device.service": "basic", "update/files/slipway-update.service": "", "update/files/slipway-update.timer": "timers"} {
		data, err := fs.ReadFile(MetaSlipway(), "recipes-slipway/slipway-"+name)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.NewReplacer("@STATE@", "/var/lib/slipway", "@LIBEXEC@", "/usr/libexec").Replace(string(data))
		base := filepath.Base(name)
		names = append(names, base)
		d.write(units+base, text, 0o644)
		if target != "" {
			wants := units + target + ".target.wants/"
			d.mkdir(wants)
			if err := os.Symlink("../"+base, filepath.Join(d.root, wants, base)); err != nil {
				t.Fatal(err)
			}
		}
	}
	d.mkdir(units + "sockets.target.wants")
	if err := os.Symlink("../dropbear.socket", filepath.Join(d.root, units, "sockets.target.wants/dropbear.socket")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("systemd-analyze", append([]string{"verify", "--root=" + d.root, "--man=no", "default.target"}, names...)...)
	cmd.Env = append(os.Environ(), "SYSTEMD_LOG_LEVEL=warning")
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "slipway") || strings.Contains(line, "cycle") {
			t.Error(line)
		}
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// updater gives a device whose dnf writes what it was asked, and ends as /dnf says.
func updater(t *testing.T) *device {
	d := newDevice(t)
	d.script("slipway-update/files/slipway-update", "usr/sbin/slipway-update")
	d.script("slipway-update/files/update.conf", "etc/slipway/update.conf")
	d.write("etc/os-release", "ID=halyard\nVERSION_ID=1.1\n", 0o644)
	d.write("usr/bin/dnf", "#!/bin/sh\necho \"dnf $*\"\necho \"$*\" >> /asked\nread -r code < /code\nexit \"$code\"\n", 0o755)
	d.write("code", "0\n", 0o644)
	return d
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	d := updater(t)
	asked := func() string {
		data, _ := os.ReadFile(filepath.Join(d.root, "asked")) // nothing asked: no file
		os.Remove(filepath.Join(d.root, "asked"))
		return string(data)
	}
	if out := d.must("/usr/sbin/slipway-update"); out != "" || asked() != "" {
		t.Errorf("switched off it says %q", out)
	}
	out := d.must("/usr/sbin/slipway-update --now")
	if !strings.Contains(out, "upgrade begins at 1.1\n") || !strings.Contains(out, "upgrade done, now at 1.1\n") || asked() != "-y upgrade --refresh\n" {
		t.Errorf("it says %s", out)
	}
	d.write("etc/slipway/update.conf", "enabled=yes\ndelay=0\naction=check\n", 0o644)
	for code, want := range map[string]string{"0": "nothing is pending\n", "100": "updates are pending\n", "1": "the check failed\n"} {
		d.write("code", code+"\n", 0o644)
		out, err := d.sh("/usr/sbin/slipway-update")
		if !strings.Contains(out, want) || (err != nil) != (code == "1") || asked() != "-q check-update --refresh\n" {
			t.Errorf("with %s it says %s, %v", code, out, err)
		}
	}
	// With slipway-device: it updates, dnf is its tool alone.
	d.write("usr/sbin/slipway-device", "#!/bin/sh\necho \"$*\" >> /asked\ncase \"$1\" in status) echo '{\"update_waits\": true}' ;; esac\n", 0o755)
	if out := d.must("/usr/sbin/slipway-update"); !strings.Contains(out, "updates are pending\n") || asked() != "check\nstatus --json\n" {
		t.Errorf("with slipway-device it says %s", out)
	}
	d.write("etc/slipway/update.conf", "enabled=yes\ndelay=1\naction=upgrade\n", 0o644)
	if d.must("/usr/sbin/slipway-update"); asked() != "update\n" {
		t.Error("slipway-device was not asked to update")
	}
	d.write("etc/slipway/update.conf", "enabled=yes\ndelay=0\naction=reboot\n", 0o644)
	if out, err := d.sh("/usr/sbin/slipway-update"); err == nil || !strings.Contains(out, "action is reboot, not upgrade or check") || asked() != "" {
		t.Errorf("with another action it says %s", out)
	}
	if out, err := d.sh("echo $$ > /run/slipway-update.pid; /usr/sbin/slipway-update --now; echo code $?"); err != nil || !strings.Contains(out, "another update runs\ncode 6\n") || asked() != "" {
		t.Errorf("beside another one it says %s, %v", out, err)
	}
	d.ro = true
	if out, err := d.sh("/usr/sbin/slipway-update --now"); err == nil || !strings.Contains(out, "the root file system is read-only: nothing is updated\n") || asked() != "" {
		t.Errorf("on a read-only root it says %s, %v", out, err)
	}
}

// TestResume: the script that both systemd and sysvinit run at boot.
func TestResume(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	d.script("slipway-device/files/slipway-device.init", "etc/init.d/slipway-device")
	d.write("usr/sbin/slipway-device", "#!/bin/sh\necho \"$*\" > /asked\nif [ -e /bad ]; then echo 'error: no feed' >&2; exit 1; fi\n", 0o755)
	const start = "/etc/init.d/slipway-device start"
	if out := d.must(start); out != "" {
		t.Errorf("without a journal it says %s", out)
	}
	d.write("var/lib/slipway-device/journal.json", "{}", 0o644)
	if out := d.must(start); out != "slipway: an update was interrupted\nslipway: the interrupted update is settled\n" || d.read("asked") != "resume\n" {
		t.Errorf("with a journal it says %s", out)
	}
	d.write("bad", "", 0o644)
	if out, err := d.sh(start); err == nil || out != "slipway: an update was interrupted\nerror: no feed\n" {
		t.Errorf("when it fails it says %s, %v", out, err)
	}
}

// TestReady: the line that boot checks wait for.
func TestReady(t *testing.T) {
	t.Parallel()
	d := newDevice(t)
	d.script("slipway-firstboot/files/slipway-ready", "usr/sbin/slipway-ready")
	d.write("usr/bin/sleep", "#!/bin/sh\n", 0o755) // found first
	d.write("proc/net/tcp", "  sl  local_address rem_address   st\n   0: 00000000:0016 00000000:0000 0A 00000000:00000000\n", 0o644)
	if out := d.must("PATH=/usr/bin:/bin /usr/sbin/slipway-ready"); out != "slipway: ready\n" {
		t.Errorf("it says %s", out)
	}
	d.write("proc/net/tcp", "  sl  local_address rem_address   st\n   0: 0100007F:0277 00000000:0000 0A 00000000:00000000\n", 0o644)
	if out := d.must("PATH=/usr/bin:/bin /usr/sbin/slipway-ready"); out != "slipway: up, but nothing listens on port 22\n" {
		t.Errorf("it says %s", out)
	}
}
