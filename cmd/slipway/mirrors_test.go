package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/crashtest"
)

const (
	anchorObject = "aa/bb/sstate:anchor:all-boat-linux:1.0:r0:allarch:14:aabb00000000000000000000000000000000000000000000000000000000_package.tar.zst"
	rudderObject = "cc/dd/sstate:rudder:x86_64-boat-linux:1.0:r0:x86_64:14:ccdd00000000000000000000000000000000000000000000000000000000_package.tar.zst"
)

// mirrored is what a release of the workspace of [harbor] has below sstate/ and downloads/.
var mirrored = map[string]string{
	"sstate/" + anchorObject:              "an anchor",
	"sstate/" + anchorObject + ".siginfo": "how it was made",
	"sstate/" + rudderObject:              "a rudder",
	"downloads/anchor-1.0.tar.gz":         "iron",
	"downloads/rudder-1.0.tar.gz":         "wood",
}

// harbor is [unbuilt] with candidate 1.1-c1 approved.
func harbor(t *testing.T) string {
	t.Helper()
	dir := unbuilt(t)
	again(t, dir, "build", "--import", filepath.Join(dir, "ci"))
	again(t, dir, "test")
	again(t, dir, "approve", "1.1-c1", "--by", "Ada Byron")
	return dir
}

// unbuilt makes a workspace whose builds another CI makes, with its cache and sources
// public, and what that CI left in its folder ci; nothing of a BitBake is needed for it.
func unbuilt(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ws")
	ci := filepath.Join(dir, "ci")
	if err := os.MkdirAll(filepath.Join(ci, "tmp/deploy"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(bitbakeFeed(t, ci), filepath.Join(ci, "tmp/deploy/rpm")); err != nil {
		t.Fatal(err)
	}
	write := func(base, name, text string) {
		path := filepath.Join(base, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write(dir, "slipway.yaml", `schema: 1
distribution: boat
series: {name: "1", released: 2026-12-01, security_support_ends: 2030-12-01, ends: 2031-12-01}
builder: {kind: import}
layers: [{name: boat, path: layers/meta-boat}]
boards: [{name: harbor}]
feeds: {base_url: "https://feeds.example.org/boat"}
publish: {public: [packages, sstate, downloads]}
gate: {checks: {installs: off, upgrades: off, artifacts: warn, bitbake-settings: warn}}
`)
	write(dir, ".gitignore", ".slipway/\npublication/\nci/\n")
	write(dir, "layers/meta-boat/conf/layer.conf", "")
	git := func(args ...string) string {
		return run(t, dir, 0, append([]string{"git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org"}, args...)...)
	}
	git("init", "-q", "-b", "main")
	git("add", "-A")
	git("commit", "-q", "-m", "first")
	write(ci, "buildhistory/metadata-revs", "meta-boat         = main:"+strings.TrimSpace(git("rev-parse", "HEAD"))+"\n")
	write(ci, "environment-harbor.txt", "MACHINE=\"harbor\"\nDISTRO_VERSION=\"1.1\"\nIMAGE_VERSION_SUFFIX=\"-1.1\"\nTUNE_PKGARCH=\"x86_64\"\nMACHINE_ARCH=\"harbor\"\nPACKAGE_ARCHS=\"all any noarch x86_64 harbor\"\nPACKAGE_EXTRA_ARCHS=\"x86_64\"\n")
	for name, text := range mirrored {
		write(ci, strings.Replace(name, "sstate/", "sstate-cache/", 1), text)
	}
	write(ci, "tmp/deploy/sources/all-boat-linux/anchor-1.0-r0/anchor-1.0.tar.gz", "iron")
	again(t, dir, "key", "create", "--no-passphrase")
	return dir
}

// TestImportSurvivesKills kills an import at its writes: after each kill there is no
// candidate, or the whole one; the same command again ends with it.
func TestImportSurvivesKills(t *testing.T) {
	from := unbuilt(t)
	command, dir := copies(t, from)
	killed := crashtest.KillEach(t, crashtest.Options{Command: command("import"), Sample: 9}, func(t *testing.T, n int) {
		if len(status(t, dir(n)).Builds) == 0 || status(t, dir(n)).Builds[0].Status != "testing" {
			again(t, dir(n), "build", "--import", filepath.Join(dir(n), "ci"))
		}
		if s := status(t, dir(n)); len(s.Builds) != 1 || s.Builds[0].ID != "1.1-b1" || s.Builds[0].Status != "testing" {
			t.Errorf("after kill %d and the same command again: %+v", n, s)
		}
		again(t, dir(n), "test")
		again(t, dir(n), "approve", "1.1-c1", "--by", "Ada Byron")
		again(t, dir(n), "publish", "1.1")
		again(t, dir(n), "verify")
		for name, text := range mirrored {
			if data, err := os.ReadFile(filepath.Join(dir(n), "publication", name)); err != nil || string(data) != text {
				t.Errorf("%s is %q, %v", name, data, err)
			}
		}
		os.RemoveAll(dir(n))
	})
	if killed == 0 {
		t.Error("no run was killed")
	}
}

// TestMirrorsSurviveKills kills the publishing of cache and sources at its writes. After
// each kill every archive that is public is whole and has a signature, which is there
// before it; the same command again brings the rest.
func TestMirrorsSurviveKills(t *testing.T) {
	from := harbor(t)
	command, dir := copies(t, from)
	killed := crashtest.KillEach(t, crashtest.Options{Command: command("mirrors"), Sample: 12}, func(t *testing.T, n int) {
		check := func(when string, all bool) {
			for name, text := range mirrored {
				path := filepath.Join(dir(n), "publication", name)
				data, err := os.ReadFile(path)
				if os.IsNotExist(err) && !all {
					continue
				}
				if err != nil || string(data) != text {
					t.Errorf("%s: %s is %q, %v", when, name, data, err)
				}
				if _, err := os.Stat(path + ".sig"); err != nil && strings.HasSuffix(name, ".tar.zst") {
					t.Errorf("%s: an archive without a signature: %v", when, err)
				}
			}
			if _, err := os.Stat(filepath.Join(dir(n), "publication/sstate")); err == nil {
				again(t, dir(n), "sstate", "verify", filepath.Join(dir(n), "publication/sstate"))
			}
		}
		check(fmt.Sprintf("after kill %d", n), false)
		again(t, dir(n), "publish", "1.1")
		check("after the same command again", true)
		again(t, dir(n), "verify")
		os.RemoveAll(dir(n))
	})
	if killed == 0 {
		t.Error("no run was killed")
	}
}

// TestTombstoneOfTheCacheSurvivesKills kills a removal that reaches the build cache: each
// object is as it was or the notice, and the same command again ends with the notice, in
// the publication, and with nothing of it in the artifact store.
func TestTombstoneOfTheCacheSurvivesKills(t *testing.T) {
	from := harbor(t)
	again(t, from, "publish", "1.1")
	command, dir := copies(t, from)
	killed := crashtest.KillEach(t, crashtest.Options{Command: command("bury"), Sample: 8}, func(t *testing.T, n int) {
		read := func(name string) []byte {
			data, err := os.ReadFile(filepath.Join(dir(n), "publication", name))
			if err != nil {
				t.Error(err)
			}
			return data
		}
		if got := read("sstate/" + anchorObject); string(got) != "an anchor" && !bytes.Contains(got, []byte("a court")) {
			t.Errorf("after kill %d: %q", n, got)
		}
		if s := status(t, dir(n)); n > 0 && (!strings.HasPrefix(s.Next, "slipway build") || serial(t, dir(n)) == 1) {
			again(t, dir(n), "tombstone", "anchor-1.0-r0.3.noarch", "--because", "a court", "--by", "Ada Byron", "--sources")
		}
		notice := read("1/removals/2.json")
		for _, name := range []string{"sstate/" + anchorObject, "sstate/" + anchorObject + ".siginfo", "downloads/anchor-1.0.tar.gz"} {
			if !bytes.Equal(read(name), notice) {
				t.Errorf("%s is not the notice", name)
			}
		}
		for _, name := range []string{"sstate/" + rudderObject, "downloads/rudder-1.0.tar.gz"} {
			if string(read(name)) != mirrored[name] {
				t.Errorf("%s, of another recipe, was touched", name)
			}
		}
		if out := run(t, dir(n), 1, "grep", "-rlx", "-e", "an anchor", "-e", "iron", ".slipway/store"); out != "" {
			t.Errorf("the artifact store has it: %s", out)
		}
		again(t, dir(n), "verify")
		os.RemoveAll(dir(n))
	})
	if killed == 0 {
		t.Error("no run was killed")
	}
}
