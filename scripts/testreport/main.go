// Command testreport makes the output of `go test -json` readable: a line for
// each package as it ends, the whole output of what failed, and at the end every
// skipped test with its reason, so that nothing is skipped silently.
//
//	go test -json ./a | testreport -state F -begin
//	go test -json ./b | testreport -state F
//	testreport -state F -end
//
// The state file joins several runs into one summary. The exit code is 1 when
// something failed or nothing was tested.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// event is a line of `go test -json` (go doc test2json, go help buildjson).
type event struct {
	Action, Package, Test, Output, ImportPath, FailedBuild string
	Elapsed                                                float64
}

// skip is a skipped test.
type skip struct{ Package, Test, Why string }

// totals is the state that joins several runs.
type totals struct {
	Began                            time.Time
	Packages, Passed, Failed, Cached int
	Skips                            []skip
	FailedNames                      []string
}

func main() {
	state := flag.String("state", "", "file that joins several runs")
	begin := flag.Bool("begin", false, "forget an old state")
	end := flag.Bool("end", false, "read no events; print the summary")
	flag.Parse()
	t := totals{Began: time.Now()}
	if !*begin {
		if b, err := os.ReadFile(*state); err == nil {
			if err := json.Unmarshal(b, &t); err != nil {
				fatal(err)
			}
		}
	}
	if *end {
		if !t.summary(os.Stdout, time.Since(t.Began)) {
			os.Exit(1)
		}
		return
	}
	ok, err := t.read(os.Stdin, os.Stdout)
	if err != nil {
		fatal(err)
	}
	b, err := json.Marshal(t)
	if err == nil {
		err = os.WriteFile(*state, b, 0o644)
	}
	if err != nil {
		fatal(err)
	}
	if !ok {
		os.Exit(1)
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "testreport:", err)
	os.Exit(1)
}

// read takes events till the end of in; ok is false when something failed.
func (t *totals) read(in io.Reader, out io.Writer) (ok bool, err error) {
	ok = true
	output := map[[2]string]*strings.Builder{} // package and test -> what it printed
	sc := bufio.NewScanner(in)
	sc.Buffer(nil, 64<<20)
	for sc.Scan() {
		var e event
		if json.Unmarshal(sc.Bytes(), &e) != nil {
			fmt.Fprintln(out, sc.Text()) // go itself, not a test
			continue
		}
		key := [2]string{e.Package, e.Test}
		text := func() string {
			if b := output[key]; b != nil {
				return b.String()
			}
			return ""
		}
		switch e.Action {
		case "build-output":
			fmt.Fprint(out, e.Output)
		case "output":
			if output[key] == nil {
				output[key] = &strings.Builder{}
			}
			output[key].WriteString(e.Output)
		case "pass", "fail", "skip":
			if e.Test != "" {
				t.test(e, text(), out)
			} else {
				t.pkg(e, text(), out)
			}
			if e.Action == "fail" {
				ok = false
			}
			delete(output, key)
		}
	}
	return ok, sc.Err()
}

func (t *totals) test(e event, text string, out io.Writer) {
	switch e.Action {
	case "pass":
		t.Passed++
	case "fail":
		t.Failed++
		t.FailedNames = append(t.FailedNames, e.Package+" "+e.Test)
		fmt.Fprint(out, text)
	case "skip":
		t.Skips = append(t.Skips, skip{e.Package, e.Test, reason(text)})
	}
}

// pkg prints go test's own closing line of a package, and all that a package
// printed outside its tests when it failed.
func (t *totals) pkg(e event, text string, out io.Writer) {
	if e.Action == "skip" { // no test files
		return
	}
	t.Packages++
	if strings.Contains(text, "(cached)") {
		t.Cached++
	}
	if e.Action == "fail" {
		if e.FailedBuild != "" || !slices.ContainsFunc(t.FailedNames, func(n string) bool { return strings.HasPrefix(n, e.Package+" ") }) {
			t.FailedNames = append(t.FailedNames, e.Package)
			t.Failed++
		}
		fmt.Fprint(out, text)
		return
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "ok ") {
			fmt.Fprint(out, line)
		}
	}
}

// reason takes what a test said before it was skipped: the line that t.Skip
// printed, without the position in the source.
func reason(text string) string {
	var why []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		if file, rest, ok := strings.Cut(line, ": "); ok && strings.Contains(file, ".go:") {
			line = rest
		}
		why = append(why, line)
	}
	if len(why) == 0 {
		return "no reason given"
	}
	return strings.Join(why, " ")
}

// summary prints skips and failures and one closing line; false when not all is well.
func (t *totals) summary(out io.Writer, took time.Duration) bool {
	byReason := map[string][]string{}
	for _, s := range t.Skips {
		byReason[s.Why] = append(byReason[s.Why], strings.TrimPrefix(s.Package, "slipway/")+" "+s.Test)
	}
	var reasons []string
	for r := range byReason {
		reasons = append(reasons, r)
	}
	slices.Sort(reasons)
	for _, r := range reasons {
		slices.Sort(byReason[r])
		fmt.Fprintf(out, "skipped: %s\n", r)
		for _, name := range byReason[r] {
			fmt.Fprintf(out, "    %s\n", name)
		}
	}
	slices.Sort(t.FailedNames)
	for _, name := range t.FailedNames {
		fmt.Fprintf(out, "failed: %s\n", name)
	}
	word := "ok  "
	good := t.Failed == 0 && t.Packages > 0
	if !good {
		word = "FAIL"
	}
	fmt.Fprintf(out, "%s\tslipway\t%.1fs\t%d packages (%d cached): %d tests passed, %d failed, %d skipped\n",
		word, took.Seconds(), t.Packages, t.Cached, t.Passed, t.Failed, len(t.Skips))
	return good
}
