package bitbake

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTasksAndLogs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	hash := strings.Repeat("ab", 32)
	write := func(name string) {
		path := filepath.Join(dir, "topdir", "tmp", filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("x"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	stamps := "stamps/core2-64-fixture-linux/hello/"
	for _, name := range []string{stamps + "1.0.do_compile." + hash, stamps + "1.0.do_compile.sigdata." + hash, stamps + "1.0.do_package_setscene." + hash, stamps + "1.0.do_packagedata." + hash + ".fixture_a", stamps + "1.0.fetch.taint",
		"work/core2-64-fixture-linux/hello/1.0/temp/log.do_compile.12", "work/core2-64-fixture-linux/hello/1.0/temp/log.do_compile.9", "work/core2-64-fixture-linux/hello/1.0/temp/log.task_order"} {
		write(name)
	}
	if err := os.Symlink("log.do_compile.12", filepath.Join(dir, "topdir/tmp/work/core2-64-fixture-linux/hello/1.0/temp/log.do_compile")); err != nil {
		t.Fatal(err)
	}
	tasks, err := ranTasks(t.Context(), tree{top: filepath.Join(dir, "topdir")})
	name := "core2-64-fixture-linux/hello/1.0/log.do_"
	want := []Task{{name + "compile", hash, false}, {name + "package", hash, true}, {name + "packagedata", hash, false}}
	if err != nil || !slices.Equal(tasks, want) {
		t.Errorf("%+v, %v", tasks, err)
	}
	b := New(Options{})
	logs := b.Logs(t.Context(), dir)
	if len(logs) != 1 || logs[0].Name != name+"compile" || filepath.Base(logs[0].Path) != "log.do_compile.12" {
		t.Errorf("%+v", logs)
	}
	if got := b.Logs(t.Context(), filepath.Join(dir, "none")); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	for task, want := range map[string]bool{"hello:do_compile": true, "hello:compile": true, "hello-1.0-r0:do_compile": true, name + "compile": true, "hello:do_package": false, "hell:do_compile": false, "hello": false, "": false} {
		if got := b.LogOf(name+"compile", task); got != want {
			t.Errorf("%q: %v", task, got)
		}
	}
}
