package cycle

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"slipway/internal/check"
	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/dnf"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/gate"
	"slipway/internal/rpm"
	"slipway/internal/store"
)

// TestOptions say how a candidate is tested.
type TestOptions struct {
	Again bool // no good answer of an earlier candidate is taken
	// Seed chooses the releases that gate.upgrade_from takes at random; 0 takes a new
	// one. It is recorded with the candidate, and Replay takes the recorded one.
	Seed   uint64
	Replay bool
	// Results are files of test results, testresults.json, to import first.
	Results []string
}

// Test runs every check on a candidate ("" means the newest build) and records
// results and verdict. A blocked candidate is no error here: see Build.Candidate.
func (w *Workspace) Test(ctx context.Context, name string, opt TestOptions) (Build, error) {
	lock, err := w.lock(ctx, "work")
	if err != nil {
		return Build{}, err
	}
	defer lock.Release()
	b, err := w.candidate(ctx, name)
	if err != nil {
		return b, err
	}
	switch st, err := w.candidateStatus(ctx, b); {
	case err != nil:
		return b, err
	case st == distro.Stale, st == distro.Rejected, st == distro.Approved:
		return b, errs.E(errs.Conflict, fmt.Sprintf("candidate %s is %s: there is nothing left to test", b.ID.Candidate(), st), errs.Hint("slipway build"))
	}
	if len(opt.Results) > 0 {
		if b, err = w.importResults(ctx, b, opt.Results); err != nil {
			return b, err
		}
	}
	switch {
	case opt.Replay && b.Candidate.Seed == 0:
		return b, errs.E(errs.NotFound, "candidate "+b.ID.Candidate()+" was never tested with a seed: there is nothing to replay",
			errs.Hint("gate: {upgrade_from: {random: N}} in slipway.yaml; slipway test --seed N"))
	case opt.Replay:
		opt.Seed = b.Candidate.Seed
	case opt.Seed == 0 && w.Definition.Gate.UpgradeFrom.Random > 0:
		opt.Seed = 1 + rand.Uint64N(1_000_000_000)
	}
	tool, err := w.DNF(ctx)
	if err != nil {
		return b, err
	}
	dir := filepath.Join(w.work(b.ID), "test")
	if err := os.RemoveAll(dir); err != nil {
		return b, errs.E(errs.Unavailable, "clear "+dir, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return b, errs.E(errs.Unavailable, "make "+dir, err)
	}
	bed, err := w.bed(ctx, b, tool, dir, opt.Seed)
	if err != nil {
		return b, err
	}
	t := w.Talk.Step("test " + b.ID.Candidate())
	bed.Progress = func(id string, done, total int, text string) { t.Progress(done, total, id+": "+text) }
	used := func() usedAnswers { return usedAnswers{} }
	if opt.Again {
		bed.Answered = func(distro.Digest) (string, bool) { return "", false }
	} else if used, err = w.answered(ctx, bed); err != nil {
		return b, err
	}
	outcomes, err := w.runChecks(ctx, b, bed)
	if err != nil {
		t.Failed("")
		return b, err
	}
	if err := ctx.Err(); err != nil {
		t.Failed("")
		return b, errs.E(errs.Interrupted, "the test of "+b.ID.Candidate()+" was stopped", errs.Hint("slipway test "+b.ID.Candidate()))
	}
	results := make([]distro.CheckResult, 0, len(outcomes))
	var good []distro.Digest
	answers := used()
	for _, o := range outcomes {
		r := o.Result
		good = append(good, o.Good...)
		if r.Evidence, err = w.keepEvidence(ctx, o); err != nil {
			return b, err
		}
		if err := w.stands(ctx, b, answers.builds, o, &r); err != nil {
			return b, err
		}
		results = append(results, r)
	}
	if err := w.trace(ctx, b, results); err != nil {
		return b, err
	}
	b, err = w.update(ctx, b.ID, "tested", func(x *Build) error {
		v := w.judge(results, x.Candidate.Waivers)
		if v.Status != x.Candidate.Status {
			if err := distro.CanMove("candidate", b.ID.Candidate(), x.Candidate.Status, v.Status); err != nil {
				return err
			}
		}
		x.Candidate.Checks, x.Candidate.Verdict, x.Candidate.Tested, x.Candidate.Status, x.Candidate.Seed = results, &v, w.now(), v.Status, bed.Seed
		return nil
	})
	if err == nil {
		err = w.remember(ctx, b.ID, good, answers.inputs)
	}
	if err != nil {
		t.Failed("")
		return b, err
	}
	asked, blocking := 0, 0
	for _, r := range results {
		asked += r.Asked
	}
	for _, r := range b.Candidate.Verdict.Reasons {
		if r.Decides {
			blocking++
		}
	}
	if blocking > 0 {
		t.Failed(fmt.Sprintf("blocked by %d findings of %d questions", blocking, asked))
	} else {
		t.Done(fmt.Sprintf("ready: %d questions asked by %d checks", asked, len(results)))
	}
	os.RemoveAll(dir)
	return b, nil
}

// candidate reads a build that must have ended as a candidate.
func (w *Workspace) candidate(ctx context.Context, name string) (Build, error) {
	b, err := w.Build(ctx, name)
	if err != nil {
		return b, err
	}
	if b.Status != distro.Candidate {
		hint := errs.Hint("slipway build")
		if b.Status == distro.BuildFail {
			hint = errs.Hint("slipway log " + string(b.ID))
		}
		return b, errs.E(errs.Conflict, fmt.Sprintf("build %s is %s, not a candidate", b.ID, w.buildStatus(ctx, b)), hint)
	}
	return b, nil
}

// candidateStatus derives stale.
func (w *Workspace) candidateStatus(ctx context.Context, b Build) (distro.Status, error) {
	st := b.Candidate.Status
	if st == distro.Approved || st == distro.Rejected {
		return st, nil
	}
	s, err := w.series(ctx)
	if err != nil {
		return "", err
	}
	if s.Head != b.Base {
		return distro.Stale, nil
	}
	return st, nil
}

func (w *Workspace) judge(results []distro.CheckResult, waivers []distro.Waiver) distro.Verdict {
	required := make([]string, 0, len(w.Checks))
	for _, c := range w.Checks {
		required = append(required, c.Spec().ID)
	}
	var boards []string
	for _, b := range w.Definition.Boards {
		boards = append(boards, b.Name)
	}
	return gate.Judge(gate.Policy{Levels: levels(w.Definition.Gate.Checks), Required: required}, results, slices.Concat(waivers, quarantined(w.Definition.Quarantined(), results)), boards, w.now())
}

// Judge gives the verdict of now over the recorded results: waivers expire.
func (w *Workspace) Judge(b Build) distro.Verdict {
	return w.judge(b.Candidate.Checks, b.Candidate.Waivers)
}

func levels(m map[string]config.CheckPolicy) map[string]distro.Level {
	out := map[string]distro.Level{}
	for k, v := range m {
		out[k] = distro.Level(v)
	}
	return out
}

// bed lays out what the checks need: the candidate's feed, the origins to
// upgrade from, and who may sign what.
func (w *Workspace) bed(ctx context.Context, b Build, tool *dnf.Tool, dir string, seed uint64) (*check.Bed, error) {
	candidateKeys, err := w.candidateKeys(b, filepath.Join(dir, "keys"))
	if err != nil {
		return nil, err
	}
	// A device of an old release knows the keys of then, also one that was revoked later.
	then, err := w.revokedKeys(filepath.Join(dir, "keys"))
	if err != nil {
		return nil, err
	}
	production := slices.Concat(candidateKeys[1:], then)
	releases, err := w.Releases(ctx)
	if err != nil {
		return nil, err
	}
	s, err := w.series(ctx)
	if err != nil {
		return nil, err
	}
	gone, err := w.gone(ctx)
	if err != nil {
		return nil, err
	}
	var upto [][]distro.PackageRecord
	var all []check.Origin // every release, in order
	origin := map[distro.Version]check.Origin{}
	for _, r := range releases {
		if r.Status != distro.Published {
			continue
		}
		upto = append(upto, r.Packages)
		origin[r.Version] = check.Origin{Version: r.Version, Feed: w.testFeed(w.publicationURL(), r.Serial, production), Packages: gone.standing(feed.Newest(feed.Union(upto...)))} // nobody can install what was removed
		all = append(all, origin[r.Version])
	}
	published := gone.standing(feed.Union(upto...))
	bed := &check.Bed{Dir: dir, Tool: tool, Jobs: w.jobs(), Packages: feed.Newest(feed.Union(fresh(b.Packages), published)), Brought: public(b.Packages), Base: feed.Newest(published),
		Candidate: w.testFeed("file://"+w.candidateDir(b.ID), s.Serial+1, candidateKeys),
		Commits:   func(source string) []string { return w.commits(ctx, b, source) }}
	from, err := w.side(ctx, string(b.Base))
	if b.Base != "" && err != nil {
		return nil, err
	}
	to, err := w.side(ctx, string(b.ID))
	if err != nil {
		return nil, err
	}
	bed.Public, bed.Version, bed.ImagePolicy = b.policy(w.Definition), b.Version, w.Definition.ImagePolicy()
	if bed.Contents, err = w.imageContents(ctx, b); err != nil {
		return nil, err
	}
	bed.Read = to.read
	bed.Open = func(ctx context.Context, r distro.PackageRecord) (check.Package, error) { return to.open(ctx, r) }
	bed.History = published
	if first, ok := origin[s.First]; ok && s.First != s.Head {
		bed.First = first.Packages
	}
	bed.Kept = w.keptBy(releases, b)
	bed.Results = func(ctx context.Context) ([]check.Tested, error) { return w.tested(ctx, b, releases) }
	bed.ResultsPolicy = check.ResultsPolicy{New: distro.Level(w.Definition.Gate.Results.New), Vanished: distro.Level(w.Definition.Gate.Results.Vanished)}
	if err := w.before(ctx, bed, b); err != nil {
		return nil, err
	}
	boards, err := w.boardsOf(b.ID)
	if err != nil {
		return nil, err
	}
	if w.yocto() {
		if bed.Told, err = w.tell(ctx, b); err != nil {
			return nil, err
		}
		bed.Recipes = true
	}
	for _, board := range boards {
		bed.Boards = append(bed.Boards, board.forScopes())
	}
	if bed.Images, err = w.bootImages(ctx, b, dir); err != nil {
		return nil, err
	}
	if bed.SelfUpgrades, err = w.selfUpgrades(b, bed, all); err != nil {
		return nil, err
	}
	bed.SameButNumber = func(old, new distro.PackageRecord) bool {
		x, err := from.read(ctx, old)
		if err != nil {
			return false
		}
		y, err := to.read(ctx, new)
		return err == nil && rpm.SameButRelease(x, y)
	}
	bed.Origins = chosen(all, w.Definition.Gate.UpgradeFrom, s.First, s.Head, seed)
	if w.Definition.Gate.UpgradeFrom.PreviousSeries {
		switch o, ok, err := w.previousOrigin(ctx, production); {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err != nil: // what is asked for and cannot be tried is said
			bed.NotTried = err.Error()
		case ok:
			bed.Origins = append(bed.Origins, o)
		}
	}
	bed.Services, bed.DeviceTests, bed.GuestTests = w.Definition.Gate.UpgradeFrom.Services, w.testsIn("device"), w.testsIn("guest")
	if bed.Hide, err = w.keyFolders(); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(bed.Origins, func(o check.Origin) bool { return o.Random }) {
		bed.Seed = seed
	}
	return bed, nil
}

// chosen gives the releases to upgrade from, of all that are published, in their
// order: first and last by their names, and by the seed so many others as the policy
// takes at random. The same releases, policy and seed give the same ones.
func chosen(all []check.Origin, policy config.UpgradeFrom, first, last distro.Version, seed uint64) []check.Origin {
	var out, others []check.Origin
	for _, o := range all {
		switch {
		case len(o.Packages) == 0: // a release may be gone whole, by law
		case o.Version == first && policy.First, o.Version == last && policy.Last:
		default:
			others = append(others, o)
		}
	}
	for _, named := range []struct {
		name string
		v    distro.Version
		on   bool
	}{{"first", first, policy.First}, {"last", last, policy.Last}} {
		i := slices.IndexFunc(all, func(o check.Origin) bool { return o.Version == named.v })
		if named.on && i >= 0 && len(all[i].Packages) > 0 {
			o := all[i]
			o.Name = named.name
			out = append(out, o)
		}
	}
	order := rand.New(rand.NewPCG(seed, 0)).Perm(len(others))
	order = order[:min(policy.Random, len(order))]
	slices.Sort(order)
	for _, i := range order {
		o := others[i]
		o.Name, o.Random = "random-"+string(o.Version), true
		out = append(out, o)
	}
	return out
}

func (w *Workspace) publicationURL() string { return "file://" + w.Settings.PublicationDir() }

func (w *Workspace) testFeed(url string, serial int, keys []string) check.Feed {
	return check.Feed{Repos: w.repos(keys), Vars: map[string]string{"slipway_url": url, "slipway_snapshot": fmt.Sprintf("snapshots/%d", serial)}}
}

// candidateKeys writes the keys that may sign what a candidate's feed holds: its
// own first, then the production keys for what is published already.
func (w *Workspace) candidateKeys(b Build, dir string) ([]string, error) {
	production, err := w.writeKeys(dir)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "candidate.asc")
	if err := os.WriteFile(path, b.Candidate.PublicKey, 0o644); err != nil {
		return nil, errs.E(errs.Unavailable, "write "+path, err)
	}
	return append([]string{path}, production...), nil
}

// keepEvidence stores the transcripts of a check as blobs.
func (w *Workspace) keepEvidence(ctx context.Context, o check.Outcome) ([]distro.Artifact, error) {
	out := make([]distro.Artifact, 0, len(o.Files))
	for _, f := range o.Files {
		d, size, err := store.PutFile(ctx, w.Blobs, f.Path)
		if err != nil {
			return nil, errs.Wrap(err, "keep evidence of %s", o.Result.Spec.ID)
		}
		out = append(out, distro.Artifact{Class: distro.TaskLog, Name: "test/" + o.Result.Spec.ID + "/" + f.Name, Digest: d, Size: size})
	}
	return out, nil
}

// Waive records a named person's exception for one finding of a candidate, and
// judges again.
func (w *Workspace) Waive(ctx context.Context, name string, waiver distro.Waiver) (Build, error) {
	lock, err := w.lock(ctx, "publish")
	if err != nil {
		return Build{}, err
	}
	defer lock.Release()
	b, err := w.candidate(ctx, name)
	if err != nil {
		return b, err
	}
	if b.Candidate.Verdict == nil {
		return b, errs.E(errs.Conflict, "candidate "+b.ID.Candidate()+" has no verdict yet", errs.Hint("slipway test "+b.ID.Candidate()))
	}
	if _, id, _ := strings.Cut(waiver.Finding, "/"); id == "error" || id == "missing" || id == "nothing-asked" {
		return b, errs.E(errs.Refused, fmt.Sprintf("%s cannot be waived: the question was not asked to its end", waiver.Finding), errs.Hint("slipway test "+b.ID.Candidate()))
	}
	var keys []string
	known := false
	for _, r := range b.Candidate.Verdict.Reasons {
		keys = append(keys, r.Finding.Key())
		known = known || r.Finding.Key() == waiver.Finding
	}
	if !known {
		opts := []any{errs.Hint("slipway check " + b.ID.Candidate() + " lists the findings")}
		if n := errs.Near(waiver.Finding, keys); n != "" {
			opts = append(opts, errs.Hintf("did you mean %q?", n))
		}
		return b, errs.E(errs.NotFound, fmt.Sprintf("candidate %s has no finding %q", b.ID.Candidate(), waiver.Finding), opts...)
	}
	waiver.At = w.now()
	if !waiver.Expires.After(waiver.At) {
		return b, errs.E(errs.Invalid, "a waiver must expire in the future, not on "+waiver.Expires.Format(time.DateOnly), errs.Hint("--expires 2027-01-31"))
	}
	return w.update(ctx, b.ID, "waived", func(x *Build) error {
		x.Candidate.Waivers = append(x.Candidate.Waivers, waiver)
		v := w.judge(x.Candidate.Checks, x.Candidate.Waivers)
		if v.Status != x.Candidate.Status {
			if err := distro.CanMove("candidate", b.ID.Candidate(), x.Candidate.Status, v.Status); err != nil {
				return err
			}
		}
		x.Candidate.Status, x.Candidate.Verdict = v.Status, &v
		return nil
	})
}
