package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"slipway/internal/qemu"
	"slipway/internal/qemu/qemutest"
)

// shown is written to by a command and read by its test; full is called once,
// when the text has that in it.
type shown struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	when string
	full func()
}

func (s *shown) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := s.buf.Write(p)
	if s.full != nil && strings.Contains(s.buf.String(), s.when) {
		s.full()
		s.full = nil
	}
	return n, err
}

func (s *shown) String() string { s.mu.Lock(); defer s.mu.Unlock(); return s.buf.String() }

func TestBoot(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // the logs stay
	image := qemutest.Image(t, qemutest.Native(), qemutest.Device+qemutest.Say)
	key, err := qemu.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	keyFile := filepath.Join(dir, "id")
	if err := os.WriteFile(keyFile, key.Private(), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("password", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		out, talk := &shown{when: "ends it\n", full: cancel}, &shown{}
		if code := Main(ctx, []string{"boot", image, "-v"}, Stdio{Out: out, Err: talk}); code != 0 {
			t.Fatalf("exit %d\n%s", code, talk)
		}
		if !regexp.MustCompile(`(?m)^ssh -p [0-9]+ .*root@127\.0\.0\.1\npassword: three-small-ships\nserial console: /`).MatchString(out.String()) {
			t.Errorf("%s", out)
		}
		for _, want := range []string{"Linux version", "slipway: ready", "switching the device off", "reboot: Power down"} {
			if !strings.Contains(talk.String(), want) {
				t.Errorf("the talk has no %q", want)
			}
		}
	})
	t.Run("key", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		out, talk := &shown{when: "\n}\n", full: cancel}, &shown{}
		if code := Main(ctx, []string{"boot", image, "--json", "--key", keyFile, "--rig", qemutest.Native()}, Stdio{Out: out, Err: talk}); code != 0 {
			t.Fatalf("exit %d\n%s", code, talk)
		}
		var b booted
		if err := json.Unmarshal([]byte(out.String()), &b); err != nil {
			t.Fatal(err)
		}
		if b.Rig != qemutest.Native() || b.Port == 0 || b.Password != "" || b.Seconds <= 0 || !strings.Contains(b.SSH, "-i "+keyFile+" ") {
			t.Errorf("%+v", b)
		}
		if log, err := os.ReadFile(b.Log); err != nil || !strings.Contains(string(log), "Power down") {
			t.Errorf("the device did not end properly: %v", err)
		}
	})
	t.Run("switches itself off", func(t *testing.T) {
		t.Parallel()
		self := qemutest.Image(t, qemutest.Native(), qemutest.Say+"poweroff -f\n")
		out, talk := &shown{}, &shown{}
		if code := Main(t.Context(), []string{"boot", self}, Stdio{Out: out, Err: talk}); code != 0 || !strings.Contains(talk.String(), "the device has switched itself off") {
			t.Errorf("exit %d\n%s%s", code, out, talk)
		}
	})
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"boot"}, 2, "boot"},
		{[]string{"boot", filepath.Join(dir, "none.img")}, 5, "none.img"},
		{[]string{"boot", keyFile}, 2, "id"},
		{[]string{"boot", image, "--rig", "qemu-x86-64"}, 5, `did you mean "qemu-x86_64"?`},
		{[]string{"boot", image, "--rig", "qemu-x86_64", "--board", "b"}, 2, "give one of them"},
		{[]string{"boot", image, "--board", "b", "--dir", dir}, 5, "slipway"},
		{[]string{"boot", image, "--key", image}, 2, "neither a public key nor a private one"},
		{[]string{"boot", image, "--memory", "3"}, 2, "64 MiB"},
	} {
		out, talk := &shown{}, &shown{}
		if code := Main(t.Context(), tt.args, Stdio{Out: out, Err: talk}); code != tt.code || !strings.Contains(talk.String(), tt.want) {
			t.Errorf("%v: exit %d, want %d\n%s", tt.args, code, tt.code, talk)
		}
	}
}

// TestBootCutImage: a download that was cut short says so, before anything starts.
func TestBootCutImage(t *testing.T) {
	t.Parallel()
	image := qemutest.Image(t, qemutest.Native(), "")
	cut := filepath.Join(t.TempDir(), "cut.img")
	b, err := os.ReadFile(image)
	if err == nil {
		err = os.WriteFile(cut, b[:len(b)/2], 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	out, talk := &shown{}, &shown{}
	if code := Main(t.Context(), []string{"boot", cut}, Stdio{Out: out, Err: talk}); code != 2 {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{"the image is not whole", "image is truncated", "cut short: get it again"} {
		if !strings.Contains(talk.String(), want) {
			t.Errorf("%q does not say %q", talk, want)
		}
	}
	if strings.Count(talk.String(), cut) != 1 || out.String() != "" {
		t.Errorf("%s%s", out, talk)
	}
}
