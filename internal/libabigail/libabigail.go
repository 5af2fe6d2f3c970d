// Package libabigail is the adapter to libabigail's programs, which know the types
// of a library's interface from its debug information: abidw writes them down as XML,
// abidiff compares two such files. As tried with libabigail 2.2.
package libabigail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"slipway/internal/errs"
)

// within is how long one library may take: a large one of C++ takes minutes.
const within = 10 * time.Minute

// reportLimit is how much of abidiff's report is kept, in bytes.
const reportLimit = 1 << 20

// Missing names the programs that are not installed; none when all are.
func Missing() []string {
	var out []string
	for _, name := range []string{"abidw", "abidiff"} {
		if _, err := exec.LookPath(name); err != nil {
			out = append(out, name)
		}
	}
	return out
}

// Describe writes the interface of the ELF file lib to the file out, as XML that
// names no path but those in its debug information. debug is a folder with separate debug information,
// laid out as /usr/lib/debug is; "" is none. Whether there is any must be known
// before: without it the XML lists symbols and no types, and says nothing of that.
func Describe(ctx context.Context, lib, debug, out string) error {
	args := []string{"--no-corpus-path", "--no-comp-dir-path"}
	if debug != "" {
		args = append(args, "--debug-info-dir", debug)
	}
	_, _, err := run(ctx, "abidw", append(args, "--out-file", out, lib)...)
	return err
}

// Comparison is what abidiff says of two interfaces, added symbols left out.
type Comparison struct {
	Changed      bool     // a type, a signature
	Incompatible bool     // abidiff is sure that programs break
	Report       string   // its words
	Symbols      []string // functions and variables that it names as changed, sorted
}

// Compare compares two files that Describe wrote.
func Compare(ctx context.Context, old, now string) (Comparison, error) {
	code, out, err := run(ctx, "abidiff", "--no-added-syms", old, now)
	if err != nil {
		return Comparison{}, err
	}
	// abidiff(1), RETURN VALUES: 4 a change that may be harmless, 8 one that breaks.
	c := Comparison{Changed: code&4 != 0, Incompatible: code&8 != 0, Report: out}
	if c.Changed {
		c.Symbols = Changed(out)
	}
	return c, nil
}

var changedLine = regexp.MustCompile(`^\s*\[C\] '(?:function |variable |method )?([^']*)'`)

// Changed gives the names of the functions and variables that a report of abidiff
// lists as changed ("[C] 'function int knot_label(char*)' at knot.c:12:1 has ..."),
// without namespaces and arguments.
func Changed(report string) []string {
	var out []string
	for line := range strings.Lines(report) {
		m := changedLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		if name := declared(m[1]); name != "" {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// declared finds the name in a declaration: what stands before the arguments of a
// function, and before "[3]" of a variable.
func declared(s string) string {
	if i := strings.IndexAny(s, "(["); i >= 0 {
		s = s[:i]
	}
	s = strings.TrimSpace(s)
	if i := strings.LastIndexAny(s, " *&:"); i >= 0 {
		s = s[i+1:]
	}
	return s
}

// run gives exit code and output; an exit code with bit 1 or 2 is an error.
func run(ctx context.Context, name string, args ...string) (int, string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return 0, "", errs.E(errs.Unavailable, name+" is not installed", errs.Hint("install libabigail's programs (Debian: abigail-tools)"))
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(cmd.Environ(), "LC_ALL=C", "LIBABIGAIL_DEFAULT_USER_SUPPRESSION_FILE=", "LIBABIGAIL_DEFAULT_SYSTEM_SUPPRESSION_FILE=")
	cmd.WaitDelay = 5 * time.Second
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	err = cmd.Run()
	code := cmd.ProcessState.ExitCode()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return 0, "", errs.E(errs.KindOf(ctx.Err()), fmt.Sprintf("%s was stopped; %s is the most that it may take", name, within), ctx.Err())
	case err != nil && (!errors.As(err, &exit) || code < 0 || code&3 != 0 || name != "abidiff"):
		return 0, "", errs.E(errs.Failed, fmt.Sprintf("%s %s: %s", name, args[len(args)-1], lastLine(talk.String()+out.String())), err)
	}
	if out.Len() > reportLimit {
		out.Truncate(reportLimit)
	}
	return code, out.String(), nil
}

func lastLine(s string) string {
	b := strings.TrimSpace(s)
	return b[strings.LastIndexByte(b, '\n')+1:]
}
