package bitbake

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// The recorded consoles are BitBake 2.18's, with other paths and fewer tasks.
func readConsole(t *testing.T, name string, piece int) (*Console, []distro.BuildEvent) {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var events []distro.BuildEvent
	c := &Console{Event: func(e distro.BuildEvent) { events = append(events, e) }}
	for len(data) > 0 {
		n := min(piece, len(data))
		_, _ = c.Write(data[:n])
		data = data[n:]
	}
	return c, events
}

func TestConsoleOfAFailedTask(t *testing.T) {
	t.Parallel()
	for _, piece := range []int{1, 100, 1 << 20} {
		c, events := readConsole(t, "console-failed.txt", piece)
		if c.Wanted != 13 || c.Missed != 13 || c.Current != 34 || !c.Finished || c.Done != 86 || c.Total != 96 || len(c.Running) != 0 {
			t.Errorf("counted %+v", c)
		}
		err := c.Err()
		var te *TaskError
		if !errs.Is(err, errs.Failed) || !errors.As(err, &te) {
			t.Fatalf("error %v", err)
		}
		if task, recipe := te.FailedTask(); task != "hello-1.0-r0:do_compile" || recipe != "hello" {
			t.Errorf("task %s of %s", task, recipe)
		}
		if te.Log != "/build/tmp/work/core2-64-fixture-linux/hello/1.0/temp/log.do_compile.2676" || te.File != "/build/meta-fixture/recipes-fixture/hello/hello_1.0.bb" ||
			!strings.Contains(strings.Join(te.Lines, "\n"), "hello.c:8:1: error: expected declaration") {
			t.Errorf("task error %+v", te)
		}
		var list errs.List
		if errors.As(err, &list) {
			t.Errorf("one failure is told several times: %v", err)
		}
		counts := map[string]int{}
		for _, e := range events {
			counts[e.Type]++
		}
		if counts["plan"] != 1 || counts["failed"] != 1 || counts["start"] == 0 || counts["start"] != counts["done"]+1 {
			t.Errorf("events %v", counts)
		}
	}
}

func TestConsoleErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		kind errs.Kind
		says string
		hint string
		at   string
	}{
		{"NOTE: all is well\n", "", "", "", ""},
		{"Loaded 36 entries from dependency cache.\nParsing recipes...ERROR: ParseError at /l/recipes/a/a_1.bb:3: unparsed line: 'x y'\nERROR: Parsing halted due to errors, see error messages above\n\nSummary: There were 2 ERROR messages, returning a non-zero exit code.\n",
			errs.Invalid, "unparsed line", "", "/l/recipes/a/a_1.bb:3"},
		{"ERROR: Nothing PROVIDES 'nosuch'\nLoaded 36 entries from dependency cache, loose\n\nSummary: There was 1 ERROR message, returning a non-zero exit code.\n", errs.Invalid, "'nosuch'", "targets", ""},
		{"ERROR: Nothing PROVIDES 'a' (but /l/b.bb DEPENDS on or otherwise requires it). Close matches:\n  ab\nNOTE: x\nloose\n", errs.Invalid, "Close matches:\n  ab", "targets", ""},
		{"ERROR: Layer x is not compatible with the core layer which only supports these series: wrynose (layer is compatible with kirkstone)\n", errs.Invalid, "Layer x", "branch", ""},
		{"ERROR: No space left on device\n", errs.Unavailable, "No space", "free space", ""},
		{"WARNING: The free space of /w/tmp (/dev/vdb) is running low (0.083GB left)\nERROR: Immediately halt since the disk space monitor action is \"HALT\"!\n", errs.Unavailable, "HALT", "free space", ""},
		{"| cc: fatal error: No space left on device\nERROR: Task (/l/hello_1.0.bb:do_compile) failed with exit code '1'\n", errs.Unavailable, "hello do_compile", "free space", ""},
		{"ERROR:  OE-core's config sanity checker detected a potential misconfiguration.\n    Following is the list of potential problems / advisories:\n\n    Your system has no gawk\nNOTE: x\nloose\n", errs.Failed, "advisories:\n    Your system has no gawk", "", ""},
		{"ERROR: hello-native-1.0-r0 do_fetch: Fetcher failure for URL: 'https://x/y'. Unable to fetch URL from any source.\nERROR: Task (virtual:native:/l/hello_1.0.bb:do_fetch) failed with exit code '1'\n", errs.Failed, "hello", "SRC_URI", ""},
	} {
		c := &Console{}
		_, _ = c.Write([]byte(tt.text))
		err := c.Err()
		if tt.kind == "" {
			if err != nil {
				t.Errorf("%q: %v", tt.text, err)
			}
			continue
		}
		if !errs.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "loose") || !strings.Contains(strings.Join(errs.Hints(err), "\n"), tt.hint) {
			t.Errorf("%q: %s %v, hints %v", tt.text, errs.KindOf(err), err, errs.Hints(err))
		}
		var list errs.List
		if errors.As(err, &list) {
			t.Errorf("%q: several errors: %v", tt.text, err)
		}
		var e *errs.Error
		if errors.As(err, &e) && tt.at != "" && e.Pos.String() != tt.at {
			t.Errorf("%q: at %s", tt.text, e.Pos)
		}
	}
}

// A full disk makes other tasks fail, too: none of them is at fault.
func TestConsoleFullDiskComesFirst(t *testing.T) {
	t.Parallel()
	c := &Console{}
	_, _ = c.Write([]byte("ERROR: Task (/l/a_1.bb:do_package) failed with exit code '1'\nERROR: Immediately halt since the disk space monitor action is \"HALT\"!\n"))
	err := c.Err()
	if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "a do_package") {
		t.Errorf("%s %v", errs.KindOf(err), err)
	}
}

func TestConsoleAges(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	c := &Console{Now: func() time.Time { return now }}
	_, _ = c.Write([]byte("NOTE: recipe b-1-r0: task do_x: Started\n"))
	now = now.Add(90 * time.Second)
	_, _ = c.Write([]byte("NOTE: recipe a-1-r0: task do_x: Started\n"))
	if got := strings.Join(c.Oldest(), ", "); got != "b-1-r0:do_x for 1m30s, a-1-r0:do_x for 0s" {
		t.Error(got)
	}
}

func FuzzConsole(f *testing.F) {
	data, _ := os.ReadFile("testdata/console-failed.txt")
	f.Add(data)
	f.Add([]byte("ERROR: Task (:do_x) failed with exit code ''\nERROR: a do_x: \n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &Console{}
		if n, err := c.Write(data); n != len(data) || err != nil {
			t.Fatal(n, err)
		}
		_ = c.Err()
		c.Oldest()
	})
}
