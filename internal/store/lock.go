package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"slipway/internal/errs"
)

// Owner says who holds a lock, for people.
type Owner struct {
	Command string    `json:"command"` // as typed: "slipway publish 1.2"
	PID     int       `json:"pid"`
	BootID  string    `json:"boot_id,omitempty"`
	Since   time.Time `json:"since"`
	User    string    `json:"user,omitempty"`
}

// Self describes this process, at work on command since now.
func Self(command string, now time.Time) Owner {
	o := Owner{Command: command, PID: os.Getpid(), Since: now.UTC().Truncate(time.Second)}
	if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		o.BootID = strings.TrimSpace(string(b))
	}
	if u, err := user.Current(); err == nil {
		o.User = u.Username
	}
	return o
}

// String gives, for example, "slipway publish 1.2 (process 4711, since 12:03:04)",
// in local time.
func (o Owner) String() string {
	if o.Command == "" {
		return "another process"
	}
	return fmt.Sprintf("%s (process %d, since %s)", o.Command, o.PID, o.Since.Local().Format(time.TimeOnly))
}

// Lock is held until Release, or the end of the process, however it ends.
type Lock struct{ f *os.File }

// Acquire takes the lock at path, a file that is made if needed and whose content
// says who holds it. When another holds it, Acquire waits up to wait; then, or at
// once when wait is 0, it returns errs.Locked naming the holder. onWait, if not
// nil, is called on the caller's goroutine when the waiting begins and whenever
// the holder changes. A holder that died does not hold: the lock is flock(2).
func Acquire(ctx context.Context, path string, owner Owner, wait time.Duration, onWait func(Owner)) (*Lock, error) {
	if err := makeDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fault(err, "lock", path)
	}
	if err := acquire(ctx, f, wait, onWait); err != nil {
		f.Close()
		return nil, err
	}
	// In one call and with the tail cut after it: a reader always finds a whole
	// first value.
	b, err := json.Marshal(owner)
	if err == nil {
		_, err = f.WriteAt(append(b, '\n'), 0)
	}
	if err == nil {
		err = f.Truncate(int64(len(b) + 1))
	}
	if err != nil {
		f.Close()
		return nil, fault(err, "lock", path)
	}
	return &Lock{f}, nil
}

func acquire(ctx context.Context, f *os.File, wait time.Duration, onWait func(Owner)) error {
	const every = 100 * time.Millisecond
	var told Owner
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	for first := true; ; first = false {
		err := flock(f, syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return fault(err, "lock", f.Name())
		}
		owner := readOwner(f)
		if wait <= 0 {
			return errs.E(errs.Locked, owner.String()+" is at work in this workspace",
				errs.Hint("run the command again when it has ended; reading (slipway status) is possible all the time"))
		}
		if onWait != nil && (first || owner != told) {
			onWait(owner)
			told = owner
		}
		select {
		case <-ctx.Done():
			return errs.Wrap(context.Cause(ctx), "wait for %s", owner)
		case <-deadline.C:
			return errs.E(errs.Locked, fmt.Sprintf("%s is still at work in this workspace after %s", owner, wait),
				errs.Hint("run the command again when it has ended, or wait longer (--wait)"))
		case <-time.After(every):
		}
	}
}

// readOwner gives who wrote the file last; unreadable content is nobody known.
func readOwner(f *os.File) Owner {
	var o Owner
	if json.NewDecoder(io.NewSectionReader(f, 0, 64<<10)).Decode(&o) != nil {
		return Owner{}
	}
	return o
}

// Release gives the lock back. Calling it again does nothing.
func (l *Lock) Release() {
	if l == nil || l.f == nil {
		return
	}
	// The file stays: removing it would let two processes lock two files.
	l.f.Truncate(0)
	// Not left to the close: a child of this process that is between fork and exec
	// holds a copy of the descriptor, and the lock with it.
	syscall.Flock(int(l.f.Fd()), syscall.LOCK_UN)
	l.f.Close()
	l.f = nil
}
