package cycle

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/config"
	"slipway/internal/distro"
)

// TestAnAdvisoryTakesWhatItsReleaseBrought: never what it kept, whatever the file says.
func TestAnAdvisoryTakesWhatItsReleaseBrought(t *testing.T) {
	t.Parallel()
	record := func(name, scope, release string, kept bool) distro.PackageRecord {
		return distro.PackageRecord{Name: name, Epoch: 1, Version: "1.0", Release: release, Arch: scope, Scope: scope, SourceName: "libknot", File: name + "-1.0-" + release + "." + scope + ".rpm", Kept: kept}
	}
	w := &Workspace{Definition: &config.Definition{}}
	releases := []Release{
		{Version: "1.1", Status: distro.Published, Packages: []distro.PackageRecord{record("libknot", "x86_64", "1", false), record("knotctl", "x86_64", "1", false)}},
		{Version: "1.2", Status: distro.Published, Packages: []distro.PackageRecord{record("libknot", "x86_64", "2", false), record("libknot", "aarch64", "2", false), record("knotctl", "x86_64", "1", true)}},
	}
	load := func(text string) *config.AdvisoryFile {
		t.Helper()
		path := filepath.Join(t.TempDir(), "HLSA-1.yaml")
		if err := os.WriteFile(path, []byte("schema: 1\ntitle: x\ndescription: x\nseverity: low\n"+text), 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := config.LoadAdvisory(path)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	a, bad := w.advisory(load("fixed_in: \"1.2\"\nrecipes: [libknot]\npackages: [libknot]\n"), releases)
	if len(bad) > 0 || len(a.Packages) != 2 || a.Packages[0].Scope != "aarch64" || a.Packages[1].Release != "2" || a.Packages[1].Epoch != 1 {
		t.Errorf("%v %+v", bad, a.Packages)
	}
	_, bad = w.advisory(load("fixed_in: \"1.2\"\npackages: [knotctl]\n"), releases)
	if len(bad) != 1 || !strings.Contains(bad.Error(), "release 1.2 kept what it had of package knotctl") {
		t.Errorf("%v", bad)
	}
}
