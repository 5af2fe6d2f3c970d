package architecture

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "slipway/"

// pkg is what we read of `go list -json`.
type pkg struct {
	ImportPath, Dir, Doc, Name         string
	Standard                           bool
	GoFiles                            []string
	TestGoFiles, XTestGoFiles          []string
	Imports, TestImports, XTestImports []string
	Module                             *struct{ Path string }
}

// rel is the path within the module; "" for the root and for others' packages.
func (p pkg) rel() string { return rel(p.ImportPath) }

func rel(importPath string) string {
	r, ok := strings.CutPrefix(importPath, module)
	if !ok {
		return ""
	}
	return r
}

// listing is one `go list -deps -json ./...`: our packages, and all that they
// are linked with. -e: a package that does not compile yet is still judged.
var listing = sync.OnceValues(func() ([]pkg, error) {
	cmd := exec.Command("go", "list", "-e", "-deps", "-json=ImportPath,Dir,Doc,Name,Standard,GoFiles,TestGoFiles,XTestGoFiles,Imports,TestImports,XTestImports,Module", "./...")
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, stderr.String())
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
})

// ours gives the packages of this module.
func ours(t *testing.T) []pkg {
	t.Helper()
	all, err := listing()
	if err != nil {
		t.Fatal(err)
	}
	var out []pkg
	for _, p := range all {
		if p.rel() != "" {
			out = append(out, p)
		}
	}
	if len(out) < 3 {
		t.Fatalf("go list names only %d packages of %s", len(out), module)
	}
	return out
}

// place finds a package's level: its own row, or test support for x/xtest (a
// conformance suite or a test bed beside its package), or the nearest "x/*".
func place(path string) (level, bool) {
	if l, ok := levels[path]; ok {
		return l, true
	}
	if parts := strings.Split(path, "/"); len(parts) > 2 && parts[len(parts)-1] == parts[len(parts)-2]+"test" {
		return support, true
	}
	for dir := path; strings.Contains(dir, "/"); {
		dir = dir[:strings.LastIndexByte(dir, '/')]
		if l, ok := levels[dir+"/*"]; ok {
			return l, true
		}
	}
	return 0, false
}

func matches(pattern, path string) bool {
	if dir, ok := strings.CutSuffix(pattern, "/*"); ok {
		return strings.HasPrefix(path, dir+"/")
	}
	return pattern == path
}

// under reports whether importPath is the module (or package) named, or below it.
func under(importPath, name string) bool {
	return importPath == name || strings.HasPrefix(importPath, name+"/")
}

// edge says what is wrong with one import of shipped code, "" for nothing.
func edge(from, to string) string {
	fl, ok1 := place(from)
	tl, ok2 := place(to)
	if !ok1 || !ok2 {
		return "" // TestEveryPackageHasAPlace says so
	}
	if why, leaf := leaves[from]; leaf && tl != core {
		return fmt.Sprintf("%s is a leaf (%s) and must not import %s", from, why, to)
	}
	switch {
	case fl == support && tl <= delivery:
		return ""
	case tl == support && fl != support:
		return fmt.Sprintf("%s is for tests: %s is shipped and must not import it", to, from)
	case tl < fl:
		return ""
	case tl > fl:
		return fmt.Sprintf("%s (%s) must not import %s (%s): arrows point down. Declare a small interface in %s and let cli hand it in",
			from, levelNames[fl], to, levelNames[tl], from)
	}
	for _, p := range peers {
		if matches(p.from, from) && matches(p.to, to) {
			return ""
		}
	}
	return fmt.Sprintf("%s must not import %s: both are %s. Declare a small interface in %s, or add the pair to peers in internal/architecture/table_test.go with its reason",
		from, to, levelNames[fl], from)
}

func TestEveryPackageHasAPlace(t *testing.T) {
	for _, p := range ours(t) {
		if _, ok := place(p.rel()); !ok {
			t.Errorf("package %s has no place: add it to levels in internal/architecture/table_test.go", p.rel())
		}
	}
}

func TestArrowsPointDown(t *testing.T) {
	for _, p := range ours(t) {
		for _, imp := range p.Imports {
			if to := rel(imp); to != "" {
				if bad := edge(p.rel(), to); bad != "" {
					t.Error(bad)
				}
			}
		}
		if livesInTests[p.rel()] != "" {
			continue
		}
		// A test may use its own level and what is below, and the test support.
		for _, imp := range slices.Concat(p.TestImports, p.XTestImports) {
			fl, _ := place(p.rel())
			if tl, ok := place(rel(imp)); ok && tl != support && tl > fl {
				t.Errorf("a test of %s (%s) must not import %s (%s): put it into %s", p.rel(), levelNames[fl], rel(imp), levelNames[tl], rel(imp))
			}
		}
	}
}

// TestEdges tests the judge itself.
func TestEdges(t *testing.T) {
	for _, tt := range []struct {
		from, to string
		ok       bool
	}{
		{"internal/feed", "internal/rpmmd", true},
		{"internal/rpmmd", "internal/feed", false},
		{"internal/distro", "internal/errs", true},
		{"internal/errs", "internal/distro", false},
		{"internal/flow", "internal/state", false},
		{"internal/flow", "internal/config", false},
		{"internal/store", "internal/state", false},
		{"internal/feed", "internal/store/storetest", false},
		{"internal/store/storetest", "internal/store", true},
		{"internal/dnf", "internal/dnf/dnftest", false},
		{"internal/check/install", "internal/check", true},
		{"internal/check/install", "internal/check/upgrade", false},
		{"internal/cli", "internal/state", true},
		{"internal/web", "internal/feed", false},
	} {
		if bad := edge(tt.from, tt.to); (bad == "") != tt.ok {
			t.Errorf("%s -> %s: got %q, want ok = %v", tt.from, tt.to, bad, tt.ok)
		}
	}
}

func TestPurePackagesDoNoIO(t *testing.T) {
	for _, p := range ours(t) {
		if !slices.Contains(pure, p.rel()) {
			continue
		}
		for _, imp := range p.Imports {
			if slices.Contains(impure, imp) {
				t.Errorf("%s is pure and must not import %s", p.rel(), imp)
			}
		}
	}
}

// owner finds the longest row of owners that covers an import.
func owner(importPath string) (name string, who []string, ok bool) {
	for n, w := range owners {
		if under(importPath, n) && len(n) >= len(name) {
			name, who, ok = n, w, true
		}
	}
	return name, who, ok
}

func thirdParty(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return strings.Contains(first, ".")
}

func TestOnePackageHidesEachDependency(t *testing.T) {
	for _, p := range ours(t) {
		if l, _ := place(p.rel()); l == support {
			continue
		}
		for _, imp := range p.Imports {
			name, who, ok := owner(imp)
			switch {
			case !ok && thirdParty(imp):
				t.Errorf("%s imports %s, which nobody owns: add it to owners in internal/architecture/table_test.go and to docs/dependencies.md", p.rel(), imp)
			case ok && !slices.Contains(who, p.rel()):
				t.Errorf("%s must not import %s: only %v may use %s", p.rel(), imp, who, name)
			}
		}
		for _, imp := range slices.Concat(p.TestImports, p.XTestImports) {
			name, who, ok := owner(imp)
			if !thirdParty(imp) || slices.ContainsFunc(testOnly, func(m string) bool { return under(imp, m) }) {
				continue
			}
			if !ok || !slices.Contains(who, p.rel()) {
				t.Errorf("a test of %s must not import %s (%s)", p.rel(), imp, name)
			}
		}
	}
}

// TestOnlyOwnersStartPrograms reads the syntax of every shipped file: who
// imports os/exec, and the program's name where it is a literal.
func TestOnlyOwnersStartPrograms(t *testing.T) {
	for _, p := range ours(t) {
		if l, _ := place(p.rel()); l == support {
			continue
		}
		allowed, may := starts[p.rel()]
		if slices.Contains(p.Imports, "os/exec") && !may {
			t.Errorf("%s imports os/exec: programs are started by their adapter (%s)", p.rel(), "starts in internal/architecture/table_test.go")
		}
		for _, name := range p.GoFiles {
			file := filepath.Join(p.Dir, name)
			for _, prog := range programs(t, file) {
				if !slices.Contains(allowed, prog.name) && !slices.Contains(allowed, "*") {
					t.Errorf("%s: %s starts %q, but may start only %v", prog.at, p.rel(), prog.name, allowed)
				}
			}
		}
	}
}

type program struct{ name, at string }

// programs finds exec.Command, exec.CommandContext and exec.LookPath with a literal name.
func programs(t *testing.T, file string) []program {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Errorf("%v", err)
		return nil
	}
	var out []program
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); !ok || x.Name != "exec" {
			return true
		}
		arg := map[string]int{"Command": 0, "CommandContext": 1, "LookPath": 0}
		i, ok := arg[sel.Sel.Name]
		if !ok || i >= len(call.Args) {
			return true
		}
		if lit, ok := call.Args[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil {
				out = append(out, program{filepath.Base(s), fset.Position(lit.Pos()).String()})
			}
		}
		return true
	})
	return out
}

func TestEveryPackageHasAComment(t *testing.T) {
	for _, p := range ours(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("package %s has no package comment: say what it is for, its nouns and what it promises", p.rel())
		}
	}
}

func TestNames(t *testing.T) {
	vague := []string{"util", "utils", "common", "helper", "helpers", "models", "types", "misc", "base", "lib"}
	for _, p := range ours(t) {
		for _, part := range strings.Split(p.rel(), "/") {
			if slices.Contains(vague, part) {
				t.Errorf("%s: a package is named after what it provides, not %q", p.rel(), part)
			}
		}
	}
}

const maxLines = 600

func TestFilesStayShort(t *testing.T) {
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); n == "build" || n == "testdata" || n == ".slipway" || n == ".git" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if n := bytes.Count(b, []byte("\n")); n > maxLines {
			t.Errorf("%s has %d lines, more than %d: split it by subject", path, n, maxLines)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestTablesAreTidy: every allowed pair has a reason, and no row of the tables
// speaks of a level that it cannot mean.
func TestTablesAreTidy(t *testing.T) {
	for _, p := range peers {
		if p.why == "" {
			t.Errorf("peers: %s -> %s has no reason", p.from, p.to)
		}
	}
	for _, table := range [][]string{keys(leaves), keys(livesInTests), keys(starts), pure} {
		for _, name := range table {
			if _, ok := place(name); !ok {
				t.Errorf("%s stands in a table but has no place in levels", name)
			}
		}
	}
	for name, who := range owners {
		for _, w := range who {
			if _, ok := place(w); !ok {
				t.Errorf("owners: %s is owned by %s, which has no place in levels", name, w)
			}
		}
	}
}

func keys[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
