package abi_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/check"
	"slipway/internal/check/abi"
	"slipway/internal/distro"
	"slipway/internal/dnf/dnftest"
	"slipway/internal/rpm"
)

// shop keeps packages by header digest.
type shop struct {
	mu    sync.Mutex
	files map[distro.Digest]string
}

type file struct {
	*os.File
	size int64
}

func (f file) Size() int64 { return f.size }

func (s *shop) open(_ context.Context, r distro.PackageRecord) (check.Package, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := os.Open(s.files[r.HeaderDigest])
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	return file{f, st.Size()}, err
}

func (s *shop) read(_ context.Context, r distro.PackageRecord) (*rpm.Package, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return rpm.ReadFile(s.files[r.HeaderDigest])
}

// put builds packages and gives their records.
func (s *shop) put(t *testing.T, specs ...string) []distro.PackageRecord {
	t.Helper()
	var out []distro.PackageRecord
	for _, spec := range specs {
		for _, path := range dnftest.Build(t, spec) {
			p, err := rpm.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			source := strings.TrimSuffix(p.SourceRPM, fmt.Sprintf("-%s-%s.src.rpm", p.Version, p.Release))
			s.mu.Lock()
			s.files[p.HeaderDigest] = path
			s.mu.Unlock()
			out = append(out, distro.PackageRecord{Name: p.Name, Version: p.Version, Release: p.Release, Arch: p.Arch, Scope: p.Arch, SourceName: source,
				HeaderDigest: p.HeaderDigest, Content: p.ContentDigest(), File: filepath.Base(path)})
		}
	}
	return out
}

// compile runs gcc on a source and gives the file.
func compile(t *testing.T, name, source string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	out := filepath.Join(dir, name)
	if err := os.WriteFile(out+".c", []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	if msg, err := exec.CommandContext(t.Context(), "gcc", append([]string{"-o", out, out + ".c"}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	return out
}

const raw = "%global __os_install_post %{nil}\n%global debug_package %{nil}\n%global _binary_payload w1.gzdio\n"

// spec packs files: "from:/to" each.
func spec(name string, version int, head string, files ...string) string {
	var install, list strings.Builder
	for _, f := range files {
		from, to, _ := strings.Cut(f, ":")
		if from == "" {
			from = "/dev/null"
		}
		fmt.Fprintf(&install, "install -D -m 755 %s %%{buildroot}%s\n", from, to)
		list.WriteString(to + "\n")
	}
	return fmt.Sprintf("Name: %s\nVersion: %d\nRelease: 1\n%s%s%%description\nx\n%%install\n%s%%files\n%s", name, version, head, raw, install.String(), list.String())
}

const knot1 = `struct knot { int turns; char name[8]; };
int knot_label(struct knot *k, int n) { return k->turns + n; }
int knot_old(void) { return 1; }
int knot_table[4];
`

func lib(t *testing.T, source string, more ...string) string {
	return compile(t, "libknot.so.1", source, append([]string{"-g", "-shared", "-fPIC", "-Wl,-soname,libknot.so.1"}, more...)...)
}

// program uses knot_label and knot_old.
func program(t *testing.T, l string) string {
	return compile(t, "knotctl", "int knot_label(void *, int); int knot_old(void); int main(void) { return knot_label(0, 1) + knot_old(); }", l)
}

func ask(t *testing.T, bed *check.Bed, s *shop) check.Outcome {
	t.Helper()
	bed.Dir, bed.Jobs, bed.Read, bed.Open = t.TempDir(), 2, s.read, s.open
	out, err := check.Run(t.Context(), bed, []check.Check{abi.New()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if out[0].Result.Error != "" {
		t.Fatal(out[0].Result.Error)
	}
	return out[0]
}

func show(o check.Outcome) []string {
	var got []string
	for _, f := range o.Result.Findings {
		got = append(got, string(f.Level)+" "+f.ID)
	}
	return got
}

func find(t *testing.T, o check.Outcome, id string) distro.Finding {
	t.Helper()
	i := slices.IndexFunc(o.Result.Findings, func(f distro.Finding) bool { return f.ID == id })
	if i < 0 {
		t.Fatalf("no finding %s in %q", id, show(o))
	}
	return o.Result.Findings[i]
}

func want(t *testing.T, o check.Outcome, ids ...string) {
	t.Helper()
	if d := cmp.Diff(ids, show(o)); d != "" {
		t.Errorf("%s\n%+v", d, o.Result.Findings)
	}
}

func TestLibraries(t *testing.T) {
	t.Parallel()
	s := &shop{files: map[distro.Digest]string{}}
	l := lib(t, knot1)
	knot := s.put(t, spec("libknot", 1, "", l+":/usr/lib/libknot.so.1"))
	ctl := s.put(t, spec("knotctl", 1, "", program(t, l)+":/usr/bin/knotctl"))
	base := slices.Concat(knot, ctl)
	next := func(t *testing.T, l string) *check.Bed {
		return &check.Bed{Base: base, History: base, Packages: slices.Concat(s.put(t, spec("libknot", 2, "", l+":/usr/lib/libknot.so.1")), ctl)}
	}

	t.Run("added", func(t *testing.T) {
		t.Parallel()
		o := ask(t, next(t, lib(t, knot1+"int knot_new(void) { return 2; }\n")), s)
		want(t, o)
		if o.Result.Asked != 1 || len(o.Files) != 1 || o.Files[0].Name != "libknot.x86_64+usr+lib+libknot.so.1.abi.xml" {
			t.Errorf("%+v %+v", o.Result, o.Files)
		}
	})
	t.Run("removed", func(t *testing.T) {
		t.Parallel()
		o := ask(t, next(t, lib(t, strings.Replace(knot1, "int knot_old(void) { return 1; }\n", "", 1))), s)
		want(t, o, "block libknot.x86_64:symbols:libknot.so.1")
		f := o.Result.Findings[0]
		if f.Source != "libknot" || !strings.Contains(f.Text, "1 removed (knot_old); 1 published package breaks") || !slices.Contains(f.Evidence, "knotctl-1-1.x86_64: /usr/bin/knotctl uses knot_old") {
			t.Errorf("%+v", f)
		}
	})
	t.Run("variable", func(t *testing.T) {
		t.Parallel()
		o := ask(t, next(t, lib(t, strings.Replace(knot1, "[4]", "[5]", 1))), s)
		want(t, o, "warn libknot.x86_64:symbols:libknot.so.1", "warn libknot.x86_64:types:libknot.so.1")
		if f := o.Result.Findings[0]; !slices.Contains(f.Evidence, "variable knot_table had 16 bytes and has 20") {
			t.Errorf("%+v", f)
		}
	})
	t.Run("signature", func(t *testing.T) {
		t.Parallel()
		o := ask(t, next(t, lib(t, strings.Replace(knot1, "int n)", "long n)", 1))), s)
		want(t, o, "block libknot.x86_64:types:libknot.so.1")
		if f := o.Result.Findings[0]; !slices.Contains(f.Evidence, "knotctl-1-1.x86_64: /usr/bin/knotctl uses knot_label") || f.Log == "" || !strings.Contains(strings.Join(f.Evidence, "\n"), "'long int'") {
			t.Errorf("%+v", f)
		}
	})
	t.Run("struct", func(t *testing.T) {
		t.Parallel()
		want(t, ask(t, next(t, lib(t, strings.Replace(knot1, "int turns;", "int turns; int more;", 1))), s), "block libknot.x86_64:types:libknot.so.1")
	})
	t.Run("no debug information", func(t *testing.T) {
		t.Parallel()
		o := ask(t, next(t, lib(t, strings.Replace(knot1, "int n)", "long n)", 1), "-s")), s)
		want(t, o, "warn libknot.x86_64:debug:libknot.so.1")
		if f := o.Result.Findings[0]; !strings.Contains(f.Text, "2-1: no debug information") || strings.Contains(f.Text, "1-1") {
			t.Errorf("%+v", f)
		}
	})
	t.Run("debug information in a package", func(t *testing.T) {
		t.Parallel()
		l := lib(t, strings.Replace(knot1, "int n)", "long n)", 1))
		stripped, debug := filepath.Join(t.TempDir(), "libknot.so.1"), filepath.Join(t.TempDir(), "libknot.so.1")
		for _, args := range [][]string{{"--only-keep-debug", l, debug}, {"--strip-all", "--add-gnu-debuglink=" + debug, l, stripped}} {
			if msg, err := exec.CommandContext(t.Context(), "objcopy", args...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, msg)
			}
		}
		bed := next(t, stripped)
		packed := strings.Replace(spec("libknot", 2, "", stripped+":/usr/lib/libknot.so.1", debug+":/usr/lib/.debug/libknot.so.1"), "%files\n/usr/lib/libknot.so.1\n", "%files\n/usr/lib/libknot.so.1\n%files dbg\n", 1)
		packed = strings.Replace(packed, "%install", "%package dbg\nSummary: x\n%description dbg\nx\n%install", 1)
		bed.Packages = slices.Concat(s.put(t, packed), ctl)
		want(t, ask(t, bed, s), "block libknot.x86_64:types:libknot.so.1")
	})
	t.Run("kept description", func(t *testing.T) {
		t.Parallel()
		first := ask(t, next(t, lib(t, knot1+"int knot_new(void) { return 2; }\n")), s)
		xml, err := os.ReadFile(first.Files[0].Path)
		if err != nil {
			t.Fatal(err)
		}
		bed := next(t, lib(t, strings.Replace(knot1, "int n)", "long n)", 1)+"int knot_new(void) { return 2; }\n"))
		asked := 0
		bed.Kept = func(_ context.Context, r distro.PackageRecord, name string) ([]byte, bool, error) {
			if r.Version != "1" {
				return nil, false, nil
			}
			asked++
			return xml, name == "libknot.x86_64+usr+lib+libknot.so.1.abi.xml", nil
		}
		want(t, ask(t, bed, s), "block libknot.x86_64:types:libknot.so.1")
		if asked != 1 {
			t.Error(asked)
		}
	})
	t.Run("no library", func(t *testing.T) {
		t.Parallel()
		o := ask(t, next(t, "/etc/hostname"), s)
		want(t, o, "block libknot.x86_64:soname:libknot.so.1")
		if f := o.Result.Findings[0]; !strings.Contains(f.Text, "is in no package of the candidate any more; 1 published package breaks") && !strings.Contains(f.Text, ": 1 published package breaks") {
			t.Errorf("%+v", f)
		}
	})
	t.Run("new soname, program built again", func(t *testing.T) {
		t.Parallel()
		l2 := compile(t, "libknot.so.2", knot1, "-g", "-shared", "-fPIC", "-Wl,-soname,libknot.so.2")
		bed := next(t, l2)
		bed.Packages = slices.Concat(s.put(t, spec("libknot", 2, "", l2+":/usr/lib/libknot.so.2")), s.put(t, spec("knotctl", 2, "", program(t, l2)+":/usr/bin/knotctl")))
		o := ask(t, bed, s)
		want(t, o, "warn libknot.x86_64:soname:libknot.so.1")
		if f := o.Result.Findings[0]; !strings.Contains(f.Text, "which has libknot.so.2") || !slices.Contains(f.Evidence, "knotctl-1-1.x86_64 needs it, and is replaced by knotctl-2-1.x86_64") {
			t.Errorf("%+v", f)
		}
	})
	t.Run("moved to another package", func(t *testing.T) {
		t.Parallel()
		bed := next(t, "/etc/hostname")
		bed.Packages = slices.Concat(s.put(t, spec("libknot", 2, "", ":/usr/share/knot"), spec("libknot-core", 2, "", lib(t, knot1+"int knot_new;\n")+":/usr/lib/libknot.so.1")), ctl)
		want(t, ask(t, bed, s))
	})
	t.Run("since the first", func(t *testing.T) {
		t.Parallel()
		bed := next(t, lib(t, strings.Replace(knot1, "int knot_old(void) { return 1; }\n", "int knot_more;\n", 1)))
		bed.First, bed.Base = base, slices.Concat(s.put(t, spec("libknot", 1, "%define x 2\n", lib(t, strings.Replace(knot1, "int knot_old(void) { return 1; }\n", "", 1))+":/usr/lib/libknot.so.1")), ctl)
		bed.History = slices.Concat(bed.First, bed.Base)
		o := ask(t, bed, s)
		want(t, o, "info libknot.x86_64:symbols:libknot.so.1:first")
		// What is lost now, though the last release had it only just like the first, blocks once for each.
		bed = next(t, lib(t, strings.Replace(knot1, "int knot_old(void) { return 1; }\n", "int knot_more;\n", 1)))
		bed.First, bed.Base = base, slices.Concat(s.put(t, spec("libknot", 1, "", lib(t, knot1+"int knot_new;\n")+":/usr/lib/libknot.so.1")), ctl)
		bed.History = slices.Concat(bed.First, bed.Base)
		o = ask(t, bed, s)
		want(t, o, "block libknot.x86_64:symbols:libknot.so.1", "block libknot.x86_64:symbols:libknot.so.1:first")
	})
	t.Run("unsound", func(t *testing.T) {
		t.Parallel()
		b, err := os.ReadFile(l)
		if err != nil {
			t.Fatal(err)
		}
		cut := filepath.Join(t.TempDir(), "cut")
		if err := os.WriteFile(cut, b[:len(b)/2], 0o644); err != nil {
			t.Fatal(err)
		}
		packed := strings.Replace(spec("libknot", 2, "", cut+":/usr/lib/libknot.so.1"), "Release: 1\n", "Release: 1\nAutoReqProv: no\n", 1)
		bed := next(t, l)
		bed.Packages = slices.Concat(s.put(t, packed), ctl)
		want(t, ask(t, bed, s), "block libknot.x86_64:unreadable")
	})
	t.Run("nothing changed", func(t *testing.T) {
		t.Parallel()
		o := ask(t, &check.Bed{Base: base, History: base, Packages: base}, s)
		want(t, o)
		if o.Result.Asked != 0 || o.Result.Note == "" {
			t.Errorf("%+v", o.Result)
		}
	})
}

// A program whose package was made without rpm's own dependencies is found by looking
// into it; one that is tied to the library's exact version is replaced with it.
func TestUsers(t *testing.T) {
	t.Parallel()
	s := &shop{files: map[distro.Digest]string{}}
	l := lib(t, knot1)
	knot := s.put(t, spec("libknot", 1, "", l+":/usr/lib/libknot.so.1"))
	now := s.put(t, spec("libknot", 2, "", lib(t, strings.Replace(knot1, "int knot_old(void) { return 1; }\n", "", 1))+":/usr/lib/libknot.so.1"))
	quiet := s.put(t, spec("quiet", 1, "AutoReqProv: no\n", program(t, l)+":/usr/bin/quiet"))
	tied := s.put(t, spec("tied", 1, "Requires: libknot = 1\n", program(t, l)+":/usr/bin/tied"))
	for _, tt := range []struct {
		user []distro.PackageRecord
		want string
	}{{quiet, "block"}, {tied, "warn"}} {
		base := slices.Concat(knot, tt.user)
		want(t, ask(t, &check.Bed{Base: base, History: base, Packages: slices.Concat(now, tt.user)}, s), tt.want+" libknot.x86_64:symbols:libknot.so.1")
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	s := &shop{files: map[distro.Digest]string{}}
	python := "/usr/lib/python3.11/site-packages/"
	base := s.put(t, spec("knot-devel", 1, "BuildArch: noarch\n", ":/usr/include/knot.h", ":/usr/include/knot/rope.h", ":/usr/lib/pkgconfig/knot.pc", ":"+python+"knot/__init__.py", ":"+python+"knot/tie.py", ":"+python+"knot-1.dist-info/RECORD", ":/usr/bin/knot", ":/usr/sbin/tie"))
	other := s.put(t, spec("rigger", 1, "BuildArch: noarch\nRequires: /usr/sbin/tie\n", ":/usr/share/rigger"))
	all := slices.Concat(base, other)
	python = "/usr/lib/python3.12/site-packages/"
	now := s.put(t, spec("knot-devel", 2, "BuildArch: noarch\n", ":/usr/include/knot.h", ":"+python+"knot/__init__.py", ":/bin/knot"))
	o := ask(t, &check.Bed{Base: all, History: all, Packages: slices.Concat(now, other)}, s)
	want(t, o, "block knot-devel.noarch:commands", "warn knot-devel.noarch:headers", "warn knot-devel.noarch:pkgconfig", "warn knot-devel.noarch:python")
	for id, says := range map[string]string{"headers": "1 header of 1-1 of the last release is in no package of the candidate: knot/rope.h", "python": "knot.tie", "pkgconfig": "knot", "commands": "tie; 1 published package breaks"} {
		if f := find(t, o, "knot-devel.noarch:"+id); !strings.Contains(f.Text, says) || f.Cure == "" {
			t.Errorf("%+v", f)
		}
	}
	// Another package takes them over.
	o = ask(t, &check.Bed{Base: all, History: all, Packages: slices.Concat(now, other, s.put(t, spec("more", 1, "BuildArch: noarch\n", ":/usr/include/knot/rope.h", ":/usr/share/pkgconfig/knot.pc", ":"+python+"knot/tie.py", ":/usr/sbin/tie")))}, s)
	want(t, o)
}
