package asyncrpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"slipway/internal/errs"
)

// echo answers {"echo": x} with x, {"size": s} with the length of s, and has a stream.
type echo struct{ c *Conn }

func (echo) Close() {}

func (e echo) Handle(_ context.Context, msg map[string]json.RawMessage) (any, error) {
	switch {
	case msg["echo"] != nil:
		return msg["echo"], nil
	case msg["refuse"] != nil:
		return nil, Refusal("no, because")
	case msg["echo-stream"] != nil:
		if err := e.c.WriteMessage("ok"); err != nil {
			return nil, err
		}
		for {
			l, err := e.c.ReadLine()
			if err != nil {
				return nil, err
			}
			if string(l) == "END" {
				e.c.WriteLine([]byte("ok"))
				return nil, e.c.Flush()
			}
			e.c.WriteLines(append(bytes.Clone(l), '\n'))
			if !e.c.More() {
				e.c.Flush()
			}
		}
	}
	return nil, errors.New("unknown")
}

func start(t *testing.T, address string, lim Limits) (*Server, string) {
	t.Helper()
	s := NewServer(Protocol{Name: "ECHO", Accepts: func(a, b int) bool { return a == 1 && b <= 1 }, New: func(c *Conn) Session { return echo{c} }, Limits: lim})
	l, err := Listen(t.Context(), address, false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, l.Address()
}

// everywhere runs a test over each transport.
func everywhere(t *testing.T, fn func(t *testing.T, address string)) {
	for _, name := range []string{"tcp", "unix", "long unix path", "ws"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := "127.0.0.1:0"
			switch name {
			case "unix":
				address = "unix://" + filepath.Join(t.TempDir(), "s.sock")
			case "long unix path":
				dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 40))
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				address = "unix://" + filepath.Join(dir, "s.sock")
			case "ws":
				address = "ws://127.0.0.1:0"
			}
			fn(t, address)
		})
	}
}

func connect(t *testing.T, address string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), address, "ECHO", "1.1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// awkward texts: what chunks, blanks and escapes get wrong.
func awkward() []string {
	blankAt := func(n int) string { return strings.Repeat("x", n-1) + " " + strings.Repeat("y", 40_000) }
	return []string{
		"", "a", " ", "ä€😀\x7f\u2028<>&", strings.Repeat("z", 32764), strings.Repeat("z", 32765), strings.Repeat("z", 32766), strings.Repeat("z", 100_000),
		blankAt(32766), blankAt(32765), blankAt(32767), strings.Repeat(" ", 80_000), strings.Repeat("word ", 20_000), strings.Repeat("é", 40_000), strings.Repeat("\n", 40_000),
	}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, address string) {
		_, addr := start(t, address, Limits{})
		c := connect(t, addr)
		for i, s := range awkward() {
			var got string
			if err := c.Invoke(t.Context(), "echo", s, &got); err != nil || got != s {
				t.Fatalf("%d: %d characters came back as %d: %v", i, len(s), len(got), err)
			}
		}
		var lines [][]byte
		for range 5000 {
			lines = append(lines, []byte("some line"), []byte(""))
		}
		n := 0
		if err := c.Stream(t.Context(), "echo-stream", lines, func(i int, b []byte) error {
			if n++; string(b) != string(lines[i]) {
				t.Fatalf("line %d: %q", i, b)
			}
			return nil
		}); err != nil || n != len(lines) {
			t.Fatal(n, err)
		}
		err := c.Invoke(t.Context(), "refuse", 1, nil)
		var no Refusal
		if !errors.As(err, &no) || no != "no, because" {
			t.Fatal(err)
		}
	})
}

// What is sent must suit BitBake's readers: no line over 64 KiB, ASCII, no line
// but the last of a message that ends in a blank, no empty piece.
func TestWhatIsSentSuitsOldReaders(t *testing.T) {
	t.Parallel()
	for i, s := range awkward() {
		a, b := net.Pipe()
		go func() {
			c := &Conn{w: newStream(a, Limits{}.filled(), nil)}
			c.WriteMessage(s)
			a.Close()
		}()
		sent, _ := io.ReadAll(b)
		for _, l := range strings.SplitAfter(string(sent), "\n") {
			if len(l) > 65536 || strings.HasSuffix(l, " \n") {
				t.Errorf("%d: a line of %d bytes, end %q", i, len(l), l[max(0, len(l)-5):])
			}
			for _, c := range []byte(l) {
				if c >= 0x7f {
					t.Fatalf("%d: byte %#x", i, c)
				}
			}
		}
	}
}

// raw sends bytes and gives all that comes back until the server closes.
func raw(t *testing.T, addr, send string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go io.WriteString(c, send)
	b, _ := io.ReadAll(c)
	return string(b)
}

func TestBadInputEndsTheConnectionAlone(t *testing.T) {
	t.Parallel()
	_, addr := start(t, "127.0.0.1:0", Limits{Line: 1 << 16, Message: 1 << 20, Handshake: 200 * time.Millisecond})
	good := connect(t, addr)
	const hello = "ECHO 1.1\nneeds-headers: false\n\n"
	for name, tt := range map[string]struct{ send, want string }{
		"nothing":               {"", ""}, // the handshake has a limit
		"half a handshake":      {"ECHO 1", ""},
		"other protocol":        {"OTHER 1.1\n\n", ""},
		"newer version":         {"ECHO 1.2\n\n", ""},
		"no version":            {"ECHO\n\n", ""},
		"version of letters":    {"ECHO a.b\n\n", ""},
		"bad header":            {"ECHO 1.1\nno colon\n\n", ""},
		"endless headers":       {"ECHO 1.1\n" + strings.Repeat("a: b\n", 1000), ""},
		"binary":                {"\x00\xff\xfe\n\n", ""},
		"null":                  {hello + "null\n", ""},
		"empty object":          {hello + "{}\n", ""},
		"list":                  {hello + "[1]\n", ""},
		"text":                  {hello + "\"echo\"\n", ""},
		"no JSON":               {hello + "{echo}\n", ""},
		"unknown command":       {hello + "{\"what\": 1}\n", ""},
		"long line":             {hello + strings.Repeat("x", 1<<20), ""},
		"deep JSON":             {hello + "{\"echo\": " + strings.Repeat("[", 30_000) + "\n", ""},
		"long message":          {hello + "{\"chunk-stream\": null}\n" + strings.Repeat(strings.Repeat("x", 30_000)+"\n", 100), ""},
		"chunks in chunks":      {hello + "{\"chunk-stream\": null}\n{\"chunk-stream\": null}\n\n", ""},
		"headers wanted":        {"ECHO 1.1\nNeeds-Headers: true\n\nnull\n", "\n"},
		"old client, pipelined": {"ECHO 1.0\n\n{\"echo\": 1}\n{\"echo\": \"two\"}\nnull\n", "1\n\"two\"\n"},
		"chunks":                {hello + "{\"chunk-stream\": null}\n{\"echo\": \"a \n b\"}\n\nnull\n", "\"a  b\"\n"},
		"refusal closes":        {hello + "{\"refuse\": 1}\n{\"echo\": 1}\n", "{\"invoke-error\":{\"message\":\"no, because\"}}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := raw(t, addr, tt.send); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
	var got int
	if err := good.Invoke(t.Context(), "echo", 7, &got); err != nil || got != 7 {
		t.Error("another client noticed:", err)
	}
}

func TestLimitOfConnections(t *testing.T) {
	t.Parallel()
	s, addr := start(t, "127.0.0.1:0", Limits{Conns: 3})
	var held []*Client
	for range 3 {
		c := connect(t, addr)
		if err := c.Invoke(t.Context(), "echo", 1, nil); err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	if got := raw(t, addr, "ECHO 1.1\n\n{\"echo\": 1}\n"); got != "" {
		t.Errorf("a fourth was answered: %q", got)
	}
	if n := s.Counts(); n.Open != 3 || n.Refused != 1 {
		t.Error(n)
	}
	held[0].Close()
	for s.Counts().Open == 3 {
		time.Sleep(time.Millisecond)
	}
	if err := connect(t, addr).Invoke(t.Context(), "echo", 1, nil); err != nil {
		t.Error(err)
	}
}

func TestMemoryIsShared(t *testing.T) {
	t.Parallel()
	s, addr := start(t, "127.0.0.1:0", Limits{Memory: 1 << 20})
	if err := connect(t, addr).Invoke(t.Context(), "echo", strings.Repeat("x", 3<<20), nil); err == nil {
		t.Error("a message over the memory of all was taken")
	}
	if err := connect(t, addr).Invoke(t.Context(), "echo", strings.Repeat("x", 300<<10), nil); err != nil {
		t.Error(err)
	}
	for s.Counts().Open > 1 {
		time.Sleep(time.Millisecond)
	}
	if left := s.memory.left.Load(); left < 1<<20-largeBuf*16 {
		t.Errorf("%d of %d given back", left, 1<<20)
	}
}

func TestUnixSockets(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	if _, err := Listen(t.Context(), "unix://"+path, false); !errs.Is(err, errs.Conflict) {
		t.Error("a socket that is listened on:", err)
	}
	stale.Close()
	l, err := Listen(t.Context(), "unix://"+path, false)
	if err != nil {
		t.Fatal("a stale socket:", err)
	}
	l.Close()
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket stays behind")
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(t.Context(), "unix://"+path, false); !errs.Is(err, errs.Conflict) {
		t.Error("a file that is no socket:", err)
	}
}

// A path longer than a socket's address (108 bytes) serves and is reached all the same.
func TestLongUnixPaths(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 60))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s.sock")
	l, err := Listen(t.Context(), "unix://"+path, false)
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			said <- err.Error()
			return
		}
		defer c.Close()
		b := make([]byte, 8)
		n, _ := c.Read(b)
		said <- string(b[:n])
	}()
	c, err := Dial(t.Context(), "unix://"+path, "TEST", "1.0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := <-said; got != "TEST 1.0" {
		t.Error(got)
	}
	l.Close()
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket stays behind")
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"localhost:1", "[::1]:8686", ":8686", "unix://x", "unix:///a/b", "ws://h:1", "wss://h/path"} {
		if _, err := ParseAddress(s); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"", "localhost", "localhost:x", "h:70000", "::1:5", "unix://", "ws://", "http://h"} {
		if _, err := ParseAddress(s); !errs.Is(err, errs.Invalid) || len(errs.Hints(err)) == 0 {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestServerEndsAtOnceWithClientsConnected(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, address string) {
		s := NewServer(Protocol{Name: "ECHO", Accepts: func(int, int) bool { return true }, New: func(c *Conn) Session { return echo{c} }})
		l, err := Listen(t.Context(), address, false)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Serve(ctx, l) }()
		for range 5 {
			if err := connect(t, l.Address()).Invoke(t.Context(), "echo", 1, nil); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// FuzzServer: whatever a client sends, the server ends or answers; it does not fail.
func FuzzServer(f *testing.F) {
	for _, s := range []string{"ECHO 1.1\n\n{\"echo\": [1]}\n", "ECHO 1.1\nneeds-headers: true\n\n{\"chunk-stream\": null}\n{\"echo\"\n: 5}\n\n", "ECHO 1.1\n\n{\"echo-stream\": null}\na b\n\nEND\n{\"refuse\": 1}\n", "\xff\n\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s := NewServer(Protocol{Name: "ECHO", Accepts: func(int, int) bool { return true }, New: func(c *Conn) Session { return echo{c} }, Limits: Limits{Line: 1000, Message: 5000, Memory: 100_000}})
		x, y := net.Pipe()
		go io.Copy(io.Discard, y)
		go func() { y.Write(b); y.Close() }()
		s.serve(t.Context(), newStream(x, s.Limits, s.memory))
		if left := s.memory.left.Load(); left != 100_000 {
			t.Errorf("%d bytes of memory were not given back", 100_000-left)
		}
	})
}

// FuzzMessage: what is written is read, whatever it holds.
func FuzzMessage(f *testing.F) {
	f.Add("a b", 1, 40_000)
	f.Add(" ", 33_000, 0)
	f.Fuzz(func(t *testing.T, s string, pad, times int) {
		s = strings.ToValidUTF8(strings.Repeat("x", min(max(pad, 0), 70_000))+strings.Repeat(s, min(max(times, 1), 1+100_000/(len(s)+1))), "?")
		a, b := net.Pipe()
		lim := Limits{}.filled()
		go (&Conn{w: newStream(a, lim, nil), limits: lim}).WriteMessage(s)
		msg, done, err := (&Conn{w: newStream(b, lim, nil), limits: lim}).ReadMessage()
		if err != nil {
			t.Fatal(err)
		}
		defer done()
		var got string
		if err := json.Unmarshal(msg, &got); err != nil || got != s {
			t.Fatalf("%d characters came back as %d: %v", len(s), len(got), err)
		}
		a.Close()
		b.Close()
	})
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	WriteMetrics(&b, []Metric{{"slipway_x_total", "things, since the start", "counter", 12}, {"slipway_y_seconds", "time", "gauge", 0.5}})
	want := "# HELP slipway_x_total things, since the start\n# TYPE slipway_x_total counter\nslipway_x_total 12\n" +
		"# HELP slipway_y_seconds time\n# TYPE slipway_y_seconds gauge\nslipway_y_seconds 0.5\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// TestSilentClientsHoldNoBuffers: what a client needs while it sends much is given
// back before it is waited for.
func TestSilentClientsHoldNoBuffers(t *testing.T) {
	s, addr := start(t, "127.0.0.1:0", Limits{})
	lines := make([][]byte, 600)
	for i := range lines {
		lines[i] = bytes.Repeat([]byte("x"), 100)
	}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC() // what a pool holds goes at the second
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const clients = 200
	before := heap()
	for range clients {
		c := connect(t, addr)
		n := 0
		if err := c.Stream(t.Context(), "echo-stream", lines, func(int, []byte) error { n++; return nil }); err != nil || n != len(lines) {
			t.Fatal(n, err)
		}
	}
	if n := s.Counts().Open; n != clients {
		t.Fatalf("%d are connected", n)
	}
	// Both ends are in this process.
	if grown := (int64(heap()) - int64(before)) / clients; grown > 12<<10 {
		t.Errorf("each silent client holds %d bytes", grown)
	}
}

func TestABombIsNotDecoded(t *testing.T) {
	t.Parallel()
	_, addr := start(t, "127.0.0.1:0", Limits{})
	for _, tt := range []struct {
		part string
		n    int
		ok   bool
	}{{`1,`, 2_000_000, false}, {`{"a":[`, 500_000, false}, {`"long, [{ text \",\\",`, 9_000, true}} {
		c := connect(t, addr)
		text := `[` + strings.Repeat(tt.part, tt.n)
		if tt.ok {
			text += `0]`
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var err error
		if tt.ok {
			err = c.Invoke(t.Context(), "echo", json.RawMessage(text), nil)
		} else {
			err = c.Invoke(t.Context(), "x", json.RawMessage(text), nil)
		}
		runtime.ReadMemStats(&after)
		if (err == nil) != tt.ok {
			t.Errorf("%.10s: %v", tt.part, err)
		}
	}
}

// TestItsOwnErrorsAreLogged: an error that is not the client's is seen at the
// usual level, with what to do, once a second.
func TestItsOwnErrorsAreLogged(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	log := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s := NewServer(Protocol{Log: log})
	full := errs.E(errs.Unavailable, "write the database x.db: the disk is full", errs.Hint("free space"))
	for _, err := range []error{io.ErrUnexpectedEOF, errTooLong, errs.E(errs.Invalid, "bad"), errs.E(errs.Unavailable, "write", &net.OpError{Op: "write", Err: os.ErrDeadlineExceeded})} {
		if ours(err) {
			t.Errorf("%v is not the server's", err)
		}
	}
	if !ours(full) {
		t.Error("a full disk is the server's")
	}
	for range 100 {
		s.fault("1.2.3.4:5", full)
	}
	if n := strings.Count(b.String(), "\n"); n != 1 || !strings.Contains(b.String(), "the disk is full") || !strings.Contains(b.String(), "free space") {
		t.Errorf("%d lines:\n%s", n, b.String())
	}
	if n := s.Counts().Failed; n != 100 {
		t.Error(n)
	}
}
