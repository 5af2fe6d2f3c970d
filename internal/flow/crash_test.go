package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/internal/crashtest"
	"slipway/internal/errs"
)

func TestMain(m *testing.M) {
	crashtest.Main(map[string]func(string) error{"cycle": func(dir string) error { return cycle(dir, nil) }})
	os.Exit(m.Run())
}

// files is a Journal in a folder, written by rename.
type files string

type stored struct {
	Rev    int64
	Record Record
}

func (f files) Load(_ context.Context, run string) (Record, error) {
	b, err := os.ReadFile(filepath.Join(string(f), run+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, errs.E(errs.NotFound, "no run "+run)
	}
	var s stored
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	s.Record.Rev = s.Rev
	return s.Record, err
}

func (f files) Save(ctx context.Context, run string, r Record) error {
	old, err := f.Load(ctx, run)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	if old.Rev != r.Rev {
		return errs.E(errs.Conflict, "run "+run)
	}
	b, err := json.Marshal(stored{r.Rev + 1, r})
	if err != nil {
		return err
	}
	path := filepath.Join(string(f), run+".json")
	if err := os.WriteFile(path+"~", b, 0o644); err != nil {
		return errs.E(errs.Unavailable, "write the journal", err)
	}
	if err := os.Rename(path+"~", path); err != nil {
		return errs.E(errs.Unavailable, "write the journal", err)
	}
	return nil
}

// cycle runs three steps, of which each adds a line to its file whenever it
// works, then leaves its mark.
func cycle(dir string, ran *[]string) error {
	var steps []Step
	for _, name := range []string{"fetch", "build", "collect"} {
		steps = append(steps, Step{Name: name, Inputs: name, Do: func(context.Context, Beat) error {
			if ran != nil {
				*ran = append(*ran, name)
			}
			f, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			if err != nil {
				return errs.E(errs.Unavailable, name, err)
			}
			defer f.Close()
			if _, err := f.WriteString("worked\n"); err != nil {
				return errs.E(errs.Unavailable, name, err)
			}
			if err := os.Mkdir(filepath.Join(dir, name+".done"), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return errs.E(errs.Unavailable, name, err)
			}
			return nil
		}})
	}
	return Run(context.Background(), files(dir), "build-1", Self("cycle"), steps, Options{HeartbeatEvery: time.Hour})
}

// resumes runs the cycle again after a run was harmed and asserts that no step
// that was journalled as done works again, and that all is done then.
func resumes(t *testing.T, dir string) {
	t.Helper()
	rec, err := files(dir).Load(t.Context(), "build-1")
	if err != nil && !errs.Is(err, errs.NotFound) {
		t.Fatalf("the journal: %v", err)
	}
	done := 0
	for _, s := range rec.Steps {
		if s.Status == Done {
			done++
			if _, err := os.Stat(filepath.Join(dir, s.Name+".done")); err != nil {
				t.Errorf("journalled as done, and is not: %v", err)
			}
		}
	}
	if got := rec.State(time.Now()); got == Running || (got == Done) != (done == 3) {
		t.Errorf("state %q with %d steps done", got, done)
	}
	var ran []string
	if err := cycle(dir, &ran); err != nil {
		t.Fatalf("the second run: %v", err)
	}
	if want := strings.Join([]string{"fetch", "build", "collect"}[done:], " "); strings.Join(ran, " ") != want {
		t.Errorf("the second run ran %q, want %q", ran, want)
	}
	if rec, err = (files(dir)).Load(t.Context(), "build-1"); err != nil || rec.State(time.Now()) != Done || len(rec.Steps) != 3 {
		t.Errorf("after the second run: %+v, %v", rec, err)
	}
}

func TestKilledRun(t *testing.T) {
	t.Parallel()
	dir := crashtest.Dirs(t)
	o := crashtest.Options{Command: func(n int) *exec.Cmd { return crashtest.Self("cycle", dir(n)) }}
	crashtest.KillEach(t, o, func(t *testing.T, n int) {
		resumes(t, dir(n))
		if n > 0 {
			os.RemoveAll(dir(n))
		}
	})
}

func TestFailingDisk(t *testing.T) {
	t.Parallel()
	for _, sticky := range []bool{false, true} {
		t.Run(fmt.Sprintf("sticky %t", sticky), func(t *testing.T) {
			t.Parallel()
			dir := crashtest.Dirs(t)
			o := crashtest.Options{Sticky: sticky, Command: func(n int) *exec.Cmd { return crashtest.Self("cycle", dir(n)) }}
			crashtest.FailEach(t, o, "ENOSPC", func(t *testing.T, n int, r crashtest.Result) {
				if r.Code != 1 || !sticky && !strings.HasPrefix(r.Output, "unavailable: ") {
					t.Errorf("exit code %d: %s", r.Code, r.Output)
				}
				resumes(t, dir(n))
			})
		})
	}
}
