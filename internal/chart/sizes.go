package chart

import (
	"fmt"
	"html"
	"strings"
)

// Size is one bar of a chart of sizes.
type Size struct {
	Label string // of a release: "1.2"
	Bytes int64
}

// Sizes gives a chart of one thing's size over releases, the oldest first, as one svg
// element; the last bar, which is what a person looks at, is filled, and has its size
// above it. With no bars it is "".
func Sizes(title string, bars []Size) string {
	if len(bars) == 0 {
		return ""
	}
	most := int64(1)
	lines := []string{title}
	for _, b := range bars {
		most = max(most, b.Bytes)
		lines = append(lines, b.Label+": "+Bytes(b.Bytes))
	}
	unit, name := int64(1), "B"
	for _, u := range []struct {
		bytes int64
		name  string
	}{{1 << 10, "KiB"}, {1 << 20, "MiB"}, {1 << 30, "GiB"}} {
		if most >= 5*u.bytes {
			unit, name = u.bytes, u.name
		}
	}
	step, ceiling := scale(int((most + unit - 1) / unit))
	y := func(n float64) float64 { return float64(top+inner) - float64(inner)*n/float64(ceiling) }
	var out strings.Builder
	begin(&out)
	fmt.Fprintf(&out, "<title>%s</title>\n", html.EscapeString(strings.Join(lines, "\n")))
	for n := 0; n <= ceiling; n += step {
		fmt.Fprintf(&out, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="var(--line,#d0d7de)"/><text x="%d" y="%.1f" text-anchor="end" fill="var(--soft,#57606a)">%d %s</text>`+"\n", left, width-right, y(float64(n)), y(float64(n)), left-8, y(float64(n))+4, n, name)
	}
	slot := float64(width-left-right) / float64(len(bars))
	w := min(slot*.7, 44)
	every := (len(bars) + perChart - 1) / perChart
	for i, b := range bars {
		x := left + slot*(float64(i)+.5)
		at := y(float64(b.Bytes) / float64(unit))
		fill := "var(--line,#d0d7de)"
		if i == len(bars)-1 {
			fill = "var(--ink,#1b1f24)"
			fmt.Fprintf(&out, `<text x="%d" y="%.1f" text-anchor="end" font-weight="600" fill="var(--ink,#1b1f24)">%s</text>`+"\n", width-right, max(at-6, 14), html.EscapeString(Bytes(b.Bytes)))
		}
		if h := float64(top+inner) - at; b.Bytes > 0 {
			h = max(h, 1.5)
			fmt.Fprintf(&out, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s" stroke="var(--ink,#1b1f24)" stroke-width=".5"/>`+"\n", x-w/2, float64(top+inner)-h, w, h, fill)
		}
		if (len(bars)-1-i)%every == 0 {
			fmt.Fprintf(&out, `<text x="%.1f" y="%d" text-anchor="middle" fill="var(--ink,#1b1f24)">%s</text>`+"\n", x, height-bottom+18, html.EscapeString(short(b.Label)))
		}
	}
	out.WriteString("</svg>\n")
	return out.String()
}

// Bytes is a size for people: "96.0 MiB".
func Bytes(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}
