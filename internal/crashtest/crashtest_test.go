package crashtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"slipway/internal/errs"
)

func TestMain(m *testing.M) {
	Main(map[string]func(string) error{"ten": ten})
	os.Exit(m.Run())
}

// ten makes ten folders, one call each.
func ten(dir string) error {
	for i := range 10 {
		if err := os.Mkdir(filepath.Join(dir, fmt.Sprint(i)), 0o755); err != nil {
			return errs.E(errs.Denied, "mkdir", errs.Hint("try"), err)
		}
	}
	return nil
}

func TestKillEachStopsBeforeEveryCall(t *testing.T) {
	dir := Dirs(t)
	killed := KillEach(t, Options{Command: func(n int) *exec.Cmd { return Self("ten", dir(n)) }}, func(t *testing.T, n int) {
		l, err := os.ReadDir(dir(n))
		if err != nil {
			t.Fatal(err)
		}
		want := n - 1
		if n == 0 {
			want = 10
		}
		if len(l) != want {
			t.Errorf("run %d left %d folders, want %d", n, len(l), want)
		}
	})
	if killed != 10 {
		t.Errorf("%d runs were killed, want 10", killed)
	}
}

func TestFailEachGoesOn(t *testing.T) {
	dir := Dirs(t)
	for _, sticky := range []bool{false, true} {
		FailEach(t, Options{Command: func(n int) *exec.Cmd { return Self("ten", dir(n)) }, Sample: 3, Sticky: sticky}, "EROFS", func(t *testing.T, n int, r Result) {
			if r.Code != 4 {
				t.Errorf("run %d: exit code %d", n, r.Code)
			}
			if !sticky && (!strings.Contains(r.Output, "read-only file system") || !strings.Contains(r.Output, "hint: try")) {
				t.Errorf("run %d: output %q", n, r.Output)
			}
		})
		dir = Dirs(t)
	}
}

func TestChildrenAreLeftAloneAndEnded(t *testing.T) {
	dir := Dirs(t)
	killed := KillEach(t, Options{Syscalls: []string{"?mkdir", "mkdirat"}, Command: func(n int) *exec.Cmd {
		return exec.Command("sh", "-c", "mkdir $0/a $0/b $0/c", dir(n))
	}, Children: true}, func(t *testing.T, n int) {})
	if killed != 0 { // the shell lives on and says 137
		t.Errorf("%d killed", killed)
	}
}

func TestParse(t *testing.T) {
	got := fmt.Sprint(parse(`12 mkdirat(AT_FDCWD, "a", 0755) = 0
12 write(1, "x(", 2 <unfinished ...>
13 write(2, "x", 1) = 1
12 <... write resumed>) = 2
13 write(2, "x", 1) = 1
13 --- SIGCHLD {si_signo=SIGCHLD} ---
13 +++ exited with 0 +++
12 fsync(3) = 0
`))
	if got != "[mkdirat-1 write-1 write-2 fsync-1]" {
		t.Error(got)
	}
}

func TestPoints(t *testing.T) {
	for _, tt := range []struct {
		total, sample int
		full          bool
		want          []int
	}{
		{3, 20, false, []int{1, 2, 3}},
		{100, 3, false, []int{1, 50, 100}},
		{100, 1, false, []int{1}},
		{4, 2, true, []int{1, 2, 3, 4}},
	} {
		if got := points(tt.total, tt.sample, tt.full); !slices.Equal(got, tt.want) {
			t.Errorf("points(%d, %d, %t) = %v", tt.total, tt.sample, tt.full, got)
		}
	}
}
