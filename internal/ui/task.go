package ui

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Task is one step that runs. Its methods may be used from many goroutines;
// after Done or Failed they do nothing.
type Task struct {
	p     *Printer
	title string
	depth int
	began time.Time

	// All below under p.mu.
	done, total int
	text        string
	ended       bool
	beat        *time.Timer // in a pipe
}

// Step begins a step within this one.
func (t *Task) Step(title string) *Task { return t.p.begin(title, t.depth+1) }

// Progress says how far the step is: done of total (0: unknown), and what it is
// at. It writes nothing in a pipe; the heartbeat tells it.
func (t *Task) Progress(done, total int, text string) {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	t.done, t.total, t.text = done, total, Clean(text)
}

// Note writes a line that stays.
func (t *Task) Note(text string) {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	if t.ended {
		return
	}
	t.p.write(t.p.mark(t.depth, weak, "note") + t.title + ": " + Clean(text) + "\n")
	if t.beat != nil {
		t.beat.Reset(t.p.opts.Heartbeat)
	}
}

// Done ends the step well. The summary ("8 packages") may be empty.
func (t *Task) Done(summary string) { t.end(good, "ok", summary) }

// Failed ends the step badly. The error itself is printed by the command, with
// [PrintError]; the summary is a short form.
func (t *Task) Failed(summary string) { t.end(bad, "FAIL", summary) }

func (t *Task) end(colour, word, summary string) {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	if t.ended {
		return
	}
	t.ended = true
	if t.beat != nil {
		t.beat.Stop()
	}
	line := t.title
	if summary, _, _ = strings.Cut(summary, "\n"); summary != "" {
		line += ": " + Clean(summary)
	}
	line = t.p.mark(t.depth, colour, word) + line + t.p.paint(weak, seconds(time.Since(t.began))) + "\n"
	t.p.running = slices.DeleteFunc(t.p.running, func(x *Task) bool { return x == t })
	t.p.write(line)
	t.p.rest()
}

func (t *Task) heartbeat() {
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	if t.ended {
		return
	}
	t.p.write(t.p.mark(t.depth, weak, "...") + t.title + t.state() + seconds(time.Since(t.began)) + "\n")
	t.beat.Reset(t.p.opts.Heartbeat)
}

// state words the progress: ": 3 of 11, libgreet.x86_64".
func (t *Task) state() string {
	s := ""
	if t.total > 0 {
		s = fmt.Sprintf(": %d of %d", t.done, t.total)
	}
	if t.text != "" {
		if s == "" {
			return ": " + t.text
		}
		s += ", " + t.text
	}
	return s
}

// barWidth is that of the bar between its brackets.
const barWidth = 20

// live gives the live line in less than width columns.
func (t *Task) live(width int, ran time.Duration) string {
	head := strings.Repeat("  ", t.depth+1)
	rest := t.title
	switch {
	case t.total > 0 && width >= 60:
		full := min(barWidth, max(0, t.done)*barWidth/t.total)
		head += "[" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "] "
	default:
		head += string(`|/-\`[int(ran/(200*time.Millisecond))%4]) + "     "
	}
	rest += t.state() + seconds(ran.Truncate(time.Second))
	return cut(head+rest, width-1)
}
