package store

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A released lock is free although a copy of its descriptor lives on in a child
// (as between fork and exec).
func TestReleaseFreesTheLockOfAllCopies(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	l, err := Acquire(t.Context(), path, Self("first", time.Now()), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	child, err := syscall.Dup(int(l.f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(child)
	l.Release()
	l, err = Acquire(t.Context(), path, Self("second", time.Now()), 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.Release()
}
