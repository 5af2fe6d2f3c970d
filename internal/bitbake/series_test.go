package bitbake

import (
	"encoding/json"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway/internal/distro"
)

// TestRealBitBakeSettings, TestRealYoctoKirkstone and TestRealYoctoScarthgap ask
// BitBake of three releases about the same configurations: what each has, what it lacks,
// and what it says wrong. Nothing is built.
func TestRealBitBakeSettings(t *testing.T) {
	bitbake, core := checkouts(t)
	askSeries(t, "wrynose", bitbake, core)
}

func TestRealYoctoKirkstone(t *testing.T) {
	askOlder(t, "kirkstone")
}

func TestRealYoctoScarthgap(t *testing.T) {
	askOlder(t, "scarthgap")
}

func askOlder(t *testing.T, release string) {
	t.Helper()
	suffix := strings.ToUpper(release)
	bitbake, core := os.Getenv("SLIPWAY_TEST_BITBAKE_"+suffix), os.Getenv("SLIPWAY_TEST_OECORE_"+suffix)
	if bitbake == "" || core == "" {
		t.Skipf("SKIPPED: BitBake of %s: SLIPWAY_TEST_BITBAKE_%s and SLIPWAY_TEST_OECORE_%s name no checkouts", release, suffix, suffix)
	}
	askSeries(t, release, bitbake, core)
}

// settingsLayer is a layer with distributions that are what they should be, and not, and
// a second machine of one architecture with another tune.
var settingsLayer = map[string]string{
	"conf/layer.conf": `BBPATH .= ":${LAYERDIR}"
BBFILE_COLLECTIONS += "settings"
BBFILE_PATTERN_settings = "^${LAYERDIR}/"
LAYERSERIES_COMPAT_settings = "RELEASE"
`,
	"conf/distro/own.conf": "DISTRO = \"own\"\nDISTRO_NAME = \"Own\"\nMAINTAINER = \"Ada <ada@example.org>\"\n",
	// A distribution's conf is read after local.conf, and undoes what that says.
	"conf/distro/poky.conf": `DISTRO = "poky"
PACKAGE_CLASSES = "package_ipk"
BB_SIGNATURE_HANDLER = "OEBasicHash"
BB_HASHSERVER = "auto"
BB_HASHSERVE = ""
PRSERV_HOST = ""
PRSERV_HOTS = "localhost:0"
INHERIT:remove = "create-spdx vex"
BUILDHISTORY_COMMIT = "0"
ARCHIVER_MODE[src] = "patched"
ARCHIVER_MODE[recipe] = "0"
ARCHIVER_MODE[srpm] = "0"
ARCHIVER_MODE[dumpdata] = "0"
COPYLEFT_LICENSE_INCLUDE = "GPL* LGPL*"
BB_GENERATE_MIRROR_TARBALLS = "0"
EXTRA_IMAGE_FEATURES = "allow-empty-password empty-root-password allow-root-login post-install-logging"
EXTRA_USERS_PARAMS = "usermod -p 'x' root;"
PACKAGE_FEED_URIS = "http://feeds.example.org"
SRCREV:pn-hello = "${AUTOREV}"
`,
	"conf/machine/other.conf": "require conf/machine/qemux86-64.conf\nDEFAULTTUNE = \"x86-64\"\n",
}

func askSeries(t *testing.T, release, bitbake, core string) {
	t.Helper()
	dir := t.TempDir()
	opt := Options{Release: release, Targets: []string{"x"}, Offline: true}
	if os.Geteuid() == 0 {
		opt.User = buildUser
		if _, err := user.Lookup(buildUser); err != nil {
			if out, err := exec.Command("useradd", "--system", "--create-home", buildUser).CombinedOutput(); err != nil {
				t.Fatalf("useradd: %v\n%s", err, out)
			}
		}
		for _, d := range []string{dir, filepath.Dir(dir)} {
			if err := os.Chmod(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	layer := filepath.Join(dir, "meta-settings")
	for name, text := range settingsLayer {
		path := filepath.Join(layer, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		overwrite(t, path, strings.Replace(text, "RELEASE", release, 1))
	}
	rev := distro.Revision{Schema: 1, Layers: []distro.LayerPin{{Name: "bitbake"}, {Name: "openembedded-core", Path: "meta"}, {Name: "meta-settings"}}}
	seed := distro.Seed{Version: "1.1", Build: "1.1-b1", Layers: map[string]string{"bitbake": bitbake, "openembedded-core": filepath.Join(core, "meta"), "meta-settings": layer}}

	has := map[string]bool{} // what differs between the releases
	for _, c := range classes([]string{filepath.Join(core, "meta")}) {
		has[c] = true
	}
	if has["vex"] != (release != "kirkstone") || has["cve-check"] != (release != "wrynose") || has["reproducible_build"] || has["packagefeed-stability"] {
		t.Errorf("%s has the classes %v", release, has)
	}
	only := func(want bool, ids ...string) []string {
		if !want {
			return nil
		}
		return ids
	}
	all := slices.Concat([]string{"distro", "package-class", "equivalence", "hashserver-spelling", "spelling-PRSERV_HOTS", "hash-server", "pr-server", "reproducible_build", "packagefeed-stability"}, only(!has["cve-check"], "cve-check"),
		[]string{"class-no-such", "buildhistory", "archiver-src", "archiver-recipe", "archiver-srpm", "archiver-dumpdata", "archiver-licenses", "mirror-tarballs", "create-spdx"}, only(has["vex"] && !has["cve-check"], "vex"),
		[]string{"open-allow-empty-password", "open-empty-root-password", "open-allow-root-login", "open-post-install-logging", "feed-uris", "open-password", "autorev-hello", "tune-other"})
	for _, tt := range []struct {
		name, conf string
		boards     []string
		want       []string
	}{
		{"as it should be", "DISTRO = \"own\"\nrequire conf/distro/include/yocto-uninative.inc\nINHERIT += \"uninative\"", []string{"qemux86-64"}, nil},
		{"as a first build is", `EXTRA_IMAGE_FEATURES = "debug-tweaks"`, []string{"qemux86-64"}, []string{"distro", "open-debug-tweaks"}},
		{"all of it", "DISTRO = \"poky\"\nUSER_CLASSES = \"reproducible_build packagefeed-stability no-such\"\nINHERIT += \"cve-check\"", []string{"qemux86-64", "other"}, all},
		{"a fragment", "DISTRO = \"own\"\nOE_FRAGMENTS += \"core/yocto/root-login-with-empty-password\"", only(release == "wrynose", "qemux86-64"),
			[]string{"open-allow-empty-password", "open-empty-root-password", "open-allow-root-login", "open-fragment"}},
	} {
		if len(tt.boards) == 0 {
			continue
		}
		opt.Conf = "SANITY_TESTED_DISTROS = \"\"\n" + tt.conf + "\n"
		seed.Boards = nil
		for _, b := range tt.boards {
			seed.Boards = append(seed.Boards, distro.Board{Name: b})
		}
		b := New(opt)
		build := filepath.Join(dir, "build-"+strings.ReplaceAll(tt.name, " ", "-"))
		if err := b.Prepare(t.Context(), rev, seed, build); err != nil {
			t.Fatal(err)
		}
		boards, findings, err := b.Describe(t.Context(), build)
		if err != nil {
			t.Errorf("%s, %s: %v", release, tt.name, err)
			continue
		}
		var v Versions
		if data, err := os.ReadFile(filepath.Join(build, VersionsName)); err != nil || json.Unmarshal(data, &v) != nil || v.BitBake == "" || v.Python == "" || v.Host == "" || v.Uninative == "" && strings.Contains(tt.conf, "uninative") {
			t.Errorf("%s, %s: versions %+v, %v", release, tt.name, v, err)
		}
		if len(boards) != len(tt.boards) || boards[0].Arch != map[bool]string{true: "x86_64_v3", false: "core2_64"}[release == "wrynose"] || boards[0].MachineArch != "qemux86_64" {
			t.Errorf("%s, %s: boards %+v", release, tt.name, boards)
		}
		var got []string
		for _, f := range findings {
			got = append(got, f.ID)
			t.Logf("%s, %s: %s %s: %s; cure: %s", release, tt.name, f.Level, f.ID, f.Text, f.Cure)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s, %s: findings\n%v, want\n%v", release, tt.name, got, tt.want)
		}
	}
}
