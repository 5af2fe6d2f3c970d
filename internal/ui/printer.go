// Package ui is how commands talk to people: steps with progress, tables,
// errors and human numbers. It knows nothing of distributions.
//
// Rules of terminal output, which all of Slipway keeps:
//
//   - Standard output is the result, standard error is talk. A [Printer] only
//     talks: it writes to standard error.
//   - Bars are drawn on a terminal only, and are gone when their step has ended;
//     what stays is the same one line per step that a pipe gets.
//   - In a pipe nothing moves and nothing is overwritten: a line when a step
//     ends, and a heartbeat line when it is silent for long.
//   - Colour says nothing that the words do not say. NO_COLOR, TERM=dumb and
//     anything but a terminal turn it off.
//   - Live lines are cut to the terminal's width; lines that stay are never cut,
//     so that they can be copied.
//   - What comes from tools and files is printed without its control characters.
//   - Words: "ok", "FAIL", "note", "..." (still running) begin the lines of steps;
//     "error:" and "hint:" those of errors.
package ui

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/cwriter"
)

// Options say what a Printer writes to. [Detect] fills them for a file.
type Options struct {
	Out       io.Writer
	TTY       bool          // bars and colour
	Width     int           // of the terminal in columns; 0 asks it
	NoColor   bool          // bars without colour
	Quiet     bool          // nothing at all
	Heartbeat time.Duration // silence after which a running step tells of itself; 0 means 10 s
}

// Detect gives the options for a file, usually os.Stderr, by the rules above.
func Detect(f *os.File, quiet bool) Options {
	dumb := os.Getenv("TERM") == "dumb"
	return Options{Out: f, Quiet: quiet, TTY: IsTerminal(f) && !dumb, NoColor: os.Getenv("NO_COLOR") != "" || dumb}
}

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool { return f != nil && cwriter.IsTerminal(int(f.Fd())) }

// Printer tells people what a command does. It may be used from many
// goroutines. Nothing of it runs while no step does.
type Printer struct {
	opts  Options
	color bool

	mu     sync.Mutex
	live   *mpb.Progress // while a step runs on a terminal
	active int           // steps that run
	spoke  bool          // a line was written
}

// New makes a Printer.
func New(o Options) *Printer {
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = 10 * time.Second
	}
	return &Printer{opts: o, color: o.TTY && !o.NoColor}
}

// Heading begins a section.
func (p *Printer) Heading(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	gap := ""
	if p.spoke {
		gap = "\n"
	}
	p.write(gap + p.paint(bold, "== "+Clean(text)) + "\n")
}

// Line writes one line of talk. It may be empty.
func (p *Printer) Line(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.write(Clean(text) + "\n")
}

// write puts whole lines above the bars. p.mu is held.
func (p *Printer) write(lines string) {
	if p.opts.Quiet {
		return
	}
	p.spoke = true
	if p.live != nil {
		if _, err := io.WriteString(p.live, lines); err == nil {
			return
		}
	}
	// Nobody is told when talk cannot be heard.
	_, _ = io.WriteString(p.opts.Out, lines)
}

// Step begins a step. End it with [Task.Done] or [Task.Failed].
func (p *Printer) Step(title string) *Task { return p.begin(title, 0) }

func (p *Printer) begin(title string, depth int) *Task {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := &Task{p: p, title: Clean(title), depth: depth, began: time.Now()}
	if p.opts.Quiet {
		return t
	}
	if p.opts.TTY {
		p.active++
		if p.live == nil {
			options := []mpb.ContainerOption{mpb.WithOutput(p.opts.Out), mpb.WithAutoRefresh(), mpb.WithRefreshRate(100 * time.Millisecond)}
			if p.opts.Width > 0 {
				options = append(options, mpb.WithWidth(p.opts.Width))
			}
			p.live = mpb.New(options...)
		}
		t.bar = t.newBar(p.live)
		return t
	}
	t.beat = time.AfterFunc(p.opts.Heartbeat, t.heartbeat)
	return t
}

// Close ends what is still shown, for a command that stops early. Steps that
// were not ended say nothing more.
func (p *Printer) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stop()
}

func (p *Printer) stop() {
	if p.live != nil {
		p.live.Shutdown()
		p.live = nil
	}
	p.active = 0
}

// Colours, by what they are for.
const (
	bold  = "\x1b[1m"
	good  = "\x1b[32m"
	bad   = "\x1b[1;31m"
	weak  = "\x1b[2m"
	tip   = "\x1b[36m"
	reset = "\x1b[0m"
)

func (p *Printer) paint(colour, s string) string { return paint(p.color, colour, s) }

func paint(on bool, colour, s string) string {
	if !on || s == "" {
		return s
	}
	return colour + s + reset
}

// mark is how the line of a step begins.
func (p *Printer) mark(depth int, colour, word string) string {
	return strings.Repeat("  ", depth+1) + p.paint(colour, word) + strings.Repeat(" ", 6-len(word))
}

func seconds(d time.Duration) string {
	if d < 100*time.Millisecond {
		return ""
	}
	return fmt.Sprintf(" (%s)", Duration(d))
}
