// Package doctest executes the command blocks of the documentation, so that no
// page shows a command that does not work.
//
// Every fenced block of README.md and docs marked sh is run by bash with the
// real slipway on the PATH. The blocks of one page run in order in one shell,
// in an empty folder, with a HOME of their own. A block marked "sh slow" runs
// only with SLIPWAY_TEST=full. Blocks marked otherwise (text, yaml, console) are
// not run.
//
//	```sh
//	slipway init halyard --example halyard
//	cd halyard
//	slipway check 1.2-c1      # exit 7
//	```
//
// A command must exit 0, or with the number in a comment "# exit N" at the end
// of its line. Programs that a page leaves running are ended with the page.
package doctest

import (
	"fmt"
	"regexp"
	"strings"
)

// Script is what one page gives to bash.
type Script struct {
	// Text has a line for each line of the page, so that bash's line numbers
	// are the page's; lines outside the blocks are empty.
	Text   string
	Blocks int // that will run
	Slow   int // that were left out
}

var (
	fence    = regexp.MustCompile("^( {0,3})(`{3,}|~{3,})[ \t]*([^`]*)$")
	exitMark = regexp.MustCompile(`[ \t]*#[ \t]*exit ([0-9]+)[ \t]*$`)
)

// Parse takes the sh blocks out of a page of Markdown. slow includes those
// marked "sh slow". It is an error when a block has no end, is marked with a
// word after sh that is not known, or expects an exit code of no command.
func Parse(page string, slow bool) (Script, error) {
	var s Script
	lines := strings.Split(page, "\n")
	out := make([]string, len(lines))
	for i := 0; i < len(lines); i++ {
		open := fence.FindStringSubmatch(strings.TrimSuffix(lines[i], "\r"))
		if open == nil {
			continue
		}
		end := i + 1
		for end < len(lines) && !closes(lines[end], open[2]) {
			end++
		}
		if end == len(lines) {
			return s, fmt.Errorf("line %d: the block has no end", i+1)
		}
		switch info := strings.TrimSpace(open[3]); {
		case info == "sh", info == "sh slow" && slow:
			s.Blocks++
			for j := i + 1; j < end; j++ {
				out[j] = strings.TrimPrefix(strings.TrimSuffix(lines[j], "\r"), open[1])
			}
			if err := expectExits(out, i+1, end); err != nil {
				return s, err
			}
		case info == "sh slow":
			s.Slow++
		case strings.HasPrefix(info, "sh "):
			return s, fmt.Errorf("line %d: a block is marked %q; known are \"sh\" and \"sh slow\"", i+1, info)
		}
		i = end
	}
	s.Text = strings.Join(out, "\n")
	return s, nil
}

func closes(line, fence string) bool {
	l := strings.TrimSpace(line)
	return len(l) >= len(fence) && strings.Trim(l, fence[:1]) == ""
}

// expectExits rewrites commands with an "# exit N" comment so that they succeed
// exactly when they exit with N. A command may go over several lines by
// backslashes.
func expectExits(lines []string, from, to int) error {
	start := from // of the command that line i belongs to
	for i := from; i < to; i++ {
		if i > from && !strings.HasSuffix(strings.TrimRight(lines[i-1], " \t"), `\`) {
			start = i
		}
		m := exitMark.FindStringSubmatch(lines[i])
		if m == nil {
			continue
		}
		command := strings.TrimSuffix(lines[i], m[0])
		if strings.TrimSpace(command) == "" && start == i {
			return fmt.Errorf("line %d: \"# exit %s\" stands on a line without a command", i+1, m[1])
		}
		lines[i] = command
		lines[start] = "if " + lines[start]
		lines[i] += "; then doctest_exit " + m[1] + " 0; else doctest_exit " + m[1] + " $?; fi"
	}
	return nil
}

// Preamble makes a script stop at the first command that fails and say where.
// It is run before the page's script is sourced as $1; $2 names the page.
const Preamble = `set -Eeuo pipefail
doctest_page=$2
doctest_fail() { echo "doctest: $doctest_page:$1: $2" >&2; trap - ERR; exit 1; }
doctest_exit() { [ "$1" = "$2" ] || doctest_fail "${BASH_LINENO[0]}" "exit code $2, the page says $1"; }
trap 'doctest_code=$?; doctest_fail "$LINENO" "exit code $doctest_code: $BASH_COMMAND"' ERR
source "$1"
`
