package state

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"slipway/internal/crashtest"
	"slipway/internal/errs"
)

func clock() time.Time { return time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC) }

// Open for tests, closed at their end.
func openTest(t *testing.T, path string) Store {
	t.Helper()
	s, err := Open(t.Context(), path, clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func openReader(t *testing.T, path string) Store {
	t.Helper()
	s, err := OpenReadOnly(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func count(t *testing.T, s Store, kind string) int {
	t.Helper()
	docs, err := s.List(t.Context(), kind)
	if err != nil {
		t.Fatal(err)
	}
	return len(docs)
}

func apply(t *testing.T, s Store, puts ...Put) {
	t.Helper()
	if err := s.Apply(t.Context(), puts, nil); err != nil {
		t.Fatal(err)
	}
}

func TestStateStaysAndSeveralMayOpenIt(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a b", "50% ?#", "state.db")
	a, b := openTest(t, path), openTest(t, path)
	apply(t, a, Put{Kind: "k", ID: "1", Data: 1})
	apply(t, b, Put{Kind: "k", ID: "2", Data: 1})
	if count(t, a, "k") != 2 || count(t, openTest(t, path), "k") != 2 {
		t.Error("documents are missing")
	}
}

func TestManyOpenANewStateAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s, err := Open(t.Context(), path, clock)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if err := s.Apply(t.Context(), []Put{{Kind: "k", ID: fmt.Sprint(i), Data: 1}}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := count(t, openReader(t, path), "k"); n != 8 {
		t.Errorf("%d documents, want 8", n)
	}
}

func TestReader(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "none", "state.db")
	r := openReader(t, path)
	if _, err := r.Get(t.Context(), "k", "1"); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	if ev, err := r.Events(t.Context(), 0, 0); count(t, r, "k") != 0 || len(ev) != 0 || err != nil {
		t.Error(ev, err)
	}
	if _, err := os.Stat(filepath.Dir(path)); err == nil {
		t.Error("the reader made a folder")
	}
	w := openTest(t, path)
	apply(t, w, Put{Kind: "k", ID: "1", Data: 1})
	if count(t, r, "k") != 1 {
		t.Error("the reader does not see a database that came later")
	}
	// In the middle of a write, which does not wait for the reader either.
	tx, err := w.(*db).BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(`UPDATE documents SET data = '2'`); err != nil {
		t.Fatal(err)
	}
	if v, _, err := Load[int](t.Context(), r, "k", "1"); v != 1 || err != nil {
		t.Error(v, err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if v, _, err := Load[int](t.Context(), r, "k", "1"); v != 2 || err != nil {
		t.Error(v, err)
	}
	if err := r.Apply(t.Context(), []Put{{Kind: "k", ID: "2", Data: 1}}, nil); !errs.Is(err, errs.Denied) {
		t.Error(err)
	}
}

func TestUnfinishedDatabaseReadsAsEmpty(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := open(path, "_pragma=journal_mode(WAL)", clock)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Exec(`CREATE TABLE unrelated (x TEXT)`); err != nil {
		t.Fatal(err)
	}
	if n := count(t, openReader(t, path), "k"); n != 0 {
		t.Error(n)
	}
	s.Close()
}

func TestNewerAndOlderSchema(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := open(path, "_pragma=journal_mode(WAL)&_txlock=immediate", clock)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.migrate(t.Context(), migrations); err != nil {
		t.Fatal(err)
	}
	apply(t, s, Put{Kind: "k", ID: "1", Data: 1})
	future := append(append([]string{}, migrations...), `ALTER TABLE documents ADD COLUMN color TEXT`)
	for range 2 {
		if err := s.migrate(t.Context(), future); err != nil {
			t.Fatal(err)
		}
	}
	if count(t, s, "k") != 1 {
		t.Error("the migration lost documents")
	}
	_, err = Open(t.Context(), path, clock)
	_, rerr := OpenReadOnly(t.Context(), path)
	for _, err := range []error{err, rerr} {
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "newer Slipway (schema 2, this program knows up to 1)") {
			t.Error(err)
		}
	}
	broken := append(future, `CREATE TABLE more (x TEXT); NONSENSE`)
	if err := s.migrate(t.Context(), broken); err == nil {
		t.Error("a broken migration passes")
	}
	if v, err := s.version(t.Context(), s); v != 2 || err != nil {
		t.Errorf("after a broken migration: version %d, %v", v, err)
	}
	if err := s.migrate(t.Context(), append(future, `CREATE TABLE more (x TEXT)`)); err != nil {
		t.Errorf("after a broken migration: %v", err)
	}
}

func TestDamagedDatabase(t *testing.T) {
	t.Parallel()
	for name, content := range map[string][]byte{
		"text":         []byte(strings.Repeat("this is no database ", 1000)),
		"cut":          nil,
		"random pages": nil,
	} {
		path := filepath.Join(t.TempDir(), "state.db")
		if content == nil {
			s := openTest(t, path)
			for i := range 200 {
				apply(t, s, Put{Kind: "k", ID: fmt.Sprint(i), Data: strings.Repeat("x", 500)})
			}
			s.Close()
			content, _ = os.ReadFile(path)
			if name == "cut" {
				content = content[:len(content)/2+100]
			} else {
				copy(content[4096:], bytes.Repeat([]byte{0xa5}, len(content)-4096))
			}
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		try := func(open func() (Store, error)) error {
			s, err := open()
			if err != nil {
				return err
			}
			defer s.Close()
			if _, err := s.List(t.Context(), "k"); err != nil {
				return err
			}
			return s.Apply(t.Context(), []Put{{Kind: "k", ID: "new", Data: 1}}, nil)
		}
		for _, err := range []error{
			try(func() (Store, error) { return Open(t.Context(), path, clock) }),
			try(func() (Store, error) { return OpenReadOnly(t.Context(), path) }),
		} {
			if !errs.Is(err, errs.Unavailable) || !strings.Contains(strings.Join(errs.Hints(err), ""), "backup") || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %v %q", name, err, errs.Hints(err))
			}
		}
	}
}

func TestFolderInTheWay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "file"), nil, 0o644)
	os.Mkdir(filepath.Join(dir, "folder"), 0o755)
	for _, p := range []string{"file/state.db", "folder"} {
		if _, err := Open(t.Context(), filepath.Join(dir, p), clock); !errs.Is(err, errs.Unavailable) || len(errs.Hints(err)) == 0 {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// Another user, who may read the folder but not write it.
func TestReaderOfAForeignFolder(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	dir, err := os.MkdirTemp("", "slipway-state-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	os.Chmod(dir, 0o755)
	path := filepath.Join(dir, "state.db")
	asNobody := func() string {
		cmd := crashtest.Self("count", path)
		bin := filepath.Join(dir, "test")
		b, err := os.ReadFile(cmd.Path)
		if err == nil {
			err = os.WriteFile(bin, b, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
		cmd.Path, cmd.Dir = bin, dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		os.Remove(bin)
		if _, ok := err.(*exec.ExitError); err != nil && !ok {
			t.Fatal(err)
		}
		return string(out)
	}
	w := openTest(t, path)
	apply(t, w, Put{Kind: "k", ID: "1", Data: 1})
	if got := asNobody(); got != "1\n" {
		t.Errorf("while a writer has it open: %s", got)
	}
	apply(t, w, Put{Kind: "k", ID: "2", Data: 1})
	w.Close()
	if got := asNobody(); got != "2\n" {
		t.Errorf("with the writer gone: %s", got)
	}
}

func FuzzNatural(f *testing.F) {
	f.Add("1.9", "1.10", "1.10-c2")
	f.Add("1.01", "1.1", "a")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if natural(a, b) != -natural(b, a) || (natural(a, b) == 0) != (a == b) {
			t.Errorf("%q and %q: %d, %d", a, b, natural(a, b), natural(b, a))
		}
		if natural(a, b) <= 0 && natural(b, c) <= 0 && natural(a, c) > 0 {
			t.Errorf("%q <= %q <= %q, but not the first and the last", a, b, c)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "state.db")
	for b.Loop() {
		s, err := Open(b.Context(), path, clock)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.List(b.Context(), "k"); err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}
