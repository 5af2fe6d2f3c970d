package settings_test

import (
	"testing"

	"slipway/internal/check"
	"slipway/internal/check/settings"
	"slipway/internal/distro"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	found := distro.Finding{Check: settings.ID, ID: "mirror-tarballs", Level: distro.Warn, Text: "none", Cure: "set it", Boards: []string{"b"}}
	for _, tt := range []struct {
		bed  check.Bed
		want int
	}{{check.Bed{Boards: []distro.Board{{Name: "b"}}, Settings: []distro.Finding{found}}, 1}, {check.Bed{Boards: []distro.Board{{Name: "b"}}}, 0}, {check.Bed{}, 0}} {
		tt.bed.Dir = t.TempDir()
		out, err := check.Run(t.Context(), &tt.bed, []check.Check{settings.New()}, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := out[0].Result
		if len(r.Findings) != tt.want || r.Asked != len(tt.bed.Boards) || (r.Note == "") != (r.Asked > 0) || r.Error != "" {
			t.Errorf("%+v", r)
		}
		if tt.want == 1 && (r.Findings[0].Cure != "set it" || r.Findings[0].Level != distro.Warn || r.Findings[0].Boards[0] != "b") {
			t.Errorf("%+v", r.Findings[0])
		}
	}
}
