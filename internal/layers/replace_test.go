package layers

import (
	"os"
	"path/filepath"
	"testing"

	"slipway/internal/errs"
)

func TestReplaceFillsAnEmptyFolder(t *testing.T) {
	t.Parallel()
	fill := func(tmp string) error {
		if err := os.MkdirAll(filepath.Join(tmp, "b"), 0o755); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(tmp, "a"), []byte("x"), 0o644)
	}
	base := t.TempDir()
	empty := filepath.Join(base, "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(empty)
	for _, path := range []string{empty, filepath.Join(base, "absent", "deep")} {
		if err := replace(path, fill); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(path, "a")); err != nil {
			t.Error(err)
		}
		if err := replace(path, fill); !errs.Is(err, errs.Conflict) {
			t.Errorf("a folder with files: %v", err)
		}
	}
	if after, _ := os.Stat(empty); !os.SameFile(before, after) {
		t.Error("the empty folder was replaced by another one")
	}
	if left, _ := filepath.Glob(filepath.Join(base, ".*partial*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
