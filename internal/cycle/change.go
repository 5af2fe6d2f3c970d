package cycle

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/flow"
	"slipway/internal/state"
)

// Change is a serial that no new release brings.
type Change struct {
	Serial   int             `json:"serial"`
	Series   string          `json:"series"`
	Kind     ChangeKind      `json:"kind"`
	Release  distro.Version  `json:"release"` // that is current after it
	Status   distro.Status   `json:"status"`  // publishing, published
	Decision distro.Approval `json:"decision"`
	// Withdrawn is the release that it takes back.
	Withdrawn distro.Version `json:"withdrawn,omitempty"`
	// Epoch is the key epoch that all packages are signed into again, Packages are they.
	Epoch    int                    `json:"epoch,omitempty"`
	Packages []distro.PackageRecord `json:"packages,omitempty"`
	// Advisories are those that it brings, or the next version of.
	Advisories []distro.Advisory `json:"advisories,omitempty"`
	// Removed are the files that a removal takes away.
	Removed []feed.RemovedFile `json:"removed,omitempty"`
	// Cache are the objects of the build cache that hold them, and the sources that go, too.
	Cache []distro.Artifact `json:"cache,omitempty"`
}

// ChangeKind says what a change is.
type ChangeKind string

// The kinds.
const (
	Withdrawal ChangeKind = "withdrawal"
	Resigning  ChangeKind = "new signing"
	Advising   ChangeKind = "advisory"
	Removal    ChangeKind = "removal"
)

// Changes gives the serials that brought no new release, oldest first.
func (w *Workspace) Changes(ctx context.Context) ([]Change, error) {
	all, err := state.LoadAll[Change](ctx, w.State, kindChange)
	slices.SortFunc(all, func(a, b Change) int { return a.Serial - b.Serial })
	return all, err
}

func (c Change) id() string { return fmt.Sprintf("%s/%d", c.Series, c.Serial) }

// again is the command that finishes a change.
func (c Change) again() string {
	switch c.Kind {
	case Resigning:
		return "slipway publish --resign --because " + strconv.Quote(c.Decision.Because)
	case Advising:
		return "slipway advisory publish"
	case Removal:
		files := make([]string, len(c.Removed))
		for i, f := range c.Removed {
			files[i] = f.File
		}
		return fmt.Sprintf("slipway tombstone %s --because %q --by %q", strings.Join(files, " "), c.Decision.Because, c.Decision.By)
	}
	return fmt.Sprintf("slipway withdraw %s --because %q", c.Withdrawn, c.Decision.Because)
}

// unfinished gives the change that was begun and is not published, if there is one.
func (w *Workspace) unfinished(ctx context.Context) (Change, bool, error) {
	all, err := w.Changes(ctx)
	for _, c := range all {
		if c.Status != distro.Published {
			return c, true, err
		}
	}
	return Change{}, false, err
}

// free refuses what must wait until a release or a change that was begun is
// published: there is one newest serial.
func (w *Workspace) free(ctx context.Context) error {
	c, ok, err := w.unfinished(ctx)
	if err != nil {
		return err
	}
	if ok {
		return errs.E(errs.Conflict, fmt.Sprintf("the %s of serial %d was begun and is not finished", c.Kind, c.Serial), errs.Hint(c.again()))
	}
	releases, err := w.Releases(ctx)
	for _, r := range releases {
		if r.Status == distro.Publishing {
			return errs.E(errs.Conflict, fmt.Sprintf("release %s is approved and not yet published", r.Version), errs.Hintf("slipway publish %s", r.Version),
				errs.Hintf("when it cannot be: slipway withdraw %s --because TEXT", r.Version))
		}
	}
	return err
}

// decide dates a decision. Dates of a series never go back, in the log least of all: a
// clock that does is refused here, where it can still be set.
func (w *Workspace) decide(ctx context.Context) (time.Time, error) {
	now := w.now()
	releases, err := w.Releases(ctx)
	if err != nil {
		return now, err
	}
	changes, err := w.Changes(ctx)
	if err != nil {
		return now, err
	}
	last, what := lastDecision(releases, changes)
	if now.Before(last) {
		return now, errs.E(errs.Conflict, fmt.Sprintf("this machine's clock says %s, and %s later, at %s", now.Format(time.RFC3339), what, last.UTC().Format(time.RFC3339)),
			errs.Hint("set the clock right: date -u; a decision is dated for ever"))
	}
	return now, nil
}

// lastDecision gives when the newest decision was made, and which it was; zero: none.
func lastDecision(releases []Release, changes []Change) (last time.Time, what string) {
	for _, r := range releases {
		if r.Approval.At.After(last) {
			last, what = r.Approval.At, fmt.Sprintf("release %s was approved", r.Version)
		}
	}
	for _, c := range changes {
		if c.Decision.At.After(last) {
			last, what = c.Decision.At, fmt.Sprintf("the %s of serial %d was decided", c.Kind, c.Serial)
		}
	}
	return last, what
}

// withdrawn gives the published releases that were taken back, as snapshots say them.
func withdrawn(releases []Release) []feed.Withdrawn {
	var out []feed.Withdrawn
	for _, r := range releases {
		if r.Withdrawal != nil && !r.Published.IsZero() {
			out = append(out, feed.Withdrawn{Release: r.Version, At: r.Withdrawal.At, By: r.Withdrawal.By, Because: r.Withdrawal.Because})
		}
	}
	slices.SortFunc(out, func(a, b feed.Withdrawn) int { return a.Release.Compare(b.Release) })
	return out
}

// changed gives the edition of a change, as if it were published.
func (w *Workspace) changed(ctx context.Context, c Change) (feed.Edition, error) {
	releases, err := w.Releases(ctx)
	if err != nil {
		return feed.Edition{}, err
	}
	for i := range releases {
		if releases[i].Version == c.Withdrawn {
			releases[i].Status, releases[i].Withdrawal = distro.Withdrawn, &c.Decision
		}
	}
	e := feed.Edition{Serial: c.Serial, Release: c.Release, At: c.Decision.At, Withdrawn: withdrawn(releases)}
	twins, err := w.twins(ctx)
	if err != nil {
		return e, err
	}
	gone, err := w.gone(ctx, c)
	if err != nil {
		return e, err
	}
	e.Removed = gone.removals
	if e.Advisories, err = w.advisoriesOf(ctx, releases, gone, c.Advisories); err != nil {
		return e, err
	}
	lists := func(context.Context) (index, history []distro.PackageRecord, err error) {
		all := gone.standing(feed.Twins(offered(releases), append(twins, c.Packages...)))
		return feed.Newest(all), all, nil
	}
	if c.Kind == Advising { // the packages are those of the serial before
		e.Base, e.Lists = c.Serial-1, lists
		return e, nil
	}
	e.Index, e.History, err = lists(ctx)
	return e, err
}

// twins gives all packages that published changes signed again.
func (w *Workspace) twins(ctx context.Context) ([]distro.PackageRecord, error) {
	all, err := w.Changes(ctx)
	var out []distro.PackageRecord
	for _, c := range all {
		if c.Status == distro.Published {
			out = append(out, c.Packages...)
		}
	}
	return out, err
}

// publishChange brings a change out; after a crash the same call goes on.
func (w *Workspace) publishChange(ctx context.Context, c Change) error {
	keys, err := w.Keys()
	if err != nil {
		return err
	}
	p := w.publisher(keys)
	in := string(distro.DigestOf(distro.CanonicalJSON([]any{c.id(), c.Decision, keys.Package.Fingerprint(), keys.Metadata.Fingerprint()})))
	step := w.stepper(in)
	steps := []flow.Step{
		step("snapshot", "write the snapshot", func(ctx context.Context) (string, error) {
			if err := p.WriteKeys(ctx); err != nil {
				return "", err
			}
			e, err := w.changed(ctx, c)
			if err == nil && c.Kind == Removal {
				err = p.WriteRemoval(ctx, w.notice(c))
			}
			if err != nil {
				return "", err
			}
			s, err := p.WriteSnapshot(ctx, e)
			n := 0
			for _, f := range s.Feeds {
				n += f.Packages
			}
			if c.Kind == Advising {
				return fmt.Sprintf("serial %d, %d packages, %d advisories", e.Serial, n, len(e.Advisories)), err
			}
			return fmt.Sprintf("serial %d, %d packages, %d in history", e.Serial, n, len(e.History)), err
		}),
		step("log", "enter it into the transparency log", func(ctx context.Context) (string, error) {
			e, err := w.changed(ctx, c)
			if err == nil {
				err = p.WriteLog(ctx, e)
			}
			return "", err
		}),
		step("switch", "switch the pointers", func(ctx context.Context) (string, error) {
			e, err := w.changed(ctx, c)
			if err != nil {
				return "", err
			}
			return "", w.switchTo(ctx, p, e)
		}),
		step("refresh", "sign the pointer", func(ctx context.Context) (string, error) {
			return w.freshen(ctx, p, c.Serial, c.Decision.At)
		}),
		step("record", "record the "+string(c.Kind), func(ctx context.Context) (string, error) { return "", w.record(ctx, c) }),
	}
	if c.Kind == Resigning {
		steps = append([]flow.Step{step("sign", "sign all packages again", func(ctx context.Context) (string, error) {
			var err error
			c, err = w.resign(ctx, p, c)
			return fmt.Sprintf("%d packages, key epoch %d", len(c.Packages), c.Epoch), err
		})}, steps...)
	}
	if c.Kind == Withdrawal {
		steps = slices.Insert(steps, len(steps)-1, flow.Step{Name: "sdk updates", Inputs: in, Do: func(ctx context.Context, _ flow.Beat) error { return w.updatesOf(ctx, c.Release) }})
	}
	if c.Kind == Removal { // before it is recorded: what is published was removed
		last := len(steps) - 1
		steps = slices.Insert(steps, last, step("remove", "put the notice in the place of the bytes", func(ctx context.Context) (string, error) { return w.bury(ctx, p, c) }))
	}
	err = w.run(ctx, "change/"+c.id(), steps)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return errs.E(errs.Interrupted, fmt.Sprintf("the %s was stopped; clients see what was there before", c.Kind), errs.Hint(c.again()))
	}
	return errs.E(errs.KindOf(err), fmt.Sprintf("the %s of serial %d could not be published", c.Kind, c.Serial), err, errs.Hint("clients see what was there before; when the cause is gone: "+c.again()))
}

// record notes in the state that a change is published: the change itself last.
func (w *Workspace) record(ctx context.Context, c Change) error {
	if c.Withdrawn != "" {
		if _, err := state.Update(ctx, w.State, kindRelease, string(c.Withdrawn), func(r *Release) error {
			if r.Status == distro.Withdrawn {
				return nil
			}
			if err := distro.CanMove("release", string(r.Version), r.Status, distro.Withdrawn); err != nil {
				return err
			}
			r.Status, r.Withdrawal = distro.Withdrawn, &c.Decision
			return nil
		}, state.NewEvent{Kind: kindRelease, ID: string(c.Withdrawn), Type: "withdrawn"}); err != nil {
			return err
		}
	}
	releases, err := w.Releases(ctx)
	if err != nil {
		return err
	}
	var first distro.Version
	for _, r := range releases {
		if r.Status == distro.Published && (first == "" || r.Version.Compare(first) < 0) {
			first = r.Version
		}
	}
	if _, err := state.Update(ctx, w.State, kindSeries, c.Series, func(s *Series) error {
		s.Head, s.Serial, s.First = c.Release, c.Serial, first
		return nil
	}); err != nil {
		return err
	}
	_, err = state.Update(ctx, w.State, kindChange, c.id(), func(x *Change) error { x.Status = distro.Published; return nil },
		state.NewEvent{Kind: kindChange, ID: c.id(), Type: "published"})
	return err
}

// switchTo makes an edition, whose snapshot is written, current.
func (w *Workspace) switchTo(ctx context.Context, p *feed.Publisher, e feed.Edition) error {
	var s feed.Snapshot
	data, err := feed.ReadFile(ctx, w.Tree, p.Layout.Snapshot(e.Serial)+"/snapshot.json")
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return errs.Wrap(err, "read the snapshot back")
	}
	if err := p.WriteDistribution(ctx, w.distributionDoc()); err != nil {
		return err
	}
	return p.Switch(ctx, e, s)
}

// stepper makes journalled steps that are shown, and durable when they are done.
func (w *Workspace) stepper(in string) func(name, title string, do func(context.Context) (string, error)) flow.Step {
	return func(name, title string, do func(context.Context) (string, error)) flow.Step {
		return flow.Step{Name: name, Inputs: in, Do: func(ctx context.Context, beat flow.Beat) error {
			t := w.Talk.Step(title)
			summary, err := do(ctx)
			if err == nil {
				err = w.Tree.Sync(ctx)
			}
			return end(t, err, summary)
		}}
	}
}
