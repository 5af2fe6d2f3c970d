package qemu_test

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"slipway/internal/errs"
	"slipway/internal/qemu"
	"slipway/internal/qemu/qemutest"
)

// fixed boots the same whatever is on the disk.
func fixed(k qemu.Kernel) func(string) (qemu.Kernel, error) {
	return func(string) (qemu.Kernel, error) { return k, nil }
}

func disk(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 66<<20); err != nil {
		t.Fatal(err)
	}
	return path
}

func digest(t *testing.T, path string) [32]byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b)
}

// marked tells whether the guest has left its mark behind the file system.
func marked(disk string) bool {
	f, err := os.Open(disk)
	if err != nil {
		return false
	}
	defer f.Close()
	b := make([]byte, 6)
	_, err = f.ReadAt(b, 65<<20)
	return err == nil && string(b) == "second"
}

func newKey(t *testing.T) *qemu.Key {
	t.Helper()
	k, err := qemu.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func boot(t *testing.T, rig string, o qemu.Options) *qemu.Guest {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	g, err := qemutest.Find(t, rig).Boot(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Kill)
	return g
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// TestDevice: a device from its first power-on to its end, by the real kernel,
// with its reboot into the kernel that its disk then names.
func TestDevice(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	var console strings.Builder
	image := qemutest.Image(t, qemutest.Native(), qemutest.Device+qemutest.Say)
	before := digest(t, image)
	g := boot(t, qemutest.Native(), qemu.Options{Name: "tiny", Image: image, FwCfg: map[string][]byte{qemu.SeedKey: key.Authorized()}, Console: &console,
		Kernel: func(disk string) (qemu.Kernel, error) {
			k, err := qemu.ImageKernel(disk)
			if marked(disk) {
				k.Name, k.Cmdline = "second", k.Cmdline+" second"
			}
			return k, err
		}})
	if err := g.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := g.SSH(t.Context(), qemu.Login{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.Run(t.Context(), "uname -m; cat /proc/cmdline")
	if err != nil || !strings.HasPrefix(out.Stdout, qemutest.Find(t, qemutest.Native()).Arch+"\n") || strings.Contains(out.Stdout, "second") {
		t.Errorf("%+v %v", out, err)
	}
	if out, err := s.Run(t.Context(), "echo out; echo err >&2; exit 3"); !errs.Is(err, errs.Failed) || out != (qemu.Output{Stdout: "out\n", Stderr: "err\n", Exit: 3}) {
		t.Errorf("%+v %v", out, err)
	}
	if err := s.Upload(t.Context(), "/tmp/it's here", 0o600, []byte("a\x00b")); err != nil {
		t.Error(err)
	}
	if out, err := s.Run(t.Context(), `ls -l "/tmp/it's here" | cut -c1-10; wc -c < "/tmp/it's here"`); err != nil || out.Stdout != "-rw-------\n3\n" {
		t.Errorf("%+v %v", out, err)
	}
	if _, err := g.SSH(t.Context(), qemu.Login{Key: newKey(t)}); !errs.Is(err, errs.Denied) {
		t.Errorf("a stranger's key: %v", err)
	}
	if in, err := g.Strangers(t.Context(), "root", newKey(t), "", "wrong"); err != nil || in.How != "" {
		t.Errorf("a stranger is let in: %+v %v", in, err)
	}
	if in, err := g.Strangers(t.Context(), "root", key); err != nil || in.How != "publickey" {
		t.Errorf("our key as a stranger's: %+v %v", in, err)
	}
	keys, err := g.HostKeys(t.Context())
	if err != nil || len(keys) != 1 || keys["ssh-ed25519"] != s.HostKey() {
		t.Errorf("host keys %v, %q, %v", keys, s.HostKey(), err)
	}
	if g.Memory() < 50<<20 || g.TimeToReady() <= 0 || g.ClaimPassword() != "" || g.Boots() != 1 {
		t.Errorf("memory %d, ready after %v, password %q, boots %d", g.Memory(), g.TimeToReady(), g.ClaimPassword(), g.Boots())
	}
	accel, why := g.Accel()
	t.Logf("%s (%s): ready after %v, %d MiB", accel, why, g.TimeToReady(), g.Memory()>>20)

	// A new kernel, in the way that an upgrade brings it: the disk names it.
	if _, err := s.Run(t.Context(), "echo second | dd of=/dev/vda bs=1M seek=65 conv=notrunc && sync"); err != nil {
		t.Fatal(err)
	}
	if err := g.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := g.SSH(t.Context(), qemu.Login{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if out, err := again.Run(t.Context(), "cat /proc/cmdline"); err != nil || !strings.Contains(out.Stdout, "second") || g.Kernel() != "second" || g.Boots() != 2 {
		t.Errorf("%q %v, kernel %q, boots %d", out.Stdout, err, g.Kernel(), g.Boots())
	}
	if again.HostKey() != s.HostKey() {
		t.Error("another host key after a reboot")
	}
	t.Logf("again after %v", g.TimeToReady())
	pid := g.PID()
	if err := g.PowerOff(t.Context()); err != nil {
		t.Error(err)
	}
	if alive(pid) {
		t.Error("QEMU is still there")
	}
	if digest(t, image) != before {
		t.Error("the image was written to")
	}
	log, err := os.ReadFile(g.Log())
	if err != nil || strings.Count(string(log), "slipway: ready") != 2 || string(log) != console.String() {
		t.Errorf("serial log: %d bytes, %v", len(log), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(g.Log()), "*")); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}
