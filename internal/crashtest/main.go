package crashtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"slipway/internal/errs"
)

const childVar = "SLIPWAY_CRASH_CHILD"

// Main is what TestMain of a package with crash tests calls first. In the test
// itself it returns. In a process that [Self] made it does the work of that name,
// on one thread, prints the error with its kind and hints, and exits with its
// exit code.
func Main(work map[string]func(dir string) error) {
	name, ok := os.LookupEnv(childVar)
	if !ok {
		return
	}
	f := work[name]
	if f == nil || len(os.Args) != 2 {
		fmt.Fprintf(os.Stderr, "no crash test work %q\n", name)
		os.Exit(99)
	}
	runtime.GOMAXPROCS(1)
	runtime.LockOSThread()
	err := f(os.Args[1])
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", errs.KindOf(err), err)
		for _, h := range errs.Hints(err) {
			fmt.Fprintln(os.Stderr, "hint:", h)
		}
	}
	os.Exit(errs.ExitCode(err))
}

// Dirs gives each run n a folder of its own, in memory if that is possible (a kill
// does not test the disk's cache), made on first use. All but that of run 0, which
// others are compared with, can be dropped by the test with os.RemoveAll; all are
// removed at its end.
func Dirs(t *testing.T) func(n int) string {
	t.Helper()
	top, err := os.MkdirTemp("/dev/shm", "slipway-crash-")
	if err != nil {
		top = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	return func(n int) string {
		dir := filepath.Join(top, fmt.Sprint(n))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Error(err)
		}
		return dir
	}
}

// Self makes a process of this test binary that does the named work of [Main] in
// dir.
func Self(name, dir string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], dir)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(s string) bool { return s == childVar }), childVar+"="+name)
	return cmd
}
