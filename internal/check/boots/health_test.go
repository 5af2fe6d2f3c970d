package boots

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/check"
	"slipway/internal/distro"
)

const answer = `@@ tcp
  sl  local_address rem_address   st
   0: 00000000:0016 00000000:0000 0A
@@ tcp6
@@ udp
@@ udp6
@@ memory
MemTotal:         498000 kB
MemFree:          400000 kB
MemAvailable:     448000 kB
@@ kernel
<5>[    0.000000] Linux version 6.1
<3>[    1.234567] ata1: error at 0x1f0
<27>[    2.000000] systemd[1]: a unit of user space, at level err
<2>[    3.000000] thermal: too hot
@@ secrets
aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa  /etc/machine-id
e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  /var/lib/dbus/machine-id
shadow $6$x$y
@@ services
systemd degraded
failed sshd.service loaded failed failed OpenSSH
failed known.service loaded failed failed
@@ end
`

func surveyed(t *testing.T, text string) seen {
	t.Helper()
	s, whole := parseSurvey(text)
	if !whole {
		t.Fatal("the survey has no end")
	}
	return s
}

func idsOf(d *device) []string {
	var out []string
	for _, f := range d.findings {
		out = append(out, string(f.Level)+" "+strings.TrimPrefix(f.ID, "b/i:"))
	}
	slices.Sort(out)
	return out
}

func TestSurvey(t *testing.T) {
	t.Parallel()
	s := surveyed(t, answer)
	if got := fmt.Sprint(listening(s.sockets())); got != "[tcp/22]" {
		t.Error(got)
	}
	if used, total, ok := s.used(); used != 50000<<10 || total != 498000<<10 || !ok {
		t.Error(used, total, ok)
	}
	if d := cmp.Diff([]string{"/etc/machine-id", "root's password"}, keysOf(s.secrets())); d != "" {
		t.Error(d)
	}
	if _, whole := parseSurvey(strings.TrimSuffix(answer, "@@ end\n")); whole {
		t.Error("an answer that was cut is whole")
	}
	if _, _, ok := (seen{"memory": {"MemTotal: 5 kB"}}).used(); ok {
		t.Error("half of the answer about memory is taken")
	}
}

func keysOf(m map[string]string) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// What the last release's kernel reported is no news, whatever its numbers are; with no
// log of it everything is told, and blocks nothing.
func TestKernelLog(t *testing.T) {
	t.Parallel()
	s := surveyed(t, answer)
	for _, tt := range []struct {
		before map[string]bool
		log    []string
		want   []string
	}{
		{nil, nil, []string{"warn kernel:atan-error-at-n", "warn kernel:thermal-too-hot"}},
		{map[string]bool{}, nil, []string{"block kernel:atan-error-at-n", "block kernel:thermal-too-hot"}},
		{map[string]bool{shape("ata7: error at 0x99"): true}, nil, []string{"block kernel:thermal-too-hot"}},
		{map[string]bool{}, []string{"thermal: *", "ata*"}, nil},
	} {
		d := &device{image: check.BootImage{Board: "b", Image: "i", Log: tt.log}, before: tt.before, told: map[string]bool{}}
		d.kernelLog(s)
		d.kernelLog(s) // the second boot says the same
		if diff := cmp.Diff(tt.want, idsOf(d)); diff != "" {
			t.Errorf("%v: %s", tt.before, diff)
		}
	}
	var many strings.Builder
	for i := range 100 {
		fmt.Fprintf(&many, "<3>[ 1.0] %s\n", strings.Repeat("x", i+1))
	}
	d := &device{image: check.BootImage{Board: "b", Image: "i"}, before: map[string]bool{}, told: map[string]bool{}}
	d.kernelLog(seen{"kernel": strings.Split(many.String(), "\n")})
	if len(d.findings) != maxLines+1 || !strings.Contains(d.findings[maxLines].Text, "80 more") {
		t.Errorf("%d findings", len(d.findings))
	}
	d = &device{image: check.BootImage{Board: "b", Image: "i"}, told: map[string]bool{}}
	d.kernelLog(seen{"kernel": {"[    0.000000] Linux version 6.1"}})
	if diff := cmp.Diff([]string{" kernel"}, idsOf(d)); diff != "" {
		t.Error("a log without levels:", diff)
	}
}

func TestServices(t *testing.T) {
	t.Parallel()
	d := &device{image: check.BootImage{Board: "b", Image: "i", Failed: []string{"known.*"}}, told: map[string]bool{}}
	d.services(surveyed(t, answer))
	d.services(seen{"services": {"systemd starting", "status 3 sick"}})
	if diff := cmp.Diff([]string{" service:sick", " service:sshd.service", " service:systemd"}, idsOf(d)); diff != "" {
		t.Error(diff)
	}
}

func TestSaid(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"[    1.234567] x failed": "", "<3>[   10.000001] y": "", "mount: failed[    2.345678] IPv6: up": "mount: failed", "plain [1.2] failed": "plain [1.2] failed"} {
		if got := said(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	a := &device{image: check.BootImage{Board: "b", Image: "i"}, secrets: map[string]string{"/etc/machine-id": "1", "root's password": "2", "/etc/ssl/private/x": "3"}}
	a.own(&device{secrets: map[string]string{"/etc/machine-id": "1", "root's password": "9"}})
	a.kept(map[string]string{"/etc/machine-id": "1", "root's password": "7"})
	if diff := cmp.Diff([]string{" secret-changes:roots-password", " secret-lost:/etc/ssl/private/x", " secret-same:/etc/machine-id"}, idsOf(a)); diff != "" {
		t.Error(diff)
	}
}

func FuzzSurvey(f *testing.F) {
	f.Add(answer)
	f.Add("@@ kernel\n<3>\n<999>[ x\n@@ services\nfailed\nstatus\nsystemd\n@@ end")
	f.Fuzz(func(t *testing.T, text string) {
		s, _ := parseSurvey(text)
		d := &device{image: check.BootImage{Board: "b", Image: "i"}, told: map[string]bool{}}
		d.kernelLog(s)
		d.services(s)
		s.used()
		s.secrets()
		listening(s.sockets())
		for _, x := range d.findings {
			if x.ID == "" || strings.ContainsAny(x.ID, " \n") || x.Level == distro.Off {
				t.Errorf("%+v", x)
			}
		}
	})
}
