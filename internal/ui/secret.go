package ui

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"slipway/internal/errs"
)

// Secret asks for a passphrase on the terminal of this process, wherever its input
// and output go, without showing it. Denied when there is no terminal; a cancelled
// ctx is Interrupted, and the terminal is as it was.
func Secret(ctx context.Context, prompt string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, errs.E(errs.Denied, "there is no terminal to ask for a passphrase", err)
	}
	fd := int(tty.Fd())
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		tty.Close()
		return nil, errs.E(errs.Denied, "there is no terminal to ask for a passphrase", err)
	}
	quiet := *old
	quiet.Lflag &^= unix.ECHO
	quiet.Lflag |= unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &quiet); err != nil {
		tty.Close()
		return nil, errs.E(errs.Unavailable, "switch the terminal's echo off", err)
	}
	fmt.Fprint(tty, prompt)
	type answer struct {
		line []byte
		err  error
	}
	read := make(chan answer, 1)
	go func() { // left behind when ctx ends: a terminal's read cannot be stopped
		line, err := bufio.NewReader(tty).ReadBytes('\n')
		read <- answer{line, err}
	}()
	var a answer
	select {
	case a = <-read:
	case <-ctx.Done():
		a.err = ctx.Err()
	}
	_ = unix.IoctlSetTermios(fd, unix.TCSETS, old)
	fmt.Fprintln(tty)
	if a.err != nil {
		return nil, a.err
	}
	return bytes.TrimRight(a.line, "\r\n"), nil
}
