package boots

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/qemu/qemutest"
)

func ask(t *testing.T, ctx context.Context, images ...check.BootImage) check.Outcome {
	t.Helper()
	got, err := check.Run(ctx, &check.Bed{Dir: t.TempDir(), Jobs: 2, Images: images}, []check.Check{New()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return got[0]
}

func image(t *testing.T, rc string) check.BootImage {
	t.Helper()
	return check.BootImage{Board: "tiny", Image: "light", Rig: qemutest.Native(), Path: qemutest.Image(t, qemutest.Native(), rc)}
}

func TestNoImages(t *testing.T) {
	t.Parallel()
	o := ask(t, t.Context())
	if r := o.Result; r.Asked != 0 || r.Note == "" || r.Error != "" || len(r.Findings) != 0 {
		t.Errorf("%+v", r)
	}
}

// TestAnswered: what booted once is not booted again, unless something that
// decides the answer is new.
func TestAnswered(t *testing.T) {
	t.Parallel()
	i := check.BootImage{Board: "tiny", Image: "light", Rig: "qemu-vax", Path: "/nonexistent", Digest: distro.DigestOf([]byte("the disk"))}
	known := inputs(i, nil)
	run := func(i check.BootImage) distro.CheckResult {
		got, err := check.Run(t.Context(), &check.Bed{Dir: t.TempDir(), Jobs: 2, Images: []check.BootImage{i},
			Answered: func(d distro.Digest) (string, bool) { return "1.1-c1", d == known }}, []check.Check{New()}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return got[0].Result
	}
	if r := run(i); r.Asked != 0 || r.Error != "" || r.Note != "tiny/light: its very bytes booted for 1.1-c1" {
		t.Errorf("%+v", r)
	}
	other := i
	other.Digest = distro.DigestOf([]byte("another"))
	ports := i
	ports.ExpectPorts = []int{22, 80}
	unknown := i
	unknown.Digest = ""
	for _, x := range []check.BootImage{other, ports, unknown} {
		if r := run(x); r.Error == "" {
			t.Errorf("it was not asked: %+v", r)
		}
	}
}

// TestUnbooted: what cannot be booted is said, and not asked.
func TestUnbooted(t *testing.T) {
	t.Parallel()
	o := ask(t, t.Context(), check.BootImage{Board: "tiny", Image: "light", Path: "/nonexistent", Unbooted: "no rig"})
	if r := o.Result; r.Asked != 0 || r.Note != "tiny/light: not booted: no rig" || r.Error != "" || len(r.Findings) != 0 || len(o.Good) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestGood(t *testing.T) {
	t.Parallel()
	i := image(t, locked+ids+qemutest.Device+qemutest.Say)
	i.Digest = distro.DigestOf([]byte("the disk"))
	i.Login, i.Memory = time.Minute, 256<<20
	i.Log = []string{"*"} // what Debian's kernel reports is not asked here
	o := ask(t, t.Context(), i)
	r := o.Result
	if len(o.Good) != 1 || o.Good[0] != inputs(i, nil) {
		t.Errorf("the good answer is not to be remembered: %v", o.Good)
	}
	if r.Error != "" || len(r.Findings) != 0 || r.Asked < 20 || !strings.HasPrefix(r.Note, "tiny/light: login after ") || strings.Count(r.Note, " s;")+strings.Count(r.Note, " s,") != 3 || !strings.Contains(r.Note, "ssh takes publickey") {
		t.Errorf("%+v", r)
	}
	t.Log(r.Note)
	if len(r.Trials) != 2 || len(r.Trials[0].Steps) != 3 || len(r.Trials[1].Steps) != 2 || len(r.Trials[0].Measures) != 4 || r.Trials[0].Measures[3].Text != "tcp/22" {
		t.Errorf("%+v", r.Trials)
	}
	for _, x := range r.Trials {
		for _, s := range x.Steps {
			if s.Outcome != distro.StepGood || s.Log == "" || x.Board != "tiny" || x.Image != "light" {
				t.Errorf("%+v", x)
			}
		}
	}
	var names []string
	for _, f := range o.Files {
		names = append(names, f.Name)
		b, err := os.ReadFile(f.Path)
		if err != nil || !strings.Contains(string(b), "Linux version") {
			t.Errorf("%s: %v", f.Name, err)
		}
		if lines := strings.Split(string(b), "\n"); strings.HasSuffix(f.Name, "kernel.log") {
			if found, raw := kernelErrors(lines); !raw || strings.Count(string(b), "Linux version") != 2 {
				t.Errorf("the kernel's log is that of %d boots, with levels %t", strings.Count(string(b), "Linux version"), raw)
			} else {
				t.Log(found)
			}
		}
	}
	if d := cmp.Diff([]string{"tiny-light-1.log", "tiny-light-2.log", "tiny-light-kernel.log"}, names); d != "" {
		t.Error(d)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(o.Files[0].Path)), "tiny-*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// locked is a root without a password, ids make a machine id as a first boot does: kept
// behind the disk's file system.
const (
	locked = "sed -i 's/^root:[^:]*:/root:*:/' /etc/shadow\n"
	ids    = `
if [ "$(dd if=/dev/vda bs=1M skip=65 count=1 2>/dev/null | head -c2)" = id ]; then
	dd if=/dev/vda bs=1M skip=65 count=1 2>/dev/null | head -c34 | tail -c32 > /etc/machine-id
else
	head -c16 /dev/urandom | md5sum | head -c32 > /etc/machine-id
	{ printf id; cat /etc/machine-id; } | dd of=/dev/vda bs=1M seek=65 conv=notrunc 2>/dev/null; sync
fi
`
)

// bad is a device that does much wrong: host keys of the image, new ones at each
// later boot, a service for everybody, a stranger's way in, one machine id for all, an
// error of the kernel (ext4 says it, at level err), a service that does not run.
const bad = `
mkdir /mnt; mount -t ext4 -o nonsense=1 /dev/vda /mnt
mkdir -p /etc/init.d /etc/rc5.d
printf '#!/bin/sh\ncase "$1" in\nstatus) exit 3 ;;\nesac\n' > /etc/init.d/sick
chmod 755 /etc/init.d/sick; ln -s ../init.d/sick /etc/rc5.d/S20sick
echo "sick: cannot start the daemon"
echo 0123456789abcdef0123456789abcdef > /etc/machine-id
sed -i 's/^root:[^:]*:/root::/' /etc/shadow
if [ "$(dd if=/dev/vda bs=1M skip=64 count=1 2>/dev/null | head -c4)" = seen ]; then
	dropbearkey -t ed25519 -f /keep/host >/dev/null 2>&1
else
	echo seen | dd of=/dev/vda bs=1M seek=64 conv=notrunc 2>/dev/null; sync
	cp /etc/image-host-key /keep/host
fi
mkdir -p /root/.ssh /usr/bin
cp /sys/firmware/qemu_fw_cfg/by_name/opt/org.slipway/authorized_key/raw /root/.ssh/authorized_keys
chmod 700 /root/.ssh; chmod 600 /root/.ssh/authorized_keys
printf '#!/bin/sh\necho "S.5....T.  c /etc/fine"\necho "..5....T.    /usr/bin/tampered"\nexit 1\n' > /usr/bin/rpm
chmod 755 /usr/bin/rpm
nc -l -p 23 & nc -l -s 127.0.0.1 -p 24 &
echo "slipway: claim password for root: oops"
dropbear -B -r /keep/host -p 22
`

func TestFindings(t *testing.T) {
	t.Parallel()
	i := image(t, "printf '%s' '"+hostKey(t)+"' | base64 -d > /etc/image-host-key\n"+bad+qemutest.Say)
	i.Login, i.Memory = time.Second, 1<<20
	panics := image(t, "echo c > /proc/sysrq-trigger\n")
	panics.Image = "dead"
	none := i
	none.Image, none.Path = "none", filepath.Join(t.TempDir(), "none.img")
	if err := os.WriteFile(none.Path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	// The last release's kernel reported something else.
	old := check.Artifact{Artifact: distro.Artifact{Name: "test/boots/tiny-light-kernel.log"}, Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader("<3>[    1.000000] sick: 12 sectors\n")), nil
	}}
	out, err := check.Run(t.Context(), &check.Bed{Dir: t.TempDir(), Jobs: 2, Images: []check.BootImage{i, panics, none}, BaseArtifacts: []check.Artifact{old}}, []check.Check{New()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := out[0].Result
	var got []string
	for _, f := range r.Findings {
		if strings.HasPrefix(f.ID, "tiny/light:kernel:") && !strings.Contains(f.Text, "nonsense") {
			continue // of Debian's kernel on this machine
		}
		got = append(got, f.ID)
		if (f.Level != distro.Block) != strings.Contains(f.ID, ":console:") || len(f.Boards) != 1 || f.Boards[0] != "tiny" || f.Cure == "" || f.Log == "" {
			t.Errorf("%+v", f)
		}
		if f.ID == "tiny/dead:up" && (len(f.Evidence) < 10 || !strings.Contains(f.Text, "Kernel panic")) {
			t.Errorf("%+v", f)
		}
	}
	want := []string{"tiny/dead:up", "tiny/light:claim", "tiny/light:console:mount-mounting-dev-vda-on-mnt-failed-invalid-argument", "tiny/light:console:sick-cannot-start-the-daemon", "tiny/light:hostkeys-change", "tiny/light:hostkeys-same",
		"tiny/light:kernel:extn-unknown-parameter-nonsense", "tiny/light:memory", "tiny/light:port:tcp/23", "tiny/light:secret-same:/etc/machine-id",
		"tiny/light:service:sick", "tiny/light:slow", "tiny/light:ssh-nothing", "tiny/light:verify:/usr/bin/tampered", "tiny/none:up"}
	if d := cmp.Diff(want, got); d != "" || r.Error != "" {
		t.Errorf("%s\n%s\n%+v", d, r.Error, r.Findings)
	}
}

func TestUnknownRigIsNoFinding(t *testing.T) {
	t.Parallel()
	i := check.BootImage{Board: "b", Image: "i", Rig: "qemu-vax", Path: "/nonexistent"}
	if r := ask(t, t.Context(), i).Result; !strings.Contains(r.Error, `rig "qemu-vax"`) || len(r.Findings) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestListening(t *testing.T) {
	t.Parallel()
	const text = `tcp
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1
   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2
   2: 0F02000A:0016 0202000A:D5C6 01 00000000:00000000 00:00000000 00000000     0        0 3
tcp6
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A
   1: 00000000000000000000000001000000:0277 00000000000000000000000000000000:0000 0A
   2: 0000000000000000FFFF00000100007F:0278 00000000000000000000000000000000:0000 0A
udp
   0: 00000000:0044 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4
   1: 00000000:14E9 00000000:0000 07
   2: 0F02000A:9999 0302000A:0035 01
udp6
`
	if got := fmt.Sprint(listening(text)); got != "[tcp/22 udp/68 udp/5353]" {
		t.Error(got)
	}
}

func TestVerified(t *testing.T) {
	t.Parallel()
	lines, config := verified("S.5....T.  c /etc/a\n.M.......    /bin/b c\nmissing   c /etc/d\nmissing     /usr/e\n.......T.  g /var/f\nUnsatisfied dependencies for x\n")
	want := []changed{{"/bin/b c", ".M....... /bin/b c"}, {"/etc/d", "missing c /etc/d"}, {"/usr/e", "missing /usr/e"}}
	if d := cmp.Diff(want, lines, cmp.AllowUnexported(changed{})); d != "" || !config {
		t.Error(d, config)
	}
}

func FuzzOutput(f *testing.F) {
	f.Add("tcp\n 0: 00000000:0016 00000000:0000 0A\n")
	f.Add("S.5....T.  c /etc/a\nmissing /x\n")
	f.Fuzz(func(t *testing.T, s string) {
		for _, x := range listening(s) {
			if x.port < 0 || x.port > 65535 {
				t.Errorf("%v", x)
			}
		}
		verified(s)
	})
}

// hostKey makes a key that an image brings along, in dropbear's form (base64).
func hostKey(t *testing.T) string {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b := append([]byte("\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x40"), private.Seed()...)
	return base64.StdEncoding.EncodeToString(append(b, public...))
}
