package examples_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/rpmpack"

	"slipway/examples"
	"slipway/internal/check"
	"slipway/internal/check/own"
	"slipway/internal/distro"
)

// TestOwnCheck: the check that halyard brings, on a feed with one fault.
func TestOwnCheck(t *testing.T) {
	t.Parallel()
	revisions, err := examples.Halyard()
	if err != nil {
		t.Fatal(err)
	}
	const name = "checks/no-setuid.sh"
	if !revisions[0].Exec[name] {
		t.Fatal(name + " is no program")
	}
	dir, feed := t.TempDir(), t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "checks"), 0o755), os.WriteFile(filepath.Join(dir, name), revisions[0].Files[name], 0o755)); err != nil {
		t.Fatal(err)
	}
	bed := check.Bed{Dir: t.TempDir(), Jobs: 1, Candidate: check.Feed{Vars: map[string]string{"slipway_url": "file://" + feed}}}
	for pkg, mode := range map[string]uint{"good": 0o100755, "bad": 0o104755} {
		p, err := rpmpack.NewRPM(rpmpack.RPMMetaData{Name: pkg, Version: "1.0", Release: "1", Arch: "noarch"})
		if err != nil {
			t.Fatal(err)
		}
		p.AddFile(rpmpack.RPMFile{Name: "/usr/bin/" + pkg, Body: []byte("x"), Mode: mode, Owner: "root", Group: "root"})
		var b bytes.Buffer
		file := pkg + "-1.0-1.noarch.rpm"
		if err := errors.Join(p.Write(&b), os.WriteFile(filepath.Join(feed, file), b.Bytes(), 0o644)); err != nil {
			t.Fatal(err)
		}
		bed.Packages = append(bed.Packages, distro.PackageRecord{Name: pkg, Version: "1.0", Release: "1", Arch: "noarch", File: file})
	}
	list, err := own.Find(filepath.Join(dir, "checks"), nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := check.Run(t.Context(), &bed, list, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := out[0].Result
	if r.Error != "" || r.Asked != 2 || len(r.Findings) != 1 || r.Findings[0].Key() != "own-no-setuid/bad.noarch" || r.Findings[0].Text != "it brings -rwsr-xr-x /usr/bin/bad;" {
		t.Errorf("%+v", r)
	}
}
