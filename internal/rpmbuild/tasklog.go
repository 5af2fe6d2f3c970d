package rpmbuild

import (
	"bytes"
	"fmt"
	"os"
	"regexp"

	"slipway/internal/errs"
)

const lastLines = 12

// taskLog is logs/<task>.log. It takes out what differs from one run to the
// next: the task's folder and rpm's temporary names.
type taskLog struct {
	f    *os.File
	dir  string // real folder of the task
	part []byte // a line without its end
	last []string
	full bool // a program complained that the disk is full
}

func newTaskLog(path, dir string) (*taskLog, error) {
	f, err := os.Create(path)
	return &taskLog{f: f, dir: dir}, errs.Wrap(err, "log of a task")
}

var temporary = regexp.MustCompile(`rpm-tmp\.[A-Za-z0-9]{6}`)

// Write is only called by the one goroutine that copies a program's output.
func (l *taskLog) Write(p []byte) (int, error) {
	l.part = append(l.part, p...)
	for {
		i := bytes.IndexByte(l.part, '\n')
		if i < 0 {
			return len(p), nil
		}
		line := l.part[:i]
		l.part = l.part[i+1:]
		if err := l.line(line); err != nil {
			return 0, err
		}
	}
}

func (l *taskLog) line(line []byte) error {
	line = bytes.ReplaceAll(line, []byte(l.dir), []byte(top))
	line = temporary.ReplaceAll(line, []byte("rpm-tmp"))
	l.full = l.full || bytes.Contains(line, []byte("No space left on device"))
	l.last = append(l.last, string(line))
	if len(l.last) > lastLines {
		l.last = l.last[1:]
	}
	_, err := l.f.Write(append(line, '\n'))
	return err
}

// Note writes a line of ours.
func (l *taskLog) Note(format string, args ...any) {
	// A full disk shows itself at the next write of the task.
	_ = l.line([]byte("# " + fmt.Sprintf(format, args...)))
}

// Last gives the last lines, for an error.
func (l *taskLog) Last() []string {
	if len(l.part) > 0 {
		_ = l.line(l.part)
		l.part = nil
	}
	return l.last
}

func (l *taskLog) Close() error {
	l.Last()
	return l.f.Close()
}
