package qemu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"slipway/internal/errs"
)

// power is one power-on: one process of QEMU. The guest's lock guards the fields
// below done.
type power struct {
	pid     int
	kernel  string // its name
	started time.Time
	qmp     *qmp
	keys    *os.File // what is written there is typed on the serial console
	stderr  tailBuffer
	done    chan struct{} // the process is gone, and all it said is read

	spoke    bool
	ready    time.Duration // from the start to the ready line; 0: not yet
	panicked string        // the line
	panicAt  time.Time
	reason   string // why QEMU ended, by its SHUTDOWN event: guest-reset, guest-shutdown, ...
	exit     error
	port     int
	memory   int64
	waited   time.Duration     // for a processor, as far as it was looked at: see own
	hostKeys map[string]string // fingerprints by kind, as logins were shown them

	lab      bool   // a real board: no qmp, no keys
	off      bool   // the board has said so
	address  string // of its ssh server, once it was asked for
	readyOwn time.Duration
}

// tailBuffer keeps the last of what QEMU itself complains of.
type tailBuffer struct{ b []byte }

func (t *tailBuffer) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > 8<<10 {
		t.b = t.b[len(t.b)-4<<10:]
	}
	return len(p), nil
}

func (t *tailBuffer) String() string { return strings.TrimSpace(string(t.b)) }

// comma doubles commas, as QEMU wants them inside an option's value.
func comma(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// arguments for QEMU, but for the accelerator. Files that it needs are written to dir.
func (g *Guest) arguments(k Kernel) ([]string, error) {
	write := func(name string, data []byte) (string, error) {
		path := filepath.Join(g.dir, name)
		return path, os.WriteFile(path, data, 0o600)
	}
	kernel, err := write("kernel", k.Image)
	if err != nil {
		return nil, err
	}
	args := []string{"-smp", strconv.Itoa(g.opt.CPUs), "-m", strconv.Itoa(g.opt.Memory), "-kernel", kernel, "-append", k.Cmdline,
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console", "-device", "virtio-rng-pci"}
	if len(k.Initramfs) > 0 {
		initramfs, err := write("initramfs", k.Initramfs)
		if err != nil {
			return nil, err
		}
		args = append(args, "-initrd", initramfs)
	}
	drives := []string{}
	if g.disk != "" {
		// Our kernel keeps what was written even when QEMU is killed: syncing for each
		// flush of the guest would cost seconds and save nothing.
		drives = append(drives, "file="+comma(g.disk)+",cache=unsafe,discard=unmap")
	}
	for _, d := range g.opt.Drives {
		drives = append(drives, "file="+comma(d)+",read-only=on")
	}
	for i, d := range drives {
		args = append(args, "-drive", fmt.Sprintf("%s,format=raw,if=none,id=disk%d", d, i), "-device", fmt.Sprintf("virtio-blk-pci,drive=disk%d", i))
	}
	net := fmt.Sprintf("user,id=net,hostfwd=tcp:127.0.0.1:%d-:22", g.opt.SSHPort)
	if g.opt.Isolated {
		net += ",restrict=on"
	}
	args = append(args, "-netdev", net, "-device", "virtio-net-pci,netdev=net,romfile=")
	names := make([]string, 0, len(g.opt.FwCfg))
	for n := range g.opt.FwCfg {
		names = append(names, n)
	}
	sort.Strings(names)
	for i, n := range names {
		path, err := write(fmt.Sprintf("fw_cfg.%d", i), g.opt.FwCfg[n])
		if err != nil {
			return nil, err
		}
		args = append(args, "-fw_cfg", "name="+comma(n)+",file="+comma(path))
	}
	return args, nil
}

// on switches the guest on.
func (g *Guest) on(ctx context.Context) (*power, error) {
	if g.rig.lab != nil {
		return g.onBoard(ctx)
	}
	k, err := g.opt.Kernel(g.disk)
	if err != nil {
		return nil, err
	}
	if want := RigOf(k.Image); want != "" && want != g.rig.Name {
		return nil, errs.E(errs.Invalid, fmt.Sprintf("kernel %s is for rig %s, not for %s", k.Name, want, g.rig.Name), errs.Hint("the image is for another board; slipway boot --rig "+want))
	}
	args, err := g.arguments(k)
	if err != nil {
		return nil, errs.E(errs.Unavailable, "lay out "+g.dir, err)
	}
	accel := g.accelerator(ctx, k)
	if accel == "tcg" && g.rig.append != "" { // the last -append counts
		args = append(args, "-append", k.Cmdline+" "+g.rig.append)
	}
	p := &power{kernel: k.Name, hostKeys: map[string]string{}}
	err = g.rig.start(ctx, accel, args, p, func(b []byte) { g.consoleWrite(p, b) }, func(name string, data json.RawMessage) {
		if name != "SHUTDOWN" {
			return
		}
		var d struct{ Reason string }
		_ = json.Unmarshal(data, &d)
		g.mu.Lock()
		p.reason = d.Reason
		g.mu.Unlock()
	})
	if err == nil {
		p.port, err = p.sshPort(ctx)
	}
	if err == nil {
		return p, nil
	}
	if p.done != nil {
		p.kill()
		<-p.done
	}
	said := p.stderr.String()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case strings.Contains(said, "Could not set up host forwarding"):
		return nil, errs.E(errs.Unavailable, fmt.Sprintf("port %d of this machine is in use", g.opt.SSHPort), errs.Hint("--ssh-port 0 takes a free one"))
	case strings.Contains(said, `"write" lock`):
		return nil, errs.E(errs.Locked, "the image "+g.disk+" is in use by another guest", errs.Hint("end that one, or boot a copy"))
	case strings.Contains(said, "Cannot allocate memory") || strings.Contains(said, "cannot set up guest memory"):
		return nil, errs.E(errs.Unavailable, fmt.Sprintf("no memory for a guest of %d MiB: %s", g.opt.Memory, said), errs.Hint("--memory takes less"))
	case said != "":
		return nil, errs.E(errs.Failed, "QEMU does not start: "+said)
	}
	return nil, errs.E(errs.Failed, "QEMU does not start", err)
}

// start runs QEMU and waits until its machine is set up. When ctx ends, the
// process group is killed. p.done is nil when there was no process.
func (r *Rig) start(ctx context.Context, accel string, args []string, p *power, say func([]byte), event func(string, json.RawMessage)) error {
	machine, cpu := r.machine, r.cpu
	if accel == "kvm" {
		machine, cpu = r.kvm[0], r.kvm[1]
	} else {
		accel = "tcg,tb-size=128"
	}
	conn, theirs, err := socketPair()
	if err != nil {
		return err
	}
	out, in, err := os.Pipe()
	if err != nil {
		_, _ = conn.Close(), theirs.Close()
		return err
	}
	typed, keys, err := os.Pipe()
	if err != nil {
		_, _, _, _ = conn.Close(), theirs.Close(), out.Close(), in.Close()
		return err
	}
	cmd := exec.Command(r.program, append([]string{"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", machine, "-cpu", cpu, "-accel", accel,
		"-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control"}, args...)...)
	cmd.Env, cmd.Dir = []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}, "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = typed, in, &p.stderr, []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error, 1), make(chan error, 1)
	p.started = time.Now()
	go func() {
		// The death signal comes when the thread that started the process ends, not
		// the program: the thread has to stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		ended <- cmd.Wait()
	}()
	err = <-started
	_, _, _ = in.Close(), theirs.Close(), typed.Close() // else their ends would never be seen
	if err != nil {
		_, _, _ = conn.Close(), out.Close(), keys.Close()
		return errs.E(errs.Unavailable, "start "+r.program, err)
	}
	p.pid, p.done, p.keys, p.qmp = cmd.Process.Pid, make(chan struct{}), keys, newQMP(conn, event)
	stop := context.AfterFunc(ctx, p.kill)
	go func() {
		defer close(p.done)
		buf := make([]byte, 32<<10)
		for {
			n, err := out.Read(buf)
			if n > 0 {
				say(buf[:n])
			}
			if err != nil {
				break
			}
			// QEMU writes each byte of the serial port by itself: waiting for each would
			// wake this program thirty thousand times a boot. The pipe holds the rest.
			time.Sleep(20 * time.Millisecond)
		}
		_, _ = out.Close(), keys.Close()
		<-p.qmp.gone // its last event says why it ended
		p.exit = <-ended
		stop()
		_ = conn.Close()
	}()
	select {
	case <-p.qmp.greeted:
	case <-p.done:
		return errGone
	}
	_, err = p.qmp.run(ctx, "qmp_capabilities", nil)
	return err
}

// kill ends the whole process group at once.
func (p *power) kill() {
	select {
	case <-p.done: // the number may be somebody else's by now
	default:
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	}
}

// sysRq has the kernel itself write out its disks, remount them read-only, and
// switch off: what a device without a power button has left, when nobody may log
// in. The keys come after a break on the serial console (Documentation/admin-guide/sysrq.rst
// of Linux); Debian's kernels allow these three.
func (p *power) sysRq(ctx context.Context) {
	for _, key := range []string{"s", "u", "o"} {
		if _, err := p.qmp.run(ctx, "chardev-send-break", map[string]any{"id": "console"}); err != nil {
			return
		}
		if _, err := p.keys.WriteString(key); err != nil {
			return
		}
		select {
		case <-time.After(time.Second):
		case <-p.done:
			return
		case <-ctx.Done():
			return
		}
	}
}

var forwarded = regexp.MustCompile(`HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s`)

// sshPort asks QEMU which port it took: it binds port 0 itself, so that nobody
// can take the port in between.
func (p *power) sshPort(ctx context.Context) (int, error) {
	b, err := p.qmp.run(ctx, "human-monitor-command", map[string]any{"command-line": "info usernet"})
	if err != nil {
		return 0, err
	}
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return 0, err
	}
	m := forwarded.FindStringSubmatch(text)
	if m == nil {
		return 0, errors.New("QEMU names no forwarded port: " + text)
	}
	return strconv.Atoi(m[1])
}

// own is how long the guest has been on, without the time that it waited for a
// processor because other programs had it: on a busy machine a guest is no worse
// for that. The lock is held.
func (p *power) own() time.Duration {
	if p.lab {
		return time.Since(p.started)
	}
	// Of a thread: time on a processor, time waiting for one, in nanoseconds
	// (Documentation/scheduler/sched-stats.rst of Linux).
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.pid))
	for _, t := range threads {
		b, err := os.ReadFile(t)
		if f := strings.Fields(string(b)); err == nil && len(f) == 3 {
			if ns, err := strconv.ParseInt(f[1], 10, 64); err == nil {
				p.waited = max(p.waited, time.Duration(ns))
			}
		}
	}
	return max(0, time.Since(p.started)-p.waited)
}

// sampleMemory notes the most memory that the process had so far.
func (p *power) sampleMemory() {
	if p.lab {
		return
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		return
	}
	for line := range bytes.Lines(b) {
		if f := bytes.Fields(line); len(f) == 3 && string(f[0]) == "VmHWM:" {
			if kb, err := strconv.ParseInt(string(f[1]), 10, 64); err == nil {
				p.memory = max(p.memory, kb<<10)
			}
		}
	}
}
