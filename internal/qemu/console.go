package qemu

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// What the serial console tells.
const (
	// Ready is the line that a guest prints when its ssh server listens.
	Ready = "slipway: ready"
	// claimLine is followed by the password that a device without a seeded key gave itself.
	claimLine = "slipway: claim password for root: "
	panicLine = "Kernel panic - not syncing"
)

const (
	keepLines = 200     // of the console, in memory
	maxLine   = 4 << 10 // a longer one is cut
)

// console takes what the serial port says: into the log, to whoever watches, and
// into lines. Write is called by one goroutine; the guest's lock guards the rest.
type console struct {
	log  *os.File
	part []byte
}

// Write implements io.Writer for the guest's serial port.
func (g *Guest) consoleWrite(p *power, b []byte) {
	_, _ = g.con.log.Write(b)
	if g.opt.Console != nil {
		_, _ = g.opt.Console.Write(b)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	p.spoke = true
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			if len(g.con.part) < maxLine {
				g.con.part = append(g.con.part, b...)
			}
			break
		}
		g.line(p, clean(append(g.con.part, b[:i]...)))
		g.con.part, b = nil, b[i+1:]
	}
	g.changed()
}

// line judges one line; the lock is held.
func (g *Guest) line(p *power, s string) {
	g.lines = append(g.lines, s)
	if len(g.lines) > 2*keepLines {
		g.lines = append([]string(nil), g.lines[keepLines:]...)
	}
	switch {
	case strings.Contains(s, panicLine) && p.panicked == "":
		p.panicked = s[strings.Index(s, panicLine):]
		p.panicAt = time.Now()
	case p.ready == 0 && strings.HasSuffix(s, g.opt.Ready):
		p.ready, p.readyOwn = time.Since(p.started), p.own()
		p.sampleMemory()
	case p.lab && slices.ContainsFunc(powerDown, func(d string) bool { return strings.Contains(s, d) }):
		p.off = true
	}
	if i := strings.Index(s, claimLine); i >= 0 {
		g.claim = strings.TrimSpace(s[i+len(claimLine):])
	}
}

var escapes = regexp.MustCompile("\x1b(\\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>c78])")

// clean makes a line of a guest fit to be shown: a console may say anything, to
// a terminal too.
func clean(b []byte) string {
	s := escapes.ReplaceAllString(string(b), "")
	s = strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if r < ' ' || r == 0x7f || r == '\ufffd' || (r >= 0x80 && r < 0xa0) {
			return -1
		}
		return r
	}, s)
	if len(s) > maxLine {
		s = s[:maxLine]
	}
	return strings.TrimRight(s, " ")
}

// Tail gives the last n lines of the serial console, fit to be shown.
func (g *Guest) Tail(n int) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	lines := g.lines
	if s := clean(g.con.part); s != "" {
		lines = append(lines[:len(lines):len(lines)], s)
	}
	return append([]string(nil), lines[max(0, len(lines)-min(n, keepLines)):]...)
}

// ClaimPassword gives the password that the device showed on its console; "" when
// it showed none (a key was seeded, or it is claimed already).
func (g *Guest) ClaimPassword() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.claim
}
