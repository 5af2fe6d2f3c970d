package rpmbuild

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/errs"
)

// nosy is a spec that fails when it sees a secret, a home or the network.
func nosy(secret, addr string) map[string]string {
	host, port, _ := strings.Cut(addr, ":")
	return map[string]string{"nosy/nosy.spec": specText("nosy", "BuildArch: noarch", fmt.Sprintf(`%%install
set +x
status=0
if [ -e %s ]; then echo saw the key; status=1; fi
if bash -c 'exec 3<>/dev/tcp/%s/%s' 2>/dev/null; then echo saw the network; status=1; fi
if [ -n "$(ls -A /home /root 2>/dev/null)" ]; then echo saw a home; status=1; fi
if touch /usr/nosy 2>/dev/null; then echo wrote to the host; rm -f /usr/nosy; status=1; fi
hostname; id -u
exit $status`, secret, host, port), "")}
}

func listen(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func TestSandboxHides(t *testing.T) {
	keys := t.TempDir()
	secret := filepath.Join(keys, "production.key")
	if err := os.WriteFile(secret, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := setup(t, nosy(secret, listen(t)))
	b.opt.Hide = []string{keys}
	b.mustBuild()
	if log := b.log("nosy.noarch"); !strings.Contains(log, "\nslipway\n") || !strings.Contains(log, "\n0\n") {
		t.Error(log)
	}

	// The same spec without a sandbox sees them, so the test means something.
	b.opt.Hide, b.opt.Sandbox = nil, "none"
	b.again("1.1-b2")
	if err := b.build(); !errs.Is(err, errs.Failed) || !strings.Contains(err.Error(), "saw the key") || !strings.Contains(err.Error(), "saw the network") {
		t.Error(err)
	}
}

// A spec can run commands while it is only read.
func TestParsingIsInTheSandboxToo(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "production.key")
	if err := os.WriteFile(secret, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := setup(t, map[string]string{"a/a.spec": shell("a", "x", "BuildRequires: %(test -e "+secret+" && echo seen || echo hidden)")})
	if err := b.prepare(); err == nil || !strings.Contains(err.Error(), "needs hidden to build") {
		t.Error(err)
	}
}

func TestWithoutASandbox(t *testing.T) {
	keys := t.TempDir()
	b := setup(t, map[string]string{"a/a.spec": shell("a", "x", "")})
	for _, tt := range []struct {
		opt  Options
		kind errs.Kind
		hint string
	}{
		{Options{Hide: []string{keys}, Tools: Tools{Bwrap: "no-such-bwrap"}}, errs.Denied, "apt-get install bubblewrap"},
		{Options{Hide: []string{keys}, Tools: Tools{Bwrap: "false"}}, errs.Denied, "bwrap is installed but does not work here"},
		{Options{Hide: []string{keys}, Sandbox: "none"}, errs.Denied, "use the sandbox"},
		{Options{Sandbox: "bwrap", Tools: Tools{Bwrap: "no-such-bwrap"}}, errs.Unavailable, "apt-get install no-such-bwrap"},
		{Options{Sandbox: "bwrap", Tools: Tools{Bwrap: "false"}}, errs.Unavailable, "user namespaces"},
		{Options{Sandbox: "chroot"}, errs.Invalid, "auto, bwrap or none"},
		{Options{Tools: Tools{Rpmbuild: "no-such-rpmbuild"}}, errs.Unavailable, "apt-get install no-such-rpmbuild"},
		{Options{Hide: []string{filepath.Join(keys, "nothing-here")}, Sandbox: "none"}, "", ""},
		{Options{Tools: Tools{Bwrap: "no-such-bwrap"}}, "", ""},
	} {
		b.opt = tt.opt
		err := b.prepare()
		if tt.kind == "" {
			if err != nil {
				t.Errorf("%+v: %v", tt.opt, err)
			}
			if err := os.Remove(filepath.Join(b.dir, "plan.json")); err != nil {
				t.Error(err)
			}
			continue
		}
		if !errs.Is(err, tt.kind) || !strings.Contains(strings.Join(errs.Hints(err), " "), tt.hint) {
			t.Errorf("%+v: %v %q", tt.opt, err, errs.Hints(err))
		}
	}
}

func TestHiddenBelowAFolderThatIsShown(t *testing.T) {
	// /usr/share is always there and never empty: a stand-in for keys in a bad place.
	b := setup(t, map[string]string{"a/a.spec": specText("a", "BuildArch: noarch", "%install\n[ -z \"$(ls -A /usr/share/doc)\" ]", "")})
	b.opt.Hide = []string{"/usr/share/doc"}
	b.mustBuild()
}
