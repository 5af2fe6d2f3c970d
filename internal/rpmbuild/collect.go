package rpmbuild

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sort"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Collect gives what a finished build left, sorted within each class:
//
//   - packages: "<scope>/<file>.rpm" with its record; a kept one has the base's
//     record, Kept set and no path
//   - task-log: "<task>.log"; console-log: "console.log"
//   - buildhistory: "abi/<task>/+usr+lib+libknot.so.1.0.abi.xml", the types of a library
//     with debug information, as abidw writes them before it is stripped; of tasks that ran
//   - pr-database: "numbers.json", a sorted list of distro.NumberRow: the rows of
//     all tasks, and the rows of the base that no task of this build has
//   - feed-configuration: the files of Seed.FeedConfig
//   - configuration: "rpmbuild/plan.json"
//
// A build that is not finished gives one error and nothing else.
func (b *Builder) Collect(ctx context.Context, dir string) iter.Seq2[distro.Output, error] {
	return func(yield func(distro.Output, error) bool) {
		outputs, err := b.outputs(ctx, dir)
		if err != nil {
			yield(distro.Output{}, errs.Wrap(err, "collect the build"))
			return
		}
		for _, o := range outputs {
			if !yield(o, nil) {
				return
			}
		}
	}
}

func (b *Builder) outputs(ctx context.Context, dir string) ([]distro.Output, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	p, err := readPlan(dir)
	if err != nil {
		return nil, err
	}
	var packages, logs []distro.Output
	rows := map[distro.NumberKey]distro.NumberRow{}
	for _, r := range p.Numbers {
		rows[r.NumberKey] = r
	}
	for _, t := range p.Tasks {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var m marker
		err := readJSON(filepath.Join(dir, "done", t.Name+".json"), &m)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errs.E(errs.Conflict, "task "+t.Name+" is not finished", errs.Hint("build it first: the same command goes on where it stopped"))
		} else if err != nil {
			return nil, err
		}
		rows[t.Key] = m.Row
		for _, rec := range m.Records {
			o := distro.Output{Class: distro.Packages, Name: rec.Scope + "/" + rec.File, Package: &rec}
			if !rec.Kept {
				o.Path = filepath.Join(dir, "rpms", t.Name, rec.File)
			}
			packages = append(packages, o)
		}
		described, err := filepath.Glob(filepath.Join(dir, "abi", t.Name, "*.abi.xml"))
		if err != nil {
			return nil, err
		}
		for _, path := range described { // sorted
			logs = append(logs, distro.Output{Class: distro.Buildhistory, Name: "abi/" + t.Name + "/" + filepath.Base(path), Path: path})
		}
		logs = append(logs, distro.Output{Class: distro.TaskLog, Name: t.Name + ".log", Path: filepath.Join(dir, "logs", t.Name+".log")})
	}
	sort.Slice(packages, func(i, j int) bool { return packages[i].Name < packages[j].Name })
	numbers := filepath.Join(dir, "numbers.json")
	if err := writeJSON(numbers, sortedRows(rows)); err != nil {
		return nil, err
	}
	all := append(packages, logs...)
	all = append(all,
		distro.Output{Class: distro.ConsoleLog, Name: "console.log", Path: filepath.Join(dir, "console.log")},
		distro.Output{Class: distro.PRDatabase, Name: "numbers.json", Path: numbers},
		distro.Output{Class: distro.Configuration, Name: "rpmbuild/plan.json", Path: filepath.Join(dir, "plan.json")})
	feed := filepath.Join(dir, "feed-config")
	err = filepath.WalkDir(feed, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(feed, path)
		all = append(all, distro.Output{Class: distro.FeedConfiguration, Name: filepath.ToSlash(rel), Path: path})
		return err
	})
	if err == nil {
		err = present(all)
	}
	return all, err
}

func sortedRows(rows map[distro.NumberKey]distro.NumberRow) []distro.NumberRow {
	list := make([]distro.NumberRow, 0, len(rows))
	for _, r := range rows {
		list = append(list, r)
	}
	sort.Slice(list, func(i, j int) bool {
		a, b := list[i], list[j]
		if a.Source != b.Source {
			return a.Source < b.Source
		}
		if c := distro.RPMVerCmp(a.Version, b.Version); c != 0 {
			return c < 0
		}
		if a.Version != b.Version {
			return a.Version < b.Version
		}
		return a.Arch < b.Arch
	})
	return list
}

// present checks that no file went away since its task was finished.
func present(all []distro.Output) error {
	for _, o := range all {
		if o.Path == "" {
			continue
		}
		if _, err := os.Stat(o.Path); err != nil {
			return errs.E(errs.NotFound, string(o.Class)+" "+o.Name+" of the build is gone", err)
		}
	}
	return nil
}
