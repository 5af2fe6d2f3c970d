package qemu

import (
	"context"
	"fmt"
	"strings"
	"time"

	"slipway/internal/errs"
)

const (
	silence    = 30 * time.Second // without one byte on the console: it will not come
	panicGrace = time.Second      // for the trace that follows the line
	showLines  = 30
)

// WaitReady waits until the guest says that its ssh server listens, over
// reboots that it makes on its own. Time that the guest waited for a processor of
// a busy machine does not count. A guest that cannot get there is errs.Failed:
// the kernel panics, there is no output at all, the line does not come in time,
// QEMU ended. The first line of the error says which; the last 30 lines of the
// console follow, and hints say where to look.
func (g *Guest) WaitReady(ctx context.Context) error {
	var failed error
	g.mu.Lock()
	first, before := g.now, time.Duration(0) // what earlier power-ons took
	g.mu.Unlock()
	err := g.wait(ctx, func() (bool, time.Duration) {
		p := g.now
		if p != first {
			first, before = p, before+max(0, p.started.Sub(first.started)-first.waited)
		}
		own := p.own()
		left := g.opt.Within - before - own
		switch {
		case p.panicked != "" && (ended(p) || time.Since(p.panicAt) >= panicGrace):
			failed = g.fail("the kernel panics: "+p.panicked, panicCure(p.panicked))
		case p.panicked != "":
			return false, panicGrace - time.Since(p.panicAt)
		case g.err != nil:
			failed = errs.Wrap(g.err, "%s does not come up again", g.opt.Name)
		case ended(p) && (g.off || !p.resets(g)):
			failed = g.fail(p.ending(), "if QEMU itself complains, that is above; else the guest switched itself off: what it did last is above")
		case p.ready > 0:
		case !p.spoke && own >= min(silence, g.opt.Within):
			failed = g.fail("no output at all on the serial console within "+min(silence, g.opt.Within).String(), g.rig.silentCure())
		case left <= 0:
			failed = g.fail(fmt.Sprintf("login never came: %q was not said within %v", g.opt.Ready, g.opt.Within),
				"the first boot or the ssh server hangs: what came last is above; a slow machine may need longer")
		case !p.spoke:
			return false, min(left, silence-own)
		default:
			return false, left
		}
		return true, 0
	})
	if err != nil {
		return errs.Wrap(err, "wait for %s", g.opt.Name)
	}
	return failed
}

func (r *Rig) silentCure() string {
	if r.lab != nil {
		return "is the board wired, and does " + r.Name + " console show its serial line? The kernel's command line must name that line: console="
	}
	return fmt.Sprintf("the kernel must be for %s, and its command line must say console=%s", r.Arch, r.Console)
}

func ended(p *power) bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// resets tells whether the guest will be switched on again; the lock is held.
func (p *power) resets(g *Guest) bool { return g.again || p.reason == "guest-reset" }

// ending says how QEMU ended.
func (p *power) ending() string {
	switch said := p.stderr.String(); {
	case p.lab:
		return "the program that shows the board's console ended: " + clean([]byte(strings.ReplaceAll(said, "\n", "; ")))
	case said != "":
		return "QEMU ended: " + clean([]byte(strings.ReplaceAll(said, "\n", "; ")))
	case p.reason == "guest-shutdown":
		return "the guest switched itself off before it was ready"
	case p.exit != nil:
		return "QEMU ended: " + p.exit.Error()
	}
	return "QEMU ended before the guest was ready"
}

func panicCure(line string) string {
	switch {
	case strings.Contains(line, "Unable to mount root"):
		return "root= of the command line names no disk that the kernel sees: the initramfs needs the modules of virtio-blk and of the file system"
	case strings.Contains(line, "init"):
		return "/init of the initramfs, or /sbin/init of the image, is missing, is for another machine, or ended"
	}
	return "kernel, modules and initramfs must be of one version: " + BootConf + " of the image names them"
}

// fail makes the error; the lock is held.
func (g *Guest) fail(what, cure string) error {
	lines := append([]string(nil), g.lines[max(0, len(g.lines)-showLines):]...)
	if s := clean(g.con.part); s != "" {
		lines = append(lines, s)
	}
	text := fmt.Sprintf("%s does not come up: %s", g.opt.Name, what)
	if len(lines) > 0 {
		text += "\nthe serial console's last lines:\n  | " + strings.Join(lines[max(0, len(lines)-showLines):], "\n  | ")
	}
	return errs.E(errs.Failed, text, errs.Hint(cure), g.logHint())
}
