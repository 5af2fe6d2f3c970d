package rpm

import (
	"slices"
	"testing"
)

func TestDifferences(t *testing.T) {
	t.Parallel()
	a := &Package{Name: "a", BuildHost: "x", Requires: []Dep{{Name: "libc"}}, Files: []File{{Path: "/a", MTime: 1, Digest: "1"}, {Path: "/b"}}, Size: 1}
	b := &Package{Name: "a", BuildHost: "y", Requires: []Dep{{Name: "libc", EVR: "2", Flags: SenseEqual}}, Files: []File{{Path: "/a", MTime: 2, Digest: "1"}, {Path: "/c"}}, Size: 2}
	want := []string{`BuildHost: "x", "y"`, "Requires: only in the first libc  (0x0)", "Requires: only in the second libc 2 (0x8)", `/a: MTime "1", "2"`, "/b: only in the first", "/c: only in the second"}
	if got := Differences(a, b); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := Differences(a, a); got != nil {
		t.Errorf("%q", got)
	}
}
