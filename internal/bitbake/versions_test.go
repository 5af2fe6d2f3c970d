package bitbake

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestBuildtools(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bin := filepath.Join(dir, "tools", "sysroots", "x86_64-pokysdk-linux", "usr", "bin")
	plain := filepath.Join(dir, "plain", "bin")
	err := errors.Join(os.MkdirAll(bin, 0o755), os.MkdirAll(plain, 0o755),
		os.WriteFile(filepath.Join(dir, "tools", "version-x86_64-pokysdk-linux"), []byte("Distro: poky\nDistro Version: 5.0.2\nMetadata Revision: abc\n"), 0o644),
		os.WriteFile(filepath.Join(dir, "plain", "version-of-something"), []byte("1.0\n"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	if got := buildtools([]string{plain, bin}); !slices.Equal(got, []string{"poky 5.0.2 (abc)"}) {
		t.Error(got)
	}
	pin, err := New(Options{Path: []string{bin}}).Pin(t.Context())
	if err != nil || pin.Tools["buildtools"] != "poky 5.0.2 (abc)" {
		t.Errorf("%+v, %v", pin, err)
	}
	if pin, err = New(Options{Path: []string{plain}}).Pin(t.Context()); err != nil || pin.Tools["buildtools"] != "" {
		t.Errorf("%+v, %v", pin, err)
	}
}

// TestPython: noted is the Python that BitBake is started with.
func TestPython(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "python3"), []byte("#!/bin/sh\necho Python 9.8.7\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if pin, err := New(Options{Path: []string{dir}}).Pin(t.Context()); err != nil || pin.Tools["python"] != "9.8.7" {
		t.Errorf("%+v, %v", pin, err)
	}
}
