package rpm

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"slipway/internal/errs"
)

// TestVisit: what Visit reads of a package is what Extract unpacks, in every
// compression, hard links once.
func TestVisit(t *testing.T) {
	t.Parallel()
	for _, payload := range payloads {
		path := pick(t, build(t, "rich", payload), "rich-1")
		b := load(t, path)
		dir := t.TempDir()
		if err := Extract(bytes.NewReader(b), int64(len(b)), dir); err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		err := Visit(bytes.NewReader(b), int64(len(b)), func(f File) bool { return true }, func(f File, data io.Reader) error {
			if seen[f.Path] {
				t.Errorf("%s twice", f.Path)
			}
			seen[f.Path] = true
			got, err := io.ReadAll(data)
			if err != nil {
				return err
			}
			want, err := os.ReadFile(filepath.Join(dir, f.Path))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %v: %d bytes, want %d", f.Path, err, len(got), len(want))
			}
			return nil
		})
		if err != nil || len(seen) == 0 {
			t.Fatalf("%s: %v, %d files", payload, err, len(seen))
		}
		p, err := Read(bytes.NewReader(b), int64(len(b)), path)
		if err != nil {
			t.Fatal(err)
		}
		inodes, missed := map[uint32]bool{}, map[uint32]string{}
		for _, f := range p.Files {
			if !f.IsRegular() || f.Flags&FileGhost != 0 {
				continue
			}
			if seen[f.Path] {
				inodes[f.Inode] = true
			} else {
				missed[f.Inode] = f.Path
			}
		}
		for inode, path := range missed {
			if !inodes[inode] {
				t.Errorf("%s: %s was passed by", payload, path)
			}
		}

		mine := errors.New("enough")
		n := 0
		err = Visit(bytes.NewReader(b), int64(len(b)), func(File) bool { return true }, func(File, io.Reader) error { n++; return mine })
		if !errors.Is(err, mine) || n != 1 {
			t.Errorf("%v after %d", err, n)
		}
		if err := Visit(bytes.NewReader(b), int64(len(b)), func(File) bool { return false }, nil); err != nil {
			t.Error(err)
		}
		for _, cut := range []int{len(b) - 1, len(b) - len(b)/10} {
			err := Visit(bytes.NewReader(b[:cut]), int64(cut), func(File) bool { return true }, func(_ File, r io.Reader) error { _, err := io.Copy(io.Discard, r); return err })
			if !errs.Is(err, errs.Invalid) {
				t.Errorf("%s cut at %d of %d: %v", payload, cut, len(b), err)
			}
		}
	}
}

// FuzzVisit: no bytes make Visit panic, or give more than the header says.
func FuzzVisit(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		err := Visit(bytes.NewReader(b), int64(len(b)), func(File) bool { return true }, func(f File, r io.Reader) error {
			n, err := io.Copy(io.Discard, r)
			if err == nil && n != f.Size {
				t.Fatalf("%s: %d bytes of %d", f.Path, n, f.Size)
			}
			return err
		})
		sound(t, err, errs.Invalid)
	})
}
