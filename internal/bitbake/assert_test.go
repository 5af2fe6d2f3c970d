package bitbake

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// good is a configuration without findings, with the classes that the release has
// (read in OE-Core's branches of that name).
func good(release string) *Environment {
	e := &Environment{Board: "qemux86-64", Vars: map[string]string{"MACHINE": "qemux86-64", "DISTRO": "halyard", "PACKAGE_CLASSES": "package_rpm", "DEFAULTTUNE": "core2-64", "TARGET_ARCH": "x86_64",
		"BB_SIGNATURE_HANDLER": "OEEquivHash", "BB_HASHSERVE": "127.0.0.1:1", "PRSERV_HOST": "127.0.0.1:2", "INHERIT": " buildhistory archiver create-spdx", "USER_CLASSES": "", "BUILDHISTORY_COMMIT": "1",
		"COPYLEFT_LICENSE_INCLUDE": "*", "BB_GENERATE_MIRROR_TARBALLS": "1", "LAYERSERIES_CORENAMES": release, "SRCREV": "INVALID"},
		Flags: map[string]map[string]string{"ARCHIVER_MODE": {"src": "original", "recipe": "1", "srpm": "1", "dumpdata": "1"}}}
	switch release {
	case "kirkstone":
		e.Classes = []string{"archiver", "buildhistory", "create-spdx", "cve-check"}
	case "scarthgap":
		e.Classes = []string{"archiver", "buildhistory", "create-spdx", "create-spdx-2.2", "create-spdx-3.0", "cve-check", "vex"}
		e.Vars["INHERIT"] += " cve-check"
	case "wrynose":
		e.Classes = []string{"archiver", "buildhistory", "create-spdx", "create-spdx-3.0", "sbom-cve-check-common", "sbom-cve-check-recipe", "vex"}
		e.Vars["INHERIT"] += " vex"
	}
	return e
}

func TestAssert(t *testing.T) {
	t.Parallel()
	set := func(kv ...string) func(*Environment) {
		return func(e *Environment) {
			for i := 0; i < len(kv); i += 2 {
				e.Vars[kv[i]] = kv[i+1]
			}
		}
	}
	all := []string{"kirkstone", "scarthgap", "wrynose"}
	for _, tt := range []struct {
		name     string
		releases []string
		change   func(*Environment)
		want     string
	}{
		{"good", all, set(), ""},
		{"no distro of one's own", all, set("DISTRO", "poky"), "distro"},
		{"ipk", all, set("PACKAGE_CLASSES", "package_ipk package_rpm"), "package-class"},
		{"no tune", all, set("DEFAULTTUNE", ""), "tune"},
		{"basic hashes", all, set("BB_SIGNATURE_HANDLER", "OEBasicHash"), "equivalence"},
		{"wrong spelling", all, set("BB_HASHSERVER", "auto"), "hashserver-spelling"},
		{"letters lost", all, set("BUILDHISTORY_COMIT", "1", "PACKAGE_CLASS:append", " package_rpm"), "spelling-BUILDHISTORY_COMIT spelling-PACKAGE_CLASS:append"},
		{"letters near by", all, set("COPYLEFT_LICENSE_EXCLUDE", "", "INHERITED", "x", "IMAGE_FEATURES:append:qemuall", " x"), ""},
		{"servers of its own", all, set("BB_HASHSERVE", "auto", "PRSERV_HOST", "localhost:0"), "hash-server pr-server"},
		{"a socket of its own", all, set("BB_HASHSERVE", "unix:///b/hashserve.sock"), "hash-server"},
		{"no servers", all, set("BB_HASHSERVE", "", "PRSERV_HOST", ""), "hash-server pr-server"},
		{"reproducible_build", all, set("USER_CLASSES", "reproducible_build packagefeed-stability"), "reproducible_build packagefeed-stability"},
		{"classes that BitBake ended because of", all, func(e *Environment) { e.Lost = []string{"packagefeed-stability", "no-such"} }, "packagefeed-stability class-no-such"},
		{"cve-check", []string{"wrynose"}, set("INHERIT", "buildhistory archiver create-spdx vex cve-check"), "cve-check"},
		{"cve-check where it is", []string{"kirkstone", "scarthgap"}, set("INHERIT", "buildhistory archiver create-spdx cve-check"), ""},
		{"no data for CVE work", []string{"scarthgap", "wrynose"}, set("INHERIT", "buildhistory archiver"), "create-spdx vex"},
		{"no vex in kirkstone", []string{"kirkstone"}, set("INHERIT", "buildhistory archiver"), "create-spdx"},
		{"history", all, set("BUILDHISTORY_COMMIT", "0"), "buildhistory"},
		{"archiver's defaults", all, func(e *Environment) {
			e.Flags["ARCHIVER_MODE"] = map[string]string{"src": "patched", "recipe": "0", "srpm": "0", "dumpdata": "0"}
			e.Vars["COPYLEFT_LICENSE_INCLUDE"] = "GPL* LGPL* AGPL*"
		}, "archiver-src archiver-recipe archiver-srpm archiver-dumpdata archiver-licenses"},
		{"mirror tarballs", all, set("BB_GENERATE_MIRROR_TARBALLS", "0"), "mirror-tarballs"},
		{"debug-tweaks", all, set("EXTRA_IMAGE_FEATURES", "debug-tweaks"), "open-debug-tweaks"},
		{"its successors", all, set("IMAGE_FEATURES", "allow-empty-password empty-root-password allow-root-login post-install-logging"), "open-allow-empty-password open-empty-root-password open-allow-root-login open-post-install-logging"},
		{"its fragment", []string{"wrynose"}, set("OE_FRAGMENTS", "core/yocto/root-login-with-empty-password"), "open-fragment"},
		{"a password for all", all, set("EXTRA_USERS_PARAMS", "useradd -p '\\$6\\$a' ada;"), "open-password"},
		{"a password in clear", all, set("EXTRA_USERS_PARAMS", "usermod --clear-password=x root;"), "open-password"},
		{"a user without a password", all, set("EXTRA_USERS_PARAMS", "useradd -s /bin/sh -p '!' ada; usermod -p '*' root; groupadd -g 100 people;"), ""},
		{"second feed", all, set("PACKAGE_FEED_URIS", "http://x"), "feed-uris"},
		{"AUTOREV", all, set("SRCREV", "AUTOINC"), "autorev"},
	} {
		for _, release := range tt.releases {
			e := good(release)
			tt.change(e)
			var got []string
			for _, f := range Assert([]*Environment{e}, true) {
				got = append(got, f.ID)
				if f.Check != AssertID || f.Level == "" || f.Text == "" || f.Cure == "" || !slices.Equal(f.Boards, []string{"qemux86-64"}) {
					t.Errorf("%s, %s: incomplete finding %+v", tt.name, release, f)
				}
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("%s, %s: findings %q, want %q", tt.name, release, s, tt.want)
			}
		}
	}
}

func TestAssertJoinsBoardsAndComparesTunes(t *testing.T) {
	t.Parallel()
	a, b := good("wrynose"), good("wrynose")
	b.Board, b.Vars = "intel", maps.Clone(b.Vars)
	b.Vars["DEFAULTTUNE"] = "skylake-64"
	a.Vars["DISTRO"], b.Vars["DISTRO"] = "poky", "poky"
	got := Assert([]*Environment{a, b}, true)
	if len(got) != 2 || got[0].ID != "distro" || !slices.Equal(got[0].Boards, []string{"qemux86-64", "intel"}) || got[1].ID != "tune-intel" {
		t.Errorf("findings %+v", got)
	}
	if got := Assert([]*Environment{good("wrynose")}, false); len(got) != 0 {
		t.Errorf("findings %+v", got)
	}
}
