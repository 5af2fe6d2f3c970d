package store_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"slipway/internal/crashtest"
)

// A kill does not show a missing fsync: the kernel lives on and writes. So the
// calls themselves are looked at: a file has its bytes synced before it gets its
// name, every folder is synced before a pointer moves, and at the end all is.
func TestNothingIsNamedBeforeItIsSynced(t *testing.T) {
	t.Parallel()
	dir := crashtest.Dirs(t)
	written := map[string]bool{} // files with bytes that are not synced
	entries := map[string]bool{} // folders with entries that are not synced
	pointers := 0
	onFD := regexp.MustCompile(`^(write|fsync)\(\d+<([^>]+)>`)
	onPath := regexp.MustCompile(`"([^"]+)"`)
	for _, call := range crashtest.Trace(t, crashtest.Options{Command: command(t, dir)}) {
		if strings.Contains(call, ") = -1 ") {
			continue
		}
		if m := onFD.FindStringSubmatch(call); m != nil {
			if m[1] == "write" {
				written[m[2]] = true
			} else {
				delete(written, m[2])
				delete(entries, m[2])
			}
			continue
		}
		paths := onPath.FindAllStringSubmatch(call, -1)
		name, _, _ := strings.Cut(call, "(")
		switch name {
		case "mkdir", "mkdirat":
			entries[filepath.Dir(paths[0][1])] = true
		case "link", "linkat", "rename", "renameat", "renameat2":
			from, to := paths[0][1], paths[1][1]
			if written[from] {
				t.Errorf("%s gets its name before its bytes are synced", to)
			}
			if filepath.Base(to) == "current" {
				pointers++
				for p := range entries {
					if strings.HasPrefix(p, filepath.Dir(to)) {
						t.Errorf("the pointer moves before %s is synced", p)
					}
				}
			}
			entries[filepath.Dir(to)] = true
		}
	}
	for p := range entries {
		if strings.HasPrefix(p, dir(0)+"/") {
			t.Errorf("%s is not synced at the end", p)
		}
	}
	if pointers != 1 {
		t.Errorf("%d pointers moved: the trace was not understood", pointers)
	}
}
