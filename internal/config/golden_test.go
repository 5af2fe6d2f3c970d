package config

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the goldens")

// archive is a txtar file of two: the input, and what is wanted of it.
type archive struct {
	name        string
	input, want []byte
}

func readArchive(t testing.TB, path string) archive {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rest, ok := bytes.CutPrefix(data, []byte("-- "))
	name, rest, ok2 := bytes.Cut(rest, []byte(" --\n"))
	input, want, ok3 := bytes.Cut(rest, []byte("-- want --\n"))
	if !ok || !ok2 || !ok3 {
		t.Fatalf("%s is no archive of an input and want", path)
	}
	return archive{string(name), input, want}
}

func goldenFiles(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatal("no goldens in " + dir)
	}
	return files
}

// golden runs every testdata/<dir>/*.txtar; want is the exact output.
func golden(t *testing.T, dir string, run func(t *testing.T, name string, data []byte) string) {
	t.Helper()
	for _, file := range goldenFiles(t, dir) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			a := readArchive(t, file)
			got := run(t, a.name, a.input)
			if *update {
				out := "-- " + a.name + " --\n" + string(a.input) + "-- want --\n" + got
				if err := os.WriteFile(file, []byte(out), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(a.want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
