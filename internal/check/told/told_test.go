package told_test

import (
	"testing"

	"slipway/internal/check"
	"slipway/internal/check/told"
	"slipway/internal/distro"
)

func TestTold(t *testing.T) {
	t.Parallel()
	found := distro.Finding{Check: told.Settings, ID: "mirror-tarballs", Level: distro.Warn, Text: "none", Cure: "set it", Boards: []string{"b"}}
	bed := &check.Bed{Dir: t.TempDir(), Told: map[string]check.Told{told.Settings: {Asked: 1, Findings: []distro.Finding{found}}, told.Layers: {Asked: 3}}}
	out, err := check.Run(t.Context(), bed, told.All(), nil)
	if err != nil || len(out) != 3 {
		t.Fatal(out, err)
	}
	for i, want := range []struct {
		id       string
		asked, n int
		note     bool
	}{{told.Settings, 1, 1, false}, {told.Layers, 3, 0, false}, {told.Artifacts, 0, 0, true}} {
		r := out[i].Result
		if r.Spec.ID != want.id || r.Asked != want.asked || len(r.Findings) != want.n || (r.Note != "") != want.note || r.Error != "" {
			t.Errorf("%+v", r)
		}
	}
	if f := out[0].Result.Findings[0]; f.Cure != "set it" || f.Level != distro.Warn || f.Boards[0] != "b" {
		t.Errorf("%+v", f)
	}
}
