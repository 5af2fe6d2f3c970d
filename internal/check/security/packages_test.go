package security_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/rpmpack"

	"slipway/internal/check/security"
	"slipway/internal/distro"
)

// withDatabase puts two packages into a tree's rpm database, by rpm itself.
func withDatabase(t *testing.T, tree map[string]node) {
	t.Helper()
	db := t.TempDir()
	args := []string{"rpm", "--define", "_dbpath " + db, "--define", "_db_backend sqlite", "-i", "--justdb", "--nodeps", "--ignorearch", "--ignoreos", "--nosignature"}
	for name, file := range map[string]string{"tool": "/bin/tool", "tool-dbg": "/usr/lib/debug/tool.debug"} {
		p, err := rpmpack.NewRPM(rpmpack.RPMMetaData{Name: name, Version: "1.0", Release: "r2", Arch: "core2_64"})
		if err != nil {
			t.Fatal(err)
		}
		p.AddFile(rpmpack.RPMFile{Name: file, Body: []byte("x"), Mode: 0o100755, Owner: "root", Group: "root"})
		p.AddFile(rpmpack.RPMFile{Name: "/usr/share/doc/" + name, Body: []byte("x"), Type: rpmpack.DocFile, Mode: 0o100644})
		var b bytes.Buffer
		if err := p.Write(&b); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), name+".rpm")
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	tool(t, args...)
	for _, name := range []string{"rpmdb.sqlite", "rpmdb.sqlite-wal"} {
		if b, err := os.ReadFile(filepath.Join(db, name)); err == nil {
			tree["var/lib/rpm/"+name] = node{text: string(b)}
		}
	}
	// The package says /bin, which is a link.
	tree["usr/bin/tool"] = node{text: "x", mode: 0o755}
}

func TestPackages(t *testing.T) {
	t.Parallel()
	tree := sound()
	withDatabase(t, tree)
	tree["usr/lib/debug/tool.debug"] = node{text: "x"}
	r := examine(t, pack(t, tree), security.Options{})
	if got := strings.Join(told(r), " "); got != "warn debug-package:tool-dbg" {
		t.Error(got)
	}
	delete(tree, "usr/bin/tool")
	path := pack(t, tree)
	r = examine(t, path, security.Options{})
	if got := strings.Join(told(r), " "); got != "warn debug-package:tool-dbg warn missing-file:tool" {
		t.Error(got)
	}
	policy := security.Policy{Allow: map[string][]string{"debug-package": {"*"}, "missing-file": {"*"}}}
	for _, tt := range []struct{ name, manifest, want string }{
		{"the same", "tool core2_64 1.0\ntool-dbg core2_64 1.0\n", ""},
		{"as OpenEmbedded writes architectures", "tool core2-64 1.0\ntool-dbg core2-64 1.0\n", ""},
		{"another version", "tool core2_64 1.1\ntool-dbg core2_64 1.0\n", "block manifest:tool.core2_64"},
		{"one less", "tool core2_64 1.0\n", "block manifest:tool-dbg.core2_64"},
		{"one more", "tool core2_64 1.0\ntool-dbg core2_64 1.0\nvim core2_64 9.1\n", "block manifest:vim.core2_64"},
	} {
		if err := os.WriteFile(strings.TrimSuffix(path, ".tar")+".manifest", []byte(tt.manifest), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(told(examine(t, path, security.Options{Policy: policy})), " "); got != tt.want {
			t.Errorf("%s: %s", tt.name, got)
		}
	}
	// Ours, which is looked for first: version, digest of the file, packages by their headers.
	type pkg struct {
		NEVRA  string        `json:"nevra"`
		Header distro.Digest `json:"header_digest"`
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		version  string
		digest   distro.Digest
		packages []pkg
		want     string
	}{
		{"another release", "1.3", distro.DigestOf(data), []pkg{{"tool-1.0-r2.core2_64", ""}, {"tool-dbg-1.0-r2.core2_64", ""}}, "block os-release:VERSION_ID"},
		{"another file", "1.2", distro.DigestOf(nil), []pkg{{"tool-1.0-r2.core2_64", ""}, {"tool-dbg-1.0-r2.core2_64", ""}}, "block manifest:digest"},
		{"another header", "1.2", distro.DigestOf(data), []pkg{{"tool-1.0-r2.core2_64", distro.DigestOf(nil)}, {"tool-dbg-1.0-r2.core2_64", ""}}, "block manifest:tool.core2_64"},
	} {
		b, err := json.Marshal(map[string]any{"schema": 1, "version": tt.version, "digest": tt.digest, "packages": tt.packages})
		if err == nil {
			err = os.WriteFile(path+".json", b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(told(examine(t, path, security.Options{Policy: policy})), " "); got != tt.want {
			t.Errorf("%s: %s", tt.name, got)
		}
	}
}
