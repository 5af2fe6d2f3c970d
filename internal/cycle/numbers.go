package cycle

import (
	"context"
	"encoding/json"
	"os"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/state"
)

// numbers gives PR numbers from the series' high-water marks. A number is burned
// when it is given: it is in the state, durably, before the builder hears of it,
// and whatever becomes of the build it is never given again. Gaps are fine.
type numbers struct {
	w    *Workspace
	base distro.Version
}

// Next gives a number above every one that was given for the key and above the
// base release's own.
func (n *numbers) Next(ctx context.Context, build distro.BuildID, key distro.NumberKey) (int, error) {
	floor := 0
	if n.base != "" {
		r, err := n.w.Release(ctx, n.base)
		if err != nil {
			return 0, err
		}
		for _, row := range r.Numbers {
			if row.NumberKey == key {
				floor = row.Number
			}
		}
	}
	id := n.w.Definition.Series.Name + "/" + key.String()
	m, err := state.Upsert(ctx, n.w.State, kindNumber, id, func(m *NumberMark) error {
		m.Key = key
		m.Last = max(m.Last, floor) + 1
		m.Given = append(m.Given, GivenNumber{Number: m.Last, Build: build, At: n.w.now()})
		return nil
	})
	return m.Last, errs.Wrap(err, "number for %s", key)
}

// taskFailure is what a builder's error tells of a task that failed.
type taskFailure interface {
	FailedTask() (task, source string)
}

// failedTasks finds every failed task in an error, with its spec.
func failedTasks(err error) (tasks, sources []string) {
	var walk func(error)
	walk = func(err error) {
		if err == nil {
			return
		}
		if f, ok := err.(taskFailure); ok {
			t, s := f.FailedTask()
			tasks, sources = append(tasks, t), append(sources, s)
			return
		}
		switch u := err.(type) {
		case interface{ Unwrap() error }:
			walk(u.Unwrap())
		case interface{ Unwrap() []error }:
			for _, e := range u.Unwrap() {
				walk(e)
			}
		}
	}
	walk(err)
	return tasks, sources
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return errs.E(errs.Invalid, path+" cannot be read", err)
	}
	return nil
}
