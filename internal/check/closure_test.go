package check_test

import (
	"context"
	"testing"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/rpm"
)

func TestClosures(t *testing.T) {
	t.Parallel()
	dep := func(names ...string) (out []rpm.Dep) {
		for _, n := range names {
			out = append(out, rpm.Dep{Name: n})
		}
		return out
	}
	feed := func(change string) *check.Closures {
		all := []*rpm.Package{
			{Name: "app", Requires: dep("libfoo.so.1", "/bin/sh", "(rich if other)"), Recommends: dep("nice")},
			{Name: "foo", Provides: dep("foo", "libfoo.so.1"), Requires: dep("base")},
			{Name: "base"},
			{Name: "shell", Files: []rpm.File{{Path: "/bin/sh"}}},
			{Name: "nice"},
			{Name: "rich"},
			{Name: "extra", Supplements: dep("foo")},
			{Name: "newfoo", Obsoletes: dep("foo")},
			{Name: "foe", Conflicts: dep("base")},
			{Name: "stranger", Requires: dep("app")},
		}
		for _, p := range all {
			p.HeaderDigest = distro.DigestOf([]byte(p.Name))
		}
		for _, p := range all {
			if p.Name == change {
				p.HeaderDigest = distro.DigestOf([]byte(p.Name + " changed"))
			}
		}
		return check.NewClosures(all)
	}
	app := distro.DigestOf([]byte("app"))
	was, ok := feed("").Inputs(app)
	if !ok || was == "" {
		t.Fatal("app is not of the feed")
	}
	for _, tt := range []struct {
		change string
		same   bool
	}{
		{"", true}, {"stranger", true}, {"foo", false}, {"base", false}, {"shell", false}, {"nice", false},
		{"rich", false}, {"extra", false}, {"newfoo", false}, {"foe", false},
	} {
		if now, _ := feed(tt.change).Inputs(app); (now == was) != tt.same {
			t.Errorf("%q changed: the inputs of app are the same: %v", tt.change, now == was)
		}
	}
	if _, ok := feed("app").Inputs(app); ok {
		t.Error("a package that the feed does not hold has inputs")
	}
}

// TestNoPrograms: a scriptlet of anything that could take part counts, Lua does not.
func TestNoPrograms(t *testing.T) {
	t.Parallel()
	script := func(interp string) []rpm.Script { return []rpm.Script{{Kind: "post", Interp: interp}} }
	all := []*rpm.Package{
		{Name: "quiet"},
		{Name: "lua", Scripts: script("<lua>")},
		{Name: "shell", Scripts: script("/bin/sh")},
		{Name: "embedded", Scripts: script("<lua> -x")},
		{Name: "needs-shell", Requires: []rpm.Dep{{Name: "lua"}, {Name: "shell"}}},
		{Name: "needs-lua", Requires: []rpm.Dep{{Name: "lua"}}},
	}
	for _, p := range all {
		p.HeaderDigest = distro.DigestOf([]byte(p.Name))
	}
	c := check.NewClosures(all)
	for name, want := range map[string]bool{"quiet": true, "lua": true, "shell": false, "embedded": false, "needs-shell": false, "needs-lua": true, "unknown": false} {
		if got := c.NoPrograms(distro.DigestOf([]byte(name))); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestRelationsOfHeaders: the headers tell what dnf tells.
func TestRelationsOfHeaders(t *testing.T) {
	t.Parallel()
	old := distro.PackageRecord{Name: "old", Version: "1.0", Release: "1", Arch: "noarch"}
	older := distro.PackageRecord{Name: "old", Version: "0.9", Release: "3", Arch: "noarch"}
	part := distro.PackageRecord{Name: "part", Version: "2.0", Release: "1", Arch: "noarch"}
	foe := distro.PackageRecord{Name: "foe", Version: "1", Release: "1", Arch: "noarch"}
	headers := map[string]*rpm.Package{
		"old":  {},
		"part": {Obsoletes: []rpm.Dep{{Name: "old", Flags: rpm.SenseLess, EVR: "1.0"}}},
		"foe":  {Conflicts: []rpm.Dep{{Name: "old", Flags: rpm.SenseGreater | rpm.SenseEqual, EVR: "1.0-1"}, {Name: "(part if old)"}}},
	}
	bed := &check.Bed{Read: func(_ context.Context, r distro.PackageRecord) (*rpm.Package, error) { return headers[r.Name], nil }}
	all := []distro.PackageRecord{old, older, part, foe}
	r, err := bed.Relations(t.Context(), nil, all)
	if err != nil {
		t.Fatal(err)
	}
	if by, ok := r.Obsoleted(older, all); !ok || by.Name != "part" {
		t.Errorf("old 0.9 is obsoleted by %v", by)
	}
	if by, ok := r.Obsoleted(old, all); ok {
		t.Errorf("old 1.0 is obsoleted by %v", by)
	}
	keep, left := r.Together([]distro.PackageRecord{foe, old, part})
	if len(keep) != 2 || keep[1].Name != "part" || len(left) != 1 || left[0] != "old-1.0-1.noarch conflicts with foe-1-1.noarch" {
		t.Errorf("%v %q", keep, left)
	}
}
