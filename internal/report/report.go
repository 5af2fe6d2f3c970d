// Package report writes pages that a person decides by: one HTML file each, without
// script, with its style inside, for a phone, a large screen and paper.
package report

import (
	"embed"
	"fmt"
	"html/template"
	"io"

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
}).ParseFS(pages, "*.html"))

// Review writes the page of a review.
func Review(out io.Writer, title string, r cycle.Review) error {
	most := 1
	for _, c := range r.Components {
		most = max(most, c.Score)
	}
	return templates.ExecuteTemplate(out, "review.html", map[string]any{"Title": title, "R": r, "Most": most})
}

// count is "1 finding", "2 findings".
func count(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
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
