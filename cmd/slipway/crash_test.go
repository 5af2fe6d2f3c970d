package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"slipway/internal/cli"
	"slipway/internal/crashtest"
	"slipway/internal/distro"
	"slipway/internal/prserv/fork"
)

// crashWork is what the killed processes do: one command in a workspace.
var crashWork = map[string]func(dir string) error{
	"build":    command("build"),
	"approve":  command("approve", "1.2-c1", "--by", "Ada Byron"),
	"publish":  command("publish", "1.2"),
	"withdraw": command("withdraw", "1.2", "--because", "it is rude", "--by", "Ada Byron"),
	"resign":   command("publish", "--resign", "--because", "the laptop was stolen", "--by", "Ada Byron"),
	"gc":       command("gc", "--keep", "0"),
	"advise":   command("advisory", "publish", "--by", "Ada Byron"),
	"adopt": func(dir string) error {
		os.Exit(slipway("init", filepath.Join(dir, "boat"), "--adopt", filepath.Join(dir, "deploy"), "--by", "Ada Byron", "--no-passphrase"))
		return nil
	},
	"import": func(dir string) error {
		os.Exit(slipway("--dir", dir, "build", "--import", filepath.Join(dir, "ci")))
		return nil
	},
	"mirrors":   command("publish", "1.1"),
	"bury":      command("tombstone", "anchor-1.0-r0.3.noarch", "--because", "a court", "--by", "Ada Byron", "--sources"),
	"tombstone": command("tombstone", "hello-1.0-2.noarch", "--because", "court order", "--by", "Ada Byron"),
}

func command(args ...string) func(dir string) error {
	return func(dir string) error {
		// The exit code is the program's own: os.Exit keeps crashtest from making another.
		os.Exit(slipway(append([]string{"--dir", dir}, args...)...))
		return nil
	}
}

// minnow is the smallest distribution: one package, no scriptlets.
var minnow = map[string]string{
	"slipway.yaml": `schema: 1
distribution: minnow
title: Minnow Linux
series: {name: "1", released: 2026-12-01, security_support_ends: 2030-12-01, ends: 2031-12-01}
builder: {kind: rpmbuild}
layers: [{name: minnow, path: layers/minnow}]
feeds: {format: rpm, base_url: "https://feeds.example.org/minnow"}
`,
	".gitignore": ".slipway/\npublication/\n",
	"layers/minnow/specs/hello/hello.spec": `Name: hello
Version: 1.0
Release: %{slipway_number}
Summary: Says hello
License: MIT
BuildArch: noarch
Source0: hello.txt
%description
Says hello.
%install
install -D -m 644 %{SOURCE0} %{buildroot}/usr/share/hello/hello.txt
%files
/usr/share/hello/hello.txt
%changelog
* Mon Nov 02 2026 Ada Byron <ada@example.org> - 1.0-1
- first
`,
	"layers/minnow/specs/hello/hello.txt": "hello\n",
}

// ungated is a definition whose releases are not tried out: for tests of what comes after.
func ungated(definition string) string {
	return definition + "gate: {checks: {installs: off, upgrades: off}}\n"
}

func run(t *testing.T, dir string, want int, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", args, err)
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		t.Fatalf("%v: exit code %d, want %d\n%s", args, got, want, out)
	}
	return string(out)
}

// template makes a workspace with release 1.1 published and a second commit.
func template(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ws")
	for name, text := range minnow {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	git := func(args ...string) {
		run(t, dir, 0, append([]string{"git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org"}, args...)...)
	}
	git("init", "-q", "-b", "main")
	git("add", "-A")
	git("commit", "-q", "-m", "first")
	// An hour ago, so that what a test decides comes after the release.
	ago := func() time.Time { return time.Now().Add(-time.Hour) }
	for _, args := range [][]string{{"key", "create", "--no-passphrase"}, {"run", "--yes", "--by", "Ada Byron"}} {
		at(t, dir, ago, args...)
	}
	if err := os.WriteFile(filepath.Join(dir, "layers/minnow/specs/hello/hello.txt"), []byte("hello, world\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	git("commit", "-q", "-a", "-m", "greet the world")
	return dir
}

// copies gives each run a copy of the template.
func copies(t *testing.T, from string) (command func(work string) func(n int) *exec.Cmd, dir func(n int) string) {
	base := t.TempDir()
	// In memory, where it can be: the copies are many, and a kill does not ask the disk.
	if shm, err := os.MkdirTemp("/dev/shm", "slipway-crash-"); err == nil {
		t.Cleanup(func() { os.RemoveAll(shm) })
		base = shm
	}
	dir = func(n int) string { return filepath.Join(base, fmt.Sprint(n)) }
	return func(work string) func(n int) *exec.Cmd {
		return func(n int) *exec.Cmd {
			if out, err := exec.Command("cp", "-a", from, dir(n)).CombinedOutput(); err != nil {
				panic(fmt.Sprintf("cp: %v: %s", err, out))
			}
			return crashtest.Self(work, dir(n))
		}
	}, dir
}

type statusJSON struct {
	Head   string `json:"head"`
	Next   string `json:"next"`
	Builds []struct {
		ID, Status, Why string
	}
	Releases []struct{ Version, Status string }
}

func status(t *testing.T, dir string) statusJSON {
	t.Helper()
	var out, talk bytes.Buffer
	code := cli.Main(t.Context(), []string{"--dir", dir, "--json", "status"}, cli.Stdio{In: strings.NewReader(""), Out: &out, Err: &talk})
	var s statusJSON
	if err := json.Unmarshal(out.Bytes(), &s); err != nil || code != 0 {
		t.Fatalf("slipway status: exit code %d, %v\n%s%s", code, err, out.String(), talk.String())
	}
	return s
}

// tree gives every file below a folder with its digest.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		fmt.Fprintf(&b, "%s %s\n", rel, distro.DigestOf(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// again runs a command that must succeed.
func again(t *testing.T, dir string, args ...string) {
	t.Helper()
	at(t, dir, nil, args...)
}

// at is again by another clock.
func at(t *testing.T, dir string, clock func() time.Time, args ...string) {
	t.Helper()
	var out bytes.Buffer
	if code := cli.Main(t.Context(), append([]string{"--dir", dir}, args...), cli.Stdio{In: strings.NewReader(""), Out: &out, Err: &out, Clock: clock}); code != 0 {
		t.Fatalf("slipway %v: exit code %d\n%s", args, code, out.String())
	}
}

// TestPublishSurvivesKills kills publish at its writes. After each kill clients
// see release 1.1 or 1.2, whole; status says what goes on; the same command
// again makes the very bytes that an unharmed run makes.
func TestPublishSurvivesKills(t *testing.T) {
	from := template(t)
	again(t, from, "build")
	again(t, from, "test")
	again(t, from, "approve", "1.2-c1", "--by", "Ada Byron")
	command, dir := copies(t, from)
	var want string
	killed := crashtest.KillEach(t, crashtest.Options{Command: command("publish"), Sample: 12}, func(t *testing.T, n int) {
		if n == 0 {
			want = tree(t, filepath.Join(dir(0), "publication"))
			again(t, dir(0), "verify")
			return
		}
		again(t, dir(n), "verify") // the old or the new, never half
		s := status(t, dir(n))
		if r := s.Releases[0]; r.Version != "1.2" || r.Status == "publishing" && s.Next != "slipway publish 1.2" {
			t.Errorf("status after the kill: %+v", s)
		}
		again(t, dir(n), "publish", "1.2")
		again(t, dir(n), "verify")
		if got := tree(t, filepath.Join(dir(n), "publication")); got != want {
			t.Errorf("the publication differs from an unharmed one:\n%s\nwant\n%s", got, want)
		}
		if s := status(t, dir(n)); s.Head != "1.2" {
			t.Errorf("head is %s", s.Head)
		}
		os.RemoveAll(dir(n))
	})
	if killed == 0 {
		t.Error("no run was killed")
	}
}

// TestApproveSurvivesKills kills approve at its writes: the candidate is ready or
// approved, and the same command again makes the release. The numbers of a build
// are the series' only when it is approved, and all are when there is a release.
func TestApproveSurvivesKills(t *testing.T) {
	from := template(t)
	again(t, from, "build")
	again(t, from, "test")
	command, dir := copies(t, from)
	crashtest.KillEach(t, crashtest.Options{Command: command("approve"), Sample: 5}, func(t *testing.T, n int) {
		s := status(t, dir(n))
		if st := s.Builds[0].Status; st != "ready" && st != "approved" {
			t.Errorf("the candidate is %s", st)
		}
		promoted, overlay := databases(t, dir(n))
		if promoted && s.Builds[0].Status != "approved" {
			t.Error("the series has the numbers of a candidate that is not approved")
		}
		if !promoted && !overlay {
			t.Error("the numbers of the candidate are lost")
		}
		again(t, dir(n), "approve", "1.2-c1", "--by", "Ada Byron")
		if promoted, overlay := databases(t, dir(n)); !promoted || overlay {
			t.Errorf("after the approval: promoted %v, overlay %v", promoted, overlay)
		}
		again(t, dir(n), "publish", "1.2")
		again(t, dir(n), "verify")
		os.RemoveAll(dir(n))
	})
}

// databases says whether the series has number 2 of hello, and whether the
// overlay of its build is there.
func databases(t *testing.T, dir string) (promoted, overlay bool) {
	t.Helper()
	b, err := fork.Open(filepath.Join(dir, ".slipway/databases/series.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	most, err := b.PR.Max(t.Context(), "hello-1.0", "noarch")
	if err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(filepath.Join(dir, ".slipway/databases/builds"))
	return most == "2", len(entries) > 0
}

// TestBuildSurvivesKills kills build at its writes. The publication never
// changes; status names a build that was lost; the same command again ends with
// the candidate.
func TestBuildSurvivesKills(t *testing.T) {
	from := template(t)
	command, dir := copies(t, from)
	before := tree(t, filepath.Join(from, "publication"))
	crashtest.KillEach(t, crashtest.Options{Command: command("build"), Sample: 6}, func(t *testing.T, n int) {
		if got := tree(t, filepath.Join(dir(n), "publication")); got != before {
			t.Error("the publication changed")
		}
		s := status(t, dir(n))
		if n > 0 && len(s.Builds) > 1 {
			if b := s.Builds[0]; b.Status != "lost" && b.Status != "testing" {
				t.Errorf("after the kill: %+v", b)
			} else if b.Status == "lost" && (b.Why == "" || s.Next != "slipway build --for 1.2") {
				t.Errorf("status does not say how to go on: %+v, next %s", b, s.Next)
			}
		}
		if len(s.Builds) < 2 || s.Builds[0].Status == "lost" {
			again(t, dir(n), "build")
		}
		again(t, dir(n), "test")
		s = status(t, dir(n))
		if b := s.Builds[0]; b.Status != "ready" {
			t.Errorf("after the same command again: %+v", b)
		}
		os.RemoveAll(dir(n))
	})
}

// TestPublishOnAFullDisk lets every write of publish fail from one point on: a
// clear refusal, clients see the old, and with room again the same command
// finishes.
func TestPublishOnAFullDisk(t *testing.T) {
	from := template(t)
	again(t, from, "build")
	again(t, from, "test")
	again(t, from, "approve", "1.2-c1", "--by", "Ada Byron")
	command, dir := copies(t, from)
	crashtest.FailEach(t, crashtest.Options{Command: command("publish"), Sample: 6, Sticky: true}, "ENOSPC", func(t *testing.T, n int, r crashtest.Result) {
		if r.Code == 2 {
			t.Errorf("a crash of ours: exit code %d\n%s", r.Code, r.Output)
		}
		again(t, dir(n), "verify")
		again(t, dir(n), "publish", "1.2")
		again(t, dir(n), "verify")
		os.RemoveAll(dir(n))
	})
}

// TestWithdrawSurvivesKills kills withdraw at its writes. After each kill clients see
// serial 2 or 3, whole; the same command again ends with release 1.1 as serial 3, and the
// reason that was given first.
func TestWithdrawSurvivesKills(t *testing.T) {
	from := template(t)
	again(t, from, "run", "--yes", "--by", "Ada Byron")
	command, dir := copies(t, from)
	killed := crashtest.KillEach(t, crashtest.Options{Command: command("withdraw"), Sample: 10}, func(t *testing.T, n int) {
		again(t, dir(n), "verify")
		if s := status(t, dir(n)); n > 0 && s.Head == "1.2" && s.Next != "slipway build" && !strings.HasPrefix(s.Next, "slipway withdraw 1.2 ") {
			t.Errorf("status after the kill: %+v", s)
		}
		again(t, dir(n), "withdraw", "1.2", "--because", "another word")
		again(t, dir(n), "verify")
		s := status(t, dir(n))
		if s.Head != "1.1" || s.Releases[0].Status != "withdrawn" || s.Next != "slipway build" {
			t.Errorf("after the same command again: %+v", s)
		}
		if b, err := os.ReadFile(filepath.Join(dir(n), "publication/1/snapshots/3/snapshot.json")); err != nil || bytes.Count(b, []byte(`"because"`)) != 1 {
			t.Errorf("the snapshot: %s, %v", b, err)
		}
		if _, err := os.Stat(filepath.Join(dir(n), "publication/1/snapshots/4")); err == nil {
			t.Error("a second withdrawal")
		}
		os.RemoveAll(dir(n))
	})
	if killed == 0 {
		t.Error("no run was killed")
	}
}

// TestResignSurvivesKills kills publish --resign at its writes. After each kill clients
// see serial 1 or 2, whole, and the same command again makes the very bytes that an
// unharmed run makes. The keys of this workspace are its own: one is revoked.
func TestResignSurvivesKills(t *testing.T) {
	from := template(t)
	keys := filepath.Join(t.TempDir(), "keys")
	run(t, from, 0, "cp", "-a", filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "slipway/keys/minnow"), keys)
	if err := os.WriteFile(filepath.Join(from, "settings.yaml"), []byte("schema: 1\nkeys: "+keys+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	again(t, from, "verify")
	again(t, from, "key", "revoke", "package-1", "--because", "the laptop was stolen")
	again(t, from, "key", "create", "--role", "package", "--no-passphrase")
	command, dir := copies(t, from)
	var want string
	killed := crashtest.KillEach(t, crashtest.Options{Command: command("resign"), Sample: 12}, func(t *testing.T, n int) {
		s := status(t, dir(n))
		if n == 0 {
			// The decision's date is that of each run: compare what does not hold it.
			want = strings.Join(undated(t, dir(0)), "\n")
		} else if s.Head != "1.1" || s.Next != "slipway build" && !strings.HasPrefix(s.Next, "slipway publish --resign ") {
			t.Errorf("status after the kill: %+v", s)
		}
		again(t, dir(n), "verify")                                          // the old or the new, never half
		if n > 0 && (s.Next != "slipway build" || serial(t, dir(n)) == 1) { // else it was killed when all was done
			again(t, dir(n), "publish", "--resign", "--because", "another word")
		}
		again(t, dir(n), "verify")
		if got := strings.Join(undated(t, dir(n)), "\n"); got != want {
			t.Errorf("the publication differs from an unharmed one:\n%s\nwant\n%s", got, want)
		}
		if b, err := os.ReadFile(filepath.Join(dir(n), "publication/1/pool/rpm/noarch/2/hello-1.0-1.noarch.rpm")); err != nil || len(b) == 0 {
			t.Errorf("the twin: %v", err)
		}
		if s := status(t, dir(n)); s.Next != "slipway build" || serial(t, dir(n)) != 2 {
			t.Errorf("after the same command again: %+v", s)
		}
		os.RemoveAll(dir(n))
	})
	if killed == 0 {
		t.Error("no run was killed")
	}
}

// serial is the one that the publication of a workspace has come to.
func serial(t *testing.T, dir string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "publication/1/current.json"))
	var c struct{ Serial int }
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c.Serial
}

// undated gives the names of all files of a publication, those that have a digest in
// their name without it.
func undated(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	for line := range strings.Lines(tree(t, filepath.Join(dir, "publication"))) {
		name, _, _ := strings.Cut(line, " ")
		folder, file := filepath.Split(name)
		if sum, rest, ok := strings.Cut(file, "-"); ok && len(sum) == 64 {
			file = rest
		}
		names = append(names, folder+file)
	}
	slices.Sort(names)
	return names
}

// TestCollectSurvivesKills kills gc at its writes: what a release needs is there after
// each, and the same command again ends with what an unharmed run leaves.
func TestCollectSurvivesKills(t *testing.T) {
	from := template(t)
	again(t, from, "build")
	again(t, from, "test")
	again(t, from, "reject", "1.2-c1", "--because", "not yet", "--by", "Ada Byron")
	command, dir := copies(t, from)
	left := func(n int) string {
		return tree(t, filepath.Join(dir(n), ".slipway/store")) + tree(t, filepath.Join(dir(n), ".slipway/quarantine"))
	}
	before := tree(t, filepath.Join(from, "publication"))
	var want string
	killed := crashtest.KillEach(t, crashtest.Options{Command: command("gc"), Sample: 8}, func(t *testing.T, n int) {
		if n == 0 {
			if want = left(0); want == tree(t, filepath.Join(from, ".slipway/store"))+tree(t, filepath.Join(from, ".slipway/quarantine")) {
				t.Fatal("nothing was collected: there is nothing to kill")
			}
			return
		}
		again(t, dir(n), "verify")
		again(t, dir(n), "restore", "1.1", "--into", filepath.Join(dir(n), "back"))
		again(t, dir(n), "gc", "--keep", "0")
		if got := left(n); got != want {
			t.Errorf("left:\n%s\nwant\n%s", got, want)
		}
		if got := tree(t, filepath.Join(dir(n), "publication")); got != before {
			t.Error("the publication changed")
		}
		if s := status(t, dir(n)); s.Head != "1.1" {
			t.Errorf("status: %+v", s)
		}
		os.RemoveAll(dir(n))
	})
	if killed == 0 {
		t.Error("no run was killed")
	}
}

// TestTombstoneSurvivesKills kills tombstone at its writes. After each kill verify finds
// nothing wrong: serial 2 or 3, the bytes or the notice. The same command again removes
// what it was to remove, and nothing else.
func TestTombstoneSurvivesKills(t *testing.T) {
	from := template(t)
	again(t, from, "run", "--yes", "--by", "Ada Byron")
	command, dir := copies(t, from)
	const pool = "publication/1/pool/rpm/noarch/1/"
	other, err := os.ReadFile(filepath.Join(from, pool+"hello-1.0-1.noarch.rpm"))
	if err != nil {
		t.Fatal(err)
	}
	blobs := func(n int) int { return strings.Count(tree(t, filepath.Join(dir(n), ".slipway/store")), "\n") }
	var want string
	var kept int
	killed := crashtest.KillEach(t, crashtest.Options{Command: command("tombstone"), Sample: 12}, func(t *testing.T, n int) {
		again(t, dir(n), "verify")
		s := status(t, dir(n))
		if n == 0 {
			want, kept = strings.Join(undated(t, dir(0)), "\n"), blobs(0)
		} else if s.Next != "slipway build" && !strings.HasPrefix(s.Next, "slipway tombstone 1/pool/rpm/noarch/1/hello-1.0-2.noarch.rpm ") {
			t.Errorf("status after the kill: %+v", s)
		}
		if n > 0 && (s.Next != "slipway build" || serial(t, dir(n)) == 2) {
			again(t, dir(n), "tombstone", "hello-1.0-2.noarch", "--because", "another word", "--by", "Somebody")
		}
		again(t, dir(n), "verify")
		notice, err := os.ReadFile(filepath.Join(dir(n), "publication/1/removals/3.json"))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(dir(n), pool+"hello-1.0-2.noarch.rpm")); err != nil || !bytes.Equal(b, notice) {
			t.Errorf("in the place of the bytes: %v, %d bytes", err, len(b))
		}
		if b, err := os.ReadFile(filepath.Join(dir(n), pool+"hello-1.0-1.noarch.rpm")); err != nil || !bytes.Equal(b, other) {
			t.Errorf("the package before: %v, %d bytes", err, len(b))
		}
		if got := strings.Join(undated(t, dir(n)), "\n"); got != want || blobs(n) != kept {
			t.Errorf("%d blobs, want %d; the publication differs from an unharmed one:\n%s\nwant\n%s", blobs(n), kept, got, want)
		}
		if s := status(t, dir(n)); s.Next != "slipway build" || serial(t, dir(n)) != 3 {
			t.Errorf("after the same command again: %+v", s)
		}
		os.RemoveAll(dir(n))
	})
	if killed == 0 {
		t.Error("no run was killed")
	}
}
