package cycle

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/layers"
	"slipway/internal/state"
)

// Bisection is the search for the commit that brought a fault: which of those between a
// good and a bad build is the first bad one. It is the document of kind "bisect" of a
// series, written after every trial, so that a search goes on where it was killed.
type Bisection struct {
	Good    distro.BuildID `json:"good"`
	Bad     distro.BuildID `json:"bad"`
	Finding string         `json:"finding,omitempty"` // key; "" looks for the failure of the build
	Tasks   []string       `json:"tasks,omitempty"`   // of the failed build, that a trial must fail in
	Started time.Time      `json:"started"`
	// Repositories are those with commits between the two, in the order of the layers.
	Repositories []BisectRepository `json:"repositories"`
	Trials       []BisectTrial      `json:"trials"`
	Ended        bool               `json:"ended"`
	First        *FirstBad          `json:"first,omitempty"`    // the answer
	Suspects     []string           `json:"suspects,omitempty"` // when no trial could tell them apart: "repository commit subject"
}

// BisectRepository is a git repository of the layers.
type BisectRepository struct {
	Name string `json:"name"` // of its layers, joined by ", "
	Good string `json:"good"` // commits
	Bad  string `json:"bad"`
}

// BisectTrial is one build of a state between.
type BisectTrial struct {
	Commits []string `json:"commits"` // of the repositories, in their order
	Outcome string   `json:"outcome"` // [TrialGood], [TrialBad], [TrialSkipped]
	Text    string   `json:"text,omitempty"`
	Log     []string `json:"log,omitempty"` // the end of the log of a bad one
}

// The outcomes of a trial. Skipped says nothing of the fault: the state cannot be built,
// fails elsewhere, or the check did not come to its end.
const (
	TrialGood    = "good"
	TrialBad     = "bad"
	TrialSkipped = "skipped"
)

// FirstBad is the commit that brought the fault.
type FirstBad struct {
	Commit  string    `json:"commit"`
	Layers  []string  `json:"layers"` // that it touches; of its repository when it touches none
	Author  string    `json:"author"` // "Name <mail>"
	Date    time.Time `json:"date"`
	Subject string    `json:"subject"`
	Files   []string  `json:"files"` // "M\tpath"
}

// BisectOptions say what to look for.
type BisectOptions struct {
	Good, Bad string // builds, candidates or releases; without Good the last good one before Bad
	Finding   string // key of a finding of Bad; "" is the first that blocks
}

// Bisect narrows the commits between a good and a bad build, by builds in a folder of its
// own: no file of the workspace, no number, no record of a build is touched. Without
// options it goes on with the search that was cut off. It holds the workspace's lock for
// builds, and fails with Locked at once when another has it.
func (w *Workspace) Bisect(ctx context.Context, opt BisectOptions) (Bisection, error) {
	if w.Definition.Builder.Kind == config.Import {
		return Bisection{}, errs.E(errs.Invalid, "this series is built by another CI, and nothing here can build its commits", errs.Hint("slipway diff A B names what changed between two builds; slipway review the commits"))
	}
	lock, err := w.lock(ctx, "work")
	if err != nil {
		return Bisection{}, err
	}
	defer lock.Release()
	s, err := w.beginBisect(ctx, opt)
	if err != nil || s.Ended {
		return s, err
	}
	for !s.Ended {
		commits, err := w.nextTrial(ctx, &s)
		if err != nil {
			return s, err
		}
		if commits != nil {
			trial, err := w.try(ctx, s, commits)
			if err != nil {
				if ctx.Err() != nil {
					err = errs.E(errs.Interrupted, "the search was stopped", errs.Hint("slipway bisect goes on where it stopped"))
				}
				return s, err
			}
			s.Trials = append(s.Trials, trial)
		}
		if err := w.saveBisect(ctx, s); err != nil {
			return s, err
		}
	}
	return s, removeAll(w.internal("bisect"))
}

// DropBisect forgets the search.
func (w *Workspace) DropBisect(ctx context.Context) error {
	lock, err := w.lock(ctx, "work")
	if err != nil {
		return err
	}
	defer lock.Release()
	if err := w.saveBisect(ctx, Bisection{Ended: true}); err != nil {
		return err
	}
	return removeAll(w.internal("bisect"))
}

// LastBisect gives the search of the series, ended or not; NotFound when there is none.
func (w *Workspace) LastBisect(ctx context.Context) (Bisection, error) {
	s, _, err := state.Load[Bisection](ctx, w.State, kindBisect, w.Definition.Series.Name)
	if err == nil && s.Bad == "" {
		err = errs.E(errs.NotFound, "")
	}
	if errs.Is(err, errs.NotFound) {
		return s, errs.E(errs.NotFound, "no search was begun in this workspace", errs.Hint("slipway bisect BUILD looks for the commit that broke it"))
	}
	return s, err
}

func (w *Workspace) saveBisect(ctx context.Context, s Bisection) error {
	_, err := state.Upsert(ctx, w.State, kindBisect, w.Definition.Series.Name, func(x *Bisection) error { *x = s; return nil })
	return err
}

// beginBisect takes up the search that was cut off, or begins one.
func (w *Workspace) beginBisect(ctx context.Context, opt BisectOptions) (Bisection, error) {
	last, err := w.LastBisect(ctx)
	if err != nil && !errs.Is(err, errs.NotFound) {
		return last, err
	}
	if opt.Bad == "" {
		return last, err
	}
	s, err := w.newBisect(ctx, opt)
	if err != nil {
		return s, err
	}
	if last.Bad != "" && !last.Ended {
		if last.Good != s.Good || last.Bad != s.Bad || last.Finding != s.Finding {
			return s, errs.E(errs.Conflict, fmt.Sprintf("the search between %s and %s was not finished", last.Good, last.Bad), errs.Hint("slipway bisect goes on with it"), errs.Hint("slipway bisect --drop forgets it"))
		}
		return last, nil
	}
	return s, w.saveBisect(ctx, s)
}

func (w *Workspace) newBisect(ctx context.Context, opt BisectOptions) (Bisection, error) {
	s := Bisection{Repositories: []BisectRepository{}, Trials: []BisectTrial{}, Started: w.now()}
	if w.Definition.Builder.Kind == config.Import {
		return s, errs.E(errs.Invalid, "the builds are imported from another CI: nothing is built here, so nothing can be searched", errs.Hint("search there: slipway check names the commits"))
	}
	bad, err := w.buildOrRelease(ctx, opt.Bad)
	if err != nil {
		return s, err
	}
	s.Bad = bad.ID
	var what distro.Finding
	switch {
	case bad.Status == distro.BuildFail && opt.Finding != "":
		return s, errs.E(errs.Invalid, fmt.Sprintf("build %s failed: it has no findings", bad.ID), errs.Hint("slipway bisect "+string(bad.ID)))
	case bad.Status == distro.BuildFail:
		if bad.Failure != nil {
			s.Tasks = bad.Failure.Tasks
		}
	case bad.Status != distro.Candidate:
		return s, errs.E(errs.Conflict, fmt.Sprintf("build %s is %s: there is nothing to look for yet", bad.ID, w.buildStatus(ctx, bad)))
	default:
		if what, err = w.badFinding(bad, opt.Finding); err != nil {
			return s, err
		}
		s.Finding = what.Key()
	}
	good, err := w.goodFor(ctx, bad, what, opt.Good)
	if err != nil {
		return s, err
	}
	s.Good = good.ID
	s.Repositories, err = w.bisectRepositories(ctx, good, bad)
	if err == nil && len(s.Repositories) == 0 {
		err = errs.E(errs.NotFound, fmt.Sprintf("no layer has another commit in %s than in %s", bad.ID, good.ID), errs.Hint("the cause is no commit: "+otherInputs(good.Revision, bad.Revision)))
	}
	return s, err
}

// badFinding chooses the finding to look for.
func (w *Workspace) badFinding(bad Build, key string) (distro.Finding, error) {
	name := bad.ID.Candidate()
	if bad.Candidate.Verdict == nil {
		return distro.Finding{}, errs.E(errs.Pending, "candidate "+name+" has not been tested", errs.Hint("slipway test "+name))
	}
	var keys []string
	var first *distro.Finding
	for _, r := range w.Judge(bad).Reasons {
		keys = append(keys, r.Finding.Key())
		if key != "" && r.Finding.Key() == key || key == "" && r.Decides && first == nil {
			first = &r.Finding
		}
	}
	switch {
	case first == nil && key == "":
		return distro.Finding{}, errs.E(errs.NotFound, "nothing blocks candidate "+name, errs.Hint("--finding KEY names one of slipway check "+name))
	case first == nil:
		opts := []any{errs.Hint("slipway check " + name + " lists the findings")}
		if n := errs.Near(key, keys); n != "" {
			opts = append(opts, errs.Hintf("did you mean %q?", n))
		}
		return distro.Finding{}, errs.E(errs.NotFound, fmt.Sprintf("candidate %s has no finding %q", name, key), opts...)
	case first.Check == resultsCheck:
		return *first, errs.E(errs.Invalid, fmt.Sprintf("%s is of tests that ran elsewhere: no build here repeats them", first.Key()), errs.Hint("test builds of the commits there; slipway check names the commits"))
	case first.ID == "missing" || first.ID == "error" || first.ID == "nothing-asked" || first.ID == "off":
		return *first, errs.E(errs.Invalid, first.Key()+" is no answer of the check", errs.Hint("slipway test "+name))
	}
	return *first, nil
}

// goodFor finds the build to begin from: the one that is named, else the last good one
// before, else that of the base release.
func (w *Workspace) goodFor(ctx context.Context, bad Build, what distro.Finding, name string) (Build, error) {
	if name != "" {
		good, err := w.buildOrRelease(ctx, name)
		if err == nil && good.Status != distro.Candidate {
			err = errs.E(errs.Conflict, fmt.Sprintf("build %s is %s, and nothing good is known of it", good.ID, w.buildStatus(ctx, good)))
		}
		return good, err
	}
	builds, err := w.Builds(ctx)
	if err != nil {
		return Build{}, err
	}
	newestFirst(builds)
	if what.Check != "" {
		if good, ok := lastGood(builds, bad, what); ok {
			return good, nil
		}
	} else if i := slices.IndexFunc(builds, func(x Build) bool { return x.Status == distro.Candidate && before(x, bad) }); i >= 0 {
		return builds[i], nil
	}
	if bad.Base != "" {
		if good, err := w.buildOrRelease(ctx, string(bad.Base)); err == nil {
			return good, nil
		}
	}
	return Build{}, errs.E(errs.NotFound, fmt.Sprintf("no good build before %s is known", bad.ID), errs.Hintf("slipway bisect GOOD %s", bad.ID))
}

// buildOrRelease reads the build that a name means.
func (w *Workspace) buildOrRelease(ctx context.Context, name string) (Build, error) {
	if v, _, err := distro.ParseVersion(w.Definition.Series.Name, name); err == nil {
		r, err := w.Release(ctx, v)
		if err != nil {
			return Build{}, err
		}
		return w.Build(ctx, string(r.Build))
	}
	return w.Build(ctx, name)
}

// bisectRepositories gives the repositories whose commits differ.
func (w *Workspace) bisectRepositories(ctx context.Context, good, bad Build) ([]BisectRepository, error) {
	from := map[string]string{}
	for _, l := range good.Revision.Layers {
		from[l.Name] = l.Commit
	}
	var out []BisectRepository
	at := map[string]int{} // repository -> index
	for _, l := range bad.Revision.Layers {
		if from[l.Name] == l.Commit {
			continue
		}
		repo, err := w.layerRepository(ctx, l.Name)
		if err != nil {
			return nil, err
		}
		if from[l.Name] == "" {
			return nil, errs.E(errs.Conflict, fmt.Sprintf("layer %s is in %s and not in %s: the search needs the same layers at both ends", l.Name, bad.ID, good.ID), errs.Hintf("slipway bisect GOOD %s, with a later good build", bad.ID))
		}
		key := repo + " " + from[l.Name] + " " + l.Commit
		if i, ok := at[key]; ok {
			out[i].Name += ", " + l.Name
			continue
		}
		at[key] = len(out)
		out = append(out, BisectRepository{Name: l.Name, Good: from[l.Name], Bad: l.Commit})
	}
	return out, nil
}

// layerRepository gives the repository of a layer of the definition.
func (w *Workspace) layerRepository(ctx context.Context, name string) (string, error) {
	all := w.Definition.EnabledLayers()
	i := slices.IndexFunc(all, func(l config.Layer) bool { return l.Name == name })
	if i < 0 {
		return "", errs.E(errs.Conflict, fmt.Sprintf("slipway.yaml has no layer %s any more", name), errs.Hint("put it back to search in its commits"))
	}
	return layers.Repository(ctx, w.Dir, layerOf(all[i]))
}

// otherInputs says what differs between two revisions beside the commits.
func otherInputs(a, b distro.Revision) string {
	var out []string
	if a.Definition != b.Definition {
		out = append(out, "slipway.yaml")
	}
	for _, name := range sorted(union(a.Builder.Tools, b.Builder.Tools)) {
		if x, y := a.Builder.Tools[name], b.Builder.Tools[name]; x != y {
			out = append(out, fmt.Sprintf("%s (%s, then %s)", name, cmp.Or(x, "none"), cmp.Or(y, "none")))
		}
	}
	if string(distro.CanonicalJSON(a.Sources)) != string(distro.CanonicalJSON(b.Sources)) {
		out = append(out, "sources.lock")
	}
	if a.Base != b.Base {
		out = append(out, "the base release")
	}
	if len(out) == 0 {
		return "all other inputs are the same, too; does it fail each time?"
	}
	return strings.Join(out, ", ") + " changed"
}

// nextTrial gives the commits to try next, in the order of the repositories; nil when
// the search has ended, which it then notes.
func (w *Workspace) nextTrial(ctx context.Context, s *Bisection) ([]string, error) {
	known := map[string]string{} // commits -> outcome
	for _, t := range s.Trials {
		known[strings.Join(t.Commits, " ")] = t.Outcome
	}
	// Which repository brought it? With the first k at their bad ends, and the others at
	// their good ones, it comes with the one that turns good into bad.
	ends := func(k int) []string {
		out := make([]string, len(s.Repositories))
		for i, r := range s.Repositories {
			out[i] = r.Good
			if i < k {
				out[i] = r.Bad
			}
		}
		return out
	}
	lo, hi := 0, len(s.Repositories)
	for hi-lo > 1 {
		k := (lo + hi) / 2
		switch known[strings.Join(ends(k), " ")] {
		case TrialGood:
			lo = k
		case TrialBad:
			hi = k
		case TrialSkipped:
			s.Ended = true
			for _, r := range s.Repositories[lo:hi] {
				s.Suspects = append(s.Suspects, fmt.Sprintf("%s %.10s..%.10s", r.Name, r.Good, r.Bad))
			}
			return nil, nil
		default:
			return ends(k), nil
		}
	}
	at, r := hi-1, s.Repositories[hi-1]
	with := func(commit string) []string {
		out := ends(at)
		out[at] = commit
		return out
	}
	repo, err := w.layerRepository(ctx, strings.Split(r.Name, ", ")[0])
	if err != nil {
		return nil, err
	}
	good, bad := []string{r.Good}, r.Bad
	skipped := map[string]bool{}
	for _, t := range s.Trials {
		if c := t.Commits[at]; slices.Equal(t.Commits, with(c)) && c != r.Bad && c != r.Good {
			switch t.Outcome {
			case TrialGood:
				good = append(good, c)
			case TrialBad:
				bad = c
			default:
				skipped[c] = true
			}
		}
	}
	between, err := layers.Between(ctx, repo, bad, good)
	if err != nil {
		return nil, err
	}
	for _, c := range between {
		if !skipped[c] {
			return with(c), nil
		}
	}
	s.Ended = true
	if len(between) > 0 { // skipped, all of them
		for _, c := range append(between, bad) {
			info, _, err := layers.CommitOf(ctx, repo, c)
			if err != nil {
				return nil, err
			}
			s.Suspects = append(s.Suspects, fmt.Sprintf("%s %.10s %s", r.Name, c, info.Subject))
		}
		return nil, nil
	}
	info, files, err := layers.CommitOf(ctx, repo, bad)
	if err != nil {
		return nil, err
	}
	s.First = &FirstBad{Commit: bad, Author: info.Author, Date: info.Date, Subject: info.Subject, Files: files}
	s.First.Layers, err = w.layersTouched(ctx, s, at, files)
	return nil, err
}

// layersTouched gives the layers of a repository that have one of the files.
func (w *Workspace) layersTouched(ctx context.Context, s *Bisection, at int, files []string) ([]string, error) {
	b, err := w.Build(ctx, string(s.Bad))
	if err != nil {
		return nil, err
	}
	names := strings.Split(s.Repositories[at].Name, ", ")
	var out []string
	for _, l := range b.Revision.Layers {
		if !slices.Contains(names, l.Name) {
			continue
		}
		in := path.Clean(l.Path)
		if slices.ContainsFunc(files, func(f string) bool {
			_, name, _ := strings.Cut(f, "\t")
			return in == "." || strings.HasPrefix(name, in+"/")
		}) {
			out = append(out, l.Name)
		}
	}
	if len(out) == 0 {
		out = names
	}
	return out, nil
}
