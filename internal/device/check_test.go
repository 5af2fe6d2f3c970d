package device

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/sign"
	"slipway/internal/store"
	"slipway/internal/timestamp"
)

// light is a device without packages before a publication without packages:
// enough for the pointer.
type light struct {
	t      *testing.T
	pub    string
	root   string
	key    *sign.Key
	now    time.Time
	server func(http.ResponseWriter, *http.Request) bool // true: it has answered
}

func newLight(t *testing.T) *light {
	t.Helper()
	t.Parallel()
	l := &light{t: t, pub: t.TempDir(), root: t.TempDir(), now: now}
	var err error
	if l.key, err = sign.Generate(sign.Options{Name: "Halyard", Created: start}); err != nil {
		t.Fatal(err)
	}
	l.publish(1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"] = nil
		if l.server == nil || !l.server(w, r) {
			http.FileServer(http.Dir(l.pub)).ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	l.file("etc/dnf/vars/slipway_url", s.URL+"\n")
	l.file("etc/dnf/vars/slipway_snapshot", "current\n")
	l.file("usr/lib/os-release", "NAME=\"Halyard Linux\"\nID=halyard\nVERSION_ID=1.1\n")
	l.file("etc/yum.repos.d/halyard.repo", feed.RepoFile(feed.RepoOptions{Distribution: "halyard", Title: "Halyard", Series: "1", Scopes: []string{"noarch", feed.ArchVariable}, Keys: []string{"file:///k1", "file:///k2"}}))
	l.file("etc/pki/rpm-gpg/RPM-GPG-KEY-halyard-metadata", string(l.key.PublicArmored()))
	if err := os.Chtimes(filepath.Join(l.root, "usr/lib/os-release"), start, start); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *light) file(name, text string) {
	l.t.Helper()
	path := filepath.Join(l.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

func (l *light) publish(serial int) {
	l.t.Helper()
	tree, err := store.OpenTree(l.pub)
	if err != nil {
		l.t.Fatal(err)
	}
	p := &feed.Publisher{Tree: tree, Layout: feed.Layout{Series: "1"}, Distribution: "halyard", Package: l.key, Metadata: l.key, Scopes: []string{"noarch"}}
	e := feed.Edition{Serial: serial, Release: distro.NewVersion("1", serial), At: start.Add(time.Duration(serial) * time.Hour)}
	s, err := p.WriteSnapshot(l.t.Context(), e)
	if err == nil {
		err = p.Switch(l.t.Context(), e, s)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *light) open() *Device {
	l.t.Helper()
	d, err := Open(Options{Root: l.root, Now: func() time.Time { return l.now }})
	if err != nil {
		l.t.Fatal(err)
	}
	return d
}

func (l *light) read(name string) []byte {
	l.t.Helper()
	b, err := os.ReadFile(filepath.Join(l.pub, name))
	if err != nil {
		l.t.Fatal(err)
	}
	return b
}

func TestCheckFollowsTheFeed(t *testing.T) {
	l := newLight(t)
	for serial := 1; serial <= 3; serial++ {
		if serial > 1 {
			l.publish(serial)
		}
		c, err := l.open().Check(t.Context())
		if err != nil || c.Pointer.Serial != serial {
			t.Fatalf("%+v, %v", c, err)
		}
	}
	if s, err := l.open().readState(); err != nil || s.Seen.Serial != 3 {
		t.Errorf("%+v, %v", s, err)
	}
}

// The publisher switches between the two requests of a device: it asks again.
func TestCheckInTheMiddleOfASwitch(t *testing.T) {
	l := newLight(t)
	oldPointer := l.read("1/timestamp.json")
	l.publish(2)
	asked := 0
	l.server = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "timestamp.json") {
			if asked++; asked == 1 {
				w.Write(oldPointer)
				return true
			}
		}
		return false
	}
	if c, err := l.open().Check(t.Context()); err != nil || c.Pointer.Serial != 2 || asked != 2 {
		t.Errorf("%+v, %v, asked %d times", c, err, asked)
	}
}

func TestCheckSaysWhatIsWrong(t *testing.T) {
	for _, x := range []struct {
		name string
		do   func(l *light)
		want timestamp.Reason
		kind errs.Kind
		code int
		text string
	}{
		{"unsigned", func(l *light) { os.Remove(filepath.Join(l.pub, "1/timestamp.json.asc")) }, Signature, errs.Denied, 43, "no signature"},
		{"foreign key", func(l *light) {
			other := &light{t: t, pub: l.pub, key: foreignKey(t)}
			os.RemoveAll(filepath.Join(l.pub, "1"))
			other.publish(5)
		}, Signature, errs.Denied, 43, "unknown key"},
		{"garbage for a signature", func(l *light) { os.WriteFile(filepath.Join(l.pub, "1/timestamp.json.asc"), []byte("x"), 0o644) }, Signature, errs.Denied, 43, "armored"},
		{"frozen", func(l *light) { l.now = start.AddDate(0, 3, 0) }, timestamp.Frozen, errs.Denied, 42, "expired at 2026-12-01"},
		{"the clock is ahead, says the server", func(l *light) {
			l.now = start.AddDate(3, 0, 0)
			l.server = func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Date", now.Format(http.TimeFormat))
				return false
			}
		}, timestamp.Clock, errs.Denied, 44, "or the server's"},
		{"1970", func(l *light) { l.now = time.Unix(0, 0) }, timestamp.Clock, errs.Denied, 44, "the installed system was made"},
		{"another distribution", func(l *light) { l.file("etc/slipway-device.conf", "distribution=other\nkeys=/etc/pki/rpm-gpg/*\n") }, timestamp.Foreign, errs.Denied, 45, "other 1"},
		{"no publication", func(l *light) { os.RemoveAll(filepath.Join(l.pub, "1")) }, "", errs.NotFound, 5, "slipway_url"},
		{"no server", func(l *light) { l.file("etc/dnf/vars/slipway_url", "http://127.0.0.1:1\n") }, "", errs.Unavailable, 1, "network"},
		{"the server fails", func(l *light) {
			l.server = func(w http.ResponseWriter, r *http.Request) bool { w.WriteHeader(503); return true }
		}, "", errs.Unavailable, 1, "503"},
		{"endless", func(l *light) {
			l.server = func(w http.ResponseWriter, r *http.Request) bool {
				b := make([]byte, 1<<20)
				for range 17 {
					w.Write(b)
				}
				return true
			}
		}, "", errs.Denied, 4, "larger than"},
	} {
		t.Run(x.name, func(t *testing.T) {
			l := newLight(t)
			x.do(l)
			_, err := l.open().Check(t.Context())
			if Reason(err) != x.want || !errs.Is(err, x.kind) || ExitCode(err) != x.code || !strings.Contains(fmt.Sprint(err, errs.Hints(err)), x.text) {
				t.Errorf("%v, hints %v, reason %q, kind %s, code %d", err, errs.Hints(err), Reason(err), errs.KindOf(err), ExitCode(err))
			}
			if s, err := l.open().readState(); err != nil || s.Seen.Serial != 0 {
				t.Errorf("something was remembered: %+v, %v", s, err)
			}
		})
	}
}

// at.json is not signed: the pointer vouches for it.
func TestPinBelievesNoForeignDates(t *testing.T) {
	l := newLight(t)
	l.publish(2)
	at := strings.Replace(string(l.read("1/at.json")), `"serial": 2`, `"serial": 9`, 1)
	if err := os.WriteFile(filepath.Join(l.pub, "1/at.json"), []byte(at), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := l.open().Pin(t.Context(), "1.2"); Reason(err) != Mismatch {
		t.Errorf("%v", err)
	}
	if n, err := l.open().pinned(); n != 0 || err != nil {
		t.Errorf("pinned to %d, %v", n, err)
	}
}

func TestConfiguration(t *testing.T) {
	l := newLight(t)
	l.file("etc/dnf/vars/slipway_arch", "x86_64\n")
	l.file("etc/yum.repos.d/other.repo", "# mine\n[other]\nbaseurl = http://other/$basearch\ngpgcheck=0\n[off]\nenabled=0\nbaseurl=http://off\n")
	d := l.open()
	var got []string
	for _, f := range d.conf.Feeds {
		got = append(got, f.ID+" "+f.Scope+" "+f.value("baseurl"))
	}
	slices.Sort(got)
	url := d.conf.URL
	want := []string{"halyard-arch x86_64 " + url + "/1/$slipway_snapshot/x86_64", "halyard-noarch noarch " + url + "/1/$slipway_snapshot/noarch", "other  http://other/$basearch"}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	if d.conf.Distribution != "halyard" || d.conf.Series != "1" || d.conf.Release != "1.1" || len(d.conf.Keys) != 1 {
		t.Errorf("%+v", d.conf)
	}
	if err := d.writeFeeds(7); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(d.path(stateDir + "/repos.d/slipway.repo"))
	if err != nil || !strings.Contains(string(text), "baseurl="+url+"/1/snapshots/7/x86_64\n") || !strings.Contains(string(text), "gpgkey=file://"+l.root+"/k1 file://"+l.root+"/k2\n") {
		t.Errorf("%s %v", text, err)
	}

	l.file("etc/slipway-device.conf", "colour = blue\nurl = ftp://x\nfrontend = apt\n")
	l.file("etc/yum.repos.d/halyard.repo", "[x]\nbaseurl=http://x\n")
	os.RemoveAll(filepath.Join(l.root, "etc/pki"))
	_, err = Open(Options{Root: l.root})
	for _, want := range []string{`unknown key "colour"`, `"ftp://x" is no address`, `frontend "apt"`, "no key", "no enabled feed"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
}

func TestReboot(t *testing.T) {
	l := newLight(t)
	d := l.open()
	if r := d.reboot(); r != "" {
		t.Errorf("nothing runs: %q", r)
	}
	l.file("proc/sys/kernel/osrelease", "6.1.0-1-amd64\n")
	l.file("usr/lib/modules/6.1.0-1-amd64/x", "")
	if r := d.reboot(); r != "" {
		t.Errorf("the kernel that runs: %q", r)
	}
	l.file("usr/lib/modules/6.1.0-10-amd64/x", "")
	if r := d.reboot(); r != "Linux 6.1.0-1-amd64 runs, 6.1.0-10-amd64 is installed" {
		t.Errorf("%q", r)
	}
	l.file("boot/slipway-boot.conf", "kernel=/boot/vmlinuz-6.1.0-1-amd64\ninitramfs=/boot/initramfs-6.1.0-1-amd64.img\n")
	if r := d.reboot(); r != "" {
		t.Errorf("the old one boots: %q", r)
	}
	l.file("proc/17/comm", "knotd\n")
	l.file("proc/17/maps", "7f00-7f01 r-xp 00000000 fe:01 12 /usr/lib/libknot.so.1 (deleted)\n")
	l.file("proc/18/comm", "other\n")
	l.file("proc/18/maps", "7f00-7f01 r-xp 00000000 fe:01 12 /tmp/x (deleted)\n")
	if s := d.stale(); !slices.Equal(s, []string{"knotd"}) {
		t.Errorf("%q", s)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]int{"": 0, "--help": 0, "help": 0, "status --help": 0, "--version": 0, "fly": 2, "status --colour": 2, "pin": 2, "update now": 2} {
		var out, msg strings.Builder
		if code := Main(t.Context(), strings.Fields(args), Stdio{&out, &msg}, Options{Root: t.TempDir()}); code != want {
			t.Errorf("%q: exit code %d, want %d\n%s%s", args, code, want, out.String(), msg.String())
		}
	}
}
