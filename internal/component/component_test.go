package component

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway/internal/config"
	"slipway/internal/errs"
)

const definition = `# a comment
schema: 1
distribution: halyard   # another
series: {name: "1", released: 2026-12-01, security_support_ends: 2030-12-01, ends: 2031-12-01}
builder: {kind: bitbake, release: wrynose}
layers:
  - {name: openembedded-core, url: "https://git.openembedded.org/openembedded-core", branch: wrynose, path: meta}
  - {name: meta-oe, url: "https://git.openembedded.org/meta-openembedded", commit: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, path: meta-oe}
boards: [{name: qemux86-64}]
targets: [base]
COMPONENTS
# the address
feeds: {base_url: "https://feeds.example.org/halyard"}
`

func parse(t *testing.T, text string) *config.Definition {
	t.Helper()
	d, err := config.ParseDefinition("slipway.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return d
}

// TestEnable: only the component changes, whatever form it is written in.
func TestEnable(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ have, enable, line string }{
		"none":                  {"", "desktop-xfce", "- name: desktop-xfce"},
		"an empty list":         {"components: []", "desktop-gnome", "- name: desktop-gnome"},
		"beside another":        {"components:\n  - name: tools\n    # of ours\n    targets: [tool]\n", "desktop-kde", "- name: desktop-kde"},
		"in the first column":   {"components:\n- {name: tools, targets: [tool]}\n", "desktop-xfce", "- name: desktop-xfce"},
		"its own, off":          {"components:\n  - {name: tools, targets: [tool], enabled: false}   # later\n", "tools", "- {name: tools, targets: [tool], enabled: true}   # later"},
		"its own, block":        {"components:\n  - name: tools   # ours\n    targets: [tool]\n", "tools", "    enabled: true"},
		"its own, flow":         {"components: [{name: tools, targets: [tool]}]", "tools", "components: [{enabled: true, name: tools, targets: [tool]}]"},
		"its own, on":           {"components: [{name: tools, targets: [tool], enabled: true}]", "tools", "components: [{name: tools, targets: [tool], enabled: true}]"},
		"its own, off, lines":   {"components:\n  - name: tools\n    enabled: false # why\n    targets: [tool]", "tools", "    enabled: true # why"},
		"another that is there": {"components:\n  - name: desktop-xfce\n    targets: [mine]\n", "desktop-xfce", "    enabled: true"},
	} {
		text := strings.Replace(definition, "COMPONENTS\n", tt.have+"\n", 1)
		d := parse(t, text)
		out, err := Enable(d, []byte(text), tt.enable)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !slices.Contains(strings.Split(string(out), "\n"), tt.line) && !strings.Contains(string(out), "  "+tt.line) {
			t.Errorf("%s: no line %q in\n%s", name, tt.line, out)
		}
		now := parse(t, string(out))
		c, ok := now.Component(tt.enable)
		if !ok || !c.Enabled || len(now.Components) < len(d.Components) {
			t.Errorf("%s: %+v\n%s", name, now.Components, out)
		}
		for _, l := range strings.Split(text, "\n") { // nothing else is lost
			if strings.Contains(l, "#") && !strings.Contains(string(out), l[strings.Index(l, "#"):]) {
				t.Errorf("%s: the comment of %q is lost", name, l)
			}
		}
		if !strings.Contains(string(out), "# the address\nfeeds:") {
			t.Errorf("%s: the comment above feeds moved\n%s", name, out)
		}
		seen := map[string]bool{}
		for _, l := range now.EnabledLayers() {
			if seen[l.Name] {
				t.Errorf("%s: layer %s twice", name, l.Name)
			}
			seen[l.Name] = true
			if l.Name == "meta-oe" && l.Commit == "" {
				t.Errorf("%s: the definition's own meta-oe was replaced", name)
			}
		}
		if got := now.EnabledTargets(); got[0] != "base" || len(got) < 2 {
			t.Errorf("%s: targets %v", name, got)
		}
	}
}

// TestKnownTogether: all known components can be enabled side by side.
func TestKnownTogether(t *testing.T) {
	t.Parallel()
	text := []byte(strings.Replace(definition, "COMPONENTS\n", "", 1))
	for _, n := range Names() {
		var err error
		if text, err = Enable(parse(t, string(text)), text, n); err != nil {
			t.Fatalf("%s: %v", n, err)
		}
	}
	d := parse(t, string(text))
	if len(d.Components) != 3 || len(d.EnabledLayers()) != 2+5+4 {
		t.Errorf("%d components, layers %v", len(d.Components), d.EnabledLayers())
	}
	if strings.Contains(string(text), "{release}") {
		t.Error("no release")
	}
}

func TestEnableRefuses(t *testing.T) {
	t.Parallel()
	text := strings.Replace(definition, "COMPONENTS\n", "", 1)
	_, err := Enable(parse(t, text), []byte(text), "desktop-xcfe")
	if !errs.Is(err, errs.NotFound) || !strings.Contains(strings.Join(errs.Hints(err), " "), "desktop-xfce") {
		t.Error(err, errs.Hints(err))
	}
	// KDE's layers follow one release; what a team wrote itself is taken for any.
	old := strings.Replace(text, "wrynose", "scarthgap", 2)
	if _, err := Enable(parse(t, old), []byte(old), "desktop-kde"); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "desktop-kde is for wrynose, and the distribution is of scarthgap") || !strings.Contains(strings.Join(errs.Hints(err), " "), "LAYERSERIES_COMPAT") {
		t.Error(err, errs.Hints(err))
	}
	if _, err := Enable(parse(t, old), []byte(old), "desktop-gnome"); err != nil {
		t.Error(err)
	}
	flow := strings.Replace(definition, "COMPONENTS\n", "components: [{name: tools, targets: [tool]}]\n", 1)
	if _, err := Enable(parse(t, flow), []byte(flow), "desktop-xfce"); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
}

func layer(t *testing.T, all map[string]string) string {
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

func TestCheckLayer(t *testing.T) {
	t.Parallel()
	good := map[string]string{"conf/layer.conf": "BBFILE_COLLECTIONS += \"mine\"\nLAYERSERIES_COMPAT_mine = \"wrynose\"\nLAYERDEPENDS_mine = \"core:12\"\n", "README.md": "Maintainer: Ada <ada@example.org>\nSend patches there.\n",
		"LICENSE": "MIT", "SECURITY.md": "mail", "recipes-x/x/x_1.0.bb": "# AUTOREV is bad\nLICENSE = \"MIT\"\npython do_fetch_more() {\n    import urllib.request\n}\n"}
	found, err := CheckLayer(t.Context(), Question{Name: "meta-mine", Dir: layer(t, good), Release: "wrynose", Provided: []string{"core"}})
	if err != nil || len(found) != 0 {
		t.Errorf("a good layer: %+v, %v", found, err)
	}
	bad := map[string]string{"conf/layer.conf": "BBPATH .= \":x\"\nLAYERSERIES_COMPAT_mine = \"scarthgap\"\nLAYERDEPENDS_mine = \"core gnome-layer\"\nDISTRO_FEATURES:append = \" x11\"\n", "README": "a layer",
		"recipes-x/x/x_1.0.bb":      "SUMMARY = \"x\"\nSRCREV = \"${AUTOREV}\"\nSRC_URI = \"http://example.org/x\"\nA = \"${@urllib.request.urlopen('http://x').read()}\"\n",
		"recipes-x/x/files/key.pem": "x\n-----BEGIN RSA PRIVATE KEY-----\n", "conf/distro/mine.conf": "EXTRA_IMAGE_FEATURES = \"debug-tweaks\"\nEXTRA_USERS_PARAMS = \"usermod -p x root;\"\n"}
	found, err = CheckLayer(t.Context(), Question{Name: "meta-mine", Dir: layer(t, bad), Release: "wrynose", Provided: []string{"core"}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range found {
		got[strings.TrimPrefix(f.ID, "meta-mine:")] = f.Object
		if f.Text == "" || f.Level == "" || f.Check != PolicyID {
			t.Errorf("%+v", f)
		}
	}
	for id, object := range map[string]string{"collection": "conf/layer.conf", "series": "conf/layer.conf", "needs-gnome-layer": "conf/layer.conf", "global-DISTRO_FEATURES": "conf/layer.conf:4", "maintainer": "README", "patches": "README", "license": "LICENSE", "security": "SECURITY.md",
		"recipe-license": "recipes-x/x/x_1.0.bb", "autorev": "recipes-x/x/x_1.0.bb:2", "plain-http": "recipes-x/x/x_1.0.bb:3", "parse-network": "recipes-x/x/x_1.0.bb:4", "private-key": "recipes-x/x/files/key.pem:2", "open-door": "conf/distro/mine.conf:1", "password": "conf/distro/mine.conf:2"} {
		if got[id] != object {
			t.Errorf("%s: at %q, want %q", id, got[id], object)
		}
	}
	if len(found) != 15 {
		t.Errorf("%d findings: %v", len(found), got)
	}
	if found, err := CheckLayer(t.Context(), Question{Name: "x", Dir: t.TempDir()}); err != nil || len(found) != 1 {
		t.Error(found, err)
	}
}

// TestOwnLayer: the project's own layer passes its own policy.
func TestOwnLayer(t *testing.T) {
	t.Parallel()
	found, err := CheckLayer(t.Context(), Question{Name: "meta-slipway", Dir: "../../layers/meta-slipway", Root: "../..", Release: "wrynose", Provided: []string{"core"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Errorf("%s: %s: %s", f.Level, f.Object, f.Text)
	}
}
