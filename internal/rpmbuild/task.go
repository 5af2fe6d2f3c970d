package rpmbuild

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpm"
)

// marker is done/<task>.json: its being there says that the task is finished
// and its packages are durable. It is written last.
type marker struct {
	Schema  int                    `json:"schema"` // 1
	Input   distro.Digest          `json:"input"`  // of the task, its number in the base and the packages that it was given
	Row     distro.NumberRow       `json:"row"`
	Kept    bool                   `json:"kept"`
	Files   []built                `json:"files"`   // in rpms/<task>/
	Records []distro.PackageRecord `json:"records"` // of Files, or the base's when kept
}

// built is one file in rpms/<task>/.
type built struct {
	Package string        `json:"package"`
	File    string        `json:"file"`
	Digest  distro.Digest `json:"digest"`
}

func (m *marker) says() string {
	switch {
	case m.Kept && len(m.Files) == 0:
		return fmt.Sprintf("number %d kept, its inputs are those of the base", m.Row.Number)
	case m.Kept:
		return fmt.Sprintf("number %d kept, the content is that of the base", m.Row.Number)
	}
	return fmt.Sprintf("number %d", m.Row.Number)
}

// given is numbers/<task>: a number that Numbers gave to this build. It is
// written before anything is built with it, so a build that goes on does not
// burn another one.
type given struct {
	Number int `json:"number"`
}

func (r *run) path(parts ...string) string {
	return filepath.Join(append([]string{r.dir}, parts...)...)
}

// task gives the marker of t, and whether it was there already.
func (r *run) task(ctx context.Context, t *task, needs map[string]*marker) (*marker, bool, error) {
	base, inBase := r.plan.baseRow(t.Key)
	input := t.input(base, needs)
	if m := r.finished(t, input); m != nil {
		return m, true, nil
	}
	log, err := newTaskLog(r.log(t), r.path("work", t.Name))
	if err != nil {
		return nil, false, err
	}
	defer log.Close()
	m := r.same[t.Name]
	if m != nil {
		log.Note("number %d kept, not built: nothing that decides its packages changed since the base release", m.Row.Number)
	} else if m, err = r.numbered(ctx, t, base, inBase, needs, log); err == nil {
		m.Row.Inputs = r.plan.inputs(t, needs)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, false, context.Cause(ctx)
		}
		return nil, false, r.explain(t, log, err)
	}
	m.Schema, m.Input = 1, input
	if err := writeJSON(r.path("done", t.Name+".json"), m); err != nil {
		return nil, false, err
	}
	return m, false, errs.Wrap(removeAll(r.path("work", t.Name)), "task %s", t.Name)
}

// failure is an error of the task itself, not of what is around it.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

func (r *run) explain(t *task, log *taskLog, err error) error {
	var own failure
	if !errors.As(err, &own) {
		return errs.Wrap(err, "task %s", t.Name)
	}
	te := &TaskError{Task: t.Name, Source: t.Key.Source, Layer: t.Layer, Log: r.log(t), Lines: log.Last(), Why: own.error}
	if log.full {
		return errs.E(errs.Unavailable, "the disk is full: "+t.Name+" cannot be built", te, errs.Hint("make room, then the same command goes on where it stopped"))
	}
	return errs.E(errs.Failed, "package "+t.Key.Source+" does not build (task "+t.Name+")", te,
		errs.Hintf("slipway log %s %s", r.plan.Build, t.Name))
}

// input is all that decides what the task makes.
func (t *task) input(base distro.NumberRow, needs map[string]*marker) distro.Digest {
	got := []string{}
	for _, n := range t.Needs {
		for _, f := range needs[n.Task].Files {
			if f.Package == n.Package {
				got = append(got, n.Package+" "+string(f.Digest))
			}
		}
	}
	return distro.DigestOf(distro.CanonicalJSON([]any{t.Input, base, got}))
}

// finished gives the marker when it is of this input and its files are whole.
func (r *run) finished(t *task, input distro.Digest) *marker {
	var m marker
	if err := readJSON(r.path("done", t.Name+".json"), &m); err != nil || m.Schema != 1 || m.Input != input {
		return nil
	}
	for _, f := range m.Files {
		p, err := rpm.ReadFile(r.path("rpms", t.Name, f.File))
		if err != nil || p.Digest != f.Digest {
			return nil
		}
	}
	return &m
}

// numbered builds with the base's number; if that gives other content, with the
// next one.
func (r *run) numbered(ctx context.Context, t *task, base distro.NumberRow, inBase bool, needs map[string]*marker, log *taskLog) (*marker, error) {
	var g given
	path := r.path("numbers", t.Name)
	if err := readJSON(path, &g); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if g.Number == 0 && inBase && !r.mayKeep(t) {
		log.Note("a package is new to number %d: build with the next one", base.Number)
	} else if g.Number == 0 && inBase {
		m, err := r.build(ctx, t, base.Number, needs, log)
		if err != nil {
			return nil, err
		}
		if records, ok := r.keeps(m, base); ok {
			m.Kept, m.Records = true, records
			return m, nil
		}
		log.Note("the content is not that of number %d: build again with the next one", base.Number)
	}
	if g.Number == 0 {
		var err error
		if g.Number, err = r.b.opt.Numbers.Next(ctx, r.plan.Build, t.Key); err != nil {
			return nil, errs.Wrap(err, "next number of %s", t.Key)
		}
		if g.Number <= base.Number {
			return nil, errs.Ef(errs.Internal, "the next number of %s is %d, the base has %d", t.Key, g.Number, base.Number)
		}
		if err := writeJSON(path, g); err != nil {
			return nil, err
		}
	}
	return r.build(ctx, t, g.Number, needs, log)
}

// mayKeep is false when a package of the task has a name that the base does not
// know: then no build of it can be what the base has.
func (r *run) mayKeep(t *task) bool {
	for _, name := range t.Outputs {
		if !slices.ContainsFunc(r.plan.Packages, func(old distro.PackageRecord) bool { return old.Name == name }) {
			return false
		}
	}
	return true
}

// keeps gives the base's records when the task's packages have the content of
// the base's row. A record that the base no longer has (its package was dropped
// and is back) cannot be kept.
func (r *run) keeps(m *marker, base distro.NumberRow) ([]distro.PackageRecord, bool) {
	if m.Row.Content != base.Content {
		return nil, false
	}
	var kept []distro.PackageRecord
	for _, rec := range m.Records {
		for _, old := range r.plan.Packages {
			if old.NEVRA() == rec.NEVRA() && old.Content == rec.Content {
				old.Kept = true
				kept = append(kept, old)
				break
			}
		}
	}
	return kept, len(kept) == len(m.Records)
}

// build runs rpmbuild with a number and moves the packages to rpms/<task>/.
func (r *run) build(ctx context.Context, t *task, number int, needs map[string]*marker, log *taskLog) (*marker, error) {
	work, out := r.path("work", t.Name), r.path("rpms", t.Name)
	for _, d := range []string{work, out, r.path("abi", t.Name), r.path("done", t.Name+".json")} {
		if err := removeAll(d); err != nil {
			return nil, errs.Wrap(err, "clean up")
		}
	}
	vars := merge(t.Vars, map[string]string{"slipway_number": fmt.Sprint(number)})
	if err := writeConfig(work, r.sb, t.Target, vars, t.Macros); err != nil {
		return nil, err
	}
	for _, d := range []string{"BUILD", "BUILDROOT", "RPMS", "sysroot"} {
		if err := os.Mkdir(filepath.Join(work, d), 0o755); err != nil {
			return nil, errs.Wrap(err, "folder of the task")
		}
	}
	for _, n := range t.Needs {
		for _, f := range needs[n.Task].Files {
			if f.Package == n.Package {
				log.Note("sysroot: %s %s", f.File, f.Digest)
				if err := extract(r.path("rpms", n.Task, f.File), filepath.Join(work, "sysroot")); err != nil {
					return nil, failure{errs.Wrap(err, "sysroot")}
				}
			}
		}
	}
	argv := append([]string{r.b.opt.Tools.Rpmbuild}, rpmConfig(t.Target)...)
	argv = append(argv, "--nodeps", "-bb", top+"/SOURCES/"+t.Key.Source+".spec")
	p := program{dir: work, show: map[string]string{"SOURCES": r.path("inputs", t.Key.Source)}, argv: argv, out: log,
		env: []string{fmt.Sprintf("SOURCE_DATE_EPOCH=%d", t.Epoch), "SLIPWAY_TOP=" + r.sb.top(work)}}
	if t.Feed {
		p.show["feed-config"] = r.path("feed-config")
	}
	log.Note("number %d", number)
	log.Note("%s %s", strings.Join(p.env[:1], " "), strings.Join(argv, " "))
	if err := r.sb.run(ctx, p); err != nil {
		return nil, failure{errs.Wrap(err, "rpmbuild")}
	}
	// The types of the libraries, where there are any, are there before the packages are.
	if err := os.Rename(filepath.Join(work, "abi"), r.path("abi", t.Name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errs.Wrap(err, "types of the task's libraries")
	}
	return r.take(t, number, filepath.Join(work, "RPMS"), out)
}

// take reads the packages of a finished rpmbuild and makes them durable.
func (r *run) take(t *task, number int, from, to string) (*marker, error) {
	m := &marker{Row: distro.NumberRow{NumberKey: t.Key, Number: number}}
	entries, err := os.ReadDir(from)
	if err != nil {
		return nil, errs.Wrap(err, "packages of the task")
	}
	contents := map[string]distro.Digest{}
	var names []string
	for _, e := range entries {
		path := filepath.Join(from, e.Name())
		if err := syncPath(path); err != nil {
			return nil, errs.Wrap(err, "package %s", e.Name())
		}
		p, err := rpm.ReadFile(path)
		if err != nil {
			return nil, failure{errs.Wrap(err, "package %s", e.Name())}
		}
		if p.Arch != t.Target.Scope && p.Arch != "noarch" {
			return nil, failure{errs.Ef(errs.Failed, "package %s is of the architecture %s, not of %s", e.Name(), p.Arch, t.Target.Scope)}
		}
		rec := distro.PackageRecord{Name: p.Name, Epoch: p.Epoch, Version: p.Version, Release: p.Release, Arch: p.Arch, Scope: p.Arch,
			SourceName: t.Key.Source, License: p.License, File: e.Name(), Digest: p.Digest, Size: p.Size, HeaderDigest: p.HeaderDigest, Content: p.ContentDigest()}
		m.Records = append(m.Records, rec)
		m.Files = append(m.Files, built{p.Name, e.Name(), p.Digest})
		contents[p.Name] = rec.Content
		names = append(names, p.Name)
	}
	sort.Strings(names)
	if strings.Join(names, " ") != strings.Join(t.Outputs, " ") {
		return nil, failure{errs.Ef(errs.Failed, "rpmbuild made the packages %s, the spec says %s", strings.Join(names, " "), strings.Join(t.Outputs, " "))}
	}
	m.Row.Content = distro.TaskContent(contents)
	if err := os.Rename(from, to); err != nil {
		return nil, errs.Wrap(err, "packages of the task")
	}
	if err := errors.Join(syncPath(to), syncPath(filepath.Dir(to))); err != nil {
		return nil, errs.Wrap(err, "packages of the task")
	}
	return m, nil
}

func extract(path, dir string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return rpm.Extract(f, info.Size(), dir)
}
