package layers

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRealBitBakeMetaSlipway builds the layer's packages, and a kernel by OE-Core's
// own class, and lets a real dnf live with them: systemd.
func TestRealBitBakeMetaSlipway(t *testing.T) {
	t.Parallel()
	y := newYocto(t, "")
	y.given()
	// As a BSP layer's machine has it.
	conf := y.deviceConf("systemd usrmerge") + "PACKAGE_EXTRA_ARCHS:append = \" fixture-family\"\n"
	y.configure(conf+"PREFERRED_VERSION_linux-device = \"6.18.1\"\n", "meta-fixture", "meta-slipway", "meta-device")
	out := y.must("bitbake", "packagegroup-slipway", "stand-ins", "virtual/kernel")
	made := y.packages()
	for _, name := range []string{"packagegroup-slipway", "slipway-device", "slipway-feed-config", "slipway-firstboot", "slipway-machine-config", "slipway-presets", "slipway-ready", "slipway-update", "kernel"} {
		if !strings.HasSuffix(made[name], "-r0.0") {
			t.Errorf("package %s is %q\n%s", name, made[name], out)
		}
	}
	r := newTarget(t, true)
	r.add(y)
	r.dnf("install", "shell", "depmod")
	r.dnf("install", "packagegroup-slipway", "kernel-set")
	r.files(`/etc/yum.repos.d/halyard.repo -rw-r--r-- c
/etc/pki/rpm-gpg/RPM-GPG-KEY-halyard-metadata -rw-r--r--
/etc/pki/rpm-gpg/RPM-GPG-KEY-halyard-package -rw-r--r--
/etc/dnf/vars/slipway_url -rw-r--r-- c
/etc/dnf/vars/slipway_snapshot -rw-r--r-- c
/etc/dnf/vars/slipway_arch -rw-r--r--
/etc/dnf/vars/slipway_machine -rw-r--r--
/etc/dnf/vars/slipway_soc -rw-r--r--
/etc/default/slipway-firstboot -rw-r--r-- c
/etc/ssh/sshd_config.d drwxr-xr-x
/home/root/.ssh drwx------
/usr/sbin/slipway-firstboot -rwxr-xr-x
/usr/sbin/slipway-ready -rwxr-xr-x
/usr/sbin/slipway-update -rwxr-xr-x
/usr/sbin/slipway-device -rwxr-xr-x
/usr/libexec/slipway/slipway-device -rwxr-xr-x
/usr/lib/systemd/system/slipway-firstboot.service -rw-r--r--
/usr/lib/systemd/system/slipway-ready.service -rw-r--r--
/usr/lib/systemd/system/slipway-update.service -rw-r--r--
/usr/lib/systemd/system/slipway-update.timer -rw-r--r--
/usr/lib/systemd/system/slipway-device.service -rw-r--r--
/usr/lib/systemd/system-preset/95-slipway.preset -rw-r--r--
/var/lib/slipway drwxr-xr-x
/var/lib/slipway-device drwxr-xr-x
`)
	for _, gone := range []string{"etc/init.d", "etc/cron.d", "etc/machine-id"} {
		if _, err := os.Lstat(filepath.Join(r.root, gone)); err == nil {
			t.Errorf("with systemd there is /%s", gone)
		}
	}
	if bad := r.rpm("-Va"); bad != "" {
		t.Errorf("rpm -Va:\n%s", bad)
	}
	if got := r.read("etc/default/slipway-firstboot"); got != "state=/var/lib/slipway\nhostkey=/etc/dropbear/dropbear_rsa_host_key\n" {
		t.Errorf("/etc/default/slipway-firstboot is %q", got)
	}
	if unit := r.read("usr/lib/systemd/system/slipway-firstboot.service"); !strings.Contains(unit, "RequiresMountsFor=/var/lib/slipway /etc /run\n") || strings.Contains(unit, "@") {
		t.Errorf("slipway-firstboot.service is\n%s", unit)
	}
	if out, err := exec.Command("chroot", r.root, "/usr/sbin/slipway-device", "--help").CombinedOutput(); err != nil || !strings.Contains(string(out), "resume") {
		t.Errorf("slipway-device on the device: %v\n%s", err, out)
	}
	r.repositories()
	r.presets()
	r.kernelSet(y, conf)
}

// files asks of each line: path, mode, and "c" for configuration of a package.
func (r *target) files(want string) {
	r.t.Helper()
	config := strings.Fields(r.rpm("-qac"))
	for line := range strings.Lines(want) {
		f := strings.Fields(line)
		info, err := os.Lstat(filepath.Join(r.root, f[0]))
		if err != nil {
			r.t.Error(err)
			continue
		}
		if info.Mode().String() != f[1] || slices.Contains(config, f[0]) != (len(f) == 3) {
			r.t.Errorf("%s is %v, configuration %t", f[0], info.Mode(), slices.Contains(config, f[0]))
		}
		if owner := r.rpm("-qf", "--qf", "%{NAME}", f[0]); strings.Contains(owner, "not owned") {
			r.t.Errorf("%s is of no package", f[0])
		}
	}
}

// repositories asks dnf what it makes of the .repo file and the variables, which come
// from two packages.
func (r *target) repositories() {
	r.t.Helper()
	out, err := exec.Command("env", "HOME="+r.home, "dnf", "-v", "-C", "--installroot="+r.root, "--releasever=1", "--noplugins", "--setopt=cachedir="+r.home, "--setopt=logdir="+r.home,
		"--setopt=reposdir="+r.root+"/etc/yum.repos.d", "--setopt=varsdir="+r.root+"/etc/dnf/vars", "repolist", "--all").CombinedOutput()
	if err != nil {
		r.t.Fatal(err, string(out))
	}
	for _, want := range []string{"https://feeds.example.org/halyard/1/current/noarch", "https://feeds.example.org/halyard/1/current/core2_64", "https://feeds.example.org/halyard/1/current/fixture_a", "https://feeds.example.org/halyard/1/current/fixture_family", "https://feeds.example.org/halyard/1/history/core2_64"} {
		if !strings.Contains(string(out), want) {
			r.t.Errorf("dnf does not ask %s:\n%s", want, out)
		}
	}
	repo := r.read("etc/yum.repos.d/halyard.repo")
	sections := strings.Count(repo, "\n[") + 1
	if sections != 8 || strings.Count(repo, "\ngpgcheck=1\n") != sections || strings.Count(repo, "\nrepo_gpgcheck=1\n") != sections {
		r.t.Errorf("halyard.repo is\n%s", repo)
	}
}

// presets asks systemd which services start: those of the layer, and not one that
// comes from elsewhere and wants to.
func (r *target) presets() {
	r.t.Helper()
	units := filepath.Join(r.root, "usr/lib/systemd/system")
	guest := "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
	for name, text := range map[string]string{"system/guest.service": guest, "system/sshd.service": guest, "system/owned.service": guest,
		"system-preset/98-guest.preset": "enable guest.service\n", "system-preset/90-systemd.preset": "enable owned.service\n"} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(units), name), []byte(text), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
	names := []string{"guest.service", "sshd.service", "owned.service", "slipway-firstboot.service", "slipway-ready.service", "slipway-update.timer", "slipway-device.service"}
	if out, err := exec.Command("systemctl", append([]string{"--root=" + r.root, "preset"}, names...)...).CombinedOutput(); err != nil {
		r.t.Fatal(err, string(out))
	}
	// It exits with 1 when any of them is disabled.
	out, _ := exec.Command("systemctl", append([]string{"--root=" + r.root, "is-enabled"}, names...)...).Output()
	if got := strings.Fields(string(out)); !slices.Equal(got, []string{"disabled", "enabled", "enabled", "enabled", "enabled", "disabled", "static"}) {
		r.t.Errorf("of %v systemd says %v", names, got)
	}
	if to, err := os.Readlink(filepath.Join(units, "basic.target.wants/slipway-device.service")); err != nil || to != "../slipway-device.service" {
		r.t.Error("slipway-device.service is not wanted at boot:", to, err)
	}
}

// kernelSet upgrades to another kernel, which comes whole and beside the old one, goes
// back, and removes what is old. What changes in the feed's configuration comes, too.
func (r *target) kernelSet(y *yocto, conf string) {
	r.t.Helper()
	const old, next = "bzImage-6.18.1-device", "bzImage-6.18.2-device"
	if r.boots() != old || r.kernels() != old {
		r.t.Errorf("it boots %s of %s", r.boots(), r.kernels())
	}
	for _, want := range []string{"kernel-image-6.18.1-device = 6.18.1-r0.0", "kernel-6.18.1-device = 6.18.1-r0.0", "kernel-modules = 6.18.1-r0.0", "kernel-module-horn-6.18.1-device = 6.18.1-r0.0", "kernel-module-lights-6.18.1-device = 6.18.1-r0.0"} {
		if requires := r.rpm("-q", "--requires", "kernel-set"); !strings.Contains(requires, want+"\n") {
			r.t.Errorf("kernel-set does not require %s but\n%s", want, requires)
		}
	}
	// The same feed configuration in another folder is nothing new.
	if err := os.Rename(y.path("feed"), y.path("feed-2")); err != nil {
		r.t.Fatal(err)
	}
	conf = strings.Replace(conf, y.path("feed"), y.path("feed-2"), 1)
	y.configure(conf+"PREFERRED_VERSION_linux-device = \"6.18.2\"\nSLIPWAY_KERNEL_MODULES = \"lights absent\"\n", "meta-fixture", "meta-slipway", "meta-device")
	y.must("bitbake", "slipway-feed-config", "packagegroup-slipway", "virtual/kernel")
	if v := y.packages()["slipway-feed-config"]; v != "1.0-r0.0" {
		r.t.Errorf("the same feed configuration in another folder is %s", v)
	}
	r.add(y)
	r.dnf("upgrade", "kernel-set")
	if r.boots() != next || r.kernels() != old+" "+next {
		r.t.Errorf("after the upgrade it boots %s of %s", r.boots(), r.kernels())
	}
	requires := r.rpm("-q", "--requires", "kernel-set")
	if !strings.Contains(requires, "kernel-module-lights-6.18.2-device = 6.18.2-r0.0\n") || strings.Contains(requires, "horn") || strings.Contains(requires, "kernel-modules") || strings.Contains(requires, "absent") {
		r.t.Errorf("with a list of modules kernel-set requires\n%s", requires)
	}
	for _, name := range []string{"kernel-module-lights-6.18.1-device", "kernel-module-lights-6.18.2-device", "kernel-module-horn-6.18.1-device"} {
		if out := r.rpm("-q", name); strings.Contains(out, "not installed") {
			r.t.Error(out)
		}
	}
	r.dnf("downgrade", "kernel-set-6.18.1")
	if r.boots() != old || r.kernels() != old+" "+next {
		r.t.Errorf("gone back it boots %s of %s", r.boots(), r.kernels())
	}
	r.dnf("upgrade", "kernel-set")
	r.dnf("remove", "kernel-image-bzimage-6.18.1-device")
	if r.boots() != next || r.kernels() != next {
		r.t.Errorf("without the old kernel it boots %s of %s", r.boots(), r.kernels())
	}

	repo, err := os.ReadFile(y.path("feed-2/halyard.repo"))
	if err != nil {
		r.t.Fatal(err)
	}
	y.write("feed-2/halyard.repo", strings.Replace(strings.Replace(string(repo), "\nrepo_gpgcheck=1", "\nrepo_gpgcheck=0", 1), "KEY-halyard-package", "KEY-halyard-lost", 1))
	y.own()
	out, err := y.run("bitbake", "slipway-feed-config")
	for _, want := range []string{"halyard.repo: [halyard-arch] has no repo_gpgcheck=1", "needs the key RPM-GPG-KEY-halyard-lost, which is not in " + y.path("feed-2")} {
		if err == nil || !strings.Contains(out, want) {
			r.t.Errorf("a bad .repo file: %q is not in\n%s", want, out)
		}
	}
	y.write("feed-2/halyard.repo", string(repo))
	y.write("feed-2/vars/slipway_url", "https://mirror.example.org/halyard\n")
	y.own()
	y.must("bitbake", "slipway-feed-config")
	r.add(y)
	r.dnf("upgrade")
	if got := r.read("etc/dnf/vars/slipway_url"); got != "https://mirror.example.org/halyard\n" || y.packages()["slipway-feed-config"] != "1.0-r0.1" {
		r.t.Errorf("a changed feed configuration is version %s, its url %s", y.packages()["slipway-feed-config"], got)
	}
}

// TestRealBitBakeMetaSlipwaySysvinit builds what differs without systemd.
func TestRealBitBakeMetaSlipwaySysvinit(t *testing.T) {
	t.Parallel()
	y := newYocto(t, "")
	y.given()
	y.configure(y.deviceConf("sysvinit"), "meta-fixture", "meta-slipway", "meta-device")
	y.must("bitbake", "packagegroup-slipway", "stand-ins")
	r := newTarget(t, false)
	r.add(y)
	r.dnf("install", "packagegroup-slipway")
	r.files(`/etc/init.d/slipway-firstboot -rwxr-xr-x
/etc/init.d/slipway-ready -rwxr-xr-x
/etc/init.d/slipway-device -rwxr-xr-x
/etc/cron.d/slipway-update -rw-r--r--
/etc/machine-id -r--r--r-- c
/etc/slipway/update.conf -rw-r--r-- c
`)
	if _, err := os.Lstat(filepath.Join(r.root, "usr/lib/systemd")); err == nil {
		t.Error("without systemd there is /usr/lib/systemd")
	}
	if out := r.rpm("-q", "slipway-presets"); !strings.Contains(out, "not installed") {
		t.Error(out)
	}
	for name, want := range map[string]string{"slipway-firstboot": "update-rc.d $OPT slipway-firstboot start 90 S .", "slipway-device": "update-rc.d $OPT slipway-device start 95 S .", "slipway-ready": "update-rc.d $OPT slipway-ready start 99 2 3 4 5 ."} {
		if got := r.rpm("-q", "--scripts", name); !strings.Contains(got, want) {
			t.Errorf("%s: %q is not in its scripts:\n%s", name, want, got)
		}
	}
	// A device's machine id outlives a new version of the package.
	if got := r.rpm("-q", "--qf", "[%{FILENAMES} %{FILEFLAGS:fflags}\n]", "slipway-firstboot"); !strings.Contains(got, "/etc/machine-id c") {
		t.Errorf("files of slipway-firstboot:\n%s", got)
	}
	if bad := r.rpm("-Va"); bad != "" {
		t.Errorf("rpm -Va:\n%s", bad)
	}
}

// TestRealBitBakeMetaSlipwayCheckLayer runs OE-Core's yocto-check-layer; in the short
// form over the little of OE-Core that the fixture needs, in the long form over all.
func TestRealBitBakeMetaSlipwayCheckLayer(t *testing.T) {
	t.Parallel()
	y := newYocto(t, "")
	y.given()
	given := `SLIPWAY_FEED_CONFIG = "` + y.path("feed") + "\"\nSLIPWAY_DEVICE_DIR = \"" + y.path("programs") + "\"\n"
	if os.Getenv("SLIPWAY_TEST") == "full" {
		y.configure("MACHINE ?= \"qemux86-64\"\n" + given)
	} else {
		stand := y.path("layers/stand-ins")
		for _, dir := range []string{"conf", "recipes-device"} {
			if err := os.CopyFS(filepath.Join(stand, dir), os.DirFS(filepath.Join("testdata/meta-device", dir))); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(filepath.Join(stand, "conf/layer.conf"))
		if err != nil {
			t.Fatal(err)
		}
		// Before meta-slipway is added there are the same stand-ins.
		y.write("layers/stand-ins/conf/layer.conf", strings.NewReplacer("core slipway", "core", "_device", "_stand-ins", `"device"`, `"stand-ins"`).Replace(string(text)))
		if err := os.RemoveAll(filepath.Join(stand, "recipes-device/linux")); err != nil {
			t.Fatal(err)
		}
		y.write("layers/stand-ins/conf/distro/device.conf", "require conf/distro/fixture.conf\nDISTRO = \"device\"\nDISTRO_FEATURES:append = \" systemd usrmerge\"\nASSUME_PROVIDED += \"systemd-systemctl-native update-rc.d initscripts\"\nPREFERRED_PROVIDER_virtual/kernel = \"linux-dummy\"\n")
		// In the world of these few recipes all can be built.
		mask := "BBMASK = \"/meta/recipes-(?!core/base-files/|kernel/linux/linux-dummy)\"\n"
		y.configure(mask+"MACHINE ?= \"fixture-a\"\nDISTRO = \"device\"\nBB_HASHSERVE = \"\"\nBB_SIGNATURE_HANDLER = \"OEBasicHash\"\n"+given, "meta-fixture", "stand-ins")
	}
	out, err := y.run("yocto-check-layer", "--no-auto-dependency", y.path("layers/meta-slipway"))
	if err != nil || !strings.Contains(out, "meta-slipway ... PASS") {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Log(out[strings.LastIndex(out, "INFO: ")-400:])
}

// older is a release before wrynose: the same packages, by its own means, but no kernel:
// Debian's pseudo does not get through packaging it with these releases.
func older(t *testing.T, series string) {
	t.Helper()
	upper := strings.ToUpper(series)
	y := newYocto(t, "_"+upper)
	y.given()
	// The fixture's layers are for wrynose; here, what differs.
	for _, layer := range []string{"meta-fixture", "meta-device"} {
		path := "layers/" + layer + "/conf/layer.conf"
		data, err := os.ReadFile(y.path(path))
		if err != nil {
			t.Fatal(err)
		}
		y.write(path, strings.Replace(string(data), `"wrynose"`, `"`+series+`"`, 1))
	}
	inc := "layers/meta-fixture/conf/distro/include/hosttools.inc"
	data, err := os.ReadFile(y.path(inc))
	if err != nil {
		t.Fatal(err)
	}
	y.write(inc, strings.Replace(string(data), "${UNPACKDIR},", "", 1))
	y.configure(y.deviceConf("systemd usrmerge")+`UNPACKDIR = "${WORKDIR}"
ASSUME_PROVIDED += "virtual/${TARGET_PREFIX}gcc virtual/${TARGET_PREFIX}g++ virtual/${TARGET_PREFIX}binutils virtual/${TARGET_PREFIX}compilerlibs"
PREFERRED_PROVIDER_virtual/kernel:forcevariable = "linux-dummy"
`, "meta-fixture", "meta-slipway", "meta-device")
	environment := y.must("bitbake", "-e")
	want := map[string]string{"SLIPWAY_SEQUOIA": "", "BB_SIGNATURE_HANDLER": "OEEquivHash", "BUILDHISTORY_COMMIT": "1", "COPYLEFT_LICENSE_INCLUDE": "*", "BB_GENERATE_MIRROR_TARBALLS": "1", "PACKAGE_CLASSES": "package_rpm"}
	classes := "buildhistory archiver create-spdx"
	if series != "kirkstone" {
		classes += " vex"
	}
	want["SLIPWAY_CLASSES"] = classes
	for name, text := range want {
		if got := value(environment, name); got != text {
			t.Errorf("%s is %q, want %q", name, got, text)
		}
	}
	y.must("bitbake", "packagegroup-slipway", "stand-ins")
	r := newTarget(t, true)
	r.add(y)
	r.dnf("install", "packagegroup-slipway")
	if bad := r.rpm("-Va"); bad != "" {
		t.Errorf("rpm -Va:\n%s", bad)
	}
	if got := r.rpm("-q", "--requires", "slipway-feed-config"); !strings.Contains(got, "gnupg\n") && !strings.HasSuffix(got, "gnupg") {
		t.Errorf("slipway-feed-config does not require gnupg:\n%s", got)
	}
	r.files(`/etc/yum.repos.d/halyard.repo -rw-r--r-- c
/usr/sbin/slipway-firstboot -rwxr-xr-x
/usr/lib/systemd/system/slipway-firstboot.service -rw-r--r--
/usr/lib/systemd/system/slipway-device.service -rw-r--r--
/usr/lib/systemd/system-preset/95-slipway.preset -rw-r--r--
`)
}

func TestRealYoctoScarthgapMetaSlipway(t *testing.T) {
	t.Parallel()
	older(t, "scarthgap")
}

func TestRealYoctoKirkstoneMetaSlipway(t *testing.T) {
	t.Parallel()
	older(t, "kirkstone")
}
