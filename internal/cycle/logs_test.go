package cycle

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/config"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/state"
)

// named is a builder of whose methods only those about logs are asked.
type namedLogs struct{ Builder }

func (namedLogs) Logs(context.Context, string) []distro.Output { return nil }

func (namedLogs) LogOf(name, task string) bool {
	recipe, do, _ := strings.Cut(task, ":")
	parts := strings.Split(name, "/")
	return len(parts) == 4 && parts[1] == recipe && parts[3] == "log."+do
}

// put stores an artifact with a build.
func (w *Workspace) put(t *testing.T, build distro.BuildID, class distro.Class, name, text string) distro.Artifact {
	t.Helper()
	d, n, err := w.Blobs.Put(t.Context(), strings.NewReader(text))
	a := distro.Artifact{Class: class, Name: name, Digest: d, Size: n}
	if err == nil {
		_, err = state.Upsert(t.Context(), w.State, kindBuild, string(build), func(b *Build) error { b.Artifacts = append(b.Artifacts, a); return nil })
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestLogOfATaskBeforeARestoredOne: build 1.2 took hello's packages from the cache, so
// nothing of it was compiled there; the log is that of the build whose packages it took.
func TestLogOfATaskBeforeARestoredOne(t *testing.T) {
	t.Parallel()
	w, _ := resultsWorkspace(t)
	w.Builder = func(Means) (Builder, error) { return namedLogs{}, nil }
	dir := "core2-64/hello/1.0"
	tasks := func(build distro.BuildID, list ...string) {
		var out []string
		for _, x := range list {
			f := strings.Fields(x)
			out = append(out, fmt.Sprintf(`{"task":"%s/log.%s","unihash":"%s","restored":%v}`, f[0], f[1], f[2], f[3] == "restored"))
		}
		w.put(t, build, distro.TaskLog, tasksName, "["+strings.Join(out, ",")+"]")
	}
	tasks("1.1-b1", dir+" do_compile aa ran", dir+" do_package bb ran", "core2-64/other/1.0 do_compile ee ran")
	w.put(t, "1.1-b1", distro.TaskLog, dir+"/log.do_compile", "compiled in 1.1")
	w.put(t, "1.1-b1", distro.TaskLog, dir+"/log.do_package", "packaged in 1.1")
	w.put(t, "1.1-b1", distro.TaskLog, "core2-64/other/1.0/log.do_compile", "of another recipe")
	tasks("1.2-b1", dir+" do_package bb restored")
	b, err := w.Build(t.Context(), "1.2-b1")
	if err != nil {
		t.Fatal(err)
	}
	for task, want := range map[string]string{"hello:do_package": "packaged in 1.1", "hello:do_compile": "compiled in 1.1"} {
		f, err := w.Log(t.Context(), b, task)
		if err != nil {
			t.Errorf("%s: %v", task, err)
			continue
		}
		text, _ := io.ReadAll(f)
		f.Close()
		if string(text) != want {
			t.Errorf("%s: %q", task, text)
		}
	}
	for _, task := range []string{"hello:do_install", "other:do_compile", "none:do_compile"} {
		if _, err := w.Log(t.Context(), b, task); !errs.Is(err, errs.NotFound) {
			t.Errorf("%s: %v", task, err)
		}
	}
}

// TestAChangedObjectOfTheCache: the cure that the message names works.
func TestAChangedObjectOfTheCache(t *testing.T) {
	t.Parallel()
	w, _ := resultsWorkspace(t)
	w.Definition.Builder.Kind = config.BitBake
	a := w.put(t, "1.1-b1", distro.SState, "aa/bb/sstate:hello:x", "an object")
	kept := w.put(t, "1.1-b1", distro.SState, "aa/bb/sstate:other:x", "another")
	if _, err := state.Upsert(t.Context(), w.State, kindRelease, "1.1", func(r *Release) error {
		*r = Release{Version: "1.1", Build: "1.1-b1", Status: distro.Published}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.Dir, "store", "sha256", a.Digest.Hex()[:2], a.Digest.Hex())
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := w.fillMirrors(t.Context())
	if !errs.Is(err, errs.Denied) || !strings.Contains(strings.Join(errs.Hints(err), "\n"), path+" back from a backup, or remove it") {
		t.Fatal(err, errs.Hints(err))
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := w.fillMirrors(t.Context()); err != nil {
		t.Fatal("after the cure: ", err)
	}
	if got, err := os.ReadFile(filepath.Join(w.mirrorDir(distro.SState), kept.Name)); err != nil || string(got) != "another" {
		t.Errorf("%q %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(w.mirrorDir(distro.SState), a.Name)); err == nil {
		t.Error("an object that is gone is in the mirror")
	}
}
