package results

import (
	"slices"

	"slipway/internal/chart"
	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/testresults"
)

// Point is what came of the tests of one release, or of the candidate, on one board and
// image.
type Point struct {
	Version distro.Version `json:"version"`
	Key     string         `json:"key"` // testresults.Run.Key
	Passed  int            `json:"passed"`
	Failed  int            `json:"failed"`
	Skipped int            `json:"skipped"`
}

// Trend gives the points of a history (the newest first, as check.Bed.Results gives it),
// the oldest first, by version and key. What has no results has no point.
func Trend(history []check.Tested) []Point {
	all := make([]tested, len(history))
	for i, h := range history {
		all[i] = gather(h)
	}
	return trend(all)
}

func trend(history []tested) []Point {
	out := []Point{}
	for _, h := range slices.Backward(history) {
		keys := make([]string, 0, len(h.cells))
		for k := range h.cells {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			p := Point{Version: h.version, Key: k}
			for _, x := range h.cells[k] {
				switch x.worst {
				case testresults.Fail:
					p.Failed++
				case testresults.Skip:
					p.Skipped++
				default:
					p.Passed++
				}
			}
			out = append(out, p)
		}
	}
	return out
}

// Bars adds the points of each version up, for [chart.Results].
func Bars(points []Point) []chart.Bar {
	var out []chart.Bar
	for _, p := range points {
		if n := len(out); n == 0 || out[n-1].Label != string(p.Version) {
			out = append(out, chart.Bar{Label: string(p.Version)})
		}
		b := &out[len(out)-1]
		b.Passed, b.Failed, b.Skipped = b.Passed+p.Passed, b.Failed+p.Failed, b.Skipped+p.Skipped
	}
	return out
}
