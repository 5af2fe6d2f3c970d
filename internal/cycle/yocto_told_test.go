package cycle

import (
	"slices"
	"testing"

	"slipway/internal/config"
	"slipway/internal/distro"
)

func TestArtifactsOf(t *testing.T) {
	t.Parallel()
	d := &config.Definition{Boards: []config.Board{{Name: "b", Images: []string{"core-image"}}}, Targets: []string{"core-image:do_populate_sdk"}}
	whole := Build{}
	for _, a := range [][2]string{{"configuration", "slipway.yaml"}, {"console-log", "console.log"}, {"buildhistory", "x"}, {"pr-database", "databases.db"}, {"hash-database", "databases.db"}, {"sstate", "x"},
		{"feed-configuration", "x.repo"}, {"packages", "noarch/x.rpm"}, {"images", "b/core-image-b.rootfs-1.1.wic"}, {"sdk", "x.sh"}, {"task-log", "a/b/1/log.do_compile"}, {"sbom", "spdx/x"}} {
		whole.Artifacts = append(whole.Artifacts, distro.Artifact{Class: distro.Class(a[0]), Name: a[1]})
	}
	if got := artifactsOf(whole, d); len(got.Findings) != 0 || got.Asked != 14 {
		t.Errorf("a whole build: %+v", got)
	}
	without := func(class ...distro.Class) Build {
		b := whole
		b.Artifacts = slices.DeleteFunc(slices.Clone(whole.Artifacts), func(a distro.Artifact) bool { return slices.Contains(class, a.Class) })
		return b
	}
	for _, c := range []distro.Class{distro.Buildhistory, distro.HashDatabase, distro.SState, distro.Images, distro.SDK, distro.SBOM, distro.Packages} {
		if got := artifactsOf(without(c), d); len(got.Findings) != 1 || got.Findings[0].Level != distro.Block || got.Findings[0].ID[:len(c)] != string(c) {
			t.Errorf("without %s: %+v", c, got.Findings)
		}
	}
	// All came from the cache: nothing ran, and what tasks write is legally missing.
	restored := without(distro.TaskLog, distro.SBOM, distro.Sources, distro.Packages)
	restored.Packages = []distro.PackageRecord{{Name: "x", Kept: true}}
	if got := artifactsOf(restored, d); len(got.Findings) != 0 {
		t.Errorf("a restored build: %+v", got.Findings)
	}
	restored.Artifacts = append(restored.Artifacts, distro.Artifact{Class: distro.ConsoleLog, Name: unfetchedName})
	if got := artifactsOf(restored, d); len(got.Findings) != 1 || got.Findings[0].Level != distro.Warn {
		t.Errorf("unfetched: %+v", got.Findings)
	}
	for name, id := range map[string]string{missingName: "packages:incomplete", floatingName: "sources:autorev"} {
		bad := without()
		bad.Artifacts = append(bad.Artifacts, distro.Artifact{Class: distro.ConsoleLog, Name: name})
		if got := artifactsOf(bad, d); len(got.Findings) != 1 || got.Findings[0].ID != id || got.Findings[0].Level != distro.Block {
			t.Errorf("%s: %+v", name, got.Findings)
		}
	}
}
