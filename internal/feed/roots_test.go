package feed

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway/internal/distro"
	"slipway/internal/store"
)

// image publishes a file beside the packages and lets the next statement answer for it.
func (b *bed) image(name, body string) {
	b.t.Helper()
	file := ImageName("1", "qemu", "1.1", name)
	if err := b.tree.Create(b.t.Context(), file, strings.NewReader(body)); err != nil {
		b.t.Fatal(err)
	}
	b.artifacts = append(b.artifacts, distro.Artifact{Class: distro.Images, Name: "qemu/" + name, Digest: distro.DigestOf([]byte(body)), Size: int64(len(body)), File: file})
}

// Verify makes the root of a release's files again from the bytes that are there, and
// names the file that differs: once, whatever finds it.
func TestVerifyMakesTheRootAgain(t *testing.T) {
	b := setup(t)
	b.image("light.img", "an image")
	b.image("full.img", "a larger image")
	b.release(1, [3]string{"a", "1.0", "one"}, [3]string{"b", "1.0", "two"})
	r := b.inspect(b.tree, b.trust(), Inspection{Workers: 3})
	if len(r.Findings)+len(r.Notes) > 0 || r.Packages != 2 || r.Files != 2 {
		t.Fatalf("%+v", r)
	}
	image, pkg := filepath.Join(b.dir, "1/images/qemu/1.1/light.img"), filepath.Join(b.dir, "1/pool/rpm/noarch/1/a-1.0-1.noarch.rpm")
	for name, c := range map[string]struct {
		harm func() error
		want []string
	}{
		"an image changed": {func() error { return os.WriteFile(image, []byte("another"), 0o644) },
			[]string{"1/images/qemu/1.1/light.img: digest " + string(distro.DigestOf([]byte("another"))) + ", release 1.1 states " + string(distro.DigestOf([]byte("an image")))}},
		"an image gone":   {func() error { return os.Remove(image) }, []string{"1/images/qemu/1.1/light.img: gone, and release 1.1 states it"}},
		"a package gone":  {func() error { return os.Remove(pkg) }, []string{"1/pool/rpm/noarch/1/a-1.0-1.noarch.rpm: in an index, but: "}},
		"a package other": {func() error { return os.WriteFile(pkg, []byte("x"), 0o644) }, []string{"1/pool/rpm/noarch/1/a-1.0-1.noarch.rpm: digest "}},
	} {
		t.Run(name, func(t *testing.T) {
			before, _ := os.ReadFile(image)
			was, _ := os.ReadFile(pkg)
			defer func() { os.WriteFile(image, before, 0o644); os.WriteFile(pkg, was, 0o644) }()
			if err := c.harm(); err != nil {
				t.Fatal(err)
			}
			r := b.inspect(b.tree, b.trust(), Inspection{})
			if !slices.EqualFunc(r.Findings, c.want, strings.HasPrefix) {
				t.Errorf("%q, want %q", r.Findings, c.want)
			}
		})
	}
}

// A statement whose root is not that of the files it lists proves nothing, and one
// package is enough to see it.
func TestVerifyComparesAStatementsRoot(t *testing.T) {
	b := setup(t)
	b.release(1, [3]string{"a", "1.0", "one"})
	wrong := distro.Statement{Schema: 1, Series: "1", Version: "1.2", Serial: 1, At: testStart, Packages: b.all, FilesRoot: distro.DigestOf([]byte("another"))}
	if err := b.p.WriteStatement(t.Context(), wrong); err != nil {
		t.Fatal(err)
	}
	const want = "1/releases/1.2/release.json: its files_root is "
	b.wantFinding(b.inspect(b.tree, b.trust(), Inspection{}), want)
	data, err := os.ReadFile(filepath.Join(b.dir, "1/pool/rpm/noarch/1/a-1.0-1.noarch.rpm"))
	if err != nil {
		t.Fatal(err)
	}
	b.wantFinding(b.inspect(store.ReadTree(b.dir), b.trust(), Inspection{File: memoryBlob{bytes.NewReader(data)}, FileName: "x.rpm"}), want)
}
