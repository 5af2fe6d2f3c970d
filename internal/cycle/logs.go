package cycle

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// LogEntry names one log of a build.
type LogEntry struct {
	Class  distro.Class  `json:"class"`
	Name   string        `json:"name"`
	Size   int64         `json:"size"`
	Digest distro.Digest `json:"digest"`
}

// Logger is a builder whose logs are not all in logs/*.log of a build's folder, or
// whose tasks have other names than their logs.
type Logger interface {
	Logs(ctx context.Context, dir string) []distro.Output
	LogOf(name, task string) bool
}

// tasksName is the artifact that says which tasks a build ran, and which it restored.
const tasksName = "tasks.json"

// logger gives the workspace's builder when it is one.
func (w *Workspace) logger() Logger {
	if w.Builder == nil {
		return nil
	}
	b, err := w.Builder(Means{})
	if err != nil {
		return nil
	}
	l, _ := b.(Logger)
	return l
}

// Logs lists a build's logs: console, tasks, and the transcripts of its tests.
// Of a build that runs, or was cut off, they are the files as they are now,
// without a digest.
func (w *Workspace) Logs(b Build) []LogEntry {
	var out []LogEntry
	if len(b.Artifacts) == 0 {
		for _, l := range w.liveLogs(b.ID) {
			if info, err := os.Stat(l.Path); err == nil {
				out = append(out, LogEntry{Class: l.Class, Name: l.Name, Size: info.Size()})
			}
		}
		return out
	}
	add := func(as []distro.Artifact) {
		for _, a := range as {
			if (a.Class == distro.TaskLog || a.Class == distro.ConsoleLog || a.Class == distro.TestResults) && a.Name != tasksName {
				out = append(out, LogEntry{a.Class, a.Name, a.Size, a.Digest})
			}
		}
	}
	add(b.Artifacts)
	for _, r := range b.Candidate.Checks {
		add(r.Evidence)
	}
	return out
}

// liveLogs gives the logs that the builder writes, the console's first; none yet is
// no error.
func (w *Workspace) liveLogs(id distro.BuildID) []distro.Output {
	dir := filepath.Join(w.work(id), "build")
	if l := w.logger(); l != nil {
		return l.Logs(context.Background(), dir)
	}
	var out []distro.Output
	for _, pattern := range []string{"console.log", "logs/*.log"} {
		found, _ := filepath.Glob(filepath.Join(dir, pattern)) // the patterns are sound
		for _, path := range found {
			class := distro.TaskLog
			if filepath.Base(path) == "console.log" {
				class = distro.ConsoleLog
			}
			out = append(out, distro.Output{Class: class, Name: filepath.Base(path), Path: path})
		}
	}
	return out
}

// Log opens one log: by its name, with or without ".log", or by the name of its
// task; "" gives the console. The log of a task that a build restored is that of the
// build that ran it.
func (w *Workspace) Log(ctx context.Context, b Build, task string) (io.ReadCloser, error) {
	logger := w.logger()
	is := func(name string) bool {
		return name == task || strings.TrimSuffix(name, ".log") == task || logger != nil && task != "" && logger.LogOf(name, task)
	}
	var names []string
	for _, l := range w.Logs(b) {
		if is(l.Name) || task == "" && l.Class == distro.ConsoleLog && (logger == nil || l.Name == "console.log") {
			return w.openLog(ctx, b, l)
		}
		names = append(names, strings.TrimSuffix(l.Name, ".log"))
	}
	if f, err := w.logOfRestored(ctx, b, is); f != nil || err != nil {
		return f, err
	}
	opts := []any{errs.Hintf("slipway log %s --list", b.ID)}
	if n := errs.Near(task, names); n != "" {
		opts = []any{errs.Hintf("did you mean %q?", n)}
	}
	what := "log of task " + task
	if task == "" {
		what = "console log"
	}
	return nil, errs.E(errs.NotFound, fmt.Sprintf("build %s has no %s", b.ID, what), opts...)
}

func (w *Workspace) openLog(ctx context.Context, b Build, l LogEntry) (io.ReadCloser, error) {
	if l.Digest != "" {
		f, err := w.Blobs.Open(ctx, l.Digest)
		if err != nil {
			return nil, errs.Wrap(err, "log %s of %s", l.Name, b.ID)
		}
		return f, nil
	}
	live := w.liveLogs(b.ID)
	i := slices.IndexFunc(live, func(o distro.Output) bool { return o.Name == l.Name })
	if i < 0 {
		return nil, errs.E(errs.NotFound, "log "+l.Name+" of "+string(b.ID))
	}
	f, err := os.Open(live[i].Path)
	if err != nil {
		return nil, errs.E(errs.Unavailable, "log "+l.Name+" of "+string(b.ID), err)
	}
	return f, nil
}

// ranTask is an entry of tasks.json; package bitbake says more.
type ranTask struct {
	Name     string `json:"task"`
	Unihash  string `json:"unihash"`
	Restored bool   `json:"restored"`
}

func (w *Workspace) tasks(ctx context.Context, b Build) (out []ranTask, err error) {
	for _, a := range b.Artifacts {
		if a.Class != distro.TaskLog || a.Name != tasksName {
			continue
		}
		data, err := w.readBlob(ctx, a.Digest)
		if errs.Is(err, errs.NotFound) { // collected
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(data, &out); err != nil {
			return nil, errs.E(errs.Denied, tasksName+" of build "+string(b.ID)+" cannot be read", err)
		}
	}
	return out, nil
}

// logOfRestored finds the log of a task that a build took from sstate: of the newest
// other build that ran the same unihash. A task before a restored one left no trace in
// this build: its log is that of a build which ran the restored one. nil is none.
func (w *Workspace) logOfRestored(ctx context.Context, b Build, is func(name string) bool) (io.ReadCloser, error) {
	mine, err := w.tasks(ctx, b)
	if err != nil {
		return nil, err
	}
	exact, recipes := map[string]string{}, map[string]string{} // unihash -> name of the log, folder of the recipe's logs
	for _, t := range mine {
		if !t.Restored {
			continue
		}
		if is(t.Name) {
			exact[t.Unihash] = t.Name
		}
		recipes[t.Unihash] = path.Dir(t.Name)
	}
	if len(recipes) == 0 {
		return nil, nil
	}
	builds, err := w.Builds(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(builds, func(a, b Build) int { return b.Created.Compare(a.Created) })
	var before *LogEntry
	var ran Build
	for _, other := range builds {
		tasks, err := w.tasks(ctx, other)
		if err != nil {
			return nil, err
		}
		logs := w.Logs(other)
		made := map[string]bool{} // folders of recipes whose restored tasks ran there
		for _, t := range tasks {
			if t.Restored || recipes[t.Unihash] != path.Dir(t.Name) {
				continue
			}
			made[path.Dir(t.Name)] = true
			if exact[t.Unihash] != t.Name {
				continue
			}
			for _, l := range logs {
				if l.Name == t.Name && l.Digest != "" {
					return w.openLog(ctx, other, l)
				}
			}
		}
		for _, l := range logs {
			if before == nil && len(exact) == 0 && l.Class == distro.TaskLog && l.Digest != "" && made[path.Dir(l.Name)] && is(l.Name) {
				before, ran = &l, other
			}
		}
	}
	if before == nil {
		return nil, nil
	}
	return w.openLog(ctx, ran, *before)
}
