package boards_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"sync"
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

// debians replaces what Debian decides.
var debians = replacer{
	{regexp.MustCompile(`6\.1\.0-\d+-cloud-(amd64|arm64)`), "LINUX"},
	{regexp.MustCompile(`6\.1\.\d+-\d+\.`), "V."},
}

type replacer []struct {
	re *regexp.Regexp
	to string
}

func (r replacer) Replace(s string) string {
	for _, x := range r {
		s = x.re.ReplaceAllString(s, x.to)
	}
	return s
}

// root is a device that does not exist.
type root struct {
	t         *testing.T
	dir, home string
	feeds     string
	scopes    string // its architectures, as dnf has them: "qemux86_64:x86_64"
}

func newRoot(w *workspace, scopes string) *root {
	r := &root{t: w.t, dir: w.t.TempDir(), home: w.t.TempDir(), feeds: w.feeds, scopes: scopes}
	// Debian's rpm keeps its database in a home, which is no good in a root.
	write(w.t, filepath.Join(r.home, ".rpmmacros"), []byte("%_dbpath /var/lib/rpm\n"))
	write(w.t, filepath.Join(r.dir, "root/.rpmmacros"), []byte("%_dbpath /var/lib/rpm\n"))
	write(w.t, filepath.Join(r.home, ".rpmrc"), []byte("arch_compat: x86_64: "+strings.ReplaceAll(scopes, ":", " ")+" noarch\n"))
	write(w.t, filepath.Join(r.home, "vars/arch"), []byte(scopes+"\n"))
	return r
}

func (r *root) dnf(n int, args ...string) string {
	r.t.Helper()
	argv := []string{"env", "HOME=" + r.home, "dnf", "-y", "-q", "--installroot=" + r.dir, "--releasever=1", "--disablerepo=*", "--noplugins",
		"--setopt=reposdir=/nowhere", "--setopt=install_weak_deps=0", "--setopt=cachedir=" + r.home, "--setopt=logdir=" + r.home, "--nogpgcheck",
		"--setopt=ignorearch=1", "--setopt=varsdir=" + filepath.Join(r.home, "vars"),
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
	revisions, err := examples.Halyard()
	if err != nil || len(revisions) != 3 {
		t.Fatal(len(revisions), err)
	}
	addDevice(t, revisions)
	w := setup(t)
	w.apply(revisions[0])
	fresh, kept := w.build(1)
	if len(kept) > 0 || len(fresh) < 30 {
		t.Errorf("release 1.1 keeps %v and brings %v", kept, fresh)
	}
	for _, p := range fresh {
		if !strings.Contains(p, "-1.") {
			t.Errorf("release 1.1 has %s", p)
		}
	}
	for i, want := range []string{
		"halyard-release-1.2-1.noarch libknot-1.0-2.aarch64 libknot-1.0-2.x86_64 libknot-devel-1.0-2.aarch64 libknot-devel-1.0-2.x86_64",
		"chartroom-1.0-1.aarch64 chartroom-1.0-1.x86_64 halyard-release-1.3-1.noarch " +
			"kernel-image-LINUX-V.qemuarm64 kernel-image-LINUX-V.qemux86_64 kernel-module-dummy-LINUX-V.qemuarm64 kernel-module-dummy-LINUX-V.qemux86_64 " +
			"kernel-modules-LINUX-V.qemuarm64 kernel-modules-LINUX-V.qemux86_64 kernel-set-V.qemuarm64 kernel-set-V.qemux86_64 " +
			"rigging-extras-2.0-1.noarch rigging-tools-2.0-1.noarch",
	} {
		w.apply(revisions[i+1])
		next, kept := w.build(i + 2)
		for i := range next {
			next[i] = debians.Replace(next[i])
		}
		sort.Strings(next)
		if got := strings.Join(next, " "); got != want {
			t.Errorf("release 1.%d brings\n%s, want\n%s", i+2, got, want)
		}
		if len(next)+len(kept) < len(fresh) {
			t.Errorf("release 1.%d brings %d packages and keeps %d, of %d", i+2, len(next), len(kept), len(fresh))
		}
	}
	// Each has roots and devices of its own. Devices take longest, so they come first.
	t.Run("guests", func(t *testing.T) { t.Parallel(); guests(t, w.in(t)) })
	t.Run("alone", func(t *testing.T) { t.Parallel(); w.in(t).installsAlone(3) })
	t.Run("root", func(t *testing.T) { t.Parallel(); livesInRoot(t, w.in(t)) })
}

// in is the workspace for a subtest, which fails alone.
func (w *workspace) in(t *testing.T) *workspace {
	c := *w
	c.t = t
	return &c
}

// livesInRoot takes a device that does not exist through the releases and back.
func livesInRoot(t *testing.T, w *workspace) {
	r := newRoot(w, "qemux86_64:x86_64")
	r.dnf(1, "install", "knotctl", "logline", "rigging-tools", "halyard-feeds", "halyard-release", "libknot-devel", "kernel-set", "machine-config")
	older := r.boots()
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
	newer := r.boots()
	if newer == older {
		t.Errorf("after the upgrade it boots %s still", newer)
	}
	for _, name := range []string{older, newer} {
		if _, err := os.Stat(filepath.Join(r.dir, name)); err != nil {
			t.Errorf("a kernel is not beside the other: %v", err)
		}
	}
	r.dnf(3, "install", "chartroom")
	if bad := r.verify(); bad != "" {
		t.Errorf("rpm -Va of release 3:\n%s", bad)
	}
	for tool, want := range map[string]string{
		"/usr/bin/knotctl":    "figure eight x7: 75% of the rope's strength\n",
		"/usr/bin/chartroom":  "figure eight    75%\nbowline         65%\nclove hitch     60%\nsheet bend      55%\nreef knot       45%\n",
		"/usr/bin/rig-report": "Halyard Linux 1.3\nservices: logline network \nconfiguration: whole\n",
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
	if got := r.boots(); got != older {
		t.Errorf("back at release 1 it boots %s, not %s", got, older)
	}
	r.dnf(1, "remove", "logline")

	r.dnf(1, "install", "firstboot")
	firstBoots(t, r)
}

// boots gives the kernel that the machine boots.
func (r *root) boots() string {
	data, err := os.ReadFile(filepath.Join(r.dir, "boot/slipway-boot.conf"))
	if err != nil {
		r.t.Fatal(err)
	}
	for l := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(l, "kernel="); ok {
			return strings.TrimSpace(name)
		}
	}
	r.t.Fatalf("/boot/slipway-boot.conf has no kernel:\n%s", data)
	return ""
}

// installsAlone would find a requirement that only the presence of other
// packages fulfils. Packages of the other machine go into one root together:
// nothing of them can run here, so none may need to.
func (w *workspace) installsAlone(n int) {
	w.t.Helper()
	others := []string{"install"}
	var wg sync.WaitGroup
	free := make(chan struct{}, 4)
	for _, p := range w.seed.Packages {
		if p.Scope == "aarch64" || p.Scope == "qemuarm64" {
			others = append(others, p.Name)
			continue
		}
		r := newRoot(w, "qemux86_64:x86_64")
		wg.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			r.dnf(n, "install", p.Name)
			if bad := r.verify(); bad != "" {
				w.t.Errorf("%s alone: rpm -Va:\n%s", p.Name, bad)
			}
		})
	}
	wg.Wait()
	r := newRoot(w, "qemuarm64:aarch64")
	r.dnf(n, others...)
	r.boots()
	if bad := r.verify(); bad != "" {
		w.t.Errorf("the packages for arm64: rpm -Va:\n%s", bad)
	}
}
