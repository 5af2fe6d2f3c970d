package diffoscope

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tool puts a program named diffoscope, alone on PATH.
func tool(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if script != "" {
		if err := os.WriteFile(filepath.Join(dir, "diffoscope"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
}

func TestCompare(t *testing.T) {
	tool(t, "")
	if _, ok, err := Compare(t.Context(), "a", "b"); ok || err != nil {
		t.Error(ok, err)
	}
	tool(t, `echo "$5 $6 differ"; exit 1`)
	if s, ok, err := Compare(t.Context(), "a", "b"); !ok || err != nil || s != "a b differ\n" {
		t.Errorf("%q %v %v", s, ok, err)
	}
	tool(t, `echo first >&2; echo "no such file" >&2; exit 2`)
	if _, ok, err := Compare(t.Context(), "a", "b"); !ok || err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(ok, err)
	}
}
