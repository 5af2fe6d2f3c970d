package check

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/distro"
)

type fake struct {
	id  string
	run func(ctx context.Context, bed *Bed) (Result, error)
}

func (f fake) Spec() distro.CheckSpec {
	return distro.CheckSpec{ID: f.id, Level: distro.Warn, Cure: "cure"}
}
func (f fake) Run(ctx context.Context, bed *Bed) (Result, error) { return f.run(ctx, bed) }

func TestRunFailsClosed(t *testing.T) {
	t.Parallel()
	good := fake{"good", func(_ context.Context, bed *Bed) (Result, error) {
		b, err := bed.Transcript("b.txt", "b")
		if err != nil {
			return Result{}, err
		}
		a, err := bed.Transcript("a.txt", "a")
		bed.Tell(1, 2, "half")
		return Result{Asked: 2, Evidence: []File{b, a}, Findings: []distro.Finding{{ID: "z", Level: distro.Block, Source: "s"}, {ID: "a", Cure: "own"}}}, err
	}}
	crash := fake{"crash", func(context.Context, *Bed) (Result, error) { panic("boom") }}
	inside := fake{"inside", func(ctx context.Context, bed *Bed) (Result, error) {
		return Result{Asked: 1}, bed.Each(ctx, 3, func(_ context.Context, i int) error {
			if i == 1 {
				panic("deep")
			}
			return nil
		})
	}}
	broken := fake{"broken", func(context.Context, *Bed) (Result, error) { return Result{}, errors.New("no tool") }}
	off := fake{"off", func(context.Context, *Bed) (Result, error) { t.Error("ran though off"); return Result{}, nil }}
	var told []string
	bed := &Bed{Dir: t.TempDir(), Jobs: 2, Commits: func(s string) []string { return []string{"commit of " + s} },
		Progress: func(id string, done, total int, text string) {
			told = append(told, fmt.Sprintf("%s %d/%d %s", id, done, total, text))
		}}
	got, err := Run(t.Context(), bed, []Check{good, crash, off, inside, broken}, map[string]distro.Level{"off": distro.Off, "good": distro.Block})
	if err != nil {
		t.Fatal(err)
	}
	want := []distro.CheckResult{
		{Spec: good.Spec(), Asked: 2, Findings: []distro.Finding{{Check: "good", ID: "a", Level: distro.Warn, Cure: "own"}, {Check: "good", ID: "z", Level: distro.Block, Cure: "cure", Source: "s", Commits: []string{"commit of s"}}}},
		{Spec: crash.Spec(), Findings: []distro.Finding{}, Error: "the check crashed: boom"},
		{Spec: inside.Spec(), Asked: 1, Findings: []distro.Finding{}, Error: "crashed: deep"},
		{Spec: broken.Spec(), Findings: []distro.Finding{}, Error: "no tool"},
	}
	var results []distro.CheckResult
	for _, o := range got {
		results = append(results, o.Result)
	}
	if d := cmp.Diff(want, results); d != "" {
		t.Error(d)
	}
	if f := got[0].Files; len(f) != 2 || f[0].Name != "a.txt" || f[0].Log != "test/good/a.txt" {
		t.Errorf("files %+v", f)
	}
	if strings.Join(told, ";") != "good 1/2 half" {
		t.Errorf("told %q", told)
	}
}

func TestEachKeepsToItsJobs(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int32
	count := func(ctx context.Context, bed *Bed) (Result, error) {
		return Result{Asked: 1}, bed.Each(ctx, 20, func(context.Context, int) error {
			most.Store(max(most.Load(), now.Add(1)))
			now.Add(-1)
			return nil
		})
	}
	if _, err := Run(t.Context(), &Bed{Dir: t.TempDir(), Jobs: 2}, []Check{fake{"a", count}, fake{"b", count}, fake{"c", count}}, nil); err != nil {
		t.Fatal(err)
	}
	if most.Load() > 2 {
		t.Errorf("%d at a time", most.Load())
	}
}

func TestCancelIsAnError(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	c := fake{"c", func(ctx context.Context, bed *Bed) (Result, error) {
		cancel()
		return Result{}, bed.Each(ctx, 3, func(ctx context.Context, _ int) error { return ctx.Err() })
	}}
	if _, err := Run(ctx, &Bed{Dir: t.TempDir()}, []Check{c}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func record(nevra string) distro.PackageRecord {
	rest, arch := nevra[:strings.LastIndexByte(nevra, '.')], nevra[strings.LastIndexByte(nevra, '.')+1:]
	i := strings.LastIndexByte(rest, '-')
	j := strings.LastIndexByte(rest[:i], '-')
	p := distro.PackageRecord{Name: rest[:j], Version: rest[j+1 : i], Release: rest[i+1:], Arch: arch}
	if e, v, ok := strings.Cut(p.Version, ":"); ok {
		_, _ = fmt.Sscan(e, &p.Epoch)
		p.Version = v
	}
	return p
}

func records(nevras ...string) []distro.PackageRecord {
	var all []distro.PackageRecord
	for _, n := range nevras {
		all = append(all, record(n))
	}
	return all
}

func TestTogether(t *testing.T) {
	t.Parallel()
	r := parseRelations([]string{
		"@tool\t0\t2\t1\tnoarch", ">O", "tool < 2", ">C",
		"@tool-core\t0\t2\t1\tnoarch", ">O", "tool < 2", "old", ">C", "(a if b)",
		"@mini\t0\t1\t1\tnoarch", ">O", ">C", "full >= 1:1",
		"@full\t1\t1\t1\tnoarch", ">O", ">C",
		"@new\t0\t2\t1\tnoarch", ">O", ">C",
	})
	all := Binary(records("tool-1-1.noarch", "tool-core-2-1.noarch", "old-9-1.noarch", "mini-1-1.noarch", "full-1:1-1.noarch", "new-1-1.noarch", "new-2-1.noarch", "new-2-1.src"))
	keep, notes := r.Together(all)
	var got []string
	for _, p := range keep {
		got = append(got, p.NEVRA())
	}
	if d := cmp.Diff([]string{"full-1:1-1.noarch", "new-2-1.noarch", "tool-core-2-1.noarch"}, got); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"new-1-1.noarch is older than new-2-1.noarch", "old-9-1.noarch is obsoleted by tool-core-2-1.noarch", "tool-1-1.noarch is obsoleted by tool-core-2-1.noarch",
		"mini-1-1.noarch conflicts with full-1:1-1.noarch"}, notes); d != "" {
		t.Error(d)
	}
	if _, ok := r.Obsoleted(record("tool-2-1.noarch"), all); ok {
		t.Error("tool-2 is not older than 2")
	}
}

func TestByPackage(t *testing.T) {
	t.Parallel()
	got := ByPackage([]string{"/var/tmp/rpm-tmp.x: line 1: frob: command not found", "warning: %post(a-1-1.noarch) scriptlet failed, exit status 127", "Error in POSTIN scriptlet in rpm package a",
		"warning: %post(stranger-1-1.noarch) scriptlet failed"}, records("a-1-1.noarch"))
	if len(got["a-1-1.noarch"]) != 4 || len(got) != 1 {
		t.Errorf("%q", got)
	}
	if got := ByPackage([]string{"lua script failed"}, nil); len(got[""]) != 1 {
		t.Errorf("%q", got)
	}
}
