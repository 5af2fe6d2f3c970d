package device

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/internal/distro"
	"slipway/internal/dnf/dnftest"
	"slipway/internal/feed"
	"slipway/internal/rpm"
	"slipway/internal/sign"
	"slipway/internal/store"
)

// start is the date of the test's distribution; release n is published n hours later.
var start = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// now is the device's clock.
var now = start.Add(24 * time.Hour)

const mainVariable = "SLIPWAY_DEVICE_TEST_MAIN"

// The test binary is slipway-device, too: so that it can be killed.
func TestMain(m *testing.M) {
	if at := os.Getenv(mainVariable); at != "" {
		clock, err := time.Parse(time.RFC3339, at)
		if err != nil {
			panic(err)
		}
		os.Exit(Main(context.Background(), os.Args[1:], Stdio{os.Stdout, os.Stderr}, Options{Now: func() time.Time { return clock }}))
	}
	code := m.Run()
	if worldDir != "" {
		os.RemoveAll(worldDir)
	}
	os.Exit(code)
}

// hook is a scriptlet that notes that it has run, and cuts the power when
// the file /cut names it: slipway-device and all of dnf die at once.
func hook(section, name string) string {
	return fmt.Sprintf(`%%%s -p <lua>
local me = "%s-%s"
local f = io.open("/scripts", "a")
f:write(me .. "\n")
f:close()
local c = io.open("/cut")
if c then
  local at = c:read("*l")
  c:close()
  if at == "fail " .. me then error("fails on purpose") end
  if at == me then
    os.remove("/cut")
    local l = io.open("/var/lib/slipway-device/lock")
    posix.kill(tonumber(l:read("*l")), 9)
    posix.kill(0, 9)
  end
end
`, section, name, strings.ReplaceAll(section, "%", ""))
}

func spec(name, version, requires string) string {
	s := fmt.Sprintf("Name: %s\nVersion: %s\nRelease: 1\nBuildArch: noarch\n%s%%install\nmkdir -p %%{buildroot}/usr/share/%s %%{buildroot}/etc\n", name, version, requires, name)
	for i := range 20 {
		s += fmt.Sprintf("echo %s %d > %%{buildroot}/usr/share/%s/%d\n", version, i, name, i)
	}
	s += fmt.Sprintf("echo %s > %%{buildroot}/etc/%s.conf\n%%files\n/usr/share/%s\n%%config(noreplace) /etc/%s.conf\n", version, name, name, name)
	for _, section := range []string{"pretrans", "pre", "post", "preun", "postun", "posttrans"} {
		s += hook(section, name+"-"+version)
	}
	return s
}

func osRelease(version string) string {
	return fmt.Sprintf("Name: halyard-release\nVersion: %s\nRelease: 1\nBuildArch: noarch\n%%install\nmkdir -p %%{buildroot}/usr/lib %%{buildroot}/etc\n"+
		"printf 'ID=halyard\\nVERSION_ID=%s\\n' > %%{buildroot}/usr/lib/os-release\ntouch -d 2026-11-01 %%{buildroot}/usr/lib/os-release\nln -s ../usr/lib/os-release %%{buildroot}/etc/os-release\n%%files\n/usr/lib/os-release\n/etc/os-release\n", version, version)
}

// releases of the test's distribution: dependencies by exact versions, and a
// package that does not change.
var releases = [...][]string{
	{osRelease("1.1"), spec("libknot", "1.0", ""), spec("knotctl", "1.0", "Requires: libknot = 1.0\n"), spec("rigging", "1.0", "Requires: knotctl = 1.0\n"), spec("anchor", "1.0", "")},
	{osRelease("1.2"), spec("libknot", "1.1", ""), spec("knotctl", "1.1", "Requires: libknot = 1.1\n"), spec("rigging", "1.1", "Requires: knotctl = 1.1\n")},
	{osRelease("1.3"), spec("libknot", "1.2", ""), spec("knotctl", "1.2", "Requires: libknot = 1.2\n"), spec("rigging", "1.2", "Requires: knotctl = 1.2\n")},
}

// world is a publication with its key, and a device at release 1.1 to copy.
type world struct {
	dir           string     // the publication, with releases 1.1, 1.2 and 1.3
	first, second string     // the publication when the newest release was 1.1, 1.2
	built         [][]string // the unsigned packages of each release
	device        string     // the file system of the device
	key           *sign.Key
	all           []distro.PackageRecord // of the releases so far
	before        []distro.PackageRecord // of release 1.1
}

var (
	once     sync.Once
	shared   *world
	builtErr string
	worldDir string
)

// publish makes the world, once for all tests: serials 1 to 3.
func publish(t *testing.T) *world {
	t.Helper()
	dnftest.Need(t)
	if _, err := exec.LookPath("zypper"); err != nil {
		t.Fatal("zypper is not installed: apt-get install zypper")
	}
	once.Do(func() {
		dir, err := os.MkdirTemp("", "slipway-device-test-")
		if err != nil {
			t.Fatal(err)
		}
		worldDir = dir
		w := &world{dir: filepath.Join(dir, "publication"), device: filepath.Join(dir, "device")}
		builtErr = "the world could not be made"
		if w.key, err = sign.Generate(sign.Options{Name: "Halyard", Created: start}); err != nil {
			t.Fatal(err)
		}
		w.first, w.second = filepath.Join(dir, "first"), filepath.Join(dir, "second")
		for n := range releases {
			var built []string
			for _, s := range releases[n] {
				for _, path := range dnftest.Build(t, s) {
					b, err := os.ReadFile(path)
					if err == nil {
						path = filepath.Join(dir, filepath.Base(path)) // outlives the test that builds it
						err = os.WriteFile(path, b, 0o644)
					}
					if err != nil {
						t.Fatal(err)
					}
					built = append(built, path)
				}
			}
			w.built = append(w.built, built)
			w.release(t, n+1)
			if n < 2 {
				if out, err := exec.Command("cp", "-a", w.dir, []string{w.first, w.second}[n]).CombinedOutput(); err != nil {
					t.Fatal(string(out))
				}
			}
		}
		builtErr = ""
		shared = w
	})
	if builtErr != "" {
		t.Fatal(builtErr)
	}
	return shared
}

func (w *world) publisher(t *testing.T) *feed.Publisher {
	tree, err := store.OpenTree(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	return &feed.Publisher{Tree: tree, Layout: feed.Layout{Series: "1"}, Distribution: "halyard", Title: "Halyard", Package: w.key, Metadata: w.key,
		Scopes: []string{"noarch"}, Support: feed.Support{SecuritySupportEnds: "2030-12-01", Ends: "2031-12-01"}}
}

// release publishes release 1.<serial>.
func (w *world) release(t *testing.T, serial int) {
	t.Helper()
	p, at := w.publisher(t), start.Add(time.Duration(serial)*time.Hour)
	var mine []distro.PackageRecord
	for _, path := range w.built[serial-1] {
		r, b := record(t, path)
		r, err := p.AddPackage(t.Context(), r, bytes.NewReader(b), int64(len(b)), at)
		if err != nil {
			t.Fatal(err)
		}
		mine = append(mine, r)
	}
	w.all = feed.Union(w.all, mine)
	e := feed.Edition{Serial: serial, Release: distro.NewVersion("1", serial), At: at, Index: feed.Newest(w.all), History: w.all}
	s, err := p.WriteSnapshot(t.Context(), e)
	if err == nil {
		err = p.WriteKeys(t.Context())
	}
	if err == nil {
		err = p.Switch(t.Context(), e, s)
	}
	if err != nil {
		t.Fatal(err)
	}
	if serial == 1 {
		w.before = w.all
	}
}

func record(t *testing.T, path string) (distro.PackageRecord, []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := rpm.Read(bytes.NewReader(b), int64(len(b)), path)
	if err != nil {
		t.Fatal(err)
	}
	name, evr, _ := strings.Cut(strings.TrimSuffix(filepath.Base(path), ".noarch.rpm"), "-1.") // halyard-release-1.1-1
	version := "1." + strings.TrimSuffix(evr, "-1")
	return distro.PackageRecord{Name: name, Version: version, Release: "1", Arch: "noarch", Scope: "noarch", File: filepath.Base(path), SourceName: name,
		HeaderDigest: p.HeaderDigest, Digest: distro.DigestOf(b), Size: int64(len(b))}, b
}

// bed is one device and one copy of the publication, served over HTTP.
type bed struct {
	t      *testing.T
	w      *world
	pub    string // folder that is served
	root   string
	home   string
	url    string
	server *httptest.Server
	now    time.Time
}

// newBed gives a device at release 1.1, and a publication of 1.1 and 1.2.
func newBed(t *testing.T) *bed {
	t.Helper()
	w := publish(t)
	dir := t.TempDir()
	b := &bed{t: t, w: w, pub: filepath.Join(dir, "pub"), root: filepath.Join(dir, "root"), home: filepath.Join(dir, "home"), now: now}
	b.sh("cp", "-a", w.second, b.pub)
	b.sh("chmod", "-R", "u+w", b.pub)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header()["Date"] = nil // the test's time is not today
		http.FileServer(http.Dir(b.pub)).ServeHTTP(rw, r)
	}))
	t.Cleanup(server.Close)
	b.url, b.server = server.URL, server
	b.file("home", ".rpmmacros", "%_dbpath /var/lib/rpm\n%_keyring rpmdb\n")
	installed(t, w, b)
	b.file("root", "etc/dnf/vars/slipway_url", b.url+"\n")
	return b
}

var installOnce sync.Once

// installed copies the device that has release 1.1, made once.
func installed(t *testing.T, w *world, b *bed) {
	t.Helper()
	installOnce.Do(func() {
		b.file("root", "etc/dnf/vars/slipway_url", b.url+"\n")
		b.file("root", "etc/dnf/vars/slipway_snapshot", "current\n")
		b.file("root", "etc/dnf/dnf.conf", "[main]\nplugins=0\nhistory_record=0\nignorearch=1\n")
		b.file("root", "etc/yum.repos.d/halyard.repo", feed.RepoFile(feed.RepoOptions{Distribution: "halyard", Title: "Halyard", Series: "1", Scopes: []string{"noarch"},
			Keys: []string{"file:///etc/pki/rpm-gpg/" + feed.KeyName("halyard", "metadata")}}))
		b.file("root", "etc/pki/rpm-gpg/"+feed.KeyName("halyard", "metadata"), string(w.key.PublicArmored()))
		b.file("root", "usr/lib/os-release", "ID=halyard\nVERSION_ID=1.0\n")
		if err := os.MkdirAll(filepath.Join(b.root, "dev"), 0o755); err != nil {
			t.Fatal(err)
		}
		b.sh("mknod", "-m", "666", filepath.Join(b.root, "dev/null"), "c", "1", "3")
		d := b.open()
		if err := d.writeFeeds(1); err != nil {
			t.Fatal(err)
		}
		if out, err := d.run(t.Context(), false, dnf{d}.args("install", "rigging", "anchor", "halyard-release")...); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if err := d.clearCache(); err != nil {
			t.Fatal(err)
		}
		b.sh("cp", "-a", b.root, w.device)
	})
	if _, err := os.Stat(w.device); err != nil {
		t.Fatal("the device could not be made")
	}
	b.sh("rm", "-rf", b.root)
	b.sh("cp", "-a", w.device, b.root)
}

func (b *bed) sh(argv ...string) string {
	b.t.Helper()
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		b.t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return string(out)
}

// file writes a file below pub, root or home.
func (b *bed) file(where, name, text string) {
	b.t.Helper()
	path := filepath.Join(map[string]string{"pub": b.pub, "root": b.root, "home": b.home}[where], name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) env() []string { return []string{"HOME=" + b.home} }

func (b *bed) open() *Device {
	b.t.Helper()
	d, err := Open(Options{Root: b.root, Now: func() time.Time { return b.now }, Env: b.env(), Talk: io.Discard})
	if err != nil {
		b.t.Fatal(err)
	}
	return d
}

// command gives slipway-device as a process of its own.
func (b *bed) command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], append([]string{"--root", b.root}, args...)...)
	cmd.Env = append(os.Environ(), append(b.env(), mainVariable+"="+b.now.Format(time.RFC3339))...)
	return cmd
}

// device runs it and gives its exit code and all that it said.
func (b *bed) device(args ...string) (int, string) {
	b.t.Helper()
	cmd := b.command(args...)
	out, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(out)
}

func (b *bed) must(args ...string) string {
	b.t.Helper()
	code, out := b.device(args...)
	if code != 0 {
		b.t.Fatalf("slipway-device %v: exit code %d\n%s", args, code, out)
	}
	return out
}

// packages lists what is installed.
func (b *bed) packages() string {
	b.t.Helper()
	all, err := b.open().installed(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	for i, p := range all {
		all[i] = strings.TrimSuffix(p, "-1.noarch")
	}
	return strings.Join(all, " ")
}

// What each release is, as packages says it.
var content = map[int]string{
	1: "anchor-1.0 halyard-release-1.1 knotctl-1.0 libknot-1.0 rigging-1.0",
	3: "anchor-1.0 halyard-release-1.3 knotctl-1.2 libknot-1.2 rigging-1.2",
	2: "anchor-1.0 halyard-release-1.2 knotctl-1.1 libknot-1.1 rigging-1.1",
}

// consistent fails the test unless the device is one release as a whole: its
// packages and no others, every file as its package says, nothing left over.
func (b *bed) consistent(serial int) {
	b.t.Helper()
	b.consistentBut(serial, "")
}

// consistentBut leaves out one configuration file, which its user has changed.
func (b *bed) consistentBut(serial int, edited string) {
	b.t.Helper()
	if got := b.packages(); got != content[serial] {
		b.t.Errorf("installed: %s\nwant       %s", got, content[serial])
	}
	d := b.open()
	out, _ := d.rpm(b.t.Context(), "-Va")
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); edited == "" || !strings.HasSuffix(line, " "+edited) {
			b.t.Errorf("rpm -Va: %s", line)
		}
	}
	if err := filepath.WalkDir(filepath.Join(b.root, "usr/share"), func(path string, _ os.DirEntry, err error) error {
		if strings.Contains(path, ";") {
			b.t.Errorf("left over: %s", path)
		}
		return err
	}); err != nil {
		b.t.Error(err)
	}
	if exists(d.path(journalFile)) {
		b.t.Errorf("the journal is still there")
	}
	if rpms, _ := d.downloads(); len(rpms) > 0 {
		b.t.Errorf("downloads are still there: %v", rpms)
	}
}
