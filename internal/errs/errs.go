// Package errs is how every package of Slipway says that something went wrong.
//
// An error tells three things: what happened, to which object, and what to do
// next. It has a Kind, which decides the exit code (one table, [ExitCode]),
// optional hints (printed as "hint:" lines; a cure that is a command is printed
// as the command) and an optional position in a file that the user wrote.
//
//	return errs.E(errs.NotFound, "release 1.7 of halyard", errs.Hint("slipway status lists the releases"))
//	return errs.E(errs.Invalid, "unknown key \"seris\"", errs.At{File: "slipway.yaml", Line: 4, Col: 1}, errs.Hint("did you mean \"series\"?"))
//
// Messages are lower case, have no full stop and no "failed to". Several
// findings at once travel as a [List]. Callers branch on kinds with [Is], never
// on text.
package errs

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Kind says what sort of failure an error is. It decides the exit code.
type Kind string

// The kinds, in the order of the exit code table.
const (
	Internal    Kind = "internal"    // a defect of ours, or unknown: exit 1
	Failed      Kind = "failed"      // the work was tried and failed (a package does not build): exit 1
	Unavailable Kind = "unavailable" // a missing tool, a full disk, a server that does not answer: exit 1
	Invalid     Kind = "invalid"     // usage or configuration: exit 2
	Partial     Kind = "partial"     // finished, part of the work failed: exit 3
	Denied      Kind = "denied"      // not allowed, a bad signature: exit 4
	NotFound    Kind = "notfound"    // exit 5
	Locked      Kind = "locked"      // somebody else is at work: exit 6
	Conflict    Kind = "conflict"    // the state is another one, or the same name with other bytes: exit 6
	Refused     Kind = "refused"     // a gate said no: exit 7
	Pending     Kind = "pending"     // waiting, for a person or for running work: exit 8
	Interrupted Kind = "interrupted" // exit 130
)

var exitCodes = map[Kind]int{
	Internal: 1, Failed: 1, Unavailable: 1, Invalid: 2, Partial: 3, Denied: 4, NotFound: 5,
	Locked: 6, Conflict: 6, Refused: 7, Pending: 8, Interrupted: 130,
}

// At is a position in a file that a person wrote. Line and Col count from 1;
// 0 means unknown. Excerpt is the source line, without its newline.
type At struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Col     int    `json:"col,omitempty"`
	Excerpt string `json:"excerpt,omitempty"`
}

// String gives file:line:col, as far as known.
func (a At) String() string {
	switch {
	case a.Line == 0:
		return a.File
	case a.Col == 0:
		return fmt.Sprintf("%s:%d", a.File, a.Line)
	}
	return fmt.Sprintf("%s:%d:%d", a.File, a.Line, a.Col)
}

// Hint says what to do next. If the cure is a command, it is the command.
type Hint string

// Hintf formats a Hint.
func Hintf(format string, args ...any) Hint { return Hint(fmt.Sprintf(format, args...)) }

// Error is one failure. Make it with [E].
type Error struct {
	Kind  Kind
	Msg   string
	Pos   At
	Hints []string
	Cause error
}

// E makes an error of a kind. Options are Hint, At and an error, the cause.
func E(kind Kind, msg string, opts ...any) error {
	e := &Error{Kind: kind, Msg: msg}
	for _, o := range opts {
		switch o := o.(type) {
		case nil:
		case Hint:
			if o != "" {
				e.Hints = append(e.Hints, string(o))
			}
		case At:
			e.Pos = o
		case error:
			e.Cause = o
		default:
			panic(fmt.Sprintf("errs.E: option of type %T", o))
		}
	}
	return e
}

// Ef is E with a formatted message and no options.
func Ef(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Msg: fmt.Sprintf(format, args...)}
}

// Wrap says what was being done when err happened; the kind, hints and position
// of err stay visible. It returns nil for a nil err.
func Wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Pos.File != "" {
		b.WriteString(e.Pos.String())
		b.WriteString(": ")
	}
	b.WriteString(e.Msg)
	if e.Cause != nil {
		b.WriteString(": ")
		b.WriteString(e.Cause.Error())
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// List is several findings, reported together. An empty List is no error: use
// [List.Err].
type List []error

func (l List) Error() string {
	s := make([]string, len(l))
	for i, e := range l {
		s[i] = e.Error()
	}
	return strings.Join(s, "\n")
}

// Unwrap lets errors.Is and errors.As look into every finding.
func (l List) Unwrap() []error { return l }

// Err gives nil for an empty list, the only error of a list of one, else the list.
func (l List) Err() error {
	switch len(l) {
	case 0:
		return nil
	case 1:
		return l[0]
	}
	return l
}

// KindOf gives the kind of the outermost Error in err's chain. A cancelled
// context is Interrupted; anything unknown is Internal.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	if errors.Is(err, context.Canceled) {
		return Interrupted
	}
	return Internal
}

// Is reports whether err is of that kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// Hints gives every hint in err's chain, outermost first, each once.
func Hints(err error) []string {
	var out []string
	seen := map[string]bool{}
	var walk func(error)
	walk = func(err error) {
		if err == nil {
			return
		}
		if e, ok := err.(*Error); ok {
			for _, h := range e.Hints {
				if !seen[h] {
					seen[h] = true
					out = append(out, h)
				}
			}
		}
		switch u := err.(type) {
		case interface{ Unwrap() error }:
			walk(u.Unwrap())
		case interface{ Unwrap() []error }:
			for _, e := range u.Unwrap() {
				walk(e)
			}
		}
	}
	walk(err)
	return out
}

// ExitCode is the one table from an error to the exit code of a command.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	return exitCodes[KindOf(err)]
}
