// Package diffoscope is the adapter to diffoscope, which says in depth what differs
// between two files.
package diffoscope

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"time"

	"slipway/internal/errs"
)

// limit is how much of a report is kept, and within what time.
const (
	limit  = 1 << 20
	within = 10 * time.Minute
)

// Compare gives diffoscope's report on two files as text, at most a mebibyte of it;
// false when diffoscope is not installed. Equal files give "".
func Compare(ctx context.Context, a, b string) (report string, ok bool, err error) {
	path, err := exec.LookPath("diffoscope")
	if err != nil {
		return "", false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--text", "-", "--no-progress", "--", a, b)
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) { // 1: they differ
		return "", true, errs.E(errs.Failed, "diffoscope "+a+": "+lastLine(talk.String()), err, errs.Hint("slipway needs no diffoscope: without it differences are told in short"))
	}
	if out.Len() > limit {
		out.Truncate(limit)
	}
	return out.String(), true, nil
}

func lastLine(s string) string {
	b := bytes.TrimSpace([]byte(s))
	return string(b[bytes.LastIndexByte(b, '\n')+1:])
}
