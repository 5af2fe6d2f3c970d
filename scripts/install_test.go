// Package scripts_test tries the shell scripts of this folder with stand-ins for
// the programs that would change the machine.
package scripts_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// stub is a folder of programs that shadow the real ones.
type stub struct{ dir string }

func newStub(t *testing.T) stub {
	t.Helper()
	dir, err := os.MkdirTemp("", "scripts-") // not t.TempDir: another user must be able to enter it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	s := stub{dir}
	for _, name := range []string{"install-packages", "packages"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		s.file(t, name, string(b))
	}
	// apt-get writes down how it was called.
	s.file(t, "bin/apt-get", "#!/bin/bash\necho \"$DEBIAN_FRONTEND $*\" >>"+dir+"/calls\nif [ -e "+dir+"/fails ]; then rm "+dir+"/fails; exit 100; fi\n")
	s.file(t, "bin/sudo", "#!/bin/bash\nexit 1\n")
	return s
}

func (s stub) file(t *testing.T, name, text string) {
	t.Helper()
	p := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// without makes dpkg-query say that some packages are missing.
func (s stub) without(t *testing.T, missing ...string) {
	t.Helper()
	script := "#!/bin/bash\nfor p in \"$@\"; do case $p in -*|*Status*) ;; "
	for _, m := range missing {
		script += m + ") echo \"dpkg-query: no packages found matching $p\" >&2; bad=1;; "
	}
	s.file(t, "bin/dpkg-query", script+"*) echo \"installed $p\";; esac; done; exit ${bad:-0}\n")
}

// run calls install-packages, as root or as nobody, and gives its output.
func (s stub) run(t *testing.T, root bool, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.Command(filepath.Join(s.dir, "install-packages"), args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + s.dir + "/bin:/usr/bin:/bin"}
	switch {
	case !root && os.Getuid() == 0:
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	case root && os.Getuid() != 0:
		t.Skip("installing is tried as root only")
	}
	b, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

func (s stub) calls(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "calls"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

func TestNothingMissingIsSilent(t *testing.T) {
	t.Parallel()
	for _, root := range []bool{false, true} {
		s := newStub(t)
		s.without(t)
		if out, code := s.run(t, root, "test"); out != "" || code != 0 || s.calls(t) != "" {
			t.Errorf("root %v: exit %d, %q, calls %q", root, code, out, s.calls(t))
		}
	}
}

func TestMissingWithoutRootSaysWhatToType(t *testing.T) {
	t.Parallel()
	s := newStub(t)
	s.without(t, "dnf", "strace")
	out, code := s.run(t, false, "test")
	if want := "\napt-get install --no-install-recommends dnf strace\n"; code != 1 || !strings.HasSuffix(out, want) || s.calls(t) != "" {
		t.Errorf("exit %d, %q, want it to end with %q; calls %q", code, out, want, s.calls(t))
	}
	// The demo does not need strace.
	if out, code := s.run(t, false, "demo"); code != 1 || strings.Contains(out, "strace") {
		t.Errorf("demo: exit %d, %q", code, out)
	}
}

func TestRootInstallsWhatIsMissing(t *testing.T) {
	t.Parallel()
	s := newStub(t)
	s.without(t, "dnf", "git")
	out, code := s.run(t, true, "demo")
	calls := strings.Split(strings.TrimSpace(s.calls(t)), "\n")
	last := calls[len(calls)-1]
	if code != 0 || !strings.HasPrefix(last, "noninteractive ") || !strings.HasSuffix(last, " install -y --no-install-recommends git dnf") {
		t.Errorf("exit %d, %q\n%q", code, out, calls)
	}
}

func TestOldListsAreUpdatedOnce(t *testing.T) {
	t.Parallel()
	s := newStub(t)
	s.without(t, "dnf")
	s.file(t, "fails", "")
	out, code := s.run(t, true, "demo")
	calls := s.calls(t)
	if code != 0 || strings.Count(calls, " update\n") != 1 || !strings.HasSuffix(calls, " dnf\n") {
		t.Errorf("exit %d, %q\n%s", code, out, calls)
	}
}

func TestWrongPurpose(t *testing.T) {
	t.Parallel()
	s := newStub(t)
	if out, code := s.run(t, false, "dmeo"); code != 2 || !strings.Contains(out, "usage") {
		t.Errorf("exit %d, %q", code, out)
	}
}
