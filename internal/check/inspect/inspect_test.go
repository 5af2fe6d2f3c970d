package inspect_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/check"
	"slipway/internal/check/inspect"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpm"
)

func artifact(class distro.Class, name, text string) check.Artifact {
	return check.Artifact{Artifact: distro.Artifact{Class: class, Name: name, Size: int64(len(text))}, Key: name,
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }}
}

func ask(t *testing.T, bed *check.Bed) check.Outcome {
	t.Helper()
	bed.Dir = t.TempDir()
	out, err := check.Run(t.Context(), bed, []check.Check{inspect.New()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if out[0].Result.Error != "" {
		t.Fatal(out[0].Result.Error)
	}
	return out[0]
}

func want(t *testing.T, o check.Outcome, ids ...string) {
	t.Helper()
	var got []string
	for _, f := range o.Result.Findings {
		got = append(got, string(f.Level)+" "+f.ID)
		if f.Text == "" || f.Cure == "" {
			t.Errorf("%+v", f)
		}
	}
	if d := cmp.Diff(ids, got); d != "" {
		t.Errorf("%s\n%+v", d, o.Result.Findings)
	}
}

func find(t *testing.T, o check.Outcome, id string) distro.Finding {
	t.Helper()
	i := slices.IndexFunc(o.Result.Findings, func(f distro.Finding) bool { return f.ID == id })
	if i < 0 {
		t.Fatalf("no finding %s in %+v", id, o.Result.Findings)
	}
	return o.Result.Findings[i]
}

// kept gives what a run leaves for the next.
func kept(t *testing.T, o check.Outcome) check.Artifact {
	t.Helper()
	i := slices.IndexFunc(o.Files, func(f check.File) bool { return f.Name == "issues.json" })
	if i < 0 {
		t.Fatalf("%+v", o.Files)
	}
	data, err := os.ReadFile(o.Files[i].Path)
	if err != nil {
		t.Fatal(err)
	}
	return artifact(distro.TaskLog, "test/inspect/issues.json", string(data))
}

var released = []distro.PackageRecord{{Name: "unchanged", Version: "1", Release: "1", Arch: "noarch", HeaderDigest: "sha256:u", Content: "u"}}

const qa = "WARNING: hello-1.0-r0 do_package_qa: QA Issue: hello: Files/directories were installed but not shipped: /usr/share/x [installed-vs-shipped]\n"

func TestLogs(t *testing.T) {
	t.Parallel()
	log := func(text string) check.Artifact {
		return artifact(distro.TaskLog, "core2-64-fixture-linux/hello/1.0/log.do_compile", text)
	}
	console := func(text string) check.Artifact { return artifact(distro.ConsoleLog, "console.log", text) }
	first := ask(t, &check.Bed{Artifacts: []check.Artifact{console("NOTE: x\n" + qa), log("/tmp/a/b1/hello.c:12:3: warning: unused variable 'x' [-Wunused-variable]\nwarning: Deprecated external dependency generator is used!\n")}})
	want(t, first)
	if first.Result.Asked != 2 || !strings.Contains(first.Result.Note, "2 logs complain of 3 things") {
		t.Errorf("%+v", first.Result)
	}

	// The same again, from another folder, at another line: nothing is new.
	same := []check.Artifact{console(qa), log("/home/z/b2/hello.c:99:1: warning: unused variable 'x' [-Wunused-variable]\r\nwarning: Deprecated external dependency generator is used!")}
	want(t, ask(t, &check.Bed{Base: released, Artifacts: same, BaseArtifacts: []check.Artifact{kept(t, first)}}))
	// Also when the last release has its logs only.
	want(t, ask(t, &check.Bed{Base: released, Artifacts: same, BaseArtifacts: same}))

	o := ask(t, &check.Bed{Base: released, BaseArtifacts: []check.Artifact{kept(t, first)}, Artifacts: append(same,
		console("WARNING: hello-1.0-r0 do_package_qa: QA Issue: File /usr/bin/hello in package hello contains reference to TMPDIR [buildpaths]\nWARNING: The free space is low\nERROR: other-lib-2.0-r3 do_install: oops \xff\xfe\n"),
		artifact(distro.TaskLog, "core2-64-fixture-linux/hello/1.0/log.do_install", "/x/y.c:1:1: warning: cast [-Wcast]\nWARNING: File not found\n"))})
	want(t, o, "info log:hello:compiler", "warn log:hello:qa:buildpaths", "warn log:hello:warning", "warn log:other-lib:error", "warn log:the-build:warning")
	if f := find(t, o, "log:hello:qa:buildpaths"); f.Source != "hello" || f.Log != "console.log" || f.Evidence[0] != "File .../bin/hello in package hello contains reference to TMPDIR" {
		t.Errorf("%+v", f)
	}
	if f := find(t, o, "log:other-lib:error"); f.Evidence[0] != `oops \xff\xfe` {
		t.Errorf("%+v", f)
	}

	// What was not built this time keeps what it had; the embedded builder says so.
	o = ask(t, &check.Bed{Base: released, BaseArtifacts: []check.Artifact{kept(t, first)}, Artifacts: []check.Artifact{console("")}})
	want(t, ask(t, &check.Bed{Base: released, BaseArtifacts: []check.Artifact{kept(t, o)}, Artifacts: []check.Artifact{log("hello.c:1:1: warning: unused variable 'x' [-Wunused-variable]\n")}}))
	spec := func(text string) check.Artifact { return artifact(distro.TaskLog, "libknot.x86_64.log", text) }
	o = ask(t, &check.Bed{Artifacts: []check.Artifact{spec("k.c:3:1: warning: odd [-Wodd]\n")}})
	o = ask(t, &check.Bed{Base: released, BaseArtifacts: []check.Artifact{kept(t, o)}, Artifacts: []check.Artifact{spec("number 1 kept, not built: nothing that decides its packages changed\n")}})
	want(t, ask(t, &check.Bed{Base: released, BaseArtifacts: []check.Artifact{kept(t, o)}, Artifacts: []check.Artifact{spec("k.c:4:1: warning: odd [-Wodd]\n")}}))
	// What was mended is new when it comes back.
	o = ask(t, &check.Bed{Base: released, BaseArtifacts: []check.Artifact{kept(t, o)}, Artifacts: []check.Artifact{spec("fine\n")}})
	want(t, ask(t, &check.Bed{Base: released, BaseArtifacts: []check.Artifact{kept(t, o)}, Artifacts: []check.Artifact{spec("k.c:4:1: warning: odd [-Wodd]\n")}}), "info log:libknot:compiler")
}

// TestRecordedLogs: of a real build (BitBake 2.18, OE-Core wrynose, the fixture layer).
func TestRecordedLogs(t *testing.T) {
	t.Parallel()
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	all := []check.Artifact{artifact(distro.ConsoleLog, "console.log", read("console.log")), artifact(distro.TaskLog, "core2-64-fixture-linux/hello/1.0/log.do_package_write_rpm", read("log.do_package_write_rpm"))}
	o := ask(t, &check.Bed{Base: released, Artifacts: all, BaseArtifacts: all[:1]})
	want(t, o, "warn log:hello:warning")
	if f := o.Result.Findings[0]; len(f.Evidence) != 1 || f.Evidence[0] != "Deprecated external dependency generator is used!" {
		t.Errorf("%+v", f)
	}
}

// large gives a gigabyte that has no line break, and then a warning.
type large struct {
	left int64
	tail io.Reader
}

func (l *large) Read(b []byte) (int, error) {
	if l.left == 0 {
		return l.tail.Read(b)
	}
	n := int(min(int64(len(b)), l.left))
	clear(b[:n])
	l.left -= int64(n)
	return n, nil
}

func (l *large) Close() error { return nil }

func TestLargeLog(t *testing.T) {
	t.Parallel()
	a := artifact(distro.ConsoleLog, "console.log", "")
	a.Open = func(context.Context) (io.ReadCloser, error) {
		return &large{left: 1 << 30, tail: strings.NewReader("\nWARNING: late\n")}, nil
	}
	o := ask(t, &check.Bed{Base: released, Artifacts: []check.Artifact{a}})
	want(t, o, "warn log:the-build:warning")
	// More issues than anybody reads are told, and not kept.
	var b bytes.Buffer
	for i := range 25000 {
		b.WriteString("WARNING: issue " + word(i) + "\n")
	}
	o = ask(t, &check.Bed{Base: released, Artifacts: []check.Artifact{artifact(distro.ConsoleLog, "console.log", b.String())}})
	if !strings.Contains(o.Result.Note, "20000 are the most") || len(o.Result.Findings) != 1 || len(o.Result.Findings[0].Evidence) != 21 {
		t.Errorf("%.300s %d", o.Result.Note, len(o.Result.Findings))
	}
}

// word spells a number in letters.
func word(n int) string {
	s := ""
	for ; n > 0; n /= 26 {
		s += string(rune('a' + n%26))
	}
	return s + "q"
}

// headers are packages by their header's digest.
type headers map[distro.Digest]*rpm.Package

func (h headers) put(p rpm.Package, source string) distro.PackageRecord {
	if p.Arch == "" {
		p.Arch = "noarch"
	}
	if p.Release == "" {
		p.Release = "1"
	}
	d := distro.DigestOf(distro.CanonicalJSON(p))
	h[d] = &p
	return distro.PackageRecord{Name: p.Name, Version: p.Version, Release: p.Release, Arch: p.Arch, SourceName: source, HeaderDigest: d, Content: p.ContentDigest(), License: p.License}
}

func (h headers) read(_ context.Context, r distro.PackageRecord) (*rpm.Package, error) {
	p := h[r.HeaderDigest]
	if p == nil {
		return nil, errs.E(errs.NotFound, r.Name)
	}
	return p, nil
}

func regular(path string, mode uint32, more ...func(*rpm.File)) rpm.File {
	f := rpm.File{Path: path, Mode: 0o100000 | mode, User: "root", Group: "root", Size: 1, Digest: "d"}
	for _, m := range more {
		m(&f)
	}
	return f
}

func TestPackages(t *testing.T) {
	t.Parallel()
	h := headers{}
	old := rpm.Package{Name: "a", Version: "1", License: "MIT", InstalledSize: 10 << 20, Files: []rpm.File{regular("/usr/bin/a", 0o755), regular("/usr/bin/gone", 0o755)},
		Requires: []rpm.Dep{{Name: "libc"}}, Scripts: []rpm.Script{{Kind: "post", Interp: "/bin/sh", Body: "true"}}}
	now := old
	now.Version, now.License, now.InstalledSize = "2", "GPL-3.0-only", 13<<20
	now.Requires = []rpm.Dep{{Name: "libc"}, {Name: "libz"}}
	now.Scripts = []rpm.Script{{Kind: "post", Interp: "/bin/sh", Body: "useradd -r knot\n"}, {Kind: "preun", Interp: "/bin/sh", Body: "true"}}
	now.Files = []rpm.File{regular("/usr/bin/a", 0o4755), regular("/usr/lib/systemd/system/a.service", 0o644), regular("/var/lib/a", 0o666), regular("/usr/bin/ping", 0o755, func(f *rpm.File) { f.Caps = "cap_net_raw=ep" }),
		regular("/srv/a", 0o600, func(f *rpm.File) { f.User = "knot" })}
	base := []distro.PackageRecord{h.put(old, "a")}
	bed := func(commits map[string][]string, now ...distro.PackageRecord) *check.Bed {
		return &check.Bed{Base: base, Packages: now, Read: h.read, Growth: check.Growth{Percent: 20, Bytes: 1 << 20}, Commits: func(s string) []string { return commits[s] }}
	}
	touched := map[string][]string{"a": {"1234567890 change a"}}
	o := ask(t, bed(touched, h.put(now, "a")))
	want(t, o, "info a.noarch:dependencies", "info a.noarch:files", "warn a.noarch:license", "info a.noarch:scripts", "warn a.noarch:services", "warn a.noarch:setuid", "warn a.noarch:size", "warn a.noarch:users", "warn a.noarch:writable")
	for id, says := range map[string]string{"dependencies": "+ requires libz", "files": "4 files more and 1 file fewer", "license": `was "MIT" and is "GPL-3.0-only"`, "scripts": "post changed, preun is new", "services": "/usr/lib/systemd/system/a.service",
		"setuid": "2 programs with special rights: /usr/bin/a 4755 root:root, /usr/bin/ping 0755 root:root cap_net_raw=ep", "size": "by 30 %; the limit is 20 %", "users": "post: useradd -r knot, user knot owns files of it", "writable": "/var/lib/a 0666"} {
		if f := find(t, o, "a.noarch:"+id); !strings.Contains(f.Text, says) || f.Source != "a" || len(f.Commits) != 1 {
			t.Errorf("%s: %+v", id, f)
		}
	}

	// A new package has no old rights.
	b := rpm.Package{Name: "b", Version: "1", Files: []rpm.File{regular("/usr/bin/b", 0o2755)}}
	want(t, ask(t, bed(touched, base[0], h.put(b, "b"))), "info b.noarch:new", "warn b.noarch:setuid")

	// Content that changed though nothing was touched; and what explains it.
	rebuilt := old
	rebuilt.Release, rebuilt.Files = "2", []rpm.File{regular("/usr/bin/a", 0o755, func(f *rpm.File) { f.Digest = "e" }), regular("/usr/bin/gone", 0o755)}
	o = ask(t, bed(nil, h.put(rebuilt, "a")))
	want(t, o, "warn a.noarch:unexplained")
	if f := o.Result.Findings[0]; !slices.ContainsFunc(f.Evidence, func(e string) bool { return strings.HasPrefix(e, "/usr/bin/a: Digest") }) {
		t.Errorf("%+v", f)
	}
	want(t, ask(t, bed(touched, h.put(rebuilt, "a"))))
	libc := rpm.Package{Name: "libc", Version: "2", Provides: []rpm.Dep{{Name: "libc"}}}
	want(t, ask(t, bed(nil, h.put(rebuilt, "a"), h.put(libc, "libc"))), "info libc.noarch:new")
	newer := rebuilt
	newer.Version = "1.1"
	want(t, ask(t, bed(nil, h.put(newer, "a"))), "info a.noarch:unexplained")

	// A new number without new content says why.
	number := old
	number.Release = "2"
	one := bed(nil, h.put(number, "a"), h.put(libc, "libc"))
	one.SameButNumber = func(a, b distro.PackageRecord) bool { return a.Name == "a" }
	o = ask(t, one)
	want(t, o, "info a.noarch:number", "info libc.noarch:new")
	if f := o.Result.Findings[0]; !strings.Contains(f.Text, "what it needs changed: libc") {
		t.Errorf("%+v", f)
	}
	// The first release: nothing to compare with.
	want(t, ask(t, &check.Bed{Packages: base, Read: h.read}))
}

func TestHistory(t *testing.T) {
	t.Parallel()
	history := func(name, text string) check.Artifact { return artifact(distro.Buildhistory, name, text) }
	const recipe, image = "packages/core2-64/hello/latest", "images/qemux86_64/glibc/minimal/"
	old := []check.Artifact{history(recipe, "PV = 2.0\nPR = r0\nDEPENDS = libc\nPACKAGES = hello hello-dev\nLAYER = core\nLICENSE = MIT\nCONFIG = \n"),
		history(image+"image-info.txt", "IMAGESIZE = 10240\n"), history(image+"installed-package-names.txt", "a\nb\n"), history(image+"files-in-image.txt", "-rwsr-xr-x root root 1 ./bin/su\n")}
	now := []check.Artifact{history(recipe, "PE = \nPV = 1.9\nPR = r7\nDEPENDS = libc zlib\nPACKAGES = hello\nLAYER = mine\nLICENSE = BSD-2-Clause\nCONFIG = ssl\n"),
		history(image+"image-info.txt", "IMAGESIZE = 20480\n"), history(image+"installed-package-names.txt", "a\nc\n"), history(image+"files-in-image.txt", "-rwsr-xr-x root root 1 ./bin/su\n-rwxr-sr-x root mail 1 ./bin/mail\n")}
	bed := &check.Bed{Base: released, Artifacts: now, BaseArtifacts: old, Growth: check.Growth{Percent: 20, Bytes: 1 << 20}}
	o := ask(t, bed)
	want(t, o, "info image:qemux86_64/glibc/minimal:packages", "warn image:qemux86_64/glibc/minimal:setuid", "warn image:qemux86_64/glibc/minimal:size",
		"block recipe:hello.core2-64:backwards", "info recipe:hello.core2-64:built-with", "warn recipe:hello.core2-64:layer", "warn recipe:hello.core2-64:license", "info recipe:hello.core2-64:packages")
	if f := find(t, o, "recipe:hello.core2-64:built-with"); !strings.Contains(f.Text, `+ zlib, PACKAGECONFIG was "" and is "ssl"`) || f.Source != "hello" {
		t.Errorf("%+v", f)
	}
	bed.Artifacts = old
	want(t, ask(t, bed))
	bed.Artifacts = []check.Artifact{history(recipe, "nonsense\n")}
	want(t, ask(t, bed), "block buildhistory")
}

func TestImages(t *testing.T) {
	t.Parallel()
	content := func(names ...string) []check.ImageContent {
		c := check.ImageContent{Board: "qemu", Image: "light", Name: "qemu/light.img"}
		for _, n := range names {
			c.Packages = append(c.Packages, distro.PackageRecord{Name: n})
		}
		return []check.ImageContent{c}
	}
	file := func(size int64) []check.Artifact {
		a := artifact(distro.Images, "qemu/light-1.2.img", "")
		a.Key, a.Size = "qemu/light.img", size
		return []check.Artifact{a}
	}
	bed := &check.Bed{Base: released, Contents: content("a", "b"), BaseContents: content("a", "c"), Artifacts: file(30 << 20), BaseArtifacts: file(20 << 20), Growth: check.Growth{Percent: 20, Bytes: 1 << 20}}
	o := ask(t, bed)
	want(t, o, "warn image:qemu/light.img:size", "info qemu/light:packages")
	if f := find(t, o, "qemu/light:packages"); !slices.Equal(f.Evidence, []string{"+ b", "- c"}) || !slices.Equal(f.Boards, []string{"qemu"}) {
		t.Errorf("%+v", f)
	}
	bed.Growth = check.Growth{}
	want(t, ask(t, bed), "info qemu/light:packages")
}

func TestLimits(t *testing.T) {
	t.Parallel()
	sizes := map[string]int64{"lib": 4096, "libbig": 4097, "tool": 9999}
	var packages []distro.PackageRecord
	for _, name := range []string{"lib", "libbig", "tool"} {
		packages = append(packages, distro.PackageRecord{Name: name, Version: "1", Release: "1", Arch: "noarch", SourceName: name, Content: "c", HeaderDigest: "sha256:h"})
	}
	bed := func() *check.Bed {
		image := artifact(distro.Images, "b1/light-b1-1.2.img", strings.Repeat("x", 2000))
		other := artifact(distro.Images, "b2/light-b2-1.2.img", strings.Repeat("x", 1024))
		return &check.Bed{Base: packages, Packages: packages, Artifacts: []check.Artifact{image, other},
			Contents: []check.ImageContent{{Board: "b1", Image: "light", Name: image.Name}, {Board: "b2", Image: "light", Name: other.Name}, {Board: "b3", Image: "light", Name: "b3/none.img"}},
			Read: func(_ context.Context, r distro.PackageRecord) (*rpm.Package, error) {
				return &rpm.Package{Name: r.Name, InstalledSize: sizes[r.Name]}, nil
			}}
	}
	b := bed()
	b.Limits = []check.Limit{{Package: "lib*", Bytes: 4096}, {Image: "*/light", Bytes: 1024}}
	o := ask(t, b)
	want(t, o, "block limit:image:b1/light", "block limit:image:b3/light", "block limit:package:libbig.noarch")
	if f := find(t, o, "limit:package:libbig.noarch"); f.Source != "libbig" || !strings.Contains(f.Text, "has 4097 bytes; the limit of lib* is 4096") {
		t.Errorf("%+v", f)
	}
	if f := find(t, o, "limit:image:b1/light"); !slices.Equal(f.Boards, []string{"b1"}) || !strings.Contains(f.Text, "2000 bytes") {
		t.Errorf("%+v", f)
	}
	b = bed()
	b.Limits = []check.Limit{{Package: "lib*", Bytes: 5000}, {Image: "b1/*", Bytes: 2000}}
	want(t, ask(t, b))
	want(t, ask(t, bed()))
}
