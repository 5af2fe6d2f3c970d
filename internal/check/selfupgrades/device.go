package selfupgrades

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"slipway/internal/check"
	"slipway/internal/distro"
	"slipway/internal/dnf"
	"slipway/internal/errs"
	"slipway/internal/qemu"
)

const (
	steps    = 4
	memory   = 768              // MiB: dnf and rpm hold a tenth of it
	patience = 10 * time.Minute // for one command in the guest
	// candidateKey is on a file system in memory: the device has forgotten it when it
	// reboots.
	candidateKey = "/run/slipway-candidate.asc"
)

// device is one, from its first power-on to its end.
type device struct {
	bed  *check.Bed
	of   check.SelfUpgrade
	tell func(step int, text string)

	guest *qemu.Guest
	key   *qemu.Key
	shell *qemu.SSH
	said  strings.Builder // the transcript

	packages []distro.PackageRecord // that it came with
	edited   []string               // configuration files
	kernels  []string               // that it ran, in turn
	modules  []string               // of the kernel, that it had loaded when it was new

	done     []string // steps that came to their end
	asked    int
	findings []distro.Finding
	files    []check.File
	serial   check.File
}

// stop ends the session: a finding has been made.
var errStop = errors.New("the device cannot go on")

func (d *device) name() string { return d.of.Board + "/" + d.of.Image }

func (d *device) find(id, cure, format string, args ...any) *distro.Finding {
	d.findings = append(d.findings, distro.Finding{ID: d.name() + ":" + id, Object: d.name(), Boards: []string{d.of.Board}, Text: fmt.Sprintf(format, args...), Cure: cure})
	return &d.findings[len(d.findings)-1]
}

func (d *device) run(ctx context.Context) (err error) {
	rig, err := qemu.Find(d.of.Rig)
	if err != nil {
		return err
	}
	if d.key, err = qemu.NewKey(); err != nil {
		return err
	}
	base := d.of.Board + "-" + d.of.Image
	if d.serial, err = d.bed.Transcript(base+"-serial.log", ""); err != nil {
		return err
	}
	d.files = append(d.files, d.serial)
	dir := filepath.Join(d.bed.Dir, base)
	defer func() { _ = os.RemoveAll(dir) }()
	defer func() { err = errors.Join(err, d.keep(base)) }()

	d.asked++
	d.guest, err = rig.Boot(ctx, qemu.Options{Name: fmt.Sprintf("%s of release %s", d.name(), d.of.Origin.Version), Dir: dir, Image: d.of.Path, Log: d.serial.Path,
		Memory: memory, FwCfg: map[string][]byte{qemu.SeedKey: d.key.Authorized()}})
	if err != nil {
		return d.judge(ctx, "boot", err)
	}
	defer d.guest.Kill()
	for _, step := range []struct {
		id string
		do func(context.Context) error
	}{{"boot", d.begin}, {"up", d.up}, {"back", d.back}, {"poweroff", d.end}} {
		if err := step.do(ctx); err != nil {
			return d.judge(ctx, step.id, err)
		}
		d.done = append(d.done, step.id)
	}
	return nil
}

// trial tells what was done, for the page.
func (d *device) trial() distro.Trial {
	t := distro.Trial{Board: d.of.Board, Image: d.of.Image, Name: "from " + string(d.of.Origin.Version), Version: d.of.Origin.Version}
	for i, name := range []string{"boot", "up", "back", "poweroff"} {
		s := distro.TrialStep{Name: name, Log: d.serial.Log}
		bad := slices.ContainsFunc(d.findings, func(f distro.Finding) bool {
			return f.ID == d.name()+":"+name || strings.HasPrefix(f.ID, d.name()+":"+name+":")
		})
		switch {
		case bad || i == len(d.done) && d.guest != nil:
			s.Outcome = distro.StepBad
		case i < len(d.done):
			s.Outcome = distro.StepGood
		}
		t.Steps = append(t.Steps, s)
	}
	if len(d.kernels) > 0 {
		t.Measures = append(t.Measures, distro.Measure{Name: "kernels", Text: strings.Join(d.kernels, ", ")})
	}
	return t
}

// keep writes the transcript, and points the findings at it or at the console.
func (d *device) keep(base string) error {
	f, err := d.bed.Transcript(base+"-transcript.txt", d.said.String())
	d.files = append(d.files, f)
	for i := range d.findings {
		d.findings[i].Log = cmp.Or(d.findings[i].Log, f.Log)
	}
	return err
}

// judge makes a finding of what the device is to blame for, and hands on what it
// is not: a missing tool, a full disk here, a cancelled run.
func (d *device) judge(ctx context.Context, id string, err error) error {
	if errors.Is(err, errStop) {
		return nil
	}
	if kind := errs.KindOf(err); ctx.Err() != nil || kind == errs.Interrupted || kind == errs.Unavailable && d.guest == nil {
		return err
	}
	what, _, _ := strings.Cut(err.Error(), "\n")
	cure := ""
	if h := errs.Hints(err); len(h) > 0 {
		cure = h[0]
	}
	f := d.find(id, cure, "%s", what)
	f.Log = d.serial.Log
	if d.guest != nil {
		f.Evidence = d.guest.Tail(30)
	}
	return nil
}

// sh runs a line of shell in the device, and notes it and what it said.
func (d *device) sh(ctx context.Context, command string) (qemu.Output, error) {
	limited, cancel := d.guest.Patience(ctx, patience, errs.E(errs.Failed, fmt.Sprintf("%s: it did not end within %v", command, patience)))
	defer cancel()
	began := time.Now()
	out, err := d.shell.Run(limited, "PATH=/usr/sbin:/usr/bin:/sbin:/bin; export PATH; "+command)
	fmt.Fprintf(&d.said, "# %s    (%.1f s)\n", command, time.Since(began).Seconds())
	for _, text := range []string{out.Stdout, out.Stderr} {
		if text != "" {
			d.said.WriteString(strings.TrimRight(text, "\n") + "\n")
		}
	}
	if out.Exit != 0 {
		fmt.Fprintf(&d.said, "(exit %d)\n", out.Exit)
	}
	return out, err
}

func (d *device) note(format string, args ...any) { fmt.Fprintf(&d.said, "-- "+format+"\n", args...) }

// arrive logs in to a device that has come up, and asks it which kernel it runs.
func (d *device) arrive(ctx context.Context) (err error) {
	if d.shell != nil {
		d.shell.Close()
	}
	if d.shell, err = d.guest.SSH(ctx, qemu.Login{Key: d.key}); err != nil {
		return err
	}
	d.note("power-on %d, %s, ssh after %.1f s, host key %s", d.guest.Boots(), d.guest.Kernel(), d.guest.TimeToReady().Seconds(), d.shell.HostKey())
	out, err := d.sh(ctx, "uname -r")
	d.kernels = append(d.kernels, strings.TrimSpace(out.Stdout))
	return err
}

func (d *device) reboot(ctx context.Context) error {
	d.note("reboot")
	if err := d.guest.Reboot(ctx); err != nil {
		return err
	}
	return d.arrive(ctx)
}

// begin boots the released image, edits its configuration, and reads how its
// feeds are configured.
func (d *device) begin(ctx context.Context) error {
	if err := d.guest.WaitReady(ctx); err != nil {
		return err
	}
	if err := d.arrive(ctx); err != nil {
		return err
	}
	var err error
	if d.packages, err = d.installed(ctx); err != nil {
		return err
	}
	if err := d.edit(ctx); err != nil {
		return err
	}
	if d.modules, err = d.loaded(ctx); err != nil {
		return err
	}
	out, err := d.sh(ctx, "cat /etc/dnf/dnf.conf /etc/yum.repos.d/*.repo")
	if err != nil {
		return err
	}
	d.asked++
	for _, id := range unsigned(out.Stdout) {
		d.find("unsigned:"+id, "gpgcheck=1 and repo_gpgcheck=1 in the .repo file that the image brings", "the device's feed %s does not check both signatures, of packages and of the metadata", id)
	}
	d.tell(1, "booted")
	return nil
}

// up goes to the candidate, whose key the device trusts only for this one run.
func (d *device) up(ctx context.Context) error {
	stop, err := d.point(ctx, d.bed.Candidate)
	if err != nil {
		return err
	}
	defer stop()
	if err := d.refuses(ctx); err != nil {
		return err
	}
	key, err := os.ReadFile(d.bed.Candidate.Repos[0].GPGKeys[0])
	if err != nil {
		return err
	}
	if err := d.shell.Upload(ctx, candidateKey, 0o644, key); err != nil {
		return err
	}
	d.note("the candidate's throw-away key is laid in %s", candidateKey)
	out, err := d.sh(ctx, "cd /etc/pki/rpm-gpg && for k in *; do printf ',file:///etc/pki/rpm-gpg/%s' \"$k\"; done")
	if err != nil {
		return err
	}
	if err := d.dnf(ctx, "up", "upgrade", "upgrade to the candidate", "--setopt='*.gpgkey=file://"+candidateKey+out.Stdout+"'"); err != nil {
		return err
	}
	d.tell(2, "upgraded")
	if err := d.reboot(ctx); err != nil {
		return err
	}
	now, err := d.installed(ctx)
	if err != nil {
		return err
	}
	obsoleted, err := d.shell.Run(ctx, "/usr/bin/rpm -qa --qf '[%{OBSOLETENAMES}\\n]'")
	if err != nil {
		return err
	}
	newest := check.Newest(check.Binary(d.of.Packages))
	for _, p := range d.packages {
		d.asked++
		want, offered := newest[p.Name]
		has := check.Find(now, p.Name)
		if offered && check.Holds(now, want) || has == "not installed" && slices.Contains(strings.Fields(obsoleted.Stdout), p.Name) {
			continue
		}
		f := d.find("up:"+p.Name, "", "after the upgrade it should be %s and is: %s", want.NEVRA(), has)
		f.Object, f.Source = want.NEVRA(), want.SourceName
		if !offered {
			f.Object, f.Text = p.NEVRA(), fmt.Sprintf("%s is not in the candidate's feed, and nothing obsoletes it", p.NEVRA())
		}
	}
	if err := d.kernel(ctx, newest); err != nil {
		return err
	}
	if err := d.guestTests(ctx); err != nil {
		return err
	}
	d.tell(3, "rebooted")
	// Emulated, rpm -Va of all costs seconds: what did not change is looked at once,
	// at the end.
	var changed []string
	for _, p := range now {
		if !check.Holds(d.packages, p) {
			changed = append(changed, p.NEVRA())
		}
	}
	if len(changed) == 0 {
		d.note("nothing is upgraded")
		return nil
	}
	return d.whole(ctx, "up", changed...)
}

// refuses asks whether the device turns the candidate down as long as it has not
// been given the candidate's key, and is then what it was.
func (d *device) refuses(ctx context.Context) error {
	d.asked++
	d.note("the device has not been given the candidate's key")
	out, err := d.sh(ctx, "HOME=/root dnf -y --refresh upgrade")
	said := out.Stdout + out.Stderr
	switch {
	case err == nil:
		d.find("trusts", "gpgcheck=1 and repo_gpgcheck=1 for each feed, and no key in the image but those of the publication", "the device upgrades to the candidate though nobody gave it the candidate's key")
		return errStop
	case !errs.Is(err, errs.Failed) || out.Exit == 0:
		return err
	case !dnf.Refused(said):
		f := d.find("up", cure(said, d.of.Image), "the device cannot upgrade to the candidate, and does not say that a signature is the reason: %s", check.Why(errors.New(dnf.FailureLines(said))))
		f.Evidence = d.guest.Tail(12)
		return errStop
	}
	now, err := d.installed(ctx)
	if err != nil {
		return err
	}
	for _, p := range d.packages {
		if !check.Holds(now, p) {
			d.find("trusts", "a refused transaction must change nothing", "dnf refuses the candidate, and %s is no longer what it was: %s", p.NEVRA(), check.Find(now, p.Name))
		}
	}
	return nil
}

// back goes to the release that the image is of, with what the device trusts by
// itself.
func (d *device) back(ctx context.Context) error {
	stop, err := d.point(ctx, d.of.Origin.Feed)
	if err != nil {
		return err
	}
	defer stop()
	if err := d.dnf(ctx, "back", "distro-sync --allowerasing", "go back to release "+string(d.of.Origin.Version)); err != nil {
		return err
	}
	if err := d.reboot(ctx); err != nil {
		return err
	}
	now, err := d.installed(ctx)
	if err != nil {
		return err
	}
	for _, p := range d.packages {
		d.asked++
		if !check.Holds(now, p) {
			f := d.find("back:"+p.Name, "", "after going back to %s it should be %s and is: %s", d.of.Origin.Version, p.NEVRA(), check.Find(now, p.Name))
			f.Object, f.Source = p.NEVRA(), p.SourceName
		}
	}
	d.asked++
	if first, last := d.kernels[0], d.kernels[len(d.kernels)-1]; first != last {
		d.find("back:kernel", "the package that names the kernel must name it again when it goes down: %post of kernel-set in the example", "after going back to %s the device runs kernel %s, not %s", d.of.Origin.Version, last, first)
	}
	d.tell(4, "back again")
	return d.whole(ctx, "back")
}

func (d *device) end(ctx context.Context) error {
	d.asked++
	d.note("power off")
	return d.guest.PowerOff(ctx)
}

// point makes the device read a feed, by its two variables; a feed that is a
// folder here is served to it, until stop.
func (d *device) point(ctx context.Context, feed check.Feed) (stop func(), err error) {
	url, stop, err := serve(feed.Vars["slipway_url"])
	if err != nil {
		return nil, err
	}
	command := fmt.Sprintf("echo '%s' > /etc/dnf/vars/slipway_url; echo '%s' > /etc/dnf/vars/slipway_snapshot", url, feed.Vars["slipway_snapshot"])
	if _, err := d.sh(ctx, command); err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// dnf runs a transaction in the device. What goes wrong with it is a finding.
func (d *device) dnf(ctx context.Context, id, args, what string, options ...string) error {
	d.asked++
	out, err := d.sh(ctx, strings.Join(append([]string{"HOME=/root dnf -y --refresh", args}, options...), " "))
	said := out.Stdout + out.Stderr
	if errs.Is(err, errs.Failed) && out.Exit != 0 {
		why := dnf.FailureLines(said)
		f := d.find(id, cure(said, d.of.Image), "the device cannot %s: %s", what, check.Why(errors.New(why)))
		f.Evidence = append(strings.Split(why, "\n"), d.guest.Tail(12)...)
		return errStop
	}
	if err != nil {
		return err
	}
	failed, _ := dnf.ScriptletLines(said)
	both := append(slices.Clone(d.packages), check.Binary(d.of.Packages)...)
	for nevra, lines := range check.ByPackage(failed, both) {
		name := "all"
		if i := slices.IndexFunc(both, func(p distro.PackageRecord) bool { return p.NEVRA() == nevra }); i >= 0 {
			name = both[i].Name
		}
		d.find(id+":scriptlet:"+name, "correct the scriptlet; dnf goes on without it", "a scriptlet fails on the device: %s", lines[0]).Evidence = lines
	}
	return nil
}

// cure tells what to do about a dnf that failed.
func cure(said, image string) string {
	if strings.Contains(said, "more space needed") || strings.Contains(said, "No space left on device") {
		return fmt.Sprintf("the device's disk is full: give it more room, size: in %s, or bring smaller packages", path.Join("images", image+".yaml"))
	}
	return ""
}

// installed lists what the device's rpm database holds.
func (d *device) installed(ctx context.Context) ([]distro.PackageRecord, error) {
	// By its path: Debian's busybox prefers its own applet of that name.
	out, err := d.shell.Run(ctx, "/usr/bin/rpm -qa --qf '"+dnf.PackageFormat+"'")
	if err != nil {
		return nil, err
	}
	all := check.Binary(dnf.ParsePackages(out.Stdout))
	names := make([]string, len(all))
	for i, p := range all {
		names[i] = p.NEVRA()
	}
	d.note("%d packages are installed: %s", len(all), strings.Join(names, " "))
	return all, nil
}
