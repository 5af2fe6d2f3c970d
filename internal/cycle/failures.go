package cycle

import (
	"encoding/json"
	"os"

	"slipway/internal/errs"
)

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
