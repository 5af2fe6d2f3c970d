package boots

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/internal/check"
	"slipway/internal/qemu/qemutest"
)

// A device that lets us in and then never answers ends with a finding, and another one
// that panics is asked all the same. The board is a program that says it is ready.
func TestDeviceThatNeverAnswers(t *testing.T) {
	t.Parallel()
	board := func(name, console string) check.BootImage {
		dir := t.TempDir()
		i := check.BootImage{Board: "tiny", Image: name, Command: filepath.Join(dir, "bench"), Path: filepath.Join(dir, "disk")}
		script := fmt.Sprintf("#!/bin/sh\n[ $1 != console ] || { echo '%s'; exec sleep 100; }\n[ $1 != address ] || echo %s\n", console, qemutest.Hanging(t))
		for path, text := range map[string]string{i.Command: script, i.Path: "disk"} {
			if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		return i
	}
	out, err := check.Run(t.Context(), &check.Bed{Dir: t.TempDir(), Jobs: 2, TestTime: time.Second,
		Images: []check.BootImage{board("hangs", "slipway: ready"), board("panics", "Kernel panic - not syncing: oops")}}, []check.Check{New()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := out[0].Result
	// Its two devices are one server, which is told, too.
	if r.Error != "" || len(r.Findings) != 3 || r.Findings[0].ID != "tiny/hangs:broken" || r.Findings[1].ID != "tiny/hangs:hostkeys-same" || r.Findings[2].ID != "tiny/panics:up" ||
		!strings.Contains(r.Findings[0].Text, "the device lets us in, and does not answer within 1s") {
		t.Errorf("%+v", r)
	}
}
