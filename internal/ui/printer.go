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

	"golang.org/x/sys/unix"
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
func IsTerminal(f *os.File) bool { return columns(f) > 0 }

// columns gives the width of the terminal that f is, 0 when it is none.
func columns(f *os.File) int {
	if f == nil {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	if size.Col == 0 {
		return 80 // a terminal that does not tell
	}
	return int(size.Col)
}

// Printer tells people what a command does. It may be used from many
// goroutines. Nothing of it runs while no step does.
type Printer struct {
	opts  Options
	color bool

	mu    sync.Mutex
	spoke bool // a line was written
	// On a terminal: the steps that run, each with a live line, in the order in
	// which they began; how many live lines stand there now; and what redraws them.
	running []*Task
	drawn   int
	ticker  *time.Ticker
	ended   chan struct{}
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
	p.draw(lines)
}

// draw replaces the live lines by lines that stay and the live lines of now, in
// one write, so that nothing flickers. p.mu is held.
func (p *Printer) draw(lines string) {
	var b strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\r\x1b[J", p.drawn)
	}
	b.WriteString(lines)
	width := p.opts.Width
	if f, ok := p.opts.Out.(*os.File); ok && width == 0 && len(p.running) > 0 {
		width = columns(f)
	}
	if width == 0 {
		width = 80
	}
	for _, t := range p.running {
		b.WriteString(t.live(width, time.Since(t.began)) + "\n")
	}
	p.drawn = len(p.running)
	// Nobody is told when talk cannot be heard.
	_, _ = io.WriteString(p.opts.Out, b.String())
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
		p.running = append(p.running, t)
		if p.ticker == nil {
			p.ticker, p.ended = time.NewTicker(100*time.Millisecond), make(chan struct{})
			go p.redraw(p.ticker, p.ended)
		}
		return t
	}
	t.beat = time.AfterFunc(p.opts.Heartbeat, t.heartbeat)
	return t
}

// redraw moves the live lines until ended is closed.
func (p *Printer) redraw(ticker *time.Ticker, ended chan struct{}) {
	for {
		select {
		case <-ended:
			return
		case <-ticker.C:
			p.mu.Lock()
			if p.ticker == ticker {
				p.draw("")
			}
			p.mu.Unlock()
		}
	}
}

// Close ends what is still shown, for a command that stops early. Steps that
// were not ended say nothing more.
func (p *Printer) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = nil
	p.rest()
}

// rest removes the live lines and stops redrawing when no step runs.
func (p *Printer) rest() {
	if len(p.running) > 0 || p.ticker == nil {
		return
	}
	p.ticker.Stop()
	close(p.ended)
	p.ticker = nil
	p.draw("")
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
