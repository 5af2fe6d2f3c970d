package qemu_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"slipway/internal/errs"
	"slipway/internal/qemu"
	"slipway/internal/qemu/qemutest"
)

// TestBadGuests: every way of not coming up has its own name, shows the console
// and says what to look at; nothing runs afterwards.
func TestBadGuests(t *testing.T) {
	t.Parallel()
	native := qemutest.Native()
	for _, tt := range []struct {
		name, rc string
		with     func(k *qemu.Kernel, o *qemu.Options)
		want     []string // in the error's text
		hint     string
		long     bool // only in full tests: another case shows nearly the same
	}{
		{name: "panics", rc: "echo c > /proc/sysrq-trigger\n",
			want: []string{"bad does not come up: the kernel panics: Kernel panic - not syncing: sysrq triggered crash\n", "  | ", "last lines"}, hint: "one version"},
		{name: "panics and reboots", rc: "", long: true, with: func(k *qemu.Kernel, _ *qemu.Options) {
			k.Initramfs, k.Cmdline = nil, strings.ReplaceAll(k.Cmdline, "panic=10", "panic=-1")
		}, want: []string{"Kernel panic - not syncing: VFS: Unable to mount root fs"}, hint: "root= of the command line"},
		{name: "hangs", rc: "sleep 1000\n", with: func(_ *qemu.Kernel, o *qemu.Options) { o.Within = 15 * time.Second },
			want: []string{`login never came: "slipway: ready" was not said within 15s`, "  | "}, hint: "first boot"},
		{name: "says nothing", rc: "", with: func(k *qemu.Kernel, o *qemu.Options) { k.Cmdline, o.Within = "quiet console=null", 3*time.Second },
			want: []string{"no output at all on the serial console within 3s"}, hint: "console="},
		{name: "switches itself off", rc: "poweroff -f\n", want: []string{"the guest switched itself off before it was ready", "  | "}, hint: "did last"},
		{name: "no kernel", with: func(k *qemu.Kernel, o *qemu.Options) { k.Image, o.Within = []byte("no kernel"), 2*time.Second }, long: true,
			want: []string{"bad"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.long && os.Getenv("SLIPWAY_TEST") != "full" {
				t.Skip("a long form: SLIPWAY_TEST=full")
			}
			k := qemutest.Kernel(t, native, tt.rc)
			o := qemu.Options{Name: "bad", Dir: t.TempDir()}
			if tt.with != nil {
				tt.with(&k, &o)
			}
			o.Kernel = fixed(k)
			g, err := qemutest.Find(t, native).Boot(t.Context(), o)
			if err == nil {
				defer g.Kill()
				err = g.WaitReady(t.Context())
				if tt.hint != "" && !strings.Contains(strings.Join(errs.Hints(err), "\n"), g.Log()) {
					t.Errorf("no hint names the log: %q", errs.Hints(err))
				}
				pid := g.PID()
				g.Kill()
				if alive(pid) {
					t.Error("QEMU is still there")
				}
			}
			if !errs.Is(err, errs.Failed) {
				t.Fatalf("%v", err)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
			if h := strings.Join(errs.Hints(err), "\n"); !strings.Contains(h, tt.hint) {
				t.Errorf("hints %q", h)
			}
		})
	}
}

// TestPower: the claim on the console, the power button, a power cut, a second
// guest on a port that is taken.
func TestPower(t *testing.T) {
	t.Parallel()
	k := qemutest.Kernel(t, qemutest.Native(), qemutest.Device+qemutest.Say)
	g := boot(t, qemutest.Native(), qemu.Options{Name: "first", Kernel: fixed(k), Isolated: true})
	if err := g.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if g.ClaimPassword() != "three-small-ships" {
		t.Errorf("password %q", g.ClaimPassword())
	}
	_, err := qemutest.Find(t, qemutest.Native()).Boot(t.Context(), qemu.Options{Name: "second", Dir: t.TempDir(), Kernel: fixed(k), SSHPort: g.Port()})
	if !errs.Is(err, errs.Unavailable) || err.Error() != fmt.Sprintf("boot second: port %d of this machine is in use", g.Port()) || len(errs.Hints(err)) == 0 {
		t.Errorf("%v", err)
	}
	s, err := g.SSH(t.Context(), qemu.Login{Password: g.ClaimPassword()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Run(t.Context(), "wget -q -T 2 -O /dev/null http://"+qemu.Host+"/"); err == nil {
		t.Error("an isolated guest reached this machine")
	}
	// A command that does not want to end ends with its context.
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := s.Run(ctx, "sleep 1000"); !errs.Is(err, errs.Interrupted) {
		t.Errorf("%v", err)
	}
	pid := g.PID()
	g.Kill()
	g.Kill()
	if alive(pid) {
		t.Error("QEMU is still there")
	}
	if _, err := g.SSH(t.Context(), qemu.Login{Password: "x"}); !errs.Is(err, errs.Failed) {
		t.Errorf("ssh into a guest that is off: %v", err)
	}
}

// TestCancel: whatever the guest is doing, with the context it is gone.
func TestCancel(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	k := qemutest.Kernel(t, qemutest.Native(), "")
	dir := t.TempDir()
	g, err := qemutest.Find(t, qemutest.Native()).Boot(ctx, qemu.Options{Name: "x", Dir: dir, Kernel: fixed(k), Image: disk(t)})
	if err != nil {
		t.Fatal(err)
	}
	pid := g.PID()
	time.AfterFunc(200*time.Millisecond, cancel)
	if err := g.WaitReady(ctx); !errs.Is(err, errs.Interrupted) {
		t.Errorf("%v", err)
	}
	<-g.Done()
	if alive(pid) {
		t.Error("QEMU is still there")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 || left[0] != g.Log() {
		t.Errorf("left behind: %v", left)
	}
	if _, err := qemutest.Find(t, qemutest.Native()).Boot(ctx, qemu.Options{Dir: t.TempDir(), Kernel: fixed(k)}); !errs.Is(err, errs.Interrupted) {
		t.Errorf("boot with a context that has ended: %v", err)
	}
}

// TestDeath: when this program is killed, its guest goes too. The program to be
// killed is this test again.
func TestDeath(t *testing.T) {
	if dir := os.Getenv("SLIPWAY_TEST_DIES"); dir != "" {
		g := boot(t, qemutest.Native(), qemu.Options{Dir: dir, Kernel: fixed(qemutest.Kernel(t, qemutest.Native(), ""))})
		fmt.Println("pid", g.PID())
		<-g.Done()
		return
	}
	t.Parallel()
	qemutest.Kernel(t, qemutest.Native(), "") // downloads, where it has to
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestDeath$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), "SLIPWAY_TEST_DIES="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		if s, ok := strings.CutPrefix(lines.Text(), "pid "); ok {
			pid, _ = strconv.Atoi(s)
		}
	}
	if pid == 0 || !alive(pid) {
		t.Fatalf("no QEMU of the other program: %d", pid)
	}
	_ = cmd.Process.Signal(syscall.SIGKILL)
	_ = cmd.Wait()
	for running(pid) { // its end is the kernel's to make, and the test's deadline's to judge
		if t.Context().Err() != nil {
			t.Fatal("QEMU outlived the program that started it")
		}
	}
}

// running tells whether a process is there and no zombie: nobody here may be its
// parent.
func running(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(b), ") ")
	return after != "" && after[0] != 'Z' && after[0] != 'X'
}

// TestOtherBoard: the emulated architecture that is not this machine's.
func TestOtherBoard(t *testing.T) {
	t.Parallel()
	other := "qemu-aarch64"
	if qemutest.Native() == other {
		other = "qemu-x86_64"
	}
	key := newKey(t)
	k := qemutest.Kernel(t, other, qemutest.Device+qemutest.Say)
	g := boot(t, other, qemu.Options{Name: "other", Kernel: fixed(k), FwCfg: map[string][]byte{qemu.SeedKey: key.Authorized()}})
	if err := g.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := g.SSH(t.Context(), qemu.Login{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := s.Run(t.Context(), "uname -m"); err != nil || strings.TrimSpace(out.Stdout) != qemutest.Find(t, other).Arch {
		t.Errorf("%+v %v", out, err)
	}
	if err := g.PowerOff(t.Context()); err != nil {
		t.Error(err)
	}
	if accel, _ := g.Accel(); accel != "tcg" {
		t.Errorf("another architecture under %s", accel)
	}
	t.Logf("ready after %v, %d MiB", g.TimeToReady(), g.Memory()>>20)
	_, err = qemutest.Find(t, qemutest.Native()).Boot(t.Context(), qemu.Options{Name: "x", Dir: t.TempDir(), Kernel: fixed(k)})
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "is for rig "+other) {
		t.Errorf("a kernel of another board: %v", err)
	}
}

func TestFindSaysWhatIsMissing(t *testing.T) {
	if _, err := qemu.Find("qemu-arch64"); !errs.Is(err, errs.NotFound) || strings.Join(errs.Hints(err), "") != `did you mean "qemu-aarch64"?` {
		t.Errorf("%v %q", err, errs.Hints(err))
	}
	t.Setenv("PATH", t.TempDir())
	for _, r := range qemu.Rigs() {
		_, err := qemu.Find(r)
		if !errs.Is(err, errs.Unavailable) || !strings.Contains(strings.Join(errs.Hints(err), ""), "apt-get install --no-install-recommends qemu-system-") {
			t.Errorf("%s: %v %q", r, err, errs.Hints(err))
		}
	}
}

func TestImagesThatCannotBeBooted(t *testing.T) {
	t.Parallel()
	rig := qemutest.Find(t, qemutest.Native())
	empty := filepath.Join(t.TempDir(), "empty.img")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	never := func(string) (qemu.Kernel, error) { return qemu.Kernel{}, errs.E(errs.Failed, "no kernel in it") }
	for _, tt := range []struct {
		o    qemu.Options
		kind errs.Kind
		want string
	}{
		{qemu.Options{}, errs.Invalid, "a guest needs an image, or a kernel"},
		{qemu.Options{Kernel: never, Image: filepath.Join(t.TempDir(), "none.img")}, errs.NotFound, "none.img"},
		{qemu.Options{Kernel: never, Image: empty}, errs.Invalid, "empty.img is no file with something in it"},
		{qemu.Options{Image: bare(t)}, errs.Invalid, "no.img"},
		{qemu.Options{Kernel: never}, errs.Failed, "no kernel in it"},
	} {
		tt.o.Dir = t.TempDir()
		if _, err := rig.Boot(t.Context(), tt.o); !errs.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %s: %s", err, tt.kind, tt.want)
		}
		if left, _ := filepath.Glob(filepath.Join(tt.o.Dir, "guest-*")); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		defer l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		k := qemutest.Kernel(t, qemutest.Native(), "")
		if _, err := rig.Boot(t.Context(), qemu.Options{Dir: t.TempDir(), Kernel: fixed(k), SSHPort: port}); !errs.Is(err, errs.Unavailable) {
			t.Errorf("a port of another program: %v", err)
		}
	}
}

// bare is an image without a file system.
func bare(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "no.img")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDeafDevice: one that nobody may log in to and that does nothing about its
// power button is switched off by its kernel, with its disk written out.
func TestDeafDevice(t *testing.T) {
	t.Parallel()
	k := qemutest.Kernel(t, qemutest.Native(), "echo 438 > /proc/sys/kernel/sysrq\n"+qemutest.Device+qemutest.Say)
	g := boot(t, qemutest.Native(), qemu.Options{Name: "deaf", Kernel: fixed(k), Isolated: true})
	if err := g.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.PowerOff(t.Context()); err != nil {
		t.Error(err)
	}
	said := strings.Join(g.Tail(50), "\n")
	for _, want := range []string{"Emergency Sync", "Emergency Remount", "Power Off"} {
		if !strings.Contains(said, want) {
			t.Errorf("the kernel did not say %q:\n%s", want, said)
		}
	}
}
