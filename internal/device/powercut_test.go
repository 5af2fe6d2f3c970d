package device

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway/internal/crashtest"
)

// cuts are the scriptlets of the update 1.1 -> 1.2 at which the power goes, in
// the order in which rpm runs them. The update's posttrans scriptlets come last.
var cuts = []string{
	"libknot-1.1-pretrans",
	"libknot-1.1-pre", "libknot-1.1-post",
	"knotctl-1.1-pre", "knotctl-1.1-post",
	"rigging-1.1-pre", "rigging-1.1-post",
	"rigging-1.0-preun", "rigging-1.0-postun",
	"libknot-1.0-preun", "libknot-1.0-postun",
	"libknot-1.1-posttrans", "rigging-1.1-posttrans",
}

// The power goes inside dnf's transaction: slipway-device and dnf die at once. At
// boot resume brings the device to the release it was on its way to, without a
// network, every scriptlet of what came has run, and nothing is left over.
func TestPowerCutInTheTransaction(t *testing.T) {
	t.Parallel()
	sample := []string{"knotctl-1.1-pre", "rigging-1.0-preun"}
	if os.Getenv("SLIPWAY_TEST") == "full" {
		sample = cuts
	}
	for _, at := range sample {
		t.Run(at, func(t *testing.T) {
			b := newBed(t)
			b.file("root", "cut", at+"\n")
			b.file("root", "etc/knotctl.conf", "mine\n")
			if code, out := b.device("update"); code != -1 {
				t.Fatalf("not killed: %d\n%s", code, out)
			}
			if exists(filepath.Join(b.root, "cut")) {
				t.Fatal("the scriptlet did not run")
			}
			if out := b.must("status"); !strings.Contains(out, "interrupted (transaction)") {
				t.Errorf("status: %s", out)
			}
			b.server.Close() // no network at boot
			out := b.must("resume")
			if !strings.Contains(out, "done: serial 2, release 1.2") {
				t.Errorf("resume: %s", out)
			}
			if got, err := os.ReadFile(filepath.Join(b.root, "etc/knotctl.conf")); err != nil || string(got) != "mine\n" {
				t.Errorf("the user's configuration: %q %v", got, err)
			}
			b.must("resume") // nothing more to do
			b.consistentBut(2, "/etc/knotctl.conf")
			ran, err := os.ReadFile(filepath.Join(b.root, "scripts"))
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(string(ran), "\n")
			for _, p := range []string{"libknot-1.1", "knotctl-1.1", "rigging-1.1"} {
				for _, s := range []string{"pre", "post", "posttrans"} {
					if !slices.Contains(lines, p+"-"+s) {
						t.Errorf("%s-%s never ran", p, s)
					}
				}
			}
		})
	}
}

// dnf dies between two files of a package, at the n-th rename of its transaction:
// what rpm had unpacked and not yet named is there, too.
func TestKilledBetweenTwoFiles(t *testing.T) {
	t.Parallel()
	sample := []int{37}
	if os.Getenv("SLIPWAY_TEST") == "full" {
		sample = []int{1, 2, 5, 10, 15, 20, 25, 30, 37, 45, 50, 60, 65}
	}
	for _, n := range sample {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			b := newBed(t)
			b.file("home", "bin/dnf", fmt.Sprintf(`#!/bin/sh
case "$*" in
*--cacheonly*) exec strace -f -qq -o "$HOME/calls" -e trace=rename,renameat,renameat2 -e inject=rename,renameat,renameat2:signal=KILL:when=%d /usr/bin/dnf "$@" ;;
esac
exec /usr/bin/dnf "$@"
`, n))
			b.sh("chmod", "755", filepath.Join(b.home, "bin/dnf"))
			cmd := b.command("update")
			cmd.Env = append(cmd.Env, "PATH="+filepath.Join(b.home, "bin")+":"+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			calls, rerr := os.ReadFile(filepath.Join(b.home, "calls"))
			if err == nil || rerr != nil || !strings.Contains(string(calls), "killed by SIGKILL") {
				t.Fatalf("not killed: %v %v\n%s\n%s", err, rerr, out, calls)
			}
			if exists(filepath.Join(b.root, journalFile)) {
				b.must("resume")
			} else {
				b.consistent(1) // it had not begun
				b.must("update")
			}
			b.consistent(2)
		})
	}
}

// slipway-device dies at one of its own writes, dnf with it. What is left is
// resumed; then an update goes through, and the device is at 1.2.
func TestPowerCutAtOwnWrites(t *testing.T) {
	t.Parallel()
	beds := make(chan map[int]*bed, 1)
	beds <- map[int]*bed{}
	get := func(n int) *bed {
		m := <-beds
		defer func() { beds <- m }()
		if m[n] == nil {
			m[n] = newBed(t)
		}
		return m[n]
	}
	crashtest.KillEach(t, crashtest.Options{
		Command:  func(n int) *exec.Cmd { return get(n).command("update") },
		Syscalls: []string{"fsync", "renameat", "?rename", "unlinkat"},
		Sample:   2,
	}, func(t *testing.T, n int) {
		b := get(n)
		b.t = t
		b.must("resume")
		b.must("update")
		b.consistent(2)
	})
}
