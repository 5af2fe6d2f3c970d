package device

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
)

// Pinned is what a device was pinned to.
type Pinned struct {
	Serial  int            `json:"serial"`
	Release distro.Version `json:"release"`
	At      time.Time      `json:"at"`
}

// pinned gives the serial that the device stays at; 0 for none.
func (d *Device) pinned() (int, error) {
	v := d.conf.Vars[snapshotVariable]
	if v == "" || v == "current" {
		return 0, nil
	}
	n, err := strconv.Atoi(strings.TrimPrefix(v, "snapshots/"))
	if err != nil || n < 1 || !strings.HasPrefix(v, "snapshots/") {
		return 0, errs.E(errs.Invalid, fmt.Sprintf("/etc/dnf/vars/%s holds %q", snapshotVariable, v), errs.Hint("slipway-device unpin, or pin VERSION"))
	}
	return n, nil
}

// Pin makes the device stay at a release ("1.3": the newest snapshot of it) or at
// what was current at the end of a day ("2026-12-24", UTC) or at a time
// (RFC 3339). It changes no package: Update goes there, down as well as up.
func (d *Device) Pin(ctx context.Context, what string) (Pinned, error) {
	release, err := d.lock()
	if err != nil {
		return Pinned{}, err
	}
	defer release()
	c, err := d.trusted(ctx, true)
	if err != nil {
		return Pinned{}, err
	}
	at, err := d.dates(ctx, c.Pointer)
	if err != nil {
		return Pinned{}, err
	}
	e, err := at.Find(what)
	if err != nil {
		return Pinned{}, err
	}
	s, err := d.snapshot(ctx, e.Serial, "")
	if err != nil {
		return Pinned{}, err
	}
	return Pinned{s.Serial, s.Release, s.At}, d.setSnapshot(fmt.Sprintf("snapshots/%d", e.Serial))
}

// Unpin makes the device follow the newest snapshot again. Update goes there.
func (d *Device) Unpin(ctx context.Context) error {
	release, err := d.lock()
	if err != nil {
		return err
	}
	defer release()
	return d.setSnapshot("current")
}

// setSnapshot changes the variable for dnf, and for zypper where it has its own.
func (d *Device) setSnapshot(value string) error {
	if err := d.write("etc/dnf/vars/"+snapshotVariable, []byte(value+"\n")); err != nil {
		return err
	}
	if exists(d.path("etc/zypp/vars.d/" + snapshotVariable)) {
		if err := d.write("etc/zypp/vars.d/"+snapshotVariable, []byte(value+"\n")); err != nil {
			return err
		}
	}
	d.conf.Vars[snapshotVariable] = value
	return nil
}
