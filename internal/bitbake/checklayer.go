package bitbake

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"slipway/internal/errs"
)

var (
	reCheckFail = regexp.MustCompile(`(?m)^(?:\S+: )*(?:FAIL|ERROR): (\S+) \(`)
	reCheckRan  = regexp.MustCompile(`Ran (\d+) tests?`)
)

// CheckLayer runs OE-Core's yocto-check-layer on a layer, by the BitBake of this
// process's environment, and gives the tests that failed, by name. A layer that it does
// not come to judge is an error with its last words.
func CheckLayer(ctx context.Context, dir string) ([]string, error) {
	if !HasEnvironment() {
		return nil, errs.E(errs.Invalid, "yocto-check-layer needs a build's environment", errs.Hint(". oe-init-build-env first"))
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "env", "yocto-check-layer", "--no-auto-dependency", dir)
	cmd.Dir, cmd.Stdout, cmd.Stderr = os.Getenv("BUILDDIR"), &out, &out
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	err := cmd.Run()
	return parseCheckLayer(out.String(), err)
}

func parseCheckLayer(said string, err error) ([]string, error) {
	var failed []string
	for _, m := range reCheckFail.FindAllStringSubmatch(said, -1) {
		failed = append(failed, m[1]+" failed")
	}
	if len(failed) > 0 || err == nil && reCheckRan.MatchString(said) {
		return failed, nil
	}
	lines := strings.Split(strings.TrimSpace(said), "\n")
	return nil, errs.E(errs.Failed, "yocto-check-layer: "+strings.Join(lines[max(0, len(lines)-lastLines):], "\n  | "), err)
}
