package check_test

import (
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
