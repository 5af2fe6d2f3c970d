package layers

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/errs"
)

func TestFetchable(t *testing.T) {
	t.Parallel()
	ws, repo := t.TempDir(), filepath.Join(t.TempDir(), "repo")
	git := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("git", append([]string{"-C", repo, "-c", "user.name=A", "-c", "user.email=a@b"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if err := os.Mkdir(repo, 0o755); err != nil {
		t.Fatal(err)
	}
	git("init", "-q", "-b", "main")
	git("commit", "-q", "--allow-empty", "-m", "one")
	first := git("rev-parse", "HEAD")
	git("commit", "-q", "--allow-empty", "-m", "two")
	second := git("rev-parse", "HEAD")
	l := Layer{Name: "x", URL: repo, Branch: "main"}
	pin, err := Inspect(t.Context(), ws, l)
	if err != nil || pin.Commit != second {
		t.Fatal(pin, err)
	}
	for commit, want := range map[string]bool{first: true, second: true, strings.Repeat("1", 40): false} {
		if ok, err := Fetchable(t.Context(), ws, l, commit); ok != want || err != nil {
			t.Errorf("%s: %v, %v", commit, ok, err)
		}
	}
	git("reset", "-q", "--hard", first) // the second is pushed away; the mirror has it still
	if ok, err := Fetchable(t.Context(), ws, l, second); ok || err != nil {
		t.Error(ok, err)
	}
	if err := os.RemoveAll(repo); err != nil {
		t.Fatal(err)
	}
	if _, err := Fetchable(t.Context(), ws, l, first); !errs.Is(err, errs.Unavailable) {
		t.Error(err)
	}
	for url, want := range map[string]bool{"https://x/y": true, "git@host:path": true, "ssh://h/p": true, "/srv/git/x": false, "../x": false, "file:///x": false} {
		if Public(url) != want {
			t.Errorf("%s is public: %v", url, !want)
		}
	}
}
