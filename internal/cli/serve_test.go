package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"slipway/internal/asyncrpc"
	"slipway/internal/hashserv"
	"slipway/internal/prserv"
	"slipway/internal/prserv/fork"
)

// said is an output that is read while it is written.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// wait gives what the pattern's group matches, once it does.
func (s *said) wait(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if m := re.FindStringSubmatch(s.String()); m != nil {
			return m[1]
		}
	}
	t.Fatalf("no %s in:\n%s", pattern, s.String())
	return ""
}

// slipway serve answers BitBake with what approved releases have, and lets nobody
// add to it.
func TestServeBitBakesServers(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	dir := filepath.Join(t.TempDir(), "ws")
	run := func(want int, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		if code := Main(t.Context(), args, Stdio{In: strings.NewReader(""), Out: &out, Err: &out}); code != want {
			t.Fatalf("slipway %s: exit %d, want %d\n%s", strings.Join(args, " "), code, want, out.String())
		}
		return out.String()
	}
	run(0, "init", dir, "--example", "halyard-packages")
	if got := run(5, "serve", "--dir", dir, "--listen", "127.0.0.1:0", "--hashserv", "127.0.0.1:0"); !strings.Contains(got, "slipway build") {
		t.Errorf("no databases yet: %s", got)
	}
	for _, address := range []string{":0", "0.0.0.0:8585", "[::]:8585", "8.8.8.8:8585", "builds.example.org:8585"} {
		if got := run(7, "serve", "--dir", dir, "--prserv", address); !strings.Contains(got, "never public") {
			t.Errorf("a public PR server at %s: %s", address, got)
		}
	}
	settings := filepath.Join(dir, "settings.yaml")
	if err := os.WriteFile(settings, []byte("schema: 1\nserve: {prserv: \"0.0.0.0:8585\"}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := run(2, "config", "check", "--dir", dir); !strings.Contains(got, "settings.yaml:2:") || !strings.Contains(got, "never public") {
		t.Errorf("config check of a public PR server: %s", got)
	}
	if err := os.WriteFile(settings, []byte("schema: 1\nserve: {prserv: \"127.0.0.1:0\"}\n"), 0o644); err != nil {
		t.Fatal(err)
	}

	// The databases of two releases; a build is under way beside them.
	path := filepath.Join(dir, ".slipway/databases/series.db")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	base, err := fork.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	build := func(overlay string, outputs ...fork.Output) {
		t.Helper()
		if err := base.Record(t.Context(), overlay, time.Unix(1, 0), outputs); err != nil {
			t.Fatal(err)
		}
	}
	inputs := strings.Repeat("a", 64)
	first, open := t.TempDir(), t.TempDir()
	build(first, fork.Output{Recipe: "zlib", Version: "1", Arch: "core2_64", Number: 3, Inputs: inputs, Content: "c"})
	build(open, fork.Output{Recipe: "zlib", Version: "1", Arch: "core2_64", Number: 4, Inputs: strings.Repeat("b", 64), Content: "d"})
	if _, err := base.Promote(t.Context(), first); err != nil {
		t.Fatal(err)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0") // a port for the metrics that is free
	if err != nil {
		t.Fatal(err)
	}
	metrics := l.Addr().String()
	l.Close()
	ctx, stop := context.WithCancel(t.Context())
	var out said
	ended := make(chan int, 1)
	go func() {
		ended <- Main(ctx, []string{"serve", "--dir", dir, "--listen", "127.0.0.1:0", "--hashserv", "127.0.0.1:0", "--metrics", metrics}, Stdio{In: strings.NewReader(""), Out: &out, Err: &out})
	}()
	defer func() {
		stop()
		if code := <-ended; code != 0 {
			t.Errorf("exit %d\n%s", code, out.String())
		}
	}()
	hash, pr := out.wait(t, `hash equivalence at (\S+)`), out.wait(t, `PR numbers at (\S+)`)
	web := out.wait(t, `at (http://\S+/)`)
	ask := func(protocol, version, addr, command string, r any) string {
		t.Helper()
		c, err := asyncrpc.Dial(t.Context(), addr, protocol, version)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var raw json.RawMessage
		if err := c.Invoke(t.Context(), command, r, &raw); err != nil {
			return "error"
		}
		return string(raw)
	}
	h := func(command string, r any) string { return ask(hashserv.Protocol, "1.1", hash, command, r) }
	p := func(command string, r any) string { return ask(prserv.Protocol, prserv.Version, pr, command, r) }
	type m = map[string]any
	get := m{"method": fork.Method, "taskhash": inputs}
	for i, tt := range []struct{ got, want string }{
		{h("get", get), `{"taskhash":"` + inputs + `","method":"slipway.TaskContent","unihash":"` + inputs + `"}`},
		{h("get", m{"method": fork.Method, "taskhash": strings.Repeat("b", 64)}), "null"}, // not approved
		{h("report-equiv", m{"method": "m", "taskhash": "t", "unihash": inputs}), "error"},
		{h("report", m{"method": "m", "taskhash": "t", "outhash": "o", "unihash": inputs}), `{"taskhash":"t","method":"m","unihash":"` + inputs + `"}`}, // answered, not kept
		{h("get", m{"method": "m", "taskhash": "t"}), "null"},
		{h("get-db-usage", m{}), "error"}, // strangers may read, and nothing else
		{h("remove", m{"where": m{"method": fork.Method}}), "error"},
		{h("gc-mark", m{"mark": "x", "where": m{}}), "error"},
		{h("get-all-users", m{}), "error"},
		{p("is-readonly", m{}), `{"readonly":true}`},
		{p("get-pr", m{"version": "zlib-1", "pkgarch": "core2_64", "checksum": "c", "history": false}), `{"value":"3"}`},
		{p("get-pr", m{"version": "zlib-1", "pkgarch": "core2_64", "checksum": "new", "history": false}), `{"value":"4"}`},
		{p("max-package-pr", m{"version": "zlib-1", "pkgarch": "core2_64"}), `{"value":"3"}`}, // nothing was kept
		{p("import-one", m{"version": "zlib-1", "pkgarch": "core2_64", "checksum": "x", "value": "9"}), "null"},
	} {
		if tt.got != tt.want {
			t.Errorf("%d: %s, want %s", i, tt.got, tt.want)
		}
	}
	// An approval is seen at once.
	if _, err := base.Promote(t.Context(), open); err != nil {
		t.Fatal(err)
	}
	if got := p("max-package-pr", m{"version": "zlib-1", "pkgarch": "core2_64"}); got != `{"value":"4"}` {
		t.Error("after the next approval:", got)
	}
	if got := h("get", m{"method": fork.Method, "taskhash": strings.Repeat("b", 64)}); !strings.Contains(got, strings.Repeat("b", 64)) {
		t.Error("after the next approval:", got)
	}
	for _, url := range []string{web, "http://" + metrics + "/metrics"} {
		r, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		b.ReadFrom(r.Body)
		r.Body.Close()
		if strings.HasSuffix(url, "metrics") && (!strings.Contains(b.String(), "slipway_hashserv_hits_total") || !strings.Contains(b.String(), "slipway_prserv_requests_total")) {
			t.Errorf("%s: %s", url, b.String())
		}
	}
}
