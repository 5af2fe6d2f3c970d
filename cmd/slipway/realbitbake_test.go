package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/internal/cli"
	"slipway/internal/cycle"
)

// bitbakeUser is who real BitBake runs as when the tests run as root; it is made if
// it is not there, as docs/builder-bitbake.md says.
const bitbakeUser = "slipway-build"

// bitbakeWorkspace makes a workspace of the fixture layer in dir/ws, with BitBake and
// OE-Core as repositories of one commit beside it, at addresses of their own.
func bitbakeWorkspace(t *testing.T) (dir string) {
	t.Helper()
	checkouts := map[string]string{"bitbake": os.Getenv("SLIPWAY_TEST_BITBAKE"), "openembedded-core": os.Getenv("SLIPWAY_TEST_OECORE")}
	if checkouts["bitbake"] == "" || checkouts["openembedded-core"] == "" {
		t.Skip("SKIPPED: real BitBake: SLIPWAY_TEST_BITBAKE and SLIPWAY_TEST_OECORE name no checkouts")
	}
	dir = t.TempDir()
	settings := "build: {path: [layers/meta-fixture/host-tools], offline: true}\n"
	if os.Geteuid() == 0 {
		settings = strings.Replace(settings, "{", "{user: "+bitbakeUser+", ", 1)
		if _, err := user.Lookup(bitbakeUser); err != nil {
			run(t, dir, 0, "useradd", "--system", "--create-home", bitbakeUser)
		}
		for _, d := range []string{dir, filepath.Dir(dir)} { // t.TempDir's parent is for its owner alone
			if err := os.Chmod(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	git := []string{"git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org"}
	for name, from := range checkouts {
		to := filepath.Join(dir, "repos", name)
		if err := os.MkdirAll(to, 0o755); err != nil {
			t.Fatal(err)
		}
		run(t, dir, 0, "sh", "-c", `git -C "$0" archive HEAD | tar x -C "$1"`, from, to)
		run(t, to, 0, append(git, "init", "-q", "-b", "stable")...)
		run(t, to, 0, append(git, "add", "-A", "-f")...)
		run(t, to, 0, append(git, "commit", "-q", "-m", "as released")...)
	}
	ws := filepath.Join(dir, "ws")
	err := os.CopyFS(filepath.Join(ws, "layers", "meta-fixture"), os.DirFS("../../internal/bitbake/testdata/meta-fixture"))
	for name, text := range map[string]string{"settings.yaml": settings, ".gitignore": ".slipway/\npublication/\nsettings.yaml\n", "slipway.yaml": `schema: 1
distribution: fixture
series: {name: "1", released: 2026-12-01, security_support_ends: 2030-12-01, ends: 2031-12-01}
builder: {kind: bitbake, release: wrynose}
layers:
  - {name: bitbake, url: "` + dir + `/repos/bitbake", branch: stable}
  - {name: openembedded-core, url: "` + dir + `/repos/openembedded-core", branch: stable, path: meta}
  - {name: meta-fixture, path: ./layers/meta-fixture}
conf: |
  DISTRO = "fixture"
  SANITY_TESTED_DISTROS = ""
  BBMASK = "/meta/recipes-(?!core/meta/|core/base-files/|core/base-passwd/|kernel/linux/linux-dummy|extended/images/|devtools/run-postinsts/)"
boards:
  - {name: fixture-a}
targets: [packagegroup-fixture]
feeds: {format: rpm, base_url: "https://feeds.example.org/fixture"}
`} {
		err = errors.Join(err, os.WriteFile(filepath.Join(ws, name), []byte(text), 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	run(t, ws, 0, append(git, "init", "-q", "-b", "main")...)
	run(t, ws, 0, append(git, "add", "-A")...)
	run(t, ws, 0, append(git, "commit", "-q", "-m", "a first distribution")...)
	return dir
}

// bitbakeSeries is a workspace of the fixture layer, at work.
type bitbakeSeries struct {
	t       *testing.T
	dir, ws string
}

func newBitBakeSeries(t *testing.T) *bitbakeSeries {
	t.Helper()
	dir := bitbakeWorkspace(t)
	return &bitbakeSeries{t, dir, filepath.Join(dir, "ws")}
}

// try runs slipway, and gives its exit code and what it says on both outputs.
func (s *bitbakeSeries) try(args ...string) (int, string) {
	s.t.Helper()
	var out, talk bytes.Buffer
	code := cli.Main(s.t.Context(), append([]string{"--dir", s.ws}, args...), cli.Stdio{In: strings.NewReader(""), Out: &out, Err: &talk})
	s.t.Logf("slipway %s: exit code %d\n%s%s", strings.Join(args, " "), code, talk.String(), cut(out.String()))
	return code, out.String() + talk.String()
}

func (s *bitbakeSeries) do(args ...string) string {
	s.t.Helper()
	code, out := s.try(args...)
	if code != 0 {
		s.t.Fatalf("slipway %v: exit code %d", args, code)
	}
	return out
}

// edit changes a text in a file of the workspace, and commits it.
func (s *bitbakeSeries) edit(name, old, new string) {
	s.t.Helper()
	path := filepath.Join(s.ws, name)
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), old) {
		s.t.Fatal(name, err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), old, new, 1)), 0o644); err != nil {
		s.t.Fatal(err)
	}
	run(s.t, s.ws, 0, "git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit", "-q", "-a", "-m", "edit "+name)
}

// feed lists what devices are offered, as name and version.
func (s *bitbakeSeries) feed() []string {
	s.t.Helper()
	var list []cycle.FeedPackage
	var out bytes.Buffer
	if code := cli.Main(s.t.Context(), []string{"--dir", s.ws, "feed", "list", "--json"}, cli.Stdio{In: strings.NewReader(""), Out: &out, Err: &out}); code != 0 {
		s.t.Fatal(out.String())
	}
	if err := json.Unmarshal(out.Bytes(), &list); err != nil {
		s.t.Fatal(err)
	}
	var all []string
	for _, p := range list {
		all = append(all, p.Name+"-"+p.EVR)
	}
	return all
}

func (s *bitbakeSeries) has(list []string, want ...string) {
	s.t.Helper()
	for _, w := range want {
		if !slices.Contains(list, w) {
			s.t.Errorf("%s is not in the feed: %v", w, list)
		}
	}
}

// sums are the sha256 sums of the files below a folder that are wanted, by their names.
func sums(t *testing.T, root string, want func(name string) bool) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || !want(e.Name()) {
			return err
		}
		data, err := os.ReadFile(path)
		all[e.Name()] = fmt.Sprintf("%x", sha256.Sum256(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

const recipes = "layers/meta-fixture/recipes-fixture/"

// TestRealBitBakeTwoReleases is a series on real BitBake: a release, a candidate that
// is rejected, a second release after the databases were lost, and the first one again
// on another machine from nothing but what was stored.
func TestRealBitBakeTwoReleases(t *testing.T) {
	s := newBitBakeSeries(t)
	do, edit, feed, has := s.do, s.edit, s.feed, s.has
	ws := s.ws

	do("key", "create", "--no-passphrase")
	// BitBake has nothing against the configuration; the layers are told to be of this machine.
	if out := do("config", "check"); !strings.Contains(out, "1 boards, 0 findings") || strings.Contains(out, "block  ") || !strings.Contains(out, "layers/bitbake:private") {
		t.Errorf("config check: %s", out)
	}
	do("run", "--yes", "--by", "Ada Byron")
	has(feed(), "hello-1.0-r0.0", "libgreet1-1.0-r0.0", "fixture-config-1.0-r0.0", "fixture-board-1.0-r0.0", "hostlibc-2.36-r0.0")

	// A candidate that is rejected burns its number.
	edit(recipes+"hello/files/hello.c", "int main", "int rejected = 1;\nint main")
	if out := do("build"); !strings.Contains(out, "candidate 1.2-c1") {
		t.Error("no candidate 1.2-c1")
	}
	do("reject", "1.2-c1", "--because", "the wrong change")

	// The databases are lost, and the mirrors; the last release has both. One recipe's
	// source is another one, one recipe says the same in other words.
	for _, lost := range []string{"databases", "mirror"} {
		if err := os.RemoveAll(filepath.Join(ws, ".slipway", lost)); err != nil {
			t.Fatal(err)
		}
	}
	edit(recipes+"hello/files/hello.c", "int rejected = 1;", "int changed = 1;")
	edit(recipes+"config/fixture-config_1.0.bb", "do_install() {\n", "do_install() {\n    : in other words\n")
	do("run", "--yes", "--by", "Ada Byron")
	second := feed()
	has(second, "hello-1.0-r0.2", "libgreet1-1.0-r0.2", "fixture-config-1.0-r0.0", "fixture-board-1.0-r0.0", "hostlibc-2.36-r0.0")
	// The log of a task that was restored is that of the build that ran it.
	if log := do("log", "1.2-b2", "hostlibc:do_populate_sysroot"); !strings.Contains(log, "do_populate_sysroot") {
		t.Errorf("log of a restored task: %q", log)
	}

	// Another machine: the workspace elsewhere, without what can be made again, and the
	// layers' repositories are gone.
	moved := filepath.Join(s.dir, "machine-2", "ws")
	if err := errors.Join(os.MkdirAll(filepath.Dir(moved), 0o755), os.Rename(ws, moved), os.RemoveAll(filepath.Join(s.dir, "repos"))); err != nil {
		t.Fatal(err)
	}
	s.ws, ws = moved, moved
	for _, gone := range []string{"work", "mirror", "layers", "databases", "quarantine"} {
		if err := os.RemoveAll(filepath.Join(ws, ".slipway", gone)); err != nil {
			t.Fatal(err)
		}
	}
	// Restored, and bit for bit what was published.
	restored := filepath.Join(s.dir, "restored")
	do("restore", "1.1", "--into", restored)
	packages := func(name string) bool { return strings.HasSuffix(name, ".rpm") && !strings.HasSuffix(name, ".src.rpm") } // those are artifacts
	pool, got := sums(t, filepath.Join(ws, "publication"), packages), sums(t, restored, packages)
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if t.Logf("%s  %s", got[name], name); got[name] != pool[name] {
			t.Errorf("%s was restored as %s, published is %s", name, got[name], pool[name])
		}
	}
	if len(got) < 10 {
		t.Errorf("%d packages were restored", len(got))
	}

	out := do("rebuild", "1.1", "--cached")
	m := regexp.MustCompile(`sstate: (\d+) of (\d+) objects found, (\d+) from mirrors`).FindStringSubmatch(out)
	if m == nil || m[1] != m[2] || m[1] != m[3] || m[1] == "0" || !strings.Contains(out, "built again: identical") {
		t.Errorf("release 1.1 on another machine: %v", m)
	}
	// And without the cache: every package again, from its sources.
	if out := do("rebuild", "1.1"); !strings.Contains(out, "built again: identical") {
		t.Errorf("release 1.1 from its sources: %s", out)
	}
}

// cut keeps what a person needs of a long output.
func cut(s string) string {
	if len(s) > 4000 {
		return s[:2000] + "\n...\n" + s[len(s)-2000:]
	}
	return s
}

// TestRealBitBakeRefusals: what a person did wrong is named with its cure, and nothing
// is stored as if it were whole.
func TestRealBitBakeRefusals(t *testing.T) {
	dir := bitbakeWorkspace(t)
	ws := filepath.Join(dir, "ws")
	definition, err := os.ReadFile(filepath.Join(ws, "slipway.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	slipway := func(args ...string) (int, string) {
		var out bytes.Buffer
		return cli.Main(t.Context(), append([]string{"--dir", ws}, args...), cli.Stdio{In: strings.NewReader(""), Out: &out, Err: &out}), out.String()
	}
	if code, out := slipway("key", "create", "--no-passphrase"); code != 0 {
		t.Fatal(out)
	}
	for _, tt := range []struct {
		name, old, new string
		code           int
		says           []string
	}{
		{"a layer that does not answer", "/repos/bitbake", "/repos/nowhere", 1, []string{"layer bitbake: fetch", "git ls-remote"}},
		{"a commit that is gone", "branch: stable}\n  - {name: open", "commit: " + strings.Repeat("ab", 20) + "}\n  - {name: open", 5, []string{"layer bitbake", "has no commit"}},
		{"another release", "release: wrynose", "release: scarthgap", 2, []string{"not of scarthgap", "layer meta-fixture is for wrynose"}},
		{"no BitBake", "  - {name: bitbake, url: \"" + dir + "/repos/bitbake\", branch: stable}\n", "", 2, []string{"no layer is BitBake", "add a layer {name: bitbake"}},
		{"settings that make no distribution", `DISTRO = "fixture"`, "DISTRO = \"fixture\"\n  EXTRA_IMAGE_FEATURES = \"allow-empty-password\"\n  PACKAGE_FEED_URIS = \"http://x\"", 2, []string{"open-allow-empty-password", "feed-uris", "take PACKAGE_FEED_URIS out"}},
	} {
		text := strings.Replace(string(definition), tt.old, tt.new, 1)
		if text == string(definition) {
			t.Fatal(tt.name)
		}
		if err := os.WriteFile(filepath.Join(ws, "slipway.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		code, out := slipway("build")
		if code != tt.code {
			t.Errorf("%s: exit code %d\n%s", tt.name, code, out)
		}
		for _, s := range tt.says {
			if !strings.Contains(out, s) {
				t.Errorf("%s: %q is not told:\n%s", tt.name, s, out)
			}
		}
	}
	// The settings are judged without a build, too.
	if code, out := slipway("config", "check"); code != 2 || !strings.Contains(out, "open-allow-empty-password") || !strings.Contains(out, "cure: take PACKAGE_FEED_URIS out") {
		t.Errorf("config check: exit code %d\n%s", code, out)
	}
	if _, out := slipway("status", "--json"); strings.Contains(out, `"candidate":`) {
		t.Errorf("a refused build left a candidate:\n%s", out)
	}
	var left []byte
	for range 60 { // a server that has let go of its lock may still be ending
		if left, _ = exec.Command("pgrep", "-a", "-f", filepath.Join(ws, ".slipway")).Output(); len(bytes.TrimSpace(left)) == 0 {
			return
		}
		time.Sleep(time.Second)
	}
	t.Errorf("BitBake is left running: %s", left)
}
