package installs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"slipway/internal/check"
	"slipway/internal/check/installs"
	"slipway/internal/distro"
	"slipway/internal/dnf"
	"slipway/internal/dnf/dnftest"
)

func spec(name, extra, files string) string {
	return "Name: " + name + "\nVersion: 1\nRelease: 1\nBuildArch: noarch\n" + extra + "%install\nmkdir -p %{buildroot}/usr/share/x\nfor f in " + files + "; do echo " + name + " > %{buildroot}$f; done\n%files\n" + strings.ReplaceAll(files, " ", "\n") + "\n"
}

func ask(t *testing.T, repo dnf.Repo, records []distro.PackageRecord) check.Outcome {
	t.Helper()
	dir := t.TempDir()
	bed := &check.Bed{Dir: dir, Tool: dnftest.Find(t), Jobs: 2, Candidate: check.Feed{Repos: []dnf.Repo{repo}}, Packages: records, Commits: func(s string) []string { return []string{"change " + s} }}
	out, err := check.Run(t.Context(), bed, []check.Check{installs.New()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Join(dir, "installs"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		if e.Name() != "evidence" {
			t.Errorf("left behind: %s", e.Name())
		}
	}
	return out[0]
}

func show(o check.Outcome) []string {
	var got []string
	for _, f := range o.Result.Findings {
		got = append(got, string(f.Level)+" "+f.ID)
	}
	return got
}

func TestInstalls(t *testing.T) {
	t.Parallel()
	key := dnftest.NewKey(t, "candidate")
	var rpms []string
	for _, s := range []string{
		spec("a", "", "/usr/share/x/a"),
		spec("b", "Requires: a\n", "/usr/share/x/b"),
		spec("old", "", "/usr/share/x/old"),
		spec("new", "Obsoletes: old < 2\n", "/usr/share/x/old /usr/share/x/new"),
	} {
		rpms = append(rpms, dnftest.Build(t, s)...)
	}
	key.Sign(t, rpms...)
	repo, records := key.Feed(t, rpms...)
	o := ask(t, repo, records)
	if len(o.Result.Findings) != 0 || o.Result.Error != "" || o.Result.Asked != 5 || o.Result.Note != "not installed together: old-1-1.noarch is obsoleted by new-1-1.noarch" {
		t.Errorf("%+v", o.Result)
	}
	var files []string
	for _, f := range o.Files {
		files = append(files, f.Name)
	}
	if d := cmp.Diff([]string{"alone.txt", "together.txt"}, files); d != "" {
		t.Error(d)
	}
	data, err := os.ReadFile(o.Files[0].Path)
	if err != nil || !strings.Contains(string(data), "b-1-1.noarch: installs, with 1 others: a-1-1.noarch\n") || !strings.Contains(string(data), "old-1-1.noarch: not asked, obsoleted by new-1-1.noarch\n") {
		t.Errorf("%v\n%s", err, data)
	}
}

func TestFindings(t *testing.T) {
	t.Parallel()
	key := dnftest.NewKey(t, "candidate")
	var rpms []string
	for _, s := range []string{
		spec("clash1", "", "/usr/share/x/same"),
		spec("clash2", "", "/usr/share/x/same"),
		spec("lonely", "Requires: nobody\n", "/usr/share/x/lonely"),
		spec("script", "", "/usr/share/x/script") + "%post -p <lua>\nerror('on purpose')\n",
		spec("user", "Requires: script\n", "/usr/share/x/user"),
	} {
		rpms = append(rpms, dnftest.Build(t, s)...)
	}
	key.Sign(t, rpms...)
	unsigned := dnftest.Build(t, spec("unsigned", "", "/usr/share/x/unsigned"))
	repo, records := key.Feed(t, append(rpms, unsigned...)...)
	o := ask(t, repo, records)
	if d := cmp.Diff([]string{"block lonely.noarch", "block script.noarch:scriptlet", "block together", "block unsigned.noarch"}, show(o)); d != "" {
		t.Fatalf("%s\n%+v", d, o.Result)
	}
	for i, says := range []string{"nothing provides nobody", "on purpose", "", "is not signed"} {
		f := o.Result.Findings[i]
		if says != "" && !strings.Contains(f.Text+strings.Join(f.Evidence, "\n"), says) || f.Log == "" || len(f.Evidence) == 0 || f.Cure == "" {
			t.Errorf("%s: %+v", f.ID, f)
		}
	}
	if f := o.Result.Findings[0]; f.Source != "lonely" || len(f.Commits) != 1 || f.Commits[0] != "change lonely" {
		t.Errorf("%+v", f)
	}
}

func TestTogetherIsVerified(t *testing.T) {
	t.Parallel()
	key := dnftest.NewKey(t, "candidate")
	a := dnftest.Build(t, spec("a", "", "/usr/share/x/a"))
	b := dnftest.Build(t, spec("b", "Requires(post): a\n", "/usr/share/x/b")+"%post -p <lua>\nlocal f = io.open('/usr/share/x/a', 'w'); f:write('changed'); f:close(); print('I talk')\n")
	key.Sign(t, a[0], b[0])
	repo, records := key.Feed(t, a[0], b[0])
	o := ask(t, repo, records)
	got := show(o)
	if d := cmp.Diff([]string{"block together:/usr/share/x/a", "info together:talk"}, got); d != "" {
		t.Errorf("%s\n%+v", d, o.Result)
	}
}

func TestFeedIsRefused(t *testing.T) {
	t.Parallel()
	key, stranger := dnftest.NewKey(t, "candidate"), dnftest.NewKey(t, "stranger")
	a := dnftest.Build(t, spec("a", "", "/usr/share/x/a"))
	key.Sign(t, a[0])
	repo, records := key.Feed(t, a[0])
	stranger.Index(t, dnftest.Dir(repo))
	if d := cmp.Diff([]string{"block feed"}, show(ask(t, repo, records))); d != "" {
		t.Error(d)
	}
	if o := ask(t, repo, nil); o.Result.Error == "" {
		t.Error("no packages is no answer")
	}
}

// What had a good answer, and depends on the same packages, is not asked again; a
// bad answer is never remembered.
func TestGoodAnswersStand(t *testing.T) {
	t.Parallel()
	key := dnftest.NewKey(t, "candidate")
	rpms := append(dnftest.Build(t, spec("a", "", "/usr/share/x/a")), dnftest.Build(t, spec("lonely", "Requires: nobody\n", "/usr/share/x/lonely"))...)
	key.Sign(t, rpms...)
	repo, records := key.Feed(t, rpms...)
	good := map[distro.Digest]string{}
	run := func() check.Outcome {
		bed := &check.Bed{Dir: t.TempDir(), Tool: dnftest.Find(t), Jobs: 2, Candidate: check.Feed{Repos: []dnf.Repo{repo}}, Packages: records,
			Inputs:   func(r distro.PackageRecord) (distro.Digest, bool) { return r.HeaderDigest, true },
			Answered: func(d distro.Digest) (string, bool) { c, ok := good[d]; return c, ok }}
		out, err := check.Run(t.Context(), bed, []check.Check{installs.New()}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return out[0]
	}
	first := run()
	if len(first.Good) != 1 {
		t.Fatalf("%d good answers, want that of a alone", len(first.Good))
	}
	good[first.Good[0]] = "1.1-c1"
	second := run()
	if second.Result.Asked != first.Result.Asked-1 || len(second.Good) != 0 || !strings.Contains(second.Result.Note, "1 packages not asked about again") {
		t.Errorf("%+v", second.Result)
	}
	if d := cmp.Diff(show(first), show(second)); d != "" {
		t.Error(d)
	}
}
