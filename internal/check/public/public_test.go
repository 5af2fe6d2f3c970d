package public_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/check"
	"slipway/internal/check/public"
	"slipway/internal/distro"
)

func TestPublic(t *testing.T) {
	t.Parallel()
	image := check.ImageContent{Board: "qemu", Image: "light", Name: "qemu/light-qemu-1.1.img", Packages: []distro.PackageRecord{
		{Name: "greet", Version: "1", Release: "1", Arch: "noarch", SourceName: "greet", License: "MIT"},
		{Name: "radio", Version: "2", Release: "1", Arch: "x86_64", SourceName: "vendor-radio", License: "CLOSED"}}}
	closed := distro.PublicPolicy{Classes: []distro.Class{distro.Images}, Exclude: []distro.Exclusion{{License: "CLOSED"}}}
	for _, tt := range []struct {
		name     string
		policy   distro.PublicPolicy
		contents []check.ImageContent
		asked    int
		note     string
		want     []string
	}{
		{"no images", closed, nil, 0, "the candidate has no images", nil},
		{"images stay in", distro.PublicPolicy{Exclude: closed.Exclude}, []check.ImageContent{image}, 0, "no image is published: publish.public does not list images", nil},
		{"nothing is excluded", distro.PublicPolicy{Classes: closed.Classes}, []check.ImageContent{image}, 1, "", nil},
		{"excluded", closed, []check.ImageContent{image}, 1, "",
			[]string{"block qemu/light:radio.x86_64 image light of qemu holds radio-2-1.x86_64, which is not public: publish.exclude has {license: CLOSED}"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out, err := check.Run(t.Context(), &check.Bed{Dir: t.TempDir(), Contents: tt.contents, Public: tt.policy}, []check.Check{public.New()}, nil)
			if err != nil || out[0].Result.Error != "" {
				t.Fatal(err, out[0].Result.Error)
			}
			r := out[0].Result
			var got []string
			for _, f := range r.Findings {
				got = append(got, string(f.Level)+" "+f.ID+" "+f.Text)
			}
			if d := cmp.Diff(tt.want, got); d != "" || r.Asked != tt.asked || r.Note != tt.note {
				t.Errorf("asked %d, note %q\n%s", r.Asked, r.Note, d)
			}
		})
	}
}
