// Package chart draws charts as SVG, for pages: no script, no style from outside, and
// the same input gives the same bytes. Colours follow the page's (the variables --good,
// --bad, --soft, --ink, with defaults), parts differ in pattern too, so that print
// without colour reads, and a table of the same numbers stands in the title for readers
// who see no picture.
package chart

import (
	"fmt"
	"html"
	"strings"
)

// Bar is one bar of a chart of results.
type Bar struct {
	Label                   string // of a release: "1.2"
	Passed, Failed, Skipped int
}

const (
	width, height = 400, 220 // of the drawing; it scales to the page, and is read on a phone
	left, right   = 62, 12
	top, bottom   = 40, 30
	inner         = height - top - bottom
)

// perChart is how many labels stand below a chart.
const perChart = 7

func begin(out *strings.Builder) {
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" class="chart" style="width:100%%;max-width:%dpx;height:auto;font:12px system-ui,sans-serif">`+"\n", width, height, 3*width/2)
}

// Results gives a chart of results over releases, the oldest first, as one svg element;
// each bar is a stack of what passed, was skipped and failed. With no bars it is "".
func Results(title string, bars []Bar) string {
	if len(bars) == 0 {
		return ""
	}
	most := 1
	for _, b := range bars {
		most = max(most, b.Passed+b.Failed+b.Skipped)
	}
	step, ceiling := scale(most)
	y := func(n int) float64 { return float64(top+inner) - float64(inner)*float64(n)/float64(ceiling) }
	var out strings.Builder
	begin(&out)
	lines := []string{title}
	for _, b := range bars {
		lines = append(lines, fmt.Sprintf("%s: %d passed, %d skipped, %d failed", b.Label, b.Passed, b.Skipped, b.Failed))
	}
	fmt.Fprintf(&out, "<title>%s</title>\n", html.EscapeString(strings.Join(lines, "\n")))
	id := pattern(title)
	fmt.Fprintf(&out, `<defs><pattern id="%s" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="6" height="6" fill="var(--paper,#fff)"/><rect width="3" height="6" fill="var(--bad,#b3261e)"/></pattern></defs>`+"\n", id)
	fills := []struct{ name, fill string }{{"passed", "var(--good,#1a6b34)"}, {"skipped", "var(--line,#d0d7de)"}, {"failed", "url(#" + id + ")"}}
	for i, f := range fills {
		x := left + 100*i
		fmt.Fprintf(&out, `<rect x="%d" y="10" width="12" height="12" fill="%s" stroke="var(--ink,#1b1f24)" stroke-width=".5"/><text x="%d" y="20" fill="var(--ink,#1b1f24)">%s</text>`+"\n", x, f.fill, x+18, f.name)
	}
	for n := 0; n <= ceiling; n += step {
		fmt.Fprintf(&out, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="var(--line,#d0d7de)"/><text x="%d" y="%.1f" text-anchor="end" fill="var(--soft,#57606a)">%d</text>`+"\n", left, width-right, y(n), y(n), left-8, y(n)+4, n)
	}
	slot := float64(width-left-right) / float64(len(bars))
	w := min(slot*.7, 56)
	every := (len(bars) + perChart - 1) / perChart // labels that would touch are left out, never the last
	for i, b := range bars {
		x := left + slot*(float64(i)+.5) - w/2
		under := 0
		for j, n := range []int{b.Passed, b.Skipped, b.Failed} {
			if n == 0 {
				continue
			}
			h := max(y(under)-y(under+n), 1.5) // one failure of a thousand is seen, too
			fmt.Fprintf(&out, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s" stroke="var(--ink,#1b1f24)" stroke-width=".5"/>`+"\n", x, y(under)-h, w, h, fills[j].fill)
			under += n
		}
		if b.Failed > 0 && len(bars) <= 24 {
			fmt.Fprintf(&out, `<text x="%.1f" y="%.1f" text-anchor="middle" font-weight="600" fill="var(--bad,#b3261e)">%d</text>`+"\n", x+w/2, y(under)-6, b.Failed)
		}
		if (len(bars)-1-i)%every == 0 {
			fmt.Fprintf(&out, `<text x="%.1f" y="%d" text-anchor="middle" fill="var(--ink,#1b1f24)">%s</text>`+"\n", x+w/2, height-bottom+18, html.EscapeString(short(b.Label)))
		}
	}
	out.WriteString("</svg>\n")
	return out.String()
}

// scale gives round steps of an axis, at most five, and where it ends.
func scale(most int) (step, ceiling int) {
	step = 1
	for f := []int{2, 5, 10}; step*5 < most; {
		for _, x := range f {
			if step*x*5 >= most || x == 10 {
				step *= x
				break
			}
		}
	}
	return step, (most + step - 1) / step * step
}

// pattern gives an id that charts of one page do not share.
func pattern(title string) string {
	var h uint32 = 2166136261
	for _, c := range []byte(title) {
		h = (h ^ uint32(c)) * 16777619
	}
	return fmt.Sprintf("failed-%08x", h)
}

func short(s string) string {
	if r := []rune(s); len(r) > 8 {
		return string(r[:7]) + "…"
	}
	return s
}
