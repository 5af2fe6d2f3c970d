package examples_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/examples"
	"slipway/internal/distro"
)

func rows(t *testing.T, path string) []distro.NumberRow {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []distro.NumberRow
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// root is a device that does not exist.
type root struct {
	t         *testing.T
	dir, home string
	feeds     string
}

func newRoot(w *workspace) *root {
	r := &root{t: w.t, dir: w.t.TempDir(), home: w.t.TempDir(), feeds: w.feeds}
	// Debian's rpm keeps its database in a home, which is no good in a root.
	write(w.t, filepath.Join(r.home, ".rpmmacros"), []byte("%_dbpath /var/lib/rpm\n"))
	write(w.t, filepath.Join(r.dir, "root/.rpmmacros"), []byte("%_dbpath /var/lib/rpm\n"))
	return r
}

func (r *root) dnf(n int, args ...string) string {
	r.t.Helper()
	argv := []string{"env", "HOME=" + r.home, "dnf", "-y", "-q", "--installroot=" + r.dir, "--releasever=1", "--disablerepo=*", "--noplugins",
		"--setopt=reposdir=/nowhere", "--setopt=install_weak_deps=0", "--setopt=cachedir=" + r.home, "--setopt=logdir=" + r.home, "--nogpgcheck",
		fmt.Sprintf("--repofrompath=feed%d,file://%s/%d", n, r.feeds, n)}
	out := run(r.t, append(argv, args...)...)
	for _, l := range strings.Split(out, "\n") {
		for _, bad := range []string{"scriptlet", "warning", "error", "Error", "conflict", "not found", "usage:"} {
			if strings.Contains(l, bad) {
				r.t.Errorf("dnf %v says: %s", args, l)
			}
		}
	}
	return out
}

func (r *root) rpm(args ...string) string {
	r.t.Helper()
	out, _ := try(r.t, append([]string{"env", "HOME=" + r.home, "rpm", "--root=" + r.dir}, args...)...)
	return strings.TrimSpace(out)
}

// verify gives what rpm -Va finds, edited configuration left out.
func (r *root) verify() string {
	var bad []string
	for _, l := range strings.Split(r.rpm("-Va"), "\n") {
		if f := strings.Fields(l); len(f) > 0 && !(len(f) == 3 && f[1] == "c" && strings.Contains(f[0], "5")) {
			bad = append(bad, l)
		}
	}
	return strings.Join(bad, "\n")
}

func (r *root) has(pkg string) string { return r.rpm("-q", "--qf", "%{VERSION}-%{RELEASE}", pkg) }

func TestHalyardLives(t *testing.T) {
	revisions, err := examples.HalyardPackages()
	if err != nil || len(revisions) != 3 {
		t.Fatal(len(revisions), err)
	}
	w := setup(t)
	var built []string
	for i, rev := range revisions {
		w.apply(rev)
		built = append(built, w.build(i+1))
	}
	version := map[string]string{} // the host's Debian packages decide these two
	for _, p := range w.seed.Packages {
		version[p.Name] = p.Version
	}
	for i, want := range []string{
		"base-files-1.0-1 busybox-" + version["busybox"] + "-1 halyard-feeds-1-1 halyard-release-1.1-1 knotctl-1.0-1 libc-" + version["libc"] +
			"-1 libknot-1.0-1 libknot-devel-1.0-1 logline-1.0-1 rigging-tools-1.0-1",
		"=base-files =busybox =halyard-feeds =knotctl =libc =logline =rigging-tools halyard-release-1.2-1 libknot-1.0-2 libknot-devel-1.0-2",
		"=base-files =busybox =halyard-feeds =knotctl =libc =libknot =libknot-devel =logline chartroom-1.0-1 halyard-release-1.3-1 rigging-extras-2.0-1 rigging-tools-2.0-1",
	} {
		if built[i] != want {
			t.Errorf("release 1.%d has\n%s, want\n%s", i+1, built[i], want)
		}
	}
	w.installsAlone(3)

	r := newRoot(w)
	r.dnf(1, "install", "knotctl", "logline", "rigging-tools", "halyard-feeds", "halyard-release", "libknot-devel")
	if bad := r.verify(); bad != "" {
		t.Errorf("rpm -Va of release 1:\n%s", bad)
	}
	if out := run(t, "chroot", r.dir, "/usr/bin/knotctl"); out != "bowline x2: 65% of the rope's strength\n" {
		t.Errorf("knotctl says %q", out)
	}
	if out := run(t, "chroot", r.dir, "/bin/sh", "-c", "id logline && cat /var/lib/logline/state"); !strings.Contains(out, "(logline)") || !strings.Contains(out, "lines 0") {
		t.Errorf("after logline's scriptlets: %s", out)
	}
	write(t, filepath.Join(r.dir, "etc/knot.conf"), []byte("knot = figure eight\nturns = 7\n"))

	r.dnf(2, "upgrade")
	r.dnf(3, "upgrade")
	for pkg, want := range map[string]string{"libknot": "1.0-2", "knotctl": "1.0-1", "rigging-tools": "2.0-1", "rigging-extras": "2.0-1", "halyard-release": "1.3-1"} {
		if got := r.has(pkg); got != want {
			t.Errorf("after the upgrade %s is %s, want %s", pkg, got, want)
		}
	}
	r.dnf(3, "install", "chartroom")
	if bad := r.verify(); bad != "" {
		t.Errorf("rpm -Va of release 3:\n%s", bad)
	}
	for tool, want := range map[string]string{
		"/usr/bin/knotctl":    "figure eight x7: 75% of the rope's strength\n",
		"/usr/bin/chartroom":  "figure eight    75%\nbowline         65%\nclove hitch     60%\nsheet bend      55%\nreef knot       45%\n",
		"/usr/bin/rig-report": "Halyard Linux 1.3\nservices: logline \nconfiguration: whole\n",
	} {
		if out := run(t, "chroot", r.dir, tool); out != want {
			t.Errorf("%s says %q", tool, out)
		}
	}

	// The half that was split off later stands in the way of its origin.
	r.dnf(1, "distro-sync", "--allowerasing")
	if got := r.has("rigging-tools") + " " + r.has("libknot") + " " + r.has("halyard-release"); got != "1.0-1 1.0-1 1.1-1" {
		t.Errorf("back at release 1 there is %s", got)
	}
	if bad := r.verify(); bad != "" {
		t.Errorf("rpm -Va back at release 1:\n%s", bad)
	}
	r.dnf(1, "remove", "logline")
}

// installsAlone would find a requirement that only the presence of other
// packages fulfils.
func (w *workspace) installsAlone(n int) {
	w.t.Helper()
	for _, p := range w.seed.Packages {
		r := newRoot(w)
		r.dnf(n, "install", p.Name)
		if bad := r.verify(); bad != "" {
			w.t.Errorf("%s alone: rpm -Va:\n%s", p.Name, bad)
		}
	}
}
