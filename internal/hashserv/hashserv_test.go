package hashserv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/asyncrpc"
	"slipway/internal/errs"
	"slipway/internal/hashserv/hashdb"
	"slipway/internal/hashserv/hashpg"
	"slipway/internal/postgres/postgrestest"
)

func h(n int) string { return fmt.Sprintf("%064x", n) }

// backend is a kind of database. What a server does, it does over each.
type backend struct {
	name  string
	place func(*testing.T) string // a new, empty database
	open  func(t *testing.T, place string, readOnly bool) Database
}

var sqlite = backend{"sqlite", func(t *testing.T) string { return filepath.Join(t.TempDir(), "h.db") }, func(t *testing.T, place string, readOnly bool) Database {
	d, err := hashdb.Open(place, hashdb.Options{ReadOnly: readOnly})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}}

func postgres(name string, o hashpg.Options) backend {
	return backend{name, func(t *testing.T) string { return postgrestest.Schema(t) }, func(t *testing.T, place string, readOnly bool) Database {
		o.ReadOnly = readOnly
		d, err := hashpg.Open(t.Context(), place, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		return d
	}}
}

func TestMain(m *testing.M) { postgrestest.Main(m) }

func overAll(t *testing.T, test func(*testing.T, backend)) {
	t.Parallel()
	for _, b := range []backend{sqlite, postgres("postgresql", hashpg.Options{}), postgres("postgresql without an index", hashpg.Options{IndexBytes: -1})} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			test(t, b)
		})
	}
}

func (b backend) new(t *testing.T) Database { return b.open(t, b.place(t), false) }

// start serves o on TCP, with a database of its own when o has none.
func start(t *testing.T, o Options) (*Server, string) {
	t.Helper()
	if o.DB == nil {
		o.DB = sqlite.new(t)
	}
	s, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := asyncrpc.Listen(t.Context(), "127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() { cancel(); <-done })
	return s, l.Address()
}

func dial(t *testing.T, addr string) *asyncrpc.Client {
	t.Helper()
	c, err := asyncrpc.Dial(t.Context(), addr, Protocol, "1.1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// ask sends a message, which is JSON, and gives the answer as JSON; "closed" when
// the server closes, "no: ..." when it refuses.
func ask(t *testing.T, c *asyncrpc.Client, message string) string {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(message), &m); err != nil || len(m) != 1 {
		t.Fatal(message, err)
	}
	for command, request := range m {
		var answer json.RawMessage
		err := c.Invoke(t.Context(), command, request, &answer)
		var no asyncrpc.Refusal
		switch {
		case errors.As(err, &no):
			return "no: " + string(no)
		case err != nil:
			return "closed"
		}
		return string(answer)
	}
	return ""
}

// lines sends lines to a stream and gives the answers.
func lines(t *testing.T, c *asyncrpc.Client, command string, send ...string) []string {
	t.Helper()
	var b [][]byte
	for _, l := range send {
		b = append(b, []byte(l))
	}
	var got []string
	if err := c.Stream(t.Context(), command, b, func(_ int, a []byte) error { got = append(got, string(a)); return nil }); err != nil {
		got = append(got, "! "+err.Error())
	}
	return got
}

func report(task, out, uni int) string {
	return fmt.Sprintf(`{"report": {"method": "m", "taskhash": %q, "outhash": %q, "unihash": %q}}`, h(task), h(out), h(uni))
}

func equiv(task, uni int) string {
	return fmt.Sprintf(`{"taskhash":%q,"method":"m","unihash":%q}`, h(task), h(uni))
}

// TestConformance is a conversation with every command; each message and what
// must come back. CREATED and TOKEN stand for what changes.
func TestConformance(t *testing.T) { overAll(t, testConformance) }

func testConformance(t *testing.T, b backend) {
	_, addr := start(t, Options{DB: b.new(t), AdminUser: "admin", AdminPassword: "secret"})
	full := fmt.Sprintf(`{"PN":"zlib","PR":"r0","PV":"1.3","created":"CREATED","gc_mark":"","id":ID,"method":"m","outhash":%q,"outhash_siginfo":"sig","owner":null,"task":"do_package","taskhash":%q,"unihash":%q}`, h(102), h(3), h(3))
	short := strings.Replace(strings.Replace(full, `"gc_mark":"",`, "", 1), fmt.Sprintf(`,"unihash":%q`, h(3)), "", 1)
	for i, tt := range []struct{ send, want string }{
		{`{"ping": {}}`, `{"alive":true}`},
		{`{"get": {"method": "m", "taskhash": "none"}}`, `null`},
		{`{"get": {"method": "m", "taskhash": "none", "all": true}}`, `null`},
		{`{"get-outhash": {"method": "m", "taskhash": "t", "outhash": "none"}}`, `null`},
		{report(1, 101, 1), equiv(1, 1)},
		{report(2, 101, 2), equiv(2, 1)},
		{report(1, 100, 9), equiv(1, 1)},
		{strings.Replace(report(3, 102, 3), `"method"`, `"PN": "zlib", "PV": "1.3", "PR": "r0", "task": "do_package", "outhash_siginfo": "sig", "owner": null, "unknown": 5, "method"`, 1), equiv(3, 3)},
		{`{"get": {"method": "m", "taskhash": "` + h(2) + `", "all": false}}`, equiv(2, 1)},
		{`{"get": {"method": "m", "taskhash": "` + h(3) + `", "all": true}}`, full},
		{`{"get-outhash": {"method": "m", "taskhash": "any", "outhash": "` + h(102) + `"}}`, full},
		{`{"get-outhash": {"method": "m", "taskhash": "any", "outhash": "` + h(102) + `", "with_unihash": false}}`, short},
		{`{"report-equiv": {"method": "m", "taskhash": "` + h(4) + `", "unihash": "` + h(40) + `"}}`, equiv(4, 40)},
		{`{"report-equiv": {"method": "m", "taskhash": "` + h(4) + `", "unihash": "` + h(41) + `"}}`, equiv(4, 40)},
		{`{"report-equiv": {"method": "m", "taskhash": "x", "unihash": "ABC"}}`, `no: Invalid unihash`},
		{strings.Replace(report(5, 105, 5), h(5), "short", 2), `no: Invalid unihash`},
		{`{"report": {"method": "m", "taskhash": "x", "outhash": "y"}}`, `no: Invalid unihash`},
		{`{"report": {"method": "m", "taskhash": 5, "outhash": "y", "unihash": "` + h(1) + `"}}`, `closed`},
		{`{"get": {"method": "m"}}`, `closed`},
		{`{"get": null}`, `closed`},
		{`{"no-such-command": {}}`, `closed`},
		{`{"backfill-wait": null}`, `{"tasks":0}`},
		{`{"get-db-usage": {}}`, `{"usage":{"config":{"rows":0},"outhashes_v2":{"rows":4},"unihashes_v3":{"rows":4},"users":{"rows":1}}}`},
		{`{"get-db-query-columns": {}}`, `{"columns":["PN","PR","PV","gc_mark","method","outhash","outhash_siginfo","owner","task","taskhash","unihash"]}`},
		{`{"gc-status": {}}`, `{"keep":4,"mark":null,"remove":0}`},
		{`{"gc-sweep": {"mark": "M"}}`, `no: 'M' is not the current mark. Refusing to sweep`},
		{`{"gc-mark": {"mark": "M", "where": {"taskhash": "` + h(1) + `", "nonsense": 1, "method": null}}}`, `{"count":1}`},
		{`{"gc-mark": {"mark": "M", "where": {}}}`, `{"count":0}`},
		{`{"gc-mark": {"mark": 5, "where": {}}}`, `closed`},
		{`{"gc-mark": {"mark": "M"}}`, `closed`},
		{`{"gc-status": {}}`, `{"keep":1,"mark":"M","remove":3}`},
		{`{"gc-sweep": {"mark": "M"}}`, `{"count":3}`},
		{`{"gc-sweep": {"mark": "M"}}`, `{"count":3}`}, // repeated by a client that did not wait
		{`{"gc-status": {}}`, `{"keep":0,"mark":null,"remove":1}`},
		{`{"clean-unused": {"max_age_seconds": 86400}}`, `{"count":0}`}, // upstream's sign slip would take all
		{`{"clean-unused": {"max_age_seconds": "x"}}`, `closed`},
		{`{"clean-unused": {"max_age_seconds": 0}}`, `{"count":2}`},
		{`{"remove": {"where": {"nonsense": "x"}}}`, `{"count":0}`},
		{`{"remove": {"where": {}}}`, `{"count":0}`},
		{`{"remove": {"where": 5}}`, `closed`},
		{`{"remove": {"where": {"method": "m"}}}`, `{"count":3}`},
		{`{"get-user": {"username": "admin"}}`, `no: Anonymous user is not allowed to access permissions(s) @user-admin`},
		{`{"refresh-token": {}}`, `no: Anonymous user is not allowed to access permissions(s) @user-admin`},
		{`{"auth": {"username": "admin", "token": "secret"}}`, `{"permissions":["@all"],"result":true,"username":"admin"}`},
	} {
		c := dial(t, addr)
		got := ask(t, c, tt.send)
		if i := strings.Index(got, `"created":"`); i >= 0 {
			got = got[:i+11] + "CREATED" + got[i+11+32:]
			a, b, _ := strings.Cut(got, `"id":`)
			_, b, _ = strings.Cut(b, ",")
			got = a + `"id":ID,` + b
		}
		if got != tt.want {
			t.Errorf("%d: %s\n got %s\nwant %s", i, tt.send, got, tt.want)
		}
		c.Close()
	}
}

func TestUsers(t *testing.T) { overAll(t, testUsers) }

func testUsers(t *testing.T, b backend) {
	_, addr := start(t, Options{DB: b.new(t), AdminUser: "admin", AdminPassword: "secret", AnonPerms: []string{permNone}})
	if got := ask(t, dial(t, addr), `{"get": {"method": "m", "taskhash": "x"}}`); got != "no: Anonymous user is not allowed to access permissions(s) @read" {
		t.Error(got)
	}
	if got := ask(t, dial(t, addr), `{"get-stream": null}`); got != "no: Anonymous user is not allowed to access permissions(s) @read" {
		t.Error(got)
	}
	admin := dial(t, addr)
	ask(t, admin, `{"auth": {"username": "admin", "token": "secret"}}`)
	var made struct {
		Token       string
		Permissions []string
	}
	if err := json.Unmarshal([]byte(ask(t, admin, `{"new-user": {"username": "bob", "permissions": ["@report", "@none", "@read"]}}`)), &made); err != nil || len(made.Token) != 64 {
		t.Fatal(made, err)
	}
	if d := cmp.Diff([]string{"@read", "@report"}, made.Permissions); d != "" {
		t.Error(d)
	}
	bob := dial(t, addr)
	for _, tt := range []struct {
		c          *asyncrpc.Client
		send, want string
	}{
		{admin, `{"get-user": {}}`, `{"permissions":["@all","@db-admin","@read","@report","@user-admin"],"username":"admin"}`},
		{admin, `{"get-user": {"username": "nobody"}}`, `null`},
		{admin, `{"get-all-users": {}}`, `{"users":[{"permissions":["@all","@db-admin","@read","@report","@user-admin"],"username":"admin"},{"permissions":["@read","@report"],"username":"bob"}]}`},
		{bob, `{"auth": {"username": "bob", "token": "` + made.Token + `"}}`, `{"permissions":["@read","@report"],"result":true,"username":"bob"}`},
		{bob, `{"get-user": {}}`, `{"permissions":["@read","@report"],"username":"bob"}`},
		{bob, report(1, 2, 3), equiv(1, 3)},
		{bob, `{"get-user": {"username": "bob"}}`, `{"permissions":["@read","@report"],"username":"bob"}`},
		{admin, `{"set-user-perms": {"username": "bob", "permissions": ["@read"]}}`, `{"permissions":["@read"],"username":"bob"}`},
		{admin, `{"get": {"method": "m", "taskhash": "` + h(1) + `"}}`, equiv(1, 3)},
		{bob, `{"get-user": {"username": "admin"}}`, `no: bob is not allowed to access permissions(s) @user-admin`},
		{admin, `{"become-user": {"username": "bob"}}`, `{"permissions":["@read"],"username":"bob"}`},
		{admin, `{"get-all-users": {}}`, `no: bob is not allowed to access permissions(s) @user-admin`},
	} {
		if got := ask(t, tt.c, tt.send); got != tt.want {
			t.Errorf("%s\n got %s\nwant %s", tt.send, got, tt.want)
		}
	}
	for _, tt := range []struct{ send, want string }{
		{`{"become-user": {"username": "nobody"}}`, `no: User nobody doesn't exist`},
		{`{"new-user": {"username": "bob", "permissions": []}}`, `no: Cannot create new user 'bob'`},
		{`{"new-user": {"username": "eve", "permissions": ["@no"]}}`, `no: Unknown permissions @no`},
		{`{"new-user": {"username": "eve", "permissions": "@read"}}`, `no: Unexpected type for permissions`},
		{`{"set-user-perms": {"username": "nobody", "permissions": []}}`, `no: No user named 'nobody' exists`},
		{`{"refresh-token": {"username": "nobody"}}`, `no: No user named 'nobody' exists`},
		{`{"delete-user": {"username": "nobody"}}`, `no: No user named 'nobody' exists`},
		{`{"delete-user": {"username": "bob"}}`, `{"username":"bob"}`},
	} {
		c := dial(t, addr)
		ask(t, c, `{"auth": {"username": "admin", "token": "secret"}}`)
		if got := ask(t, c, tt.send); got != tt.want {
			t.Errorf("%s\n got %s\nwant %s", tt.send, got, tt.want)
		}
	}
	if got := ask(t, dial(t, addr), `{"auth": {"username": "bob", "token": "`+made.Token+`"}}`); got != "no: Unable to authenticate as bob" {
		t.Error(got)
	}
}

func TestStreams(t *testing.T) { overAll(t, testStreams) }

func testStreams(t *testing.T, b backend) {
	_, addr := start(t, Options{DB: b.new(t)})
	c := dial(t, addr)
	ask(t, c, report(1, 101, 1))
	ask(t, c, report(2, 101, 2))
	if d := cmp.Diff([]string{h(1), "", h(1), ""}, lines(t, c, "get-stream", "m "+h(1), "m none", "m\t "+h(2)+"  ", "other "+h(1))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"true", "false", "false"}, lines(t, c, "exists-stream", h(1), h(2), "none")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{`{"count": 1}`, `{"count": 1}`, `{"count": 0}`}, lines(t, c, "gc-mark-stream",
		`{"mark": "A", "where": {"taskhash": "`+h(1)+`"}}`, `{"mark": "B", "where": {"taskhash": "`+h(2)+`"}}`, `{"mark": "B", "where": {"x": "y"}}`)); d != "" {
		t.Error(d)
	}
	if got := ask(t, c, `{"gc-status": {}}`); got != `{"keep":1,"mark":"B","remove":1}` {
		t.Error(got)
	}
	var stats struct{ Requests struct{ Num float64 } }
	json.Unmarshal([]byte(ask(t, c, `{"get-stats": null}`)), &stats)
	if stats.Requests.Num != 13 {
		t.Errorf("%v requests counted", stats.Requests.Num)
	}
	ask(t, c, `{"reset-stats": null}`)
	for command, bad := range map[string]string{"get-stream": "one", "gc-mark-stream": "{"} {
		got := lines(t, dial(t, addr), command, bad)
		if len(got) != 1 || !strings.HasPrefix(got[0], "! ") {
			t.Error(command, got)
		}
	}
}

func TestReadOnlyServer(t *testing.T) { overAll(t, testReadOnlyServer) }

func testReadOnlyServer(t *testing.T, b backend) {
	place := b.place(t)
	_, rw := start(t, Options{DB: b.open(t, place, false)})
	_, ro := start(t, Options{DB: b.open(t, place, true), ReadOnly: true})
	ask(t, dial(t, rw), report(1, 101, 1))
	for _, tt := range []struct{ send, want string }{
		{`{"get": {"method": "m", "taskhash": "` + h(1) + `"}}`, equiv(1, 1)},
		{report(2, 101, 2), equiv(2, 1)},
		{report(3, 103, 3), equiv(3, 3)},
		{`{"get": {"method": "m", "taskhash": "` + h(3) + `"}}`, `null`},
		{`{"report-equiv": {"method": "m", "taskhash": "x", "unihash": "` + h(1) + `"}}`, "closed"},
		{`{"remove": {"where": {"method": "m"}}}`, "closed"},
		{`{"gc-status": {}}`, "closed"},
	} {
		if got := ask(t, dial(t, ro), tt.send); got != tt.want {
			t.Errorf("%s\n got %s\nwant %s", tt.send, got, tt.want)
		}
	}
}

func TestUpstream(t *testing.T) { overAll(t, testUpstream) }

func testUpstream(t *testing.T, b backend) {
	upDB := b.new(t)
	_, up := start(t, Options{DB: upDB})
	s, down := start(t, Options{DB: b.new(t), Upstream: up})
	ask(t, dial(t, up), report(1, 101, 1))
	ask(t, dial(t, up), report(5, 105, 5))
	c := dial(t, down)
	for _, tt := range []struct{ send, want string }{
		{`{"get": {"method": "m", "taskhash": "none"}}`, `null`}, // BitBake's server crashes here
		{`{"get": {"method": "m", "taskhash": "none", "all": true}}`, `null`},
		{report(2, 101, 2), equiv(2, 1)}, // the output is known upstream
		{report(3, 103, 3), equiv(3, 3)},
	} {
		if got := ask(t, c, tt.send); got != tt.want {
			t.Errorf("%s\n got %s\nwant %s", tt.send, got, tt.want)
		}
	}
	if d := cmp.Diff([]string{h(3), h(5), "", h(1)}, lines(t, c, "get-stream", "m "+h(3), "m "+h(5), "m none", "m "+h(1))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"true", "false", "false", "true"}, lines(t, c, "exists-stream", h(5), "none", "none2", h(3))); d != "" {
		t.Error(d)
	}
	ask(t, c, `{"backfill-wait": null}`)
	if u, err := s.DB.Unihash(t.Context(), "m", h(5)); err != nil || u != h(5) {
		t.Error("not kept:", u, err)
	}
	if u, _ := upDB.Unihash(t.Context(), "m", h(3)); u != "" {
		t.Error("a report went upstream")
	}
	ask(t, dial(t, up), report(6, 106, 60))
	if got := ask(t, c, `{"get": {"method": "m", "taskhash": "`+h(6)+`", "all": true}}`); !strings.Contains(got, h(60)) {
		t.Error(got)
	}
	if row, err := s.DB.ByTask(t.Context(), "m", h(6)); err != nil || row == nil || row.Outhash != h(106) {
		t.Error(row, err)
	}
}

// A dead upstream, refused or silent: local answers within a deadline, and the
// numbers say so.
func TestDeadUpstream(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never says a word
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for name, addr := range map[string]string{"refused": "127.0.0.1:1", "silent": silent.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			s, down := start(t, Options{Upstream: addr, UpstreamDeadline: 50 * time.Millisecond})
			c := dial(t, down)
			if got := ask(t, c, report(1, 101, 1)); got != equiv(1, 1) {
				t.Error(got)
			}
			if d := cmp.Diff([]string{h(1), ""}, lines(t, c, "get-stream", "m "+h(1), "m none")); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff([]string{"true", "false"}, lines(t, c, "exists-stream", h(1), "none")); d != "" {
				t.Error(d)
			}
			if got := ask(t, c, `{"get": {"method": "m", "taskhash": "none"}}`); got != "null" {
				t.Error(got)
			}
			if s.up.Failed() == 0 {
				t.Error("nothing was counted")
			}
			absent := -1.0
			for _, m := range s.Metrics() {
				if m.Name == "slipway_hashserv_upstream_absent" {
					absent = m.Value
				}
			}
			if absent != 1 {
				t.Error("the metrics do not say it:", absent)
			}
		})
	}
}

// An upstream of today may give what is no unihash; BitBake's clients refuse it.
func TestUpstreamWithOddUnihashes(t *testing.T) { overAll(t, testUpstreamWithOddUnihashes) }

func testUpstreamWithOddUnihashes(t *testing.T, b backend) {
	_, up := start(t, Options{DB: b.new(t), AnyUnihash: true})
	_, down := start(t, Options{DB: b.new(t), Upstream: up})
	ask(t, dial(t, up), `{"report": {"method": "m", "taskhash": "t", "outhash": "o", "unihash": "odd"}}`)
	c := dial(t, down)
	if d := cmp.Diff([]string{""}, lines(t, c, "get-stream", "m t")); d != "" {
		t.Error(d)
	}
	if got := ask(t, c, `{"get": {"method": "m", "taskhash": "t"}}`); got != "null" {
		t.Error(got)
	}
	if got := ask(t, c, `{"get-outhash": {"method": "m", "taskhash": "t", "outhash": "o"}}`); got != "null" {
		t.Error(got)
	}
}

func TestHugeReport(t *testing.T) { overAll(t, testHugeReport) }

func testHugeReport(t *testing.T, b backend) {
	_, addr := start(t, Options{DB: b.new(t)})
	c := dial(t, addr)
	sig := strings.Repeat("line with blanks   \n", 50_000) // a megabyte, cut behind a blank more than once
	raw, _ := json.Marshal(map[string]any{"report": map[string]string{"method": "m", "taskhash": h(1), "outhash": h(2), "unihash": h(3), "outhash_siginfo": sig}})
	if got := ask(t, c, string(raw)); got != equiv(1, 3) {
		t.Fatal(got)
	}
	var row struct {
		Siginfo string `json:"outhash_siginfo"`
	}
	if err := json.Unmarshal([]byte(ask(t, c, `{"get": {"method": "m", "taskhash": "`+h(1)+`", "all": true}}`)), &row); err != nil || row.Siginfo != sig {
		t.Errorf("%d characters of %d: %v", len(row.Siginfo), len(sig), err)
	}
}

func TestRefusedOptions(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"read-only with upstream": {ReadOnly: true, Upstream: "h:1"},
		"bad upstream":            {Upstream: "nowhere"},
		"anonymous user-admin":    {AnonPerms: []string{permUserAdmin}},
		"anonymous all":           {AnonPerms: []string{permAll}},
		"unknown permission":      {AnonPerms: []string{"@x"}},
		"admin without password":  {AdminUser: "a"},
	} {
		if _, err := New(t.Context(), o); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
