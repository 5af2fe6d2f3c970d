package rpm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// tool fails the test when a program is missing: CI installs all of them.
func tool(t testing.TB, name, debian string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%s is missing: install Debian's package %s", name, debian)
	}
}

// run gives what a program prints, and fails the test when it fails.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).Output()
	if err != nil {
		stderr := ""
		if e, ok := err.(*exec.ExitError); ok {
			stderr = string(e.Stderr)
		}
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr)
	}
	return string(out)
}

var (
	built    = map[string][]string{}
	builtMu  sync.Mutex
	builtDir string
)

func TestMain(m *testing.M) {
	var err error
	if builtDir, err = os.MkdirTemp("", "rpmtest"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(builtDir)
	os.Exit(code)
}

// build runs rpmbuild -ba on testdata/<spec>.spec, once per test run, and gives
// the packages. payload is rpm's name of a compression ("w9.gzdio").
func build(t testing.TB, spec, payload string, defines ...string) []string {
	t.Helper()
	tool(t, "rpmbuild", "rpm")
	builtMu.Lock()
	defer builtMu.Unlock()
	key := fmt.Sprint(spec, payload, defines)
	if got, ok := built[key]; ok {
		return got
	}
	top, err := os.MkdirTemp(builtDir, "top")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-ba", "--define", "_topdir " + top, "--define", "_binary_payload " + payload, "--define", "_source_payload " + payload,
		"--define", "_buildhost test", "--define", "_dbpath " + filepath.Join(top, "db")}
	for _, d := range defines {
		args = append(args, "--define", d)
	}
	run(t, "rpmbuild", append(args, filepath.Join("testdata", spec+".spec"))...)
	var found []string
	for _, pattern := range []string{"RPMS/*/*.rpm", "SRPMS/*.rpm"} {
		m, _ := filepath.Glob(filepath.Join(top, pattern))
		found = append(found, m...)
	}
	if len(found) == 0 {
		t.Fatal("rpmbuild made no packages")
	}
	built[key] = found
	return found
}

// openRPM reads a file into memory.
func load(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pick gives the path whose file name begins with prefix.
func pick(t testing.TB, paths []string, prefix string) string {
	t.Helper()
	for _, p := range paths {
		if strings.HasPrefix(filepath.Base(p), prefix) {
			return p
		}
	}
	t.Fatalf("no %s in %v", prefix, paths)
	return ""
}
