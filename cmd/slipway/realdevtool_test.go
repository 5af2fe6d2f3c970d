package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"slipway/internal/cli"
)

// TestRealBitBakeDevtool walks the part on devtool of docs/from-binary-to-source.md: a
// recipe of an exported release is taken apart, changed, built, and put back as a patch
// into a layer of the user's own; the packages have numbers below the official ones.
func TestRealBitBakeDevtool(t *testing.T) {
	dir := bitbakeWorkspace(t)
	ws := filepath.Join(dir, "ws")
	slipway := func(args ...string) {
		t.Helper()
		var out, talk bytes.Buffer
		code := cli.Main(t.Context(), append([]string{"--dir", ws}, args...), cli.Stdio{In: strings.NewReader(""), Out: &out, Err: &talk})
		t.Logf("slipway %s: exit code %d\n%s%s", strings.Join(args, " "), code, talk.String(), cut(out.String()))
		if code != 0 {
			t.Fatal("exit code ", code)
		}
	}
	definition := filepath.Join(ws, "slipway.yaml")
	text, err := os.ReadFile(definition)
	if err == nil {
		text = bytes.Replace(text, []byte("https://feeds.example.org/fixture"), []byte("file://"+ws+"/publication"), 1)
		err = os.WriteFile(definition, append(text, "publish: {public: [packages, sources, configuration, sstate, downloads]}\n"...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	run(t, ws, 0, "git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit", "-q", "-a", "-m", "the cache is public")
	slipway("key", "create", "--no-passphrase")
	slipway("run", "--yes", "--by", "Ada Byron")
	port := freePorts(t)
	b := newBuilder(t, dir, filepath.Join(ws, "layers", "meta-fixture", "host-tools"))
	mine := filepath.Join(b.dir, "fixture-1.1")
	slipway("source", "export", "1.1", "-o", "conf", "--into", mine, "--port", strconv.Itoa(port))
	b.own(t)
	b.do(t, "fixture-1.1/prepare")
	serveSource(t, mine, port)
	// The host's quilt and git are BitBake's here.
	b.do(t, `git config --global user.name Bo && git config --global user.email bo@example.org
. fixture-1.1/env && echo 'SPDX_INCLUDE_SOURCES:pn-hello = "0"' >>conf/local.conf &&
bitbake-layers create-layer --add-layer ../../meta-mine && devtool modify hello`)
	source := filepath.Join(mine, "build/workspace/sources/hello")
	var found string
	for _, name := range []string{"hello.c", "sources/hello.c", "oe-local-files/hello.c"} {
		if _, err := os.Stat(filepath.Join(source, name)); err == nil && found == "" {
			found = filepath.Join(source, name)
		}
	}
	if found == "" {
		t.Fatalf("no hello.c: %s", run(t, dir, 0, "find", source, "-not", "-path", "*/.git/*"))
	}
	b.do(t, `. fixture-1.1/env && cd workspace/sources/hello && echo "int of_my_own = 1;" >>`+found+` && git commit -q -a -m "a change of my own" -m "Upstream-Status: Inappropriate [mine alone]"
cd ../../.. && devtool build hello && bitbake packagegroup-fixture`)
	said := b.do(t, "slipway source compare fixture-1.1")
	if !strings.Contains(said, "own      hello-1.0-r0.0.") || !strings.Contains(said, ", 0 differ,") {
		t.Error("a change by devtool has no number below the official one: ", said)
	}
	b.do(t, `. fixture-1.1/env && devtool finish --force hello ../../meta-mine && bitbake packagegroup-fixture`)
	if put, err := filepath.Glob(filepath.Join(b.dir, "meta-mine/recipes-*/hello/hello_*.bbappend")); err != nil || len(put) != 1 {
		t.Errorf("devtool finish left no bbappend: %v %v", put, err)
	}
	said = b.do(t, "slipway source compare fixture-1.1")
	if !strings.Contains(said, "own      hello-1.0-r0.0.") || !strings.Contains(said, ", 0 differ,") {
		t.Error("the patch in a layer has no number below the official one: ", said)
	}
}
