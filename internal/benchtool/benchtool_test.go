package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestMain lets the test be the program that the sections start for ours. These
// tests are not parallel: reap waits for every child of the process.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && work[os.Args[1]] != nil {
		if err := run(context.Background(), os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := becomeReaper(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestSections runs each comparison on a few packages: the checks of what both
// tools wrote are in the sections themselves.
func TestSections(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"metadata": `(?s)\| Slipway, zstd \| 4 \| .* \| \*\*\d+\.\d\d\*\* \|.*\| createrepo_c, gzip \| 4 \|.* KiB`,
		"signing":  `(?s)\| Slipway \| 4 \| .*\| rpmsign \| 4 \| .* \| 1 \|`,
		"headers":  `(?s)\| Slipway \| 4 \| .*\| rpm -qp \| 4 \| .* \| 1 \|`,
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			b := &bench{out: &out, self: self, dir: t.TempDir(), n: 4, runs: 1}
			if err := sections[name].do(b, t.Context()); err != nil {
				t.Fatal(err)
			}
			if !regexp.MustCompile(want).Match(out.Bytes()) {
				t.Errorf("got\n%s\nwant %s", out.Bytes(), want)
			}
		})
	}
}

// TestMeasureWaitsForWhatIsLeftBehind: a process whose parent ended first is
// waited for, so its time counts.
func TestMeasureWaitsForWhatIsLeftBehind(t *testing.T) {
	dir := t.TempDir()
	script := `(i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo >done) >/dev/null 2>&1 &`
	cpu, err := measure(t.Context(), job{name: "sh", args: []string{"sh", "-c", script}, dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "done")); err != nil || cpu <= 0 {
		t.Errorf("%v of CPU; %v", cpu, err)
	}
}

func TestPackagesAreTheSameEveryTime(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	for _, dir := range []string{one, two} {
		if err := makePackages(dir, 2); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2 {
		a, err1 := os.ReadFile(filepath.Join(one, packageName(i)))
		b, err2 := os.ReadFile(filepath.Join(two, packageName(i)))
		if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Errorf("package %d differs: %v %v", i, err1, err2)
		}
	}
}

// TestPublishSection: the generated pool and the check of what was published hold
// together.
func TestPublishSection(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{out: &bytes.Buffer{}, self: self, dir: t.TempDir(), n: 200, runs: 2}
	first, added, same, err := b.world(t.Context(), 400, 200)
	if err != nil {
		t.Fatal(err)
	}
	if len(first.cpu) != 1 || len(added.cpu) != 2 || len(same.cpu) != 2 || added.memory == 0 {
		t.Errorf("%+v %+v %+v", first, added, same)
	}
}
