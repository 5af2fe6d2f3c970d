package cli

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"slipway/internal/asyncrpc"
	"slipway/internal/prserv"
)

// asProgram makes this test binary the program, for commands that start it again.
const asProgram = "SLIPWAY_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		os.Exit(Main(ctx, os.Args[1:], Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	}
	os.Exit(m.Run())
}

// --start goes to the background when the server listens, and says why when it
// does not; --stop ends it, clients connected or not.
func TestPRServerInTheBackground(t *testing.T) {
	t.Setenv(asProgram, "1")
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	log := filepath.Join(dir, "pr.log")
	run := func(want int, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		args = append([]string{"prserv", "serve", "--host", "127.0.0.1", "--port", port, "--log", log}, args...)
		if code := Main(t.Context(), args, Stdio{In: strings.NewReader(""), Out: &out, Err: &out}); code != want {
			b, _ := os.ReadFile(log)
			t.Fatalf("slipway %s: exit %d, want %d\n%s\nlog: %s", strings.Join(args, " "), code, want, out.String(), b)
		}
		return out.String()
	}
	pidFile := "/tmp/PRServer_127.0.0.1_" + port + ".pid"
	if got := run(1, "--start", "--file", filepath.Join(dir, "none/pr.sqlite3")); !strings.Contains(got, "did not start") || !strings.Contains(got, log) {
		t.Errorf("a server that cannot start: %s", got)
	}
	if _, err := os.Stat(pidFile); err == nil {
		t.Error("a pid file of a server that did not start")
	}
	run(0, "--start", "--file", filepath.Join(dir, "pr.sqlite3"), "--offset", "500")
	t.Cleanup(func() { // when the test fails
		if pid := running(pidFile); pid != 0 {
			syscall.Kill(pid, syscall.SIGKILL)
			os.Remove(pidFile)
		}
	})
	c, err := asyncrpc.Dial(t.Context(), "127.0.0.1:"+port, prserv.Protocol, prserv.Version) // at once: it listens
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var a struct{ Value string }
	if err := c.Invoke(t.Context(), "get-pr", map[string]any{"version": "v", "pkgarch": "p", "checksum": "c", "history": false}, &a); err != nil || a.Value != "500" {
		t.Fatal(a, err)
	}
	b, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal("the process of the pid file:", err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	if session := strings.Fields(rest)[3]; session != strconv.Itoa(pid) {
		t.Errorf("it is of session %s, not of one of its own: it would end with the terminal", session)
	}
	run(6, "--start", "--file", filepath.Join(dir, "other.sqlite3"))
	run(0, "--stop")
	if syscall.Kill(pid, 0) == nil && !ended(pid) {
		t.Error("it still runs")
	}
	run(5, "--stop")
	run(2, "--start", "--stop")
}
