package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway/internal/cli"
)

// TestRealBitBakeImport: a BitBake that Slipway knows nothing of builds the fixture in a
// folder of its own, with its own servers, and hands the folder over: it becomes a
// candidate, a release, and a second release after a change.
func TestRealBitBakeImport(t *testing.T) {
	dir := bitbakeWorkspace(t)
	ws := filepath.Join(dir, "ws")
	slipway := func(want int, args ...string) string {
		t.Helper()
		var out, talk bytes.Buffer
		code := cli.Main(t.Context(), append([]string{"--dir", ws}, args...), cli.Stdio{In: strings.NewReader(""), Out: &out, Err: &talk})
		t.Logf("slipway %s: exit code %d\n%s%s", strings.Join(args, " "), code, talk.String(), cut(out.String()))
		if code != want {
			t.Fatalf("exit code %d, want %d", code, want)
		}
		return out.String() + talk.String()
	}
	git := []string{"git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org"}
	definition, err := os.ReadFile(filepath.Join(ws, "slipway.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	i, j := bytes.Index(definition, []byte("conf: |")), bytes.Index(definition, []byte("boards:"))
	imported := bytes.Replace(slices.Concat(definition[:i], definition[j:]), []byte("kind: bitbake"), []byte("kind: import"), 1)
	if err := os.WriteFile(filepath.Join(ws, "slipway.yaml"), imported, 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, ws, 0, append(git, "commit", "-q", "-a", "-m", "another CI builds")...)
	slipway(0, "key", "create", "--no-passphrase")

	// The other CI: clones of the same repositories, and a build folder.
	b := newBuilder(t, dir, filepath.Join(ws, "layers", "meta-fixture", "host-tools"))
	b.own(t)
	b.do(t, `for r in bitbake openembedded-core; do git clone -q "`+dir+`/repos/$r"; done; git clone -q "`+ws+`" boat
mkdir -p build/conf`)
	conf := map[string]string{
		"bblayers.conf": fmt.Sprintf("BBPATH = \"${TOPDIR}\"\nBBFILES ?= \"\"\nBBLAYERS = \"%[1]s/openembedded-core/meta %[1]s/boat/layers/meta-fixture\"\n", b.dir),
		"local.conf": `MACHINE ?= "fixture-a"
DISTRO = "fixture"
PACKAGE_CLASSES = "package_rpm"
INHERIT += "buildhistory archiver create-spdx vex"
BUILDHISTORY_COMMIT = "1"
BUILDHISTORY_FEATURES = "image package sdk task"
ARCHIVER_MODE[src] = "original"
ARCHIVER_MODE[recipe] = "1"
ARCHIVER_MODE[srpm] = "1"
ARCHIVER_MODE[dumpdata] = "1"
ARCHIVER_MODE[diff] = "0"
COPYLEFT_LICENSE_INCLUDE = "*"
COPYLEFT_LICENSE_EXCLUDE = ""
BB_GENERATE_MIRROR_TARBALLS = "1"
PRSERV_HOST = "localhost:0"
BB_HASHSERVE = "auto"
BB_SIGNATURE_HANDLER = "OEEquivHash"
BB_NO_NETWORK = "1"
SANITY_TESTED_DISTROS = ""
BBMASK = "/meta/recipes-(?!core/meta/|core/base-files/|core/base-passwd/|kernel/linux/linux-dummy|extended/images/|devtools/run-postinsts/)"
require slipway/slipway.conf
`}
	for name, text := range conf {
		if err := os.WriteFile(filepath.Join(b.dir, "build", "conf", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	folder := filepath.Join(b.dir, "build")
	build := func() {
		t.Helper()
		slipway(0, "next", "--into", filepath.Join(folder, "slipway"))
		b.own(t)
		b.do(t, `export PATH="$PWD/bitbake/bin:$PWD/openembedded-core/scripts:$PATH" BBPATH="$PWD/build"
cd build && bitbake packagegroup-fixture && bitbake -e >environment-fixture-a.txt && bitbake -m || exit 1
for i in $(seq 60); do test -e bitbake.lock && fuser -s bitbake.lock 2>/dev/null || break; sleep 1; done`)
	}
	build()
	if out := slipway(0, "build", "--import", folder); !strings.Contains(out, "16 packages, 2 layers, 1 boards") {
		t.Error("the layers are not told")
	}
	slipway(0, "test", "1.1-c1")
	slipway(0, "approve", "1.1-c1", "--by", "Ada Byron")
	slipway(0, "publish", "1.1")
	if out := slipway(0, "feed", "list"); !strings.Contains(out, "hello ") || !strings.Contains(out, "1.0-r0.0") || !strings.Contains(out, "fixture-board") {
		t.Error(out)
	}
	restored := filepath.Join(dir, "restored")
	slipway(0, "restore", "1.1", "--into", restored)
	for _, want := range []string{"pr-database/prserv.sqlite3", "hash-database/hashserv.sqlite3", "buildhistory/metadata-revs", "console-log/console.log", "configuration/bitbake/local.conf", "configuration/layers/openembedded-core.bundle",
		"task-log/core2-64-fixture-linux/hello/1.0/log.do_compile", "sources/x86_64-fixture-linux/hello-1.0-r0/hello.c", "sbom/cve/packagegroup-fixture_cve.json", "packages/core2_64/hello-1.0-r0.0.core2_64.rpm"} {
		if _, err := os.Stat(filepath.Join(restored, want)); err != nil {
			t.Error(err)
		}
	}
	if objects, err := filepath.Glob(filepath.Join(restored, "sstate/*/*/sstate:*")); err != nil || len(objects) < 50 {
		t.Errorf("%d objects of the cache, %v", len(objects), err)
	}

	// A change: the other CI's PR server gives hello the next number. Until the commit is in
	// the workspace, too, the build is of another one.
	change := filepath.Join(b.dir, "boat", "layers", "meta-fixture", "recipes-fixture", "hello", "files", "hello.c")
	text, err := os.ReadFile(change)
	if err == nil {
		err = os.WriteFile(change, append(text, "int changed = 1;\n"...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	build()
	if out := slipway(6, "build", "--import", folder); !strings.Contains(out, "layer meta-fixture was built with changes that are in no commit") {
		t.Error("a dirty layer was taken")
	}
	b.do(t, `cd boat && git -c user.name=Bo -c user.email=bo@example.org commit -q -a -m "a change"`)
	build()
	if out := slipway(6, "build", "--import", folder); !strings.Contains(out, "and the workspace stands at") {
		t.Error("a build of another commit was taken")
	}
	run(t, dir, 0, "cp", "-r", filepath.Join(b.dir, "boat"), "pushed") // git reads no repository of another user
	run(t, ws, 0, append(git, "pull", "-q", "--ff-only", filepath.Join(dir, "pushed"))...)
	// Half a copy of it is refused.
	half := filepath.Join(dir, "half")
	run(t, dir, 0, "cp", "-r", folder, half)
	gone, err := filepath.Glob(filepath.Join(half, "tmp/deploy/rpm/*/hello-1.0-*.rpm"))
	if err == nil && len(gone) == 1 {
		err = os.Remove(gone[0])
	}
	if err != nil || len(gone) != 1 {
		t.Fatal(gone, err)
	}
	if out := slipway(6, "build", "--import", half); !strings.Contains(out, "the build wrote package hello of recipe hello, and the deploy tree does not have it") {
		t.Error("half a copy was taken")
	}
	slipway(0, "run", "--yes", "--by", "Ada Byron", "--import", folder)
	out := slipway(0, "feed", "list")
	for _, want := range []string{"hello ", "1.0-r0.1"} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is not in the feed: %s", want, out)
		}
	}
	if out := slipway(0, "status", "--json"); !strings.Contains(out, `"next_version": "1.3"`) && !strings.Contains(out, `"next_version":"1.3"`) {
		t.Error(out)
	}
	if left, err := exec.Command("pgrep", "-a", "-f", folder).Output(); err == nil {
		t.Errorf("a BitBake of the other CI is left running: %s", left)
	}
}
