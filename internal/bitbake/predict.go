package bitbake

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"time"

	"slipway/internal/errs"
)

// Prediction is what BitBake would find in its cache for some targets, in objects
// (one a task, about).
type Prediction struct {
	Wanted  int `json:"wanted"`
	Local   int `json:"local"`
	Mirrors int `json:"mirrors"`
	Missed  int `json:"missed"`
	Current int `json:"current"` // built already
}

// Rate is how much of what is wanted is found, in percent; 100 of nothing.
func (p Prediction) Rate() int {
	if p.Wanted == 0 {
		return 100
	}
	return 100 * (p.Wanted - p.Missed) / p.Wanted
}

// Host gives this machine's distribution as BitBake names it: "debian-12".
func Host() string { return hostDistribution("/etc/os-release") }

// HasEnvironment reports whether this process is in a build's environment, as
// oe-init-build-env makes it.
func HasEnvironment() bool {
	_, err := exec.LookPath("bitbake")
	return err == nil && (os.Getenv("BUILDDIR") != "" || os.Getenv("BBPATH") != "")
}

// Predict asks the BitBake of this process's environment what it would build of the
// targets (bitbake -n): it parses, asks hash equivalence and every mirror, and runs no
// task. It takes as long as parsing does.
func Predict(ctx context.Context, targets []string) (Prediction, error) {
	c := &Console{}
	var last bytes.Buffer
	cmd := exec.CommandContext(ctx, "env", append([]string{"bitbake", "-n"}, targets...)...)
	if dir := os.Getenv("BUILDDIR"); dir != "" {
		cmd.Dir = dir
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	out := &both{c, &last}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	p := Prediction{Wanted: c.Wanted, Local: c.Local, Mirrors: c.Mirrors, Missed: c.Missed, Current: c.Current}
	switch {
	case ctx.Err() != nil:
		return p, errs.E(errs.Interrupted, "BitBake was stopped", context.Cause(ctx))
	case err != nil && c.Err() != nil:
		return p, c.Err()
	case err != nil:
		lines := strings.Split(strings.TrimSpace(last.String()), "\n")
		return p, errs.E(errs.Failed, "bitbake -n: "+strings.Join(lines[max(0, len(lines)-lastLines):], "\n  | "), err)
	case c.Wanted+c.Current == 0:
		return p, errs.E(errs.Failed, "bitbake -n did not say what it would find", errs.Hint("does the configuration have OE-Core's sstate.bbclass?"))
	}
	return p, nil
}

// both gives what is written to a console, and keeps its end.
type both struct {
	c    *Console
	last *bytes.Buffer
}

func (b *both) Write(p []byte) (int, error) {
	b.last.Write(p)
	if b.last.Len() > 64<<10 {
		b.last.Next(b.last.Len() - 16<<10)
	}
	return b.c.Write(p)
}
