package rpm

import "testing"

func TestSameButRelease(t *testing.T) {
	t.Parallel()
	pkg := func(release, digest string) *Package {
		return &Package{Name: "knot", Version: "1.0", Release: release, Arch: "x86_64",
			Provides: []Dep{{Name: "knot", Flags: SenseEqual, EVR: "1.0-" + release}},
			Files:    []File{{Path: "/usr/bin/knot", Mode: 0o100755, Digest: digest}}}
	}
	if !SameButRelease(pkg("1", "aa"), pkg("2", "aa")) {
		t.Error("only the number rose")
	}
	if SameButRelease(pkg("1", "aa"), pkg("2", "bb")) {
		t.Error("a file changed")
	}
	other := pkg("2", "aa")
	other.Version = "1.1"
	if SameButRelease(pkg("1", "aa"), other) {
		t.Error("the version changed")
	}
}
