package dnf_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"slipway/internal/distro"
	"slipway/internal/dnf"
	"slipway/internal/dnf/dnftest"
	"slipway/internal/errs"
)

func greet(version int) string {
	return fmt.Sprintf(`Name: greet
Version: %d
Release: 1
BuildArch: noarch
Requires: base
%%install
mkdir -p %%{buildroot}/usr/share %%{buildroot}/etc
echo %d > %%{buildroot}/usr/share/greet
echo %d > %%{buildroot}/etc/greet.conf
%%files
/usr/share/greet
%%config(noreplace) /etc/greet.conf
`, version, version, version)
}

const base = `Name: base
Version: 1
Release: 1
BuildArch: noarch
%install
mkdir -p %{buildroot}/etc
echo x > %{buildroot}/etc/base
%files
/etc/base
`

const broken = `Name: broken
Version: 1
Release: 1
BuildArch: noarch
%files
%post -p <lua>
print("about to fail")
error("on purpose")
`

func newRoot(t *testing.T, tool *dnf.Tool, repos ...dnf.Repo) *dnf.Root {
	t.Helper()
	root, err := tool.NewRoot(t.Context(), filepath.Join(t.TempDir(), "r"), dnf.Options{Repos: repos})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Remove() })
	return root
}

func names(p []distro.PackageRecord) string {
	var s []string
	for _, p := range p {
		s = append(s, p.NEVRA())
	}
	return strings.Join(s, " ")
}

func TestInstallUpgradeAndBack(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	tool, key := dnftest.Find(t), dnftest.NewKey(t, "feed")
	b, g1, g2, bad := dnftest.Build(t, base), dnftest.Build(t, greet(1)), dnftest.Build(t, greet(2)), dnftest.Build(t, broken)
	key.Sign(t, b[0], g1[0], g2[0], bad[0])
	one, records := key.Feed(t, b[0], g1[0])
	two, _ := key.Feed(t, b[0], g2[0], bad[0])

	empty := newRoot(t, tool, one)
	if err := empty.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	root, err := empty.Clone(ctx, filepath.Join(t.TempDir(), "clone"))
	if err != nil {
		t.Fatal(err)
	}
	res, err := root.Install(ctx, "greet")
	if err != nil || names(res.Installed) != "base-1-1.noarch greet-1-1.noarch" || len(res.Upgraded)+len(res.Removed)+len(res.Scriptlets)+len(res.Talk) != 0 {
		t.Fatalf("install: %v %+v", err, res)
	}
	if p, err := empty.Installed(ctx); err != nil || len(p) != 0 {
		t.Fatalf("the clone wrote into its origin: %v %v", p, err)
	}
	if p, err := root.Installed(ctx); err != nil || p[1].HeaderDigest != records[1].HeaderDigest || records[1].HeaderDigest == "" {
		t.Fatalf("installed %+v, want the header digest of %+v (%v)", p, records[1], err)
	}
	if lines, err := root.Repoquery(ctx, "--qf", "%{name} %{evr}", "greet"); err != nil || strings.Join(lines, ",") != "greet 1-1" {
		t.Fatalf("repoquery: %q %v", lines, err)
	}

	configs, err := root.ConfigFiles(ctx)
	if want := (dnf.ConfigFile{Path: "/etc/greet.conf", Package: "greet.noarch", NoReplace: true}); err != nil || len(configs) != 1 || configs[0] != want {
		t.Fatalf("configuration files %+v %v", configs, err)
	}
	conf := filepath.Join(root.Path(), "etc/greet.conf")
	if v, err := root.VerifyAll(ctx); err != nil || len(v) != 0 {
		t.Fatalf("fresh root: %v %v", v, err)
	}
	if err := os.WriteFile(conf, []byte("edited\n"), 0o644); err != nil {
		t.Fatal(err)
	}

	if err := root.SetRepos([]dnf.Repo{two}); err != nil {
		t.Fatal(err)
	}
	if res, err = root.Upgrade(ctx); err != nil || names(res.Upgraded) != "greet-2-1.noarch" {
		t.Fatalf("upgrade: %v %+v", err, res)
	}
	if got, err := os.ReadFile(conf); err != nil || string(got) != "edited\n" {
		t.Fatalf("configuration %q %v", got, err)
	}
	v, err := root.VerifyAll(ctx)
	if err != nil || len(v) != 1 || v[0].Path != "/etc/greet.conf" || v[0].Attr != "c" || !strings.HasPrefix(v[0].Flags, "S.5") || v[0].Missing {
		t.Fatalf("verify: %+v %v", v, err)
	}

	if err := root.SetRepos([]dnf.Repo{one}); err != nil {
		t.Fatal(err)
	}
	if res, err = root.DistroSync(ctx); err != nil || names(res.Downgraded) != "greet-1-1.noarch" {
		t.Fatalf("distro-sync: %v %+v", err, res)
	}

	if err := root.SetRepos([]dnf.Repo{two}); err != nil {
		t.Fatal(err)
	}
	res, err = root.Install(ctx, "broken")
	if err != nil || !strings.Contains(strings.Join(res.Scriptlets, "\n"), "on purpose") || !strings.Contains(strings.Join(res.Scriptlets, "\n"), "broken") {
		t.Fatalf("scriptlet: %v %q\n%s", err, res.Scriptlets, res.Output)
	}
	if err := os.Remove(filepath.Join(root.Path(), "etc/base")); err != nil {
		t.Fatal(err)
	}
	if v, err = root.VerifyAll(ctx); err != nil || len(v) != 2 || !v[0].Missing || v[0].Path != "/etc/base" {
		t.Fatalf("verify: %+v %v", v, err)
	}
	if _, err := root.Install(ctx, "nobody"); !errs.Is(err, errs.Failed) || !strings.Contains(err.Error(), "nobody") {
		t.Fatalf("unknown package: %v", err)
	}
	if _, err := tool.NewRoot(ctx, root.Dir, dnf.Options{}); !errs.Is(err, errs.Conflict) {
		t.Fatalf("a root over another: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	tool, key, stranger := dnftest.Find(t), dnftest.NewKey(t, "feed"), dnftest.NewKey(t, "stranger")
	plain := dnftest.Build(t, base)[0]
	copyOf := func(t *testing.T) string {
		data, err := os.ReadFile(plain)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), filepath.Base(plain))
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	signed := copyOf(t)
	key.Sign(t, signed)
	flip := func(t *testing.T, path string, back int) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)-back] ^= 0xff
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, says string
		feed       func(t *testing.T) dnf.Repo
	}{
		{"unsigned package", "is not signed", func(t *testing.T) dnf.Repo {
			r, _ := key.Feed(t, copyOf(t))
			return r
		}},
		{"wrong key", "GPG", func(t *testing.T) dnf.Repo {
			p := copyOf(t)
			stranger.Sign(t, p)
			r, _ := key.Feed(t, p)
			return r
		}},
		{"tampered package", "", func(t *testing.T) dnf.Repo {
			r, _ := key.Feed(t, signed)
			flip(t, filepath.Join(dnftest.Dir(r), filepath.Base(signed)), 10)
			return r
		}},
		{"tampered payload under new metadata", "", func(t *testing.T) dnf.Repo {
			r, _ := key.Feed(t, signed)
			flip(t, filepath.Join(dnftest.Dir(r), filepath.Base(signed)), 10)
			key.Index(t, dnftest.Dir(r))
			return r
		}},
		{"tampered repomd", "signature", func(t *testing.T) dnf.Repo {
			r, _ := key.Feed(t, signed)
			path := filepath.Join(dnftest.Dir(r), "repodata/repomd.xml")
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, append(data, ' '), 0o644); err != nil {
				t.Fatal(err)
			}
			return r
		}},
		{"repomd of a stranger", "signature", func(t *testing.T) dnf.Repo {
			r, _ := key.Feed(t, signed)
			stranger.Index(t, dnftest.Dir(r))
			return r
		}},
		{"repomd without signature", "", func(t *testing.T) dnf.Repo {
			r, _ := key.Feed(t, signed)
			if err := os.Remove(filepath.Join(dnftest.Dir(r), "repodata/repomd.xml.asc")); err != nil {
				t.Fatal(err)
			}
			return r
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root := newRoot(t, tool, tt.feed(t))
			res, err := root.Install(t.Context(), "base")
			if !errs.Is(err, errs.Denied) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v: %v\n%s", errs.KindOf(err), err, res.Output)
			}
			t.Logf("dnf says: %v", err)
			if p, err := root.Installed(t.Context()); err != nil || len(p) != 0 {
				t.Errorf("installed %v %v", p, err)
			}
		})
	}
}

// The host's own configuration must not take part: a variable, a feed and an
// alias there would change every answer.
func TestVariablesAndConfiguration(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	tool, key := dnftest.Find(t), dnftest.NewKey(t, "feed")
	g1, b := dnftest.Build(t, greet(1)), dnftest.Build(t, base)
	key.Sign(t, g1[0], b[0])
	repo, _ := key.Feed(t, b[0], g1[0])
	dir := dnftest.Dir(repo)
	repo.BaseURL = "file://" + filepath.Dir(dir) + "/$slipway_snapshot"
	root := newRoot(t, tool, repo)
	if err := root.SetVars(map[string]string{"slipway_snapshot": filepath.Base(dir)}); err != nil {
		t.Fatal(err)
	}
	if lines, err := root.Repoquery(ctx); err != nil || strings.Join(lines, " ") != "base-0:1-1.noarch greet-0:1-1.noarch" {
		t.Fatalf("%q %v", lines, err)
	}
	if err := root.SetVars(map[string]string{"slipway_snapshot": "nowhere"}); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Repoquery(ctx); !errs.Is(err, errs.Failed) {
		t.Fatalf("a feed that is not there: %v", err)
	}
	for _, bad := range []dnf.Repo{{}, {ID: "x"}, {ID: "x", BaseURL: "file:///x"}, {ID: "../x", BaseURL: "file:///x", GPGKeys: []string{"/x"}}, {ID: "x", BaseURL: "file:///x\ngpgcheck=0", GPGKeys: []string{"/x"}}} {
		if err := root.SetRepos([]dnf.Repo{bad}); !errs.Is(err, errs.Invalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if err := root.SetVars(map[string]string{"a/b": "c"}); !errs.Is(err, errs.Invalid) {
		t.Error(err)
	}
}

// A shell, as scriptlets need it: the host's, with its libraries.
func shell(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("ldd", "/bin/sh").Output()
	if err != nil {
		t.Fatalf("ldd: %v: apt-get install libc-bin", err)
	}
	var install, files strings.Builder
	for _, w := range append(strings.Fields(string(out)), "/bin/sh") {
		if filepath.IsAbs(w) {
			fmt.Fprintf(&install, "install -D -m 755 $(readlink -f %s) %%{buildroot}%s\n", w, w)
			fmt.Fprintf(&files, "%s\n", w)
		}
	}
	return "Name: shell\nVersion: 1\nRelease: 1\nAutoReqProv: no\n%global debug_package %{nil}\n%global __os_install_post %{nil}\n%install\n" + install.String() + "%files\n" + files.String()
}

func TestRunAndShellScriptlets(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	tool, key := dnftest.Find(t), dnftest.NewKey(t, "feed")
	sh := dnftest.Build(t, shell(t))
	pkg := func(name, script string) string {
		return dnftest.Build(t, "Name: "+name+"\nVersion: 1\nRelease: 1\nBuildArch: noarch\n%files\n%post\n"+script+"\n")[0]
	}
	fails, quiet, slow := pkg("fails", "echo talks\nexit 3"), pkg("quiet", "echo x > /dev/null\ntest -c /dev/null"), pkg("slow", "while :; do :; done")
	key.Sign(t, sh[0], fails, quiet, slow)
	repo, _ := key.Feed(t, sh[0], fails, quiet, slow)
	root := newRoot(t, tool, repo)
	res, err := root.Install(ctx, "quiet")
	if err != nil || len(res.Scriptlets)+len(res.Talk) != 0 {
		t.Fatalf("%v %+v", err, res)
	}
	if out, err := root.Run(ctx, "/bin/sh", "-c", "echo in $PWD"); err != nil || out != "in /\n" {
		t.Fatalf("%q %v", out, err)
	}
	if out, err := root.Run(ctx, "/bin/sh", "-c", "echo why >&2; exit 4"); !errs.Is(err, errs.Failed) || !strings.Contains(err.Error(), "why") {
		t.Fatalf("%q %v", out, err)
	}
	res, err = root.Install(ctx, "fails")
	if err != nil || !strings.Contains(strings.Join(res.Scriptlets, "\n"), "%post(fails-1-1.noarch) scriptlet failed, exit status 3") {
		t.Fatalf("%v %q\n%s", err, res.Scriptlets, res.Output)
	}
	if strings.Join(res.Talk, "\n") != "talks" {
		t.Errorf("talk %q", res.Talk)
	}

	cause := errors.New("enough")
	stop, cancel := context.WithCancelCause(ctx)
	done := make(chan error)
	go func() {
		_, err := root.Install(stop, "slow")
		done <- err
	}()
	// The scriptlet is the moment to cancel: it would never end by itself.
	for logged := ""; !strings.Contains(logged, "Running scriptlet"); {
		found, _ := filepath.Glob(filepath.Join(root.Dir, "logs/003-install.log"))
		for _, f := range found {
			data, _ := os.ReadFile(f)
			logged = string(data)
		}
		select {
		case err := <-done:
			t.Fatalf("ended: %v", err)
		default:
		}
	}
	cancel(cause)
	if err := <-done; !errors.Is(err, cause) {
		t.Fatalf("cancelled: %v", err)
	}
}
