package bitbake

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// fake is a build whose BitBake is a Python script.
func fake(t *testing.T, opt Options, script string) (*Builder, string) {
	t.Helper()
	dir := t.TempDir()
	if os.Geteuid() == 0 {
		opt.User = "nobody"
		for _, d := range []string{dir, filepath.Dir(dir)} {
			if err := os.Chmod(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, text := range map[string]string{"bitbake/bin/bitbake": "import os, signal, sys\n" + script, "bitbake/lib/bb/__init__.py": "__version__ = \"2.18.0\"\n",
		"core/meta/conf/layer.conf": "", "core/meta/conf/bitbake.conf": "", "core/scripts/oe-buildenv-internal": ""} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	opt.Targets = []string{"all"}
	b := New(opt)
	rev := distro.Revision{Layers: []distro.LayerPin{{Name: "bitbake"}, {Name: "core"}}}
	seed := distro.Seed{Version: "1.1", Boards: []distro.Board{{Name: "m"}}, Layers: map[string]string{"bitbake": filepath.Join(dir, "bitbake"), "core": filepath.Join(dir, "core", "meta")}}
	if err := b.Prepare(t.Context(), rev, seed, filepath.Join(dir, "build")); err != nil {
		if strings.Contains(err.Error(), "en_US.UTF-8") {
			t.Skip("SKIPPED: BitBake's runs: ", err)
		}
		t.Fatal(err)
	}
	return b, filepath.Join(dir, "build")
}

const started = "print('NOTE: recipe a-1-r0: task do_x: Started', flush=True)\n"

func TestAHungBitBakeIsEnded(t *testing.T) {
	t.Parallel()
	// It ignores what can be ignored, so it has to be killed.
	b, dir := fake(t, Options{Silence: 50 * time.Millisecond, Grace: 10 * time.Millisecond}, started+"for s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, signal.SIG_IGN)\nwhile True: signal.pause()\n")
	err := b.Build(t.Context(), dir, nil)
	if !errs.Is(err, errs.Failed) || !strings.Contains(err.Error(), "said nothing for 50ms") {
		t.Error(err)
	}
}

func TestAKilledBitBakeIsNoticed(t *testing.T) {
	t.Parallel()
	b, dir := fake(t, Options{}, started+"open('bitbake-cookerdaemon.log', 'w').write('Traceback: out of luck')\nos.kill(os.getpid(), signal.SIGKILL)\n")
	err := b.Build(t.Context(), dir, nil)
	for _, want := range []string{"killed", "a-1-r0:do_x", "out of luck"} {
		if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

func TestTheEnvironmentIsOurs(t *testing.T) {
	t.Parallel()
	b, dir := fake(t, Options{Jobs: 3}, "print('ENV', os.getuid() != 0, sorted(os.environ), os.environ['MACHINE'], sys.argv[1:], open('conf/slipway-machine.conf').read(), flush=True)\nopen('mine', 'w')\n")
	if err := b.Build(t.Context(), dir, nil); err != nil {
		t.Fatal(err)
	}
	out, err := os.ReadFile(filepath.Join(dir, "console.log"))
	got := string(out)
	for _, want := range []string{"ENV True ['BBPATH', 'BB_ENV_PASSTHROUGH_ADDITIONS', 'BB_SERVER_TIMEOUT', 'BUILDDIR', 'HOME', 'LANG', 'LC_ALL', 'MACHINE', 'PATH', 'PYTHONDONTWRITEBYTECODE', 'SHELL', 'TERM', 'TZ'", "'all']", "BB_NUMBER_THREADS = \"3\"", "PRSERV_HOST"} {
		if err != nil || !strings.Contains(got, want) {
			t.Errorf("%q is not in: %s %v", want, got, err)
		}
	}
	if strings.Contains(got, "SECRET") || strings.Contains(got, "GOPATH") {
		t.Error("our environment got through: " + got)
	}
}

func TestABitBakeWithoutServerIsStartedAgain(t *testing.T) {
	t.Parallel()
	const silent = "print('ERROR: Unable to connect to bitbake server, or start one (server startup failures would be in bitbake-cookerdaemon.log).', flush=True)\n"
	b, dir := fake(t, Options{}, "if not os.path.exists('tried'):\n    open('tried', 'w')\n    "+silent+"    sys.exit(1)\n"+started+"print('NOTE: recipe a-1-r0: task do_x: Succeeded', flush=True)\n")
	var notes []string
	err := b.Build(t.Context(), dir, func(e distro.BuildEvent) {
		if e.Type == "note" {
			notes = append(notes, e.Text)
		}
	})
	if err != nil || len(notes) != 2 || !strings.Contains(notes[1], "once more") {
		t.Error(notes, err)
	}
	// Once, and not for ever.
	b, dir = fake(t, Options{}, "open('tried', 'a').write('x')\n"+silent+"sys.exit(1)\n")
	err = b.Build(t.Context(), dir, nil)
	if tried, _ := os.ReadFile(filepath.Join(dir, "topdir", "tried")); !errs.Is(err, errs.Failed) || string(tried) != "xx" || !strings.Contains(strings.Join(errs.Hints(err), " "), "bitbake-cookerdaemon.log") {
		t.Errorf("tried %q: %v", tried, err)
	}
}
