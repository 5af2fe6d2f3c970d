package rpmbuild

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"slipway/internal/distro"
)

func TestMain(m *testing.M) {
	for tool, pkg := range map[string]string{"rpmbuild": "rpm", "bwrap": "bubblewrap", "gcc": "gcc", "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"} {
		if _, err := exec.LookPath(tool); err != nil {
			fmt.Fprintf(os.Stderr, "these tests start %s: apt-get install %s\n", tool, pkg)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// numbers is a Numbers in memory.
type numbers struct {
	mu   sync.Mutex
	last map[distro.NumberKey]int
	all  []string
}

func (n *numbers) Next(_ context.Context, build distro.BuildID, key distro.NumberKey) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.last == nil {
		n.last = map[distro.NumberKey]int{}
	}
	n.last[key]++
	n.all = append(n.all, fmt.Sprintf("%s %s %d", build, key, n.last[key]))
	return n.last[key], nil
}

// bed is a builder with one layer, "base", to write specs into.
type bed struct {
	t       *testing.T
	layer   string
	dir     string
	numbers *numbers
	opt     Options
	rev     distro.Revision
	seed    distro.Seed
	events  []distro.BuildEvent
}

func setup(t *testing.T, files map[string]string) *bed {
	t.Helper()
	t.Parallel()
	b := &bed{t: t, layer: t.TempDir(), dir: filepath.Join(t.TempDir(), "build"), numbers: &numbers{}}
	b.opt = Options{Jobs: 2, Numbers: b.numbers}
	b.rev = distro.Revision{Schema: 1, Distribution: "tiny", Series: "1", Layers: []distro.LayerPin{{Name: "base", Path: "."}}}
	b.seed = distro.Seed{Version: "1.1", Build: "1.1-b1", Title: "Tiny 100% Linux", Layers: map[string]string{"base": b.layer}}
	b.write(files)
	return b
}

func (b *bed) write(files map[string]string) {
	b.t.Helper()
	for name, text := range files {
		path := filepath.Join(b.layer, "specs", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
}

// build prepares and builds in the bed's folder.
func (b *bed) build() error {
	b.t.Helper()
	builder := New(b.opt)
	if err := builder.Prepare(b.t.Context(), b.rev, b.seed, b.dir); err != nil {
		return err
	}
	return builder.Build(b.t.Context(), b.dir, func(e distro.BuildEvent) { b.events = append(b.events, e) })
}

func (b *bed) mustBuild() []distro.Output {
	b.t.Helper()
	if err := b.build(); err != nil {
		b.t.Fatal(err)
	}
	return b.collect()
}

func (b *bed) collect() []distro.Output {
	b.t.Helper()
	var all []distro.Output
	for o, err := range New(b.opt).Collect(b.t.Context(), b.dir) {
		if err != nil {
			b.t.Fatal(err)
		}
		all = append(all, o)
	}
	return all
}

// next makes the finished build the base of another one, in a new folder.
func (b *bed) next(id distro.BuildID) {
	b.t.Helper()
	out := b.collect()
	b.seed.Packages = records(out)
	var rows []distro.NumberRow
	for _, o := range out {
		if o.Class == distro.PRDatabase {
			if err := readJSON(o.Path, &rows); err != nil {
				b.t.Fatal(err)
			}
		}
	}
	b.seed.Numbers = rows
	b.again(id)
}

// again is another build on the same base.
func (b *bed) again(id distro.BuildID) {
	b.seed.Build, b.seed.Version = id, id.Version()
	b.dir = filepath.Join(b.t.TempDir(), "build")
	b.events = nil
}

func records(out []distro.Output) []distro.PackageRecord {
	var list []distro.PackageRecord
	for _, o := range out {
		if o.Package != nil {
			list = append(list, *o.Package)
		}
	}
	return list
}

// evrs gives "name-version-release.arch", and " kept" for a kept package.
func evrs(out []distro.Output) string {
	var list []string
	for _, r := range records(out) {
		s := r.NEVRA()
		if r.Kept {
			s += " kept"
		}
		list = append(list, s)
	}
	return strings.Join(list, ", ")
}

func (b *bed) log(task string) string {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.dir, "logs", task+".log"))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(data)
}

// specText makes a spec: head are further tags, steps is what stands between
// %description and %files.
func specText(name, head, steps, files string) string {
	return "Name: " + name + "\nVersion: 1.0\nRelease: %{slipway_number}\nSummary: " + name + "\nLicense: MIT\n" + head +
		"\n%description\n" + name + "\n\n" + steps + "\n\n%files\n" + files +
		"\n\n%changelog\n* Mon Jan 05 2026 Ann Example <ann@example.org> - 1.0\n- first version\n"
}

// shell is a noarch spec with one file.
func shell(name, text, head string) string {
	return specText(name, "BuildArch: noarch\n"+head, "%install\nmkdir -p %{buildroot}/usr/share\necho '"+text+"' > %{buildroot}/usr/share/"+name, "/usr/share/"+name)
}

// tinyLayer is a C library with a -devel, a program that is linked to it, and a
// noarch package.
func tinyLayer() map[string]string {
	return map[string]string{
		"libtie/libtie.spec": specText("libtie", "Source0: tie.c\nSource1: tie.h\nBuildRequires: host(gcc)\n"+
			"%package devel\nSummary: headers\nRequires: libtie = %{version}-%{release}\n%description devel\nheaders",
			"%build\ngcc %{optflags} -shared -fPIC -Wl,-soname,libtie.so.1 -o libtie.so.1 %{SOURCE0}\n"+
				"%install\ninstall -D libtie.so.1 %{buildroot}/usr/lib64/libtie.so.1\nln -s libtie.so.1 %{buildroot}/usr/lib64/libtie.so\n"+
				"install -Dm644 %{SOURCE1} %{buildroot}/usr/include/tie.h",
			"/usr/lib64/libtie.so.1\n%files devel\n/usr/include/tie.h\n/usr/lib64/libtie.so"),
		"libtie/tie.c": "#include <string.h>\nint tie(const char *s) { return (int)strlen(s); }\nconst char *where(void) { return __FILE__ __DATE__; }\n",
		"libtie/tie.h": "int tie(const char *s);\n",
		"tiectl/tiectl.spec": specText("tiectl", "Source0: main.c\nBuildRequires: host(gcc), libtie-devel >= 1.0",
			"%build\ngcc %{optflags} -I%{slipway_sysroot}/usr/include -L%{slipway_sysroot}/usr/lib64 -o tiectl %{SOURCE0} -ltie\n"+
				"%install\ninstall -D tiectl %{buildroot}/usr/bin/tiectl", "/usr/bin/tiectl"),
		"tiectl/main.c":  "#include <tie.h>\nint main(int n, char **v) { return tie(v[n - 1]); }\n",
		"motd/motd.spec": specText("motd", "BuildArch: noarch", "%install\nmkdir -p %{buildroot}/etc\necho welcome > %{buildroot}/etc/motd", "%config(noreplace) /etc/motd"),
	}
}
