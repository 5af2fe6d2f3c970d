package store_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/internal/crashtest"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/store"
)

func TestMain(m *testing.M) {
	crashtest.Main(map[string]func(dir string) error{"publish": publish})
	os.Exit(m.Run())
}

// content is what publish stores under a name: of several sizes, one of more than
// one write.
func content(name string) []byte {
	return bytes.Repeat([]byte(name+"\n"), 1+20_000*(len(name)%2))
}

// The names of a snapshot, in the order in which they are created.
func snapshot(serial string) []string {
	return []string{"pool/x/a-" + serial + ".rpm", "pool/y/bb-" + serial + ".rpm", "snapshots/" + serial + "/repomd.xml"}
}

// publish stores blobs, then a snapshot, then the pointer to it, below dir; what
// is done already stays.
func publish(dir string) error {
	lock, err := store.Acquire(context.Background(), filepath.Join(dir, "lock"), store.Self("publish", time.Now()), 0, nil)
	if err != nil {
		return err
	}
	defer lock.Release()
	return publishSerial(dir, "2")
}

func publishSerial(dir, serial string) error {
	ctx := context.Background()
	b, err := store.OpenBlobs(filepath.Join(dir, "blobs"))
	if err != nil {
		return err
	}
	for _, name := range append(snapshot(serial), snapshot("1")[0]) {
		if _, _, err := b.Put(ctx, bytes.NewReader(content(name))); err != nil {
			return err
		}
	}
	tr, err := store.OpenTree(filepath.Join(dir, "tree"))
	if err != nil {
		return err
	}
	names := snapshot(serial)
	last := len(names) - 1
	if err := store.CreateAll(ctx, tr, func(yield func(store.NewFile, error) bool) {
		for _, name := range names[:last] {
			if !yield(store.NewFile{Name: name, Content: bytes.NewReader(content(name))}, nil) {
				return
			}
		}
	}); err != nil {
		return err
	}
	if err := tr.Create(ctx, names[last], bytes.NewReader(content(names[last]))); err != nil {
		return err
	}
	if err := tr.Swap(ctx, "current", []byte(serial)); err != nil {
		return err
	}
	return tr.Sync(ctx)
}

// command publishes snapshot 1 in the folder of a run; the run is to publish 2.
func command(t *testing.T, dir func(int) string) func(int) *exec.Cmd {
	return func(n int) *exec.Cmd {
		if err := publishSerial(dir(n), "1"); err != nil {
			t.Error(err)
		}
		return crashtest.Self("publish", dir(n))
	}
}

// sound asserts that nothing half-done can be seen in dir, and gives what the
// pointer says.
func sound(t *testing.T, dir string) string {
	t.Helper()
	b := store.ReadBlobs(filepath.Join(dir, "blobs"))
	for d, err := range b.List(t.Context()) {
		if err == nil {
			err = store.Check(t.Context(), b, d)
		}
		if err != nil {
			t.Error(err)
		}
	}
	tr := store.ReadTree(filepath.Join(dir, "tree"))
	read := func(name string) string {
		path := filepath.Join(dir, "tree", name)
		if _, err := tr.Stat(t.Context(), name); err != nil {
			t.Error(err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		return string(got)
	}
	for name, err := range tr.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if name != "current" && read(name) != string(content(name)) {
			t.Errorf("%s is not whole", name)
		}
	}
	current := read("current")
	if current != "1" && current != "2" {
		t.Errorf("the pointer says %q", current)
	}
	for _, name := range snapshot(current) {
		if read(name) != string(content(name)) {
			t.Errorf("the pointer names %s, and it is not whole", name)
		}
	}
	return current
}

// finishes runs the same work again, in a folder that a run left, and compares
// with what the unharmed run left.
func finishes(t *testing.T, dir, unharmed string) {
	t.Helper()
	if err := publish(dir); err != nil {
		t.Fatalf("the second run: %v", err)
	}
	if got := sound(t, dir); got != "2" {
		t.Errorf("after the second run the pointer says %q", got)
	}
	if got, want := listing(t, dir), listing(t, unharmed); got != want {
		t.Errorf("the second run left\n%s\nand an unharmed one\n%s", got, want)
	}
}

// listing names all files, hidden ones too, with mode and digest.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := e.Info()
		if err != nil || e.IsDir() {
			fmt.Fprintf(&out, "%s %s\n", st.Mode(), strings.TrimPrefix(p, dir))
			return err
		}
		b, err := os.ReadFile(p)
		fmt.Fprintf(&out, "%s %s %s\n", st.Mode(), strings.TrimPrefix(p, dir), distro.DigestOf(b).Short())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestKilledPublish(t *testing.T) {
	t.Parallel()
	dir := crashtest.Dirs(t)
	crashtest.KillEach(t, crashtest.Options{Command: command(t, dir)}, func(t *testing.T, n int) {
		sound(t, dir(n))
		finishes(t, dir(n), dir(0))
		drop(dir, n)
	})
}

// drop frees the memory that a checked run takes.
func drop(dir func(int) string, n int) {
	if n > 0 {
		os.RemoveAll(dir(n))
	}
}

func TestFailingDisk(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		errno  string
		says   string
		sticky bool
	}{{"ENOSPC", "free space on the file system of", false}, {"ENOSPC", "", true}, {"EIO", "the disk reports an error", false}, {"EROFS", "mount it writable", false}} {
		t.Run(fmt.Sprintf("%s sticky %t", tt.errno, tt.sticky), func(t *testing.T) {
			t.Parallel()
			dir := crashtest.Dirs(t)
			o := crashtest.Options{Command: command(t, dir), Sticky: tt.sticky, Sample: 12}
			crashtest.FailEach(t, o, tt.errno, func(t *testing.T, n int, r crashtest.Result) {
				// A temporary name that cannot be removed now is no failure: the next
				// writer does it.
				if r.Code == 0 && sound(t, dir(n)) != "2" {
					t.Errorf("the run says that it is done and is not")
				}
				if r.Code != 0 && r.Code != errs.ExitCode(errs.E(errs.Unavailable, "")) {
					t.Errorf("exit code %d: %s", r.Code, r.Output)
				}
				if r.Code != 0 && !tt.sticky && (!strings.HasPrefix(r.Output, "unavailable: ") || !strings.Contains(r.Output, tt.says) ||
					!strings.Contains(r.Output, dir(n)) || strings.Contains(r.Output, ".tmp-")) {
					t.Errorf("output %q", r.Output)
				}
				sound(t, dir(n))
				finishes(t, dir(n), dir(0))
				drop(dir, n)
			})
		})
	}
}
