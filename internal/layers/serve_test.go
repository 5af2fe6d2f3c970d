package layers

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestServe: what plain HTTP serves is cloned, and followed when other files take its
// place, as `devtool sdk-update` of OE-Core does both.
func TestServe(t *testing.T) {
	t.Parallel()
	dir, client := t.TempDir(), filepath.Join(t.TempDir(), "clone")
	served := filepath.Join(dir, "layers")
	write := func(text string) {
		t.Helper()
		path := filepath.Join(served, "core", "scripts", "build")
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		err = errors.Join(err, os.WriteFile(path, []byte(text), 0o755), os.WriteFile(filepath.Join(served, ".gitignore"), []byte("*.pyc\n"), 0o644), os.WriteFile(filepath.Join(served, "x.pyc"), []byte(text), 0o644))
		if err != nil {
			t.Fatal(err)
		}
	}
	git := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "git", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	at := time.Unix(1790000000, 0)
	write("first")
	if err := Serve(t.Context(), served, "halyard 1.1", at); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer s.Close()
	git("clone", "-q", s.URL+"/layers/.git", client)
	commit := git("-C", client, "rev-parse", "HEAD")
	if err := Serve(t.Context(), served, "halyard 1.1", at); err != nil {
		t.Fatal(err)
	}
	git("-C", client, "fetch", "-q", "--all")
	if again := git("-C", client, "rev-parse", "@{u}"); again != commit {
		t.Errorf("the same files are another commit: %s, %s", again, commit)
	}
	write("second")
	if err := Serve(t.Context(), served, "halyard 1.2", at.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	git("-C", client, "fetch", "-q", "--all")
	git("-C", client, "reset", "-q", "--hard", "@{u}")
	for _, name := range []string{"core/scripts/build", "x.pyc"} {
		if got, err := os.ReadFile(filepath.Join(client, name)); err != nil || string(got) != "second" {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	if info, err := os.Stat(filepath.Join(client, "core/scripts/build")); err != nil || info.Mode()&0o100 == 0 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}
