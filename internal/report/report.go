// Package report writes pages that a person decides by: one HTML file each, without
// script, with its style inside, for a phone, a large screen and paper.
package report

import (
	"embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"slipway/internal/chart"
	"slipway/internal/cycle"
	"slipway/internal/distro"
)

//go:embed *.html
var pages embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"size":   size,
	"count":  count,
	"status": status,
	"bar":    func(points, most int) int { return max(2, 100*points/max(1, most)) },
	"bytes":  chart.Bytes,
	"day":    func(t time.Time) string { return t.UTC().Format(time.DateOnly) },
	"when":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") + " UTC" },
	"join":   func(l []string) string { return strings.Join(l, ", ") },
	"reasons": func(p *checkPage, r []distro.Reason, id string) map[string]any {
		return map[string]any{"P": p, "Reasons": r, "ID": id}
	},
	"version": func(t distro.Trial) distro.Version { // where its name does not say it
		if strings.HasSuffix(t.Name, string(t.Version)) {
			return ""
		}
		return t.Version
	},
	"line":    line,
	"changes": changes,
	"tone": func(s distro.Status) string {
		return map[string]string{"good": "done", "bad": "block", "open": "warn"}[status(s)]
	},
	"total": func(f findings) int { return len(f.Shown) + f.More },
	"few":   few,
	"trials": func(p *checkPage, t bedTable, first string) map[string]any {
		return map[string]any{"P": p, "Table": t, "First": first}
	},
}).ParseFS(pages, "*.html"))

// Review writes the page of a review.
func Review(out io.Writer, title string, r cycle.Review) error {
	most := 1
	for _, c := range r.Components {
		most = max(most, c.Score)
	}
	return execute(out, "review.html", map[string]any{"Title": title, "R": r, "Most": most})
}

// Limits of the list of changes on a page that is not of them alone.
const (
	mostOverview = 250
	mostCards    = 60
	cardScore    = 15
)

// changes is what the template of that name shows: all components, or on a page with
// more on it those that a person may want.
func changes(r cycle.Review, most int, all bool) map[string]any {
	cards, overview, more := map[string]bool{}, r.Components, 0
	for _, c := range r.Components {
		if all || len(cards) < mostCards && (c.Asks || c.SignOff != nil || len(c.Findings) > 0 || r.Base != "" && c.Score >= cardScore) {
			cards[c.Name] = true
		}
	}
	if !all && len(overview) > mostOverview {
		more, overview = len(overview)-mostOverview, overview[:mostOverview]
	}
	return map[string]any{"R": r, "Most": most, "Cards": cards, "Overview": overview, "More": more}
}

// count is "1 finding", "2 findings".
func count(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// line is the first line of a text, cut where it is long.
func line(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	if r := []rune(s); len(r) > 160 {
		return string(r[:160]) + "..."
	}
	return s
}

// few cuts a list, and says so.
func few(l []string, n int) []string {
	if len(l) <= n {
		return l
	}
	return append(slices.Clone(l[:n]), fmt.Sprintf("and %d more", len(l)-n))
}

// status is a word for a class of the style.
func status(s distro.Status) string {
	switch s {
	case distro.Ready, distro.Approved:
		return "good"
	case distro.Blocked, distro.Rejected, distro.Stale:
		return "bad"
	}
	return "open"
}

func size(n int64) string {
	switch {
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
