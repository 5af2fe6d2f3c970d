package cycle

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/flow"
	"slipway/internal/state"
	"slipway/internal/timestamp"
	"slipway/internal/tlog"
)

// Publish signs and publishes an approved release. Clients see the series as it
// was until the last pointer has switched; after a crash the same command
// finishes it. Publishing what is published is no error.
func (w *Workspace) Publish(ctx context.Context, v distro.Version) (Release, error) {
	lock, err := w.lock(ctx, "publish")
	if err != nil {
		return Release{}, err
	}
	defer lock.Release()
	r, err := w.Release(ctx, v)
	if err != nil {
		return r, w.notApproved(ctx, v, err)
	}
	switch r.Status {
	case distro.Published:
		return r, nil
	case distro.Withdrawn:
		return r, errs.E(errs.Conflict, fmt.Sprintf("release %s was withdrawn: %s", v, r.Withdrawal.Because), errs.Hint("slipway build: the next release replaces it"))
	}
	b, err := w.Build(ctx, string(r.Build))
	if err != nil {
		return r, err
	}
	if err := w.samePolicy(b); err != nil {
		return r, err
	}
	keys, err := w.Keys()
	if err != nil {
		return r, err
	}
	p := w.publisher(keys)
	if r.Bridge {
		if err := w.bridged(p); err != nil {
			return r, err
		}
	}
	in := string(distro.DigestOf(distro.CanonicalJSON([]any{r.Build, r.Approval, p.Package.Fingerprint(), keys.Metadata.Fingerprint()})))
	err = w.run(ctx, "publish/"+string(v), w.publishSteps(p, keys, v, b, in))
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return r, errs.E(errs.Interrupted, fmt.Sprintf("publishing %s was stopped; clients see what was there before", v), errs.Hintf("slipway publish %s goes on", v))
	default:
		return r, errs.E(errs.KindOf(err), fmt.Sprintf("release %s could not be published", v), err, errs.Hintf("clients see what was there before; slipway publish %s goes on when the cause is gone", v))
	}
	return w.Release(ctx, v)
}

// statement is the release's, with the files that it answers for.
func (w *Workspace) statement(ctx context.Context, r Release, b Build) (distro.Statement, error) {
	s := statement(r, b, b.policy(w.Definition))
	out, err := w.publicImages(ctx, b)
	if err != nil {
		return s, err
	}
	sdks, err := w.publicSDKs(ctx, b)
	if err != nil {
		return s, err
	}
	for i, a := range s.Artifacts {
		if a.Class == distro.Images && out[a.Name] {
			board, file, _ := strings.Cut(a.Name, "/")
			s.Artifacts[i].File = feed.ImageName(b.Series, board, r.Version, file)
		}
		if a.Class == distro.SDK && sdks[a.Name] {
			s.Artifacts[i].File = feed.SDKName(b.Series, r.Version, a.Name)
		}
	}
	s.FilesRoot, err = tlog.Root(w.layout().Files(s))
	return s, err
}

// publisher writes the publication with the production keys.
func (w *Workspace) publisher(k Keys) *feed.Publisher {
	d := w.Definition
	return &feed.Publisher{Tree: w.Tree, Layout: w.layout(), Distribution: d.Distribution, Title: d.Title, Scopes: w.scopes(), Cache: w.internal("index"),
		Package: k.Package, Metadata: k.Metadata, Epoch: k.Epoch, Keys: k.Files, Log: k.Log, LogBefore: k.LogBefore, LogKeys: k.LogKeys,
		Support: feed.Support{SecuritySupportEnds: string(d.Series.SecuritySupportEnds), Ends: string(d.Series.Ends)}}
}

// notApproved says what a version that is no release yet waits for.
func (w *Workspace) notApproved(ctx context.Context, v distro.Version, missing error) error {
	builds, err := w.Builds(ctx)
	if err != nil || !errs.Is(missing, errs.NotFound) {
		return missing
	}
	known := false
	for i := len(builds) - 1; i >= 0; i-- {
		b := builds[i]
		if b.Version != v {
			continue
		}
		known = true
		if bs, next, err := w.describe(ctx, b); err == nil && next != "" {
			return errs.E(errs.Conflict, fmt.Sprintf("version %s is not approved: %s is %s", v, b.ID.Candidate(), bs.Status), errs.Hint(next))
		}
	}
	if known {
		return errs.E(errs.Conflict, fmt.Sprintf("version %s is not approved, and no candidate of it is left", v), errs.Hintf("slipway build --for %s", v))
	}
	return missing
}

func (w *Workspace) publishSteps(p *feed.Publisher, keys Keys, v distro.Version, b Build, in string) []flow.Step {
	edition := func(ctx context.Context) (feed.Edition, Release, error) {
		r, err := w.Release(ctx, v)
		if err != nil {
			return feed.Edition{}, r, err
		}
		series, _, err := state.Load[Series](ctx, w.State, kindSeries, b.Series)
		if err != nil && !errs.Is(err, errs.NotFound) {
			return feed.Edition{}, r, err
		}
		releases, err := w.Releases(ctx)
		if err != nil {
			return feed.Edition{}, r, err
		}
		e := feed.Edition{Serial: r.Serial, Release: v, At: r.Approval.At, Base: series.Serial, Withdrawn: withdrawn(releases)}
		gone, err := w.gone(ctx)
		if err != nil {
			return feed.Edition{}, r, err
		}
		e.Removed = gone.removals
		if e.Advisories, err = w.advisoriesOf(ctx, releases, gone, nil); err != nil {
			return feed.Edition{}, r, err
		}
		for _, p := range r.Packages {
			if !p.Kept {
				e.New = append(e.New, p)
			}
		}
		twins, err := w.twins(ctx)
		if err != nil {
			return feed.Edition{}, r, err
		}
		e.Lists = func(ctx context.Context) (index, history []distro.PackageRecord, err error) {
			all := gone.standing(feed.Append(feed.Twins(offered(releases), twins), feed.InOrder(r.Packages)))
			return feed.Newest(all), all, nil
		}
		return e, r, nil
	}
	step := w.stepper(in)
	return []flow.Step{
		step("sign", "sign the packages of "+string(v), func(ctx context.Context) (string, error) {
			fresh := fresh(b.Packages)
			if err := p.Conflicts(ctx, fresh); err != nil {
				return "", err
			}
			// Before any signature: with keys other than the published ones nothing is signed.
			if err := p.WriteKeys(ctx); err != nil {
				return "", err
			}
			signed, err := w.addPackages(ctx, p, b, fresh)
			if err != nil {
				return "", err
			}
			kept := make([]distro.PackageRecord, 0, len(b.Packages))
			for _, r := range public(b.Packages) {
				if r.Kept {
					kept = append(kept, r)
				}
			}
			_, err = state.Update(ctx, w.State, kindRelease, string(v), func(r *Release) error {
				r.Packages = feed.SortRecords(append(kept, signed...))
				return nil
			})
			return fmt.Sprintf("%d signed, %d kept", len(signed), len(kept)), err
		}),
		// All that is taken from the artifact store comes before the snapshot: a blob that
		// is lost stops the publish while the release can still be taken back.
		{Name: "images", Inputs: in, Do: func(ctx context.Context, beat flow.Beat) error {
			if len(w.Definition.Boards) == 0 {
				return nil
			}
			t := w.Talk.Step("publish the images of " + string(v))
			n, err := w.publishImages(ctx, v, b)
			return end(t, err, n)
		}},
		{Name: "sdk", Inputs: in, Do: func(ctx context.Context, beat flow.Beat) error {
			if !slices.ContainsFunc(b.Artifacts, func(a distro.Artifact) bool { return a.Class == distro.SDK }) {
				return nil
			}
			t := w.Talk.Step("publish the SDKs of " + string(v))
			r, err := w.Release(ctx, v)
			n := ""
			if err == nil {
				n, err = w.publishSDKs(ctx, v, b, r.Approval.At)
			}
			return end(t, err, n)
		}},
		{Name: "mirrors", Inputs: in, Do: func(ctx context.Context, beat flow.Beat) error {
			if !w.mirrors() {
				return nil
			}
			t := w.Talk.Step("publish cache and sources of " + string(v))
			m, err := w.publishMirrors(ctx, keys, v, b)
			return end(t, err, m.String())
		}},
		step("snapshot", "write the snapshot", func(ctx context.Context) (string, error) {
			e, _, err := edition(ctx)
			if err != nil {
				return "", err
			}
			s, err := p.WriteSnapshot(ctx, e)
			n := 0
			for _, f := range s.Feeds {
				n += f.Packages
			}
			return fmt.Sprintf("serial %d, %d packages, %d new", e.Serial, n, len(e.New)), err
		}),
		step("statement", "write the release statement", func(ctx context.Context) (string, error) {
			_, r, err := edition(ctx)
			if err != nil {
				return "", err
			}
			s, err := w.statement(ctx, r, b)
			if err != nil {
				return "", err
			}
			if err := p.WriteStatement(ctx, s); err != nil {
				return "", err
			}
			digest := distro.DigestOf(distro.CanonicalJSON(s))
			_, err = state.Update(ctx, w.State, kindRelease, string(v), func(r *Release) error { r.Statement = digest; return nil })
			return digest.Short(), err
		}),
		step("log", "enter it into the transparency log", func(ctx context.Context) (string, error) {
			e, _, err := edition(ctx)
			if err != nil {
				return "", err
			}
			return "", p.WriteLog(ctx, e)
		}),
		step("switch", "switch the pointers", func(ctx context.Context) (string, error) {
			e, _, err := edition(ctx)
			if err != nil {
				return "", err
			}
			return "", w.switchTo(ctx, p, e)
		}),
		step("refresh", "sign the pointer", func(ctx context.Context) (string, error) {
			r, err := w.Release(ctx, v)
			if err != nil {
				return "", err
			}
			return w.freshen(ctx, p, r.Serial, r.Approval.At)
		}),
		{Name: "sdk updates", Inputs: in, Do: func(ctx context.Context, _ flow.Beat) error { return w.updatesOf(ctx, v) }},
		step("record", "record release "+string(v), func(ctx context.Context) (string, error) {
			now := w.now()
			if _, err := state.Upsert(ctx, w.State, kindSeries, b.Series, func(s *Series) error {
				r, err := w.Release(ctx, v)
				if err != nil {
					return err
				}
				s.Head, s.Serial = v, r.Serial
				if s.First == "" {
					s.First = v
				}
				return nil
			}); err != nil {
				return "", err
			}
			_, err := state.Update(ctx, w.State, kindRelease, string(v), func(r *Release) error {
				if r.Status != distro.Published {
					if err := distro.CanMove("release", string(v), r.Status, distro.Published); err != nil {
						return err
					}
					r.Status, r.Published = distro.Published, now
				}
				return nil
			}, state.NewEvent{Kind: kindRelease, ID: string(v), Type: "published"})
			if err == nil {
				err = removeAll(w.work(b.ID)) // the candidate's feed has done its work
			}
			return "", err
		}),
	}
}

// distributionDoc is distribution.json: the one file that holds a URL.
func (w *Workspace) distributionDoc() any {
	d := w.Definition
	type board struct {
		Name    string `json:"name"`
		Support string `json:"support"`
	}
	boards := []board{}
	for _, b := range d.Boards {
		boards = append(boards, board{b.Name, b.Support})
	}
	return map[string]any{
		"schema": 1, "distribution": d.Distribution, "title": d.Title, "base_url": d.Feeds.BaseURL,
		"series": []any{map[string]any{"name": d.Series.Name, "released": d.Series.Released, "security_support_ends": d.Series.SecuritySupportEnds, "ends": d.Series.Ends,
			"scopes": w.scopes(), "boards": boards}},
	}
}

// freshAge is how old the pointer of a publish may be: it is dated by the decision,
// and a decision that waited would cut its life short.
const freshAge = 24 * time.Hour

// freshen signs the pointer anew when the decision is not of today.
func (w *Workspace) freshen(ctx context.Context, p *feed.Publisher, serial int, decided time.Time) (string, error) {
	if w.now().Before(decided.Add(freshAge)) {
		return "as of the decision", nil
	}
	t, err := p.RefreshTimestamp(ctx, serial, w.now())
	return "good until " + t.Expires.Format(time.DateOnly), err
}

// Refresh signs the pointer of the series anew, with a new expiry and no new snapshot.
// Without that devices find the feed frozen after a pointer's life.
func (w *Workspace) Refresh(ctx context.Context) (timestamp.Timestamp, error) {
	var none timestamp.Timestamp
	lock, err := w.lock(ctx, "publish")
	if err != nil {
		return none, err
	}
	defer lock.Release()
	s, err := w.series(ctx)
	if err != nil {
		return none, err
	}
	if s.Serial == 0 {
		return none, errs.E(errs.NotFound, "nothing is published yet: there is no pointer to refresh", errs.Hint("slipway build"))
	}
	keys, err := w.Keys()
	if err != nil {
		return none, err
	}
	p := w.publisher(keys)
	if err := p.WriteKeys(ctx); err != nil {
		return none, err
	}
	if err := p.WriteLogKeys(ctx, w.now()); err != nil {
		return none, err
	}
	t := w.Talk.Step("sign the pointer")
	ts, err := p.RefreshTimestamp(ctx, s.Serial, w.now())
	return ts, end(t, err, "good until "+ts.Expires.Format(time.DateOnly))
}
