package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"slipway/internal/distro"
	"slipway/internal/rpm"
)

// Words that must be nowhere in the publication: in a closed package's payload,
// scriptlet, description, changelog, source, log and commit; names of recipes and packages.
var canaries = []string{"quokka-payload", "quokka-scriptlet", "quokka-description", "quokka-source", "quokka-log", "quokka-commit", "quokka-changelog", "vendor-radio", "firmware-blob"}

const (
	vendorRadio = `Name: vendor-radio
Version: 1.0
Release: %{slipway_number}
Summary: A radio
License: MIT
BuildArch: noarch
Source0: radio.txt
%description
quokka-description
%install
echo quokka-log
install -D -m 0644 %{SOURCE0} %{buildroot}/usr/share/radio/radio.txt
%post -p <lua>
-- quokka-scriptlet
%files
/usr/share/radio
%changelog
* Mon Jan 05 2026 T <t@example.org>
- quokka-changelog
`
	tuner = `Name: tuner
Version: %VERSION%
Release: %{slipway_number}
Summary: A tuner
License: MIT
BuildArch: noarch
%description
Public, canary-of-the-canaries.
%package -n firmware-blob
Summary: Its firmware
License: MIT AND CLOSED
%description -n firmware-blob
quokka-description
%install
mkdir -p %{buildroot}/usr/share/tuner %{buildroot}/usr/share/firmware
echo canary-of-the-canaries %VERSION% > %{buildroot}/usr/share/tuner/readme
echo quokka-payload > %{buildroot}/usr/share/firmware/blob
%files
/usr/share/tuner
%files -n firmware-blob
/usr/share/firmware
%changelog
* Mon Jan 05 2026 T <t@example.org>
- A tuner
`
)

// publicBed is a workspace of the small example, with two recipes that must not go
// out, one of them in part.
type publicBed struct {
	t   *testing.T
	dir string
}

func newPublicBed(t *testing.T, installs string) *publicBed {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	b := &publicBed{t, filepath.Join(t.TempDir(), "halyard")}
	b.run(0, "init", b.dir, "--example", "halyard-packages")
	specs := filepath.Join(b.dir, "layers/halyard/specs")
	entries, err := os.ReadDir(specs)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "base-files" && e.Name() != "halyard-release" { // the others cost time only
			os.RemoveAll(filepath.Join(specs, e.Name()))
		}
	}
	b.edit("sources.lock", func(string) string { return `{"schema":1,"sources":[]}` })
	b.file("layers/halyard/specs/vendor-radio/vendor-radio.spec", vendorRadio)
	b.file("layers/halyard/specs/vendor-radio/radio.txt", "quokka-source quokka-payload\n")
	b.tuner("1.0")
	b.edit("slipway.yaml", func(s string) string { // what a device does with the feeds is asked elsewhere
		return strings.Replace(s, "gate: {upgrade_from: {first: true, last: true}}", "gate: {checks: {installs: "+installs+", upgrades: \"off\"}}", 1)
	})
	b.policy("  exclude: [{license: CLOSED}, {recipe: \"vendor-*\"}]\n")
	b.commit("vendor-radio: quokka-commit")
	return b
}

func (b *publicBed) run(want int, args ...string) string {
	b.t.Helper()
	var out bytes.Buffer
	args = append(args, "--dir", b.dir)
	if args[0] == "init" {
		args = args[:len(args)-2]
	}
	if code := Main(b.t.Context(), args, Stdio{In: strings.NewReader(""), Out: &out, Err: &out}); code != want {
		b.t.Fatalf("slipway %s: exit %d, want %d\n%s", strings.Join(args, " "), code, want, out.String())
	}
	return out.String()
}

func (b *publicBed) file(name, text string) {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *publicBed) edit(name string, change func(string) string) {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		b.t.Fatal(err)
	}
	b.file(name, change(string(data)))
}

func (b *publicBed) tuner(version string) {
	b.file("layers/halyard/specs/tuner/tuner.spec", strings.ReplaceAll(tuner, "%VERSION%", version))
}

const publicLine = "  public: [packages, images, sdk, sources, sbom, configuration]\n"

// policy replaces what follows publish.public.
func (b *publicBed) policy(exclude string) {
	b.edit("slipway.yaml", func(s string) string {
		before, after, _ := strings.Cut(s, publicLine)
		return before + publicLine + exclude + after[strings.Index(after, "gate:"):]
	})
}

func (b *publicBed) commit(message string) {
	b.t.Helper()
	for _, args := range [][]string{{"add", "-A"}, {"-c", "user.name=T", "-c", "user.email=t@example.org", "commit", "-q", "-m", message}} {
		if out, err := exec.Command("git", append([]string{"-C", b.dir}, args...)...).CombinedOutput(); err != nil {
			b.t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
}

// release brings out what is committed.
func (b *publicBed) release(version string) {
	b.t.Helper()
	b.run(0, "build", "--for", version)
	b.run(0, "test", version+"-c1")
	b.run(0, "approve", version+"-c1", "--by", "T")
	b.run(0, "publish", version)
}

// published reads every byte of the publication, decompressed and unpacked, and
// gives the places of a word: in names or in contents.
func (b *publicBed) published(word string) []string {
	b.t.Helper()
	var found []string
	w := []byte(word)
	look := func(name string, data []byte) {
		if bytes.Contains([]byte(name), w) || bytes.Contains(data, w) {
			found = append(found, name)
		}
	}
	walk(b.t, filepath.Join(b.dir, "publication"), func(name, path string, data []byte) {
		look(name, data)
		switch filepath.Ext(name) {
		case ".zst":
			z, err := zstd.NewReader(bytes.NewReader(data))
			if err != nil {
				b.t.Fatal(name, err)
			}
			defer z.Close()
			look(name, readAll(b.t, z))
		case ".gz":
			z, err := gzip.NewReader(bytes.NewReader(data))
			if err != nil {
				b.t.Fatal(name, err)
			}
			look(name, readAll(b.t, z))
		case ".rpm":
			dir := b.t.TempDir()
			if err := rpm.Extract(bytes.NewReader(data), int64(len(data)), dir); err != nil {
				b.t.Fatal(name, err)
			}
			walk(b.t, dir, func(inner, _ string, data []byte) { look(name+":"+inner, data) })
		}
	})
	return found
}

func readAll(t *testing.T, r io.Reader) []byte {
	t.Helper()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func walk(t *testing.T, dir string, do func(name, path string, data []byte)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		do(name, path, data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (b *publicBed) nothingOut(after string) {
	b.t.Helper()
	for _, c := range canaries {
		if at := b.published(c); len(at) > 0 {
			b.t.Errorf("after %s %q is in the publication: %v", after, c, at)
		}
	}
	if len(b.published("canary-of-the-canaries")) == 0 {
		b.t.Error("the search finds nothing at all")
	}
}

func (b *publicBed) statement(version string) distro.Statement {
	b.t.Helper()
	var s distro.Statement
	data, err := os.ReadFile(filepath.Join(b.dir, "publication/1/releases", version, "release.json"))
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// The whole cycle with what must not go out: nothing of it is in any byte of the
// publication, its numbers are kept, and it goes out when the policy lets it.
func TestInternalPackagesStayIn(t *testing.T) {
	b := newPublicBed(t, `"off"`)
	b.release("1.1")
	b.nothingOut("release 1.1")
	s := b.statement("1.1")
	if s.Withheld < 3 { // two packages, vendor-radio's log
		t.Errorf("withheld: %d", s.Withheld)
	}
	for _, a := range s.Artifacts {
		if (a.Class == distro.TaskLog || a.Class == distro.PRDatabase) && a.Name != "" {
			t.Errorf("the statement names %s %s", a.Class, a.Name)
		}
	}

	b.tuner("1.1")
	b.commit("tuner: 1.1")
	b.run(0, "build", "--for", "1.2")
	// A policy that became stricter is not overruled by a candidate that is older.
	b.run(0, "test", "1.2-c1")
	b.run(0, "approve", "1.2-c1", "--by", "T")
	b.policy("  exclude: [{license: CLOSED}, {recipe: \"vendor-*\"}, {recipe: tuner}]\n")
	if out := b.run(7, "publish", "1.2"); !strings.Contains(out, "tuner-1.1-1.noarch is not public any more: publish.exclude has {recipe: tuner}") {
		t.Error(out)
	}
	b.policy("  exclude: [{license: CLOSED}, {recipe: \"vendor-*\"}]\n")
	b.run(0, "publish", "1.2")
	b.nothingOut("release 1.2")

	advisory := "schema: 1\nseverity: low\nfixed_in: \"1.1\"\n"
	b.file("advisories/TSA-1.yaml", advisory+"title: x\ndescription: x\nrecipes: [vendor-radio]\n")
	b.file("advisories/TSA-2.yaml", advisory+"title: x\ndescription: the firmware-blob is concerned\nrecipes: [tuner]\n")
	if out := b.run(2, "advisory", "publish"); !strings.Contains(out, "release 1.1 has no recipe vendor-radio") || !strings.Contains(out, "description names a package or recipe of the release that is not public") {
		t.Error(out)
	}
	b.file("advisories/TSA-1.yaml", advisory+"title: x\ndescription: x\nrecipes: [tuner]\n")
	b.edit("advisories/TSA-2.yaml", func(s string) string { return strings.Replace(s, "firmware-blob", "firmware", 1) })
	b.run(0, "advisory", "publish")
	b.nothingOut("an advisory")

	b.policy("  exclude: [{license: CLOSED}]\n")
	b.commit("vendor-radio goes out")
	b.release("1.3")
	var got []string
	for _, p := range b.statement("1.3").Packages {
		got = append(got, p.NEVRA())
	}
	if list := strings.Join(got, " "); !strings.Contains(list, "vendor-radio-1.0-1.noarch") || strings.Contains(list, "firmware-blob") {
		t.Errorf("release 1.3 has %s", list)
	}
	if len(b.published("quokka-source")) == 0 || len(b.published("firmware-blob")) > 0 {
		t.Error("vendor-radio is not out, or firmware-blob is")
	}
	b.run(0, "verify")
}

// A public package that needs an internal one is found out before it is published.
func TestPublicNeedsInternal(t *testing.T) {
	b := newPublicBed(t, "block")
	b.edit("layers/halyard/specs/tuner/tuner.spec", func(s string) string {
		return strings.Replace(s, "License: MIT\n", "License: MIT\nRequires: vendor-radio\n", 1)
	})
	b.commit("tuner needs vendor-radio")
	b.run(0, "build")
	if out := b.run(7, "test"); !strings.Contains(out, "tuner") {
		t.Error(out)
	}
	b.run(7, "check")
}
