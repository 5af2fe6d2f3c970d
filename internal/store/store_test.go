package store_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/store"
	"slipway/internal/store/storetest"
)

func openBlobs(t *testing.T, dir string) store.Blobs {
	t.Helper()
	b, err := store.OpenBlobs(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func openTree(t *testing.T, dir string) store.Tree {
	t.Helper()
	tr, err := store.OpenTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestFolders(t *testing.T) {
	t.Parallel()
	t.Run("blobs", func(t *testing.T) {
		storetest.Blobs(t, func(t *testing.T) store.Blobs { return openBlobs(t, filepath.Join(t.TempDir(), "blobs")) })
	})
	t.Run("tree", func(t *testing.T) {
		storetest.Tree(t, func(t *testing.T) store.Tree { return openTree(t, filepath.Join(t.TempDir(), "a", "tree")) })
	})
}

func TestReadersMakeNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "none")
	for n, err := range store.ReadTree(dir).List(t.Context(), "") {
		t.Error(n, err)
	}
	for d, err := range store.ReadBlobs(dir).List(t.Context()) {
		t.Error(d, err)
	}
	if _, err := store.ReadTree(dir).Open(t.Context(), "x"); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a reader made the folder")
	}
}

func TestLayoutAndModesOnDisk(t *testing.T) {
	dir := t.TempDir()
	defer syscall.Umask(syscall.Umask(0o077)) // of the process: this test runs alone
	b, tr := openBlobs(t, dir+"/blobs"), openTree(t, dir+"/tree")
	if _, _, err := b.Put(t.Context(), strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	if err := tr.Create(t.Context(), "a/b/c", strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	if err := tr.Swap(t.Context(), "a/p", nil); err != nil {
		t.Fatal(err)
	}
	hex := distro.DigestOf([]byte("x")).Hex()
	want := strings.Join([]string{
		"drwxr-xr-x blobs", "drwxr-xr-x blobs/sha256", "drwxr-xr-x blobs/sha256/" + hex[:2], "-r--r--r-- blobs/sha256/" + hex[:2] + "/" + hex,
		"drwxr-xr-x tree", "drwxr-xr-x tree/a", "drwxr-xr-x tree/a/b", "-rw-r--r-- tree/a/b/c", "-rw-r--r-- tree/a/p",
	}, "\n")
	var got []string
	filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		st, err := e.Info()
		got = append(got, fmt.Sprintf("%s %s", st.Mode(), p[len(dir)+1:]))
		return err
	})
	if g := strings.Join(got, "\n"); g != want {
		t.Errorf("got\n%s\nwant\n%s", g, want)
	}
}

func TestWriterCleansWhatTheDeadLeft(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tr := openTree(t, dir)
	write := func(name string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	dead, other := write(".tmp-dead"), write("kept")
	f, err := os.Open(write(".tmp-alive"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	for n := range tr.List(t.Context(), "") {
		if n != "kept" {
			t.Errorf("List shows %q", n)
		}
	}
	openTree(t, dir)
	for p, want := range map[string]bool{dead: false, other: true, f.Name(): true} {
		if _, err := os.Stat(p); (err == nil) != want {
			t.Errorf("%s there: %t", p, err == nil)
		}
	}
}

func TestChangedBlobIsDenied(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := openBlobs(t, dir)
	d, _, err := b.Put(t.Context(), strings.NewReader("good"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "sha256", d.Hex()[:2], d.Hex())
	damage := func(to string) {
		os.Chmod(path, 0o644)
		if err := os.WriteFile(path, []byte(to), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := store.Check(t.Context(), b, d); !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), string(d)) {
			t.Errorf("Check: %v", err)
		}
	}
	damage("evil")
	if err := b.Delete(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	for range 2 { // deleted, then cut short
		if _, _, err := b.Put(t.Context(), strings.NewReader("good")); err != nil {
			t.Fatal(err)
		}
		if err := store.Check(t.Context(), b, d); err != nil {
			t.Errorf("Put did not heal: %v", err)
		}
		damage("goo")
	}
}

func TestPutFileNamesTheFile(t *testing.T) {
	t.Parallel()
	b := openBlobs(t, t.TempDir())
	path := filepath.Join(t.TempDir(), "f")
	if _, _, err := store.PutFile(t.Context(), b, path); !errs.Is(err, errs.NotFound) || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
	os.WriteFile(path, []byte("x"), 0o644)
	if d, n, err := store.PutFile(t.Context(), b, path); err != nil || n != 1 || d != distro.DigestOf([]byte("x")) {
		t.Error(d, n, err)
	}
	if _, _, err := store.PutFile(t.Context(), b, filepath.Dir(path)); err == nil {
		t.Error("a folder was put")
	}
}

func TestFileWhereAFolderMustBe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tr := openTree(t, dir)
	if err := tr.Create(t.Context(), "a/b", strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"a", "a/b/c"} {
		if err := tr.Create(t.Context(), n, strings.NewReader("y")); !errs.Is(err, errs.Conflict) {
			t.Errorf("Create(%s): %v", n, err)
		}
		if err := tr.Swap(t.Context(), n, []byte("y")); !errs.Is(err, errs.Conflict) {
			t.Errorf("Swap(%s): %v", n, err)
		}
	}
	if _, err := store.OpenTree(filepath.Join(dir, "a", "b")); !errs.Is(err, errs.Conflict) {
		t.Error(err)
	}
}

func acquire(t *testing.T, path, command string, wait time.Duration, onWait func(store.Owner)) (*store.Lock, error) {
	t.Helper()
	return store.Acquire(t.Context(), path, store.Self(command, time.Now()), wait, onWait)
}

func TestLockNamesItsHolder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state", "lock")
	owner := store.Owner{Command: "slipway publish 1.2", PID: 4711, Since: time.Date(2026, 12, 1, 12, 3, 4, 0, time.Local)}
	l, err := store.Acquire(t.Context(), path, owner, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = acquire(t, path, "second", 0, func(store.Owner) { t.Error("waits") })
	want := "slipway publish 1.2 (process 4711, since 12:03:04) is at work in this workspace"
	if !errs.Is(err, errs.Locked) || err.Error() != want || len(errs.Hints(err)) == 0 {
		t.Errorf("error %v", err)
	}
	_, err = acquire(t, path, "second", time.Millisecond, nil)
	if !errs.Is(err, errs.Locked) || !strings.Contains(err.Error(), "4711") {
		t.Errorf("after waiting: %v", err)
	}
	l.Release()
	l.Release()
	l, err = acquire(t, path, "x", 0, nil) // shorter content than before
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	if _, err = acquire(t, path, "y", 0, nil); err == nil || !strings.HasPrefix(err.Error(), "x (process") {
		t.Errorf("error %v", err)
	}
}

func TestLockWaits(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	first, err := acquire(t, path, "first", 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	second, err := acquire(t, path, "second", time.Hour, func(o store.Owner) {
		told = append(told, o.Command)
		first.Release()
	})
	if err != nil || strings.Join(told, " ") != "first" {
		t.Fatalf("%v, told %s", err, told)
	}
	defer second.Release()
	ctx, cancel := context.WithCancel(t.Context())
	_, err = store.Acquire(ctx, path, store.Owner{}, time.Hour, func(store.Owner) { cancel() })
	if !errs.Is(err, errs.Interrupted) {
		t.Errorf("cancelled wait: %v", err)
	}
}

func FuzzCheckName(f *testing.F) {
	for _, n := range append(storetest.BadNames, "a", "a/b.rpm", "1/snapshots/17/core2_64/repodata/repomd.xml") {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if store.CheckName(name) != nil {
			return
		}
		if !filepath.IsLocal(name) || filepath.Clean(name) != name || strings.ContainsAny(name, "\x00\n") {
			t.Errorf("%q is taken for a name", name)
		}
	})
}
