package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/internal/cli"
)

// TestTheLogKeyRotates lives through a rotation of the log key, and then through its
// loss. The publisher goes on; a stranger with the root key, one who has the first log
// key alone and one who saw the log before find a log that continues.
func TestTheLogKeyRotates(t *testing.T) {
	config := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", config)
	base := t.TempDir()
	dir, stick := filepath.Join(base, "ws"), filepath.Join(base, "stick")
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
	if err := os.WriteFile(filepath.Join(dir, "slipway.yaml"), []byte(ungated(minnow["slipway.yaml"])), 0o644); err != nil {
		t.Fatal(err)
	}
	git("init", "-q", "-b", "main")
	git("add", "-A")
	git("commit", "-q", "-m", "first")
	now := time.Now().AddDate(0, 0, -40)
	do := func(args ...string) {
		t.Helper()
		now = now.Add(time.Minute)
		n := now
		at(t, dir, func() time.Time { return n }, args...)
	}
	copied := filepath.Join(base, "copy") // a place of its own in a stranger's memory
	// verify is a stranger's: memory names what he remembers.
	verify := func(want int, memory string, keys ...string) string {
		t.Helper()
		os.Setenv("XDG_STATE_HOME", filepath.Join(base, memory))
		args := []string{"--dir", base, "verify", copied}
		for _, k := range keys {
			args = append(args, "--key", k)
		}
		var out bytes.Buffer
		if code := cli.Main(t.Context(), args, cli.Stdio{In: strings.NewReader(""), Out: &out, Err: &out}); code != want {
			t.Fatalf("slipway %v: exit code %d\n%s", args, code, out.String())
		}
		return out.String()
	}
	export := func() { do("feed", "export", copied) }
	t.Setenv("XDG_STATE_HOME", filepath.Join(base, "own"))

	do("key", "create", "--no-passphrase")
	do("key", "create", "--root", "--to", stick, "--no-passphrase")
	do("key", "sign-keyring", "--root", filepath.Join(stick, "root.key"))
	do("run", "--yes", "--by", "Ada Byron")
	export()
	root := []string{filepath.Join(stick, "root.asc")}
	first := []string{}
	for _, k := range []string{"package-1.asc", "metadata-1.asc", "log-1.asc"} {
		first = append(first, filepath.Join(copied, "keys", k))
	}
	verify(0, "root", root...)
	verify(0, "first", first...)

	// The next key is named while the old one signs, by the weekly refresh at the latest.
	do("key", "rotate", "--role", "log", "--overlap", "10d", "--no-passphrase")
	do("key", "sign-keyring", "--root", filepath.Join(stick, "root.key"))
	do("publish", "--refresh")
	now = now.AddDate(0, 0, 12)
	if err := os.WriteFile(filepath.Join(dir, "layers/minnow/specs/hello/hello.txt"), []byte("hello, world\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	git("commit", "-q", "-a", "-m", "greet the world")
	do("run", "--yes", "--by", "Ada Byron")
	do("verify")
	export()
	if got := verify(0, "root", root...); !strings.Contains(got, "5 entries of the log, all as signed") {
		t.Error(got)
	}
	const note = "the transparency log has a new key, keys/log-2.asc: the key before it says so, in entry 2"
	for _, memory := range []string{"first", "never here before"} {
		if got := verify(0, memory, first...); !strings.Contains(got, note) || !strings.Contains(got, "5 entries of the log, all as signed") {
			t.Errorf("%s: %s", memory, got)
		}
	}

	// The second is lost: the root key says so, and nobody else can.
	do("key", "rotate", "--role", "log", "--lost", "--no-passphrase")
	do("key", "sign-keyring", "--root", filepath.Join(stick, "root.key"))
	do("publish", "--refresh")
	do("verify")
	export()
	verify(0, "root", root...)
	if got := verify(4, "first", first...); !strings.Contains(got, "the checkpoint of the log is not signed by its key") {
		t.Error(got)
	}
}
