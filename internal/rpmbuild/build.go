package rpmbuild

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// TaskError is a task that was tried and failed, as the cause of an errs.Failed
// of [Builder.Build].
type TaskError struct {
	Task   string   // "libknot.x86_64"
	Source string   // the spec
	Layer  string   // the layer that it lies in
	Log    string   // absolute path of the task's log
	Lines  []string // the last lines of it
	Why    error
}

func (e *TaskError) Error() string {
	return fmt.Sprintf("%v\n  log: %s\n  | %s", e.Why, e.Log, strings.Join(e.Lines, "\n  | "))
}

// Unwrap gives the reason.
func (e *TaskError) Unwrap() error { return e.Why }

// Build runs what the plan in dir still lacks. events, if not nil, is called
// from one goroutine: "plan" first, then "start" and "done" or "failed" of each
// task ("note" for one that was finished before). After a failure nothing that
// waits for the failed task is started; all else goes on, and all failures come
// at once, each an errs.Failed with a [TaskError]. When ctx ends, every process
// is killed and the error is Interrupted; the same call goes on from there.
func (b *Builder) Build(ctx context.Context, dir string, events func(distro.BuildEvent)) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return errs.Wrap(err, "folder of the build")
	}
	p, err := readPlan(dir)
	if err != nil {
		return err
	}
	sb, err := b.start(ctx)
	if err != nil {
		return err
	}
	for _, d := range []string{"work", "rpms", "abi", "logs"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return errs.Wrap(err, "folder of the build")
		}
	}
	console, err := os.OpenFile(filepath.Join(dir, "console.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return errs.Wrap(err, "console log")
	}
	defer console.Close()
	r := &run{b: b, sb: sb, dir: dir, plan: p, done: map[string]*marker{}, same: p.same()}
	tell := func(e distro.BuildEvent) {
		e.Done, e.Total = len(r.done), len(p.Tasks)
		fmt.Fprintln(console, strings.TrimRight(fmt.Sprintf("%-6s %s %s", e.Type, e.Task, e.Text), " "))
		if events != nil {
			events(e)
		}
	}
	tell(distro.BuildEvent{Type: "plan", Text: fmt.Sprintf("%d tasks, sandbox %s", len(p.Tasks), sb)})
	for _, n := range p.Notes {
		tell(distro.BuildEvent{Type: "note", Text: n})
	}
	return r.all(ctx, tell)
}

func readPlan(dir string) (*plan, error) {
	var p plan
	err := readJSON(filepath.Join(dir, "plan.json"), &p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errs.E(errs.NotFound, "this folder has no plan of a build")
	}
	if err == nil && p.Schema != planSchema {
		err = errs.Ef(errs.Invalid, "plan.json has schema %d, this program knows %d", p.Schema, planSchema)
	}
	return &p, err
}

// run is one call of Build.
type run struct {
	b    *Builder
	sb   *sandbox
	dir  string
	plan *plan
	done map[string]*marker // of finished tasks; only the goroutine of all changes it
	same map[string]*marker // of tasks that need not be built, see plan.same
}

type result struct {
	t     *task
	m     *marker
	again bool // it was finished before
	err   error
}

func (r *run) all(ctx context.Context, tell func(distro.BuildEvent)) error {
	results := make(chan result)
	started := map[string]bool{}
	var failed errs.List
	stop := false // something is wrong that is no task's fault
	for running := 0; ; {
		for i := range r.plan.Tasks {
			t := &r.plan.Tasks[i]
			if stop || ctx.Err() != nil || running >= r.b.opt.Jobs {
				break
			}
			if started[t.Name] || !r.ready(t) {
				continue
			}
			started[t.Name] = true
			running++
			needs := map[string]*marker{}
			for _, n := range t.After {
				needs[n] = r.done[n]
			}
			if r.same[t.Name] == nil {
				tell(distro.BuildEvent{Type: "start", Task: t.Name, Log: r.log(t)})
			}
			go func() {
				m, again, err := r.task(ctx, t, needs)
				results <- result{t, m, again, err}
			}()
		}
		if running == 0 {
			break
		}
		res := <-results
		running--
		switch {
		case res.err == nil:
			r.done[res.t.Name] = res.m
			e := distro.BuildEvent{Type: "done", Task: res.t.Name, Text: res.m.says(), Log: r.log(res.t)}
			if r.same[res.t.Name] != nil {
				e.Type = "kept"
			} else if res.again {
				e.Type, e.Text = "note", "was finished before: "+e.Text
			}
			tell(e)
		case ctx.Err() != nil:
		default:
			failed = append(failed, res.err)
			var te *TaskError
			stop = stop || !errors.As(res.err, &te)
			why := res.err
			if te != nil {
				why = te.Why
			}
			tell(distro.BuildEvent{Type: "failed", Task: res.t.Name, Text: why.Error(), Log: r.log(res.t)})
		}
	}
	if ctx.Err() != nil {
		return errs.E(errs.Interrupted, fmt.Sprintf("stopped with %d of %d tasks done", len(r.done), len(r.plan.Tasks)), context.Cause(ctx),
			errs.Hint("the same command goes on where it stopped"))
	}
	var waiting []string
	for _, t := range r.plan.Tasks {
		if !started[t.Name] {
			waiting = append(waiting, t.Name)
		}
	}
	if len(failed) > 0 && len(waiting) > 0 && !stop {
		tell(distro.BuildEvent{Type: "note", Text: "not started, because they wait for a failed task: " + strings.Join(waiting, ", ")})
	}
	return failed.Err()
}

func (r *run) ready(t *task) bool {
	for _, n := range t.After {
		if r.done[n] == nil {
			return false
		}
	}
	return true
}

func (r *run) log(t *task) string { return filepath.Join(r.dir, "logs", t.Name+".log") }
