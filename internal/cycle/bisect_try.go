package cycle

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"slipway/internal/check"
	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/layers"
	"slipway/internal/state"
	"slipway/internal/store"
)

// try builds a state between good and bad in a workspace of its own below
// .slipway/bisect: the layers at those commits, what is written over the state and the
// artifact store in a copy that is dropped, the publication read-only.
func (w *Workspace) try(ctx context.Context, s Bisection, commits []string) (BisectTrial, error) {
	trial := BisectTrial{Commits: commits}
	bad, err := w.Build(ctx, string(s.Bad))
	if err != nil {
		return trial, err
	}
	t := w.Talk.Step("try " + w.stateOf(ctx, s, commits))
	err = w.tryIn(ctx, s, bad, &trial, t)
	if err != nil {
		t.Failed("")
		return trial, err
	}
	t.Done(strings.TrimSuffix(trial.Outcome+": "+firstOf(trial.Text), ": "))
	return trial, nil
}

func firstOf(text string) string { line, _, _ := strings.Cut(text, "\n"); return line }

// stateOf names what is tried: the commit that is neither end of its repository.
func (w *Workspace) stateOf(ctx context.Context, s Bisection, commits []string) string {
	for i, r := range s.Repositories {
		if c := commits[i]; c != r.Good && c != r.Bad {
			name := strings.Split(r.Name, ", ")[0]
			if repo, err := w.layerRepository(ctx, name); err == nil {
				if info, _, err := layers.CommitOf(ctx, repo, c); err == nil {
					return fmt.Sprintf("%.10s %s", c, info.Subject)
				}
			}
			return fmt.Sprintf("%s at %.10s", r.Name, c)
		}
	}
	var at []string
	for i, r := range s.Repositories {
		at = append(at, fmt.Sprintf("%s at %.10s", r.Name, commits[i]))
	}
	return strings.Join(at, ", ")
}

func (w *Workspace) tryIn(ctx context.Context, s Bisection, bad Build, trial *BisectTrial, t Task) error {
	dir := w.internal("bisect")
	if err := removeAll(dir); err != nil {
		return err
	}
	scratch, err := w.scratch(ctx, s, bad, trial.Commits, dir)
	if errs.Is(err, errs.Invalid) {
		trial.Outcome, trial.Text = TrialSkipped, err.Error()
		return nil
	}
	if err != nil {
		return err
	}
	scratch.Talk = within{t}
	b, err := scratch.Make(ctx, string(bad.Version))
	switch {
	case err == nil && s.Finding == "":
		trial.Outcome = TrialGood
		return nil
	case err != nil:
		return scratch.failedTrial(ctx, s, b, err, trial)
	}
	id, key, _ := strings.Cut(s.Finding, "/")
	scratch.Checks = slices.DeleteFunc(slices.Clone(w.Checks), func(c check.Check) bool { return c.Spec().ID != id })
	if len(scratch.Checks) == 0 {
		return errs.E(errs.NotFound, "there is no check "+id+" any more", errs.Hint("slipway checks lists them"))
	}
	b, err = scratch.Test(ctx, string(b.ID), TestOptions{Seed: bad.Candidate.Seed})
	if err != nil {
		return err
	}
	return scratch.testedTrial(ctx, b, key, trial)
}

// failedTrial judges a build that did not end as a candidate. What is the machine's fault
// is an error.
func (w *Workspace) failedTrial(ctx context.Context, s Bisection, b Build, cause error, trial *BisectTrial) error {
	switch errs.KindOf(cause) {
	case errs.Interrupted, errs.Unavailable, errs.Locked:
		return cause
	}
	if ctx.Err() != nil {
		return cause
	}
	trial.Outcome, trial.Text = TrialSkipped, cause.Error()
	if b.ID == "" {
		return nil
	}
	b, err := w.Build(ctx, string(b.ID))
	if err != nil || b.Status != distro.BuildFail || b.Failure == nil {
		return err
	}
	trial.Text = b.Failure.Text
	task := ""
	for _, x := range b.Failure.Tasks {
		if slices.Contains(s.Tasks, x) {
			task = x
		}
	}
	if s.Finding != "" || len(s.Tasks) > 0 && task == "" { // another fault hides ours
		return nil
	}
	trial.Outcome = TrialBad
	f, err := w.Log(ctx, b, task)
	if err != nil {
		return nil // a build that failed before its first task has none
	}
	defer f.Close()
	trial.Log, err = lastLines(f, 20)
	return err
}

// testedTrial judges a candidate that the check was asked about.
func (w *Workspace) testedTrial(ctx context.Context, b Build, id string, trial *BisectTrial) error {
	for _, r := range b.Candidate.Checks {
		if r.Error != "" || r.Asked == 0 {
			trial.Outcome, trial.Text = TrialSkipped, "the check did not come to its end: "+r.Error+r.Note
			return nil
		}
		for _, f := range r.Findings {
			if f.ID == id {
				trial.Outcome, trial.Text, trial.Log = TrialBad, f.Text, f.Evidence
				return nil
			}
		}
	}
	trial.Outcome = TrialGood
	return nil
}

// within tells the steps of a trial as parts of one step.
type within struct{ Task }

// scratch makes the workspace of a trial. What cannot be built for what the commits hold
// is Invalid.
func (w *Workspace) scratch(ctx context.Context, s Bisection, bad Build, commits []string, dir string) (*Workspace, error) {
	commit := map[string]string{} // layer -> commit
	for _, l := range bad.Revision.Layers {
		commit[l.Name] = l.Commit
	}
	for i, r := range s.Repositories {
		for _, name := range strings.Split(r.Name, ", ") {
			commit[name] = commits[i]
		}
	}
	home, err := filepath.EvalSymlinks(w.Dir)
	if err != nil {
		return nil, errs.E(errs.NotFound, "the workspace "+w.Dir, err)
	}
	own, err := layers.Toplevel(ctx, home)
	if err != nil {
		return nil, err
	}
	there := home // what corresponds to dir
	if own != "" {
		there = own
	}
	place := func(path string) string {
		rel, err := filepath.Rel(there, path)
		if err != nil || !filepath.IsLocal(rel) {
			rel = "."
		}
		return filepath.Join(dir, rel)
	}
	// The workspace's own repository first, then those that lie in it.
	cloned := map[string]string{}
	local := []config.Layer{}
	for _, l := range w.Definition.EnabledLayers() {
		if l.URL == "" && commit[l.Name] != "" {
			local = append(local, l)
		}
	}
	repos := make([]string, len(local))
	for i, l := range local {
		if repos[i], err = layers.Repository(ctx, w.Dir, layerOf(l)); err != nil {
			return nil, err
		}
	}
	for _, mine := range []bool{true, false} {
		for i, l := range local {
			if (repos[i] == own) != mine || cloned[repos[i]] != "" {
				continue
			}
			if err := layers.Clone(ctx, repos[i], commit[l.Name], place(repos[i])); err != nil {
				return nil, err
			}
			cloned[repos[i]] = commit[l.Name]
		}
	}
	out := *w
	out.Dir = place(home)
	if cloned[own] == "" { // its definition is in no layer's repository
		for _, name := range []string{"slipway.yaml", "sources.lock"} {
			data, err := os.ReadFile(filepath.Join(w.Dir, name))
			if os.IsNotExist(err) {
				continue
			}
			if err == nil {
				err = writeWhole(filepath.Join(out.Dir, name), data)
			}
			if err != nil {
				return nil, errs.E(errs.Unavailable, "copy "+name, err)
			}
		}
	}
	if out.Definition, err = config.LoadDefinition(filepath.Join(out.Dir, "slipway.yaml")); err != nil {
		return nil, errs.E(errs.Invalid, "slipway.yaml of that commit", err)
	}
	if out.Definition.Series.Name != w.Definition.Series.Name || out.Definition.Distribution != w.Definition.Distribution {
		return nil, errs.E(errs.Invalid, "slipway.yaml of that commit is of another series")
	}
	pin := func(all []config.Layer) {
		for i := range all {
			if c := commit[all[i].Name]; all[i].URL != "" && c != "" {
				all[i].Commit = c
			}
		}
	}
	pin(out.Definition.Layers)
	for i := range out.Definition.Components {
		pin(out.Definition.Components[i].Layers)
	}
	if err := os.MkdirAll(out.internal(), 0o755); err != nil {
		return nil, errs.E(errs.Unavailable, "make "+out.internal(), err)
	}
	for _, shared := range []string{"layers", "mirror"} { // mirrors of git, and of what was released: read
		if _, err := os.Stat(w.internal(shared)); err == nil {
			if err := os.Symlink(w.internal(shared), out.internal(shared)); err != nil {
				return nil, errs.E(errs.Unavailable, "make "+out.internal(shared), err)
			}
		}
	}
	blobs, err := store.OpenBlobs(out.internal("store"))
	if err != nil {
		return nil, err
	}
	out.Blobs = blobsOver{blobs, w.Blobs}
	out.Tree = store.ReadTree(w.Settings.PublicationDir())
	if out.State, err = w.stateAt(ctx, bad); err != nil {
		return nil, err
	}
	out.Builder = func(m Means) (Builder, error) {
		if m.Definition == nil {
			m.Definition = out.Definition
		}
		return w.Builder(m)
	}
	return &out, nil
}

// stateAt gives the state as it was for a build: its base is the head, later releases
// and unfinished builds are not there. What is written stays in memory.
func (w *Workspace) stateAt(ctx context.Context, bad Build) (state.Store, error) {
	s, err := w.series(ctx)
	if err != nil {
		return nil, err
	}
	serial := s.Serial
	if s.Head != bad.Base {
		serial = 0
		if bad.Base != "" {
			r, err := w.Release(ctx, bad.Base)
			if err != nil {
				return nil, err
			}
			serial = r.Serial
		}
	}
	over := state.Overlay(w.State, func(d state.Doc) bool {
		switch d.Kind {
		case kindRelease:
			return bad.Base == "" || distro.Version(d.ID).Compare(bad.Base) > 0
		case kindBuild:
			var b struct {
				Status distro.Status `json:"status"`
			}
			return json.Unmarshal(d.Data, &b) == nil && b.Status == distro.Running
		}
		return false
	}, w.Clock)
	_, err = state.Upsert(ctx, over, kindSeries, w.Definition.Series.Name, func(x *Series) error {
		x.Name, x.Head, x.Serial = w.Definition.Series.Name, bad.Base, serial
		if bad.Base == "" {
			x.First = ""
		}
		return nil
	})
	return over, err
}

// blobsOver reads two stores and writes into the first.
type blobsOver struct {
	store.Blobs
	under store.Blobs
}

func (b blobsOver) Open(ctx context.Context, d distro.Digest) (store.Blob, error) {
	f, err := b.Blobs.Open(ctx, d)
	if errs.Is(err, errs.NotFound) {
		return b.under.Open(ctx, d)
	}
	return f, err
}

func (b blobsOver) Stat(ctx context.Context, d distro.Digest) (int64, error) {
	n, err := b.Blobs.Stat(ctx, d)
	if errs.Is(err, errs.NotFound) {
		return b.under.Stat(ctx, d)
	}
	return n, err
}

func writeWhole(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// lastLines reads the last lines of a log, of its last 64 KiB.
func lastLines(r io.Reader, n int) ([]string, error) {
	const most = 64 << 10
	var buf []byte
	chunk := make([]byte, most)
	for {
		k, err := r.Read(chunk)
		buf = append(buf, chunk[:k]...)
		buf = buf[max(0, len(buf)-most):]
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, errs.E(errs.Unavailable, "read the log", err)
		}
	}
	lines := strings.Split(strings.TrimRight(strings.ToValidUTF8(string(buf), "\ufffd"), "\n"), "\n")
	return lines[max(0, len(lines)-n):], nil
}
