package bitbake

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// hints are everything that an error tells to do.
func hints(err error) string { return strings.Join(errs.Hints(err), "\n") }

func overwrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestRealBitBakeErrors: what went wrong comes with its place and its cure, and when
// it is mended the same call goes on.
func TestRealBitBakeErrors(t *testing.T) {
	b, rev, seed, dir := fixture(t, Options{Targets: []string{"hello"}})
	recipe := filepath.Join(seed.Layers["meta-fixture"], "recipes-fixture", "hello", "hello_1.0.bb")
	source := filepath.Join(filepath.Dir(recipe), "files", "hello.c")
	good, err := os.ReadFile(recipe)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, source, "int broken(\n")
	if err := b.Prepare(t.Context(), rev, seed, dir); err != nil {
		t.Fatal(err)
	}
	err = b.Build(t.Context(), dir, nil)
	var te *TaskError
	if !errs.Is(err, errs.Failed) || !errors.As(err, &te) {
		t.Fatalf("a source that is broken: %v", err)
	}
	t.Log(err)
	if te.Recipe != "hello" || te.Task != "hello-1.0-r0:do_compile" || len(te.Lines) == 0 {
		t.Errorf("%+v", te)
	}
	if info, err := os.Stat(te.Log); err != nil || !info.Mode().IsRegular() {
		t.Error("no log: ", err)
	}

	overwrite(t, recipe, "this is no assignment\n")
	err = b.Build(t.Context(), dir, nil)
	var e *errs.Error
	if !errs.Is(err, errs.Invalid) || !errors.As(err, &e) || e.Pos.File != recipe || e.Pos.Line != 1 {
		t.Errorf("a recipe that does not parse: %v", err)
	}

	overwrite(t, source, string(program))
	overwrite(t, recipe, string(good)+"SRC_URI += \"http://127.0.0.1:9/gone-1.0.tar.gz\"\nSRC_URI[sha256sum] = \""+strings.Repeat("ab", 32)+"\"\n")
	err = b.Build(t.Context(), dir, nil)
	if !errs.Is(err, errs.Failed) || !strings.Contains(err.Error(), "gone-1.0.tar.gz") || !strings.Contains(hints(err), "no network") {
		t.Errorf("a source that cannot be had: %v\n%s", err, hints(err))
	}
	t.Log(err)

	// BitBake's server is killed while a task runs.
	overwrite(t, recipe, string(good)+"do_compile:prepend() {\n    sleep 600\n}\n")
	killed := 0
	err = b.Build(t.Context(), dir, func(e distro.BuildEvent) {
		if e.Type == "start" && strings.HasSuffix(e.Task, ":do_compile") && killed == 0 {
			data, _ := os.ReadFile(filepath.Join(dir, "topdir", "bitbake.lock"))
			if _, err := fmt.Sscan(string(data), &killed); err != nil || killed < 2 || syscall.Kill(killed, syscall.SIGKILL) != nil {
				killed = 0
			}
		}
	})
	if killed == 0 || !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "server was killed, or died; running were hello-1.0-r0:do_compile") || !strings.Contains(hints(err), "goes on where it stopped") {
		t.Errorf("BitBake's server %d was killed: %v\n%s", killed, err, hints(err))
	}
	t.Log(err)
	for _, err := range b.Collect(t.Context(), dir) {
		if !errs.Is(err, errs.Conflict) {
			t.Errorf("collected what is not finished: %v", err)
		}
	}

	overwrite(t, recipe, string(good))
	if err := b.Build(t.Context(), dir, nil); err != nil {
		t.Errorf("all is mended: %v", err)
	}
	incomplete(t, b, dir)
}

// incomplete damages the deploy tree of a finished build.
func incomplete(t *testing.T, b *Builder, dir string) {
	t.Helper()
	missing := func() (text string, err error) {
		for o, err := range b.Collect(t.Context(), dir) {
			if err != nil {
				return "", err
			}
			if o.Name == MissingName {
				data, err := os.ReadFile(o.Path)
				return string(data), err
			}
		}
		return "", nil
	}
	if got, err := missing(); got != "" || err != nil {
		t.Errorf("of a whole deploy tree is missing %q, %v", got, err)
	}
	lib := filepath.Join(dir, "topdir/tmp/deploy/rpm/core2_64/libgreet1-1.0-r0.0.core2_64.rpm")
	data, err := os.ReadFile(lib)
	if err == nil {
		err = os.Remove(lib)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, err := missing(); got != "libgreet1 of recipe hello\n" || err != nil {
		t.Errorf("without libgreet1 is missing %q, %v", got, err)
	}
	overwrite(t, lib, string(data[:len(data)/2]))
	if got, err := missing(); err == nil || !strings.Contains(err.Error(), "libgreet1-1.0-r0.0.core2_64.rpm") {
		t.Errorf("half a package: %q, %v", got, err)
	}
}

// TestRealBitBakeFullDisk builds on a disk that is too small, which is no fault of what
// is built: with more room the same call goes on.
func TestRealBitBakeFullDisk(t *testing.T) {
	checkouts(t)
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: a small disk: only root can mount one")
	}
	for _, conf := range []string{"", "BB_DISKMON_DIRS = \"\"\n"} {
		b, rev, seed, dir := fixture(t, Options{Targets: []string{"hello"}})
		b.opt.Conf += conf
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		size := func(flags, size string) {
			t.Helper()
			if out, err := exec.Command("mount", "-t", "tmpfs", "-o", flags+"mode=755,size="+size, "slipway-test", dir).CombinedOutput(); err != nil {
				t.Fatalf("mount: %v\n%s", err, out)
			}
		}
		size("", map[bool]string{true: "99m", false: "12m"}[conf == ""])
		t.Cleanup(func() {
			if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
				t.Errorf("umount: %v\n%s", err, out)
			}
		})
		if err := b.Prepare(t.Context(), rev, seed, dir); err != nil {
			t.Fatal(err)
		}
		err := b.Build(t.Context(), dir, nil)
		t.Logf("with %q: %s %v", conf, errs.KindOf(err), err)
		if !errs.Is(err, errs.Unavailable) || !strings.Contains(hints(err), "free space") {
			t.Errorf("a full disk, with %q: %s\n%s", conf, errs.KindOf(err), hints(err))
		}
		for _, err := range b.Collect(t.Context(), dir) {
			if !errs.Is(err, errs.Conflict) {
				t.Errorf("collected what is not finished: %v", err)
			}
		}
		size("remount,", "3g")
		if err := b.Build(t.Context(), dir, nil); err != nil {
			t.Errorf("with room, and %q: %v", conf, err)
		}
	}
}

// TestRealBitBakeDownloads: sources from a network are kept, also those of recipes that
// came from the cache, and the next build has them when the network is gone.
func TestRealBitBakeDownloads(t *testing.T) {
	checkouts(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/words-1.0.txt" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, "fetched\n")
	}))
	defer server.Close()
	b, rev, seed, dir := fixture(t, Options{Targets: []string{"fetched", "floating"}})
	b.opt.Offline = false
	b.opt.Conf += "CONNECTIVITY_CHECK_URIS = \"\"\n"
	repo := filepath.Join(filepath.Dir(dir), "repo")
	sh := func(script string) string {
		t.Helper()
		out, err := exec.Command("sh", "-ec", script, repo, buildUser).CombinedOutput()
		if err != nil {
			t.Fatal(err, string(out))
		}
		return strings.TrimSpace(string(out))
	}
	// Git refuses a repository of somebody else.
	commit := sh(`mkdir "$0"; cd "$0"; git init -q -b main; echo from git > word; git add word; git -c user.name=A -c user.email=a@example.org commit -q -m one; git rev-parse HEAD; [ $(id -u) != 0 ] || chown -R "$1" "$0"`)
	recipe := filepath.Join(seed.Layers["meta-fixture"], "recipes-fixture", "fetched", "fetched_1.0.bb")
	if err := os.MkdirAll(filepath.Dir(recipe), 0o755); err != nil {
		t.Fatal(err)
	}
	overwrite(t, recipe, `SUMMARY = "Something from a network"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/COPYING.MIT;md5=3da9cfbcb788c80a0384361b4de20420"
inherit allarch
INHIBIT_DEFAULT_DEPS = "1"
SRC_URI = "`+server.URL+`/words-1.0.txt"
SRC_URI[sha256sum] = "f6e379b0639054c51806fd5d67948cbcaebd354b0e91a7683932b043c5c3ba32"
S = "${UNPACKDIR}"
do_configure[noexec] = "1"
do_compile[noexec] = "1"
do_install() {
    install -D -m 0644 words-1.0.txt ${D}${datadir}/${BPN}/words
}
`)
	floating := filepath.Join(filepath.Dir(recipe), "floating_git.bb")
	text := `SUMMARY = "The newest of a repository"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://${COREBASE}/meta/COPYING.MIT;md5=3da9cfbcb788c80a0384361b4de20420"
inherit allarch
INHIBIT_DEFAULT_DEPS = "1"
SRC_URI = "git://` + repo + `;protocol=file;branch=main;destsuffix=from-git"
SRCREV = "${AUTOREV}"
PV = "1.0"
S = "${UNPACKDIR}/from-git"
do_configure[noexec] = "1"
do_compile[noexec] = "1"
do_install() {
    install -D -m 0644 ${S}/word ${D}${datadir}/${BPN}/word
}
`
	overwrite(t, floating, text)
	tarball := "git2_" + strings.ReplaceAll(strings.TrimPrefix(repo, "/"), "/", ".") + ".tar.gz"
	build := func(b *Builder, dir string) (downloads string, released bool, told map[string]string) {
		t.Helper()
		err := b.Prepare(t.Context(), rev, seed, dir)
		if err == nil {
			err = b.Build(t.Context(), dir, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		told = map[string]string{}
		var names []string
		for o, err := range b.Collect(t.Context(), dir) {
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case o.Class == distro.Downloads:
				names, released = append(names, o.Name), released || o.Released
			case o.Name == UnfetchedName || o.Name == FloatingName:
				data, err := os.ReadFile(o.Path)
				if err != nil {
					t.Fatal(err)
				}
				told[o.Name] = string(data)
			}
		}
		slices.Sort(names)
		return strings.Join(names, " "), released, told
	}
	both := tarball + " words-1.0.txt"
	downloads, released, told := build(b, dir)
	if downloads != both || released || told[UnfetchedName] != "" || told[FloatingName] != "floating: SRCREV = \""+commit+"\"\n" {
		t.Fatalf("of the network: downloads %q, released %t, %q", downloads, released, told)
	}
	// Pinned, as the finding says; and the network is gone.
	overwrite(t, floating, strings.Replace(text, "${AUTOREV}", commit, 1))
	server.Close()
	sh(`rm -r "$0"`)
	opt := b.opt
	opt.SState, opt.Downloads = filepath.Join(dir, "topdir", "sstate"), filepath.Join(dir, "topdir", "downloads")
	downloads, released, told = build(New(opt), dir+"-2")
	if downloads != both || !released || len(told) != 0 {
		t.Errorf("of the released downloads: %q, released %t, %q", downloads, released, told)
	}
	opt.Downloads = ""
	downloads, _, told = build(New(opt), dir+"-3")
	if downloads != "" || !strings.Contains(told[UnfetchedName], "words-1.0.txt") || !strings.Contains(told[UnfetchedName], "task floating-1.0-r0:do_fetch") {
		t.Errorf("from nowhere: %q, %q", downloads, told)
	}
	t.Log(told[UnfetchedName])
}
