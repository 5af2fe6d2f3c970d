package buildhistory

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/errs"
)

// recorded reads what real BitBake wrote (OE-Core wrynose, the fixture layer).
func recorded(t *testing.T) *History {
	t.Helper()
	h := New()
	root := os.DirFS("testdata/fixture")
	err := fs.WalkDir(root, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		return h.Add(name, f)
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestRecorded(t *testing.T) {
	t.Parallel()
	h := recorded(t)
	if len(h.Recipes) != 2 || len(h.Packages) != 7 || len(h.Images) != 0 {
		t.Fatalf("%d recipes, %d packages, %d images", len(h.Recipes), len(h.Packages), len(h.Images))
	}
	if d := cmp.Diff(&Recipe{Version: "1.0", Release: "r0", Layer: "fixture", License: "MIT", Depends: []string{"gcc-cross-x86_64", "virtual/compilerlibs", "virtual/libc"},
		Packages: strings.Fields("hello-src hello-dbg libgreet hello-staticdev hello-dev hello-doc hello-locale hello"),
		Sources:  strings.Fields("file://hello.c file://greet.c file://greet.h file://0001-punctuation.patch")}, h.Recipes[Key{"core2-64-fixture-linux", "hello"}]); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(&Package{Recipe: "hello", Name: "libgreet1", Version: "1.0", Release: "r0.1", Size: 13937,
		Relations: map[string][]string{"RPROVIDES": {"libgreet (= 1.0)"}, "RDEPENDS": {}, "RRECOMMENDS": {}},
		Scripts:   map[string]string{"postinst": "#!/bin/sh\nset -e\nif [ x\"$D\" = \"x\" ]; then\n\tif [ -x /sbin/ldconfig ]; then /sbin/ldconfig ; fi\nfi\n"},
		Files: []File{{"drwxr-xr-x", "root", "root", 4096, "/usr", ""}, {"drwxr-xr-x", "root", "root", 4096, "/usr/lib", ""},
			{"-rwxr-xr-x", "root", "root", 13920, "/usr/lib/libgreet.so.1.0.0", ""}, {"lrwxrwxrwx", "root", "root", 17, "/usr/lib/libgreet.so.1", "libgreet.so.1.0.0"}},
	}, h.Packages[Key{"core2-64-fixture-linux", "libgreet"}]); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"hostlibc (>= 2.36)", "libgreet (>= 1.0)"}, h.Packages[Key{"core2-64-fixture-linux", "hello"}].Relations["RDEPENDS"]); d != "" {
		t.Error(d)
	}
}

func TestImage(t *testing.T) {
	t.Parallel()
	h := New()
	for name, text := range map[string]string{
		"images/qemux86_64/glibc/core-image-minimal/image-info.txt":              "DISTRO = halyard\nDISTRO_VERSION = 1.2\nIMAGE_CLASSES = \nIMAGESIZE = 18432\n",
		"images/qemux86_64/glibc/core-image-minimal/installed-package-names.txt": "zlib\nbase-files\n",
		"images/qemux86_64/glibc/core-image-minimal/files-in-image.txt":          "-rwsr-xr-x root       root            43200 ./bin/su with space\nlrwxrwxrwx root root 7 ./bin/sh -> busybox\n",
		"images/qemux86_64/glibc/core-image-minimal/depends.dot":                 "not read",
		"metadata-revs":                   "not read",
		"packages/a/b/latest_srcrev":      "not read",
		"packages/a/b/c/latest.pkg_prerm": "#!/bin/sh\nexit \xff\n",
	} {
		if err := h.Add(name, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	im := h.Images[Key{"qemux86_64/glibc", "core-image-minimal"}]
	if im == nil || im.Size != 18432 || im.Info["DISTRO_VERSION"] != "1.2" || cmp.Diff([]string{"base-files", "zlib"}, im.Packages) != "" {
		t.Fatalf("%+v", im)
	}
	if d := cmp.Diff([]File{{"-rwsr-xr-x", "root", "root", 43200, "/bin/su with space", ""}, {"lrwxrwxrwx", "root", "root", 7, "/bin/sh", "busybox"}}, im.Files); d != "" {
		t.Error(d)
	}
	if s := h.Packages[Key{"a", "c"}].Scripts["prerm"]; s != "#!/bin/sh\nexit \\xff\n" {
		t.Errorf("%q", s)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ text, want string }{
		"packages/a/b/latest":                      {"PV = 1\nnonsense\n", "packages/a/b/latest:2: not of the form"},
		"packages/a/b/c/latest":                    {"PKGSIZE = -1\n", `:1: PKGSIZE is "-1"`},
		"packages/a/b/c/files-in-package.txt":      {"-rw root\n", ":1: not of the form"},
		"images/a/b/c/image-info.txt":              {"IMAGESIZE = much\n", `IMAGESIZE is "much"`},
		"images/a/b/c/installed-package-names.txt": {strings.Repeat("x", maxLine+1), "a line of more than"},
	} {
		err := New().Add(name, strings.NewReader(tt.text))
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := New().Add("packages/a/b/latest", io.MultiReader(strings.NewReader("PV = 1\n"), iotest.ErrReader(errors.New("input/output error")))); !errs.Is(err, errs.Unavailable) {
		t.Error(err)
	}
}

// FuzzAdd: no bytes make Add panic or give another error than Invalid.
func FuzzAdd(f *testing.F) {
	names := []string{"packages/a/b/latest", "packages/a/b/c/latest", "packages/a/b/c/files-in-package.txt", "packages/a/b/c/latest.pkg_x", "images/a/b/c/image-info.txt", "images/a/b/c/files-in-image.txt"}
	f.Add(uint8(1), []byte("PV = 1\nRDEPENDS = a (>= 1) b\nPKGSIZE = 3\n"))
	f.Add(uint8(2), []byte("-rw-r--r-- root root 1 ./x\nlrwxrwxrwx root root 1 ./y -> x\n"))
	f.Fuzz(func(t *testing.T, n uint8, data []byte) {
		if err := New().Add(names[int(n)%len(names)], bytes.NewReader(data)); err != nil && !errs.Is(err, errs.Invalid) {
			t.Fatal(err)
		}
	})
}
