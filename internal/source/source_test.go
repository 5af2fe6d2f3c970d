package source

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/internal/bitbake"
	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/hashserv/hashdb"
	"slipway/internal/layers"
	"slipway/internal/prserv/fork"
	"slipway/internal/prserv/prdb"
	"slipway/internal/sign"
	"slipway/internal/store"
)

const hash64 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// release makes a set as a workspace has it: one layer of a public repository, one of
// the workspace with a recipe that is not public, databases, cache, a source.
func release(t *testing.T, exclude string) Set {
	t.Helper()
	ctx := t.Context()
	dir := t.TempDir()
	blobs, err := store.OpenBlobs(filepath.Join(dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	s := Set{Version: "1.2", Blobs: blobs, KeyIDs: []string{"0123456789ABCDEF"}, Keys: []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n")}
	text := `schema: 1
distribution: halyard
title: Halyard Linux
series: {name: "1", released: 2026-12-01, security_support_ends: 2030-12-01, ends: 2031-12-01}
builder: {kind: bitbake, release: wrynose}
layers:
  - {name: bitbake, url: "https://git.example.org/bitbake", branch: "2.18"}
  - {name: openembedded-core, url: "https://git.example.org/openembedded-core.git", branch: wrynose, path: meta}
  - {name: meta-halyard, path: ./layers/meta-halyard}
boards: [{name: qemux86-64, images: [core-image-minimal]}, {name: qemuarm64}]
targets: [packagegroup-core-base-utils]
feeds: {base_url: "https://feeds.example.org/halyard"}
publish: {public: [packages, sstate, downloads]` + exclude + "}\n"
	if s.Definition, err = config.ParseDefinition("slipway.yaml", []byte(text)); err != nil {
		t.Fatal(err)
	}
	s.Policy = s.Definition.PublicPolicy()
	repo := filepath.Join(dir, "repo")
	err = layers.CreateRepo(ctx, repo, []layers.Commit{{Message: "first", Author: "Ada <ada@example.org>", Date: time.Unix(1, 0), Files: map[string][]byte{
		"slipway.yaml":                                           []byte("s3cr3t: names"),
		"layers/meta-halyard/conf/layer.conf":                    []byte("BBFILE_COLLECTIONS += \"halyard\"\n"),
		"layers/meta-halyard/recipes-x/hello/hello_1.0.bb":       []byte("LICENSE = \"MIT\"\n"),
		"layers/meta-halyard/recipes-x/vendor/vendor-x_1.0.bb":   []byte("LICENSE = \"CLOSED\"\n"),
		"layers/meta-halyard/recipes-x/vendor/files/vendor.blob": []byte("s3cr3t"),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	commit, err := exec.Command("git", "-C", repo, "rev-parse", "HEAD").Output()
	if err != nil {
		t.Fatal(err)
	}
	head := strings.TrimSpace(string(commit))
	bundle := filepath.Join(dir, "bundle")
	if err := layers.Bundle(ctx, repo, head, bundle); err != nil {
		t.Fatal(err)
	}
	s.Revision = distro.Revision{Builder: distro.BuilderPin{Kind: "bitbake", Tools: map[string]string{"release": "wrynose", "host": "debian-12"}}, Layers: []distro.LayerPin{
		{Name: "bitbake", URL: "https://git.example.org/bitbake", Path: ".", Commit: strings.Repeat("a", 40)},
		{Name: "openembedded-core", URL: "https://git.example.org/openembedded-core.git", Path: "meta", Commit: strings.Repeat("b", 40)},
		{Name: "meta-halyard", Path: "layers/meta-halyard", Commit: head}}}
	base, err := fork.Open(filepath.Join(dir, "databases.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []prdb.Row{{Version: "hello-1.0-r0", Pkgarch: "core2_64", Checksum: "x", Value: "0"}, {Version: "hello-1.0-r0", Pkgarch: "core2_64", Checksum: "y", Value: "1"}, {Version: "vendor-x-1.0-r0", Pkgarch: "core2_64", Checksum: "z", Value: "0"}} {
		err = errors.Join(err, base.PR.Put(ctx, r))
	}
	err = errors.Join(err, base.Hash.Insert(ctx, hashdb.Row{Method: "m", Taskhash: hash64, Unihash: hash64}, hashdb.Row{Method: "m", Taskhash: hash64, Outhash: hash64, Created: time.Unix(5, 0), Extra: hashdb.Extra{PN: "vendor-x", Siginfo: "s3cr3t"}}), base.Close())
	if err != nil {
		t.Fatal(err)
	}
	put := func(class distro.Class, name, text string) {
		d, n, err := blobs.Put(ctx, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		s.Artifacts = append(s.Artifacts, distro.Artifact{Class: class, Name: name, Digest: d, Size: n})
	}
	for name, path := range map[string]string{"layers/meta-halyard.bundle": bundle, "databases.db": filepath.Join(dir, "databases.db")} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		class := distro.Configuration
		if name == "databases.db" {
			class = distro.PRDatabase
		}
		put(class, name, string(data))
	}
	put(distro.Configuration, "bitbake/local.conf", "MACHINE ?= \"qemux86-64\"\nDISTRO = \"halyard\"\n\nrequire conf/slipway.conf\n")
	put(distro.FeedConfiguration, "halyard.repo", "[halyard]\n")
	put(distro.SState, "54/88/sstate:hello:core2-64-halyard-linux:1.0:r0:core2-64:14:"+hash64+"_package.tar.zst", "an archive")
	put(distro.SState, "54/88/sstate:hello:core2-64-halyard-linux:1.0:r0:core2-64:14:"+hash64+"_package.tar.zst.siginfo", "inputs")
	put(distro.SState, "aa/bb/sstate:vendor-x:core2-64-halyard-linux:1.0:r0:core2-64:14:"+hash64+"_package.tar.zst", "another")
	put(distro.SState, "aa/cc/sstate:tool-native:x86_64-linux:1.0:r0:x86_64:14:"+hash64+"_populate_sysroot.tar.zst", "a tool")
	put(distro.SBOM, "licenses/x86_64/tool-native/recipeinfo", "LICENSE: MIT\nPR: r0\nPV: 1.0\n")
	put(distro.SBOM, "licenses/core2_64/vendor-x/recipeinfo", "LICENSE: CLOSED\nPR: r0\nPV: 1.0\n")
	put(distro.Downloads, "hello-1.0.tar.gz", "source")
	put(distro.Downloads, "vendor.blob", "s3cr3t")
	put(distro.Sources, "core2-64-halyard-linux/hello-1.0-r0/hello-1.0.tar.gz", "source")
	put(distro.Sources, "core2-64-halyard-linux/vendor-x-1.0-r0/vendor.blob", "s3cr3t")
	s.Packages = []distro.PackageRecord{{Name: "hello", Version: "1.0", Release: "r0.1", Arch: "core2_64", Scope: "core2_64", SourceName: "hello", License: "MIT", HeaderDigest: "sha256:1", Digest: "sha256:2"},
		{Name: "vendor-x", Version: "1.0", Release: "r0.0", Arch: "core2_64", Scope: "core2_64", SourceName: "vendor-x", License: "CLOSED", Internal: "rule"}}
	return s
}

const closed = `, exclude: [{license: CLOSED}, {recipe: "vendor-*"}]`

func options(format string) Options {
	return Options{Format: format, SState: "https://feeds.example.org/halyard/sstate", Downloads: "https://feeds.example.org/halyard/downloads", Port: 18585}
}

func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			data, err := os.ReadFile(path)
			rel, _ := filepath.Rel(dir, path)
			out[rel] = string(data)
			return err
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestExport(t *testing.T) {
	t.Parallel()
	s := release(t, closed)
	for _, format := range Formats {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			into := filepath.Join(t.TempDir(), "out")
			x, err := Export(t.Context(), s, options(format), into)
			if err != nil {
				t.Fatal(err)
			}
			if x.Packages != 1 || x.Numbers != 2 || x.Unihash != 1 || !slices.Equal(x.Layers, []string{"bitbake", "openembedded-core", "meta-halyard"}) {
				t.Errorf("%+v", x)
			}
			got := tree(t, into)
			for name, text := range got {
				if strings.Contains(text, "vendor") || strings.Contains(text, "s3cr3t") || strings.Contains(name, "vendor") {
					t.Errorf("%s tells what is not public: %.300q", name, text)
				}
				if strings.Contains(text, into) {
					t.Errorf("%s has a path of this machine", name)
				}
			}
			for _, want := range []string{"README.md", "prepare", ManifestName, "packages.json", "keys/sstate.asc", "feed-configuration/halyard.repo", "layers/meta-halyard/recipes-x/hello/hello_1.0.bb", "databases/prserv.sqlite3", "databases/hashserv.db"} {
				if _, ok := got[want]; !ok {
					t.Errorf("%s is missing", want)
				}
			}
			if out, err := exec.Command("sh", "-n", filepath.Join(into, "prepare")).CombinedOutput(); err != nil {
				t.Errorf("prepare: %v: %s", err, out)
			}
			settings := got[map[string]string{Kas: "kas.yml", Setup: "layers/slipway-source/conf/fragments/release.conf", Conf: "conf/slipway-source.conf"}[format]]
			for _, want := range []string{`DISTRO_VERSION:forcevariable = "1.2"`, `SSTATE_MIRRORS:prepend = "file://.* https://feeds.example.org/halyard/sstate/PATH;downloadfilename=PATH "`, `BB_HASHSERVE_UPSTREAM = "127.0.0.1:18586"`, `PRSERV_HOST = "127.0.0.1:18585"`,
				`SSTATE_VALID_SIGS = "0123456789ABCDEF"`, `SSTATE_VERIFY_SIG = "1"`, `SOURCE_MIRROR_URL = "https://feeds.example.org/halyard/downloads"`} {
				if !strings.Contains(settings, want) {
					t.Errorf("not set: %s", want)
				}
			}
			// BitBake compares the words as they are written.
			if format == Setup && !strings.Contains(got["layers/slipway-source/conf/layer.conf"], `LAYERSERIES_COMPAT_slipway-source = "wrynose"`) {
				t.Error("the layer is for no release: ", got["layers/slipway-source/conf/layer.conf"])
			}
			if strings.Contains(got["conf/local.conf"], "conf/slipway.conf") {
				t.Error("the release's own slipway.conf is required")
			}
			m, err := ReadManifest(into)
			if err != nil || m.PR.Known.Value != "1" || m.Hash.Unihash != hash64 || !slices.Equal(m.Targets, []string{"packagegroup-core-base-utils", "core-image-minimal"}) || !strings.HasPrefix(m.SState.Example, "54/88/sstate:hello:") {
				t.Errorf("%+v, %v", m, err)
			}
			again := filepath.Join(t.TempDir(), "again")
			if _, err := Export(t.Context(), s, options(format), again); err != nil {
				t.Fatal(err)
			}
			for name, text := range tree(t, again) {
				if got[name] != text && !strings.HasPrefix(name, "databases/") { // SQLite counts its changes
					t.Errorf("%s differs from one export to the next", name)
				}
			}
			if _, err := Export(t.Context(), s, options(format), into); !errs.Is(err, errs.Conflict) {
				t.Errorf("over an export: %v", err)
			}
		})
	}
}

// TestPrepareRefuses: a folder that BitBake cannot work in is told at once.
func TestPrepareRefuses(t *testing.T) {
	t.Parallel()
	s := release(t, "")
	into := filepath.Join(t.TempDir(), "with blank")
	if _, err := Export(t.Context(), s, options(Conf), into); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(filepath.Join(into, "prepare")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "BitBake cannot work below") {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := os.Stat(filepath.Join(into, "own")); err == nil {
		t.Error("a refused prepare left something")
	}
}

func TestExportRefuses(t *testing.T) {
	t.Parallel()
	s := release(t, "")
	into := filepath.Join(t.TempDir(), "out")
	s.Revision.Builder.Tools["release"] = "scarthgap"
	o := options(Setup)
	o.Port, o.HashServer = 70000, `a"b`
	_, err := Export(t.Context(), s, o, into)
	for _, want := range []string{"scarthgap has no bitbake-setup", "port 70000", "cannot stand in BitBake's configuration"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not told: %v", want, err)
		}
	}
	if _, err := Export(t.Context(), s, options("zip"), into); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
	// A changed blob is named, and nothing is left.
	i := slices.IndexFunc(s.Artifacts, func(a distro.Artifact) bool { return a.Name == "bitbake/local.conf" })
	s.Artifacts[i].Digest = s.Artifacts[0].Digest
	if _, err := Export(t.Context(), s, options(Kas), into); err == nil {
		// The digest is that of another blob: only its bytes tell.
		t.Log("another artifact's bytes in place of local.conf cannot be told by their digest")
	}
	if entries, _ := filepath.Glob(into + ".partial*"); len(entries) > 0 {
		t.Error("left ", entries)
	}
}

func TestMirror(t *testing.T) {
	t.Parallel()
	s := release(t, closed)
	dir := t.TempDir()
	tr, err := store.OpenTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	key, err := sign.Generate(sign.Options{Name: "cache", Algorithm: sign.Ed25519, Created: time.Unix(1000, 0)})
	if err != nil {
		t.Fatal(err)
	}
	m, err := Mirror(t.Context(), tr, s, key, time.Unix(2000, 0))
	if err != nil || m.Objects != 3 || m.Downloads != 1 || m.New != 4 || m.Withheld != 2 {
		t.Errorf("%+v, %v", m, err)
	}
	got := tree(t, dir)
	archives := 0
	for name, text := range got {
		if strings.Contains(name, "vendor") {
			t.Errorf("%s is not public", name)
		}
		if !strings.HasSuffix(name, ".zst") {
			continue
		}
		archives++
		if _, err := sign.Verify([]*sign.Public{key.Public()}, strings.NewReader(text), []byte(got[name+".sig"])); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if archives != 2 || got["downloads/hello-1.0.tar.gz"] != "source" {
		t.Errorf("%d archives of %v", archives, got)
	}
	if m, err := Mirror(t.Context(), tr, s, key, time.Unix(3000, 0)); err != nil || m.New != 0 {
		t.Errorf("again: %+v, %v", m, err)
	}
	// Cut off between a signature and its archive: the next run goes on.
	name := filepath.Join(dir, "sstate", s.Artifacts[slices.IndexFunc(s.Artifacts, func(a distro.Artifact) bool { return a.Class == distro.SState })].Name)
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if m, err := Mirror(t.Context(), tr, s, key, time.Unix(4000, 0)); err != nil || m.New != 1 {
		t.Errorf("after a cut: %+v, %v", m, err)
	}
	archive, err1 := os.Open(name)
	sig, err2 := os.ReadFile(name + ".sig")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	if _, err := sign.Verify([]*sign.Public{key.Public()}, archive, sig); err != nil {
		t.Error(err)
	}
}

// TestDiagnose: everything that an export names is asked, and told, at once.
func TestDiagnose(t *testing.T) {
	t.Parallel()
	s := release(t, "")
	there := map[string]bool{}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !there[r.URL.Path] {
			http.NotFound(w, r)
		}
	}))
	defer web.Close()
	o := options(Conf)
	o.SState, o.Downloads, o.Port = web.URL+"/sstate", web.URL+"/downloads", 1
	dir := filepath.Join(t.TempDir(), "out")
	if _, err := Export(t.Context(), s, o, dir); err != nil {
		t.Fatal(err)
	}
	levels := func(q Questions) map[string]distro.Level {
		t.Helper()
		d, err := Diagnose(t.Context(), dir, q)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]distro.Level{}
		for _, a := range d.Answers {
			out[a.ID] = a.Level
			if a.Level != distro.Info && a.Text == "" {
				t.Errorf("%s says nothing", a.ID)
			}
		}
		if d.Blocks() != slices.Contains([]distro.Level{out["prepared"], out["hash-server"], out["pr-server"], out["prediction"]}, distro.Block) {
			t.Error("Blocks: ", d.Blocks())
		}
		return out
	}
	got := levels(Questions{})
	for id, want := range map[string]distro.Level{"prepared": distro.Block, "hash-server": distro.Block, "pr-server": distro.Block, "cache": distro.Warn, "sources": distro.Warn, "prediction": distro.Warn} {
		if got[id] != want {
			t.Errorf("%s: %s, want %s", id, got[id], want)
		}
	}
	// An archive without its signature is as none.
	m, err := ReadManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	there["/sstate/"+m.SState.Example], there["/downloads/"+m.Downloads.Example] = true, true
	if got := levels(Questions{}); got["cache"] != distro.Warn || got["sources"] != distro.Info {
		t.Errorf("%v", got)
	}
	there["/sstate/"+m.SState.Example+".sig"] = true
	for _, tt := range []struct {
		p    bitbake.Prediction
		err  error
		want distro.Level
	}{{bitbake.Prediction{Wanted: 100, Mirrors: 98, Missed: 2}, nil, distro.Info}, {bitbake.Prediction{Wanted: 100, Missed: 40}, nil, distro.Warn}, {bitbake.Prediction{Current: 7}, nil, distro.Info}, {bitbake.Prediction{}, errors.New("nothing provides it"), distro.Block}} {
		got := levels(Questions{Targets: []string{"x"}, Predict: func(_ context.Context, targets []string) (bitbake.Prediction, error) {
			if !slices.Equal(targets, []string{"x"}) {
				t.Error(targets)
			}
			return tt.p, tt.err
		}})
		if got["cache"] != distro.Info || got["prediction"] != tt.want {
			t.Errorf("%+v: %v", tt.p, got)
		}
	}
	if _, err := Diagnose(t.Context(), t.TempDir(), Questions{}); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
}

func TestCompareRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Compare(t.Context(), dir, dir); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	data, _ := json.Marshal([]PublishedPackage{})
	if err := os.WriteFile(filepath.Join(dir, "packages.json"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Compare(t.Context(), dir, filepath.Join(dir, "none")); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	if _, err := Compare(t.Context(), dir, dir); !errs.Is(err, errs.NotFound) || !strings.Contains(err.Error(), "no package") {
		t.Error(err)
	}
}
