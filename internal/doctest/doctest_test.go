package doctest

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const repo = "../.."

func full() bool { return os.Getenv("SLIPWAY_TEST") == "full" }

var binDir string // made by binary

// binary builds slipway once and gives the folder to put on the PATH.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "doctest-bin-")
	if err != nil {
		return "", err
	}
	binDir = dir
	cmd := exec.Command("go", "build", "-o", filepath.Join(dir, "slipway"), "./cmd/slipway")
	cmd.Dir = repo
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, &buildError{string(out), err}
	}
	return dir, nil
})

type buildError struct {
	out string
	err error
}

func (e *buildError) Error() string { return "go build ./cmd/slipway: " + e.err.Error() + "\n" + e.out }

func TestMain(m *testing.M) {
	code := m.Run()
	if binDir != "" {
		os.RemoveAll(binDir)
	}
	os.Exit(code)
}

// pages are README.md and every page of docs.
func pages(t *testing.T) []string {
	t.Helper()
	out := []string{filepath.Join(repo, "README.md")}
	err := filepath.WalkDir(filepath.Join(repo, "docs"), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Ext(path) == ".md" {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPages(t *testing.T) {
	t.Parallel()
	for _, page := range pages(t) {
		name, err := filepath.Rel(repo, page)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			script, err := Parse(string(b), full())
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if script.Slow > 0 {
				t.Run("slow", func(t *testing.T) { t.Skip("slow blocks of the docs: SLIPWAY_TEST=full make test runs them") })
			}
			if script.Blocks == 0 {
				return
			}
			bin := ""
			if strings.Contains(script.Text, "slipway") {
				if bin, err = binary(); err != nil {
					t.Fatal(err)
				}
			}
			if out, err := run(t, script, name, bin); err != nil {
				t.Errorf("%v\n%s", err, tail(out, 60))
			}
		})
	}
}

// run executes a page's script in an empty folder.
func run(t *testing.T, s Script, name, bin string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "page.sh")
	work, home := filepath.Join(dir, "work"), filepath.Join(dir, "home")
	for _, d := range []string{work, home} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, []byte(s.Text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", Preamble, "bash", file, name)
	cmd.Dir = work
	cmd.Env = []string{
		"PATH=" + bin + string(os.PathListSeparator) + os.Getenv("PATH"),
		"HOME=" + home, "XDG_CONFIG_HOME=" + filepath.Join(home, ".config"), "TMPDIR=" + dir,
		"LC_ALL=C.UTF-8", "TERM=dumb", "NO_COLOR=1", "USER=doc",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=Doc", "GIT_AUTHOR_EMAIL=doc@example.org",
		"GIT_COMMITTER_NAME=Doc", "GIT_COMMITTER_EMAIL=doc@example.org",
	}
	// A page may leave a server running: it must not outlive the page.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	group := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = group
	cmd.WaitDelay = 5 * time.Second
	log, err := os.Create(filepath.Join(dir, "log")) // a file, so that Wait does not wait for a server that holds a pipe
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	err = cmd.Run()
	if cmd.Process != nil {
		_ = group() // ESRCH: nothing was left
	}
	out, readErr := os.ReadFile(log.Name())
	if readErr != nil {
		t.Fatal(readErr)
	}
	return string(out), err
}

func tail(s string, lines int) string {
	l := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(l[max(0, len(l)-lines):], "\n")
}

// TestMechanism runs pages of testdata: good.md passes, each bad page fails
// with the line of the page.
func TestMechanism(t *testing.T) {
	t.Parallel()
	read := func(name string) Script {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse(string(b), false)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	good := read("good.md")
	if good.Blocks != 4 || good.Slow != 1 {
		t.Errorf("%d blocks and %d slow, want 4 and 1", good.Blocks, good.Slow)
	}
	out, err := run(t, good, "good.md", "")
	if err != nil {
		t.Errorf("good.md: %v\n%s", err, out)
	}
	if !strings.Contains(out, "the end: one") || strings.Contains(out, "must not run") {
		t.Errorf("good.md printed:\n%s", out)
	}
	for name, want := range map[string]string{
		"bad-exit.md":   "bad-exit.md:9: exit code 3: bash -c 'exit 3'",
		"bad-expect.md": "bad-expect.md:12: exit code 0, the page says 7",
	} {
		if out, err := run(t, read(name), name, ""); err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v, lacks %q:\n%s", name, err, want, out)
		}
	}
}

// TestServerEndsWithThePage: a program in the background holds one end of a
// fifo; reading the other ends only when nobody does any more.
func TestServerEndsWithThePage(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, err := Parse("```sh\nexec 9>"+fifo+"\nsleep 600 &\necho started >&9\n```\n", false)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, s, "server.md", ""); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if b, err := io.ReadAll(f); err != nil || string(b) != "started\n" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for page, want := range map[string]string{
		"text\n```sh\ntrue\n":           "line 2: the block has no end",
		"```sh quick\ntrue\n```\n":      "known are",
		"```sh\n# exit 7\n```\n":        "without a command",
		"```sh\ntrue\n   # exit 2\n```": "without a command",
	} {
		if _, err := Parse(page, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", page, err, want)
		}
	}
}

func TestLinesAreThePagesLines(t *testing.T) {
	t.Parallel()
	s, err := Parse("# T\n\n```text\nno\n```\n\n````sh\na\n```\nb \\\n  c   # exit 7\n````\n", false)
	if err != nil {
		t.Fatal(err)
	}
	want := "\n\n\n\n\n\n\na\n```\nif b \\\n  c; then doctest_exit 7 0; else doctest_exit 7 $?; fi\n\n"
	if s.Text != want {
		t.Errorf("got %q\nwant %q", s.Text, want)
	}
}
