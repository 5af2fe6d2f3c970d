package hashserv

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"slipway/internal/asyncrpc"
)

// both answers a message by Quick and by Handle, each on a server of its own, as
// JSON or what the error says.
func both(t testing.TB, quick, handle *session, msg string) (a, b string, ok bool) {
	t.Helper()
	out, ok, err := quick.Quick(context.Background(), []byte(msg), nil)
	if err != nil {
		t.Fatalf("%s: %v", msg, err)
	}
	if !ok {
		return "", "", false
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(msg), &m); err != nil {
		t.Fatalf("Quick answered %q with %s: %v", msg, out, err)
	}
	answer, err := handle.Handle(context.Background(), m)
	var no asyncrpc.Refusal
	if errors.As(err, &no) || err != nil {
		return string(out), err.Error(), true
	}
	text, err := json.Marshal(answer)
	if err != nil {
		t.Fatal(err)
	}
	return string(out), strings.TrimSpace(string(text)), true
}

func sessions(t *testing.T) (quick, handle *session) {
	t.Helper()
	a, _ := start(t, Options{})
	b, _ := start(t, Options{})
	return &session{s: a}, &session{s: b}
}

// TestQuickAnswersAsHandle: what both answer, they answer alike, and what is
// unusual is left to Handle.
func TestQuickAnswersAsHandle(t *testing.T) {
	t.Parallel()
	quick, handle := sessions(t)
	get := func(task string) string {
		return `{"get": {"method": "m", "taskhash": "` + task + `", "all": false}}`
	}
	for _, tt := range []struct {
		msg  string
		want bool // Quick answers
	}{
		{report(1, 101, 1), true},
		{report(2, 101, 2), true},
		{strings.Replace(report(3, 102, 3), `"method"`, `"owner": null, "PN": "zlib", "unknown": true, "method"`, 1), true},
		{strings.Replace(report(4, 101, 4), `"method"`, `"PN": 5, "method"`, 1), false},
		{strings.Replace(report(4, 101, 4), `"method"`, `"PN": "z\"lib", "method"`, 1), false},
		{strings.Replace(report(4, 101, 4), `"method"`, `"PN": "zäb", "method"`, 1), false},
		{strings.Replace(report(4, 101, 4), `"method"`, `"method": "n", "method"`, 1), false},
		{strings.Replace(report(4, 101, 4), `"unihash"`, `"unihas"`, 1), false},
		{`{"report": {"method": "m", "taskhash": "t", "outhash": "o", "unihash": "ABC"}}`, false},
		{get(h(1)), true},
		{get(h(2)), true},
		{" { \"get\" :\t{\"taskhash\":\"" + h(2) + "\" , \"method\":\"m\"} } ", true},
		{get(h(9)), false}, // unknown: Handle's, who may ask an upstream
		{strings.Replace(get(h(1)), "false", "true", 1), false},
		{strings.Replace(get(h(1)), "false", "null", 1), false},
		{`{"get": {"method": "m", "taskhash": "` + h(1) + `"}, "ping": {}}`, false},
		{`{"get": {"method": "m", "taskhash": "` + h(1) + `"}} x`, false},
		{`{"get": {"method": "m", "taskhash": "` + h(1) + `",}}`, false},
		{`{"get": {"method": "m" "taskhash": "` + h(1) + `"}}`, false},
		{`{"get": {"method": "m", "taskhash": "` + h(1) + `"`, false},
		{`{"get": ["method"]}`, false}, {`{}`, false}, {`null`, false}, {``, false}, {`{"get": null}`, false},
		{`{"get": {` + strings.Repeat(`"x": true, `, 3) + `"method": "m", "taskhash": "` + h(1) + `"}}`, false},
	} {
		a, b, ok := both(t, quick, handle, tt.msg)
		if ok != tt.want || a != b {
			t.Errorf("%s\nquick  %v %s\nhandle %s", tt.msg, ok, a, b)
		}
	}
	// Without the right, nothing is answered.
	quick.s.anon = reporting
	if _, _, ok := both(t, quick, handle, get(h(1))); ok {
		t.Error("answered without @read")
	}
	quick.s.anon = read
	if _, _, ok := both(t, quick, handle, report(1, 101, 1)); ok {
		t.Error("stored without @report")
	}
}

// FuzzFlat: what the small parser takes is JSON, and says the same to the large one.
func FuzzFlat(f *testing.F) {
	f.Add([]byte(report(1, 2, 3)))
	f.Add([]byte(`{"get": {"method": "m", "taskhash": "x", "all": false, "n": null, "t": true}}`))
	f.Add([]byte(`{"a":{}}`))
	f.Add([]byte("{ \"a\" : { \"b\" : \"c\\u0041\" } }"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m flat
		if !m.parse(b) {
			return
		}
		var v map[string]map[string]any
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatalf("%q is no JSON: %v", b, err)
		}
		fields, ok := v[string(m.command)]
		if len(v) != 1 || !ok || len(fields) != m.n {
			t.Fatalf("%q: %q with %d fields, not %v", b, m.command, m.n, v)
		}
		for _, x := range m.fields[:m.n] {
			want, ok := fields[string(x.key)]
			var got any
			switch x.kind {
			case isText:
				got = string(x.value)
			case isTrue:
				got = true
			case isFalse:
				got = false
			}
			if !ok || got != want {
				t.Fatalf("%q: %q is %v, not %v", b, x.key, got, want)
			}
		}
	})
}
