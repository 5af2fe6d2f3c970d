package boards_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/internal/check"
	"slipway/internal/check/selfupgrades"
	"slipway/internal/qemu"
)

// full: the long forms are asked for.
var full = os.Getenv("SLIPWAY_TEST") == "full"

// guests boots devices of release 1, which can do what no install root can.
func guests(t *testing.T, w *workspace) {
	public := w.publish(w.key)
	image := w.image(public, "full")
	t.Run("upgrades itself", func(t *testing.T) { t.Parallel(); upgradesItself(t, w.in(t), public, image) })
	t.Run("bad days", func(t *testing.T) { t.Parallel(); badDays(t, public, image) })
}

// upgradesItself: a device of release 1 goes to release 3 and back.
func upgradesItself(t *testing.T, w *workspace, public published, image string) {
	key := newKey(t) // of the candidate: nobody but the test bed trusts it
	candidate := w.publish(key)
	candidate.keys = append(candidate.keys, public.keys...)
	bed := &check.Bed{Dir: t.TempDir(), Jobs: 1, Candidate: candidate.feed(3), SelfUpgrades: []check.SelfUpgrade{{
		BootImage: check.BootImage{Board: board, Image: "full", Path: image, Rig: "qemu-x86_64"},
		Origin:    check.Origin{Name: "first", Version: "1.1", Feed: public.feed(1), Packages: public.records[0]},
		Packages:  candidate.records[2],
	}}}
	got, err := check.Run(t.Context(), bed, []check.Check{selfupgrades.New()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := got[0].Result
	for _, f := range r.Findings {
		t.Errorf("%s: %s\n%s", f.ID, f.Text, strings.Join(f.Evidence, "\n"))
	}
	_, note, _ := strings.Cut(r.Note, "kernel ")
	kernels := strings.Split(note, " -> ")
	if r.Error != "" || r.Asked < 40 || len(kernels) != 3 || kernels[0] == kernels[1] || kernels[0] != kernels[2] {
		t.Errorf("%d asked; %s; %s", r.Asked, r.Note, r.Error)
	}
	t.Log(r.Note)
	for _, f := range got[0].Files {
		data, err := os.ReadFile(f.Path)
		if err != nil {
			t.Error(err)
		}
		if !strings.HasSuffix(f.Name, "transcript.txt") {
			continue
		}
		// The device's own dnf turned the candidate down before it was given the key.
		before, _, given := bytes.Cut(data, []byte("throw-away key is laid in"))
		if !given || !bytes.Contains(before, []byte("GPG signature verification error")) || bytes.Contains(before, []byte("Complete!")) {
			t.Errorf("before it had the candidate's key the device said\n%s", before)
		}
		if !bytes.Contains(data, []byte("rigging-extras-2.0-1.noarch")) || bytes.Count(data, []byte("Complete!")) != 2 {
			t.Errorf("the transcript:\n%s", data)
		}
	}
}

// bench is one device on which much goes wrong. Its disk survives power cuts.
type bench struct {
	t     *testing.T
	rig   *qemu.Rig
	disk  string
	claim string // a drive
	key   *qemu.Key
	guest *qemu.Guest
	shell *qemu.SSH

	console *watch // of the guest
}

func newBench(t *testing.T, image string) *bench {
	t.Helper()
	rig, err := qemu.Find("qemu-x86_64")
	if err != nil {
		t.Fatal(err)
	}
	key, err := qemu.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, rig: rig, key: key, disk: filepath.Join(t.TempDir(), "disk.img"), claim: filepath.Join(t.TempDir(), "claim.img")}
	run(t, "cp", "--sparse=always", image, b.disk)
	drive := t.TempDir()
	write(t, filepath.Join(drive, "authorized_key"), append([]byte("not a key\n"), key.Authorized()...))
	run(t, "/sbin/mke2fs", "-q", "-t", "ext4", "-L", "SLIPWAY-CLAIM", "-d", drive, b.claim, "4M")
	return b
}

// watch is what the console has said since power-on. It calls seen once, when it
// says a text.
type watch struct {
	mu   sync.Mutex
	text string
	said []byte
	seen func()
}

func (w *watch) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, p...)
	if w.seen != nil && bytes.Contains(w.said, []byte(w.text)) {
		go w.seen() // it may wait for the console's end
		w.seen = nil
	}
	return len(p), nil
}

func (w *watch) arm(text string, seen func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text, w.seen = text, seen
}

func (w *watch) has(text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Contains(w.said, []byte(text))
}

func (b *bench) options() qemu.Options {
	b.console = &watch{}
	// An interrupted update is finished before the device is ready.
	return qemu.Options{Name: "the device", Dir: b.t.TempDir(), Image: b.disk, InPlace: true, Drives: []string{b.claim}, Within: 10 * time.Minute, Console: b.console}
}

// cut switches the device on, and off again when the console says text (or, with
// "", when it has run for so long).
func (b *bench) cut(text string, after time.Duration) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	defer cancel()
	opt := b.options()
	if text != "" {
		b.console.arm(text, cancel)
	}
	g, err := b.rig.Boot(ctx, opt)
	if err != nil {
		b.t.Fatal(err)
	}
	if text == "" {
		defer time.AfterFunc(after, cancel).Stop()
	}
	<-g.Done()
	if text != "" && ctx.Err() == nil {
		b.t.Fatalf("the device ended before it said %q:\n%s", text, strings.Join(g.Tail(20), "\n"))
	}
}

// on switches the device on and logs in with the key of the drive.
func (b *bench) on() {
	b.t.Helper()
	g, err := b.rig.Boot(b.t.Context(), b.options())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(g.Kill)
	if err := g.WaitReady(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.guest = g
	b.login()
	if g.ClaimPassword() != "" {
		b.t.Error("the device made a password although the drive holds a key")
	}
}

func (b *bench) login() {
	b.t.Helper()
	var err error
	if b.shell, err = b.guest.SSH(b.t.Context(), qemu.Login{Key: b.key}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) sh(command string) string {
	b.t.Helper()
	out, err := b.shell.Run(b.t.Context(), command)
	if err != nil {
		b.t.Fatal(err)
	}
	return out.Stdout
}

// whole asks whether a device has all that the first boot makes, and gives what
// must never change.
func (b *bench) whole() string {
	b.t.Helper()
	return b.shell.HostKey() + " " + b.sh("test -e /var/lib/slipway/firstboot-done && cat /etc/machine-id /var/lib/slipway/claimed && [ -z \"$(find /etc /root /var/lib/slipway -name '*.new')\" ]")
}

// badDays is the life of one device: a claim from a labelled drive, power cuts at
// the first boot and in the middle of an update, an update timer, a full disk.
func badDays(t *testing.T, public published, image string) {
	b := newBench(t, image)
	b.cut("slipway: claimed by an authorized key", 0)
	b.on()
	first := b.whole()
	if !strings.HasSuffix(first, "\nkey\n") {
		t.Errorf("the device is %q", first)
	}

	server := httptest.NewServer(http.FileServer(http.Dir(public.dir)))
	defer server.Close()
	url := strings.Replace(server.URL, "127.0.0.1", qemu.Host, 1)
	b.sh("echo " + url + " > /etc/dnf/vars/slipway_url")
	before := b.sh(packages)
	b.says("slipway-device status", "halyard 1.1\n", "1.3 (serial 3): slipway-device update\n", "genuine, signed ", "2131-12-01 for all", "reboot     not needed")
	b.says("slipway-device check", "good: serial 3, release 1.3, ")

	// The job of cron, as the crontab has it.
	job := strings.TrimSpace(b.sh("sed -n '/^[0-9]/s/^\\([^ ]* \\)\\{5\\}//p' /etc/slipway/crontabs/root"))
	if job != "/usr/sbin/slipway-update" {
		t.Fatalf("the crontab says %q", job)
	}
	b.sh(job + " && test ! -e /var/log/slipway-update.log && ! pidof crond")
	b.sh("sed -i 's/^enabled=.*/enabled=yes/; s/^delay=.*/delay=0/' /etc/slipway/update.conf && /etc/init.d/update-timer restart && pidof crond")

	b.fullDisk(job, "not enough space at /var/cache/slipway-device")
	if after := b.sh(packages); after != before {
		t.Errorf("the failed upgrade changed the device:\n%s\nwas\n%s", after, before)
	}

	// The power goes when the new kernel's image has its name, among the first
	// files of the transaction.
	b.console.arm("slipway test: now", b.guest.Kill)
	b.sh("(until set -- /boot/vmlinuz-*-amd64 && [ $# -gt 1 ]; do usleep 50000; done; echo slipway test: now > /dev/console) < /dev/null > /dev/null 2>&1 &")
	if out, err := b.shell.Run(t.Context(), job); err == nil {
		t.Fatalf("the power was not cut: %s", out.Stdout)
	}
	<-b.guest.Done()
	b.on()
	if !b.console.has("slipway: an update was interrupted") || !b.console.has("slipway: the interrupted update is settled") {
		t.Errorf("after the power cut the device boots and says\n%s", strings.Join(b.guest.Tail(20), "\n"))
	}
	if again := b.whole(); again != first {
		t.Errorf("after power cuts, a full disk and an update the device is %q, it was %q", again, first)
	}
	b.says("slipway-device status", "halyard 1.3 (serial 3)\n", "1.3 (serial 3), nothing waits\n")
	b.consists(public.records[2])
	b.intact("-a")

	b.says("slipway-device pin 1.1 && slipway-device update --dry-run", "pinned to serial 1, ", "to serial 1, release 1.1:\n", "Downgrading", "halyard-release")
	if full {
		b.goesBack(before)
		b.dnfAlone(job)
	}
	if err := b.guest.PowerOff(t.Context()); err != nil {
		t.Error(err)
	}
	if !full {
		return
	}
	for after := 500 * time.Millisecond; after < 6*time.Second; after += 500 * time.Millisecond {
		b := newBench(t, image)
		b.cut("", after)
		b.cut("", after+250*time.Millisecond)
		b.on()
		if id := b.whole(); !strings.HasSuffix(id, "\nkey\n") {
			t.Errorf("after power cuts at %v the device is %q", after, id)
		}
		b.guest.Kill()
	}
}
