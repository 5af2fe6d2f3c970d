package abi

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/libabigail"
	"slipway/internal/rpm"
)

type recorded struct {
	*os.File
	size int64
}

func (r recorded) Size() int64 { return r.size }

// TestRecordedFromBitBake: packages that BitBake built (OE-Core wrynose, the fixture
// layer). The library's debug information lies in the recipe's one -dbg package, in
// .debug; the program's need of the library is in its header.
func TestRecordedFromBitBake(t *testing.T) {
	t.Parallel()
	open := func(_ context.Context, r distro.PackageRecord) (check.Package, error) {
		f, err := os.Open(filepath.Join("testdata", r.File))
		if err != nil {
			return nil, err
		}
		st, err := f.Stat()
		return recorded{f, st.Size()}, err
	}
	var all []distro.PackageRecord
	for _, name := range []string{"libgreet1", "hello", "hello-dbg"} {
		file := name + "-1.0-r0.1.core2_64.rpm"
		p, err := rpm.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, distro.PackageRecord{Name: p.Name, Version: p.Version, Release: p.Release, Arch: p.Arch, SourceName: "hello", File: file, HeaderDigest: p.HeaderDigest, Content: p.ContentDigest()})
	}
	bed := &check.Bed{Dir: t.TempDir(), Packages: all, Base: all, History: all, Open: open,
		Read: func(_ context.Context, r distro.PackageRecord) (*rpm.Package, error) {
			return rpm.ReadFile(filepath.Join("testdata", r.File))
		}}
	r := &run{bed: bed, missing: libabigail.Missing(), users: &users{bed: bed}, feed: &feed{bed: bed}}
	o, err := r.open(t.Context(), all[0])
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	libs, err := r.libraries(t.Context(), o)
	if err != nil || len(libs) != 1 || libs[0].elf.SOName != "libgreet.so.1" || libs[0].elf.Debug {
		t.Fatalf("%v %+v", err, libs)
	}
	xml, why, err := r.describe(t.Context(), o, libs[0])
	if err != nil || why != "" {
		t.Fatal(why, err)
	}
	data, err := os.ReadFile(xml)
	if err != nil || !strings.Contains(string(data), "<function-decl name='greet'") {
		t.Errorf("no types: %v\n%s", err, data)
	}
	using, err := r.users.of(t.Context(), libs[0].elf, all[0])
	if err != nil || len(using) != 1 || using[0].record.Name != "hello" || using[0].path != "/usr/bin/hello" {
		t.Errorf("%v %+v", err, using)
	}
}
