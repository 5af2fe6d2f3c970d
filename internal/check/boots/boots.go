// Package boots asks whether every image of every board comes up, safe from the
// first second: as two devices made of the same image, under QEMU, to an ssh
// login with the key that was seeded.
//
// The two are fresh copies. The first one also reboots, and is asked everything
// again.
package boots

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/qemu"
)

// New gives the check.
func New() check.Check { return boots{} }

type boots struct{}

// Devices makes it a check of devices.
func (boots) Devices() {}

func (boots) Spec() distro.CheckSpec {
	return distro.CheckSpec{ID: "boots", Level: distro.Block,
		Asks: "does every image boot to an ssh login with the seeded key and no other, with secrets of its own that stay, without new errors, and with nothing else that listens?",
		Cure: "read the serial log; try it by hand: slipway boot FILE -v"}
}

// copies of each image that are booted.
const copies = 2

// device is one of the copies, and what was seen of it.
type device struct {
	image check.BootImage
	n     int // 1, 2
	up    bool
	good  bool // it was asked to its end
	// hasRPM: the device has rpm, and its files were compared with its database.
	hasRPM bool
	asked  int

	before  map[string]bool // shapes of errors of the last release's kernel; nil when nobody kept its log
	told    map[string]bool // what has a finding already
	secrets map[string]string
	offered []string // methods of ssh
	kernel  []string // its log, of each boot

	ready, again time.Duration
	patience     time.Duration // for one question; 0 is five minutes
	listens      string
	used         int64 // of the device's memory, after boot
	memory       int64 // of QEMU
	accel        string
	hostKeys     map[string]string
	findings     []distro.Finding
	file         check.File
}

// name of the image that a finding's id begins with.
func name(i check.BootImage) string { return i.Board + "/" + i.Image }

func (d *device) String() string { return fmt.Sprintf("%s, device %d", name(d.image), d.n) }

// find adds a finding once: both devices tend to say the same.
func (d *device) find(id, cure, format string, args ...any) {
	d.findings = append(d.findings, distro.Finding{ID: name(d.image) + ":" + id, Object: name(d.image), Boards: []string{d.image.Board},
		Text: fmt.Sprintf(format, args...), Cure: cure, Log: d.file.Log})
}

// Run boots all devices, as many side by side as the bed has jobs.
func (boots) Run(ctx context.Context, bed *check.Bed) (check.Result, error) {
	var res check.Result
	if len(bed.Images) == 0 {
		res.Note = "no image: the definition has no boards with images"
		return res, nil
	}
	devices := make([]*device, 0, copies*len(bed.Images))
	var notes []string
	for _, i := range bed.Images {
		if i.Unbooted != "" {
			notes = append(notes, name(i)+": not booted: "+i.Unbooted)
			continue
		}
		old, err := before(ctx, bed, i)
		if err != nil {
			return res, err
		}
		if in := inputs(i, old); in != "" && bed.Answered != nil {
			if candidate, ok := bed.Answered(in); ok {
				res.Stands = append(res.Stands, i.Board+"-"+i.Image+"-")
				notes = append(notes, fmt.Sprintf("%s: its very bytes booted for %s", name(i), candidate))
				continue
			}
		}
		for n := range copies {
			devices = append(devices, &device{image: i, n: n + 1, before: old, told: map[string]bool{}})
		}
	}
	var mu sync.Mutex
	done := 0
	// The first of each image, which also reboots, takes longest, so it comes first.
	order := slices.Clone(devices)
	slices.SortStableFunc(order, func(a, b *device) int { return a.n - b.n })
	err := bed.Each(ctx, len(order), func(ctx context.Context, i int) error {
		err := order[i].live(ctx, bed)
		mu.Lock()
		done++
		now := done
		mu.Unlock()
		bed.Tell(now, len(devices), order[i].String())
		return err
	})
	seen := map[string]bool{}
	for pair := range slices.Chunk(devices, copies) {
		pair[1].compare(pair[0])
		if in := inputs(pair[0].image, pair[0].before); in != "" && pair[0].good && pair[1].good && len(pair[0].findings)+len(pair[1].findings) == 0 {
			res.Good = append(res.Good, in)
		}
		for _, d := range pair {
			res.Asked += d.asked
			res.Trials = append(res.Trials, d.trial())
			if d.file.Name != "" {
				res.Evidence = append(res.Evidence, d.file)
			}
			for _, f := range d.findings {
				if !seen[f.ID] {
					seen[f.ID] = true
					res.Findings = append(res.Findings, f)
				}
			}
		}
		notes = append(notes, note(pair))
		if err == nil && pair[0].kernel != nil {
			// What the next release's is held against: of the first device, both boots.
			var f check.File
			if f, err = bed.Transcript(kernelFile(pair[0].image), strings.Join(pair[0].kernel, "\n")+"\n"); err == nil {
				res.Evidence = append(res.Evidence, f)
			}
		}
	}
	res.Note = strings.Join(notes, "; ")
	return res, err
}

// question changes when what is asked of an image does: old answers are void then.
const question = "boots, 3"

// inputs gives what decides the answer for an image: its bytes, what boots it, the
// board's policy and what the last kernel reported; "" when the bytes are not known.
func inputs(i check.BootImage, before map[string]bool) distro.Digest {
	if i.Digest == "" || i.Command != "" { // a board is more than its image
		return ""
	}
	return distro.DigestOf(fmt.Appendf(nil, "%s\n%s\n%s\n%v %v %d %q %q\n%t %q", question, i.Rig, i.Digest, i.ExpectPorts, i.Login, i.Memory, i.Log, i.Failed, before == nil, slices.Sorted(maps.Keys(before))))
}

// note tells the times of the devices that came up.
func note(pair []*device) string {
	var times []string
	var memory int64
	accel := ""
	for _, d := range pair {
		for _, t := range []time.Duration{d.ready, d.again} {
			if t > 0 {
				times = append(times, fmt.Sprintf("%.1f s", t.Seconds()))
			}
		}
		memory = max(memory, d.memory)
		if d.accel != "" {
			accel = d.accel
		}
	}
	if len(times) == 0 {
		return name(pair[0].image) + ": not booted"
	}
	out := fmt.Sprintf("%s: login after %s; ", name(pair[0].image), strings.Join(times, ", "))
	if used := max(pair[0].used, pair[1].used); used > 0 {
		out += fmt.Sprintf("uses %d MiB; ", used>>20)
	}
	if memory > 0 {
		out += fmt.Sprintf("QEMU %d MiB; ", memory>>20)
	}
	if len(pair[0].offered) > 0 {
		out += "ssh takes " + strings.Join(pair[0].offered, " and ") + "; "
	}
	return out + accel
}

// trial tells what was done and measured, for the page.
func (d *device) trial() distro.Trial {
	t := distro.Trial{Board: d.image.Board, Image: d.image.Image, Name: fmt.Sprintf("device %d", d.n)}
	step := func(name string, reached bool) {
		s := distro.TrialStep{Name: name, Log: d.file.Log}
		switch {
		case reached:
			s.Outcome = distro.StepGood
		case len(t.Steps) == 0 || t.Steps[len(t.Steps)-1].Outcome == distro.StepGood:
			s.Outcome = distro.StepBad
		}
		t.Steps = append(t.Steps, s)
	}
	step("up", d.up)
	if d.n == 1 {
		step("reboot", d.again > 0)
	}
	step("off", d.good)
	for _, m := range []struct {
		name string
		took time.Duration
	}{{"login", d.ready}, {"login again", d.again}} {
		if m.took > 0 {
			t.Measures = append(t.Measures, distro.Measure{Name: m.name, Value: math.Round(m.took.Seconds()*10) / 10, Unit: "s"})
		}
	}
	if d.used > 0 {
		t.Measures = append(t.Measures, distro.Measure{Name: "memory", Value: float64(d.used >> 20), Unit: "MiB"})
	}
	if d.listens != "" {
		t.Measures = append(t.Measures, distro.Measure{Name: "listens", Text: d.listens})
	}
	return t
}

// live is a device from its first power-on to its end. An error means that the
// question could not be asked.
func (d *device) live(ctx context.Context, bed *check.Bed) error {
	rig, err := d.rig()
	if err != nil {
		return err
	}
	if d.image.Command != "" { // there is one board
		defer oneBoard(d.image.Command)()
	}
	key, err := qemu.NewKey()
	if err != nil {
		return err
	}
	stranger, err := qemu.NewKey()
	if err != nil {
		return err
	}
	if d.file, err = bed.Transcript(fmt.Sprintf("%s-%s-%d.log", d.image.Board, d.image.Image, d.n), ""); err != nil {
		return err
	}
	dir := filepath.Join(bed.Dir, strings.TrimSuffix(d.file.Name, ".log"))
	defer func() { _ = os.RemoveAll(dir) }()
	d.asked++
	disk := filepath.Join(dir, "disk.img")
	guest, err := rig.Boot(ctx, qemu.Options{Name: d.String(), Dir: dir, Image: d.image.Path, Disk: disk, Log: d.file.Path, Isolated: true, Within: max(2*time.Minute, 2*d.image.Login),
		FwCfg: map[string][]byte{qemu.SeedKey: key.Authorized()}})
	if err != nil {
		return d.judge(ctx, nil, err)
	}
	defer guest.Kill()
	if err := guest.WaitReady(ctx); err != nil {
		return d.judge(ctx, guest, err)
	}
	d.ready = guest.TimeToReady()
	d.accel, _ = guest.Accel()
	d.asked++
	shell, err := guest.SSH(ctx, qemu.Login{Key: key})
	if err != nil {
		return d.judge(ctx, guest, err)
	}
	defer shell.Close()
	d.up = true
	d.asked++
	if guest.ClaimPassword() != "" {
		d.find("claim", "a seeded key is enough: the first boot must then make no password", "the device shows a claim password on its console, though a key was seeded")
	}
	owned, err := ownedFiles(ctx, bed, d.image)
	if err != nil {
		return err
	}
	if d.image.Command != "" {
		owned = nil // nobody here can read its disk
	}
	d.patience = bed.TestTime
	if err := d.look(ctx, guest, shell, owned != nil); err != nil {
		return d.judge(ctx, guest, err)
	}
	if d.n == 1 {
		if err := d.reboot(ctx, guest, key); err != nil {
			return d.judge(ctx, guest, err)
		}
	}
	// The first device is asked at its second boot, the other at its first.
	if err := d.strangers(ctx, guest, stranger); err != nil {
		return d.judge(ctx, guest, err)
	}
	d.memory = guest.Memory()
	d.asked++
	if err := guest.PowerOff(ctx); err != nil {
		if ctx.Err() != nil {
			return err
		}
		d.find("poweroff", "poweroff must end the services and switch the machine off", "%v", err)
	}
	if err := d.consoleLog(); err != nil {
		return err
	}
	if d.n == 1 && d.hasRPM && owned != nil {
		if err := d.compareFiles(disk, owned); err != nil {
			return err
		}
	}
	d.good = true
	return nil
}

func (d *device) rig() (*qemu.Rig, error) {
	if d.image.Command != "" {
		return qemu.Command(d.image.Command, d.image.Hide)
	}
	return qemu.Find(d.image.Rig)
}

var boards sync.Map // program of a real board -> *sync.Mutex

// oneBoard waits until nobody else uses a real board, and gives what hands it on.
func oneBoard(program string) (done func()) {
	mu, _ := boards.LoadOrStore(program, &sync.Mutex{})
	mu.(*sync.Mutex).Lock()
	return mu.(*sync.Mutex).Unlock
}

// judge makes a finding of what the image is to blame for, and hands on what it
// is not: a missing tool, a full disk, a cancelled run.
func (d *device) judge(ctx context.Context, guest *qemu.Guest, err error) error {
	if kind := errs.KindOf(err); ctx.Err() != nil || kind == errs.Unavailable && guest == nil || kind == errs.Interrupted {
		return err
	}
	id := "up"
	if d.up {
		id = "broken"
	}
	what, _, _ := strings.Cut(err.Error(), "\n")
	cure := ""
	if h := errs.Hints(err); len(h) > 0 {
		cure = h[0]
	}
	d.find(id, cure, "%s", what)
	if guest != nil {
		d.findings[len(d.findings)-1].Evidence = guest.Tail(30)
	}
	return nil
}

// look asks a device that is up.
func (d *device) look(ctx context.Context, guest *qemu.Guest, shell *qemu.SSH, noDigests bool) (err error) {
	d.asked++
	if d.hostKeys, err = guest.HostKeys(ctx); err != nil {
		return err
	}
	s, err := d.survey(ctx, guest, shell)
	if err != nil {
		return err
	}
	d.asked++
	if err := d.ports(s); err != nil {
		return err
	}
	d.secrets = s.secrets()
	d.limits(guest, s)
	if d.n > 1 {
		return nil // of the same files, which take long to read when emulated
	}
	return d.verify(ctx, guest, shell, noDigests)
}

// ask runs a command on the device, which has a limit of time of its own.
func (d *device) ask(ctx context.Context, guest *qemu.Guest, shell *qemu.SSH, what, command string) (qemu.Output, error) {
	within := cmp.Or(d.patience, 5*time.Minute)
	limited, cancel := guest.Patience(ctx, within, errs.E(errs.Failed, fmt.Sprintf("%s: the device lets us in, and does not answer within %v", what, within)))
	defer cancel()
	return shell.Run(limited, command)
}

// survey asks what is asked at each boot.
func (d *device) survey(ctx context.Context, guest *qemu.Guest, shell *qemu.SSH) (seen, error) {
	out, err := d.ask(ctx, guest, shell, "ports, memory, logs, services", survey)
	if err != nil {
		return nil, err
	}
	s, whole := parseSurvey(out.Stdout)
	if !whole {
		return nil, errors.New("the device does not answer to the end: " + strings.Join(check.Tail(out.Stdout+out.Stderr, 3), " "))
	}
	d.kernel = append(d.kernel, s["kernel"]...)
	d.kernelLog(s)
	d.services(s)
	return s, nil
}

func (d *device) ports(s seen) error {
	expect := d.image.ExpectPorts
	if len(expect) == 0 {
		expect = []int{22}
	}
	open := listening(s.sockets())
	var all []string
	for _, o := range open {
		all = append(all, o.String())
	}
	d.listens = strings.Join(all, ", ")
	for _, s := range open {
		if !slices.Contains(expect, s.port) && !s.dhcp() {
			d.find("port:"+s.String(), "switch the service off by default, or name the port in the board's policy", "%s listens to everybody; expected: %v", s, expect)
		}
	}
	if !slices.ContainsFunc(open, func(s socket) bool { return s.protocol == "tcp" && s.port == 22 }) {
		return errors.New("no listening ssh server in /proc/net/tcp, though we are logged in: " + strings.Join(strings.Fields(s.sockets()), " "))
	}
	return nil
}

// verify has the device's own rpm look at its files. Reading all of them takes
// seconds when emulated: with noDigests their contents are left to
// [device.compareFiles].
func (d *device) verify(ctx context.Context, guest *qemu.Guest, shell *qemu.SSH, noDigests bool) error {
	if out, err := d.ask(ctx, guest, shell, "rpm", "test -x /usr/bin/rpm"); out.Exit != 0 {
		return nil // an image without rpm has nothing to compare with
	} else if err != nil {
		return err
	}
	d.hasRPM = true
	d.asked++
	// By its path: Debian's busybox prefers its own applet of that name.
	command := "/usr/bin/rpm -Va"
	if noDigests {
		command += " --nofiledigest"
	}
	out, err := d.ask(ctx, guest, shell, "rpm -Va", command)
	if err != nil && !errs.Is(err, errs.Failed) {
		return err
	}
	lines, config := verified(out.Stdout)
	for _, l := range lines {
		d.find("verify:"+l.path, "the first boot or a service changes a file that a package owns: %ghost, %config, or leave it alone", "rpm -Va on the booted device: %s", l.text)
	}
	if err != nil && len(lines) == 0 && !config {
		d.find("verify", "the image's rpm database must be whole", "rpm -Va fails on the booted device: %v", err)
	}
	return nil
}

// reboot asks whether what the first boot made is still there after the second.
func (d *device) reboot(ctx context.Context, guest *qemu.Guest, key *qemu.Key) error {
	d.asked++
	if err := guest.Reboot(ctx); err != nil {
		return err
	}
	d.again = guest.TimeToReady()
	shell, err := guest.SSH(ctx, qemu.Login{Key: key}) // it stays, for PowerOff
	if err != nil {
		return err
	}
	s, err := d.survey(ctx, guest, shell)
	if err != nil {
		return err
	}
	d.kept(s.secrets())
	now, err := guest.HostKeys(ctx)
	if err != nil {
		return err
	}
	if !maps.Equal(now, d.hostKeys) {
		d.find("hostkeys-change", "host keys are made once, synced, and kept on the device's disk", "the host keys are others after a reboot: %s, before %s", keys(now), keys(d.hostKeys))
	}
	return nil
}

// compare asks whether two devices of one image are two devices.
func (d *device) compare(other *device) {
	if !d.up || !other.up {
		return
	}
	d.asked++
	d.own(other)
	for _, kind := range slices.Sorted(maps.Keys(d.hostKeys)) {
		if k := d.hostKeys[kind]; other.hostKeys[kind] == k {
			d.find("hostkeys-same", "host keys are made by the first boot, never by the build: the image must hold none", "two devices of the image have the same %s host key %s", kind, k)
		}
	}
}

func keys(m map[string]string) string {
	var all []string
	for _, kind := range slices.Sorted(maps.Keys(m)) {
		all = append(all, kind+" "+m[kind])
	}
	return strings.Join(all, ", ")
}
