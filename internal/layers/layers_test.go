package layers

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

func TestMain(m *testing.M) {
	if _, err := exec.LookPath("git"); err != nil {
		println("these tests need git: apt-get install git")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func day(n int) time.Time { return time.Date(2026, 12, n, 9, 0, 0, 0, time.UTC) }

const author = "Ada Example <ada@example.org>"

// example is three commits as the example distribution has them.
func example() []Commit {
	return []Commit{
		{Message: "first", Author: author, Date: day(1), Tag: "revision-1",
			Files: map[string][]byte{
				"slipway.yaml":            []byte("schema: 1\n"),
				"layers/a/specs/x.spec":   []byte("Name: x\n"),
				"layers/a/build.sh":       []byte("#!/bin/sh\n"),
				"layers/a/odd \"n\\ä\nme": []byte("odd"),
				"layers/a/crlf":           []byte("a\r\nb\r\n"),
				"layers/a/-dash":          nil,
				"layers/b/y":              []byte("y"),
				".gitignore":              []byte("*.o\n/.slipway\n"),
				".gitattributes":          []byte("layers/b/y export-ignore\n"),
			},
			Modes: map[string]fs.FileMode{"layers/a/build.sh": 0o755}},
		{Message: "x: a fix\n\nwhy", Author: author, Date: day(2),
			Files: map[string][]byte{"layers/a/specs/x.spec": []byte("Name: x\nVersion: 2\n")}},
		{Message: "y goes", Author: "Bob <bob@example.org>", Date: day(3), Tag: "revision-2", Delete: []string{"layers/b/y"},
			Files: map[string][]byte{"layers/b/z": []byte("z")}},
	}
}

func workspace(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "work space")
	if err := CreateRepo(t.Context(), dir, example()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// git is the tests' own git, apart from the package's.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=T", "-c", "user.email=t@example.org"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestCreateRepoIsTheSameEverywhere(t *testing.T) {
	t.Parallel()
	dir := workspace(t)
	got := git(t, dir, "rev-parse", "HEAD", "revision-1", "revision-2", "revision-2~1")
	want := "c29f26b78f9580dc45c1d35bd2d278fc310ee5cd"
	lines := strings.Fields(got)
	if lines[0] != want || lines[0] != lines[1] {
		t.Errorf("commits %v, want the first to be %s", lines, want)
	}
	if s := git(t, dir, "status", "--porcelain"); s != "" {
		t.Errorf("not clean: %s", s)
	}
	if s := git(t, dir, "for-each-ref", "--format=%(refname)"); s != "refs/heads/main\nrefs/tags/revision-1\nrefs/tags/revision-2" {
		t.Errorf("refs: %s", s)
	}
	git(t, dir, "fsck", "--strict")
	git(t, dir, "merge", "-q", "--ff-only", "revision-2")
	if _, err := os.Stat(filepath.Join(dir, "layers/b/y")); err == nil {
		t.Error("y is still there")
	}
	if err := CreateRepo(t.Context(), dir, example()); !errs.Is(err, errs.Conflict) {
		t.Errorf("into a folder that is not empty: %v", err)
	}
	bad := []Commit{{Message: "x", Author: author, Files: map[string][]byte{"a/../../b": nil}}}
	if err := CreateRepo(t.Context(), filepath.Join(t.TempDir(), "x"), bad); !errs.Is(err, errs.Denied) {
		t.Errorf("a name that leaves the folder: %v", err)
	}
}

func TestInspectLocal(t *testing.T) {
	t.Parallel()
	dir := workspace(t)
	pin, err := Inspect(t.Context(), dir, Layer{Name: "a", Path: "./layers/a"})
	if err != nil {
		t.Fatal(err)
	}
	want := distro.LayerPin{Name: "a", Path: "layers/a", Commit: git(t, dir, "rev-parse", "HEAD"), Tree: git(t, dir, "rev-parse", "HEAD:layers/a")}
	if diff := cmp.Diff(want, pin); diff != "" {
		t.Error(diff)
	}
	if root, err := Inspect(t.Context(), dir, Layer{Name: "all", Path: "."}); err != nil || root.Path != "." || root.Tree != git(t, dir, "rev-parse", "HEAD^{tree}") {
		t.Errorf("%+v %v", root, err)
	}
}

func TestInspectRefusesWhatIsNotCommitted(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(t *testing.T, dir string)
		want   string // "" for clean
	}{
		"modified":  {func(t *testing.T, d string) { write(t, d+"/layers/a/specs/x.spec", "new") }, "layer a: uncommitted changes: specs/x.spec"},
		"untracked": {func(t *testing.T, d string) { write(t, d+"/layers/a/new file", "new") }, `layer a: uncommitted changes: "new file"`},
		"staged": {func(t *testing.T, d string) {
			write(t, d+"/layers/a/specs/y.spec", "y")
			git(t, d, "add", "-A")
		}, "layer a: uncommitted changes: specs/y.spec"},
		"removed":  {func(t *testing.T, d string) { os.Remove(d + "/layers/a/build.sh") }, "layer a: uncommitted changes: build.sh"},
		"mode":     {func(t *testing.T, d string) { os.Chmod(d+"/layers/a/build.sh", 0o644) }, "layer a: uncommitted changes: build.sh"},
		"odd name": {func(t *testing.T, d string) { write(t, d+"/layers/a/:(top)\n*", "") }, `layer a: uncommitted changes: ":(top)\n*"`},
		"many": {func(t *testing.T, d string) {
			for _, c := range "1234567" {
				write(t, d+"/layers/a/"+string(c), "")
			}
		}, "layer a: uncommitted changes: 1, 2, 3, 4, 5 and 2 more"},
		"ignored":        {func(t *testing.T, d string) { write(t, d+"/layers/a/x.o", "new") }, ""},
		"another folder": {func(t *testing.T, d string) { write(t, d+"/layers/b/new", "new") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := workspace(t)
			tt.change(t, dir)
			_, err := Inspect(t.Context(), dir, Layer{Name: "a", Path: "layers/a"})
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errs.Is(err, errs.Invalid) || !strings.HasSuffix(err.Error(), tt.want) || len(errs.Hints(err)) == 0 {
				t.Errorf("%v, hints %q", err, errs.Hints(err))
			}
		})
	}
}

func TestInspectErrorsNameTheCure(t *testing.T) {
	t.Parallel()
	plain := filepath.Join(t.TempDir(), "plain")
	write(t, plain+"/a/x", "x")
	unborn := filepath.Join(t.TempDir(), "unborn")
	write(t, unborn+"/a/x", "x")
	git(t, unborn, "init", "-q")
	dir := workspace(t)
	write(t, dir+"/layers/ignored/x.o", "x")
	os.Symlink("/etc", dir+"/layers/out")
	for name, tt := range map[string]struct {
		ws   string
		path string
		kind errs.Kind
		msg  string
		hint string
	}{
		"no repository": {plain, "a", errs.Invalid, "is not in a git repository", "init && git add -A"},
		"no commit":     {unborn, "a", errs.Invalid, "has no commit yet", `commit -m "first"`},
		"no folder":     {dir, "layres/a", errs.NotFound, "there is no folder layres/a", "correct its path"},
		"near folder":   {dir, "layers/aa", errs.NotFound, "there is no folder layers/aa", `did you mean "layers/a"?`},
		"a file":        {dir, "slipway.yaml", errs.Invalid, "is a file", ""},
		"ignored":       {dir, "layers/ignored", errs.Invalid, "has no folder layers/ignored", "git add -A"},
		"leads out":     {dir, "layers/out", errs.Invalid, "leads out of the workspace", "copy it"},
		"git's own":     {dir, ".git", errs.Invalid, "in no work tree", "beside"},
	} {
		_, err := Inspect(t.Context(), tt.ws, Layer{Name: "l", Path: tt.path})
		if !errs.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.msg) || !strings.Contains(strings.Join(errs.Hints(err), "\n"), tt.hint) {
			t.Errorf("%s: %v (%s), hints %q", name, err, errs.KindOf(err), errs.Hints(err))
		}
	}
}

func TestForeignAndMissingGit(t *testing.T) {
	t.Parallel()
	dir := workspace(t)
	_, err := program{dir: dir, env: []string{"GIT_TEST_ASSUME_DIFFERENT_OWNER=1"}}.run(t.Context(), "status")
	if !errs.Is(err, errs.Denied) || errs.Hints(err)[0] != "git config --global --add safe.directory '"+dir+"'" {
		t.Errorf("%v, hints %q", err, errs.Hints(err))
	}
	err = program{}.explain(t.Context(), []string{"status"}, "", &exec.Error{Name: "git", Err: exec.ErrNotFound})
	if !errs.Is(err, errs.Unavailable) || errs.Hints(err)[0] != "apt-get install git" {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Inspect(ctx, dir, Layer{Name: "a", Path: "layers/a"}); !errs.Is(err, errs.Interrupted) {
		t.Errorf("cancelled: %v (%s)", err, errs.KindOf(err))
	}
}

// tree lists a folder: mode, time, path and content.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		info, err := d.Info()
		if err != nil {
			return err
		}
		b.WriteString(info.Mode().String() + " " + info.ModTime().UTC().Format(time.DateTime) + " ")
		b.WriteString(strings.ReplaceAll(rel, "\n", `\n`))
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			b.WriteString(" " + strings.NewReplacer("\n", `\n`, "\r", `\r`).Replace(string(data)))
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestExportIsExact(t *testing.T) {
	t.Parallel()
	dir := workspace(t)
	pin, err := Inspect(t.Context(), dir, Layer{Name: "a", Path: "layers/a"})
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/layers/a/specs/x.spec", "not committed")
	dest := filepath.Join(t.TempDir(), "deep", "er", "a")
	if err := Export(t.Context(), dir, pin, dest); err != nil {
		t.Fatal(err)
	}
	want := `drwxr-xr-x 2026-12-01 09:00:00 .
-rw-r--r-- 2026-12-01 09:00:00 -dash 
-rwxr-xr-x 2026-12-01 09:00:00 build.sh #!/bin/sh\n
-rw-r--r-- 2026-12-01 09:00:00 crlf a\r\nb\r\n
-rw-r--r-- 2026-12-01 09:00:00 odd "n\ä\nme odd
drwxr-xr-x 2026-12-01 09:00:00 specs
-rw-r--r-- 2026-12-01 09:00:00 specs/x.spec Name: x\n
`
	if diff := cmp.Diff(want, tree(t, dest)); diff != "" {
		t.Error(diff)
	}
	if err := Export(t.Context(), dir, pin, dest); !errs.Is(err, errs.Conflict) {
		t.Errorf("again: %v", err)
	}
	// export-ignore in .gitattributes takes nothing away.
	b, err := Inspect(t.Context(), dir, Layer{Name: "b", Path: "layers/b"})
	if err != nil {
		t.Fatal(err)
	}
	if err := Export(t.Context(), dir, b, filepath.Join(t.TempDir(), "b")); err != nil {
		t.Fatal(err)
	}
	pin.Tree = b.Tree
	if err := Export(t.Context(), dir, pin, filepath.Join(t.TempDir(), "c")); !errs.Is(err, errs.Conflict) {
		t.Errorf("a lying pin: %v", err)
	}
	pin.Commit, pin.Tree = strings.Repeat("1", 40), ""
	left := t.TempDir()
	if err := Export(t.Context(), dir, pin, filepath.Join(left, "d")); err == nil {
		t.Error("a missing commit")
	}
	if names, _ := os.ReadDir(left); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
}

func TestExportStaysInside(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		target string
		kind   errs.Kind // "" for fine
	}{
		"inside":   {"../x", ""},
		"absolute": {"/etc/passwd", errs.Invalid},
		"outside":  {"../../x", errs.Invalid},
	} {
		dir := t.TempDir()
		git(t, dir, "init", "-q", "-b", "main")
		write(t, dir+"/l/x", "x")
		os.MkdirAll(dir+"/l/sub", 0o755)
		if err := os.Symlink(tt.target, dir+"/l/sub/link"); err != nil {
			t.Fatal(err)
		}
		git(t, dir, "add", "-A")
		git(t, dir, "commit", "-q", "-m", "x")
		pin, err := Inspect(t.Context(), dir, Layer{Name: "l", Path: "l"})
		if err != nil {
			t.Fatal(err)
		}
		err = Export(t.Context(), dir, pin, filepath.Join(t.TempDir(), "l"))
		if tt.kind == "" && err != nil || tt.kind != "" && !errs.Is(err, tt.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A tree that git itself would not write: a file behind a link, and "..".
	dir := t.TempDir()
	git(t, dir, "init", "-q", "-b", "main")
	write(t, dir+"/f", "x")
	blob := git(t, dir, "hash-object", "-w", "f")
	cmd := exec.Command("git", "-C", dir, "mktree")
	cmd.Stdin = strings.NewReader("100644 blob " + blob + "\t..\n")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	evil := strings.TrimSpace(string(out))
	commit := git(t, dir, "commit-tree", "-m", "x", evil)
	err = Export(t.Context(), dir, distro.LayerPin{Name: "evil", Path: ".", Commit: commit}, filepath.Join(t.TempDir(), "l"))
	if !errs.Is(err, errs.Denied) {
		t.Errorf("..: %v", err)
	}
	git(t, dir, "update-index", "--add", "--cacheinfo", "160000,"+commit+",sub")
	git(t, dir, "commit", "-q", "-m", "sub")
	err = Export(t.Context(), dir, distro.LayerPin{Name: "s", Path: ".", Commit: git(t, dir, "rev-parse", "HEAD")}, filepath.Join(t.TempDir(), "s"))
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "submodule") {
		t.Errorf("submodule: %v", err)
	}
}

func TestRemoteLayers(t *testing.T) {
	t.Parallel()
	remote, ws := workspace(t), t.TempDir()
	git(t, remote, "branch", "next", "revision-2")
	for _, url := range []string{"file://" + remote, remote} {
		l := Layer{Name: "a", URL: url, Branch: "next", Path: "layers/a"}
		pin, err := Inspect(t.Context(), ws, l)
		if err != nil {
			t.Fatal(err)
		}
		want := distro.LayerPin{Name: "a", URL: url, Path: "layers/a", Commit: git(t, remote, "rev-parse", "next"), Tree: git(t, remote, "rev-parse", "next:layers/a")}
		if diff := cmp.Diff(want, pin); diff != "" {
			t.Error(diff)
		}
		repo, err := Repository(t.Context(), ws, l)
		if err != nil {
			t.Fatal(err)
		}
		if err := Export(t.Context(), repo, pin, filepath.Join(t.TempDir(), "a")); err != nil {
			t.Error(err)
		}
		l.Branch = "nxt"
		if _, err := Inspect(t.Context(), ws, l); !errs.Is(err, errs.NotFound) || errs.Hints(err)[0] != `did you mean "next"?` {
			t.Errorf("%v %q", err, errs.Hints(err))
		}
		l.Commit = strings.Repeat("1", 40)
		if _, err := Inspect(t.Context(), ws, l); !errs.Is(err, errs.NotFound) {
			t.Errorf("%v", err)
		}
	}
	l := Layer{Name: "a", URL: "file://" + remote, Commit: git(t, remote, "rev-parse", "HEAD"), Path: "layers/a"}
	if err := os.Rename(remote, remote+"-gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(t.Context(), ws, l); err != nil {
		t.Errorf("a commit in the mirror needs no network: %v", err)
	}
	l.Commit, l.Branch = "", "main"
	if _, err := Inspect(t.Context(), ws, l); !errs.Is(err, errs.Unavailable) {
		t.Errorf("gone: %v (%s)", err, errs.KindOf(err))
	}
	l.URL = "ext::touch " + filepath.Join(ws, "pwned")
	if _, err := Inspect(t.Context(), ws, l); err == nil {
		t.Error("ext:: ran")
	}
	if _, err := os.Stat(filepath.Join(ws, "pwned")); err == nil {
		t.Error("ext:: ran")
	}
}

func TestBundleAndRestore(t *testing.T) {
	t.Parallel()
	dir, out := workspace(t), t.TempDir()
	commit := git(t, dir, "rev-parse", "revision-2")
	one, two := filepath.Join(out, "one.bundle"), filepath.Join(out, "two.bundle")
	if err := Bundle(t.Context(), dir, commit, one); err != nil {
		t.Fatal(err)
	}
	git(t, dir, "tag", "-a", "-m", "x", "another", "revision-2")
	git(t, dir, "gc", "-q", "--aggressive")
	if err := Bundle(t.Context(), dir, commit, two); err != nil {
		t.Fatal(err)
	}
	a, _ := os.ReadFile(one)
	b, _ := os.ReadFile(two)
	if len(a) == 0 || !bytes.Equal(a, b) {
		t.Errorf("two bundles of one commit differ: %d and %d bytes", len(a), len(b))
	}
	git(t, dir, "bundle", "verify", one)
	dest := filepath.Join(out, "restored")
	if err := Restore(t.Context(), one, commit, dest); err != nil {
		t.Fatal(err)
	}
	if got := git(t, dest, "rev-parse", "HEAD", "main", "HEAD^{tree}"); got != commit+"\n"+commit+"\n"+git(t, dir, "rev-parse", "revision-2^{tree}") {
		t.Error(got)
	}
	if s := git(t, dest, "status", "--porcelain"); s != "" {
		t.Error(s)
	}
	first := git(t, dir, "rev-parse", "revision-1")
	if err := Restore(t.Context(), one, first, filepath.Join(out, "first")); err != nil {
		t.Errorf("an older commit of the history: %v", err)
	}
	if err := Restore(t.Context(), one, strings.Repeat("1", 40), filepath.Join(out, "x")); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
	if err := os.WriteFile(two, a[:len(a)-30], 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), two, commit, filepath.Join(out, "x")); !errs.Is(err, errs.Invalid) {
		t.Errorf("a cut bundle: %v", err)
	}
	if err := Restore(t.Context(), out+"/none", commit, filepath.Join(out, "x")); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	if err := Bundle(t.Context(), dir, strings.Repeat("1", 40), filepath.Join(out, "none")); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
	names, _ := os.ReadDir(out)
	if len(names) != 4 {
		t.Errorf("left behind: %v", names)
	}
}

func TestLog(t *testing.T) {
	t.Parallel()
	dir := workspace(t)
	rev := func(s string) string { return git(t, dir, "rev-parse", s) }
	got, err := Log(t.Context(), dir, rev("revision-1"), rev("revision-2"), ".")
	want := []CommitInfo{
		{ID: rev("revision-2"), Author: "Bob <bob@example.org>", Date: day(3), Subject: "y goes"},
		{ID: rev("revision-2~1"), Author: author, Date: day(2), Subject: "x: a fix"},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	if got, err = Log(t.Context(), dir, rev("revision-1"), rev("revision-2"), "layers/a"); err != nil || cmp.Diff(want[1:], got) != "" {
		t.Error(err, got)
	}
	if got, err = Log(t.Context(), dir, "", rev("revision-2"), ""); err != nil || len(got) != 3 {
		t.Error(err, got)
	}
	if got, err = Log(t.Context(), dir, rev("revision-2"), rev("revision-2"), ""); err != nil || len(got) != 0 {
		t.Error(err, got)
	}
	if _, err = Log(t.Context(), dir, "--output=x", rev("revision-2"), ""); !errs.Is(err, errs.NotFound) {
		t.Error(err)
	}
}
