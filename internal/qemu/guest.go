package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"slipway/internal/errs"
)

const (
	// SeedKey is the fw_cfg item from which a device takes the key of its owner:
	// lines of authorized_keys.
	SeedKey = "opt/org.slipway/authorized_key"
	// Host is this machine's loopback, as a guest that is not isolated sees it.
	Host = "10.0.2.2"
)

// buttonPatience is how long a device has to do something about its power button.
const buttonPatience = 5 * time.Second

// Options of a guest. Image or Kernel is needed.
type Options struct {
	Name  string // in messages: "light on qemuarm64"
	Dir   string // of the guest alone, made when missing; default: a temporary one. The disk goes with the guest, the log stays
	Image string // raw disk, the guest's first; "" is none
	// InPlace lets the guest write to Image itself; else it gets a copy.
	InPlace bool
	Disk    string   // where the copy is and stays when the guest is gone; default: in Dir, and it goes
	Drives  []string // further raw disks, read-only
	// Kernel is asked at each power-on what to boot, with the path of the guest's
	// disk; default [ImageKernel].
	Kernel   func(disk string) (Kernel, error)
	Memory   int               // MiB; default 512
	CPUs     int               // default 1
	SSHPort  int               // of this machine's loopback, leads to the guest's 22; 0 takes a free one
	Isolated bool              // the guest reaches nothing, this machine neither
	FwCfg    map[string][]byte // names as QEMU wants them: "opt/..."
	Ready    string            // how the line ends that says that ssh listens; default [Ready]
	Within   time.Duration     // for it to come; default 2 minutes
	Log      string            // of the serial console, appended to; default Dir/serial.log
	Console  io.Writer         // gets a copy of what the console says; may be nil
	Accel    string            // "tcg" or "kvm" is an order; default: KVM when it has shown that it works
}

// Guest is a device. It is switched on by [Rig.Boot], and again whenever it
// reboots itself.
type Guest struct {
	rig    *Rig
	opt    Options
	dir    string // work folder, gone with the guest
	disk   string
	con    console
	cancel context.CancelFunc
	gone   chan struct{} // off for good, and cleaned up

	mu     sync.Mutex
	change chan struct{} // closed and made anew with every change
	now    *power
	count  int // of power-ons
	off    bool
	again  bool // switch on again, however it ends
	err    error
	lines  []string
	claim  string
	login  *Login // the last that was let in
	shell  *SSH   // its connection, which may be closed
	memory int64
	accel  string
	why    string
}

// Boot makes a device of an image and switches it on; it does not wait for it to
// be ready. When ctx ends, the guest is killed. The caller ends it with
// [Guest.PowerOff] or [Guest.Kill].
//
// errs.Unavailable: the port is in use, no memory, no room for the copy;
// errs.Locked: the image is written to by another guest; errs.Invalid: the
// kernel is for another rig; else errs.Failed.
func (r *Rig) Boot(ctx context.Context, opt Options) (*Guest, error) {
	if opt.Kernel == nil && r.lab == nil {
		if opt.Image == "" {
			return nil, errs.E(errs.Invalid, "a guest needs an image, or a kernel")
		}
		opt.Kernel = ImageKernel
	}
	opt.Name = orText(opt.Name, filepath.Base(opt.Image))
	opt.Ready = orText(opt.Ready, Ready)
	opt.Memory, opt.CPUs = orInt(opt.Memory, 512), orInt(opt.CPUs, 1)
	if opt.Within == 0 {
		opt.Within = 2 * time.Minute
	}
	g := &Guest{rig: r, opt: opt, gone: make(chan struct{}), change: make(chan struct{})}
	if err := g.layOut(); err != nil {
		g.cleanUp()
		return nil, errs.Wrap(err, "boot %s", opt.Name)
	}
	life, cancel := context.WithCancel(ctx)
	g.cancel = cancel
	p, err := g.on(life)
	if err != nil {
		cancel()
		if r.lab != nil && g.count == 0 {
			_ = g.offBoard()
		}
		g.cleanUp()
		return nil, errs.Wrap(err, "boot %s", opt.Name)
	}
	g.now, g.count = p, 1
	go g.live(life)
	return g, nil
}

func orText(s, or string) string {
	if s == "" {
		return or
	}
	return s
}

func orInt(n, or int) int {
	if n == 0 {
		return or
	}
	return n
}

func (g *Guest) layOut() (err error) {
	if g.opt.Dir == "" {
		if g.opt.Dir, err = os.MkdirTemp("", "slipway-guest-"); err != nil {
			return errs.E(errs.Unavailable, "make a work folder", err)
		}
	}
	if g.opt.Dir, err = filepath.Abs(g.opt.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(g.opt.Dir, 0o755); err != nil {
		return errs.E(errs.Unavailable, "make "+g.opt.Dir, err)
	}
	if g.opt.Log == "" {
		g.opt.Log = filepath.Join(g.opt.Dir, "serial.log")
	}
	if g.con.log, err = os.OpenFile(g.opt.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
		return errs.E(errs.Unavailable, "serial log", err)
	}
	// 0700: the seed is in it.
	if g.dir, err = os.MkdirTemp(g.opt.Dir, "guest-"); err != nil {
		return errs.E(errs.Unavailable, "make a work folder", err)
	}
	for i, d := range g.opt.Drives {
		if g.opt.Drives[i], err = filepath.Abs(d); err != nil {
			return err
		}
	}
	switch {
	case g.opt.Image == "":
		return nil
	case g.opt.InPlace:
		g.disk, err = filepath.Abs(g.opt.Image)
		return err
	}
	if g.disk, err = filepath.Abs(orText(g.opt.Disk, filepath.Join(g.dir, "disk.img"))); err != nil {
		return err
	}
	return copyDisk(g.opt.Image, g.disk)
}

func (g *Guest) cleanUp() {
	if g.dir != "" {
		_ = os.RemoveAll(g.dir)
	}
	if g.con.log != nil {
		_ = g.con.log.Close()
	}
}

// live follows the guest from power-on to power-on.
func (g *Guest) live(ctx context.Context) {
	defer func() {
		g.cancel()
		if g.rig.lab != nil {
			if err := g.offBoard(); err != nil {
				g.mu.Lock()
				if g.err == nil {
					g.err = err
				}
				g.mu.Unlock()
			}
		}
		g.cleanUp()
		close(g.gone)
		g.mu.Lock()
		if g.shell != nil {
			g.shell.Close()
		}
		g.off = true
		g.changed()
		g.mu.Unlock()
	}()
	for p := g.now; ; {
		<-p.done
		g.mu.Lock()
		g.memory = max(g.memory, p.memory)
		// A kernel that panics and reboots would do so for ever.
		next := ctx.Err() == nil && !g.off && (g.again || p.reason == "guest-reset" && p.panicked == "")
		g.again = false
		g.changed()
		g.mu.Unlock()
		if !next {
			return
		}
		var err error
		p, err = g.on(ctx)
		g.mu.Lock()
		if err != nil {
			g.err = err
			g.mu.Unlock()
			return
		}
		g.now = p
		g.count++
		if g.off { // Kill or PowerOff came in between
			p.kill()
		}
		g.changed()
		g.mu.Unlock()
	}
}

// changed wakes whoever waits; the lock is held.
func (g *Guest) changed() {
	close(g.change)
	g.change = make(chan struct{})
}

// wait calls done, with the lock held, whenever something has changed or the
// timer that done asked for (0: none) has run out, until it says true.
func (g *Guest) wait(ctx context.Context, done func() (bool, time.Duration)) error {
	for {
		g.mu.Lock()
		ok, again := done()
		change := g.change
		g.mu.Unlock()
		if ok {
			return nil
		}
		var timer <-chan time.Time
		if again > 0 {
			timer = time.After(again)
		}
		select {
		case <-change:
		case <-timer:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Done is closed when the guest is off for good and nothing of it runs.
func (g *Guest) Done() <-chan struct{} { return g.gone }

// Kill ends the guest at once, as a power cut does, and waits until nothing of
// it runs. It may be called at any time, and again.
func (g *Guest) Kill() {
	g.mu.Lock()
	g.off = true
	g.mu.Unlock()
	g.cancel()
	<-g.gone
}

// PowerOff asks the guest to end properly, by the last ssh login if there was
// one, else by the power button (ACPI), and when that does nothing within 5 s by
// SysRq on the serial console: the kernel syncs its disks and switches off. It
// waits for the end, and kills the guest when that does not come within 30 s:
// that is errs.Failed.
func (g *Guest) PowerOff(ctx context.Context) error {
	defer g.Kill()
	g.mu.Lock()
	g.off, g.again = true, false
	g.mu.Unlock()
	if err := g.ask(ctx, "poweroff"); err != nil {
		return errs.Wrap(err, "power off %s", g.opt.Name)
	}
	return nil
}

// Reboot asks the guest to reboot, as PowerOff asks, and waits until it is ready
// again, with the kernel that the image then names.
func (g *Guest) Reboot(ctx context.Context) error {
	g.mu.Lock()
	before := g.count
	g.again = true
	g.mu.Unlock()
	err := g.ask(ctx, "reboot")
	if err == nil {
		err = g.wait(ctx, func() (bool, time.Duration) { return g.count > before || g.off, 0 })
	}
	if err != nil {
		return errs.Wrap(err, "reboot %s", g.opt.Name)
	}
	return g.WaitReady(ctx)
}

// ask has the guest end its present power-on and waits for that.
func (g *Guest) ask(ctx context.Context, command string) error {
	g.mu.Lock()
	p, login, shell := g.now, g.login, g.shell
	p.sampleMemory()
	g.mu.Unlock()
	ctx, cancel := g.Patience(ctx, 30*time.Second, errors.New("it did not end within 30 s"))
	defer cancel()
	asked := false
	if shell != nil && shell.alive(ctx) {
		_, err := shell.Run(ctx, command)
		asked = err == nil || !errs.Is(err, errs.Failed)
	} else if login != nil {
		if s, err := g.SSH(ctx, *login); err == nil {
			_, err = s.Run(ctx, command)
			asked = err == nil || !errs.Is(err, errs.Failed)
			s.Close()
		}
	}
	switch {
	case p.lab && !asked:
		return errs.E(errs.Failed, "it does not answer to "+command, g.logHint())
	case p.lab:
		g.boardEnds(ctx, p, command)
	case !asked:
		if _, err := p.qmp.run(ctx, "system_powerdown", nil); err != nil && !errors.Is(err, errGone) {
			return err
		}
		select {
		case <-p.done:
		case <-time.After(buttonPatience):
			p.sysRq(ctx)
		case <-ctx.Done():
		}
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		if errs.KindOf(context.Cause(ctx)) == errs.Interrupted {
			return context.Cause(ctx)
		}
		how := "the power button, nor to SysRq on its console"
		if asked {
			how = command
		}
		return errs.E(errs.Failed, fmt.Sprintf("it does not answer to %s; %v", how, context.Cause(ctx)), g.logHint())
	}
}

// Patience gives a context that ends with cause when the guest, as it is powered
// on now, has had so much time of its own: what it waited for a processor that
// other programs had does not count.
func (g *Guest) Patience(ctx context.Context, d time.Duration, cause error) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	g.mu.Lock()
	p := g.now
	until := p.own() + d
	g.mu.Unlock()
	go func() {
		for left := d; left > 0; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(left):
			}
			g.mu.Lock()
			left = until - p.own()
			g.mu.Unlock()
		}
		cancel(cause)
	}()
	return ctx, func() { cancel(context.Canceled) }
}

func (g *Guest) logHint() errs.Hint { return errs.Hint("the serial console: " + g.opt.Log) }

// Log is the path of the serial console's log. It stays when the guest is gone.
func (g *Guest) Log() string { return g.opt.Log }

// Disk is the path of the guest's disk, there as long as the guest is, or longer
// when [Options].Disk says so.
func (g *Guest) Disk() string { return g.disk }

// Port is this machine's loopback port that leads to the guest's port 22. It may
// change when the guest reboots. A real board has none: 0.
func (g *Guest) Port() int { g.mu.Lock(); defer g.mu.Unlock(); return g.now.port }

// PID is QEMU's process, of the present power-on.
func (g *Guest) PID() int { g.mu.Lock(); defer g.mu.Unlock(); return g.now.pid }

// Kernel names the kernel of the present power-on, as the image does.
func (g *Guest) Kernel() string { g.mu.Lock(); defer g.mu.Unlock(); return g.now.kernel }

// Boots counts the power-ons.
func (g *Guest) Boots() int { g.mu.Lock(); defer g.mu.Unlock(); return g.count }

// TimeToReady is how long the present power-on took to the ready line; 0 when it
// is not ready yet.
func (g *Guest) TimeToReady() time.Duration { g.mu.Lock(); defer g.mu.Unlock(); return g.now.ready }

// OwnTimeToReady is TimeToReady without what the guest waited for a processor that other
// programs had: what a limit may count.
func (g *Guest) OwnTimeToReady() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.now.readyOwn
}

// Memory is the most of this machine's memory that QEMU held at one time, in bytes.
func (g *Guest) Memory() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now.sampleMemory()
	return max(g.memory, g.now.memory)
}

// Accel says how the guest runs, "tcg" or "kvm", and why so.
func (g *Guest) Accel() (name, why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.accel, strings.TrimSpace(g.why)
}
