package web

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"slipway/internal/errs"
)

// publication writes a small tree and gives its folder.
func publication(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"distribution.json":                            `{"schema":1,"distribution":"halyard","title":"Halyard <Linux>"}`,
		"keys/metadata-1.asc":                          "KEY",
		"keys/package-1.asc":                           "KEY",
		"1/current.json":                               `{"schema":1,"serial":3,"release":"1.3"}`,
		"1/at.json":                                    `{}`,
		"1/current/noarch/repodata/repomd.xml":         "<repomd/>",
		"1/current/noarch/repodata/repomd.xml.asc":     "SIG",
		"1/current/noarch/repodata/ab-primary.xml.zst": "zstd",
		"1/current/x86_64/repodata/repomd.xml":         "<repomd/>",
		"1/history/noarch/repodata/repomd.xml":         "<repomd/>",
		"1/snapshots/3/noarch/repodata/repomd.xml":     "<repomd/>",
		"1/pool/rpm/noarch/1/a-1-1.noarch.rpm":         "0123456789",
		"1/pool/rpm/noarch/1/.tmp-17":                  "half",
		"1/releases/1.3/release.json":                  "{}",
		"1/releases/1.3/release.json.sig":              "SIG",
		".lock":                                        "me",
		".well-known/security.txt":                     "Contact: x",
	} {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func request(h http.Handler, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://feeds.example.org/", nil)
	r.URL.Path = target
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const (
	forever = "public, max-age=31536000, immutable"
	check   = "no-cache"
)

func TestHeaders(t *testing.T) {
	t.Parallel()
	h := Handler(publication(t))
	for _, tt := range []struct{ path, contentType, cache string }{
		{"/distribution.json", "application/json", check},
		{"/1/current.json", "application/json", check},
		{"/1/at.json", "application/json", check},
		{"/1/current/noarch/repodata/repomd.xml", "application/xml", check},
		{"/1/current/noarch/repodata/repomd.xml.asc", "application/pgp-signature", check},
		{"/1/history/noarch/repodata/repomd.xml", "application/xml", check},
		{"/1/snapshots/3/noarch/repodata/repomd.xml", "application/xml", forever},
		{"/1/current/noarch/repodata/ab-primary.xml.zst", "application/zstd", forever},
		{"/1/pool/rpm/noarch/1/a-1-1.noarch.rpm", "application/x-rpm", forever},
		{"/1/releases/1.3/release.json", "application/json", forever},
		{"/1/releases/1.3/release.json.sig", "application/pgp-signature", forever},
		{"/keys/package-1.asc", "application/pgp-keys", check},
		{"/.well-known/security.txt", "text/plain; charset=utf-8", check},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			w := request(h, method, tt.path)
			got := w.Result().Header
			if w.Code != 200 || got.Get("Content-Type") != tt.contentType || got.Get("Cache-Control") != tt.cache || got.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s %s: %d %v, want %s and %s", method, tt.path, w.Code, got, tt.contentType, tt.cache)
			}
			if method == "HEAD" && w.Body.Len() != 0 {
				t.Errorf("HEAD %s has a body", tt.path)
			}
			if got.Get("Content-Encoding") != "" {
				t.Errorf("%s: Content-Encoding: a client would unpack what it must checksum", tt.path)
			}
		}
	}
}

func TestWhatIsNotServed(t *testing.T) {
	t.Parallel()
	dir := publication(t)
	outside := filepath.Join(t.TempDir(), "secret")
	write(t, outside, "secret")
	for name, target := range map[string]string{"out": outside, "up": "../../../../../../../../" + outside, "1/outdir": filepath.Dir(outside)} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	h := Handler(dir)
	for _, p := range []string{
		"/1", "/1/", "/1/pool/", "/1/current/noarch/repodata/", "/nothing", "/.lock", "/1/pool/rpm/noarch/1/.tmp-17",
		"/1/.well-known/x", "/out", "/up", "/1/outdir/secret", "/fifo", "/../secret", "/1/../distribution.json", "//distribution.json",
		"/./distribution.json", "/distribution.json/", "/distribution.json/x", "/1\x00", "",
	} {
		w := request(h, "GET", p)
		if w.Code != 404 || strings.Contains(w.Body.String(), "secret") || w.Result().Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%q: %d %q", p, w.Code, w.Body)
		}
		if strings.Contains(w.Body.String(), dir) {
			t.Errorf("%q: the answer names a folder of this machine: %q", p, w.Body)
		}
	}
	for _, m := range []string{"POST", "PUT", "DELETE", "OPTIONS"} {
		if w := request(h, m, "/distribution.json"); w.Code != 405 || w.Result().Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d", m, w.Code)
		}
	}
}

func TestLinkInsideIsServed(t *testing.T) {
	t.Parallel()
	dir := publication(t)
	if err := os.Symlink("a-1-1.noarch.rpm", filepath.Join(dir, "1/pool/rpm/noarch/1/b.rpm")); err != nil {
		t.Fatal(err)
	}
	if w := request(Handler(dir), "GET", "/1/pool/rpm/noarch/1/b.rpm"); w.Code != 200 || w.Body.String() != "0123456789" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestRange(t *testing.T) {
	t.Parallel()
	w := request(Handler(publication(t)), "GET", "/1/pool/rpm/noarch/1/a-1-1.noarch.rpm", "Range", "bytes=3-5")
	if w.Code != http.StatusPartialContent || w.Body.String() != "345" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

// TestPointerSwitchedWithinOneSecond: the file's time is the same, the answer
// must be the new one.
func TestPointerSwitchedWithinOneSecond(t *testing.T) {
	t.Parallel()
	dir := publication(t)
	h := Handler(dir)
	file := filepath.Join(dir, "1/current.json")
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	tag := request(h, "GET", "/1/current.json").Result().Header.Get("ETag")
	if w := request(h, "GET", "/1/current.json", "If-None-Match", tag); w.Code != http.StatusNotModified {
		t.Errorf("unchanged: %d", w.Code)
	}
	write(t, file, `{"schema":1,"serial":4,"release":"1.4"}`)
	if err := os.Chtimes(file, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	w := request(h, "GET", "/1/current.json", "If-None-Match", tag, "If-Modified-Since", info.ModTime().UTC().Format(http.TimeFormat))
	if w.Code != 200 || !strings.Contains(w.Body.String(), "1.4") {
		t.Errorf("switched: %d %s", w.Code, w.Body)
	}
}

func TestIndex(t *testing.T) {
	t.Parallel()
	h := Handler(publication(t))
	text := request(h, "GET", "/").Body.String()
	for _, want := range []string{
		"Halyard <Linux>", "Series 1: release 1.3, snapshot 3; feeds: noarch x86_64",
		"baseurl=http://feeds.example.org/1/current/noarch", "gpgcheck=1", "repo_gpgcheck=1",
		"gpgkey=http://feeds.example.org/keys/metadata-1.asc\n       http://feeds.example.org/keys/package-1.asc",
		"dnf -y", "repoquery --available",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("index lacks %q:\n%s", want, text)
		}
	}
	page := request(h, "GET", "/", "Accept", "text/html,*/*")
	if body := page.Body.String(); !strings.Contains(body, "Halyard &lt;Linux&gt;") || !strings.HasPrefix(body, "<!doctype html>") {
		t.Errorf("page:\n%s", body)
	}
	if page.Result().Header.Get("Content-Security-Policy") == "" {
		t.Error("no content security policy")
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Host = "x;rm -rf /"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if strings.Contains(w.Body.String(), "rm -rf") {
		t.Error("the client's Host header stands in commands to paste")
	}
}

func TestIndexOfNothing(t *testing.T) {
	t.Parallel()
	if w := request(Handler(t.TempDir()), "GET", "/"); w.Code != 200 || !strings.Contains(w.Body.String(), "Nothing is published yet") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "distribution.json"), "no json")
	write(t, filepath.Join(dir, "1/current.json"), "{")
	if w := request(Handler(dir), "GET", "/"); w.Code != 200 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := request(Handler(filepath.Join(dir, "none")), "GET", "/"); w.Code != 404 || !strings.Contains(w.Body.String(), "slipway publish") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	addr := make(chan string, 1)
	end := make(chan error, 1)
	go func() { end <- Serve(ctx, "127.0.0.1:0", Handler(publication(t)), func(a string) { addr <- a }) }()
	at := <-addr
	resp, err := http.Get("http://" + at + "/1/current.json")
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != 200 || !strings.Contains(string(b), "1.3") {
		t.Errorf("%v %d %s", err, resp.StatusCode, b)
	}

	err = Serve(t.Context(), at, http.NotFoundHandler(), func(string) { t.Error("ready on an address in use") })
	if !errs.Is(err, errs.Unavailable) || len(errs.Hints(err)) == 0 {
		t.Errorf("address in use: %v", err)
	}
	cancel()
	if err := <-end; err != nil {
		t.Errorf("a server that was told to end: %v", err)
	}
	if c, err := net.Dial("tcp", at); err == nil {
		c.Close()
		t.Error("still listening")
	}
}

func TestServeBadAddress(t *testing.T) {
	t.Parallel()
	for _, a := range []string{"nonsense", "127.0.0.1:99999999", "host:port:more"} {
		if err := Serve(t.Context(), a, http.NotFoundHandler(), nil); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", a, err)
		}
	}
}
