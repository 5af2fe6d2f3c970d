package cycle

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/check"
	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/feed"
)

// publishSeries lays out the pointers of a series, as its last publish left them.
func publishSeries(t *testing.T, dir, distribution, series string, serial int, release distro.Version, scopes ...string) {
	t.Helper()
	s := feed.Snapshot{Schema: 1, Distribution: distribution, Series: series, Serial: serial, Release: release}
	for _, scope := range scopes {
		s.Feeds = append(s.Feeds, feed.ScopeIndex{Scope: scope})
	}
	l := feed.Layout{Series: series}
	for name, doc := range map[string]any{l.CurrentJSON(): feed.Current{Schema: 1, Series: series, Serial: serial, Release: release}, l.Snapshot(serial) + "/snapshot.json": s} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, distro.CanonicalJSON(doc), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPreviousOrigin(t *testing.T) {
	t.Parallel()
	dir, other := t.TempDir(), t.TempDir()
	w := &Workspace{Dir: dir, Settings: &config.Settings{Publication: dir},
		Definition: &config.Definition{Distribution: "halyard", Series: config.Series{Name: "10"}, Builder: config.Builder{Kind: config.RPMBuild, Arches: []string{"x86_64"}}}}
	if _, ok, err := w.previousOrigin(t.Context(), nil); ok || err != nil {
		t.Errorf("there is no earlier series: %v %v", ok, err)
	}
	publishSeries(t, dir, "halyard", "2", 3, "2.1", "noarch")
	publishSeries(t, dir, "halyard", "9", 17, "9.8", "noarch", "x86_64", "tiny")
	publishSeries(t, dir, "halyard", "11", 1, "11.1", "noarch")
	o, ok, err := w.previousOrigin(t.Context(), []string{"/key"})
	if err != nil || !ok || o.Name != "previous-9" || o.Version != "9.8" || o.Series != "9" || !o.Ask || len(o.Feed.Repos) != 2 {
		t.Fatalf("%+v %v", o, err)
	}
	if r := o.Feed.Repos[1]; r.BaseURL != "$slipway_url/9/$slipway_snapshot/x86_64" || o.Feed.Vars["slipway_snapshot"] != "snapshots/17" || o.Feed.Vars["slipway_url"] != "file://"+dir {
		t.Errorf("%+v", o.Feed)
	}

	// A board reads its own feeds of that series; one that came later has none.
	board := func(name string) Board {
		return Board{Board: config.Board{Name: name}, File: &config.BoardFile{Name: name, Arch: "x86_64", MachineArch: name}}
	}
	one, ok := w.askedOrigin(o, board("tiny"), []string{"noarch", "x86_64", "tiny"})
	var urls []string
	for _, r := range one.Feed.Repos {
		urls = append(urls, strings.TrimPrefix(r.BaseURL, "$slipway_url/9/$slipway_snapshot/"))
	}
	if d := cmp.Diff([]string{"noarch", "x86_64", "tiny"}, urls); d != "" || !ok || one.Feed.Vars["slipway_arch"] != "x86_64" {
		t.Errorf("%s %+v", d, one)
	}
	if _, ok := w.askedOrigin(o, board("later"), []string{"noarch", "x86_64", "later"}); ok {
		t.Error("a board that the series did not have has a device of it")
	}
	bed := w.boardBed(check.Bed{Candidate: o.Feed, Origins: []check.Origin{o}}, board("tiny"), nil)
	if len(bed.Origins) != 1 || bed.Board != "tiny" {
		t.Errorf("%+v", bed.Origins)
	}

	// Elsewhere, by its address; over HTTP, too.
	publishSeries(t, other, "halyard", "8", 5, "8.4", "noarch", "x86_64")
	server := httptest.NewServer(http.FileServer(http.Dir(other)))
	defer server.Close()
	for _, at := range []string{"file://" + other, server.URL} {
		w.Definition.Gate.UpgradeFrom.PreviousFeed = at + "/8/"
		if o, _, err = w.previousOrigin(t.Context(), []string{"/key"}); err != nil || o.Version != "8.4" || o.Feed.Vars["slipway_url"] != at || !slices.Equal(o.Scopes, []string{"noarch", "x86_64"}) {
			t.Errorf("%s: %+v %v", at, o, err)
		}
	}

	publishSeries(t, other, "stranger", "7", 5, "7.1", "noarch")
	if err := os.WriteFile(filepath.Join(other, "7", "at.json"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for at, kind := range map[string]errs.Kind{"/7": errs.Invalid, "/6": errs.NotFound} {
		w.Definition.Gate.UpgradeFrom.PreviousFeed = "file://" + other + at
		if _, ok, err := w.previousOrigin(t.Context(), nil); !ok || !errs.Is(err, kind) {
			t.Errorf("%s: %v %v", at, ok, err)
		}
	}
}
