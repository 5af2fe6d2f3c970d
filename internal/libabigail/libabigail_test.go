package libabigail

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway/internal/errs"
)

func describe(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	c, so, xml := filepath.Join(dir, "k.c"), filepath.Join(dir, "libk.so.1"), filepath.Join(dir, "k.xml")
	if err := os.WriteFile(c, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	if msg, err := exec.CommandContext(t.Context(), "gcc", "-g", "-ffile-prefix-map="+dir+"=/src", "-shared", "-fPIC", "-o", so, c).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	if err := Describe(t.Context(), so, "", xml); err != nil {
		t.Fatal(err)
	}
	return xml
}

func TestCompare(t *testing.T) {
	t.Parallel()
	if m := Missing(); len(m) > 0 {
		t.Fatalf("%v is missing: install Debian's package abigail-tools", m)
	}
	const first = "struct k { int a; };\nint f(struct k *k) { return k->a; }\nint g(void) { return 1; }\nint v[3];\n"
	a := describe(t, first)
	for name, tt := range map[string]struct {
		source       string
		changed, bad bool
		symbols      []string
	}{
		"same":      {first, false, false, nil},
		"added":     {first + "int h(void) { return 1; }\n", false, false, nil},
		"removed":   {strings.Replace(first, "int g(void) { return 1; }\n", "", 1), true, true, nil},
		"signature": {strings.Replace(first, "int g(void)", "long g(void)", 1), true, false, []string{"g"}},
		"struct":    {strings.Replace(first, "int a;", "int x, a;", 1), true, false, []string{"f"}},
		"variable":  {strings.Replace(first, "v[3]", "v[4]", 1), true, false, []string{"v"}},
	} {
		c, err := Compare(t.Context(), a, describe(t, tt.source))
		if err != nil || c.Changed != tt.changed || c.Incompatible != tt.bad || !slices.Equal(c.Symbols, tt.symbols) {
			t.Errorf("%s: %v %+v", name, err, c)
		}
	}
	dir := filepath.Dir(a)
	if data, err := os.ReadFile(a); err != nil || strings.Contains(string(data), dir) {
		t.Errorf("the description names a path of this machine: %v\n%s", err, data)
	}
	broken := filepath.Join(dir, "broken.xml")
	if err := os.WriteFile(broken, []byte("<abi"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Compare(t.Context(), a, broken); !errs.Is(err, errs.Failed) {
		t.Error(err)
	}
	if err := Describe(t.Context(), broken, "", broken+".xml"); !errs.Is(err, errs.Failed) {
		t.Error(err)
	}
}

func TestMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if m := Missing(); !slices.Equal(m, []string{"abidw", "abidiff"}) {
		t.Error(m)
	}
	if err := Describe(t.Context(), "x", "", "y"); !errs.Is(err, errs.Unavailable) || len(errs.Hints(err)) == 0 {
		t.Error(err)
	}
}

func TestChanged(t *testing.T) {
	t.Parallel()
	report := `  [C] 'function int knot_label(knot*, int)' at b.c:2:1 has some indirect sub-type changes:
    parameter 1 of type 'knot*' has sub-type changes:
  [C] 'int knot_table[4]' was changed to 'int knot_table[5]' at b.c:5:1:
  [C] 'method void ns::Rope::tie(const std::string&)' at rope.h:7:1 has some indirect sub-type changes:
  [C] 'function const char* knot_name()' has some indirect sub-type changes:
  [D] 'function int gone()'    {gone}
`
	if got := Changed(report); !slices.Equal(got, []string{"knot_label", "knot_name", "knot_table", "tie"}) {
		t.Error(got)
	}
}
