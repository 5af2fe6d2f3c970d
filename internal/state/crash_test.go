package state

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/crashtest"
	"slipway/internal/errs"
)

func TestMain(m *testing.M) {
	crashtest.Main(map[string]func(string) error{"bump": bump, "count": countDocs})
	os.Exit(m.Run())
}

const rounds = 4

// bump moves three documents and the event log from where they are to round 4,
// one round in one transaction.
func bump(dir string) error {
	ctx := context.Background()
	s, err := Open(ctx, filepath.Join(dir, "state.db"), clock)
	if err != nil {
		return err
	}
	defer s.Close()
	for {
		n, rev, err := Load[int](ctx, s, "n", "a")
		if err != nil && !errs.Is(err, errs.NotFound) {
			return err
		}
		if n == rounds {
			return s.Close()
		}
		var puts []Put
		for _, id := range []string{"a", "b", "c"} {
			puts = append(puts, Put{Kind: "n", ID: id, IfRev: rev, Data: n + 1})
		}
		puts = append(puts, Put{Kind: "big", ID: fmt.Sprint(n), Data: strings.Repeat("x", 20_000)})
		if err := s.Apply(ctx, puts, []NewEvent{{Kind: "n", ID: "a", Type: "bumped", Data: n + 1}}); err != nil {
			return err
		}
	}
}

func countDocs(path string) error {
	s, err := OpenReadOnly(context.Background(), path)
	if err != nil {
		return err
	}
	docs, err := s.List(context.Background(), "k")
	fmt.Println(len(docs))
	return err
}

// sound asserts that all documents are of one round, and gives it.
func sound(t *testing.T, dir string) int {
	t.Helper()
	s, err := OpenReadOnly(t.Context(), filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	all, err := LoadAll[int](t.Context(), s, "n")
	if err != nil {
		t.Fatal(err)
	}
	ev, err := s.Events(t.Context(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := len(ev)
	if want := fmt.Sprint([]int{n, n, n}); n > 0 && fmt.Sprint(all) != want || n == 0 && len(all) != 0 || count(t, s, "big") != n {
		t.Errorf("documents %v and %d of kind big with %d events", all, count(t, s, "big"), n)
	}
	if r, ok := s.(*reader); ok && r.db != nil {
		var check string
		if err := r.db.QueryRow(`PRAGMA integrity_check`).Scan(&check); err != nil || check != "ok" {
			t.Errorf("integrity check: %s, %v", check, err)
		}
	}
	return n
}

func command(dir func(int) string) func(int) *exec.Cmd {
	return func(n int) *exec.Cmd { return crashtest.Self("bump", dir(n)) }
}

func after(t *testing.T, dir func(int) string, n int) {
	t.Helper()
	sound(t, dir(n))
	if err := bump(dir(n)); err != nil {
		t.Errorf("the second run: %v", err)
	}
	if got := sound(t, dir(n)); got != rounds {
		t.Errorf("the second run left round %d", got)
	}
	if n > 0 {
		os.RemoveAll(dir(n))
	}
}

func TestKilledApply(t *testing.T) {
	t.Parallel()
	dir := crashtest.Dirs(t)
	crashtest.KillEach(t, crashtest.Options{Command: command(dir)}, func(t *testing.T, n int) { after(t, dir, n) })
}

func TestFailingDisk(t *testing.T) {
	t.Parallel()
	for _, errno := range []string{"ENOSPC", "EIO"} {
		for _, sticky := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s sticky %t", errno, sticky), func(t *testing.T) {
				t.Parallel()
				dir := crashtest.Dirs(t)
				crashtest.FailEach(t, crashtest.Options{Command: command(dir), Sticky: sticky, Sample: 12}, errno, func(t *testing.T, n int, r crashtest.Result) {
					if r.Code == 0 && sound(t, dir(n)) != rounds {
						t.Error("the run says that it is done and is not")
					}
					if r.Code != 0 && (r.Code != 1 || !sticky && (!strings.HasPrefix(r.Output, "unavailable: ") || !strings.Contains(r.Output, "hint: "))) {
						t.Errorf("exit code %d: %s", r.Code, r.Output)
					}
					after(t, dir, n)
				})
			})
		}
	}
}
