package qemu

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"slipway/internal/errs"
)

type memoryFiles map[string]string

func (m memoryFiles) ReadFile(name string) ([]byte, error) {
	if s, ok := m["/"+name]; ok {
		return []byte(s), nil
	}
	return nil, os.ErrNotExist
}

func TestReadKernel(t *testing.T) {
	t.Parallel()
	const good = "# written by kernel-6.1\nkernel=/boot/vmlinuz-6.1\ninitramfs=/boot/initramfs-6.1.img\ncmdline=root=/dev/vda1 console=ttyS0\n"
	for _, tt := range []struct {
		name  string
		files memoryFiles
		kind  errs.Kind
		want  string
	}{
		{"good", memoryFiles{BootConf: good, "/boot/vmlinuz-6.1": "K", "/boot/initramfs-6.1.img": "I"}, "", ""},
		{"no initramfs", memoryFiles{BootConf: "kernel=/k\n", "/k": "K"}, "", ""},
		{"no conf", memoryFiles{}, errs.Failed, "does not say what it boots"},
		{"no kernel file", memoryFiles{BootConf: good}, errs.Failed, "names a kernel that cannot be read"},
		{"no initramfs file", memoryFiles{BootConf: good, "/boot/vmlinuz-6.1": "K"}, errs.Failed, "names an initramfs that cannot be read"},
		{"empty conf", memoryFiles{BootConf: "\n"}, errs.Invalid, "no kernel= is named"},
		{"odd line", memoryFiles{BootConf: "kernel=/k\nkernl\n"}, errs.Invalid, BootConf + ":2: \"kernl\" is neither"},
	} {
		k, err := ReadKernel(tt.files)
		if tt.kind != "" {
			if !errs.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v", tt.name, err)
			}
		} else if err != nil || string(k.Image) != "K" || tt.name == "good" && (string(k.Initramfs) != "I" || k.Cmdline != "root=/dev/vda1 console=ttyS0" || k.Name != "/boot/vmlinuz-6.1") {
			t.Errorf("%s: %+v %v", tt.name, k, err)
		}
	}
}

func TestRigOf(t *testing.T) {
	t.Parallel()
	x86, arm := make([]byte, 0x300), make([]byte, 0x40)
	copy(x86[0x202:], "HdrS")
	copy(arm[0x38:], "ARM\x64")
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(append(arm, make([]byte, 5000)...))
	_ = z.Close()
	for _, tt := range []struct {
		want   string
		kernel []byte
	}{{"qemu-x86_64", x86}, {"qemu-aarch64", arm}, {"qemu-aarch64", packed.Bytes()}, {"", []byte("MZ")}, {"", packed.Bytes()[:12]}, {"", nil}} {
		if got := RigOf(tt.kernel); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func TestCopyDiskKeepsHoles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	f, err := os.Create(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{1 << 20, 9 << 20} {
		if _, err := f.WriteAt([]byte("data"), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(f.Truncate(32<<20), f.Close(), copyDisk(from, to)); err != nil {
		t.Fatal(err)
	}
	a, _ := os.ReadFile(from)
	b, _ := os.ReadFile(to)
	if !bytes.Equal(a, b) || len(b) != 32<<20 {
		t.Error("the copy differs")
	}
	st, err := os.Stat(to)
	if err != nil || st.Sys().(*syscall.Stat_t).Blocks*512 > 1<<20 {
		t.Errorf("the copy takes %d bytes, %v", st.Sys().(*syscall.Stat_t).Blocks*512, err)
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain \r":                              "plain",
		"\x1b[2J\x1b[1;31mred\x1b[0m\a":         "red",
		"a\tb\x00\x9bc\xff":                     "a bc",
		"\x1b]0;title\a" + "text":               "]0;titletext",
		strings.Repeat("x", maxLine+10) + "end": strings.Repeat("x", maxLine),
	} {
		if got := clean([]byte(in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzConsole(f *testing.F) {
	f.Add([]byte("[    0.000000] Linux version\r\nslipway: claim password for root: a b\n"))
	f.Add([]byte("\x1b[?25l\xff\n\nKernel panic - not syncing: x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := clean(b)
		if strings.ContainsAny(s, "\x1b\n\r\x00\x07") || len(s) > maxLine {
			t.Errorf("%q", s)
		}
	})
}

func FuzzBootConf(f *testing.F) {
	f.Add("kernel=/boot/vmlinuz\ninitramfs=/boot/i\ncmdline=a b=c\n")
	f.Add("#\nkernel")
	f.Fuzz(func(t *testing.T, s string) {
		if k, _, err := parseBootConf(s); err == nil && (k.Name == "" || strings.Contains(k.Cmdline, "\n")) {
			t.Errorf("%+v", k)
		}
	})
}

func FuzzOffers(f *testing.F) {
	packet := append([]byte{0, 0, 0, 60, 4, 20}, make([]byte, 16)...)
	packet = append(packet, 0, 0, 0, 4)
	packet = append(packet, "kex1\x00\x00\x00\x03a,b"...)
	f.Add(packet)
	f.Add([]byte{0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = readOffers(bytes.NewReader(b))
	})
}
