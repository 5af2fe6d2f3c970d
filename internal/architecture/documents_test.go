package architecture

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../../" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var (
	requireLine = regexp.MustCompile(`(?m)^(?:require )?\s*([a-z][^\s]*\.[^\s]+/[^\s]+) v[^\s]+`)
	moduleCell  = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|([^|]*)\\|([^|]*)\\|")
)

// TestEveryModuleHasALine compares go.mod with docs/dependencies.md.
func TestEveryModuleHasALine(t *testing.T) {
	required := map[string]bool{}
	for _, m := range requireLine.FindAllStringSubmatch(readFile(t, "go.mod"), -1) {
		required[m[1]] = true
	}
	if len(required) < 5 {
		t.Fatalf("go.mod requires only %v", required)
	}
	page := readFile(t, "docs/dependencies.md")
	ours, _, _ := strings.Cut(page, "## Below them") // what lies below comes and goes with the modules above
	described := map[string]bool{}
	for _, m := range moduleCell.FindAllStringSubmatch(page, -1) {
		described[m[1]] = true
		if strings.TrimSpace(m[2]) == "" || strings.TrimSpace(m[3]) == "" {
			t.Errorf("docs/dependencies.md: %s has no licence or no place", m[1])
		}
	}
	for m := range required {
		if !described[m] {
			t.Errorf("%s is in go.mod but has no line in docs/dependencies.md: licence, which package hides it, why, what without it", m)
		}
	}
	for m := range described {
		if !required[m] && strings.Contains(ours, "`"+m+"`") {
			t.Errorf("%s has a line in docs/dependencies.md but is not in go.mod", m)
		}
	}
}

// TestEveryPackageIsInTheTree: the README's tree has one line for each folder
// of internal, and none for a folder that does not exist.
func TestEveryPackageIsInTheTree(t *testing.T) {
	_, tree, _ := strings.Cut(readFile(t, "README.md"), "\ninternal/ ")
	tree, _, _ = strings.Cut(tree, "```")
	lines := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z]+) +\S`).FindAllStringSubmatch(tree, -1) {
		lines[m[1]] = true
	}
	if len(lines) < 5 {
		t.Fatalf("found no tree in README.md: %v", lines)
	}
	for _, p := range ours(t) {
		name, ok := strings.CutPrefix(p.rel(), "internal/")
		name, _, _ = strings.Cut(name, "/")
		if ok && !lines[name] {
			t.Errorf("README.md: the tree has no line for internal/%s", name)
		}
	}
	for name := range lines {
		if _, err := os.Stat("../../internal/" + name); err != nil {
			t.Errorf("README.md: the tree has a line for internal/%s, which is not there", name)
		}
	}
}

// TestLinksLead: a relative link of a page leads to a file.
func TestLinksLead(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s#]+)(#[^)]*)?\)`)
	for _, page := range []string{"README.md", "docs/README.md", "docs/contributing.md", "docs/dependencies.md", "docs/benchmarks.md", "docs/design/0001-architecture.md"} {
		dir := ""
		if i := strings.LastIndexByte(page, '/'); i >= 0 {
			dir = page[:i+1]
		}
		for _, m := range link.FindAllStringSubmatch(readFile(t, page), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat("../../" + dir + m[1]); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", page, m[1])
			}
		}
	}
}
