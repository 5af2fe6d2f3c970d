package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"slipway/internal/cli"
	"slipway/internal/crashtest"
	"slipway/internal/store/s3/s3test"
)

func slipway(args ...string) int {
	return cli.Main(context.Background(), args, cli.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}

func TestMain(m *testing.M) {
	crashtest.Main(crashWork)
	// A script starts this binary again under the name slipway: that one has the script's environment.
	if filepath.Base(os.Args[0]) != "slipway" {
		// The keys of the crash tests, and of the scripts' template, lie in a configuration folder of their own.
		config, err := os.MkdirTemp("", "slipway-test-")
		if err != nil {
			panic(err)
		}
		os.Setenv("XDG_CONFIG_HOME", config)
		os.Setenv("XDG_STATE_HOME", filepath.Join(config, "state"))
	}
	testscript.Main(m, map[string]func(){"slipway": main})
}

// TestScript runs testdata/script: the program as a person uses it. Each script
// has a home of its own; scriptCommands says what it can do beside running
// programs.
func TestScript(t *testing.T) {
	t.Parallel()
	templates := newTemplates(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "home")
			env.Setenv("HOME", home)
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(home, ".config"))
			env.Setenv("XDG_STATE_HOME", filepath.Join(home, ".local", "state"))
			env.Setenv("GIT_CONFIG_GLOBAL", filepath.Join(home, "gitconfig"))
			env.Setenv("NO_COLOR", "1")
			program, err := exec.LookPath("slipway")
			if err != nil {
				return err
			}
			env.Setenv("BIN", filepath.Dir(program))
			env.Setenv("MOUNTS", "-rm") // unshare's flags for mounts of one's own
			if os.Geteuid() == 0 {
				env.Setenv("MOUNTS", "-m")
			}
			if err := os.MkdirAll(home, 0o755); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(home, "gitconfig"), []byte("[user]\n\tname = Tester\n\temail = tester@example.org\n[init]\n\tdefaultBranch = main\n"), 0o644)
		},
		Cmds: scriptCommands(templates, sync.OnceValue(func() *s3test.Server { return s3test.Start(t) })),
	})
}
