package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/cli"
)

// TestTwoLivesGiveTheSameBytes lets one distribution live twice, in two folders,
// with the same keys and decisions at the same times: two releases each, built
// anew. Every byte of the two publications is equal.
func TestTwoLivesGiveTheSameBytes(t *testing.T) {
	t.Parallel()
	life := func(dir string) string {
		t.Helper()
		now := time.Date(2025, 12, 1, 12, 0, 0, 0, time.UTC) // gpg refuses signatures from the future
		slipway := func(args ...string) (int, string) {
			t.Helper()
			var out bytes.Buffer
			now = now.Add(time.Minute)
			at := now
			stdio := cli.Stdio{In: strings.NewReader(""), Out: &out, Err: &out, Clock: func() time.Time { return at }}
			return cli.Main(t.Context(), append([]string{"--dir", dir}, args...), stdio), out.String()
		}
		do := func(args ...string) {
			t.Helper()
			if code, out := slipway(args...); code != 0 {
				t.Fatalf("slipway %v: exit code %d\n%s", args, code, out)
			}
		}
		write := func(name, text string) {
			t.Helper()
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		git := func(args ...string) {
			t.Helper()
			run(t, dir, 0, append([]string{"env", "GIT_AUTHOR_DATE=2025-12-01T12:00:00Z", "GIT_COMMITTER_DATE=2025-12-01T12:00:00Z",
				"git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org"}, args...)...)
		}
		for name, text := range minnow {
			write(name, strings.ReplaceAll(text, "minnow", "twin"))
		}
		if err := os.Rename(filepath.Join(dir, "layers/minnow"), filepath.Join(dir, "layers/twin")); err != nil {
			t.Fatal(err)
		}
		git("init", "-q", "-b", "main")
		git("add", "-A")
		git("commit", "-q", "-m", "first")
		do("key", "create", "--no-passphrase")
		do("run", "--yes", "--by", "Ada Byron")
		write("layers/twin/specs/hello/hello.txt", "hello, world\n")
		git("commit", "-q", "-a", "-m", "greet the world")
		do("run", "--yes", "--by", "Ada Byron")
		public := tree(t, filepath.Join(dir, "publication"))
		if filepath.Base(dir) == "one" {
			now = now.Add(-time.Hour)
			code, said := slipway("run", "--yes", "--by", "Ada Byron")
			if code != 6 || !strings.Contains(said, "this machine's clock says 2025-12-01T11:") {
				t.Errorf("a clock that jumped back: exit code %d\n%s", code, said)
			}
			if tree(t, filepath.Join(dir, "publication")) != public {
				t.Error("a clock that jumped back changed the publication")
			}
		}
		return public
	}
	base := t.TempDir()
	one, two := life(filepath.Join(base, "one")), life(filepath.Join(base, "a-longer-name/two"))
	if one != two {
		t.Errorf("two lives differ:\n%s", cmp.Diff(strings.Split(one, "\n"), strings.Split(two, "\n")))
	}
	if n := strings.Count(one, ".rpm "); n != 2 {
		t.Errorf("%d packages in the pool, want 2:\n%s", n, one)
	}
}
