package debian

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"testing"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// dpkg itself is on every Debian host, so the tests take its files.
func TestPackIsDeterministic(t *testing.T) {
	t.Parallel()
	var a, b bytes.Buffer
	version, err := Pack(t.Context(), "dpkg", []string{"/usr/bin/dpkg-query", "/usr/bin/dpkg-s*"}, &a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Pack(t.Context(), "dpkg", []string{"/usr/bin/dpkg-s*", "/usr/bin/dpkg-query"}, &b); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("two tars of the same files differ")
	}
	if !strings.Contains(version, ".") {
		t.Errorf("version %q", version)
	}
	tr := tar.NewReader(&a)
	last := ""
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Name <= last || h.ModTime.Unix() != 0 || h.Uid != 0 || h.Uname != "" || h.Mode != 0o755 {
			t.Errorf("entry %+v after %s", h, last)
		}
		last = h.Name
	}
	if last != "usr/bin/dpkg-statoverride" {
		t.Errorf("the last entry is %q", last)
	}
}

func TestPackRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pkg  string
		path []string
		kind errs.Kind
		hint string
	}{
		{"no-such-package", nil, errs.Unavailable, "apt-get install no-such-package"},
		{"--help", nil, errs.Invalid, ""},
		{"dpkg", []string{"/usr/bin/nothing*"}, errs.NotFound, "dpkg-query --listfiles dpkg"},
		{"dpkg", []string{"/usr/[bin"}, errs.Invalid, ""},
	} {
		_, err := Pack(t.Context(), tt.pkg, tt.path, io.Discard)
		if !errs.Is(err, tt.kind) || tt.hint != strings.Join(errs.Hints(err), "") {
			t.Errorf("%s %v: %v, hints %q", tt.pkg, tt.path, err, errs.Hints(err))
		}
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		glob, file string
		want       bool
	}{
		{"/usr/bin/*", "/usr/bin/a", true},
		{"/usr/*", "/usr/bin/a", false},
		{"/usr/**", "/usr/bin/a", true},
		{"/usr/**", "/usr", false},
		{"/usr/**", "/usrlocal/a", false},
	} {
		if got, err := match(tt.glob, tt.file); err != nil || got != tt.want {
			t.Errorf("match(%s, %s) = %v, %v", tt.glob, tt.file, got, err)
		}
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	put := func(r io.Reader) (distro.Digest, int64, error) {
		h := sha256.New()
		n, err := io.Copy(h, r)
		return distro.DigestFromSum(h.Sum(nil)), n, err
	}
	wanted := []Wanted{{Spec: "tool", Name: "dpkg.tar", Debian: "dpkg", Paths: []string{"/usr/bin/dpkg"}}}
	pins, err := Resolve(t.Context(), wanted, put)
	if err != nil {
		t.Fatal(err)
	}
	p := pins[0]
	if p.Spec != "tool" || p.Name != "dpkg.tar" || p.Origin != "debian:dpkg="+p.Version || p.Size < 1024 || p.Digest == "" {
		t.Errorf("pin %+v", p)
	}

	_, err = Resolve(t.Context(), append(wanted, Wanted{Debian: "no-such-b"}, Wanted{Debian: "no-such-a"}), func(io.Reader) (distro.Digest, int64, error) {
		t.Error("something was put although a package is missing")
		return "", 0, nil
	})
	if !errs.Is(err, errs.Unavailable) || strings.Join(errs.Hints(err), "") != "apt-get install no-such-a no-such-b" {
		t.Errorf("missing packages: %v %q", err, errs.Hints(err))
	}

	full := errs.E(errs.Unavailable, "the store is full")
	if _, err = Resolve(t.Context(), wanted, func(r io.Reader) (distro.Digest, int64, error) { return "", 0, full }); !errors.Is(err, full) {
		t.Errorf("a store that fails: %v", err)
	}
}
