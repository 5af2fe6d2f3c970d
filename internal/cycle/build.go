package cycle

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/flow"
	"slipway/internal/keyring"
	"slipway/internal/prserv/fork"
	"slipway/internal/state"
	"slipway/internal/store"
)

// Make builds the workspace's revision for a version ("" means the next) and
// ends with a candidate. A build that was cut off and has the same revision is
// resumed. It fails with Locked at once when the workspace is busy.
func (w *Workspace) Make(ctx context.Context, version string) (Build, error) {
	return w.MakeFrom(ctx, version, nil)
}

// MakeFrom is Make for a series that another CI builds: nothing is built, and what it
// handed over becomes the candidate.
func (w *Workspace) MakeFrom(ctx context.Context, version string, from *Handed) (Build, error) {
	if err := w.mayImport(from); err != nil {
		return Build{}, err
	}
	lock, err := w.lock(ctx, "work")
	if err != nil {
		return Build{}, err
	}
	defer lock.Release()
	if err := w.oneSeries(ctx); err != nil {
		return Build{}, err
	}
	if err := w.settleDatabases(ctx); err != nil {
		return Build{}, err
	}
	numbers := &numbers{}
	if numbers.databases, err = w.openDatabases(ctx); err != nil {
		return Build{}, err
	}
	defer numbers.databases.Close()
	builder, err := w.Builder(Means{Numbers: numbers, Import: from, SState: w.mirrorDir(distro.SState), Downloads: w.mirrorDir(distro.Downloads),
		Serve: func(ctx context.Context, id distro.BuildID) (*fork.Build, error) {
			return numbers.databases.Fork(ctx, w.overlay(id))
		}})
	if err != nil {
		return Build{}, err
	}
	var imported *importing
	if from != nil {
		if imported, err = w.lookAt(ctx, builder, version, *from); err != nil {
			return Build{}, err
		}
		defer imported.Close()
	}
	t := w.Talk.Step("capture")
	c, err := w.capture(ctx, builder, imported)
	if err != nil {
		t.Failed("")
		return Build{}, err
	}
	t.Done(fmt.Sprintf("revision %s", c.revision.Digest().Short()))
	b, err := w.reserve(ctx, version, c)
	if err != nil {
		return b, err
	}
	if err := numbers.startFrom(ctx, w, b.Base); err != nil {
		return b, err
	}
	err = w.run(ctx, "build/"+string(b.ID), w.buildSteps(&b, c, builder, numbers))
	resume := errs.Hint("slipway build goes on where it stopped")
	if from != nil {
		resume = errs.Hint("the same command goes on where it stopped")
	}
	var damaged damagedPublication
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return b, errs.E(errs.Interrupted, fmt.Sprintf("build %s was stopped", b.ID), resume)
	case errs.Is(err, errs.Unavailable), errs.Is(err, errs.Locked), errors.As(err, &damaged):
		// The machine's fault, not the revision's: nothing is decided, the cure and the same command finish it.
		return b, errs.E(errs.KindOf(err), fmt.Sprintf("build %s could not go on", b.ID), err, resume)
	default:
		return b, w.fail(ctx, b, err)
	}
	return w.Build(ctx, string(b.ID))
}

// oneSeries refuses a definition that speaks of another series than the builds
// here: versions, numbers and files of two would mix.
func (w *Workspace) oneSeries(ctx context.Context) error {
	all, err := w.Builds(ctx)
	if err != nil {
		return err
	}
	for _, b := range all {
		if b.Series != w.Definition.Series.Name || b.Revision.Distribution != w.Definition.Distribution {
			return errs.E(errs.Conflict, fmt.Sprintf("this workspace holds builds of %s, series %s, and slipway.yaml now says %s, series %s", b.Revision.Distribution, b.Series,
				w.Definition.Distribution, w.Definition.Series.Name), errs.Hint("a series has a workspace of its own: name the old one again here, and build the new one in another folder"))
		}
	}
	return nil
}

// reserve finds the build to resume, or reserves a version and begins a new one.
func (w *Workspace) reserve(ctx context.Context, version string, c *captured) (Build, error) {
	name := w.Definition.Series.Name
	all, err := w.Builds(ctx)
	if err != nil {
		return Build{}, err
	}
	id := c.revision.Digest()
	for _, b := range all {
		if b.Status == distro.BuildFail {
			os.RemoveAll(w.work(b.ID))
		}
	}
	// We hold the lock: whatever is still running has lost its process.
	for _, b := range all {
		if b.Status != distro.Running {
			continue
		}
		if b.RevisionID == id && (version == "" || string(b.Version) == version) {
			w.Talk.Step("build " + string(b.ID)).Done("was cut off; going on where it stopped")
			return b, nil
		}
		w.fail(ctx, b, errs.E(errs.Failed, "cut off, and not resumed: the revision or the version asked for is another one now"))
	}
	var b Build
	for range 3 { // another writer may change the series document meanwhile
		s, err := w.series(ctx)
		if err != nil {
			return b, err
		}
		v, err := w.nextVersion(ctx, s, version)
		if err != nil {
			return b, err
		}
		n := s.Builds[string(v)] + 1
		b = Build{ID: distro.NewBuildID(v, n), Version: v, Series: name, Status: distro.Running, Created: w.now(), Base: s.Head, Revision: c.revision, RevisionID: id}
		_, err = state.Upsert(ctx, w.State, kindSeries, name, func(x *Series) error {
			if x.Builds[string(v)] >= n || x.Head != s.Head {
				return errs.E(errs.Conflict, "series "+name+" changed meanwhile")
			}
			x.Name = name
			if x.Builds == nil {
				x.Builds = map[string]int{}
			}
			x.Builds[string(v)] = n
			return nil
		})
		if errs.Is(err, errs.Conflict) {
			continue
		}
		if err != nil {
			return b, err
		}
		_, err = state.Upsert(ctx, w.State, kindBuild, string(b.ID), func(x *Build) error { *x = b; return nil },
			state.NewEvent{Kind: kindBuild, ID: string(b.ID), Type: "started"})
		return b, err
	}
	return b, errs.E(errs.Conflict, "series "+name+" is being changed by others", errs.Hint("try again"))
}

// nextVersion checks the version that was asked for, or finds the next: the
// lowest that is reserved and not released, else the one after the head.
func (w *Workspace) nextVersion(ctx context.Context, s Series, asked string) (distro.Version, error) {
	name := w.Definition.Series.Name
	releases, err := w.Releases(ctx)
	if err != nil {
		return "", err
	}
	highest := 0
	for _, r := range releases {
		highest = max(highest, r.Version.N())
	}
	if asked == "" {
		return distro.NewVersion(name, highest+1), nil
	}
	v, n, err := distro.ParseVersion(name, asked)
	if err != nil {
		return "", err
	}
	for _, r := range releases {
		if r.Version == v {
			return "", errs.E(errs.Conflict, fmt.Sprintf("release %s exists: a version is given once", v), errs.Hintf("slipway build --for %s", distro.NewVersion(name, highest+1)))
		}
	}
	if n <= highest {
		return "", errs.E(errs.Conflict, fmt.Sprintf("version %s would go backwards: release %s exists", v, distro.NewVersion(name, highest)), errs.Hintf("slipway build --for %s", distro.NewVersion(name, highest+1)))
	}
	return v, nil
}

func (w *Workspace) buildSteps(b *Build, c *captured, builder Builder, numbers *numbers) []flow.Step {
	dir := w.work(b.ID)
	in := string(b.RevisionID)
	return []flow.Step{
		{Name: "restore", Inputs: in, Do: func(ctx context.Context, beat flow.Beat) error {
			title := "restore the base"
			if b.Base != "" {
				title += ", release " + string(b.Base)
			}
			t := w.Talk.Step(title)
			seed, err := w.seed(ctx, *b, c)
			if err == nil {
				err = builder.Prepare(ctx, b.Revision, seed, filepath.Join(dir, "build"))
			}
			if err := end(t, err, fmt.Sprintf("%d packages, %d numbers", len(seed.Packages), len(seed.Numbers))); err != nil {
				return err
			}
			if d, ok := builder.(Describer); ok {
				return w.describeBoards(ctx, d, b.ID, filepath.Join(dir, "build"))
			}
			return nil
		}},
		{Name: "build", Inputs: in, Do: func(ctx context.Context, beat flow.Beat) error {
			title := "build"
			if c.imported != nil {
				title = "take"
			}
			t := w.Talk.Step(fmt.Sprintf("%s %s for %s", title, b.ID, b.Version))
			total, kept := 0, 0
			tasks := map[string]Task{}
			many := w.yocto() // tasks by the thousand: only what is at work is told
			err := builder.Build(ctx, filepath.Join(dir, "build"), func(e distro.BuildEvent) {
				total = max(total, e.Total)
				if many && (e.Type == "note" || e.Type == "plan") {
					t.Note(e.Text)
					beat(e.Text)
				}
				if e.Task == "" {
					return
				}
				if many && e.Type != "failed" {
					t.Progress(e.Done, e.Total, strings.Join(e.Running, ", "))
					beat(e.Task)
					return
				}
				if e.Type == "kept" {
					kept++
					t.Progress(e.Done, e.Total, e.Task)
					return
				}
				part := tasks[e.Task]
				if part == nil {
					part = t.Step(e.Task)
					tasks[e.Task] = part
				}
				switch e.Type {
				case "done", "note":
					part.Done(e.Text)
				case "failed":
					part.Failed("")
				}
				t.Progress(e.Done, e.Total, e.Task)
				beat(e.Task)
			})
			summary := fmt.Sprintf("%d tasks", total)
			if c.imported != nil {
				summary = "built by another CI"
			}
			if kept > 0 {
				summary += fmt.Sprintf(", %d of them kept unbuilt: their inputs are those of the base", kept)
			}
			return end(t, err, summary)
		}},
		{Name: "collect", Inputs: in, Do: func(ctx context.Context, beat flow.Beat) error {
			t := w.Talk.Step("collect")
			n, err := w.collect(ctx, b, c, builder, numbers)
			return end(t, err, n)
		}},
		{Name: "candidate feed", Inputs: in, Do: func(ctx context.Context, beat flow.Beat) error {
			t := w.Talk.Step("candidate feed " + b.ID.Candidate())
			n, err := w.candidateFeed(ctx, b)
			return end(t, err, n)
		}},
		{Name: "images", Inputs: in, Do: func(ctx context.Context, beat flow.Beat) error {
			if len(w.Definition.Boards) == 0 || w.yocto() { // BitBake's own images were collected
				return nil
			}
			t := w.Talk.Step("images")
			n, err := w.composeImages(ctx, b)
			return end(t, err, n)
		}},
		{Name: "candidate", Inputs: in, Do: func(ctx context.Context, beat flow.Beat) error {
			nb, err := w.update(ctx, b.ID, "candidate", func(x *Build) error {
				if x.Status == distro.Candidate {
					return nil
				}
				if err := distro.CanMove("build", string(b.ID), x.Status, distro.Candidate); err != nil {
					return err
				}
				x.Status, x.Ended = distro.Candidate, w.now()
				x.Candidate.Status = distro.Testing
				return nil
			})
			if err == nil {
				*b = nb
			}
			return err
		}},
	}
}

func end(t Task, err error, summary string) error {
	if err != nil {
		t.Failed("")
		return err
	}
	t.Done(summary)
	return nil
}

// noConflicts refuses packages that the publication has with other bytes.
func (w *Workspace) noConflicts(ctx context.Context, fresh []distro.PackageRecord) error {
	ring, err := w.Keyring()
	if err != nil {
		return err
	}
	p := &feed.Publisher{Tree: w.Tree, Layout: w.layout()}
	for _, k := range ring.Of(keyring.Package) {
		p.Epoch = max(p.Epoch, k.Epoch)
	}
	return p.Conflicts(ctx, fresh)
}

// candidateFeed makes the feed that publishing this candidate would make, in the
// build's folder, signed by a throw-away key whose private half is dropped here.
func (w *Workspace) candidateFeed(ctx context.Context, b *Build) (string, error) {
	nb, err := w.Build(ctx, string(b.ID)) // after a resume the collected lists are in the document
	if err != nil {
		return "", err
	}
	*b = nb
	fresh := fresh(b.Packages)
	if err := w.noConflicts(ctx, fresh); err != nil {
		return "", err
	}
	dir := w.candidateDir(b.ID)
	if err := os.RemoveAll(dir); err != nil {
		return "", errs.E(errs.Unavailable, "clear "+dir, err)
	}
	tree, err := store.OpenTree(dir)
	if err != nil {
		return "", err
	}
	key, err := w.Throwaway(b.Created)
	if err != nil {
		return "", err
	}
	s, err := w.series(ctx)
	if err != nil {
		return "", err
	}
	p := &feed.Publisher{Tree: tree, Layout: w.layout(), Distribution: w.Definition.Distribution, Title: w.Definition.Title, Package: key, Metadata: key, Scopes: w.scopes()}
	signed, err := w.addPackages(ctx, p, *b, fresh)
	if err != nil {
		return "", err
	}
	if err := w.writeInternalFeed(ctx, w.internalDir(b.ID), key, *b, internal(b.Packages), b.Created); err != nil {
		return "", err
	}
	old, err := w.published(ctx)
	if err != nil {
		return "", err
	}
	index := feed.Newest(feed.Union(signed, old))
	for _, r := range index {
		name := p.Layout.Package(r)
		if _, err := tree.Stat(ctx, name); err == nil {
			continue
		}
		if err := w.copyPublished(ctx, tree, name, r); err != nil {
			return "", err
		}
	}
	if _, err := p.WriteSnapshot(ctx, feed.Edition{Serial: s.Serial + 1, Release: b.Version, At: b.Created, Index: index, History: index}); err != nil {
		return "", err
	}
	if err := tree.Sync(ctx); err != nil {
		return "", err
	}
	nb, err = w.update(ctx, b.ID, "candidate feed", func(x *Build) error {
		x.Candidate = Candidate{PublicKey: key.PublicArmored()}
		return nil
	})
	*b = nb
	return fmt.Sprintf("%d packages in %d feeds", len(index), len(feed.Scopes(w.scopes(), index))), err
}

// damagedPublication is a published file that is gone or was changed: no fault of
// the revision, so the build can go on when the file is back.
type damagedPublication struct{ error }

func (d damagedPublication) Unwrap() error { return d.error }

// copyPublished copies a published package into the candidate's feed; bytes that
// are not those of the release would only be found by dnf, in its own words.
func (w *Workspace) copyPublished(ctx context.Context, to store.Tree, name string, r distro.PackageRecord) error {
	hint := errs.Hint("slipway verify names every damaged file; bring it back from a mirror or a backup")
	f, err := w.Tree.Open(ctx, name)
	if err != nil {
		return damagedPublication{errs.E(errs.KindOf(err), "published package "+r.NEVRA(), err, hint)}
	}
	defer f.Close()
	hash := sha256.New()
	if err := to.Create(ctx, name, io.TeeReader(f, hash)); err != nil {
		return err
	}
	if got := distro.DigestFromSum(hash.Sum(nil)); got != r.Digest {
		return damagedPublication{errs.E(errs.Denied, fmt.Sprintf("published package %s was changed on disk: %s is %s, published was %s", r.NEVRA(), name, got.Short(), r.Digest.Short()), hint)}
	}
	return nil
}

func (w *Workspace) candidateDir(id distro.BuildID) string { return filepath.Join(w.work(id), "feed") }

// fresh gives the packages that a build brings to the publication.
func fresh(l []distro.PackageRecord) []distro.PackageRecord {
	var out []distro.PackageRecord
	for _, r := range l {
		if !r.Kept && r.Internal == "" {
			out = append(out, r)
		}
	}
	return out
}

func (w *Workspace) update(ctx context.Context, id distro.BuildID, event string, change func(*Build) error) (Build, error) {
	return state.Update(ctx, w.State, kindBuild, string(id), change, state.NewEvent{Kind: kindBuild, ID: string(id), Type: event})
}

// fail ends a build: its logs are kept as artifacts, and the error that is
// returned names package, task, log and the commits since the last release. Its
// folder stays until the next build, for who wants to look.
func (w *Workspace) fail(ctx context.Context, b Build, cause error) error {
	f := &Failure{Text: cause.Error(), Hints: errs.Hints(cause)}
	arts := b.Artifacts
	have := map[string]bool{}
	for _, a := range arts {
		have[a.Name] = true
	}
	for _, l := range w.liveLogs(b.ID) {
		if have[l.Name] {
			continue
		}
		if d, size, err := store.PutFile(ctx, w.Blobs, l.Path); err == nil {
			arts = append(arts, distro.Artifact{Class: l.Class, Name: l.Name, Digest: d, Size: size})
		}
	}
	f.Tasks, f.Sources = failedTasks(cause)
	w.traceFailure(ctx, b, f)
	if _, err := w.update(ctx, b.ID, "failed", func(x *Build) error {
		if err := distro.CanMove("build", string(b.ID), x.Status, distro.BuildFail); err != nil {
			return err
		}
		x.Status, x.Ended, x.Failure, x.Artifacts = distro.BuildFail, w.now(), f, arts
		return nil
	}); err != nil {
		return errs.List{cause, err}
	}
	opts := []any{cause}
	for _, t := range f.Tasks {
		opts = append(opts, errs.Hintf("slipway log %s %s", b.ID, t))
	}
	for _, p := range f.Paths {
		opts = append(opts, errs.Hint("it is in layer "+p))
	}
	since := "the beginning"
	if f.Since != "" {
		since = f.Since
	}
	if n := len(f.Commits); n > 0 {
		opts = append(opts, errs.Hintf("commits since %s: %s", since, strings.Join(f.Commits[:min(5, n)], "; ")))
		if n > 1 && f.Since != "" {
			opts = append(opts, errs.Hintf("slipway bisect %s finds which of the %d", b.ID, n))
		}
	}
	opts = append(opts, errs.Hint("nothing of this build can reach a feed or the next build; mend it, commit, and slipway build again"))
	return errs.E(errs.KindOf(cause), fmt.Sprintf("build %s failed", b.ID), opts...)
}

func (w *Workspace) moveToQuarantine(id distro.BuildID) {
	if err := os.MkdirAll(filepath.Dir(w.quarantine(id)), 0o755); err != nil {
		return
	}
	os.RemoveAll(w.quarantine(id))
	os.Rename(w.work(id), w.quarantine(id))
}
