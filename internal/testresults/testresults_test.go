package testresults

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/errs"
)

// sample is what testimage writes, with a ptest run.
const sample = `{
 "runtime_core-image-sato_qemux86-64_20261128080000": {
  "configuration": {
   "DISTRO": "poky",
   "HOST_DISTRO": "debian-12",
   "IMAGE_BASENAME": "core-image-sato",
   "IMAGE_PKGTYPE": "rpm",
   "LAYERS": {
    "meta": {
     "branch": "wrynose",
     "commit": "0123",
     "commit_count": 7
    }
   },
   "MACHINE": "qemux86-64",
   "STARTTIME": "20261128080000",
   "TEST_TYPE": "runtime"
  },
  "result": {
   "ping.PingTest.test_ping": {
    "duration": 0.0712,
    "oetags": [
     "smoke"
    ],
    "status": "PASSED"
   },
   "ptestresult.glib-2.0.main": {
    "status": "PASSED"
   },
   "ptestresult.rawlogs": {
    "log": "START: ptest-runner\n\ud83d\ude00 \udcff caf\u00e9"
   },
   "ptestresult.sections": {
    "glib-2.0": {
     "duration": "12",
     "log": "PASS: main\n"
    },
    "zlib": {
     "duration": "450",
     "exitcode": "1",
     "log": "minigzip\n",
     "timeout": true
    }
   },
   "ssh.SSHTest.test_ssh": {
    "log": "Traceback \udcff: caf\u00e9 \ud83d\ude00\n",
    "status": "FAILED"
   }
  }
 }
}`

func read(t *testing.T, text string) []Run {
	t.Helper()
	runs, err := Read(strings.NewReader(text), "f.json")
	if err != nil {
		t.Fatal(err)
	}
	return runs
}

func TestRead(t *testing.T) {
	t.Parallel()
	runs := read(t, sample)
	r := runs[0]
	if r.Key() != "runtime/qemux86-64/core-image-sato" || r.Machine() != "qemux86-64" || r.ID != "runtime_core-image-sato_qemux86-64_20261128080000" {
		t.Errorf("%q %q %q", r.Key(), r.Machine(), r.ID)
	}
	want := []Test{
		{Name: "ping.PingTest.test_ping", Status: "PASSED", Duration: 0.0712, Tags: []string{"smoke"}},
		{Name: "ptestresult.glib-2.0", Status: "PASSED"},
		{Name: "ptestresult.glib-2.0.main", Status: "PASSED"},
		{Name: "ptestresult.zlib", Status: "ERROR", Log: "minigzip\n"}, // it has no failed test, and did not come to its end
		{Name: "ssh.SSHTest.test_ssh", Status: "FAILED", Log: "Traceback \\xff: café 😀\n"},
	}
	if d := cmp.Diff(want, r.All()); d != "" {
		t.Error(d)
	}
	for name, want := range map[string]string{"ptestresult.glib-2.0.main": "glib-2.0 true", "ptestresult.glib-2.0": "glib-2.0 true", "ptestresult.other.x.y": "other true", "ssh.SSHTest.test_ssh": "ssh false", "ltpresult.math.abs01": "math false"} {
		if s, p := r.Suite(name); fmt.Sprint(s, " ", p) != want {
			t.Errorf("%s: %s %v", name, s, p)
		}
	}
}

// TestWrite: what is written is what Python would write, and reads as the same.
func TestWrite(t *testing.T) {
	t.Parallel()
	runs := read(t, sample)
	var out bytes.Buffer
	if err := Write(&out, runs); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(runs, read(t, out.String())); d != "" {
		t.Error(d)
	}
	for _, line := range []string{"\n    \"duration\": 0.0712,\n    \"oetags\": [\n     \"smoke\"\n    ],\n    \"status\": \"PASSED\"\n   }", `"log": "Traceback \\xff: caf\u00e9 \ud83d\ude00\n"`, `"commit_count": 7`} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("%s\nis not in\n%s", line, &out)
		}
	}
	for f, want := range map[float64]string{2: "2.0", 0.1: "0.1", 1e-5: "1e-05", 1e16: "1e+16", 123456789: "123456789.0"} {
		if got := float(f); got != want {
			t.Errorf("%v: %s, want %s", f, got, want)
		}
	}
	if err := Write(io.Discard, append(runs, runs...)); err == nil {
		t.Error("two runs of one id are written")
	}
	for _, x := range Strip(runs)[0].All() {
		if x.Log != "" {
			t.Errorf("%s has a log", x.Name)
		}
	}
}

// wrap puts a result into a run.
func wrap(result string) string {
	return "{\"r\": {\"configuration\": {\"TEST_TYPE\": \"oeselftest\", \"MACHINE\": \"m\"},\n\"result\": " + result + "}}"
}

func TestFindings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", "f.json:1:1: this is no JSON: the file ends in the middle"},
		{"no run", "{}", "f.json:1:1: the file holds no run of tests"},
		{"a list", "[1]", "f.json:1:1: the file is no object"},
		{"junit", "<testsuite>", `f.json:1:1: the file is no object|f.json:1:1: this is no JSON: "" is no value`},
		{"run", `{"r": 1, "s": {"configuration": {"TEST_TYPE": "sdk"}}}`,
			`f.json:1:7: run "r" is no object|f.json:1:2: run "r" lacks configuration or result|f.json:1:33: the configuration of run "s" has no MACHINE: nobody knows what it may be compared with|` +
				`f.json:1:33: the configuration of run "s" has no IMAGE_BASENAME: nobody knows what it may be compared with|f.json:1:33: the configuration of run "s" has no SDKMACHINE: nobody knows what it may be compared with|` +
				`f.json:1:10: run "s" lacks configuration or result`},
		{"type", `{"r": {"configuration": {"TEST_TYPE": "odd"}, "result": {}}}`, `f.json:1:25: run "r" has the TEST_TYPE "odd", which is not known`},
		{"all at once", wrap(`{"a": {"status": "WORKED"},
"b": [], "c": {"log": "x"}, "d": {"status": 3}, "a": {"status": "PASSED"},
"e": {"status": "PASSED", "duration": NaN, "oetags": "x"}, "ptestresult.sections": []}`),
			`f.json:2:28: test "a" has the status "WORKED", which is not known|f.json:3:6: test "b" is no object|f.json:3:10: test "c" has no status|` +
				`f.json:3:45: the status of test "d" is no text|f.json:3:49: "a" is there twice in the result of run "r"|` +
				`f.json:4:39: the duration of test "e" is "NaN": a number of seconds belongs there|f.json:4:54: the oetags of test "e" are no list|f.json:4:84: ptestresult.sections is no object`},
		{"cut off", wrap(`{"a": {"status": "PASSED"`)[:90], "f.json:2:22: this is no JSON: the file ends in a text"},
		{"more", wrap("{}") + "{}", "f.json:2:15: this is no JSON: more after the end"},
		{"a control character", wrap("{\"a\nb\": 1}"), "f.json:2:14: this is no JSON: the byte 0x0a in a text"},
		{"an escape", wrap(`{"a\x": 1}`), `f.json:2:14: this is no JSON: \x in a text`},
		{"deep", wrap(`{"a": {"status": "PASSED", "x": ` + strings.Repeat("[", 500)), "f.json:2:244: this is no JSON: values are nested deeper than 200"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			runs, err := Read(strings.NewReader(tt.text), "f.json")
			var list errs.List
			if !errors.As(err, &list) {
				list = errs.List{err}
			}
			if err == nil || runs != nil || !errs.Is(err, errs.Invalid) {
				t.Fatalf("%v %v", runs, err)
			}
			var got []string
			for _, e := range list {
				got = append(got, e.Error())
			}
			if d := cmp.Diff(strings.ReplaceAll(tt.want, "|", "\n"), strings.Join(got, "\n")); d != "" {
				t.Error(d)
			}
		})
	}
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, `"t%d": 1, `, i)
	}
	if _, err := Read(strings.NewReader(wrap("{"+many.String()+`"x": 1}`)), "f"); len(err.(errs.List)) != maxFindings {
		t.Errorf("%d findings", len(err.(errs.List)))
	}
	if _, err := Read(io.MultiReader(strings.NewReader("{"), failing{}), "f"); !errs.Is(err, errs.Unavailable) {
		t.Error(err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("the disk is gone") }

// TestLongLogs: of a log of any length the end is kept, and raw logs are passed by.
func TestLongLogs(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789é\\n", 2_000_000) // 28 MB
	r := read(t, wrap(`{"ptestresult.rawlogs": {"log": "`+long+`"}, "a": {"status": "FAILED", "log": "`+long[:1<<20]+`end"}, "b": {"status": "FAILED", "log": {"compressed": "eA=="}},
"c": {"status": "PASSED", "log": "`+"bad \xff byte"+`"}, "`+"d\xff"+`": {"status": "PASSED"}}`))[0]
	a := r.Tests[0]
	if len(r.Tests) != 4 || len(a.Log) > MaxLog || len(a.Log) < MaxLog-4 || !strings.HasSuffix(a.Log, "end") || r.Tests[2].Log != "" || r.Tests[3].Name != `d\xff` {
		t.Errorf("%d tests, a log of %d bytes, %+v", len(r.Tests), len(a.Log), r.Tests[1:])
	}
}

func TestStable(t *testing.T) {
	t.Parallel()
	for a, b := range map[string]string{
		"ptestresult.lttng-tools.foo_-_bar": "ptestresult.lttng-tools.foo_-_baz", "ptestresult.curl.test_0000__foo": "ptestresult.curl.test_0000__bar",
		"ptestresult.gcc-libgomp.no directory /tmp/runtest.1 on": "ptestresult.gcc-libgomp.no directory /tmp/runtest.2 on", "ptestresult.binutils-ld.in testcase /a/build-st-b/x": "ptestresult.binutils-ld.in testcase /c/build-st-d/x",
	} {
		if Stable(a) != Stable(b) || Stable(a) == a {
			t.Errorf("%s is %s, %s is %s", a, Stable(a), b, Stable(b))
		}
	}
	if s := Stable("ptestresult.zlib.a__b_-_c"); s != "ptestresult.zlib.a__b_-_c" {
		t.Error(s)
	}
	r := Run{Tests: []Test{{Name: "ptestresult.curl.t__1", Status: "PASSED"}, {Name: "ptestresult.curl.t__2", Status: "FAILED"}, {Name: "ptestresult.curl.t__3", Status: "SKIPPED"}}}
	if all := r.All(); len(all) != 1 || all[0].Status != "FAILED" {
		t.Errorf("%+v", all)
	}
}

// TestResulttool: OE-Core's own program reads what we write, and says the same of it.
func TestResulttool(t *testing.T) {
	t.Parallel()
	oe := os.Getenv("SLIPWAY_TEST_OECORE")
	if oe == "" {
		t.Skip("SLIPWAY_TEST_OECORE is not set: OE-Core's resulttool is not asked")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "testresults.json")
	var out bytes.Buffer
	if err := Write(&out, read(t, sample)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	same := exec.Command("python3", "-c", "import json,sys; s=open(sys.argv[1]).read(); sys.exit(json.dumps(json.loads(s), sort_keys=True, indent=1) != s)", path)
	if msg, err := same.CombinedOutput(); err != nil {
		t.Errorf("Python writes it in another way: %v %s", err, msg)
	}
	report := exec.Command("python3", filepath.Join(oe, "scripts", "resulttool"), "report", path)
	msg, err := report.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	for _, want := range []string{"Failed test cases", "ssh.SSHTest.test_ssh", "glib-2.0", "zlib", "450 T"} {
		if !bytes.Contains(msg, []byte(want)) {
			t.Errorf("%q is not in\n%s", want, msg)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte(wrap(`{"a": {"status": "FAILED", "log": "\ud800 \udcff ` + "\xff" + `", "duration": 1e3}, "ltpresult.sections": {"x": {"timeout": true}}}`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		runs, err := Read(bytes.NewReader(data), "f")
		if err != nil {
			if runs != nil || err.Error() == "" {
				t.Fatal("runs beside an error")
			}
			return
		}
		var a, b bytes.Buffer
		if err := Write(&a, runs); err != nil {
			t.Fatal(err)
		}
		again, err := Read(bytes.NewReader(a.Bytes()), "f")
		if err != nil {
			t.Fatalf("what we write does not read: %v\n%s", err, &a)
		}
		if err := Write(&b, again); err != nil || !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Fatalf("%v\n%s\n%s", err, &a, &b)
		}
		for i := range runs {
			runs[i].All()
			runs[i].Key()
		}
	})
}
