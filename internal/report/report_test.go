package report

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"encoding/xml"

	"slipway/internal/cycle"
	"slipway/internal/distro"
)

func page(t *testing.T, r cycle.Review) string {
	t.Helper()
	var out bytes.Buffer
	if err := Review(&out, "Halyard <Linux>", r); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestReview(t *testing.T) {
	t.Parallel()
	r := cycle.Review{Candidate: "1.2-c1", Base: "1.1", Status: distro.Blocked, Score: 30, Same: 1, Blocking: 1, Open: []string{"libknot"},
		Components: []cycle.Component{
			{Name: "libknot", Score: 108, Risk: "high", Asks: true, Owners: []string{"Ada Byron", "Bo"}, Reasons: []cycle.Points{{Points: 100, Why: "blocks: <script>alert(1)</script>"}, {Points: 8, Why: "needed"}},
				Packages: []cycle.PackageChange{{Name: "libknot", Arch: "x86_64", Change: "changed", Old: "1-1", New: "1-2", NewSize: 20 << 20, Scripts: []string{"post"}, FilesAdded: []string{"/x"}}, {Name: "a", Arch: "noarch", Change: "added", New: "1-1"}, {Name: "b", Arch: "noarch", Change: "gone", Old: "1-1", OldSize: 11}},
				Commits:  []string{"1234 subject"}, Dependents: []string{"knotctl"}, Breaks: []string{"knotctl-1-1.x86_64: /usr/bin/knotctl uses knot_label"}, Findings: []cycle.Pointer{{Key: "abi/x", Level: distro.Block, Text: "t", Waived: true}}},
			{Name: "tools", Risk: "low", SignOff: &distro.SignOff{Component: "tools", By: "Bo", Because: "read it", At: time.Date(2026, 11, 28, 8, 0, 0, 0, time.UTC)}},
		},
		General: []cycle.Pointer{{Key: "boots/x", Level: distro.Warn, Text: "slow"}}}
	s := page(t, r)
	for _, want := range []string{`<h1>Halyard &lt;Linux&gt; 1.2-c1: what changed, by risk</h1>`, `class="verdict bad"`, `The candidate is blocked: 1 finding blocks.`, `1 of 2 components asks for a person`, `Owners: Ada Byron, Bo`, `100</b><span>blocks: &lt;script&gt;`,
		`1-1 to 1-2`, `20 MiB`, `new: 1-1`, `gone: 1-1`, `/usr/bin/knotctl uses knot_label`, `1 component depends on it`, `script post changed`, `Bo, 2026-11-28 08:00 UTC: read it`, `boots/x`, `(waived)`} {
		if !strings.Contains(s, want) {
			t.Errorf("the page lacks %q\n%s", want, s)
		}
	}
	for _, never := range []string{"<script", "http://", "https://", " src=", "@import", "url("} { // one file, nothing fetched
		if strings.Contains(s, never) {
			t.Errorf("the page has %q", never)
		}
	}
	// Every tag is closed.
	d := xml.NewDecoder(strings.NewReader(regexp.MustCompile(`<(!DOCTYPE[^>]*|meta[^>]*)>`).ReplaceAllString(s, "")))
	d.Strict = true
	for {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("%v\n%s", err, s)
		}
	}
	if s != page(t, r) {
		t.Error("the same review gives another page")
	}
	r.Blocking, r.Open, r.Status = 0, nil, distro.Ready
	if s := page(t, r); !strings.Contains(s, `class="verdict good"`) || !strings.Contains(s, "No component asks for a person any more") {
		t.Error(s)
	}
	if s := page(t, cycle.Review{Candidate: "1.1-c1", Status: distro.Testing}); !strings.Contains(s, "its checks have not run yet") || !strings.Contains(s, `class="verdict open"`) {
		t.Error(s)
	}
}
