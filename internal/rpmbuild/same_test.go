package rpmbuild

import (
	"strings"
	"testing"
)

// What has the inputs of the base release is kept without being built; what
// something else must be built with is built, and kept by its content.
func TestSameInputsAreNotBuilt(t *testing.T) {
	files := tinyLayer()
	b := setup(t, files)
	b.mustBuild()

	b.next("1.2-b1")
	out := b.mustBuild()
	if got, want := evrs(out), "motd-1.0-1.noarch kept, libtie-1.0-1.x86_64 kept, libtie-devel-1.0-1.x86_64 kept, tiectl-1.0-1.x86_64 kept"; got != want {
		t.Errorf("nothing changed: %s", got)
	}
	for _, task := range []string{"motd.noarch", "libtie.x86_64", "tiectl.x86_64"} {
		if log := b.log(task); !strings.Contains(log, "kept, not built") {
			t.Errorf("%s was built:\n%s", task, log)
		}
	}

	// The program changes: the library is in its sysroot, and is built.
	b.next("1.3-b1")
	b.write(map[string]string{"tiectl/main.c": "/* changed */ " + files["tiectl/main.c"]})
	b.mustBuild()
	for task, built := range map[string]bool{"motd.noarch": false, "libtie.x86_64": true, "tiectl.x86_64": true} {
		if got := !strings.Contains(b.log(task), "kept, not built"); got != built {
			t.Errorf("%s built: %v, want %v", task, got, built)
		}
	}

	// Other tools: everything is built.
	b.next("1.4-b1")
	b.rev.Builder.Tools = map[string]string{"rpm": "another"}
	b.mustBuild()
	if log := b.log("motd.noarch"); strings.Contains(log, "kept, not built") {
		t.Error("built by other tools, and not built again")
	}
}
