package elfabi

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/errs"
)

const source = `
int knot_new(void) { return 2; }
int knot_1(void) { return 1; }
int knot_2(void) { return 2; }
__asm__(".symver knot_1,knot_label@KNOT_1.0");
__asm__(".symver knot_2,knot_label@@KNOT_1.1");
int knot_table[4];
__thread int knot_local;
__attribute__((weak)) int knot_weak(void) { return 3; }
__attribute__((visibility("hidden"))) int knot_hidden(void) { return 3; }
extern int puts(const char *);
int knot_say(void) { return puts("x"); }
`

const script = "KNOT_1.0 { global: knot_label; knot_table; knot_weak; knot_say; knot_local; local: *; };\nKNOT_1.1 { global: knot_new; knot_label; } KNOT_1.0;\n"

func compile(t testing.TB, name, text string, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	for file, data := range map[string]string{"k.c": text, "k.map": script} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("gcc", append([]string{"-g", "-o", name, "k.c"}, args...)...)
	cmd.Dir = dir
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	return filepath.Join(dir, name)
}

func library(t testing.TB) string {
	return compile(t, "libknot.so.1", source, "-shared", "-fPIC", "-Wl,-soname,libknot.so.1", "-Wl,--version-script,k.map", "-Wl,--build-id=0x0102ff")
}

func read(t testing.TB, path string) *File {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Read(bytes.NewReader(b), path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func names(all []Symbol) []string {
	out := []string{}
	for _, s := range all {
		out = append(out, s.String())
	}
	return out
}

func TestRead(t *testing.T) {
	t.Parallel()
	path := library(t)
	f := read(t, path)
	if f.SOName != "libknot.so.1" || f.BuildID != "0102ff" || !f.Debug || f.Machine != "x86_64" || f.Bits != 64 || f.DebugLink != "" {
		t.Errorf("%+v", f)
	}
	if d := cmp.Diff([]string{"knot_label@KNOT_1.0", "knot_label@@KNOT_1.1", "knot_local@@KNOT_1.0", "knot_new@@KNOT_1.1", "knot_say@@KNOT_1.0", "knot_table@@KNOT_1.0", "knot_weak@@KNOT_1.0"}, names(f.Exports)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"KNOT_1.0", "KNOT_1.1"}, f.Versions); d != "" {
		t.Error(d)
	}
	kinds := map[string]Symbol{}
	for _, s := range f.Exports {
		kinds[s.Name] = s
	}
	if s := kinds["knot_table"]; s.Kind != "object" || s.Size != 16 {
		t.Errorf("%+v", s)
	}
	if s := kinds["knot_local"]; s.Kind != "tls" || s.Size != 4 {
		t.Errorf("%+v", s)
	}
	if !kinds["knot_weak"].Weak || kinds["knot_new"].Weak || kinds["knot_new"].Kind != "func" {
		t.Errorf("%+v", kinds)
	}
	i := slices.IndexFunc(f.Imports, func(s Symbol) bool { return s.Name == "puts" })
	if i < 0 || f.Imports[i].Library != "libc.so.6" || f.Imports[i].Version == "" || !slices.Equal(f.Needed, []string{"libc.so.6"}) {
		t.Errorf("%+v", f)
	}

	stripped := path + ".stripped"
	if msg, err := exec.Command("objcopy", "--strip-all", "--add-gnu-debuglink="+path, path, stripped).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	if s := read(t, stripped); s.Debug || s.DebugLink != "libknot.so.1" || cmp.Diff(s.Exports, f.Exports) != "" {
		t.Errorf("%+v", s)
	}
}

// TestBesideReadelf: binutils' readelf names the same symbols, versions and libraries,
// in our library and in those of this machine.
func TestBesideReadelf(t *testing.T) {
	t.Parallel()
	files := []string{library(t), "/usr/bin/gcc"}
	for _, pattern := range []string{"/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libz.so.1", "/usr/lib/x86_64-linux-gnu/libstdc++.so.6", "/usr/bin/rpm"} {
		found, _ := filepath.Glob(pattern)
		files = append(files, found...)
	}
	for _, path := range files {
		f := read(t, path)
		exports, imports := map[string]bool{}, map[string]bool{}
		for line := range strings.Lines(readelf(t, "--dyn-syms", path)) {
			w := strings.Fields(line)
			if len(w) < 8 || w[4] != "GLOBAL" && w[4] != "WEAK" && w[4] != "UNIQUE" {
				continue
			}
			switch {
			case w[6] == "UND":
				imports[w[7]] = true
			case w[5] != "DEFAULT" && w[5] != "PROTECTED", w[6] == "ABS":
			default:
				exports[w[7]] = true
			}
		}
		var got, gotImports []string
		for _, s := range f.Exports {
			got = append(got, s.String())
		}
		for _, s := range f.Imports {
			gotImports = append(gotImports, s.String())
		}
		slices.Sort(got)
		slices.Sort(gotImports)
		if d := cmp.Diff(keys(exports), slices.Compact(got)); d != "" {
			t.Errorf("%s exports: %s", path, d)
		}
		if d := cmp.Diff(keys(imports), slices.Compact(gotImports)); d != "" {
			t.Errorf("%s imports: %s", path, d)
		}
		dynamic := readelf(t, "-d", path)
		for _, n := range f.Needed {
			if !strings.Contains(dynamic, "Shared library: ["+n+"]") {
				t.Errorf("%s: readelf does not know %s", path, n)
			}
		}
		if strings.Count(dynamic, "Shared library: [") != len(f.Needed) || f.SOName != "" && !strings.Contains(dynamic, "Library soname: ["+f.SOName+"]") {
			t.Errorf("%s: %v %s\n%s", path, f.Needed, f.SOName, dynamic)
		}
	}
}

func readelf(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "readelf", append([]string{"-W"}, args...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func keys(m map[string]bool) []string {
	out := []string{}
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func TestCompare(t *testing.T) {
	t.Parallel()
	old := read(t, library(t))
	gone := strings.NewReplacer("int knot_new(void) { return 2; }\n", "", "knot_table[4]", "knot_table[5]").Replace(source)
	now := read(t, compile(t, "libknot.so.2", gone, "-shared", "-fPIC", "-Wl,-soname,libknot.so.2", "-Wl,--version-script,k.map"))
	var got []string
	for _, c := range Compare(old, now) {
		got = append(got, c.String())
	}
	if d := cmp.Diff([]string{"soname libknot.so.1 became libknot.so.2", "function knot_new@@KNOT_1.1 is gone", "variable knot_table@@KNOT_1.0 had 16 bytes and has 20"}, got); d != "" {
		t.Error(d)
	}
	if c := Compare(old, old); len(c) != 0 {
		t.Error(c)
	}

	sym := func(name, version string, def bool) Symbol {
		return Symbol{Name: name, Version: version, Default: def, Kind: "func"}
	}
	lib := func(versions []string, s ...Symbol) *File { return &File{SOName: "l", Versions: versions, Exports: s} }
	for i, tt := range []struct {
		old, now *File
		want     string
	}{
		{lib(nil, sym("f", "", false)), lib([]string{"V"}, sym("f", "V", true)), ""},         // an old program takes the default
		{lib(nil, sym("f", "", false)), lib([]string{"V"}, sym("f", "V", false)), "removed"}, // none is the default
		{lib([]string{"V"}, sym("f", "V", true)), lib(nil, sym("f", "", false)), "version"},  // ld.so grumbles
		{lib([]string{"V"}, sym("f", "V", true)), lib([]string{"W"}, sym("f", "W", true)), "removed"},
		{lib([]string{"V"}, sym("f", "V", true)), lib([]string{"V"}, sym("f", "V", false)), ""}, // only newly linked ones take another
		{lib(nil, Symbol{Name: "f", Kind: "func"}), lib(nil, Symbol{Name: "f", Kind: "object"}), "kind"},
		{lib(nil, Symbol{Name: "f", Kind: "func", Size: 1}), lib(nil, Symbol{Name: "f", Kind: "func", Size: 2}), ""},
	} {
		var got string
		for _, c := range Compare(tt.old, tt.now) {
			got += c.Kind
			if c.String() == "" {
				t.Error(c)
			}
		}
		if got != tt.want {
			t.Errorf("%d: %q, want %q", i, got, tt.want)
		}
	}
}

func TestUses(t *testing.T) {
	t.Parallel()
	f := &File{Needed: []string{"libc.so.6", "libk.so.1"}, Imports: []Symbol{{Name: "a", Version: "V1", Library: "libk.so.1"}, {Name: "b"}, {Name: "c", Version: "GLIBC_2.2", Library: "libc.so.6"}}}
	for _, tt := range []struct {
		lib  string
		s    Symbol
		want bool
	}{
		{"libk.so.1", Symbol{Name: "a", Version: "V1"}, true}, {"libk.so.1", Symbol{Name: "a", Version: "V2"}, false}, {"libk.so.1", Symbol{Name: "a"}, true},
		{"libk.so.1", Symbol{Name: "b", Version: "V1"}, true}, {"libk.so.1", Symbol{Name: "c"}, false}, {"libk.so.1", Symbol{Name: "d"}, false}, {"libx.so.1", Symbol{Name: "b"}, false},
	} {
		if got := f.Uses(tt.lib, tt.s); got != tt.want {
			t.Errorf("%s %v: %v", tt.lib, tt.s, got)
		}
	}
}

func TestOthers(t *testing.T) {
	t.Parallel()
	object := compile(t, "k.o", source, "-c")
	if f := read(t, object); f.SOName != "" || len(f.Exports) != 0 || !f.Debug {
		t.Errorf("%+v", f)
	}
	static := compile(t, "static", "int main(void) { return 0; }", "-static")
	if f := read(t, static); f.SOName != "" || len(f.Needed) != 0 {
		t.Errorf("%+v", f)
	}
	whole, err := os.ReadFile(library(t))
	if err != nil {
		t.Fatal(err)
	}
	if !IsELF(whole[:4]) || IsELF([]byte("#!/b")) {
		t.Error("magic")
	}
	for n := 0; n < len(whole); n += 97 {
		if _, err := Read(bytes.NewReader(whole[:n]), "cut"); err != nil && (!errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "cut")) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	if _, err := Read(sick{}, "disk"); !errs.Is(err, errs.Unavailable) {
		t.Error(err)
	}
	noSections := bytes.Clone(whole)
	copy(noSections[0x28:], make([]byte, 8)) // e_shoff
	copy(noSections[0x3a:], make([]byte, 6)) // e_shentsize, e_shnum, e_shstrndx
	if _, err := Read(bytes.NewReader(noSections), "bare"); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "no dynamic section") {
		t.Error(err)
	}
}

type sick struct{}

func (sick) ReadAt([]byte, int64) (int, error) { return 0, errors.New("input/output error") }

// FuzzRead: no bytes make Read panic or give another error than Invalid, and what it
// accepts compares with itself without a change.
func FuzzRead(f *testing.F) {
	small := compile(f, "libk.so", "int k;\nint f(void) { return k; }\n", "-shared", "-fPIC", "-nostdlib", "-g0", "-s")
	base, err := os.ReadFile(small)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Add([]byte{0, 0x10, 0xff, 0, 0x3c, 0x7f})
	f.Fuzz(func(t *testing.T, patches []byte) {
		b := bytes.Clone(base)
		for ; len(patches) >= 3; patches = patches[3:] {
			b[(int(patches[0])<<8|int(patches[1]))%len(b)] = patches[2]
		}
		e, err := Read(bytes.NewReader(b), "fuzz")
		if err != nil {
			if !errs.Is(err, errs.Invalid) {
				t.Fatal(err)
			}
			return
		}
		if c := Compare(e, e); len(c) != 0 && !duplicates(e) {
			t.Fatal(c)
		}
		_ = fmt.Sprint(e)
	})
}

// duplicates reports whether a symbol is there twice: no linker makes that.
func duplicates(f *File) bool {
	n := names(f.Exports)
	for i := range n {
		n[i] = strings.Replace(n[i], "@@", "@", 1)
	}
	slices.Sort(n)
	return len(slices.Compact(slices.Clone(n))) != len(n)
}
