package main

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// maxSize is what a small device spends on this program, in bytes.
const maxSize = 8 << 20

// The program is static and small, built as docs/device-program.md says.
func TestStaticAndSmall(t *testing.T) {
	t.Parallel()
	targets := [][]string{{"GOARCH=amd64"}}
	if os.Getenv("SLIPWAY_TEST") == "full" {
		targets = append(targets, []string{"GOARCH=arm64"}, []string{"GOARCH=arm", "GOARM=7"})
	}
	for _, env := range targets {
		path := filepath.Join(t.TempDir(), "slipway-device")
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-tags", "nethttpomithttp2", "-ldflags", "-s -w", "-o", path, ".")
		cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux"), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", env, err, out)
		}
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := elf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		libraries, err := f.ImportedLibraries()
		f.Close()
		if st.Size() > maxSize || err != nil || len(libraries) > 0 {
			t.Errorf("%v: %d bytes, libraries %v, %v", env, st.Size(), libraries, err)
		}
		t.Logf("%v: %.2f MiB", env, float64(st.Size())/(1<<20))
	}
}
