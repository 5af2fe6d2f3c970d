// Package selfupgrades asks whether a device upgrades itself: the image that an
// earlier release published is booted, its own dnf fetches the candidate over the
// network with its own configuration, it reboots into the candidate's kernel, goes
// back by a pin, and reboots into the kernel that it came with.
//
// It is the one check in which nothing is simulated: dnf, rpm, the scriptlets and
// the signature checks are the device's own. What it says and does is kept as
// evidence, the whole session as a transcript and the serial console.
//
// Which image is asked, if any, is the board's policy (boot: {upgrade: full}): it
// costs about half a minute of a processor.
package selfupgrades

import (
	"context"
	"fmt"
	"strings"

	"slipway/internal/check"
	"slipway/internal/distro"
)

// New gives the check.
func New() check.Check { return selfupgrades{} }

type selfupgrades struct{}

// Devices makes it a check of devices.
func (selfupgrades) Devices() {}

func (selfupgrades) Spec() distro.CheckSpec {
	return distro.CheckSpec{ID: "selfupgrades", Level: distro.Block,
		Asks: "does a booted device upgrade itself to the candidate by its own dnf, reboot into the new kernel, and come back by a pin?",
		Cure: "read the transcript and the serial log; try it by hand: slipway boot FILE -v"}
}

// Run works on each device that the policy names, as many side by side as the bed
// has jobs.
func (selfupgrades) Run(ctx context.Context, bed *check.Bed) (check.Result, error) {
	var res check.Result
	var notes []string
	var devices []*device
	for _, u := range bed.SelfUpgrades {
		d := &device{bed: bed, of: u}
		if u.Path == "" {
			notes = append(notes, d.name()+": no release has published it yet")
			continue
		}
		devices = append(devices, d)
	}
	if len(bed.SelfUpgrades) == 0 {
		notes = append(notes, "no board asks for it: boot: {upgrade: IMAGE} in slipway.yaml")
	}
	err := bed.Each(ctx, len(devices), func(ctx context.Context, i int) error {
		d := devices[i]
		d.tell = func(step int, text string) {
			bed.Tell(i*steps+step, len(devices)*steps, fmt.Sprintf("%s %s: %s", d.name(), d.of.Origin.Version, text))
		}
		return d.run(ctx)
	})
	for _, d := range devices {
		res.Asked += d.asked
		res.Findings = append(res.Findings, d.findings...)
		res.Evidence = append(res.Evidence, d.files...)
		res.Trials = append(res.Trials, d.trial())
		if len(d.kernels) > 0 {
			notes = append(notes, fmt.Sprintf("%s from %s: kernel %s", d.name(), d.of.Origin.Version, strings.Join(d.kernels, " -> ")))
		}
	}
	res.Note = strings.Join(notes, "; ")
	return res, err
}
