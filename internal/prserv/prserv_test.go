package prserv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"slipway/internal/asyncrpc"
	"slipway/internal/postgres"
	"slipway/internal/postgres/postgrestest"
	"slipway/internal/prserv/prdb"
	"slipway/internal/prserv/prpg"
)

// backends are the kinds of databases; what a server does, it does over each.
var backends = map[string]func(*testing.T) string{
	"sqlite":     func(t *testing.T) string { return filepath.Join(t.TempDir(), "pr.sqlite3") },
	"postgresql": func(t *testing.T) string { return postgrestest.Schema(t) },
}

func TestMain(m *testing.M) { postgrestest.Main(m) }

func overAll(t *testing.T, test func(t *testing.T, place func(*testing.T) string)) {
	t.Parallel()
	for name, place := range backends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, place)
		})
	}
}

type database interface {
	Database
	Close() error
}

func start(t *testing.T, place string, o Options) (*Server, string, context.CancelFunc) {
	t.Helper()
	var d database
	var err error
	if postgres.IsURL(place) {
		d, err = prpg.Open(t.Context(), place, prpg.Options{ReadOnly: o.ReadOnly})
	} else {
		d, err = prdb.Open(place, o.ReadOnly)
	}
	if err != nil {
		t.Fatal(err)
	}
	o.DB = d
	s, err := New(o)
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
	stop := sync.OnceFunc(func() { cancel(); <-done; d.Close() })
	t.Cleanup(stop)
	return s, l.Address(), stop
}

// ask sends one message on a connection of its own, as OE-Core does.
func ask(t *testing.T, addr, command string, request any) string {
	t.Helper()
	c, err := asyncrpc.Dial(t.Context(), addr, Protocol, Version)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var answer json.RawMessage
	err = c.Invoke(t.Context(), command, request, &answer)
	var no asyncrpc.Refusal
	switch {
	case errors.As(err, &no):
		return "no: " + string(no)
	case err != nil:
		return "closed"
	}
	return string(answer)
}

type m = map[string]any

func get(t *testing.T, addr, version, checksum string, history bool) string {
	t.Helper()
	var a struct{ Value *string }
	got := ask(t, addr, "get-pr", m{"version": version, "pkgarch": "p", "checksum": checksum, "history": history})
	if err := json.Unmarshal([]byte(got), &a); err != nil || a.Value == nil {
		return got
	}
	return *a.Value
}

func TestConformance(t *testing.T) { overAll(t, testConformance) }

func testConformance(t *testing.T, place func(*testing.T) string) {
	_, addr, _ := start(t, place(t), Options{})
	v := func(checksum string) m {
		return m{"version": "v", "pkgarch": "p", "checksum": checksum, "history": false}
	}
	for i, tt := range []struct {
		command string
		request any
		want    string
	}{
		{"ping", m{}, `{"alive":true}`},
		{"is-readonly", m{}, `{"readonly":false}`},
		{"test-package", v(""), `{"value":false}`},
		{"max-package-pr", v(""), `{"value":null}`},
		{"test-pr", v("a"), `{"value":null}`},
		{"get-pr", v("a"), `{"value":"0"}`},
		{"get-pr", v("b"), `{"value":"1"}`},
		{"test-pr", v("a"), `{"value":"0"}`},
		{"get-pr", v("a"), `{"value":"2"}`}, // no history: never back
		{"get-pr", m{"version": "v", "pkgarch": "p", "checksum": "a", "history": true}, `{"value":"0"}`},
		{"test-package", v(""), `{"value":true}`},
		{"max-package-pr", v(""), `{"value":"2"}`},
		// Clients before 2.10 send no history, and know numbers only.
		{"get-pr", m{"version": "v", "pkgarch": "p", "checksum": "c"}, `{"value":3}`},
		{"test-pr", m{"version": "v", "pkgarch": "p", "checksum": "c"}, `{"value":3}`},
		{"export", m{"version": nil, "pkgarch": "", "checksum": "c", "colinfo": false}, `{"datainfo":[{"checksum":"c","pkgarch":"p","value":3,"version":"v"}],"metainfo":{}}`},
		{"export", m{"version": "v", "pkgarch": "p", "checksum": nil, "colinfo": false, "history": false}, `{"datainfo":[{"checksum":"c","pkgarch":"p","value":"3","version":"v"}],"metainfo":{}}`},
		{"import-one", m{"version": "w", "pkgarch": "p", "checksum": "x", "value": 7}, `{"value":7}`},
		{"import-one", m{"version": "w", "pkgarch": "p", "checksum": "x", "value": "7.1"}, `{"value":"7.1"}`},
		{"import-one", m{"version": "w", "pkgarch": "p", "checksum": "x", "value": "no"}, `null`},
		{"get-pr", m{"version": "w", "pkgarch": "p", "checksum": "y", "history": false}, `{"value":"7.2"}`},
		{"get-pr", m{"version": "w", "pkgarch": "p"}, "closed"},
		{"get-pr", m{"version": 5, "pkgarch": "p", "checksum": "x"}, "closed"},
		{"what", m{}, "closed"},
	} {
		if got := ask(t, addr, tt.command, tt.request); got != tt.want {
			t.Errorf("%d: %s %v\n got %s\nwant %s", i, tt.command, tt.request, got, tt.want)
		}
	}
}

// From 10 on BitBake's server compares values as text, and gives old numbers again.
func TestNumbersOnlyRise(t *testing.T) { overAll(t, testNumbersOnlyRise) }

func testNumbersOnlyRise(t *testing.T, place func(*testing.T) string) {
	_, addr, _ := start(t, place(t), Options{})
	for i := range 11 {
		if got := get(t, addr, "v", fmt.Sprint("ck", i), false); got != fmt.Sprint(i) {
			t.Fatal(i, got)
		}
	}
	for i, ck := range []string{"ck9", "ck8"} {
		if got, want := get(t, addr, "v", ck, false), fmt.Sprint(11+i); got != want {
			t.Errorf("%s: %s after 10, want %s", ck, got, want)
		}
	}
	if got := ask(t, addr, "export", m{"colinfo": false, "history": false}); got != `{"datainfo":[{"checksum":"ck8","pkgarch":"p","value":"12","version":"v"}],"metainfo":{}}` {
		t.Error("the greatest number is not exported:", got)
	}
}

func TestReadOnly(t *testing.T) { overAll(t, testReadOnly) }

func testReadOnly(t *testing.T, place func(*testing.T) string) {
	path := place(t)
	_, addr, _ := start(t, path, Options{})
	get(t, addr, "v", "a", false)
	_, ro, _ := start(t, path, Options{ReadOnly: true})
	for range 2 {
		if got := get(t, ro, "v", "b", false); got != "1" {
			t.Error(got)
		}
	}
	if got := ask(t, ro, "import-one", m{"version": "v", "pkgarch": "p", "checksum": "x", "value": "9"}); got != "null" {
		t.Error(got)
	}
	if got := ask(t, ro, "is-readonly", m{}); got != `{"readonly":true}` {
		t.Error(got)
	}
	if got := get(t, addr, "v", "c", false); got != "1" {
		t.Error("the read-only server wrote:", got)
	}
}

func TestUpstream(t *testing.T) { overAll(t, testUpstream) }

func testUpstream(t *testing.T, place func(*testing.T) string) {
	_, up, stopUp := start(t, place(t), Options{})
	_, down, _ := start(t, place(t), Options{Upstream: up, UpstreamDeadline: time.Second})
	for _, ck := range []string{"a", "b", "c", "d"} {
		get(t, up, "v", ck, false)
	}
	for i, tt := range []struct{ version, checksum, want string }{
		{"v", "d", "3"},      // known upstream
		{"v", "mine", "3.0"}, // below it
		{"v", "mine2", "3.1"},
		{"v", "mine2", "3.1"},
		{"v", "mine", "3.2"}, // never back
		{"local", "x", "0"},
		{"local", "x", "0"}, // BitBake's server crashes at the second build of a local recipe
		{"local", "y", "1"},
	} {
		if got := get(t, down, tt.version, tt.checksum, false); got != tt.want {
			t.Errorf("%d: %s, want %s", i, got, tt.want)
		}
	}
	if got := get(t, down, "v", "mine", true); got != "3.0" {
		t.Error("history:", got)
	}
	if got := ask(t, up, "export", m{"checksum": "mine", "colinfo": false, "history": true}); got != `{"datainfo":[],"metainfo":{}}` {
		t.Error("something was made upstream:", got)
	}
	get(t, up, "v", "e", false) // 4
	if got := get(t, down, "v", "mine2", false); got != "4.0" {
		t.Error("the upstream went on:", got)
	}
	stopUp()
	if got := get(t, down, "v", "mine2", false); got != "4.0" {
		t.Error("the upstream is dead, the number is known:", got)
	}
	if got := get(t, down, "v", "new", false); len(got) < 4 || got[:3] != "no:" {
		t.Error("a number that may be too low:", got)
	}
}

func TestManyClientsGetManyNumbers(t *testing.T) { overAll(t, testManyClientsGetManyNumbers) }

func testManyClientsGetManyNumbers(t *testing.T, place func(*testing.T) string) {
	_, up, _ := start(t, place(t), Options{})
	get(t, up, "v", "a", false)
	for name, o := range map[string]Options{"alone": {}, "below an upstream": {Upstream: up}} {
		_, addr, _ := start(t, place(t), o)
		var mu sync.Mutex
		seen := map[string]string{}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for n := range 10 {
					ck := fmt.Sprint(i, "-", n)
					v := get(t, addr, "v", ck, false)
					mu.Lock()
					if who := seen[v]; who != "" {
						t.Errorf("%s: %s was given to %s and %s", name, v, who, ck)
					}
					seen[v] = ck
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
}

// Several processes on one database give each number once, whoever is asked.
func TestProcessesShareADatabase(t *testing.T) {
	t.Parallel()
	place := postgrestest.Schema(t)
	var addrs []string
	for range 3 {
		_, addr, _ := start(t, place, Options{})
		addrs = append(addrs, addr)
	}
	var mu sync.Mutex
	seen, given := map[string]string{}, map[string]string{}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			for n := range 10 {
				// Half of the outputs are asked for by two clients, of two processes.
				ck := fmt.Sprint(i-i%2*(n%2), "-", n)
				v := get(t, addrs[i%len(addrs)], "v", ck, false)
				mu.Lock()
				if who := seen[v]; who != "" && who != ck {
					t.Errorf("%s was given to %s and %s", v, who, ck)
				}
				seen[v], given[ck] = ck, v
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	// All of them know all of it.
	top := 0
	for v := range seen {
		n, _ := strconv.Atoi(v)
		top = max(top, n)
	}
	for _, addr := range addrs {
		if got := ask(t, addr, "max-package-pr", m{"version": "v", "pkgarch": "p"}); got != fmt.Sprintf(`{"value":"%d"}`, top) {
			t.Errorf("the greatest is %s, want %d", got, top)
		}
	}
}

// An offset: new numbers are above the official ones, which are imported; known
// outputs keep theirs until there is one of one's own.
func TestOffset(t *testing.T) { overAll(t, testOffset) }

func testOffset(t *testing.T, place func(*testing.T) string) {
	_, addr, _ := start(t, place(t), Options{Offset: 1000})
	ask(t, addr, "import-one", m{"version": "v", "pkgarch": "p", "checksum": "official", "value": "7"})
	for i, tt := range []struct {
		version, checksum string
		history           bool
		want              string
	}{
		{"v", "official", false, "7"},
		{"v", "mine", false, "1000"},
		{"v", "mine2", false, "1001"},
		{"v", "mine", false, "1002"}, // never back
		{"v", "official", false, "1003"},
		{"v", "official", true, "7"},
		{"w", "mine", true, "1000"},
		{"w", "mine2", true, "1001"},
		{"w", "mine", true, "1000"},
	} {
		if got := get(t, addr, tt.version, tt.checksum, tt.history); got != tt.want {
			t.Errorf("%d: %s, want %s", i, got, tt.want)
		}
	}
	for _, o := range []Options{{Offset: -1}, {Offset: 2_000_000_000}, {Offset: 1, Upstream: "127.0.0.1:1"}} {
		if _, err := New(o); err == nil {
			t.Errorf("offset %d, upstream %q", o.Offset, o.Upstream)
		}
	}
}
