package chart

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestResults(t *testing.T) {
	t.Parallel()
	if s := Results("x", nil); s != "" {
		t.Error(s)
	}
	var many []Bar
	for i := range 60 {
		many = append(many, Bar{Label: fmt.Sprintf("1.%d", i), Passed: 1000 * i, Failed: i % 3})
	}
	for _, bars := range [][]Bar{many, {{"1.1", 0, 0, 0}}, {{`<b>"&`, 1, 2, 3}, {"1.2", 120_000, 1, 0}}} {
		s := Results(`runtime & "more" <x>`, bars)
		d := xml.NewDecoder(strings.NewReader(s))
		rects, texts := 0, 0
		for {
			tok, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, s)
			}
			if e, ok := tok.(xml.StartElement); ok {
				switch e.Name.Local {
				case "rect":
					rects++
				case "text":
					texts++
				case "script", "a", "image":
					t.Errorf("%s in a chart", e.Name.Local)
				}
			}
		}
		want := 5 // three of the legend, two of the pattern
		for _, b := range bars {
			for _, n := range []int{b.Passed, b.Failed, b.Skipped} {
				if n > 0 {
					want++
				}
			}
			if !strings.Contains(s, fmt.Sprintf(": %d passed, %d skipped, %d failed", b.Passed, b.Skipped, b.Failed)) {
				t.Errorf("the numbers of %+v are not in the title", b)
			}
		}
		if rects != want || texts < 5 || texts > 40 || strings.Contains(s, "NaN") {
			t.Errorf("%d rectangles, want %d; %d texts", rects, want, texts)
		}
		if s != Results(`runtime & "more" <x>`, bars) {
			t.Error("the same input gives other bytes")
		}
	}
}

func TestScale(t *testing.T) {
	t.Parallel()
	for most, want := range map[int][2]int{1: {1, 1}, 5: {1, 5}, 6: {2, 6}, 11: {5, 15}, 26: {10, 30}, 99: {20, 100}, 101: {50, 150}, 1_000_000: {200_000, 1_000_000}} {
		if step, ceiling := scale(most); [2]int{step, ceiling} != want {
			t.Errorf("%d: %d, %d, want %v", most, step, ceiling, want)
		}
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	if s := Sizes("x", nil); s != "" {
		t.Error(s)
	}
	many := []Size{{"1.0", 0}}
	for i := range 40 {
		many = append(many, Size{fmt.Sprintf("1.%d", i), int64(i) << 25})
	}
	for _, bars := range [][]Size{many, {{"1.1", 0}}, {{`<b>"&`, 1}, {"1.2", 7 << 40}}} {
		s := Sizes(`light & "more" <x>`, bars)
		if err := xml.Unmarshal([]byte(s), new(struct{})); err != nil {
			t.Errorf("%v\n%s", err, s)
		}
		rects := 0
		for _, b := range bars {
			if b.Bytes > 0 {
				rects++
			}
			if !strings.Contains(s, ": "+Bytes(b.Bytes)) {
				t.Errorf("%+v is not in the title", b)
			}
		}
		if n := strings.Count(s, "<rect"); n != rects || strings.Contains(s, "NaN") || strings.Count(s, "<text") > 16 {
			t.Errorf("%d rectangles, want %d\n%s", n, rects, s)
		}
		if s != Sizes(`light & "more" <x>`, bars) {
			t.Error("the same input gives other bytes")
		}
	}
}
