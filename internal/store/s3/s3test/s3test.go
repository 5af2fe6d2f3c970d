// Package s3test runs a real S3 server for tests: tools/s3server, which is
// versitygw on a folder. It is built once into build/, by the go command, with
// the Go modules that its own go.mod pins; then it starts in milliseconds.
package s3test

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Server is a running server with one empty bucket.
type Server struct {
	Endpoint string // http://127.0.0.1:port
	Root     string // a folder; each folder in it is a bucket
	Bucket   string
}

// Region is the server's.
const Region = "test-1"

// Getenv is an environment with the server's account.
func Getenv(name string) string {
	return map[string]string{"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test-secret"}[name]
}

var program = sync.OnceValues(func() (string, error) {
	_, file, _, _ := runtime.Caller(0)
	top := filepath.Join(filepath.Dir(file), "../../../..")
	out := filepath.Join(top, "build", "s3server")
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return "", err
	}
	// One build at a time: packages are tested in processes of their own.
	lock, err := os.Create(out + ".lock")
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, ".")
	cmd.Dir = filepath.Join(top, "tools", "s3server")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build tools/s3server: %w\n%s", err, b)
	}
	return out, nil
})

// Start runs a server until the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	exe, err := program()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Root: t.TempDir(), Bucket: "feeds"}
	s.MakeBucket(t, s.Bucket)
	cmd := exec.Command(exe, s.Root)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // it ends with its standard input
		ended := make(chan struct{})
		go func() {
			cmd.Wait()
			close(ended)
		}()
		select {
		case <-ended:
		case <-time.After(30 * time.Second): // seen once, under load: a test must not wait for it for ever
			t.Log("the S3 server did not end with its standard input: killed")
			cmd.Process.Kill()
			<-ended
		}
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if addr, ok := strings.CutPrefix(lines.Text(), "listening on "); ok {
			s.Endpoint = "http://" + addr
			return s
		}
	}
	t.Fatal("the S3 server ended before it listened")
	return nil
}

// MakeBucket makes a bucket.
func (s *Server) MakeBucket(t testing.TB, name string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(s.Root, name), 0o755); err != nil {
		t.Fatal(err)
	}
}

// Fault is what a [Proxy] does to a request.
type Fault int

// The faults. Lost is the nasty one: the server has done the work, and the client
// never hears of it.
const (
	None   Fault = iota
	Failed       // 500 Internal Server Error, never reaches the server
	Cut          // the connection is cut before the server sees the request
	Lost         // the connection is cut after the server has answered
	Short        // half of the answer's body, then the connection is cut
)

// Proxy stands between a client and a server and counts and spoils requests. The
// client must sign for the proxy's address: the Host header is kept.
type Proxy struct {
	Endpoint string
	requests atomic.Int64
}

// NewProxy starts a proxy in front of s until the test ends. fault decides about
// each request, counted from 1.
func NewProxy(t testing.TB, s *Server, fault func(n int, r *http.Request) Fault) *Proxy {
	t.Helper()
	to, err := url.Parse(s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host
	}}
	forward.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch fault(int(p.requests.Add(1)), r) {
		case Failed:
			w.WriteHeader(http.StatusInternalServerError)
		case Cut:
			panic(http.ErrAbortHandler)
		case Lost:
			forward.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		case Short:
			rec := httptest.NewRecorder()
			forward.ServeHTTP(rec, r)
			for k, v := range rec.Header() {
				w.Header()[k] = v
			}
			w.Header().Set("Content-Length", fmt.Sprint(rec.Body.Len()))
			w.WriteHeader(rec.Code)
			w.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
			panic(http.ErrAbortHandler)
		default:
			forward.ServeHTTP(w, r)
		}
	}))
	h.Config.ErrorLog = nil
	t.Cleanup(h.Close)
	p.Endpoint = h.URL
	return p
}

// Requests is how many requests came.
func (p *Proxy) Requests() int { return int(p.requests.Load()) }
