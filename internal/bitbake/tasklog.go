package bitbake

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"slipway/internal/distro"
)

// TasksName is the artifact, of class task-log, that lists the tasks of a build.
const TasksName = "tasks.json"

// Task is one task of a build, as BitBake's stamps have it.
type Task struct {
	Name     string `json:"task"` // "core2-64-fixture-linux/hello/1.0/log.do_compile": of its log
	Unihash  string `json:"unihash"`
	Restored bool   `json:"restored,omitempty"` // from sstate: it did not run
}

// stamp is "<version>.do_<task>[_setscene].<unihash>[.<machine>]".
var stamp = regexp.MustCompile(`^(.+)\.(do_[A-Za-z0-9_]+?)(_setscene)?\.([0-9a-f]{64})(?:\.[^.]+)?$`)

// ranTasks reads tmp/stamps: what ran, and what was restored, with unihashes. Sorted.
func ranTasks(ctx context.Context, t tree) ([]Task, error) {
	out := []Task{}
	err := t.walk(ctx, "tmp/stamps", func(rel, path string) error {
		parts := strings.Split(rel, "/")
		m := stamp.FindStringSubmatch(parts[len(parts)-1])
		if len(parts) == 3 && m != nil {
			out = append(out, Task{Name: strings.Join(parts[:2], "/") + "/" + m[1] + "/log." + m[2], Unihash: m[4], Restored: m[3] != ""})
		}
		return nil
	})
	slices.SortFunc(out, func(a, b Task) int {
		return strings.Compare(a.Name+" "+a.Unihash, b.Name+" "+b.Unihash)
	})
	return slices.Compact(out), err
}

// taskLogs gives the newest log of each task: BitBake links log.do_x to log.do_x.<pid>.
func taskLogs(ctx context.Context, t tree) ([]distro.Output, error) {
	var out []distro.Output
	err := t.walk(ctx, "tmp/work", func(rel, path string) error {
		parts := strings.Split(rel, "/")
		if len(parts) != 5 || parts[3] != "temp" || !strings.HasPrefix(parts[4], "log.do_") {
			return nil
		}
		task, pid, ok := strings.Cut(strings.TrimPrefix(parts[4], "log."), ".")
		if target, err := os.Readlink(filepath.Join(filepath.Dir(path), "log."+task)); !ok || err != nil || target != "log."+task+"."+pid {
			return nil
		}
		out = append(out, distro.Output{Class: distro.TaskLog, Name: strings.Join(parts[:3], "/") + "/log." + task, Path: path})
		return nil
	})
	return out, err
}

// Logs gives the logs of a build as they are now, the console's first: of one that
// runs, that was stopped, or that failed. No folder yet is no log.
func (b *Builder) Logs(ctx context.Context, dir string) []distro.Output {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil
	}
	var out []distro.Output
	if path := filepath.Join(dir, "console.log"); exists(path) {
		out = append(out, distro.Output{Class: distro.ConsoleLog, Name: "console.log", Path: path})
	}
	top := filepath.Join(dir, "topdir")
	if path := filepath.Join(top, "bitbake-cookerdaemon.log"); regular(path) {
		out = append(out, distro.Output{Class: distro.ConsoleLog, Name: filepath.Base(path), Path: path})
	}
	logs, _ := taskLogs(ctx, tree{top: top}) // what cannot be read is no log
	return append(out, logs...)
}

// LogOf reports whether the log of that name is the one of a task as people write
// it: "hello:do_compile", "hello-1.0-r0:do_compile" (as BitBake does) or the name itself.
func (b *Builder) LogOf(name, task string) bool { return logOf(name, task) }

func logOf(name, task string) bool {
	if name == task {
		return true
	}
	parts := strings.Split(name, "/")
	recipe, do, ok := strings.Cut(task, ":")
	if len(parts) != 4 || !ok || parts[3] != "log."+do && parts[3] != "log.do_"+do {
		return false
	}
	return recipe == parts[1] || strings.HasPrefix(recipe, parts[1]+"-"+parts[2])
}
