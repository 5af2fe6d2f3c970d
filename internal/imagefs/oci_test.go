package imagefs

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway/internal/errs"
)

// tarOf makes an archive of files "path=text"; a path that ends with / is a folder.
func tarOf(t *testing.T, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		name, text, _ := strings.Cut(f, "=")
		h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}
		if strings.HasSuffix(name, "/") {
			h.Typeflag, h.Mode = tar.TypeDir, 0o755
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// ociOf makes an OCI archive of layers; every second one is compressed.
func ociOf(t *testing.T, layers ...[]byte) []byte {
	t.Helper()
	files := []string{"oci-layout={}"}
	blob := func(b []byte) string {
		d := fmt.Sprintf("%x", sha256.Sum256(b))
		files = append(files, "blobs/sha256/"+d+"="+string(b))
		return "sha256:" + d
	}
	var list []string
	for i, l := range layers {
		if i%2 == 1 {
			var z bytes.Buffer
			w := gzip.NewWriter(&z)
			_, _ = w.Write(l)
			_ = w.Close()
			l = z.Bytes()
		}
		list = append(list, fmt.Sprintf(`{"digest":%q}`, blob(l)))
	}
	m := blob([]byte(`{"layers":[` + strings.Join(list, ",") + `]}`))
	files = append(files, `index.json={"manifests":[{"digest":"`+m+`"}]}`)
	return tarOf(t, files...)
}

func shown(t *testing.T, archive []byte) (string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(path, archive, 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := OpenContents(t.Context(), path)
	if err != nil {
		return "", err
	}
	defer c.Close()
	var all []string
	err = c.Parts[0].Walk(context.Background(), func(f *File) error {
		text := ""
		if f.Mode.IsRegular() {
			r, err := f.open()
			if err != nil {
				return err
			}
			b, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			text = "=" + string(b)
		}
		all = append(all, f.Path+text)
		return nil
	})
	slices.Sort(all)
	return c.Kind + ": " + strings.Join(all, " "), err
}

func TestOCIArchive(t *testing.T) {
	t.Parallel()
	low := tarOf(t, "etc/", "etc/shadow=low", "etc/gone=x", "opt/", "opt/a=1", "opt/sub/b=2", "srv/", "srv/old=3", "dir/", "dir/in=4", "keep=5")
	high := tarOf(t, "etc/shadow=high", "etc/.wh.gone=", ".wh.opt=", "srv/", "srv/.wh..wh..opq=", "srv/new=6", "dir=a file now")
	for _, tt := range []struct {
		name string
		file []byte
		want string
	}{
		{"one layer", ociOf(t, low), "OCI archive, layers: 1: dir dir/in=4 etc etc/gone=x etc/shadow=low keep=5 opt opt/a=1 opt/sub/b=2 srv srv/old=3"},
		{"two layers", ociOf(t, low, high), "OCI archive, layers: 2: dir=a file now etc etc/shadow=high keep=5 srv srv/new=6"},
		{"what is taken away may come back", ociOf(t, low, high, tarOf(t, "opt/", "opt/a=7")), "OCI archive, layers: 3: dir=a file now etc etc/shadow=high keep=5 opt opt/a=7 srv srv/new=6"},
	} {
		if got, err := shown(t, tt.file); err != nil || got != tt.want {
			t.Errorf("%s: %v\n%s\nnot\n%s", tt.name, err, got, tt.want)
		}
	}
	whole := ociOf(t, low, high)
	for name, file := range map[string][]byte{
		"no image":         tarOf(t, "oci-layout={}", `index.json={"manifests":[]}`),
		"two images":       tarOf(t, "oci-layout={}", `index.json={"manifests":[{"digest":"sha256:0"},{"digest":"sha256:1"}]}`),
		"no index":         tarOf(t, "oci-layout={}"),
		"no JSON":          tarOf(t, "oci-layout={}", "index.json=x"),
		"a missing blob":   tarOf(t, "oci-layout={}", `index.json={"manifests":[{"digest":"sha256:00"}]}`),
		"another digest":   tarOf(t, "oci-layout={}", `index.json={"manifests":[{"digest":"sha256:00"}]}`, `blobs/sha256/00={"layers":[]}`),
		"a missing layer":  tarOf(t, "oci-layout={}", `index.json={"layers":[{"digest":"sha256:00"}]}`),
		"cut off":          whole[:len(whole)/2],
		"docker save":      tarOf(t, "manifest.json=[]"),
		"docker save, old": tarOf(t, strings.Repeat("a", 64)+"/", strings.Repeat("a", 64)+"/layer.tar=x"),
	} {
		if got, err := shown(t, file); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	for at := 0; at < len(whole); at += 97 {
		bad := bytes.Clone(whole)
		bad[at] ^= 0x41
		_, _ = shown(t, bad) // no panic
	}
}
