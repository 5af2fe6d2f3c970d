package s3_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/internal/errs"
	"slipway/internal/store"
	"slipway/internal/store/s3"
	"slipway/internal/store/s3/s3test"
)

const big = "pool/big-2.rpm" // goes up in parts, and is more than one reading

// files of a snapshot, in the order in which they are created.
func files(serial string) []string {
	l := []string{"pool/a-" + serial + ".rpm", "snapshots/" + serial + "/empty", "snapshots/" + serial + "/repomd.xml"}
	if serial == "2" {
		l = slices.Insert(l, 1, big)
	}
	return l
}

func content(name string) []byte {
	switch {
	case strings.HasSuffix(name, "empty"):
		return nil
	case name == big:
		return bytes.Repeat([]byte(name+"\n"), (5<<20+1<<17)/(len(name)+1))
	}
	return []byte("this is " + name)
}

// publish creates a snapshot's files and switches the pointer to it, last.
func publish(ctx context.Context, at s3.Location, o s3.Options, serial string) error {
	b, err := s3.Open(ctx, at, o)
	if err != nil {
		return err
	}
	s3.SmallParts(b)
	tr := b.Tree()
	for _, name := range files(serial) {
		// A stream, as a publisher's packages are.
		if err := tr.Create(ctx, name, io.MultiReader(bytes.NewReader(content(name)))); err != nil {
			return err
		}
	}
	return tr.Swap(ctx, "current", []byte(serial))
}

// sound asserts that nothing half-done can be seen, and gives what the pointer says.
func sound(t *testing.T, tr store.Tree) string {
	t.Helper()
	current := string(read(t, tr, "current"))
	var names []string
	for name, err := range tr.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
		if size, err := tr.Stat(t.Context(), name); name != "current" && (err != nil || size != int64(len(content(name)))) {
			t.Errorf("%s has %d bytes, %v", name, size, err)
		}
	}
	for _, name := range files(current) {
		if !slices.Contains(names, name) {
			t.Errorf("the pointer says %s, and %s is not there", current, name)
		}
	}
	return current
}

func read(t *testing.T, tr store.Tree, name string) []byte {
	t.Helper()
	f, err := tr.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil || int64(len(b)) != f.Size() {
		t.Fatalf("%s: %d bytes of %d, %v", name, len(b), f.Size(), err)
	}
	return b
}

// TestFailingStore spoils every request of a publish in turn: once, which the
// retries must hide, and for good, which must leave the old state or the new one.
func TestFailingStore(t *testing.T) {
	t.Parallel()
	s := s3test.Start(t)
	location := func(n int, what string) s3.Location {
		return s3.Location{Bucket: s.Bucket, Prefix: fmt.Sprintf("%s-%d", what, n)}
	}
	count := s3test.NewProxy(t, s, func(int, *http.Request) s3test.Fault { return s3test.None })
	if err := publish(t.Context(), location(0, "all"), options(s.Endpoint), "1"); err != nil {
		t.Fatal(err)
	}
	if err := publish(t.Context(), location(0, "all"), options(count.Endpoint), "2"); err != nil {
		t.Fatal(err)
	}
	perPublish := count.Requests()
	t.Logf("a publish is %d requests", perPublish)
	step := 2 // the short form: of each fault, every other request
	if os.Getenv("SLIPWAY_TEST") == "full" {
		step = 1
	}
	if perPublish < 10 {
		t.Fatal("too few to be true")
	}
	for fault, name := range map[s3test.Fault]string{s3test.Failed: "failed", s3test.Cut: "cut", s3test.Lost: "lost"} {
		for _, sticky := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s sticky %t", name, sticky), func(t *testing.T) {
				t.Parallel()
				for n := 1 + int(fault)%step; n <= perPublish; n += step {
					at := location(n, fmt.Sprintf("%s-%t", name, sticky))
					if err := publish(t.Context(), at, options(s.Endpoint), "1"); err != nil {
						t.Fatal(err)
					}
					p := s3test.NewProxy(t, s, func(i int, _ *http.Request) s3test.Fault {
						if i == n || sticky && i > n {
							return fault
						}
						return s3test.None
					})
					err := publish(t.Context(), at, options(p.Endpoint), "2")
					b, rerr := s3.Read(at, options(s.Endpoint))
					if rerr != nil {
						t.Fatal(rerr)
					}
					current := sound(t, b.Tree())
					switch {
					case !sticky && (err != nil || current != "2"):
						t.Errorf("request %d: one fault was not survived: %v, the pointer says %s", n, err, current)
					case sticky && (!errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), at.String()) || len(errs.Hints(err)) == 0):
						t.Errorf("request %d: error %v", n, err)
					case sticky && n < perPublish && current != "1":
						t.Errorf("request %d: the pointer says %s", n, current)
					}
					if err := publish(t.Context(), at, options(s.Endpoint), "2"); err != nil {
						t.Errorf("request %d: the same again: %v", n, err)
					}
					if current := sound(t, b.Tree()); current != "2" {
						t.Errorf("request %d: after the same again the pointer says %s", n, current)
					}
				}
			})
		}
	}
}

// TestBrokenReads: an answer that breaks off is asked for again, from where it
// broke; a file that is replaced meanwhile is not mixed.
func TestBrokenReads(t *testing.T) {
	t.Parallel()
	s := s3test.Start(t)
	at := s3.Location{Bucket: s.Bucket}
	if err := publish(t.Context(), at, options(s.Endpoint), "2"); err != nil {
		t.Fatal(err)
	}
	broken := map[string]int{}
	p := s3test.NewProxy(t, s, func(_ int, r *http.Request) s3test.Fault {
		// Every range once.
		if k := r.Header.Get("Range"); k != "" && broken[k] == 0 && r.URL.Path != "/feeds/snapshots/2/empty" {
			broken[k]++
			return s3test.Short
		}
		return s3test.None
	})
	b, err := s3.Read(at, options(p.Endpoint))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files("2") {
		if !bytes.Equal(read(t, b.Tree(), name), content(name)) {
			t.Errorf("%s: other bytes", name)
		}
	}
	f, err := b.Tree().Open(t.Context(), big)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, off := range []int64{0, 1<<20 - 3, 1 << 20, f.Size() - 5} {
		p := make([]byte, 9)
		n, err := f.ReadAt(p, off)
		if want := content(big)[off:min(off+9, f.Size())]; !bytes.Equal(p[:n], want) || (err != nil) != (n < 9) {
			t.Errorf("ReadAt %d = %q, %v, want %q", off, p[:n], err, want)
		}
	}
	if len(broken) < 4 {
		t.Errorf("only these answers broke off: %v", broken)
	}
	if err := b.Tree().Swap(t.Context(), big, bytes.Repeat([]byte("x"), 3<<20)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(make([]byte, 9), 2<<20); !errs.Is(err, errs.Conflict) {
		t.Errorf("a replaced file: %v", err)
	}
}

// TestStoreSays: what goes wrong, and what to do about it.
func TestStoreSays(t *testing.T) {
	t.Parallel()
	s := s3test.Start(t)
	at := s3.Location{Bucket: s.Bucket, Prefix: "x"}
	answer := func(status int, code string) string {
		h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			if r.Method != http.MethodHead && code != "" {
				fmt.Fprintf(w, "<Error><Code>%s</Code><Message>said the store</Message></Error>", code)
			}
		}))
		t.Cleanup(h.Close)
		return h.URL
	}
	wrong := func(name string) string {
		return map[string]string{"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "wrong"}[name]
	}
	for _, tt := range []struct {
		name string
		at   s3.Location
		o    s3.Options
		kind errs.Kind
		says string
	}{
		{"wrong secret", at, s3.Options{Endpoint: s.Endpoint, Region: s3test.Region, Getenv: wrong}, errs.Denied, "does not take the credentials"},
		{"no bucket", s3.Location{Bucket: "none"}, s3.Options{Endpoint: s.Endpoint, Region: s3test.Region}, errs.NotFound, "aws s3 mb s3://none"},
		{"wrong region", at, s3.Options{Endpoint: s.Endpoint, Region: "elsewhere"}, errs.Invalid, "set the bucket's region"},
		{"no credentials", at, s3.Options{Endpoint: s.Endpoint, Getenv: func(string) string { return "" }}, errs.Denied, "set AWS_ACCESS_KEY_ID"},
		{"no address", at, s3.Options{Endpoint: "ftp://x"}, errs.Invalid, "no address of an object store"},
		{"clock", at, s3.Options{Endpoint: answer(403, "RequestTimeTooSkewed")}, errs.Unavailable, "timedatectl"},
		{"old token", at, s3.Options{Endpoint: answer(400, "ExpiredToken")}, errs.Denied, "export-credentials"},
		{"not allowed", at, s3.Options{Endpoint: answer(403, "AccessDenied")}, errs.Denied, "s3:PutObject on s3://feeds/*"},
		{"ignores conditions", at, s3.Options{Endpoint: answer(200, "")}, errs.Refused, "published files could be replaced"},
		{"knows no conditions", at, s3.Options{Endpoint: answer(501, "NotImplemented")}, errs.Refused, "published files could be replaced"},
		{"slow", at, s3.Options{Endpoint: answer(503, "SlowDown")}, errs.Unavailable, "failed 2 times"},
		{"full", at, s3.Options{Endpoint: answer(400, "QuotaExceeded")}, errs.Unavailable, "free space"},
		{"nobody there", at, s3.Options{Endpoint: "http://127.0.0.1:1"}, errs.Unavailable, "does not answer, after 2 tries"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.o.Getenv == nil {
				tt.o.Getenv = s3test.Getenv
			}
			tt.o.Attempts, tt.o.Pause = 2, time.Millisecond
			_, err := s3.Open(t.Context(), tt.at, tt.o)
			if err == nil {
				t.Fatal("no error")
			}
			said := err.Error() + "\n" + strings.Join(errs.Hints(err), "\n")
			if !errs.Is(err, tt.kind) || !strings.Contains(said, tt.says) || strings.Contains(said, "operation error") || strings.Contains(said, "test-secret") {
				t.Errorf("%s: %s", errs.KindOf(err), said)
			}
		})
	}
}

func TestParseLocation(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]s3.Location{
		"s3://feeds": {Bucket: "feeds"}, "s3://feeds/": {Bucket: "feeds"}, "s3://feeds/a/b/": {Bucket: "feeds", Prefix: "a/b"},
	} {
		if got, err := s3.ParseLocation(in); err != nil || got != want {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "feeds", "s3://", "s3:///x", "s3://key:secret@feeds", "s3://b/../c", "s3://b//c", "https://b/c"} {
		if _, err := s3.ParseLocation(in); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", in, err)
		}
	}
}
