package rpmbuild

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBuildIsDeterministic(t *testing.T) {
	b := setup(t, tinyLayer())
	first := b.mustBuild()
	if got, want := evrs(first), "motd-1.0-1.noarch, libtie-1.0-1.x86_64, libtie-devel-1.0-1.x86_64, tiectl-1.0-1.x86_64"; got != want {
		t.Errorf("packages %s", got)
	}
	log := b.log("libtie.x86_64")
	types := func() string {
		data, err := os.ReadFile(filepath.Join(b.dir, "abi/libtie.x86_64/+usr+lib64+libtie.so.1.abi.xml"))
		if err != nil {
			t.Errorf("types of the library (Debian: abigail-tools): %v", err)
		}
		return string(data)
	}
	described := types()
	if !strings.Contains(described, "<function-decl name=") || strings.Contains(described, b.dir) {
		t.Errorf("types of the library:\n%s", described)
	}
	for _, change := range []Options{{Jobs: 1}, {Jobs: 7, Sandbox: "none"}} {
		b.numbers = &numbers{}
		change.Numbers = b.numbers
		b.opt = change
		b.again("1.1-b1")
		again := records(b.mustBuild())
		for i, r := range records(first) {
			if again[i] != r {
				t.Errorf("with %+v\n%+v is not\n%+v", change, again[i], r)
			}
		}
		if types() != described {
			t.Errorf("with %+v the types are others", change)
		}
		if change.Sandbox == "" && b.log("libtie.x86_64") != log {
			t.Errorf("the log is another one:\n%s\n%s", b.log("libtie.x86_64"), log)
		}
	}
}
