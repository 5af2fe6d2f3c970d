package rpmbuild

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// types gives "type task" of the events, without the plan.
func types(events []distro.BuildEvent) map[string]bool {
	all := map[string]bool{}
	for _, e := range events {
		all[e.Type+" "+e.Task] = true
	}
	return all
}

func TestFailedTasks(t *testing.T) {
	files := map[string]string{
		"bad/bad.spec":     specText("bad", "BuildArch: noarch", "%install\necho looking for the mast\nfalse", ""),
		"worse/worse.spec": specText("worse", "BuildArch: noarch", "%install\necho no mast here; exit 3", ""),
		"child/child.spec": shell("child", "x", "BuildRequires: bad"),
		"good/good.spec":   shell("good", "x", ""),
	}
	b := setup(t, files)
	b.opt.Jobs = 1
	err := b.build()
	if !errs.Is(err, errs.Failed) || errs.ExitCode(err) != 1 {
		t.Fatal(err)
	}
	for _, want := range []string{"package bad ", "bad.noarch", "package worse ", "| + echo looking for the mast", "| no mast here", filepath.Join(b.dir, "logs", "bad.noarch.log")} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
	if h := strings.Join(errs.Hints(err), "; "); h != "slipway log 1.1-b1 bad.noarch; slipway log 1.1-b1 worse.noarch" {
		t.Errorf("hints %q", h)
	}
	var te *TaskError
	if !errors.As(err, &te) || te.Task != "bad.noarch" || te.Source != "bad" || te.Layer != "base" || len(te.Lines) == 0 {
		t.Errorf("%+v", te)
	}
	got := types(b.events)
	for _, want := range []string{"done good.noarch", "failed bad.noarch", "failed worse.noarch", "note "} {
		if !got[want] {
			t.Errorf("no event %q in %v", want, got)
		}
	}
	if got["start child.noarch"] {
		t.Error("a task was started that waits for a failed one")
	}
	for _, err := range New(b.opt).Collect(t.Context(), b.dir) {
		if !errs.Is(err, errs.Conflict) {
			t.Errorf("collecting an unfinished build: %v", err)
		}
	}

	// The same call goes on; what is done is not built again, and no number is burned twice.
	given := len(b.numbers.all)
	b.events = nil
	if err := b.build(); !errs.Is(err, errs.Failed) {
		t.Error(err)
	}
	if got := types(b.events); !got["note good.noarch"] || got["done good.noarch"] {
		t.Errorf("the second call: %v", got)
	}
	if len(b.numbers.all) != given {
		t.Errorf("the second call took numbers: %v", b.numbers.all)
	}
}

func TestDiskFull(t *testing.T) {
	b := setup(t, map[string]string{"a/a.spec": specText("a", "BuildArch: noarch", "%install\necho 'cp: No space left on device' >&2; exit 1", "")})
	if err := b.build(); !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "disk is full") {
		t.Error(err)
	}
}

func TestInterruptedAndResumed(t *testing.T) {
	b := setup(t, map[string]string{
		"a/a.spec":       shell("a", "a", ""),
		"slow/slow.spec": specText("slow", "BuildArch: noarch\nBuildRequires: a", "%install\nmkdir -p %{buildroot}/usr/share/slow\necho half > %{buildroot}/usr/share/slow/half; sleep 1000", "/usr/share/slow"),
	})
	builder := New(b.opt)
	if err := builder.Prepare(t.Context(), b.rev, b.seed, b.dir); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	err := builder.Build(ctx, b.dir, func(e distro.BuildEvent) {
		if e.Type == "start" && e.Task == "slow.noarch" {
			stop()
		}
	})
	if !errs.Is(err, errs.Interrupted) || !strings.Contains(err.Error(), "1 of 2") || errs.ExitCode(err) != 130 {
		t.Fatal(err)
	}
	// The spec does not know why it was slow; the person who looks into it makes it fast.
	path := filepath.Join(b.dir, "inputs/slow/slow.spec")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(data), "sleep 1000", "true", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	out := b.mustBuild()
	if got := types(b.events); !got["note a.noarch"] || !got["done slow.noarch"] {
		t.Errorf("events %v", got)
	}
	if got := evrs(out); got != "a-1.0-1.noarch, slow-1.0-1.noarch" {
		t.Error(got)
	}
	if _, err := os.Stat(filepath.Join(b.dir, "work/slow.noarch")); !os.IsNotExist(err) {
		t.Errorf("a finished task left its folder: %v", err)
	}
}

// What a power cut can leave: a marker without its package, a package without
// its marker, a torn package, a torn marker, an old folder of a task.
func TestDamageIsBuiltAgain(t *testing.T) {
	b := setup(t, map[string]string{"a/a.spec": shell("a", "a", ""), "b/b.spec": shell("b", "b", "BuildRequires: a")})
	want := records(b.mustBuild())
	rpmFile, markerFile := filepath.Join(b.dir, "rpms/a.noarch/a-1.0-1.noarch.rpm"), filepath.Join(b.dir, "done/a.noarch.json")
	for name, damage := range map[string]func() error{
		"no package":   func() error { return os.Remove(rpmFile) },
		"no marker":    func() error { return os.Remove(markerFile) },
		"torn package": func() error { return os.Truncate(rpmFile, 3000) },
		"torn marker":  func() error { return os.Truncate(markerFile, 30) },
		"rests": func() error {
			old := filepath.Join(b.dir, "work/a.noarch/BUILD/old")
			return errors.Join(os.Remove(markerFile), os.MkdirAll(filepath.Join(old, "older"), 0o700), os.Chmod(old, 0o500))
		},
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		b.events = nil
		got := records(b.mustBuild())
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: other packages: %v", name, got)
		}
		if e := types(b.events); !e["done a.noarch"] || !e["note b.noarch"] {
			t.Errorf("%s: events %v", name, e)
		}
	}
	if n := len(b.numbers.all); n != 2 {
		t.Errorf("%d numbers were taken for two packages", n)
	}
}

func TestAnotherRevisionBeginsAnew(t *testing.T) {
	b := setup(t, map[string]string{"a/a.spec": shell("a", "a", "")})
	b.mustBuild()
	b.write(map[string]string{"b/b.spec": shell("b", "b", "")})
	b.rev.Definition = distro.DigestOf([]byte("another"))
	if got := evrs(b.mustBuild()); got != "a-1.0-2.noarch, b-1.0-1.noarch" {
		t.Error(got)
	}
}
