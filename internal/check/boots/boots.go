// Package boots asks whether every image of every board comes up, safe from the
// first second: as two devices made of the same image, under QEMU, to an ssh
// login with the key that was seeded.
//
// The two are fresh copies. The first one also reboots, and is asked everything
// again.
package boots

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
		Asks: "does every image boot to an ssh login with the seeded key, with host keys of its own that stay, and nothing else that listens?",
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
	asked int

	ready, again time.Duration
	memory       int64
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
		if in := inputs(i); in != "" && bed.Answered != nil {
			if candidate, ok := bed.Answered(in); ok {
				notes = append(notes, fmt.Sprintf("%s: its very bytes booted for %s", name(i), candidate))
				continue
			}
		}
		for n := range copies {
			devices = append(devices, &device{image: i, n: n + 1})
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
		if in := inputs(pair[0].image); in != "" && pair[0].good && pair[1].good && len(pair[0].findings)+len(pair[1].findings) == 0 {
			res.Good = append(res.Good, in)
		}
		for _, d := range pair {
			res.Asked += d.asked
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
	}
	res.Note = strings.Join(notes, "; ")
	return res, err
}

// question changes when what is asked of an image does: old answers are void then.
const question = "boots, 1"

// inputs gives what decides the answer for an image: its bytes, what boots it and
// what may listen; "" when the bytes are not known.
func inputs(i check.BootImage) distro.Digest {
	if i.Digest == "" {
		return ""
	}
	return distro.DigestOf(fmt.Appendf(nil, "%s\n%s\n%s\n%v", question, i.Rig, i.Digest, i.ExpectPorts))
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
	return fmt.Sprintf("%s: login after %s; %d MiB; %s", name(pair[0].image), strings.Join(times, ", "), memory>>20, accel)
}

// live is a device from its first power-on to its end. An error means that the
// question could not be asked.
func (d *device) live(ctx context.Context, bed *check.Bed) error {
	rig, err := qemu.Find(d.image.Rig)
	if err != nil {
		return err
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
	guest, err := rig.Boot(ctx, qemu.Options{Name: d.String(), Dir: dir, Image: d.image.Path, Log: d.file.Path, Isolated: true,
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
	s, err := guest.SSH(ctx, qemu.Login{Key: stranger})
	if err == nil {
		s.Close()
		d.find("stranger", "only the seeded key may be in authorized_keys", "the device lets in a key that nobody gave it")
	} else if !errs.Is(err, errs.Denied) {
		return d.judge(ctx, guest, err)
	}
	if err := d.look(ctx, guest, shell); err != nil {
		return d.judge(ctx, guest, err)
	}
	if d.n == 1 {
		if err := d.reboot(ctx, guest, key); err != nil {
			return d.judge(ctx, guest, err)
		}
	}
	d.memory = guest.Memory()
	d.asked++
	if err := guest.PowerOff(ctx); err != nil {
		if ctx.Err() != nil {
			return err
		}
		d.find("poweroff", "poweroff must end the services and switch the machine off", "%v", err)
	}
	d.good = true
	return nil
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
func (d *device) look(ctx context.Context, guest *qemu.Guest, shell *qemu.SSH) (err error) {
	d.asked++
	if d.hostKeys, err = guest.HostKeys(ctx); err != nil {
		return err
	}
	d.asked++
	if err := d.ports(ctx, shell); err != nil {
		return err
	}
	if d.n > 1 {
		return nil // of the same files, which take long to read when emulated
	}
	return d.verify(ctx, shell)
}

func (d *device) ports(ctx context.Context, shell *qemu.SSH) error {
	out, err := shell.Run(ctx, "for f in tcp tcp6 udp udp6; do echo $f; cat /proc/net/$f 2>/dev/null; done; true")
	if err != nil {
		return err
	}
	expect := d.image.ExpectPorts
	if len(expect) == 0 {
		expect = []int{22}
	}
	open := listening(out.Stdout)
	for _, s := range open {
		if !slices.Contains(expect, s.port) && !s.dhcp() {
			d.find("port:"+s.String(), "switch the service off by default, or name the port in the board's policy", "%s listens to everybody; expected: %v", s, expect)
		}
	}
	if !slices.ContainsFunc(open, func(s socket) bool { return s.protocol == "tcp" && s.port == 22 }) {
		return errors.New("no listening ssh server in /proc/net/tcp, though we are logged in: " + strings.Join(strings.Fields(out.Stdout), " "))
	}
	return nil
}

func (d *device) verify(ctx context.Context, shell *qemu.SSH) error {
	if _, err := shell.Run(ctx, "test -x /usr/bin/rpm"); err != nil {
		return nil // an image without rpm has nothing to compare with
	}
	d.asked++
	// By its path: Debian's busybox prefers its own applet of that name.
	out, err := shell.Run(ctx, "/usr/bin/rpm -Va")
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
	if _, err := guest.SSH(ctx, qemu.Login{Key: key}); err != nil { // it stays, for PowerOff
		return err
	}
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
