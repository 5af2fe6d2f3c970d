package upgrades_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/check"
	"slipway/internal/check/upgrades"
	"slipway/internal/distro"
	"slipway/internal/dnf"
	"slipway/internal/dnf/dnftest"
)

const keep = "%config(noreplace) "

// spec makes a package with files; a file may carry a directive in front.
func spec(name string, version int, head, tail string, files ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Name: %s\nVersion: %d\nRelease: 1\nBuildArch: noarch\n%s%%install\nmkdir -p %%{buildroot}/usr/share/x %%{buildroot}/etc\n", name, version, head)
	list := "%files\n"
	for _, f := range files {
		path := f[strings.LastIndexByte(f, ' ')+1:]
		fmt.Fprintf(&b, "echo %s %d > %%{buildroot}%s\n", name, version, path)
		list += f + "\n"
	}
	return b.String() + list + tail
}

type release struct {
	repo    dnf.Repo
	records []distro.PackageRecord
}

func make1(t *testing.T, key dnftest.Key, specs ...string) release {
	t.Helper()
	var rpms []string
	for _, s := range specs {
		rpms = append(rpms, dnftest.Build(t, s)...)
	}
	key.Sign(t, rpms...)
	var r release
	r.repo, r.records = key.Feed(t, rpms...)
	return r
}

func ask(t *testing.T, from, to release, names ...string) check.Outcome {
	t.Helper()
	bed := &check.Bed{Dir: t.TempDir(), Tool: dnftest.Find(t), Jobs: 2, Candidate: check.Feed{Repos: []dnf.Repo{to.repo}}, Packages: to.records}
	for _, n := range names {
		bed.Origins = append(bed.Origins, check.Origin{Name: n, Version: "1.1", Feed: check.Feed{Repos: []dnf.Repo{from.repo}}, Packages: from.records})
	}
	out, err := check.Run(t.Context(), bed, []check.Check{upgrades.New()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out[0]
}

func show(o check.Outcome) []string {
	var got []string
	for _, f := range o.Result.Findings {
		got = append(got, string(f.Level)+" "+f.ID)
	}
	return got
}

// A release of production's key, a candidate of another key, a split as
// docs/checks.md describes it, a new package, changed and edited configuration.
func TestThereAndBack(t *testing.T) {
	t.Parallel()
	production, candidate := dnftest.NewKey(t, "production"), dnftest.NewKey(t, "candidate")
	one := make1(t, production,
		spec("a", 1, "", "", "/usr/share/x/a", keep+"/etc/a.conf", "%config /etc/plain.conf"),
		spec("tool", 1, "", "", "/usr/share/x/tool", "/usr/share/x/extra", keep+"/etc/extra.conf"))
	two := make1(t, candidate,
		spec("a", 2, "", "", "/usr/share/x/a", keep+"/etc/a.conf", "%config /etc/plain.conf"),
		spec("tool", 2, "Obsoletes: tool < 2\n", "", "/usr/share/x/tool"),
		spec("tool-extra", 2, "Obsoletes: tool < 2\nRequires: tool = 2\n", "", "/usr/share/x/extra", keep+"/etc/extra.conf"),
		spec("fresh", 1, "", "", "/usr/share/x/fresh"))
	o := ask(t, one, two, "first", "last")
	if d := cmp.Diff([]string{"info first-and-last:up:beside"}, show(o)); d != "" || o.Result.Error != "" || o.Result.Asked == 0 {
		t.Errorf("%s\n%+v", d, o.Result)
	}
	if len(o.Files) != 2 || o.Files[0].Name != "first-and-last-back.txt" || o.Files[1].Name != "first-and-last-up.txt" {
		t.Fatalf("%+v", o.Files)
	}
	up, err := os.ReadFile(o.Files[1].Path)
	if err != nil || !strings.Contains(string(up), "installed: a-2-1.noarch tool-2-1.noarch tool-extra-2-1.noarch\n") {
		t.Errorf("%v\n%s", err, up)
	}
	back, err := os.ReadFile(o.Files[0].Path)
	if err != nil || !strings.Contains(string(back), "installed: a-1-1.noarch tool-1-1.noarch\n") {
		t.Errorf("%v\n%s", err, back)
	}
}

func TestFindings(t *testing.T) {
	t.Parallel()
	key := dnftest.NewKey(t, "feed")
	one := make1(t, key,
		spec("down", 2, "", "", "/usr/share/x/down"),
		spec("dropped", 1, "", "", "/usr/share/x/dropped"),
		spec("eats", 1, "", "", keep+"/etc/eats.conf"),
		spec("renamed", 1, "", "", "/usr/share/x/renamed"),
		spec("script", 1, "", "", "/usr/share/x/script"),
		spec("stuck", 1, "", "", "/usr/share/x/stuck"))
	two := make1(t, key,
		spec("down", 1, "", "", "/usr/share/x/down"),
		spec("eats", 2, "", "", "%config /etc/eats.conf"),
		spec("newname", 2, "Obsoletes: renamed < 2\nProvides: renamed = 2\n", "", "/usr/share/x/renamed"),
		spec("script", 2, "", "%pre -p <lua>\nprint('ok')\n%post -p <lua>\nerror('on purpose')\n", "/usr/share/x/script"),
		spec("stuck", 2, "Requires: nobody\n", "", "/usr/share/x/stuck"))
	o := ask(t, one, two, "last")
	want := []string{
		"block last:back:/etc/eats.conf",
		"block last:back:renamed",
		"info last:back:stay",
		"block last:up:/etc/eats.conf",
		"info last:up:beside",
		"block last:up:down",
		"block last:up:dropped",
		"block last:up:scriptlet:script",
		"block last:up:services",
		"block last:up:stuck",
	}
	if d := cmp.Diff(want, show(o)); d != "" || o.Result.Error != "" {
		t.Fatalf("%s\n%+v", d, o.Result)
	}
	for _, f := range o.Result.Findings {
		if f.Log == "" || f.Cure == "" || len(f.Evidence) == 0 {
			t.Errorf("%+v", f)
		}
		t.Log(f.Text)
	}
}

func TestRefusedFeeds(t *testing.T) {
	t.Parallel()
	key, stranger := dnftest.NewKey(t, "feed"), dnftest.NewKey(t, "stranger")
	one := make1(t, key, spec("a", 1, "", "", "/usr/share/x/a"))
	two := make1(t, key, spec("a", 2, "", "", "/usr/share/x/a"))
	stranger.Index(t, dnftest.Dir(two.repo))
	if d := cmp.Diff([]string{"block first:up"}, show(ask(t, one, two, "first"))); d != "" {
		t.Error(d)
	}
	if o := ask(t, one, one); o.Result.Asked != 0 || o.Result.Note == "" || o.Result.Error != "" {
		t.Errorf("no origin: %+v", o.Result)
	}
}

// What the policy asks for and cannot be tried is a finding, not a pass.
func TestNotTriedIsSaid(t *testing.T) {
	t.Parallel()
	out, err := check.Run(t.Context(), &check.Bed{Dir: t.TempDir(), Jobs: 1, NotTried: "no such host"}, []check.Check{upgrades.New()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := out[0].Result.Findings
	if len(f) != 1 || f[0].ID != "previous-series" || f[0].Level != distro.Block || !strings.Contains(f[0].Text, "was not tried: no such host") {
		t.Errorf("%+v", out[0].Result)
	}
}

// A release of another series is not in our state: its feed is asked what it holds. An
// upgrade from it is judged as any other.
func TestPreviousSeries(t *testing.T) {
	t.Parallel()
	key := dnftest.NewKey(t, "feed")
	old := make1(t, key, spec("a", 1, "", "", "/usr/share/x/a", keep+"/etc/a.conf"), spec("gone", 1, "", "", "/usr/share/x/gone"), spec("tool", 1, "", "", "/usr/share/x/tool"))
	now := make1(t, key, spec("a", 2, "", "", "/usr/share/x/a", keep+"/etc/a.conf"), spec("tool-next", 1, "Obsoletes: tool < 2\n", "", "/usr/share/x/tool"))
	bed := &check.Bed{Dir: t.TempDir(), Tool: dnftest.Find(t), Jobs: 2, Candidate: check.Feed{Repos: []dnf.Repo{now.repo}}, Packages: now.records,
		Origins: []check.Origin{{Name: "previous-1", Series: "1", Ask: true, Version: "1.7", Feed: check.Feed{Repos: []dnf.Repo{old.repo}}}}}
	out, err := check.Run(t.Context(), bed, []check.Check{upgrades.New()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"info previous-1:back:stay", "block previous-1:back:tool", "info previous-1:up:beside", "block previous-1:up:gone"}
	if d := cmp.Diff(want, show(out[0])); d != "" || out[0].Result.Error != "" {
		t.Errorf("%s\n%+v", d, out[0].Result)
	}
}
