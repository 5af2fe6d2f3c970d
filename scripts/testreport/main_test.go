package main

import (
	"strings"
	"testing"
	"time"
)

const events = `{"Action":"start","Package":"slipway/a"}
{"Action":"run","Package":"slipway/a","Test":"TestGood"}
{"Action":"output","Package":"slipway/a","Test":"TestGood","Output":"=== RUN   TestGood\n"}
{"Action":"output","Package":"slipway/a","Test":"TestGood","Output":"noise\n"}
{"Action":"pass","Package":"slipway/a","Test":"TestGood","Elapsed":0.1}
{"Action":"output","Package":"slipway/a","Test":"TestLong","Output":"=== RUN   TestLong\n"}
{"Action":"output","Package":"slipway/a","Test":"TestLong","Output":"    a_test.go:12: long form: SLIPWAY_TEST=full runs it\n"}
{"Action":"output","Package":"slipway/a","Test":"TestLong","Output":"--- SKIP: TestLong (0.00s)\n"}
{"Action":"skip","Package":"slipway/a","Test":"TestLong","Elapsed":0}
{"Action":"output","Package":"slipway/a","Output":"PASS\n"}
{"Action":"output","Package":"slipway/a","Output":"ok  \tslipway/a\t0.003s\n"}
{"Action":"pass","Package":"slipway/a","Elapsed":0.003}
{"Action":"output","Package":"slipway/none","Output":"?   \tslipway/none\t[no test files]\n"}
{"Action":"skip","Package":"slipway/none","Elapsed":0}
`

const broken = `{"ImportPath":"slipway/b","Action":"build-output","Output":"b.go:1:1: undefined: x\n"}
{"ImportPath":"slipway/b","Action":"build-fail"}
{"Action":"output","Package":"slipway/b","Output":"FAIL\tslipway/b [build failed]\n"}
{"Action":"fail","Package":"slipway/b","Elapsed":0,"FailedBuild":"slipway/b"}
{"Action":"output","Package":"slipway/c","Test":"TestBad","Output":"    c_test.go:3: no\n"}
{"Action":"fail","Package":"slipway/c","Test":"TestBad"}
{"Action":"output","Package":"slipway/c","Output":"FAIL\tslipway/c\t0.1s\n"}
{"Action":"fail","Package":"slipway/c"}
`

func TestReadAndSummary(t *testing.T) {
	var tot totals
	var out strings.Builder
	ok, err := tot.read(strings.NewReader(events), &out)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	good := tot.summary(&out, time.Second)
	want := "ok  \tslipway/a\t0.003s\n" +
		"skipped: long form: SLIPWAY_TEST=full runs it\n    a TestLong\n" +
		"ok  \tslipway\t1.0s\t1 packages (0 cached): 1 tests passed, 0 failed, 1 skipped\n"
	if !good || out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}

	out.Reset()
	ok, err = tot.read(strings.NewReader(broken), &out)
	if ok || err != nil {
		t.Fatal(ok, err)
	}
	good = tot.summary(&out, time.Second)
	for _, want := range []string{"b.go:1:1: undefined: x", "c_test.go:3: no", "failed: slipway/b\n", "failed: slipway/c TestBad\n", "FAIL\tslipway\t"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q:\n%s", want, out.String())
		}
	}
	if good || tot.Failed != 2 {
		t.Errorf("good %v, failed %d", good, tot.Failed)
	}
}

func TestNothingTestedIsNoSuccess(t *testing.T) {
	var tot totals
	var out strings.Builder
	if tot.summary(&out, 0) {
		t.Error(out.String())
	}
}
