package esdk

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"slipway/internal/errs"
)

// installer makes one in the form of toolchain-shar-extract.sh; a text that begins with
// "->" is a link.
func installer(t *testing.T, compression string, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("#!/bin/sh\npayload_offset=$(grep -na -m1 \"^MARKER:$\" \"$0\")\nexit 0\nMARKER:\n")
	var w io.WriteCloser
	var err error
	if compression == "xz" {
		w, err = xz.NewWriter(&b)
	} else {
		w, err = zstd.NewWriter(&b)
	}
	if err != nil {
		t.Fatal(err)
	}
	a := tar.NewWriter(w)
	for i := 0; i < len(files); i += 2 {
		h := &tar.Header{Name: "./" + files[i], Mode: 0o644, Size: int64(len(files[i+1])), Typeflag: tar.TypeReg}
		if to, ok := strings.CutPrefix(files[i+1], "->"); ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, to, 0
		}
		if err := a.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := a.Write([]byte(files[i+1])); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// whole are the files of a small SDK, as write_devtool_config, write_manifest and
// copy_bitbake_and_layers of populate_sdk_ext.bbclass leave them.
var whole = []string{"conf/devtool.conf", "[General]\nbitbake_subdir = layers/bitbake\n\n[SDK]\nsdk_targets = core-image-minimal\nupdateserver = https://feeds.example.org/halyard/1/sdk/update/core\n\n",
	"conf/sdk-conf-manifest", "aa\tconf/local.conf\n", "conf/local.conf", "x", "layers/core/meta/conf/layer.conf", "y", "layers/core/scripts/chgrp", "->chown", "layers/core/scripts/chown", "z",
	"sstate-cache/aa/bb/sstate:x", "o", "environment-setup-core2-64", "not for the server", "workspace/README", "neither"}

func TestExtract(t *testing.T) {
	t.Parallel()
	for _, compression := range []string{"xz", "zstd"} {
		dir := t.TempDir()
		url, err := Extract(t.Context(), bytes.NewReader(installer(t, compression, whole...)), dir)
		if err != nil || url != "https://feeds.example.org/halyard/1/sdk/update/core" {
			t.Fatal(url, err)
		}
		for name, want := range map[string]string{"conf/local.conf": "x", "layers/core/scripts/chgrp": "z", "sstate-cache/aa/bb/sstate:x": "o"} {
			if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
				t.Errorf("%s: %q %v", name, got, err)
			}
		}
		for _, name := range []string{"environment-setup-core2-64", "workspace"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				t.Errorf("%s is no file of an update server", name)
			}
		}
	}
}

func TestExtractRefuses(t *testing.T) {
	t.Parallel()
	good := installer(t, "xz", whole...)
	for _, tt := range []struct {
		name string
		data []byte
		kind errs.Kind
		says string
	}{
		{"no installer", []byte("#!/bin/sh\nexit 0\n"), errs.Invalid, "no line MARKER:"},
		{"nothing behind the marker", []byte("#!/bin/sh\nMARKER:\n"), errs.Invalid, "ends before its archive"},
		{"another archive", []byte("MARKER:\nPK\x03\x04abcdef"), errs.Invalid, "neither tar.xz nor tar.zst"},
		{"cut off", good[:len(good)-120], errs.Invalid, "cut off"},
		{"a plain SDK", installer(t, "zstd", "sysroots/x", "y"), errs.Invalid, "none of an extensible SDK"},
		{"a link out of it", installer(t, "zstd", append([]string{"layers/evil", "->../../etc"}, whole...)...), errs.Denied, "leads out of the SDK"},
		{"a name out of it", installer(t, "zstd", append([]string{"conf/../../evil", "x"}, whole...)...), "", ""},
	} {
		dir := t.TempDir()
		_, err := Extract(t.Context(), bytes.NewReader(tt.data), dir)
		if tt.kind == "" { // it is cleaned away: no file of an update server
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		if !errs.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if IsInstaller("fixture-toolchain-1.1.sh") || !IsInstaller("x/fixture-glibc-x86_64-core-image-core2-64-m-toolchain-ext-1.1.sh") || IsInstaller("a-toolchain-ext-1.1.host.manifest") {
		t.Error("IsInstaller")
	}
}

func FuzzExtract(f *testing.F) {
	f.Add([]byte("#!/bin/sh\nMARKER:\n\xfd7zXZ\x00"))
	f.Add([]byte("MARKER:\n\x28\xb5\x2f\xfdabc"))
	f.Fuzz(func(t *testing.T, data []byte) { _, _ = Extract(t.Context(), bytes.NewReader(data), t.TempDir()) })
}
