package upgrades

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/dnf"
	"slipway/internal/testresults"
)

const (
	suiteTime = 5 * time.Minute // ptest-runner's own limit
	maxSaid   = 8 << 20         // bytes of a suite's output
	ownGroup  = "device"        // of the team's own tests
	ownDir    = "/run/slipway-checks"
)

// suite is a package's own tests (/usr/lib/ptest/NAME/run-ptest, as OE-Core's ptest class
// installs them), or one of the team's own (checks/device/NAME of the repository).
type suite struct {
	name  string // "zlib"
	group string // "ptestresult" or "device"
	argv  []string
	dir   string
	ran   dnf.Ran
	tests map[string]string // name -> PASSED, FAILED, SKIPPED, ERROR
}

// title of a test as testresults.json has it.
func (s suite) title(test string) string { return s.group + "." + s.name + "." + test }

// passed reports whether the suite as a whole did: it came to its end, and says so.
func (s suite) passed() bool { return !s.ran.Timeout && s.ran.Exit == 0 }

var resultLine = regexp.MustCompile(`^(PASS|FAIL|SKIP|ERROR|XFAIL|XPASS): ?(.+)$`)

var statusOf = map[string]string{"PASS": "PASSED", "FAIL": "FAILED", "SKIP": "SKIPPED", "ERROR": "ERROR", "XFAIL": "PASSED", "XPASS": "FAILED"}

// parseTests reads lines "PASS: name" (meta/lib/oeqa/utils/logparser.py of OE-Core;
// automake's words besides). A name that comes twice has the worst of its results.
func parseTests(output string) map[string]string {
	out := map[string]string{}
	for l := range strings.Lines(output) {
		m := resultLine.FindStringSubmatch(strings.TrimRight(l, " \t\r\n"))
		if m == nil {
			continue
		}
		name := strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return -1
			}
			return r
		}, strings.TrimSpace(m[2]))
		if len(name) > 300 {
			name = strings.ToValidUTF8(name[:300], "")
		}
		if s := statusOf[m[1]]; name != "" && (out[name] == "" || testresults.OutcomeOf(s) > testresults.OutcomeOf(out[name])) {
			out[name] = s
		}
	}
	return out
}

// suites lists the tests of a device: by name, those of packages first.
func (j *journey) suites() ([]suite, error) {
	var out []suite
	seen := map[string]bool{}
	for _, lib := range []string{"usr/lib", "usr/lib64", "usr/lib32"} {
		found, err := filepath.Glob(filepath.Join(globSafe(j.root.Path()), lib, "ptest", "*", "run-ptest"))
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			dir := filepath.Dir(f)
			if name := filepath.Base(dir); !seen[name] { // /usr/lib64 may be a link to /usr/lib
				seen[name] = true
				out = append(out, suite{name: name, group: "ptestresult", argv: []string{"./run-ptest"}, dir: path.Join("/", lib, "ptest", name)})
			}
		}
	}
	if j.bed.DeviceTests != "" {
		entries, err := os.ReadDir(j.bed.DeviceTests)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if st, err := e.Info(); err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o111 != 0 && !strings.HasPrefix(e.Name(), ".") {
				out = append(out, suite{name: strings.TrimSuffix(e.Name(), filepath.Ext(e.Name())), group: ownGroup, argv: []string{path.Join(ownDir, e.Name())}, dir: "/"})
			}
		}
	}
	return out, nil
}

func globSafe(p string) string {
	return strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`).Replace(p)
}

// runTests runs all tests in a copy of the device, where they may write: one after the
// other, each in a sandbox with a limit of time.
func (j *journey) runTests(ctx context.Context, when string) ([]suite, error) {
	all, err := j.suites()
	if err != nil || len(all) == 0 || j.root.Runs() == "" {
		return nil, err
	}
	copied, err := j.root.Clone(ctx, filepath.Join(j.bed.Dir, "tests-"+j.origin.Name+"-"+when))
	if err != nil {
		return nil, err
	}
	defer func() { _ = copied.Remove() }()
	for i := range all {
		s := &all[i]
		c := dnf.Confined{Argv: s.argv, Dir: s.dir, Within: suiteTime, Max: maxSaid}
		if j.bed.TestTime > 0 {
			c.Within = j.bed.TestTime
		}
		if s.group == ownGroup {
			c.Bind = [2]string{j.bed.DeviceTests, ownDir}
		}
		if s.ran, err = copied.Confined(ctx, c); err != nil {
			return nil, err
		}
		s.tests = parseTests(s.ran.Output)
	}
	return all, nil
}

// testAgain runs the tests on the upgraded device and compares: what passed before and
// fails now blocks. Both runs are kept as testresults.json.
func (j *journey) testAgain(ctx context.Context) error {
	after, err := j.runTests(ctx, "after")
	if err != nil || len(j.tests)+len(after) == 0 {
		return err
	}
	j.after = after
	file, err := j.keepResults(after)
	if err != nil {
		return err
	}
	first := len(j.findings)
	for _, old := range j.tests {
		j.asked++
		i := slices.IndexFunc(after, func(s suite) bool { return s.name == old.name && s.group == old.group })
		if i < 0 {
			if old.group != ownGroup {
				j.findTest(old, "", distro.Warn, "was asked before the upgrade, and is not on the device any more", nil)
			}
			continue
		}
		j.compare(old, after[i])
	}
	for _, now := range after {
		if slices.ContainsFunc(j.tests, func(s suite) bool { return s.name == now.name && s.group == now.group }) {
			continue
		}
		j.asked++
		j.compare(suite{name: now.name, group: now.group, ran: dnf.Ran{Exit: -2}}, now)
	}
	for i := first; i < len(j.findings); i++ {
		j.findings[i].Log = file.Log
	}
	return nil
}

// compare judges one suite.
func (j *journey) compare(old, now suite) {
	names := make([]string, 0, len(now.tests))
	for n := range now.tests {
		names = append(names, n)
	}
	for n := range old.tests {
		if _, ok := now.tests[n]; !ok {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	failed, gone := 0, []string(nil)
	for _, n := range names {
		j.asked++
		is, was := testresults.OutcomeOf(now.tests[n]), testresults.OutcomeOf(old.tests[n])
		switch {
		case is == testresults.Fail && was == testresults.Pass:
			j.findTest(now, n, distro.Block, "passes before the upgrade, and fails after it", said(now, n))
		case is == testresults.Fail && was != testresults.Fail:
			j.findTest(now, n, distro.Warn, "fails after the upgrade, and was not asked before it", said(now, n))
		case is == testresults.Unknown && was == testresults.Pass:
			gone = append(gone, n)
		}
		if is == testresults.Fail {
			failed++
		}
	}
	how := fmt.Sprintf("ends with %d", now.ran.Exit)
	if now.ran.Timeout {
		how = "does not come to its end: it was killed"
	}
	switch {
	case !now.passed() && old.passed() && (failed == 0 || now.ran.Timeout):
		j.findTest(now, "", distro.Block, "passes before the upgrade; after it "+how, said(now, ""))
	case !now.passed() && old.ran.Exit == -2 && failed == 0:
		j.findTest(now, "", distro.Warn, "is new, and "+how, said(now, ""))
	case len(gone) > 0:
		j.findTest(now, "", distro.Warn, fmt.Sprintf("passed %s before the upgrade that are not asked after it: %s", check.Count(len(gone), "test"), strings.Join(check.Few(gone, 5), ", ")), nil)
	}
}

// said are the lines before a failure, else the last ones.
func said(s suite, test string) []string {
	lines := strings.Split(strings.TrimRight(s.ran.Output, "\n"), "\n")
	if i := slices.IndexFunc(lines, func(l string) bool {
		m := resultLine.FindStringSubmatch(strings.TrimSpace(l))
		return test != "" && m != nil && strings.TrimSpace(m[2]) == test && statusOf[m[1]] != "PASSED"
	}); i >= 0 {
		lines = lines[:i+1]
	}
	return check.Tail(strings.Join(lines, "\n"), 12)
}

func (j *journey) findTest(s suite, test string, l distro.Level, text string, evidence []string) {
	f := distro.Finding{ID: j.origin.Name + ":up:tests:" + s.name, Level: l, Object: s.group + "." + s.name, Evidence: evidence,
		Text: fmt.Sprintf("from %s: suite %s %s", j.origin.Version, s.name, text), Cure: "read what the test says; run it by hand in the package's folder"}
	if s.group == ownGroup {
		f.ID = j.origin.Name + ":up:device-tests:" + s.name
	}
	if test != "" {
		f.ID, f.Object = f.ID+":"+strings.Join(strings.Fields(test), "-"), s.title(test)
		f.Text = fmt.Sprintf("from %s: test %s of %s %s", j.origin.Version, test, s.name, text)
	}
	for _, p := range j.bed.Packages {
		if s.group != ownGroup && (p.Name == s.name || p.Name == s.name+"-ptest" || p.SourceName == s.name) {
			f.Source = p.SourceName
			break
		}
	}
	j.find(f)
}

// keepResults writes both runs in the form of OE-Core's oeqa.
func (j *journey) keepResults(after []suite) (check.File, error) {
	machine := j.bed.Board
	if machine == "" {
		machine = "all"
	}
	var runs []testresults.Run
	for _, r := range []struct {
		when   string
		suites []suite
	}{{"before", j.tests}, {"after", after}} {
		run := testresults.Run{ID: "runtime_slipway-upgrade-" + j.origin.Name + "-" + r.when + "_" + machine,
			Configuration: map[string]any{"TEST_TYPE": "runtime", "MACHINE": machine, "IMAGE_BASENAME": "slipway-upgrade-" + j.origin.Name, "DISTRO_VERSION": string(j.origin.Version)}}
		if r.when == "after" {
			run.Configuration["DISTRO_VERSION"] = string(j.bed.Version)
		}
		for _, s := range r.suites {
			for n, status := range s.tests {
				t := testresults.Test{Name: s.title(n), Status: status}
				if testresults.OutcomeOf(status) != testresults.Pass {
					t.Log = strings.Join(said(s, n), "\n")
				}
				run.Tests = append(run.Tests, t)
			}
			section := testresults.Section{Group: "ptestresult", Name: s.name, ExitCode: strconv.Itoa(s.ran.Exit), Timeout: s.ran.Timeout}
			if s.group == ownGroup { // sections are ptest's
				t := testresults.Test{Name: s.group + "." + s.name, Status: "PASSED"}
				if !s.passed() {
					t.Status, t.Log = "FAILED", strings.Join(said(s, ""), "\n")
				}
				run.Tests = append(run.Tests, t)
				continue
			}
			if !s.passed() {
				section.Log = strings.Join(said(s, ""), "\n")
			}
			run.Sections = append(run.Sections, section)
		}
		runs = append(runs, run)
	}
	var text bytes.Buffer
	if err := testresults.Write(&text, runs); err != nil {
		return check.File{}, err
	}
	file, err := j.bed.Transcript(j.origin.Name+"-testresults.json", text.String())
	j.files = append(j.files, file)
	return file, err
}
