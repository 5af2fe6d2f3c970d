package ui

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/errs"
)

var update = flag.Bool("update", false, "write the goldens")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
}

// story is what a command may do.
func story(p *Printer) {
	p.Heading("Release 1.1")
	capture := p.Step("capture")
	capture.Done("layer meta-halyard at 3bf30c3a8ac1")
	build := p.Step("build")
	lib := build.Step("libgreet.x86_64")
	time.Sleep(2 * time.Second)
	lib.Note("warning: \x1b[31mred\x1b[0m\tbogus date")
	lib.Done("")
	build.Progress(1, 3, "greet.x86_64")
	time.Sleep(25 * time.Second)
	build.Progress(3, 3, "")
	build.Done("3 packages, 1 kept")
	build.Done("again")
	build.Note("too late")
	p.Heading("Checks")
	check := p.Step("install")
	time.Sleep(90 * time.Second)
	check.Failed("libgreet: nothing provides libm.so.6\nmore")
	p.Line("slipway serve")
	p.Close()
}

func TestPlain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		story(New(Options{Out: &b, Heartbeat: 12 * time.Second}))
		golden(t, "plain.txt", b.String())
	})
}

func TestQuietSaysNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		story(New(Options{Out: &b, Quiet: true, TTY: true}))
		if b.Len() > 0 {
			t.Errorf("%q", b.String())
		}
	})
}

func TestTerminalKeepsTheSameLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		story(New(Options{Out: &b, TTY: true, NoColor: true, Width: 70}))
		// A terminal that is no terminal: each refresh moves up and clears.
		for _, want := range []string{"  ok    capture: layer", "    note  libgreet.x86_64: warning: red bogus date", "    ok    libgreet.x86_64 (2.0 s)",
			"  ok    build: 3 packages, 1 kept (27 s)", "  FAIL  install: libgreet: nothing provides libm.so.6 (1 min 30 s)\nslipway serve\n"} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("no %q", want)
			}
		}
		if !strings.Contains(b.String(), "[======              ] build: 1 of 3, greet.x86_64") {
			t.Errorf("no bar in %q", b.String())
		}
		if strings.Contains(b.String(), "\x1b[3") {
			t.Error("colour")
		}
	})
}

func TestManySteps(t *testing.T) {
	t.Parallel()
	for _, tty := range []bool{true, false} {
		var b bytes.Buffer
		p := New(Options{Out: &b, TTY: tty, Width: 80})
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				task := p.Step(fmt.Sprintf("task %d", i))
				for j := range 50 {
					task.Progress(j, 50, "x")
				}
				task.Note("n")
				task.Done("")
			})
		}
		wg.Wait()
		open := p.Step("left open")
		p.Close()
		open.Progress(1, 2, "")
		open.Done("")
		if n := strings.Count(b.String(), "note"); n != 20 {
			t.Errorf("tty %v: %d notes", tty, n)
		}
	}
}

func TestLiveLineFits(t *testing.T) {
	t.Parallel()
	task := &Task{p: New(Options{}), title: "build", done: 7, total: 11, text: "libgreet.x86_64 with a very long name of its own 風風風風風風風風風風"}
	var b strings.Builder
	for _, width := range []int{120, 80, 60, 40, 20, 8, 1, 0} {
		line := task.live(width, 3*time.Second)
		if textWidth(line) > max(0, width-1) {
			t.Errorf("%d columns in %d: %q", textWidth(line), width, line)
		}
		fmt.Fprintf(&b, "%3d %s\n", width, line)
	}
	task.total, task.text = 0, ""
	fmt.Fprintf(&b, "    %s\n", task.live(80, 65*time.Second))
	golden(t, "live.txt", b.String())
}

func TestTable(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if err := Table(&b, []string{"RELEASE", "STATUS", "NOTE"}, [][]string{
		{"1.1", "published", ""}, {"1.2-c1", "blocked", "検査 failed"}, {"1.10", "x"}, {}, {"\x1b[31mred", "\n", "é\u0301"},
	}); err != nil {
		t.Fatal(err)
	}
	if err := Table(&b, nil, [][]string{{"a", "b"}, {"long", "c"}}); err != nil {
		t.Fatal(err)
	}
	golden(t, "table.txt", b.String())
}

var someErrors = []struct {
	name string
	err  error
}{
	{"plain", errors.New("what")},
	{"hints", errs.E(errs.NotFound, "there is no release 1.7", errs.Hint("slipway status lists them"), errs.Hint("did you mean 1.6?"))},
	{"place", errs.Wrap(errs.E(errs.Invalid, `unknown key "seris"`, errs.At{File: "slipway.yaml", Line: 4, Col: 3, Excerpt: "\tü seris: {name: 1}"}, errs.Hint(`did you mean "series"?`)), "read the definition")},
	{"list", errs.Wrap(errs.List{
		errs.E(errs.Invalid, "first", errs.At{File: "a.yaml", Line: 1, Col: 1, Excerpt: "x: 1"}, errs.Hint("do this")),
		errs.E(errs.Invalid, "second", errs.At{File: "a.yaml"}, errs.Hint("do this")),
		errs.E(errs.Failed, "third"),
	}, "check")},
	{"outer", errs.E(errs.Refused, "the gate says no", errs.Hint("slipway review 1.2-b1"), errs.List{errs.E(errs.Failed, "one"), errs.E(errs.Failed, "two")})},
	{"lines", errs.E(errs.Failed, "rpmbuild libgreet\nerror: Bad exit\x1b[2J status\n", errs.Hint("see\nthe log"))},
	{"long", errs.E(errs.Invalid, "far right", errs.At{File: "l.yaml", Line: 1, Col: 301, Excerpt: strings.Repeat("abcdefghi ", 60)})},
	{"past the end", errs.E(errs.Invalid, "end", errs.At{File: "l.yaml", Line: 1, Col: 99, Excerpt: "ab"})},
}

func TestErrors(t *testing.T) {
	t.Parallel()
	var people, machines bytes.Buffer
	for _, e := range someErrors {
		fmt.Fprintf(&people, "-- %s --\n", e.name)
		PrintError(&people, e.err, false)
		machines.Write(ErrorJSON(e.err))
	}
	people.WriteString("-- colour --\n")
	PrintError(&people, someErrors[1].err, true)
	golden(t, "errors.txt", people.String())
	golden(t, "errors.jsonl", machines.String())
}

func TestNumbersForPeople(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 10189: "10 KiB", 1<<20 - 1: "1.0 MiB", 20 << 20: "20 MiB",
		math.MaxInt64: "8.0 EiB", math.MinInt64: "-8.0 EiB", -5: "-5 B"} {
		if got := Size(n); got != want {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
	s := time.Second
	for d, want := range map[time.Duration]string{0: "0.0 s", 340 * time.Millisecond: "0.3 s", 9949 * time.Millisecond: "9.9 s", 9960 * time.Millisecond: "10 s",
		59 * s: "59 s", 59*s + 600*time.Millisecond: "1 min", 200 * s: "3 min 20 s", 3600 * s: "1 h", 3600*s - 1: "1 h", 7500 * s: "2 h 5 min",
		86400*s - 1: "1 d", 100 * 3600 * s: "4 d 4 h", -3 * s: "-3.0 s", math.MaxInt64: "106751 d 23 h", math.MinInt64: "-106751 d 23 h"} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%v) = %q, want %q", int64(d), got, want)
		}
	}
}
