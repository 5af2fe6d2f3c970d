package examples

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"slipway/internal/errs"
)

func TestHalyardRevisions(t *testing.T) {
	t.Parallel()
	revisions, err := Halyard()
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range revisions {
		if r.Tag == "" || r.Author == "" || !strings.HasSuffix(r.Message, "\n") || len(r.Files) == 0 {
			t.Errorf("revision %+v is not whole", r)
		}
		if i > 0 && !r.Date.After(revisions[i-1].Date) {
			t.Errorf("%s is not later than the one before", r.Tag)
		}
	}
	first := revisions[0]
	for _, f := range []string{"slipway.yaml", ".gitignore", "README.md", "layers/halyard/specs/libknot/libknot.spec"} {
		if first.Files[f] == nil {
			t.Errorf("revision 1 has no %s", f)
		}
	}
	const script = "layers/halyard/specs/firstboot/slipway-firstboot" // of meta-slipway
	if !strings.Contains(string(first.Files[script]), "slipway: ") || !first.Exec[script] {
		t.Error("revision 1 has no script for the first boot")
	}
	if !first.Exec["layers/halyard/specs/rigging-tools/rig-list"] || first.Exec["slipway.yaml"] || first.Files["commit.txt"] != nil {
		t.Error("modes or files of revision 1 are wrong")
	}
	if n := len(revisions[1].Files); n != 2 {
		t.Errorf("the security fix changes %d files", n)
	}
}

func TestAddDevice(t *testing.T) {
	t.Parallel()
	const spec = "layers/halyard/specs/slipway-device/slipway-device.spec"
	listed := func(r Revision, image string) bool {
		return strings.Contains(string(r.Files[image]), "  - slipway-device\n")
	}
	images := []string{"layers/halyard/images/light.yaml", "layers/halyard-self-update/images/full.yaml"}
	load := func() []Revision {
		revisions, err := Halyard()
		if err != nil {
			t.Fatal(err)
		}
		return revisions
	}
	dir := t.TempDir()
	for i, arch := range DeviceArches {
		revisions := load()
		if there, err := AddDevice(revisions, dir); there || err != nil {
			t.Fatalf("with %d programs: %v, %v", i, there, err)
		}
		if len(revisions[0].Files) < 40 || revisions[0].Files[spec] != nil || revisions[0].Files[images[0]] == nil {
			t.Errorf("with %d programs the spec is %q", i, revisions[0].Files[spec])
		}
		for name := range revisions[0].Files {
			if strings.HasPrefix(name, "layers/halyard/specs/slipway-device/") {
				t.Errorf("with %d programs there is %s", i, name)
			}
		}
		for _, image := range images {
			if listed(revisions[0], image) {
				t.Errorf("with %d programs %s lists the package", i, image)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "slipway-device-"+arch), []byte(arch), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	revisions := load()
	if there, err := AddDevice(revisions, dir); !there || err != nil {
		t.Fatal(there, err)
	}
	program := strings.TrimSuffix(spec, ".spec") + "-arm64"
	if r := revisions[0]; r.Files[spec] == nil || string(r.Files[program]) != "arm64" || !r.Exec[program] || !listed(r, images[0]) || !listed(r, images[1]) {
		t.Error("with all programs they, the spec or the images' lines are not there")
	}
	packages, err := HalyardPackages()
	if err != nil {
		t.Fatal(err)
	}
	if there, err := AddDevice(packages, t.TempDir()); !there || err != nil {
		t.Errorf("the example that has no such package: %v, %v", there, err)
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no message": "Author: A <a@example.org>\nDate: 2026-01-12T09:00:00Z\n",
		"no author":  "Date: 2026-01-12T09:00:00Z\n\nx\n",
		"bad date":   "Author: A <a@example.org>\nDate: yesterday\n\nx\n",
		"take one":   "Author: A <a@example.org>\nDate: 2026-01-12T09:00:00Z\nTake: a\n\nx\n",
		"take none":  "Author: A <a@example.org>\nDate: 2026-01-12T09:00:00Z\nTake: a b\n\nx\n",
		"other key":  "Author: A <a@example.org>\nDate: 2026-01-12T09:00:00Z\nRemove: x\n\nx\n",
	} {
		if _, err := read(fstest.MapFS{"x/revision-1/commit.txt": {Data: []byte(text)}}, "x"); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := read(fstest.MapFS{}, "x"); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	r, err := read(fstest.MapFS{"x/revision-1/commit.txt": {Data: []byte("Author: A <a@example.org>\nDate: 2026-01-12T09:00:00Z\nDelete: a b\nDelete: c\n\nwhy\n")}}, "x")
	if err != nil || len(r) != 1 || strings.Join(r[0].Delete, ",") != "a b,c" || r[0].Message != "why\n" {
		t.Errorf("%+v %v", r, err)
	}
}

// TestSystemdUnits: where there is systemd, the update timer's units are good, and
// start the program that their package brings. The targets that they name are a
// system's own and stand here empty.
func TestSystemdUnits(t *testing.T) {
	t.Parallel()
	revisions, err := Halyard()
	if err != nil {
		t.Fatal(err)
	}
	const specs = "layers/halyard/specs/update-timer/"
	spec := string(revisions[0].Files[specs+"update-timer.spec"])
	root := t.TempDir()
	units := filepath.Join(root, "usr/lib/systemd/system")
	put := func(path, text string, mode os.FileMode) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"sysinit.target", "basic.target", "shutdown.target", "timers.target", "network-online.target", "time-sync.target", "time-set.target", "-.slice", "system.slice"} {
		put(filepath.Join(units, name), "[Unit]\nDescription=x\nDefaultDependencies=no\n", 0o644)
	}
	for _, name := range []string{"slipway-update.timer", "slipway-update.service"} {
		text := string(revisions[0].Files[specs+name])
		if text == "" || !strings.Contains(spec, name) || !strings.Contains(spec, "/usr/lib/systemd/system/slipway-update.*") {
			t.Errorf("the package has no %s", name)
		}
		put(filepath.Join(units, name), text, 0o644)
	}
	const program = "/usr/sbin/slipway-update"
	if !strings.Contains(spec, "\n"+program+"\n") {
		t.Errorf("the package has no %s", program)
	}
	verify := func() (string, error) {
		out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", "--root="+root, "slipway-update.timer", "slipway-update.service").CombinedOutput()
		return string(out), err
	}
	if out, err := verify(); err == nil || !strings.Contains(out, program) {
		t.Errorf("systemd-analyze (Debian's systemd) finds nothing wrong though %s is missing: %v\n%s", program, err, out)
	}
	put(filepath.Join(root, program), "#!/bin/sh\n", 0o755)
	if out, err := verify(); err != nil || out != "" {
		t.Errorf("%v\n%s", err, out)
	}
}
