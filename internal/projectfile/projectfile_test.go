package projectfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/config"
	"slipway/internal/errs"
)

func files(t *testing.T, all map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range all {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	a40 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	b40 = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

var kas = map[string]string{
	".git/HEAD": "",
	"kas/project.yml": `header:
  version: 14
  includes:
    - kas/base.yml
machine: qemuarm64
target:
  - core-image-minimal
  - tool
repos:
  project:
    layers:
      meta-project:
  meta-openembedded:
    url: https://git.openembedded.org/meta-openembedded
    branch: wrynose
    layers:
      meta-oe:
      meta-python:
      meta-xfce: disabled
local_conf_header:
  20-more: |
    B = "2"
`,
	"kas/base.yml": `header: {version: 14}
machine: qemux86-64
distro: nodistro
defaults: {repos: {branch: wrynose}}
env:
  COLOUR: red
  DL_DIR: /downloads
repos:
  bitbake:
    url: https://git.openembedded.org/bitbake
    branch: "2.18"
    layers: {bitbake: disabled}
  openembedded-core:
    url: https://git.openembedded.org/openembedded-core
    layers:
      meta:
  docs:
    url: https://git.yoctoproject.org/yocto-docs
    commit: ` + b40 + `
    layers: {any: excluded}
local_conf_header:
  10-first: |
    A = "1"
bblayers_conf_header:
  standard: |
    POKY_BBLAYERS_CONF_VERSION = "2"
    BBPATH = "${TOPDIR}"
    BBFILES ?= ""
    EXTRA = "x"
`,
	"kas/project.lock.yml": `header: {version: 14}
overrides:
  repos:
    openembedded-core: {commit: ` + a40 + `}
`,
	"meta-project/conf/layer.conf": "",
}

func TestKas(t *testing.T) {
	t.Parallel()
	dir := files(t, kas)
	p, err := ReadKas(filepath.Join(dir, "kas/project.yml"))
	if err != nil || len(p.Left) != 0 {
		t.Fatal(err, p.Left)
	}
	got := p.LayerList()
	if d := cmp.Diff([]Layer{
		{Name: "meta-project", Path: "layers/meta-project", From: filepath.Join(dir, "meta-project")},
		{Name: "meta-oe", URL: "https://git.openembedded.org/meta-openembedded", Branch: "wrynose", Path: "meta-oe"},
		{Name: "meta-python", URL: "https://git.openembedded.org/meta-openembedded", Branch: "wrynose", Path: "meta-python"},
		{Name: "bitbake", URL: "https://git.openembedded.org/bitbake", Branch: "2.18"},
		{Name: "openembedded-core", URL: "https://git.openembedded.org/openembedded-core", Branch: "wrynose", Commit: a40, Path: "meta"},
	}, got); d != "" {
		t.Error(d)
	}
	text := p.Definition("halyard", "", "https://feeds.example.org/halyard", "project.yml", time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC))
	def, err := config.ParseDefinition("slipway.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, want := range []string{`DISTRO = "nodistro"`, `COLOUR ?= "red"`, `A = "1"`, `B = "2"`, `EXTRA = "x"`} {
		if !strings.Contains(def.Conf, want) {
			t.Errorf("conf lacks %s:\n%s", want, def.Conf)
		}
	}
	for _, not := range []string{"DL_DIR", "BBPATH", "CONF_VERSION"} {
		if strings.Contains(def.Conf, not) {
			t.Errorf("conf has %s", not)
		}
	}
	if strings.Index(def.Conf, `A = "1"`) > strings.Index(def.Conf, `B = "2"`) || strings.Index(def.Conf, "COLOUR") > strings.Index(def.Conf, `A = "1"`) {
		t.Error("the order is not that of kas: ", def.Conf)
	}
	if def.Builder.Release != "wrynose" || def.Boards[0].Name != "qemuarm64" || def.Boards[0].Images[0] != "core-image-minimal" || fmt.Sprint(def.Targets) != "[tool]" {
		t.Errorf("%+v %+v %v", def.Builder, def.Boards, def.Targets)
	}
}

// TestKasLeft: what has no place is told with its place, all of it at once.
func TestKasLeft(t *testing.T) {
	t.Parallel()
	dir := files(t, map[string]string{"kas.yml": `header:
  version: 14
  includes:
    - {repo: other, file: kas.yml}
repos:
  core:
    url: https://example.org/core
    tag: v1
    patches:
      p1: {repo: core, path: x.patch}
  lost:
    url: https://example.org/lost
  hg:
    url: https://example.org/hg
    type: hg
    branch: default
    frobnicate: 1
env:
  TOKEN:
buildtools: {version: "5.0"}
bblayers_conf_header:
  mine: |
    BBLAYERS += "/x"
new_key: 1
`})
	p, err := ReadKas(filepath.Join(dir, "kas.yml"))
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]int{}
	for _, e := range p.Left {
		var x *errs.Error
		if !errors.As(e, &x) || x.Pos.Line == 0 || x.Pos.File != "kas.yml" {
			t.Errorf("no place: %v", e)
			continue
		}
		said[x.Error()] = x.Pos.Line
	}
	for want, line := range map[string]int{"include out of another repository": 4, "tag v1 names no commit": 8, "core is patched": 9, "lost has neither commit nor branch": 11, "of type hg": 15, "frobnicate": 17, "TOKEN comes from": 19, "buildtools": 20, "sets BBLAYERS": 22, "new_key": 24} {
		found := false
		for text, at := range said {
			if strings.Contains(text, want) {
				found = true
				if at != line {
					t.Errorf("%q is told at line %d, not %d", want, at, line)
				}
			}
		}
		if !found {
			t.Errorf("%q is not told: %v", want, said)
		}
	}
	if len(p.Left) != 10 {
		t.Errorf("%d findings", len(p.Left))
	}
}

func TestKasRefuses(t *testing.T) {
	t.Parallel()
	bomb := "header: {version: 1}\na: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"
	dir := files(t, map[string]string{"a.yml": "header: {version: 1, includes: [b.yml]}\n", "b.yml": "header: {version: 1, includes: [a.yml]}\n", "list.yml": "- a\n", "broken.yml": "a: [\n", "nothing.yml": "",
		"bare.yml": "machine: x\n", "gone.yml": "header: {version: 1, includes: [nowhere.yml]}\n", "bomb.yml": bomb})
	for name, want := range map[string]string{"a.yml": "includes itself", "list.yml": "no mapping", "broken.yml": "cannot be read", "nothing.yml": "no mapping", "bare.yml": "no header", "gone.yml": "nowhere.yml", "absent.yml": "there is no file", "bomb.yml": "too deep"} {
		_, err := ReadKas(filepath.Join(dir, name))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

var setup = map[string]string{
	"poky.conf.json": `{
    "description": "A distribution",
    "expires": "2030-05-31",
    "version": "1.0",
    "sources": {
        "bitbake": {"git-remote": {"uri": "https://git.openembedded.org/bitbake", "branch": "2.18", "rev": "2.18"}},
        "openembedded-core": {"git-remote": {"remotes": {"origin": {"uri": "https://git.openembedded.org/openembedded-core"}}, "branch": "wrynose", "rev": "wrynose"}},
        "meta-yocto": {"git-remote": {"uri": "https://git.yoctoproject.org/meta-yocto", "rev": "` + a40 + `"}},
        "yocto-docs": {"git-remote": {"uri": "https://git.yoctoproject.org/yocto-docs", "branch": "wrynose", "rev": "wrynose"}}
    },
    "bitbake-setup": {"configurations": [{
        "bb-layers": ["openembedded-core/meta", "meta-yocto/meta-poky"],
        "bb-layers-file-relative": ["meta-mine"],
        "oe-fragments-one-of": {
            "machine": {"description": "m", "options": [{"name": "machine/qemux86-64", "description": ""}, "machine/qemuarm64"]},
            "distro": {"description": "d", "options": ["distro/poky", "distro/poky-tiny"]}
        },
        "configurations": [
            {"name": "plain", "description": "plain"},
            {"name": "more", "description": "more of it", "oe-fragments": ["core/yocto/sbom-cve-check"]}
        ]
    }]}
}`,
	"meta-mine/conf/layer.conf":    "",
	"sources-fixed-revisions.json": `{"sources": {"openembedded-core": {"git-remote": {"rev": "` + b40 + `"}}}}`,
}

func TestSetup(t *testing.T) {
	t.Parallel()
	dir := files(t, setup)
	file := filepath.Join(dir, "poky.conf.json")
	_, err := ReadSetup(file, Choices{})
	if err == nil || !strings.Contains(err.Error(), "several configurations") || !strings.Contains(fmt.Sprint(errs.Hints(err)), "plain, more") {
		t.Error(err, errs.Hints(err))
	}
	_, err = ReadSetup(file, Choices{Configuration: "more", Fragments: []string{"machine/nope"}})
	for _, want := range []string{"chosen for machine", "chosen for distro", "nothing offers machine/nope"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not told: %v", want, err)
		}
	}
	p, err := ReadSetup(file, Choices{Configuration: "more", Fragments: []string{"machine/qemux86-64", "machine/qemuarm64", "distro/poky"}})
	if err != nil || len(p.Left) != 0 {
		t.Fatal(err, p.Left)
	}
	if d := cmp.Diff([]Layer{
		{Name: "bitbake", URL: "https://git.openembedded.org/bitbake", Branch: "2.18"},
		{Name: "openembedded-core", URL: "https://git.openembedded.org/openembedded-core", Branch: "wrynose", Commit: b40, Path: "meta"},
		{Name: "meta-poky", URL: "https://git.yoctoproject.org/meta-yocto", Commit: a40, Path: "meta-poky"},
		{Name: "meta-mine", Path: "layers/meta-mine", From: filepath.Join(dir, "meta-mine")},
	}, p.LayerList()); d != "" {
		t.Error(d)
	}
	def, err := config.ParseDefinition("slipway.yaml", []byte(p.Definition("mine", "", "https://feeds.example.org/mine", "poky.conf.json", time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC))))
	if err != nil {
		t.Fatal(err)
	}
	if def.Series.Ends != "2030-05-31" || def.Title != "more of it" || fmt.Sprint(def.BoardNames()) != "[qemux86-64 qemuarm64]" || !strings.Contains(def.Conf, `OE_FRAGMENTS += "core/yocto/sbom-cve-check"`) || !strings.Contains(def.Conf, `DISTRO = "poky"`) {
		t.Errorf("%+v\n%s", def.Series, def.Conf)
	}
	// What a setup keeps of it has the choices in it.
	var data any
	if err := json.Unmarshal([]byte(setup["poky.conf.json"]), &data); err != nil {
		t.Fatal(err)
	}
	kept, _ := json.Marshal(map[string]any{"type": "local", "data": data, "bitbake-config": map[string]any{"name": "plain", "description": "plain", "bb-layers": []string{"openembedded-core/meta"},
		"oe-fragments-one-of": map[string]any{"machine": map[string]any{"options": []string{"machine/a", "machine/b"}}}, "oe-fragment-choices": map[string]string{"machine": "machine/b"}}})
	if err := os.WriteFile(filepath.Join(dir, "config-upstream.json"), kept, 0o644); err != nil {
		t.Fatal(err)
	}
	p, err = ReadSetup(filepath.Join(dir, "config-upstream.json"), Choices{})
	if err != nil || fmt.Sprint(p.Machines) != "[b]" || len(p.LayerList()) != 2 {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestSetupLeft(t *testing.T) {
	t.Parallel()
	dir := files(t, map[string]string{"x.conf.json": `{"description": "x", "version": "1.0", "other": 1,
"sources": {"core": {"git-remote": {"uri": "https://example.org/core", "branch": "a", "rev": "v1"}}, "here": {"local": {"path": "relative"}}},
"bitbake-setup": {"configurations": [{"name": "x", "description": "x", "bb-layers": ["core/meta", "nowhere/meta"],
"oe-template": "t", "bb-env-passthrough-additions": ["HOME"], "bb-layers-file-relative": ["absent"]}]}}`, "y.conf.json": `{"version": "2.0", "bitbake-setup": {}}`, "z.conf.json": `{"a": 1}`})
	p, err := ReadSetup(filepath.Join(dir, "x.conf.json"), Choices{})
	if err != nil {
		t.Fatal(err)
	}
	text := p.Left.Error()
	for _, want := range []string{"other", "neither a commit nor the branch", "not absolute", "nowhere/meta lies in none", "oe-template", "bb-env-passthrough", "there is no layer in"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not told: %s", want, text)
		}
	}
	for name, want := range map[string]string{"y.conf.json": "of version", "z.conf.json": "no key bitbake-setup"} {
		if _, err := ReadSetup(filepath.Join(dir, name), Choices{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBitBakesOwnConfigurations reads those that come with BitBake.
func TestBitBakesOwnConfigurations(t *testing.T) {
	t.Parallel()
	bitbake := os.Getenv("SLIPWAY_TEST_BITBAKE")
	if bitbake == "" {
		t.Skip("SKIPPED: BitBake's own configurations of bitbake-setup: SLIPWAY_TEST_BITBAKE names no checkout")
	}
	p, err := ReadSetup(filepath.Join(bitbake, "default-registry", "configurations", "poky-wrynose.conf.json"), Choices{Configuration: "poky", Fragments: []string{"machine/qemux86-64", "distro/poky"}})
	if err != nil || len(p.Left) != 0 || len(p.LayerList()) != 4 || p.Release() != "wrynose" {
		t.Errorf("%+v, %v", p, err)
	}
}

func FuzzRead(f *testing.F) {
	for _, text := range kas {
		f.Add([]byte(text))
	}
	for _, text := range setup {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		file := filepath.Join(dir, "x.conf.json")
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if p, err := ReadKas(file); err == nil {
			_ = p.Definition("x", "", "https://example.org", "x", time.Unix(0, 0))
		}
		if p, err := ReadSetup(file, Choices{}); err == nil {
			_ = p.Definition("x", "", "https://example.org", "x", time.Unix(0, 0))
		}
	})
}
