package bitbake

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// put writes files below a folder; a text that begins with "->" is a link.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if to, ok := strings.CutPrefix(text, "->"); ok {
			err = errors.Join(err, os.Symlink(to, path))
		} else {
			err = errors.Join(err, os.WriteFile(path, []byte(text), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// header is what BitBake 2.18 and OE-Core's base.bbclass wrote before a build, with the
// layers' commits as git gave them.
const header = `NOTE: Resolving any missing task queue dependencies

Build Configuration:
BB_VERSION           = "2.18.0"
BUILD_SYS            = "x86_64-linux"
NATIVELSBSTRING      = "debian-12"
TARGET_SYS           = "x86_64-fixture-linux"
MACHINE              = "fixture-a"
SDKMACHINE           = ""
DISTRO               = "fixture"
DISTRO_VERSION       = "1.1"
TUNE_FEATURES        = "m64 core2"
meta                 
meta-poky            = "wrynose:1111111111111111111111111111111111111111"
meta-fixture         = "HEAD:2222222222222222222222222222222222222222"
meta-other           = "<unknown>:<unknown>"

Sstate summary: Wanted 54 Local 0 Mirrors 0 Missed 54 Current 0 (0% match, 0% complete)
NOTE: Executing Tasks
`

const summary = "NOTE: Tasks Summary: Attempted 109 tasks of which 0 didn't need to be rerun and all succeeded.\n"

func TestConsoleLogs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var stamped strings.Builder
	for line := range strings.Lines(header + summary) {
		stamped.WriteString("[2026-11-28T04:29:51] " + line)
	}
	put(t, dir, map[string]string{
		"tmp/log/cooker/fixture-a/20261128042951.log": header + strings.Replace(summary, "all succeeded", "1 failed", 1),
		"tmp/log/cooker/fixture-a/20261128052951.log": header + summary,
		"tmp/log/cooker/fixture-a/20261128062951.log": "NOTE: no build\n",
		"tmp/log/cooker/fixture-a/console-latest.log": "->20261128052951.log",
		"tmp/log/cooker/fixture-b/20261128042951.log": strings.Replace(header, "fixture-a", "fixture-b", 1),
		"jenkins.txt":                stamped.String(),
		"buildhistory/metadata-revs": "meta-fixture      = HEAD:2222222222222222222222222222222222222222 -- modified\nmeta-other        = <unknown>:<unknown> -- modified\nmeta-poky         = wrynose:3333333333333333333333333333333333333333\n"})
	tr := tree{top: dir}
	logs, err := consoleLogs(t.Context(), tr)
	if err != nil || len(logs) != 4 {
		t.Fatalf("%d logs, %v", len(logs), err)
	}
	last := newest(logs)
	if len(last) != 2 || last[0].name != "fixture-a/20261128052951.log" || last[0].failed() || last[0].summary == "" || last[1].board() != "fixture-b" || last[1].summary != "" || !logs[0].failed() {
		t.Errorf("newest %+v", last)
	}
	layers, bad := layersOf(tr, logs)
	one, two := strings.Repeat("1", 40), strings.Repeat("2", 40)
	want := []distro.ImportedLayer{{Name: "meta", Commit: one}, {Name: "meta-poky", Commit: one}, {Name: "meta-fixture", Commit: two, Modified: true}, {Name: "meta-other"}}
	if !slices.Equal(layers, want) {
		t.Errorf("%+v", layers)
	}
	if len(bad) != 1 || !strings.Contains(bad[0].Error(), "layer meta-poky was at 111111111111 for console log fixture-a/20261128052951.log and at 333333333333 for buildhistory: the tree is of two builds") {
		t.Error(bad)
	}
	// What a CI kept, with a time before each line.
	tr.at = map[string]string{"console-log": filepath.Join(dir, "jenkins.txt")}
	logs, err = consoleLogs(t.Context(), tr)
	if err != nil || len(logs) != 1 || logs[0].vars["DISTRO_VERSION"] != "1.1" || logs[0].vars["SDKMACHINE"] != "" || len(logs[0].layers) != 4 || logs[0].failed() || logs[0].summary == "" {
		t.Errorf("%+v %v", logs, err)
	}
}

func TestLocate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		has  string            // a file that the folder has
		want map[string]string // path in the tree -> below the folder
	}{
		{"tmp/deploy/rpm/x", map[string]string{"tmp/deploy/rpm": "tmp/deploy/rpm", "tmp/stamps": "tmp/stamps", "conf": "conf", "tmp/log/oeqa": "tmp/log/oeqa", "events": "tmp/log/eventlog"}},
		{"tmp-glibc/deploy/rpm/x", map[string]string{"tmp/deploy/rpm": "tmp-glibc/deploy/rpm", "tmp/pkgdata": "tmp-glibc/pkgdata"}},
		{"deploy/rpm/x", map[string]string{"tmp/deploy/rpm": "deploy/rpm", "tmp/log/cooker": "log/cooker", "buildhistory": "buildhistory"}},
		{"rpm/x", map[string]string{"tmp/deploy/rpm": "rpm", "tmp/deploy/images": "images"}},
		{"sstate-cache/x", map[string]string{"sstate": "sstate-cache"}},
		{"cache/prserv.sqlite3", map[string]string{"prserv": "cache/prserv.sqlite3"}},
	} {
		dir := t.TempDir()
		put(t, dir, map[string]string{tt.has: ""})
		tr, err := ImportOptions{Dir: dir}.locate()
		if err != nil {
			t.Error(err)
		}
		for name, in := range tt.want {
			if got := tr.path(name); got != filepath.Join(dir, in) {
				t.Errorf("with %s: %s is at %s, not at %s", tt.has, name, got, in)
			}
		}
	}
	dir := t.TempDir()
	put(t, dir, map[string]string{"file": "", "folder/x": ""})
	_, err := ImportOptions{Dir: dir, Parts: map[string]string{"imags": dir, "sstate": filepath.Join(dir, "file"), "pr-database": filepath.Join(dir, "folder"), "downloads": filepath.Join(dir, "none"), "console-log": filepath.Join(dir, "file")}}.locate()
	for _, want := range []string{`"imags" is no part of a build`, "part sstate is a folder", "part pr-database is a file", "part downloads"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not told: %v", want, err)
		}
	}
	if err != nil && strings.Contains(err.Error(), "console-log") {
		t.Error(err)
	}
	if _, err := (ImportOptions{Dir: filepath.Join(dir, "none")}).locate(); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
}

func TestImagesOf(t *testing.T) {
	t.Parallel()
	const b = "qemux86-64"
	whole := []string{"bzImage", "bzImage--6.1+git0+abc-r0-qemux86-64-1.2.bin", "modules--6.1-qemux86-64.tgz", "core-image-x-qemux86-64.rootfs-1.2.manifest", "core-image-x-qemux86-64.rootfs-1.2.ext4", "core-image-x-qemux86-64.rootfs-1.2.testdata.json",
		"old-style-qemux86-64-1.2.rootfs.manifest", "old-style-qemux86-64-1.2.rootfs.wic", "qemuboot-qemux86-64.conf"}
	if bad := imagesOf(b, "1.2", whole, []string{"core-image-x"}); len(bad) != 0 {
		t.Error(bad)
	}
	for _, tt := range []struct {
		without, with, says string
	}{
		{"core-image-x-qemux86-64.rootfs-1.2.manifest", "", "image core-image-x of board qemux86-64 has no manifest"},
		{"core-image-x-qemux86-64.rootfs-1.2.ext4", "", "has a manifest, and no image is there"},
		{"", "core-image-x-qemux86-64.rootfs-20261128042951.ext4", "is not named for 1.2"},
		{"", "core-image-x-qemux86-64.rootfs-1.20.ext4", "is not named for 1.2"},
		{"", "old-style-qemux86-64-1.1.rootfs.wic", "is not named for 1.2"},
	} {
		files := slices.DeleteFunc(slices.Clone(whole), func(f string) bool { return f == tt.without })
		if tt.with != "" {
			files = append(files, tt.with)
		}
		if bad := imagesOf(b, "1.2", files, []string{"core-image-x"}); len(bad) != 1 || !strings.Contains(bad[0].Error(), tt.says) {
			t.Errorf("without %q, with %q: %v", tt.without, tt.with, bad)
		}
	}
}

// TestImportNeedsALook: nothing goes on by itself, and what changed meanwhile is told.
func TestImportNeedsALook(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	i := NewImporter(ImportOptions{Dir: dir})
	if _, err := i.Pin(t.Context()); !errs.Is(err, errs.Internal) {
		t.Error(err)
	}
	if err := i.Prepare(t.Context(), distro.Revision{}, distro.Seed{}, dir); !errs.Is(err, errs.Internal) {
		t.Error(err)
	}
	if err := i.Build(t.Context(), dir, nil); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	// A folder with nothing in it: every finding at once.
	_, err := i.Look(t.Context(), "1.2", []distro.Board{{Name: "m"}})
	for _, want := range []string{"there are no packages", "nothing says for which version board m was built", "nothing says what board m is"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not told: %v", want, err)
		}
	}
	put(t, dir, map[string]string{"conf/local.conf": "x"})
	tr := tree{top: dir}
	state, err := stateOf(t.Context(), tr)
	if err != nil {
		t.Fatal(err)
	}
	p := &plan{Imported: &imported{Top: dir, State: state}}
	if err := p.unchanged(t.Context()); err != nil {
		t.Error(err)
	}
	put(t, dir, map[string]string{"conf/local.conf": "xy"})
	if err := p.unchanged(t.Context()); !errs.Is(err, errs.Conflict) || !strings.Contains(fmt.Sprint(err), "was changed while it was imported") {
		t.Error(err)
	}
}

// TestOthersObjects: of a shared cache the objects of this build's tasks.
func TestOthersObjects(t *testing.T) {
	t.Parallel()
	hash := strings.Repeat("ab", 32)
	others := othersObjects([]Task{{Unihash: hash}})
	for name, want := range map[string]bool{"ab/ab/sstate:hello:core2-64-fixture-linux:1.0:r0:core2-64:14:" + hash + "_package_qa.tar.zst": false, "universal/ab/ab/sstate:hello::1.0:r0::14:" + strings.Repeat("cd", 32) + "_fetch.tar.zst.siginfo": true} {
		if got := others(distro.SState, name); got != want {
			t.Errorf("%s: %v", name, got)
		}
		if others(distro.Downloads, name) || othersObjects(nil)(distro.SState, name) {
			t.Error(name)
		}
	}
}
