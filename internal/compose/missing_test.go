package compose

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// TestMissingTool is not parallel: it changes where programs are looked for.
func TestMissingTool(t *testing.T) {
	old := find
	t.Cleanup(func() { find = old })
	for _, gone := range []string{"mke2fs", "debugfs"} {
		find = func(program string) (string, error) {
			if program == gone {
				return "", errs.E(errs.Unavailable, program+" is not installed", errs.Hint("apt-get install "+debianPackage[program]))
			}
			return old(program)
		}
		out := filepath.Join(t.TempDir(), "image")
		err := Disk(t.Context(), t.TempDir(), out, DiskOptions{Size: 32 << 20, Seed: distro.DigestOf(nil), Date: time.Unix(1e9, 0)})
		if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), gone+" is not installed") || errs.Hints(err)[0] != "apt-get install e2fsprogs" {
			t.Errorf("%v %v", err, errs.Hints(err))
		}
	}
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Disk(ctx, t.TempDir(), filepath.Join(t.TempDir(), "image"), DiskOptions{Size: 32 << 20, Seed: distro.DigestOf(nil), Date: time.Unix(1e9, 0)}); !errs.Is(err, errs.Interrupted) {
		t.Error(err)
	}
}

// FuzzHeaders: what rpmdb prints comes from packages of strangers.
func FuzzHeaders(f *testing.F) {
	h := header{added: []entry{{tagName, 6, 1, []byte("x\x00")}, {tagInstallTime, 4, 1, []byte{0, 0, 0, 1}}, {tagBaseNames, 8, 2, []byte("a\x00b\x00")},
		{tagDirNames, 8, 1, []byte("/\x00")}, {tagDirIndexes, 4, 2, make([]byte, 8)}, {tagFileMTimes, 4, 2, make([]byte, 8)}}}
	f.Add(h.encode())
	f.Add(append(h.encode(), h.encode()...))
	f.Add([]byte(headerMagic + "\x00\x00\x00\x01\x00\x00\x00\x10\x00\x00\x00\x3f\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x3f\x00\x00\x00\x07\xff\xff\xff\xf0\x00\x00\x00\x10"))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := readHeaders(bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, h := range all {
			_, _ = h.files()
			record := h.record()
			h.normalise(7)
			again, err := readHeaders(bytes.NewReader(h.encode()))
			if err != nil || len(again) != 1 || again[0].record() != record {
				t.Errorf("%v: %+v, %+v", err, record, again)
			}
		}
	})
}
