package report

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"slipway/internal/check/results"
	"slipway/internal/cycle"
	"slipway/internal/distro"
)

// hostile is what others may write into a package's name, a log, a commit.
const hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> \xff\xfe \x1b[31mred \u202egnp.exe"

// sample is a candidate with something in every part of the page; with n its texts and
// lists are long.
func sample(n int) cycle.Report {
	at := time.Date(2026, 11, 28, 8, 0, 0, 0, time.UTC)
	long := strings.Repeat("a-very-long-word-without-a-place-to-break", n)
	finding := func(check, id string, level distro.Level, boards ...string) distro.Finding {
		return distro.Finding{Check: check, ID: id, Level: level, Object: "o", Text: "it goes wrong: " + hostile + long, Cure: "mend it " + hostile, Boards: boards, Source: "libknot", Paths: []string{"halyard/specs/libknot"},
			Since: "1.1-c1", Evidence: []string{"line one " + hostile, long}, Log: "test/" + check + "/first-up.txt", Commits: []string{"0123456789 subject " + hostile}}
	}
	decides := distro.Reason{Finding: finding("upgrades", "first:up:libknot", distro.Block, "qemux86-64"), Decides: true}
	waived := distro.Reason{Finding: finding("abi", "libknot:types", distro.Block), Waived: &distro.Waiver{By: "Ada <b>", Because: "known " + hostile, Expires: at.AddDate(0, 1, 0)}, Note: "waived by Ada"}
	look := distro.Reason{Finding: finding("inspect", "libknot:size", distro.Warn), Note: "warn by the policy, block by the check"}
	know := distro.Reason{Finding: finding("versions", "old:lost", distro.Info)}
	missing := distro.Reason{Finding: distro.Finding{Check: "boots", ID: "missing", Level: distro.Block, Text: "the check has not run"}, Decides: true}
	off := distro.Reason{Finding: distro.Finding{Check: "machine-specific", ID: "off", Level: distro.Info, Text: "the check is turned off"}, Note: "by the policy of the series"}
	reasons := []distro.Reason{decides, missing, waived, look, know, off}
	for i := range 400 * (n - 1) {
		reasons = append(reasons, distro.Reason{Finding: distro.Finding{Check: "inspect", ID: fmt.Sprintf("p%d", i), Level: distro.Warn, Text: "it grew"}})
	}
	step := func(name, outcome string) distro.TrialStep {
		return distro.TrialStep{Name: name, Outcome: outcome, Log: "test/upgrades/first-up.txt"}
	}
	id, _ := distro.ParseBuildID("1.2-b1")
	checks := []distro.CheckResult{
		{Spec: distro.CheckSpec{ID: "upgrades", Level: distro.Block, Asks: "does it upgrade?"}, Asked: 12, Findings: []distro.Finding{decides.Finding}, Note: "chosen at random: 1.1"},
		{Spec: distro.CheckSpec{ID: "abi", Level: distro.Block, Asks: "does it fit?"}, Asked: 2, Findings: []distro.Finding{waived.Finding}},
		{Spec: distro.CheckSpec{ID: "inspect", Level: distro.Warn, Asks: "is it meant?"}, Asked: 3, Findings: []distro.Finding{look.Finding}},
		{Spec: distro.CheckSpec{ID: "versions", Level: distro.Block, Asks: "does it rise?"}, Asked: 4, Findings: []distro.Finding{know.Finding}},
		{Spec: distro.CheckSpec{ID: "results"}, Note: "no results"},
		{Spec: distro.CheckSpec{ID: "own-x"}, Error: "exit status 3 " + hostile},
	}
	r := cycle.Report{Title: "Halyard <Linux>", Status: distro.Blocked, Boards: []string{"qemux86-64", "qemuarm64"},
		Verdict: distro.Verdict{Status: distro.Blocked, Boards: map[string]distro.Status{"qemux86-64": distro.Blocked, "qemuarm64": distro.Ready}, Reasons: reasons},
		Build: cycle.Build{ID: id, Version: "1.2", Series: "1", Base: "1.1", Created: at, RevisionID: distro.DigestOf([]byte("x")),
			Revision:  distro.Revision{Layers: []distro.LayerPin{{Name: "halyard", Path: "layers/halyard", Commit: strings.Repeat("a", 40)}, {Name: "core", URL: "https://git.example.org/core", Path: "meta", Commit: strings.Repeat("b", 40)}}, Builder: distro.BuilderPin{Kind: "rpmbuild", Tools: map[string]string{"rpm": "4.18", "gcc": "12"}}},
			Candidate: cycle.Candidate{Checks: checks, Tested: at, Seed: 4711}},
		Review: cycle.Review{Candidate: "1.2-c1", Base: "1.1", Status: distro.Blocked, Score: 30, Same: 7, Blocking: 1, Open: []string{"libknot"}, Components: []cycle.Component{
			{Name: "libknot", Score: 108, Risk: "high", Asks: true, Owners: []string{"Ada"}, Reasons: []cycle.Points{{Points: 100, Why: "blocks " + hostile}}, Commits: []string{"1234 " + hostile}, Dependents: []string{"knotctl"}, Breaks: []string{"knotctl uses it"},
				Packages: []cycle.PackageChange{{Name: "libknot" + long, Arch: "x86_64", Change: "changed", Old: "1-1", New: "1-2", NewSize: 20 << 20, FilesAdded: []string{"/usr/" + hostile, "/" + long}, Scripts: []string{"post"}}}},
			{Name: "quiet", Risk: "low", Score: 1}}},
		Sizes: []cycle.SizeLine{{Name: "packages", Points: []cycle.SizePoint{{Version: "1.1", Bytes: 9 << 20, Count: 40}, {Version: "1.2", Bytes: 11 << 20, Count: 41}}},
			{Name: "qemux86-64/light.img", Image: true, Points: []cycle.SizePoint{{Version: "1.1", Bytes: 96 << 20}, {Version: "1.2", Bytes: 120 << 20}}}},
		Results: []results.Point{{Version: "1.1", Key: "k", Passed: 90, Failed: 1, Skipped: 2}, {Version: "1.2", Key: "k", Passed: 88, Failed: 3, Skipped: 2}},
		Trials: []cycle.Trials{
			{Check: "upgrades", Trials: []distro.Trial{
				{Board: "qemux86-64", Name: "first", Version: "1.0", Steps: []distro.TrialStep{step("install", "good"), step("up", "bad"), {Name: "back"}}},
				{Board: "qemux86-64", Name: "random-1.1", Version: "1.1", Steps: []distro.TrialStep{step("install", "good"), step("up", "good"), step("back", "good")}},
				{Board: "qemuarm64", Name: "first", Version: "1.0", Note: "nothing of it has changed"}}},
			{Check: "selfupgrades", Trials: []distro.Trial{{Board: "qemux86-64", Image: "light", Name: "from 1.0", Version: "1.0", Steps: []distro.TrialStep{step("boot", "good")}}}},
			{Check: "boots", Trials: []distro.Trial{{Board: "qemux86-64", Image: "light", Name: "device 1", Steps: []distro.TrialStep{step("boot", "good")},
				Measures: []distro.Measure{{Name: "login", Value: 4.25, Unit: "s"}, {Name: "memory", Value: 61, Unit: "MiB"}, {Name: "listens", Text: "tcp/22 " + hostile}}}}}},
		Logs: []cycle.LogEnd{{Name: "test/upgrades/first-up.txt", Size: 1 << 20, Text: strings.Repeat("said "+hostile+"\n", 20*n) + long, Cut: true, Named: true}, {Name: "console.log", Size: 9, Text: "built\r\n"}, {Name: "gone.log", Size: 9, Gone: true}},
		Left: 3}
	return r
}

func checkPageOf(t *testing.T, r cycle.Report) string {
	t.Helper()
	var out bytes.Buffer
	if err := Check(&out, r); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

var (
	tag  = regexp.MustCompile(`<[a-zA-Z!/][^>]*>`)
	link = regexp.MustCompile(`\s(href|src|action|data|srcset|poster|background|xlink:href)="?([^"\s>]*)`)
	urls = regexp.MustCompile(`url\(([^)]*)\)`)
)

// alone fails unless a page needs nothing from outside and runs nothing.
func alone(t *testing.T, page string) {
	t.Helper()
	for _, x := range tag.FindAllString(page, -1) {
		name := strings.ToLower(strings.Trim(strings.Fields(strings.Trim(x, "</>"))[0], "/"))
		switch name {
		case "script", "link", "iframe", "object", "embed", "img", "image", "base", "form", "input", "button", "video", "audio", "foreignobject", "use":
			t.Errorf("the page has %s", x)
		}
		if strings.Contains(strings.ToLower(x), " on") && regexp.MustCompile(`(?i)\son[a-z]+\s*=`).MatchString(x) {
			t.Errorf("the page has %s", x)
		}
		for _, l := range link.FindAllStringSubmatch(x, -1) {
			if l[1] != "href" || !strings.HasPrefix(l[2], "#") {
				t.Errorf("the page refers to %s: %s", l[2], x)
			}
		}
	}
	for _, u := range urls.FindAllStringSubmatch(page, -1) {
		if !strings.HasPrefix(u[1], "#") {
			t.Errorf("the page loads %s", u[1])
		}
	}
	if strings.Contains(page, "@import") || !utf8.ValidString(page) || strings.ContainsAny(page, "\x1b\u202e\r") {
		t.Error("the page has an import, invalid UTF-8 or a control character")
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	s := checkPageOf(t, sample(1))
	alone(t, s)
	// The verdict stands before everything else, and is in the title.
	order := []string{`<title>1.2-c1 is blocked: Halyard &lt;Linux&gt;</title>`, `<h1>1.2-c1 is <span class="block">blocked</span></h1>`, `2 findings block it`, `<th scope="row">qemux86-64</th><td class="block"><strong>blocked</strong></td><td class="n">2</td>`,
		`<th scope="row">qemuarm64</th><td class="done"><strong>ready</strong></td><td class="n">1</td>`, `slipway waive 1.2-c1 FINDING`, `<h2 id="blocks">`, `upgrades/first:up:libknot`, `halyard/specs/libknot`, `1.1-c1`, `boots/missing`, `<h2 id="waived">`, `Waived by Ada &lt;b&gt; until 2026-12-28: known &lt;script&gt;`,
		`<h2 id="look">`, `warn by the policy, block by the check`, `<h2 id="know">`, `<h2 id="checks">`, `1 finding that blocks`, `1 finding, waived`, `1 finding to know`, `asked nothing`, `did not come to its end: exit status 3`, `the check is turned off`,
		`<h2 id="changes">`, `id="change-libknot"`, `<h2 id="sizes">`, `Size of all packages in the feeds`, `120.0 MiB`, `Tests by release`, `<h2 id="upgrades">`, `qemux86-64, install roots`, `not reached`, `nothing of it has changed`, `qemux86-64, image light, by its own dnf`, `<th scope="row"><span class="soft">from 1.0</span></th>`, `seed <strong>4711</strong>`, `slipway test 1.2-c1 --replay`,
		`<h2 id="boots">`, `4.25 s`, `61 MiB`, `<h2 id="made">`, strings.Repeat("a", 40), `<h2 id="logs">`, `3 logs more`, `a finding names it`, `It is not kept any more`}
	rest := s
	for _, want := range order {
		_, after, ok := strings.Cut(rest, want)
		if !ok {
			t.Fatalf("the page lacks %q, or not in its place", want)
		}
		rest = after
	}
	for _, want := range []string{`\xff\xfe`, `\x1b[31mred`, `\u202egnp.exe`, `&lt;script&gt;alert(1)`, `<a href="#log-1">`} {
		if !strings.Contains(s, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(s, `id="change-quiet"`) || strings.Contains(s, "change-quiet") {
		t.Error("a component that nobody asks about has a card")
	}
	for range 3 {
		if s != checkPageOf(t, sample(1)) {
			t.Fatal("the same candidate gives another page")
		}
	}
	ready := sample(1)
	ready.Status, ready.Verdict = distro.Ready, distro.Verdict{Status: distro.Ready}
	if s := checkPageOf(t, ready); !strings.Contains(s, "Nothing blocks it") || !strings.Contains(s, `slipway approve 1.2-c1 --by NAME`) || strings.Contains(s, `id="blocks"`) {
		t.Error("a page of a ready candidate")
	}
	many := checkPageOf(t, sample(2))
	alone(t, many)
	if !strings.Contains(many, "401 findings to look at") || !strings.Contains(many, "And 251 findings more") {
		t.Error("many findings are not counted")
	}
	if n := len(many); n > 1<<20 {
		t.Errorf("a page of %d bytes", n)
	}
	empty := checkPageOf(t, cycle.Report{Title: "x", Build: cycle.Build{ID: ready.Build.ID, Version: "1.1"}, Review: cycle.Review{Candidate: "1.1-c1"}, Status: distro.Ready})
	alone(t, empty)
}

// TestBrowser looks at the pages in a real browser, as a person would: on a phone, on a
// screen, on paper, in light and dark. SLIPWAY_TEST_PAGES names a folder for pictures.
func TestBrowser(t *testing.T) {
	dir := t.TempDir()
	pages := map[string]string{"check": checkPageOf(t, sample(1)), "long": checkPageOf(t, sample(3))}
	var review bytes.Buffer
	if err := Review(&review, "Halyard <Linux>", sample(2).Review); err != nil {
		t.Fatal(err)
	}
	pages["review"] = review.String()
	alone(t, pages["review"])
	if f := os.Getenv("SLIPWAY_TEST_PAGE"); f != "" {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		pages["given"] = string(data)
	}
	b := newBrowser(t)
	for name, text := range pages {
		path := filepath.Join(dir, name+".html")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, w := range []struct {
			width       int
			dark, paper bool
		}{{390, false, false}, {390, true, false}, {820, false, false}, {1280, true, false}, {680, false, true}} { // A4 without its margins
			if name != "check" && w.width != 390 && !w.paper {
				continue
			}
			b.open(path, w.width, w.dark, w.paper)
			for what, script := range map[string]string{"is too wide": overflow, "is hard to read": contrast, "is badly built": structure} {
				var found []string
				if b.eval(script, &found); len(found) > 0 {
					t.Errorf("%s at %+v, %s:\n%s", name, w, what, strings.Join(found, "\n"))
				}
			}
			var seen struct {
				Width, Height, Folded, Background int
				Requests                          []string
			}
			b.eval(`({width: innerWidth, height: document.body.scrollHeight, folded: document.querySelectorAll("details:not([open])").length,
				background: +getComputedStyle(document.body).backgroundColor.match(/\d+/)[0], requests: performance.getEntriesByType("resource").map(e => e.name)})`, &seen)
			if seen.Width != w.width || seen.Height < 400 || seen.Folded == 0 || len(seen.Requests) > 0 || (seen.Background < 128) != w.dark {
				t.Errorf("%s at %d: %+v", name, w.width, seen)
			}
			shade := "light"
			if w.dark {
				shade = "dark"
			}
			if w.paper {
				shade = "paper"
			}
			b.shot(fmt.Sprintf("%s-%d-%s", name, w.width, shade))
		}
		pdf := b.print(name)
		text, ok := pdfText(t, pdf)
		if !ok {
			t.Fatal("there is no pdftotext: apt-get install poppler-utils")
		}
		var want []string
		switch name {
		case "check", "long": // what is folded on a screen is open on paper: to know, numbers, logs that findings name
			want = []string{"versions/old:lost", "96.0 MiB", "The last", "said <script>alert(1)</script>", "printed of those that findings name", "console.log", "4.25 s", "script post changed"}
		case "review":
			want = []string{"script post changed", "knotctl"}
		}
		for _, x := range want {
			if !strings.Contains(text, x) {
				t.Errorf("%s on paper lacks %q", name, x)
			}
		}
		if name == "check" && strings.Contains(text, "\nbuilt") {
			t.Error("a log that nobody names is on paper")
		}
	}
}
