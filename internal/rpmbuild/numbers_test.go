package rpmbuild

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

func TestNumbers(t *testing.T) {
	tie := tinyLayer()["libtie/tie.c"]
	b := setup(t, tinyLayer())
	b.seed.Numbers = []distro.NumberRow{{NumberKey: distro.NumberKey{Source: "gone", Version: "3", Arch: "noarch"}, Number: 7, Content: distro.DigestOf(nil)}}
	b.mustBuild()

	// A fix in the library (that uses the same of the C library, else the linker
	// writes the program's strings in another order): its number rises, the program that is linked to it
	// comes out with equal content and keeps its number.
	b.next("1.2-b1")
	b.write(map[string]string{"libtie/tie.c": strings.Replace(tie, "strlen(s)", "strlen(s + 1)", 1)})
	out := b.mustBuild()
	if got, want := evrs(out), "motd-1.0-1.noarch kept, libtie-1.0-2.x86_64, libtie-devel-1.0-2.x86_64, tiectl-1.0-1.x86_64 kept"; got != want {
		t.Errorf("after the fix: %s", got)
	}
	for _, o := range out {
		if o.Package != nil && (o.Path == "") != o.Package.Kept {
			t.Errorf("%s: kept %v, path %q", o.Name, o.Package.Kept, o.Path)
		}
	}
	var rows []distro.NumberRow
	for _, o := range out {
		if o.Class == distro.PRDatabase {
			if err := readJSON(o.Path, &rows); err != nil {
				t.Fatal(err)
			}
		}
	}
	var got []string
	for _, r := range rows {
		got = append(got, r.String()+" "+string(rune('0'+r.Number)))
	}
	if s := strings.Join(got, ", "); s != "gone-3.noarch 7, libtie-1.0.x86_64 2, motd-1.0.noarch 1, tiectl-1.0.x86_64 1" {
		t.Errorf("PR database: %s", s)
	}

	// That candidate is rejected: its number is burned, the base is the first release still.
	b.again("1.2-b2")
	b.write(map[string]string{"libtie/tie.c": strings.Replace(tie, "strlen(s)", "strlen(s + 2)", 1)})
	if got, want := evrs(b.mustBuild()), "motd-1.0-1.noarch kept, libtie-1.0-3.x86_64, libtie-devel-1.0-3.x86_64, tiectl-1.0-1.x86_64 kept"; got != want {
		t.Errorf("after a rejected candidate: %s", got)
	}

	// The change is taken back: nothing new, so the base's number is right again.
	b.again("1.2-b3")
	b.write(map[string]string{"libtie/tie.c": tie})
	if got, want := evrs(b.mustBuild()), "motd-1.0-1.noarch kept, libtie-1.0-1.x86_64 kept, libtie-devel-1.0-1.x86_64 kept, tiectl-1.0-1.x86_64 kept"; got != want {
		t.Errorf("after taking the change back: %s", got)
	}
	if want := "1.1-b1 libtie-1.0.x86_64 1, 1.2-b1 libtie-1.0.x86_64 2, 1.2-b2 libtie-1.0.x86_64 3"; !strings.Contains(strings.Join(libtieOnly(b.numbers.all), ", "), want) {
		t.Errorf("numbers given: %s", b.numbers.all)
	}
}

func libtieOnly(all []string) []string {
	var some []string
	for _, s := range all {
		if strings.Contains(s, "libtie") {
			some = append(some, s)
		}
	}
	return some
}

// A base row whose package record is gone (dropped, and now back) is no reason
// to name a file that no feed has.
func TestNumberIsNotKeptWithoutARecord(t *testing.T) {
	b := setup(t, map[string]string{"a/a.spec": shell("a", "one", "")})
	b.mustBuild()
	b.next("1.2-b1")
	b.seed.Packages = nil
	if got := evrs(b.mustBuild()); got != "a-1.0-2.noarch" {
		t.Error(got)
	}
}

func TestParallelBuildsNeverShareANumber(t *testing.T) {
	b := setup(t, map[string]string{"a/a.spec": shell("a", "one", "")})
	b.mustBuild()
	b.next("1.2-b1")
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]bool{}
	for i, text := range []string{"two", "three", "four"} {
		c := *b
		c.layer = t.TempDir()
		c.seed.Layers = map[string]string{"base": c.layer}
		c.again(distro.NewBuildID("1.2", i+1))
		c.write(map[string]string{"a/a.spec": shell("a", text, "")})
		wg.Go(func() {
			if err := c.build(); err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			seen[evrs(c.collect())] = true
		})
	}
	wg.Wait()
	for _, want := range []string{"a-1.0-2.noarch", "a-1.0-3.noarch", "a-1.0-4.noarch"} {
		if !seen[want] {
			t.Errorf("nobody has %s: %v", want, seen)
		}
	}
}

type brokenNumbers struct{ n int }

func (b brokenNumbers) Next(context.Context, distro.BuildID, distro.NumberKey) (int, error) {
	if b.n == 0 {
		return 0, errs.E(errs.Locked, "the state is locked")
	}
	return b.n, nil
}

func TestNumbersThatFailOrLie(t *testing.T) {
	b := setup(t, map[string]string{"a/a.spec": shell("a", "one", "")})
	b.mustBuild()
	b.next("1.2-b1")
	b.write(map[string]string{"a/a.spec": shell("a", "two", "")})
	for _, tt := range []struct {
		n    brokenNumbers
		kind errs.Kind
	}{{brokenNumbers{0}, errs.Locked}, {brokenNumbers{1}, errs.Internal}} {
		b.opt.Numbers = tt.n
		if err := b.build(); !errs.Is(err, tt.kind) {
			t.Errorf("numbers %v: %v", tt.n, err)
		}
	}
}

// TestNewNameIsBuiltOnce: a package whose name the base does not know (a kernel's
// has its version in it) cannot be kept, so nothing is built with the old number.
func TestNewNameIsBuiltOnce(t *testing.T) {
	of := func(kernel string) map[string]string {
		return map[string]string{"a/a.spec": specText("a", "BuildArch: noarch\n%package -n a-"+kernel+"\nSummary: x\n%description -n a-"+kernel+"\nx",
			"%install\nmkdir -p %{buildroot}/usr/share\necho one > %{buildroot}/usr/share/a", "/usr/share/a\n%files -n a-"+kernel)}
	}
	b := setup(t, of("55"))
	b.mustBuild()
	b.next("1.2-b1")
	b.write(of("56"))
	if got := evrs(b.mustBuild()); got != "a-1.0-2.noarch, a-56-1.0-2.noarch" {
		t.Error(got)
	}
	log, err := os.ReadFile(filepath.Join(b.dir, "logs", "a.noarch.log"))
	if err != nil || strings.Count(string(log), "SOURCE_DATE_EPOCH=") != 1 || !strings.Contains(string(log), "a package is new to number 1") {
		t.Errorf("%v\n%s", err, log)
	}
}
