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

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
	"slipway/internal/store"
)

// previousOrigin is the last release of the series before this one, as its feed offers
// it now: where gate.upgrade_from.previous_feed says, else in the workspace's own
// publication. ok is false when there is no earlier series there. Its packages are not
// known here: the state is this series' alone.
func (w *Workspace) previousOrigin(ctx context.Context, keys []string) (o check.Origin, ok bool, err error) {
	publication, series := w.publicationURL(), ""
	if at := strings.TrimRight(w.Definition.Gate.UpgradeFrom.PreviousFeed, "/"); at != "" {
		i := strings.LastIndexByte(at, '/')
		publication, series = at[:i], at[i+1:]
	} else {
		earlier, err := w.earlierSeries()
		if err != nil || len(earlier) == 0 {
			return o, false, err
		}
		series = earlier[len(earlier)-1]
	}
	tree, err := feed.Open(publication)
	if err != nil {
		return o, true, err
	}
	layout := feed.Layout{Series: series}
	var current feed.Current
	if err := readDocument(ctx, tree, layout.CurrentJSON(), &current); err != nil {
		return o, true, errs.Wrap(err, "series %s in %s", series, publication)
	}
	var snapshot feed.Snapshot
	if err := readDocument(ctx, tree, path.Join(layout.Snapshot(current.Serial), "snapshot.json"), &snapshot); err != nil {
		return o, true, errs.Wrap(err, "series %s in %s", series, publication)
	}
	if current.Series != series || snapshot.Distribution != w.Definition.Distribution {
		return o, true, errs.E(errs.Invalid, fmt.Sprintf("%s/%s is series %s of %s, not an earlier series of %s", publication, series, current.Series, snapshot.Distribution, w.Definition.Distribution),
			errs.Hint("gate: {upgrade_from: {previous_feed: ...}} names the feed of the series before this one"))
	}
	o = check.Origin{Name: "previous-" + series, Series: series, Ask: true, Version: current.Release, Feed: w.testFeed(publication, current.Serial, keys)}
	for _, f := range snapshot.Feeds {
		o.Scopes = append(o.Scopes, f.Scope)
	}
	o.Feed.Repos = w.feedsOf(series, slices.DeleteFunc(w.scopes(), func(s string) bool { return !slices.Contains(o.Scopes, s) }), keys)
	return o, true, nil
}

// earlierSeries names the earlier series that the publication holds, by their order.
func (w *Workspace) earlierSeries() ([]string, error) {
	found, err := filepath.Glob(filepath.Join(w.Settings.PublicationDir(), "*", "current.json"))
	if err != nil {
		return nil, err
	}
	order := func(a, b string) int { return distro.CompareEVR(0, a, "", 0, b, "") }
	var out []string
	for _, f := range found {
		if name := filepath.Base(filepath.Dir(f)); order(name, w.Definition.Series.Name) < 0 {
			out = append(out, name)
		}
	}
	slices.SortFunc(out, order)
	return out, nil
}

func readDocument(ctx context.Context, tree store.Tree, name string, into any) error {
	b, err := tree.Open(ctx, name)
	if err != nil {
		return err
	}
	defer b.Close()
	data, err := io.ReadAll(io.NewSectionReader(b, 0, min(b.Size(), 16<<20)))
	if err != nil {
		return errs.E(errs.Unavailable, "read "+name, err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return errs.E(errs.Invalid, name+" is no document of a publication", err)
	}
	return nil
}

// testsIn is the folder of the team's own tests of a device, or of a guest; "" when
// there is none.
func (w *Workspace) testsIn(kind string) string {
	dir := filepath.Join(w.Dir, "checks", kind)
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return ""
	}
	return dir
}
