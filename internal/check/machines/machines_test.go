package machines_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/check"
	"slipway/internal/check/machines"
	"slipway/internal/distro"
	"slipway/internal/rpm"
)

// made is a package of a scope; body stands for what is in it.
type made struct{ name, scope, release, body string }

func (m made) record() distro.PackageRecord {
	return distro.PackageRecord{Name: m.name, Version: "1", Release: m.release, Arch: m.scope, Scope: m.scope, SourceName: m.name}
}

func (m made) header() *rpm.Package {
	return &rpm.Package{Name: m.name, Version: "1", Release: m.release, Arch: m.scope,
		Provides: []rpm.Dep{{Name: m.name + "(" + m.scope + ")", Flags: 8, EVR: "1-" + m.release}, {Name: m.name, Flags: 8, EVR: "1-" + m.release}},
		Files:    []rpm.File{{Path: "/usr/share/" + m.name, Mode: 0o100644, Digest: m.body}}}
}

func TestMachines(t *testing.T) {
	t.Parallel()
	boards := []distro.Board{{Name: "qemux86-64", Arch: "core2-64"}, {Name: "evk", Arch: "cortexa53", SoCFamily: "imx8"}}
	for _, tt := range []struct {
		name     string
		packages []made
		asked    int
		want     []string
	}{
		{"none", []made{{"a", "noarch", "1", "x"}, {"a", "core2_64", "1", "x"}}, 0, nil},
		{"they differ", []made{{"a", "qemux86_64", "1", "x"}, {"a", "evk", "1", "y"}}, 2, nil},
		{"the same on two machines", []made{{"a", "qemux86_64", "1", "x"}, {"a", "evk", "3", "x"}}, 2, []string{"warn a:same a is the same in the feeds evk and qemux86_64"}},
		{"the same as the generic one", []made{{"a", "qemux86_64", "1", "x"}, {"a", "core2_64", "1", "x"}}, 1, []string{"warn a:same a is the same in the feeds core2_64 and qemux86_64"}},
		{"the same in the SoC family", []made{{"a", "imx8", "1", "x"}, {"a", "evk", "1", "x"}}, 2, []string{"warn a:same a is the same in the feeds evk and imx8"}},
		{"another name", []made{{"a", "qemux86_64", "1", "x"}, {"b", "evk", "1", "x"}}, 2, nil},
		{"a board that is gone", []made{{"a", "old_board", "1", "x"}, {"a", "evk", "1", "x"}}, 1, []string{"warn a:same a is the same in the feeds evk and old_board"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bed := &check.Bed{Dir: t.TempDir(), Boards: boards}
			headers := map[string]*rpm.Package{}
			for _, p := range tt.packages {
				bed.Packages = append(bed.Packages, p.record())
				headers[p.record().NEVRA()] = p.header()
			}
			bed.Read = func(_ context.Context, r distro.PackageRecord) (*rpm.Package, error) { return headers[r.NEVRA()], nil }
			out, err := check.Run(t.Context(), bed, []check.Check{machines.New()}, nil)
			if err != nil || out[0].Result.Error != "" || out[0].Result.Asked != tt.asked {
				t.Fatalf("%v %+v", err, out[0].Result)
			}
			var got []string
			for _, f := range out[0].Result.Findings {
				got = append(got, string(f.Level)+" "+f.ID+" "+f.Text)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}
