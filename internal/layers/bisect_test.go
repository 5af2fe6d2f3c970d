package layers_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway/internal/errs"
	"slipway/internal/layers"
)

// TestBetween searches a history with a branch that was merged, as git bisect does.
func TestBetween(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=Bo", "-c", "user.email=bo@example.org", "-c", "commit.gpgsign=false"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	commit := func(name string) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		git("add", "-A")
		git("commit", "-qm", name)
		return git("rev-parse", "HEAD")
	}
	git("init", "-q", "-b", "main")
	good := commit("a")
	b := commit("b")
	git("checkout", "-qb", "side", good)
	c := commit("c")
	d := commit("d")
	git("checkout", "-q", "main")
	git("merge", "-q", "--no-ff", "-m", "join", "side")
	bad := git("rev-parse", "HEAD")
	between := func(bad string, good ...string) []string {
		t.Helper()
		out, err := layers.Between(t.Context(), dir, bad, good)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(out)
		return out
	}
	sorted := func(l ...string) []string { slices.Sort(l); return l }
	for _, tt := range []struct {
		got, want []string
	}{{between(bad, good), sorted(b, c, d)}, {between(bad, good, b), sorted(c, d)}, {between(d, good), sorted(c)}, {between(c, good), nil}, {between(bad, b, d), nil}} {
		if !slices.Equal(tt.got, tt.want) {
			t.Errorf("%v, want %v", tt.got, tt.want)
		}
	}
	if first, err := layers.Between(t.Context(), dir, bad, []string{b}); err != nil || first[0] != c && first[0] != d {
		t.Errorf("%v, %v", first, err)
	}
	if _, err := layers.Between(t.Context(), dir, bad, []string{strings.Repeat("0", 40)}); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	info, files, err := layers.CommitOf(t.Context(), dir, c)
	if err != nil || info.ID != c || info.Author != "Bo <bo@example.org>" || info.Subject != "c" || !slices.Equal(files, []string{"A\tc"}) {
		t.Errorf("%+v %q %v", info, files, err)
	}
	if _, files, err := layers.CommitOf(t.Context(), dir, bad); err != nil || !slices.Equal(files, []string{"A\tc", "A\td"}) {
		t.Errorf("%q %v", files, err)
	}
	if _, files, err := layers.CommitOf(t.Context(), dir, good); err != nil || !slices.Equal(files, []string{"A\ta"}) {
		t.Errorf("%q %v", files, err)
	}

	// A clone stands at its commit, and the repository is as it was.
	status := func() string { return git("for-each-ref") + git("worktree", "list") + git("status", "--porcelain") }
	was := status()
	to := filepath.Join(t.TempDir(), "clone")
	if err := layers.Clone(t.Context(), dir, c, to); err != nil {
		t.Fatal(err)
	}
	entries, err := filepath.Glob(filepath.Join(to, "[a-z]"))
	if err != nil || len(entries) != 2 || status() != was {
		t.Errorf("%v %v", entries, err)
	}
	if pin, err := layers.Inspect(t.Context(), to, layers.Layer{Name: "x", Path: "."}); err != nil || pin.Commit != c {
		t.Errorf("%+v %v", pin, err)
	}
	if top, err := layers.Toplevel(t.Context(), to); err != nil || filepath.Base(top) != "clone" {
		t.Errorf("%q %v", top, err)
	}
	if top, err := layers.Toplevel(t.Context(), t.TempDir()); err != nil || top != "" {
		t.Errorf("%q %v", top, err)
	}
}
