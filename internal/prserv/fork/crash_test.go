package fork

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"slipway/internal/crashtest"
	"slipway/internal/errs"
	"slipway/internal/hashserv/hashdb"
	"slipway/internal/hashserv/litefile"
	"slipway/internal/prserv/prdb"
)

func TestMain(m *testing.M) {
	crashtest.Main(map[string]func(string) error{"promote": promote})
	os.Exit(m.Run())
}

func promote(dir string) error {
	b, err := Open(filepath.Join(dir, "series.db"))
	if err != nil {
		return err
	}
	defer b.Close()
	_, err = b.Promote(context.Background(), filepath.Join(dir, "build"))
	return err
}

const many = 300 // rows of each kind in the overlay

// prepare makes a base with a row of each kind, and an overlay with many.
func prepare(t *testing.T, dir string) {
	t.Helper()
	b := open(t, filepath.Join(dir, "series.db"))
	if err := b.PR.Put(t.Context(), prdb.Row{Version: "v", Pkgarch: "p", Checksum: "base", Value: "0"}); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "build"), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := litefile.Open(filepath.Join(dir, "build", overlay), litefile.Options{}, hashdb.Schema(), prdb.Schema())
	if err != nil {
		t.Fatal(err)
	}
	h1, err := hashdb.New(f, hashdb.Options{IndexBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	var rows []hashdb.Row
	for i := range many {
		rows = append(rows, hashdb.Row{Method: "m", Taskhash: h(i), Unihash: h(i)})
		if err := prdb.New(f).Put(t.Context(), prdb.Row{Version: "v", Pkgarch: "p", Checksum: fmt.Sprint(i), Value: fmt.Sprint(i + 1)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := h1.Insert(t.Context(), rows...); err != nil {
		t.Fatal(err)
	}
	h1.Close()
	f.Close()
	b.Close()
}

// TestACrashInAPromotionLeavesBeforeOrAfter kills a promotion at its writes.
func TestACrashInAPromotionLeavesBeforeOrAfter(t *testing.T) {
	t.Parallel()
	template := t.TempDir()
	prepare(t, template)
	dir := crashtest.Dirs(t)
	crashtest.KillEach(t, crashtest.Options{Sample: 15, Command: func(n int) *exec.Cmd {
		for _, name := range []string{"series.db", "build/" + overlay} {
			b, err := os.ReadFile(filepath.Join(template, name))
			if err != nil {
				t.Error(err)
			}
			to := filepath.Join(dir(n), name)
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				t.Error(err)
			}
			if err := os.WriteFile(to, b, 0o644); err != nil {
				t.Error(err)
			}
		}
		return crashtest.Self("promote", dir(n))
	}}, func(t *testing.T, n int) {
		count := func() [2]int {
			b, err := Open(filepath.Join(dir(n), "series.db"))
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			hashes, err := b.Hash.All(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			numbers, err := b.PR.Rows(t.Context(), "", "", "", true)
			if err != nil {
				t.Fatal(err)
			}
			return [2]int{len(hashes), len(numbers)}
		}
		if got := count(); got != [2]int{0, 1} && got != [2]int{many, many + 1} {
			t.Errorf("run %d: %v: neither before nor after", n, got)
		}
		if err := promote(dir(n)); err != nil && !errs.Is(err, errs.NotFound) {
			t.Error(err)
		}
		if got := count(); got != [2]int{many, many + 1} {
			t.Errorf("run %d: the same again gives %v", n, got)
		}
	})
}
