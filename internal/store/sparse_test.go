package store_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"slipway/internal/distro"
	"slipway/internal/store"
)

// TestBlobsKeepHoles: zeros take no room, wherever they are, and every byte is
// what was put.
func TestBlobsKeepHoles(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	dir := t.TempDir()
	b := openBlobs(t, dir)
	rng := rand.New(rand.NewPCG(1, 2))
	noise := func(n int) []byte {
		out := make([]byte, n)
		for i := range out {
			out[i] = byte(rng.Uint32())
		}
		return out
	}
	for name, data := range map[string][]byte{
		"hole at the end":       append(noise(5000), make([]byte, 4*mib)...),
		"hole at the beginning": append(make([]byte, 4*mib+17), noise(5000)...),
		"hole in the middle":    append(append(noise(4096), make([]byte, 4*mib)...), 1),
		"nothing but a hole":    make([]byte, 4*mib+1),
		"no hole":               noise(mib + 3),
		"less than a block":     make([]byte, 100),
		"empty":                 nil,
	} {
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		d, n, err := store.PutFile(t.Context(), b, path)
		if err != nil || n != int64(len(data)) || d != distro.DigestOf(data) {
			t.Fatalf("%s: %s, %d bytes, %v", name, d, n, err)
		}
		stored := filepath.Join(dir, "sha256", d.Hex()[:2], d.Hex())
		got, err := os.ReadFile(stored)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: other bytes came back (%d of %d), %v", name, len(got), len(data), err)
		}
		st, err := os.Stat(stored)
		if err != nil {
			t.Fatal(err)
		}
		if used := st.Sys().(*syscall.Stat_t).Blocks * 512; len(data) > 4*mib && used > mib {
			t.Errorf("%s: takes %d bytes of the disk", name, used)
		}
	}
}
