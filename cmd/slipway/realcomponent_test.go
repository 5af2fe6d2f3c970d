package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRealBitBakeComponentCheck has OE-Core's own yocto-check-layer judge layers beside
// the policy, over the little of OE-Core that the fixture needs: one that only adds, and
// one that changes what others have built.
func TestRealBitBakeComponentCheck(t *testing.T) {
	dir := bitbakeWorkspace(t)
	b := newBuilder(t, dir, filepath.Join(dir, "ws", "layers", "meta-fixture", "host-tools"))
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(b.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	core := filepath.Join(dir, "repos", "openembedded-core")
	write("build/conf/bblayers.conf", fmt.Sprintf("BBPATH = \"${TOPDIR}\"\nBBFILES ?= \"\"\nBBLAYERS = \"%s/meta %s\"\n", core, filepath.Join(dir, "ws", "layers", "meta-fixture")))
	// In the world of these few recipes all can be built.
	write("build/conf/local.conf", `MACHINE ?= "fixture-a"
DISTRO = "fixture"
SANITY_TESTED_DISTROS = ""
BB_HASHSERVE = ""
BB_SIGNATURE_HANDLER = "OEBasicHash"
BBMASK = "/meta/recipes-(?!core/base-files/|kernel/linux/linux-dummy)"
`)
	for _, layer := range []string{"good", "bad"} {
		at := "halyard/layers/meta-" + layer
		write(at+"/conf/layer.conf", strings.ReplaceAll("BBPATH .= \":${LAYERDIR}\"\nBBFILES += \"${LAYERDIR}/recipes-*/*/*.bb ${LAYERDIR}/recipes-*/*/*.bbappend\"\nBBFILE_COLLECTIONS += \"NAME\"\nBBFILE_PATTERN_NAME = \"^${LAYERDIR}/\"\nBBFILE_PRIORITY_NAME = \"6\"\nLAYERDEPENDS_NAME = \"core\"\nLAYERSERIES_COMPAT_NAME = \"wrynose\"\n", "NAME", layer))
		write(at+"/README.md", "# meta-"+layer+"\n\nMaintainer: Ada Byron <ada@example.org>\n\nSend patches to ada@example.org by mail, with git send-email.\n")
		write(at+"/LICENSE", "MIT\n")
		write(at+"/SECURITY.md", "Report vulnerabilities to ada@example.org.\n")
		write(at+"/recipes-boat/oar/oar_1.0.bb", "SUMMARY = \"An oar\"\nLICENSE = \"MIT\"\nLIC_FILES_CHKSUM = \"file://${COREBASE}/meta/COPYING.MIT;md5=3da9cfbcb788c80a0384361b4de20420\"\ninherit allarch\nINHIBIT_DEFAULT_DEPS = \"1\"\n")
	}
	write("halyard/layers/meta-bad/recipes-core/base-files/base-files_%.bbappend", "do_install:append() {\n\techo changed > ${D}${sysconfdir}/changed\n}\n")
	write("halyard/slipway.yaml", "schema: 1\ndistribution: halyard\nseries: {name: \"1\", released: 2026-12-01, security_support_ends: 2030-12-01, ends: 2031-12-01}\nbuilder: {kind: bitbake, release: wrynose}\nlayers: [{name: good, path: layers/meta-good}]\nfeeds: {base_url: \"https://feeds.example.org/halyard\"}\n")
	b.own(t)
	env := fmt.Sprintf(`export PATH="%s/bin:%s/scripts:$PATH" BBPATH="$PWD/build" BUILDDIR="$PWD/build"
`, filepath.Join(dir, "repos", "bitbake"), core)
	if code, out := b.sh(t, env+"slipway --dir halyard component check --yocto-check-layer halyard/layers/meta-good"); code != 0 || !strings.Contains(out, "ok     meta-good") {
		t.Errorf("a layer that only adds: exit code %d", code)
	}
	if code, out := b.sh(t, env+"slipway --dir halyard component check --yocto-check-layer halyard/layers/meta-bad"); code != 7 || !strings.Contains(out, "yocto-check-layer: test_signatures failed") {
		t.Errorf("a layer that changes others' output: exit code %d\n%s", code, out)
	}
	// Outside of a build's environment it says what is missing.
	if code, out := b.sh(t, "slipway --dir halyard component check --yocto-check-layer halyard/layers/meta-good"); code != 2 || !strings.Contains(out, "oe-init-build-env") {
		t.Errorf("without an environment: exit code %d", code)
	}
}
