package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"slipway/internal/cli"
	"slipway/internal/store"
	"slipway/internal/store/s3/s3test"
)

type scriptCommand = func(ts *testscript.TestScript, neg bool, args []string)

// scriptCommands are the commands of the scripts:
//
//	exitcode WANT COMMAND...      run a command and compare its exit code
//	minnow [ready|released] DIR   make a workspace of the smallest distribution: committed; with candidate 1.1-c1 ready; with release 1.1 published
//	json PATH PATTERN             the last stdout is one JSON value, and its value at PATH (a.0.b) fits the pattern
//	hold LOCK COMMAND             take a lock of a workspace, as COMMAND would; letgo LOCK gives it back
//	objectstore                   run an S3 server, with the bucket feeds: S3_ENDPOINT, its folder S3_ROOT, and credentials for it
//	until COMMAND...              run a command again and again until it succeeds
//
// In their environment, BIN is the folder of slipway, and MOUNTS are unshare's
// flags for mounts that nobody else sees.
func scriptCommands(templates *templates, server func() *s3test.Server) map[string]scriptCommand {
	return map[string]scriptCommand{
		"exitcode": exitcode, "json": jsonValue, "until": until, "minnow": templates.minnow,
		"hold": hold, "letgo": letgo,
		"objectstore": func(ts *testscript.TestScript, _ bool, _ []string) {
			s := server()
			ts.Setenv("S3_ENDPOINT", s.Endpoint)
			ts.Setenv("S3_ROOT", s.Root)
			ts.Setenv("AWS_REGION", s3test.Region)
			for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
				ts.Setenv(name, s3test.Getenv(name))
			}
		},
	}
}

func exitcode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exitcode WANT COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := err.(*exec.ExitError)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func jsonValue(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: json PATH PATTERN")
	}
	dec := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		ts.Fatalf("stdout is no JSON: %v", err)
	}
	if err := dec.Decode(new(any)); err != io.EOF {
		ts.Fatalf("stdout is more than one JSON value")
	}
	for _, key := range strings.Split(args[0], ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(x) {
				ts.Fatalf("%s: no element %q", args[0], key)
			}
			v = x[i]
		default:
			ts.Fatalf("%s: nothing at %q", args[0], key)
		}
	}
	text, ok := v.(string)
	if !ok {
		b, err := json.Marshal(v)
		ts.Check(err)
		text = string(b)
	}
	if regexp.MustCompile(args[1]).MatchString(text) == neg {
		ts.Fatalf("%s is %q, and the pattern is %q", args[0], text, args[1])
	}
}

func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: until COMMAND...")
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ts.Exec(args[0], args[1:]...) == nil {
			return
		}
	}
	ts.Fatalf("%v never succeeds", args)
}

type locks struct{ held sync.Map }

var scriptLocks locks

func hold(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: hold LOCK COMMAND")
	}
	path := ts.MkAbs(args[0])
	l, err := store.Acquire(context.Background(), path, store.Self(args[1], time.Now()), 0, nil)
	ts.Check(err)
	scriptLocks.held.Store(path, l)
	ts.Defer(l.Release)
}

func letgo(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: letgo LOCK")
	}
	l, ok := scriptLocks.held.LoadAndDelete(ts.MkAbs(args[0]))
	if !ok {
		ts.Fatalf("%s is not held", args[0])
	}
	l.(*store.Lock).Release()
}

// templates are workspaces that several scripts begin with, made once.
type templates struct {
	ready, released func() (string, error)
}

func newTemplates(t *testing.T) *templates {
	dir := t.TempDir() // outlives the scripts: they are subtests
	do := func(dir string, args ...string) error {
		var out bytes.Buffer
		if code := cli.Main(context.Background(), append([]string{"--dir", dir}, args...), cli.Stdio{In: strings.NewReader(""), Out: &out, Err: &out}); code != 0 {
			return fmt.Errorf("slipway %v: exit code %d\n%s", args, code, out.String())
		}
		return nil
	}
	x := &templates{}
	x.ready = sync.OnceValues(func() (string, error) {
		ws := filepath.Join(dir, "ready")
		err := writeMinnow(ws)
		for _, args := range [][]string{{"key", "create", "--no-passphrase"}, {"build"}, {"test"}} {
			if err == nil {
				err = do(ws, args...)
			}
		}
		return ws, err
	})
	x.released = sync.OnceValues(func() (string, error) {
		ws := filepath.Join(dir, "released")
		ready, err := x.ready()
		if err == nil {
			err = copyTree(ready, ws)
		}
		for _, args := range [][]string{{"approve", "1.1-c1", "--by", "Ada Byron"}, {"publish", "1.1"}} {
			if err == nil {
				err = do(ws, args...)
			}
		}
		return ws, err
	})
	return x
}

func writeMinnow(dir string) error {
	for name, text := range minnow {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "-A"}, {"commit", "-q", "-m", "first"}} {
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=Tester", "-c", "user.email=tester@example.org"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", cmd, err, out)
		}
	}
	return nil
}

func copyTree(from, to string) error {
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("cp: %w\n%s", err, out)
	}
	return nil
}

func (x *templates) minnow(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 || len(args) > 2 {
		ts.Fatalf("usage: minnow [ready|released] DIR")
	}
	dir := ts.MkAbs(args[len(args)-1])
	if len(args) == 1 {
		ts.Check(writeMinnow(dir))
		return
	}
	make, ok := map[string]func() (string, error){"ready": x.ready, "released": x.released}[args[0]]
	if !ok {
		ts.Fatalf("there is no template %q", args[0])
	}
	from, err := make()
	ts.Check(err)
	ts.Check(copyTree(from, dir))
	keys := filepath.Join("slipway", "keys")
	to := filepath.Join(ts.Getenv("XDG_CONFIG_HOME"), keys)
	ts.Check(os.MkdirAll(filepath.Dir(to), 0o755))
	ts.Check(copyTree(filepath.Join(os.Getenv("XDG_CONFIG_HOME"), keys), to))
}
