package rpmbuild

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// findings gives one line a finding, with its hints.
func findings(err error) string {
	list := errs.List{err}
	if l, ok := err.(errs.List); ok {
		list = l
	}
	var lines []string
	for _, e := range list {
		line := string(errs.KindOf(e)) + ": " + e.Error()
		if h := errs.Hints(e); len(h) > 0 {
			line += " [" + strings.Join(h, "; ") + "]"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func (b *bed) prepare() error {
	return New(b.opt).Prepare(b.t.Context(), b.rev, b.seed, b.dir)
}

func TestAllFindingsOfAllSpecs(t *testing.T) {
	b := setup(t, map[string]string{
		"tag/tag.spec":         strings.Replace(shell("tag", "x", ""), "License:", "Licence:", 1),
		"open/open.spec":       strings.Replace(shell("open", "x", ""), "Summary: open", "Summary: %{open", 1),
		"macro/macro.spec":     shell("macro", "x", "Requires: mast-%{verison}"),
		"source/source.spec":   shell("source", "x", "Source0: pach.txt"),
		"source/patch.txt":     "x",
		"pinned/pinned.spec":   shell("pinned", "x", "Source0: b.tar"),
		"pinned/sources.yaml":  "- {name: b.tar, debian: busybox-static}\n",
		"fixed/fixed.spec":     strings.Replace(shell("fixed", "x", ""), "%{slipway_number}", "1", 1),
		"undated/undated.spec": strings.Split(shell("undated", "x", ""), "%changelog")[0],
		"folder/folder.spec":   shell("other", "x", ""),
		"empty/empty.spec":     strings.Replace(shell("empty", "x", ""), "%files\n/usr/share/empty", "", 1),
	})
	want := strings.TrimSpace(`
invalid: base/specs/empty/empty.spec: this spec makes no package [a package is made for each %files section]
invalid: base/specs/fixed/fixed.spec:3: the release of package fixed does not rise with its content [Release: %{slipway_number}]
invalid: base/specs/folder/folder.spec:1: the spec of folder folder has the name other
invalid: base/specs/macro/macro.spec:7: nothing defines the macro %{verison}
invalid: base/specs/open/open.spec:4: rpm: unclosed macro or bad line continuation
invalid: base/specs/pinned/pinned.spec:7: the source b.tar is missing [its sources.yaml wants it, but sources.lock does not pin it]
invalid: base/specs/source/source.spec:7: the source pach.txt is missing [did you mean "patch.txt"?]
invalid: base/specs/tag/tag.spec:5: rpm: Unknown tag: Licence: MIT
invalid: base/specs/undated/undated.spec: there is no entry in %changelog: its date is the build time of the packages [%changelog
* Mon Jan 05 2026 Your Name <you@example.org>
- first version]`)
	if got := findings(b.prepare()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "plan.json")); !os.IsNotExist(err) {
		t.Errorf("there is a plan: %v", err)
	}
	if err := New(b.opt).Build(t.Context(), b.dir, nil); !errs.Is(err, errs.NotFound) {
		t.Errorf("a build without a plan: %v", err)
	}
}

func TestUnresolved(t *testing.T) {
	b := setup(t, map[string]string{
		"lib/lib.spec":     shell("lib", "x", "Provides: mast = 1.4"),
		"a/a.spec":         shell("a", "x", "BuildRequires: host(slipway-no-such-tool)"),
		"b/b.spec":         shell("b", "x", "BuildRequires: libb"),
		"c/c.spec":         shell("c", "x", "BuildRequires: gcc"),
		"d/d.spec":         shell("d", "x", "BuildRequires: mast >= 1.10"),
		"e/e.spec":         shell("e", "x", "BuildRequires: mast >= 1.2, host(sh)"),
		"twice/twice.spec": shell("twice", "x", "%package -n lib\nSummary: x\n%description -n lib\nx\n%files -n lib"),
	})
	want := strings.TrimSpace(`
invalid: base/specs/twice/twice.spec: package lib is made by two specs: lib and twice [give one of them another name]
unavailable: the program slipway-no-such-tool, needed by spec a, is not installed [apt-get install slipway-no-such-tool]
invalid: base/specs/b/b.spec:7: b needs libb to build, which no layer makes [did you mean "lib"?]
invalid: base/specs/c/c.spec:7: c needs gcc to build, which no layer makes [a program of the host is asked for as host(gcc)]
invalid: base/specs/d/d.spec:7: d needs mast >= 1.10, but the layers make 1.4`)
	if got := findings(b.prepare()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestCycle(t *testing.T) {
	b := setup(t, map[string]string{
		"a/a.spec": shell("a", "x", "BuildRequires: b"),
		"b/b.spec": shell("b", "x", "BuildRequires: c"),
		"c/c.spec": shell("c", "x", "BuildRequires: b"),
	})
	if got := findings(b.prepare()); got != "invalid: tasks wait for each other: b.noarch needs c.noarch needs b.noarch [take one of these BuildRequires out]" {
		t.Error(got)
	}
}

func TestLayers(t *testing.T) {
	b := setup(t, map[string]string{"a/a.spec": shell("a", "x", ""), "b/B.spec": "x"})
	other := t.TempDir()
	if err := os.MkdirAll(filepath.Join(other, "specs/a"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.rev.Layers = append(b.rev.Layers, distro.LayerPin{Name: "second"}, distro.LayerPin{Name: "third"}, distro.LayerPin{Name: "fourth"})
	b.seed.Layers["second"], b.seed.Layers["third"] = other, t.TempDir()
	want := strings.TrimSpace(`
notfound: layer base: the folder specs/b has no b.spec [the file and the folder have one name]
invalid: second/specs/a/a.spec: the spec a is in two layers: base and second [remove one, or give it another name]
notfound: layer third has no folder specs [a layer holds specs/<name>/<name>.spec]
notfound: layer fourth is not checked out`)
	if got := findings(b.prepare()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestPinnedSources(t *testing.T) {
	data := []byte("a sail")
	digest := distro.DigestOf(data)
	b := setup(t, map[string]string{
		"a/a.spec": strings.Replace(specText("a", "BuildArch: noarch\nSource0: sail", "%install\ninstall -D %{SOURCE0} %{buildroot}/usr/share/sail", "/usr/share/sail"),
			"Version: 1.0", "Version: %{slipway_source_version}", 1),
		"a/sources.yaml": "- {name: sail, debian: sail}\n",
	})
	b.seed.Sources = t.TempDir()
	b.rev.Sources = []distro.SourcePin{{Spec: "a", Name: "sail", Version: "1:2.3-rc1-4+b1", Origin: "debian:sail=1:2.3-rc1-4+b1", Digest: digest}}
	if got := findings(b.prepare()); !strings.HasPrefix(got, "notfound: source sail of spec a (debian:sail=1:2.3-rc1-4+b1) is not in the store") {
		t.Error(got)
	}
	path := filepath.Join(b.seed.Sources, digest.Hex())
	if err := os.WriteFile(path, []byte("a hole"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := b.prepare(); !errs.Is(err, errs.Conflict) {
		t.Errorf("a source with other bytes: %v", err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := evrs(b.mustBuild()); got != "a-2.3.rc1-1.noarch" {
		t.Error(got)
	}
}

func TestFeedConfiguration(t *testing.T) {
	b := setup(t, map[string]string{
		"feeds/feeds.spec": specText("feeds", "BuildArch: noarch", "%install\nmkdir -p %{buildroot}/etc\ninstall -m 644 %{slipway_feed_config}/x.repo %{slipway_feed_config}/vars/* %{buildroot}/etc/", "/etc/*"),
		"plain/plain.spec": specText("plain", "BuildArch: noarch", "%install\ntest ! -e /slipway/feed-config\nmkdir -p %{buildroot}/etc\necho '%{distro_name} %{distro_series} %{distro_version} %{distro_title}' > %{buildroot}/etc/plain", "/etc/plain"),
	})
	b.seed.FeedConfig = t.TempDir()
	if err := os.Mkdir(filepath.Join(b.seed.FeedConfig, "vars"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"x.repo", "vars/url"} {
		if err := os.WriteFile(filepath.Join(b.seed.FeedConfig, f), []byte("x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, o := range b.mustBuild() {
		if o.Class == distro.FeedConfiguration {
			got = append(got, o.Name)
		}
	}
	if s := strings.Join(got, " "); s != "vars/url x.repo" {
		t.Error(s)
	}
	if log := b.log("plain.noarch"); !strings.Contains(log, "+ echo tiny 1 1.1 Tiny 100% Linux\n") {
		t.Error(log)
	}
}
