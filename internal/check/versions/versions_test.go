package versions_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/check"
	"slipway/internal/check/versions"
	"slipway/internal/distro"
)

func pkg(name, source, version, release, content, header string) distro.PackageRecord {
	return distro.PackageRecord{Name: name, SourceName: source, Version: version, Release: release, Arch: "noarch", Content: distro.Digest(content), HeaderDigest: distro.Digest(header)}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	epoch := pkg("a", "a", "1", "1", "x", "")
	epoch.Epoch = 1
	other := pkg("a", "a", "2", "1", "x", "")
	other.Arch = "x86_64"
	source := pkg("gone", "gone", "1", "1", "x", "")
	source.Arch = "src"
	one := func(p distro.PackageRecord) []distro.PackageRecord { return []distro.PackageRecord{p} }
	for _, tt := range []struct {
		name            string
		base, candidate []distro.PackageRecord
		want            []string
	}{
		{"equal", one(pkg("a", "a", "1", "1", "x", "h")), one(pkg("a", "a", "1", "1", "x", "h")), nil},
		{"up", one(pkg("a", "a", "1", "1", "x", "h")), one(pkg("a", "a", "1", "2", "y", "i")), nil},
		{"backwards", one(pkg("a", "a", "1.10", "1", "x", "")), one(pkg("a", "a", "1.9", "1", "y", "")), []string{"block a.noarch:backwards"}},
		{"release backwards", one(pkg("a", "a", "1", "10", "x", "")), one(pkg("a", "a", "1", "9", "y", "")), []string{"block a.noarch:backwards"}},
		{"tilde", one(pkg("a", "a", "1", "1", "x", "")), one(pkg("a", "a", "1~rc1", "1", "y", "")), []string{"block a.noarch:backwards"}},
		{"epoch", one(pkg("a", "a", "2", "1", "x", "")), one(epoch), nil},
		{"epoch lost", one(epoch), one(pkg("a", "a", "2", "1", "x", "")), []string{"block a.noarch:backwards"}},
		{"other content", one(pkg("a", "a", "1", "1", "x", "h")), one(pkg("a", "a", "1", "1", "y", "i")), []string{"block a.noarch:content"}},
		{"other digest of the content, same header", one(pkg("a", "a", "1", "1", "x", "h")), one(pkg("a", "a", "1", "1", "y", "h")), nil},
		{"a part is lost", append(one(pkg("a", "s", "1", "1", "x", "")), pkg("b", "s", "1", "1", "x", "")), one(pkg("a", "s", "2", "1", "y", "")), []string{"info b.noarch:lost"}},
		{"a spec is lost", append(one(pkg("a", "s", "1", "1", "x", "")), pkg("b", "t", "1", "1", "x", "")), one(pkg("a", "s", "2", "1", "y", "")), []string{"info b.noarch:lost"}},
		{"other architecture", one(pkg("a", "a", "1", "1", "x", "")), one(other), []string{"info a.noarch:arch"}},
		{"new number, same content", one(pkg("same", "a", "1", "1", "x", "")), one(pkg("same", "a", "1", "2", "y", "")), []string{"warn same.noarch:same"}},
		{"sources are left alone", append(one(pkg("a", "a", "1", "1", "x", "h")), source), one(pkg("a", "a", "1", "1", "x", "h")), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bed := &check.Bed{Dir: t.TempDir(), Packages: tt.candidate, Base: tt.base, SameButNumber: func(a, b distro.PackageRecord) bool { return a.Name == "same" }}
			out, err := check.Run(t.Context(), bed, []check.Check{versions.New()}, nil)
			if err != nil || out[0].Result.Error != "" || out[0].Result.Asked == 0 {
				t.Fatalf("%v %+v", err, out)
			}
			var got []string
			for _, f := range out[0].Result.Findings {
				got = append(got, string(f.Level)+" "+f.ID)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
	out, err := check.Run(t.Context(), &check.Bed{Dir: t.TempDir()}, []check.Check{versions.New()}, nil)
	if err != nil || out[0].Result.Asked != 0 || out[0].Result.Note == "" {
		t.Errorf("first release: %v %+v", err, out)
	}
}

// TestVersionsOfRecipes: BitBake numbers recipes, and a build that takes what did not
// change from its cache brings less than the feed has.
func TestVersionsOfRecipes(t *testing.T) {
	t.Parallel()
	base := []distro.PackageRecord{pkg("same", "a", "1", "r0.0", "x", "h"), pkg("a", "a", "1", "r0.0", "x", "h"), pkg("same-b", "b", "1", "r0.0", "x", "h"), pkg("gone", "gone", "1", "r0.0", "x", "h")}
	candidate := []distro.PackageRecord{pkg("same", "a", "1", "r0.1", "y", "i"), pkg("a", "a", "1", "r0.1", "z", "j"), pkg("same-b", "b", "1", "r0.1", "y", "i")}
	bed := &check.Bed{Dir: t.TempDir(), Packages: candidate, Base: base, Recipes: true, SameButNumber: func(a, b distro.PackageRecord) bool { return a.Name != "a" }}
	out, err := check.Run(t.Context(), bed, []check.Check{versions.New()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if f := out[0].Result.Findings; len(f) != 1 || f[0].ID != "same-b.noarch:same" {
		t.Errorf("%+v", f)
	}
}
