package device

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/timestamp"
)

// UpdateOptions say how far an update goes.
type UpdateOptions struct {
	DryRun   bool // show the plan, change nothing
	Security bool // only packages that a security advisory names; never down
	Erasing  bool // packages may be removed, if nothing else helps
}

// Update is what an update did.
type Update struct {
	Serial  int            `json:"serial"`
	Release distro.Version `json:"release"`
	Plan    string         `json:"plan"`    // as the package manager shows it; "" when nothing was to do
	Changed bool           `json:"changed"` // packages were installed or removed
	Resumed bool           `json:"resumed"` // an interrupted update was finished first
	// Nothing is set by Resume when no update was under way.
	Nothing bool `json:"nothing"`
}

// Update brings the device to the newest snapshot, or to the pinned one. What an
// earlier update left unfinished is finished first. After an error up to the
// transaction the system is as it was; an error of the transaction itself leaves
// the journal when packages have changed, and Resume goes on.
func (d *Device) Update(ctx context.Context, o UpdateOptions) (Update, error) {
	release, err := d.lock()
	if err != nil {
		return Update{}, err
	}
	defer release()
	j, err := d.readJournal()
	if err != nil {
		return Update{}, err
	}
	var u Update
	if j != nil && o.DryRun {
		return u, errs.E(errs.Conflict, "an update is unfinished", errs.Hint("slipway-device resume"))
	}
	s, pinned, err := d.target(ctx)
	if j != nil {
		u.Resumed = true
		if _, rerr := d.resume(ctx, j); rerr != nil {
			// What cannot be installed will not be finished by trying again: a newer
			// snapshot, when there is one, is the way out.
			if err != nil || s.Serial == j.Snapshot.Serial {
				return u, rerr
			}
			fmt.Fprintf(d.talk, "cannot finish the update to serial %d, going on to %d: %v\n", j.Snapshot.Serial, s.Serial, rerr)
			j.Snapshot, j.Plan, j.Erasing = s, nil, true
			if err := d.writeJSON(journalFile, j); err != nil {
				return u, err
			}
			if _, err := d.resume(ctx, j); err != nil {
				return u, err
			}
		}
	}
	if err != nil {
		return u, err
	}
	u.Serial, u.Release = s.Serial, s.Release
	return u, d.update(ctx, o, s, pinned, &u)
}

// target checks the pointer and gives the snapshot to go to: the newest, or the
// pinned one.
func (d *Device) target(ctx context.Context) (s timestamp.Snapshot, pinned bool, err error) {
	pin, err := d.pinned()
	if err != nil {
		return s, false, err
	}
	c, err := d.trusted(ctx, true)
	if err != nil {
		return s, false, err
	}
	if pin != 0 && pin != c.Pointer.Serial {
		s, err = d.snapshot(ctx, pin, "")
	} else {
		s, err = d.snapshot(ctx, c.Pointer.Serial, c.Pointer.Snapshot)
	}
	return s, pin != 0, err
}

func (d *Device) update(ctx context.Context, o UpdateOptions, s timestamp.Snapshot, pinned bool, u *Update) error {
	f := d.frontend()
	op := operation{security: o.Security, erasing: o.Erasing || pinned}
	if err := d.checkDatabase(ctx); err != nil {
		return err
	}
	if err := d.clearCache(); err != nil {
		return err
	}
	if err := d.writeFeeds(s.Serial); err != nil {
		return err
	}
	plan, size, err := f.resolve(ctx, op)
	if err != nil {
		return err
	}
	// Before the plan is believed, and again before it is carried out.
	if err := d.verifyFeeds(f, s); err != nil {
		return err
	}
	u.Plan = plan
	if plan == "" || o.DryRun {
		if plan == "" && !o.DryRun && !o.Security {
			err = d.complete(s.Serial)
		}
		return err
	}
	fmt.Fprintf(d.talk, "serial %d, release %s\n%s", s.Serial, s.Release, plan)
	if err := d.needDownload(size); err != nil {
		return err
	}
	j := &journal{Schema: 1, Phase: Download, Snapshot: s, Security: o.Security, Erasing: op.erasing, Started: d.now().UTC()}
	if err := d.writeJSON(journalFile, j); err != nil {
		return err
	}
	if err := d.fetchAll(ctx, f, op, j); err != nil {
		if rerr := d.remove(journalFile); rerr != nil { // nothing of the system was changed
			return rerr
		}
		return err
	}
	j.Phase = Transaction
	if err := d.writeJSON(journalFile, j); err != nil {
		return err
	}
	u.Changed = true
	// From here on an interruption by the user would be a power cut of our own making.
	ctx = context.WithoutCancel(ctx)
	if err := f.apply(ctx, op); err != nil {
		var before untouched
		if now, qerr := d.installed(ctx); errors.As(err, &before) && qerr == nil && slices.Equal(now, j.Before) {
			u.Changed = false
			if rerr := d.remove(journalFile); rerr != nil {
				return rerr
			}
			return err
		}
		return errs.E(errs.Failed, "the update stopped in its middle", err, errs.Hint("slipway-device resume"))
	}
	return d.finish(ctx, j)
}

// fetchAll downloads, and fills the journal with what is known before the transaction.
func (d *Device) fetchAll(ctx context.Context, f frontend, op operation, j *journal) error {
	if err := f.download(ctx, op); err != nil {
		return err
	}
	if err := d.verifyFeeds(f, j.Snapshot); err != nil {
		return err
	}
	if err := f.verify(ctx); err != nil {
		return err
	}
	plan, files, err := d.incoming(ctx)
	if err != nil {
		return err
	}
	if err := d.needInstall(files); err != nil {
		return err
	}
	j.Plan = plan
	if j.Before, err = d.installed(ctx); err != nil {
		return err
	}
	syscall.Sync() // resume works from these downloads
	return nil
}

// finish makes a transaction durable, looks at what came of it and ends the update.
func (d *Device) finish(ctx context.Context, j *journal) error {
	syscall.Sync() // rpm does not sync the files that it writes
	j.Phase = Finish
	if err := d.writeJSON(journalFile, j); err != nil {
		return err
	}
	if err := d.checkDatabase(ctx); err != nil {
		return err
	}
	now, err := d.installed(ctx)
	if err != nil {
		return err
	}
	for _, p := range j.Plan {
		if _, ok := slices.BinarySearch(now, p); !ok {
			return errs.E(errs.Failed, "the update is over, but "+p+" is not installed", errs.Hint("slipway-device resume"))
		}
	}
	serial := j.Snapshot.Serial
	if j.Security {
		serial = 0 // between two snapshots, as asked for
	}
	if err := d.complete(serial); err != nil {
		return err
	}
	if err := d.remove(journalFile); err != nil {
		return err
	}
	return d.clearCache()
}

func (d *Device) complete(serial int) error {
	st, err := d.readState()
	if err != nil {
		return err
	}
	st.Installed, st.Updated = serial, d.now().UTC()
	return d.writeJSON(stateFile, st)
}

// clearCache removes what an update has fetched: the next one is for another snapshot.
func (d *Device) clearCache() error {
	if err := os.RemoveAll(d.path(cacheDir)); err != nil {
		return errs.E(errs.Unavailable, "clear /"+cacheDir, err)
	}
	return nil
}

// Resume ends an update that was interrupted: before the transaction it is
// abandoned, later it is finished. It needs no network as long as the downloads
// are there. Run it at boot; when nothing is under way it costs nothing.
func (d *Device) Resume(ctx context.Context) (Update, error) {
	if !exists(d.path(journalFile)) {
		return Update{Nothing: true}, nil
	}
	release, err := d.lock()
	if err != nil {
		return Update{}, err
	}
	defer release()
	j, err := d.readJournal()
	if err != nil || j == nil {
		return Update{Nothing: j == nil}, err
	}
	return d.resume(ctx, j)
}

func (d *Device) resume(ctx context.Context, j *journal) (Update, error) {
	u := Update{Serial: j.Snapshot.Serial, Release: j.Snapshot.Release, Resumed: true}
	if j.Phase == Download {
		fmt.Fprintf(d.talk, "the update to serial %d was interrupted before it changed anything\n", j.Snapshot.Serial)
		return u, d.remove(journalFile)
	}
	u.Changed = true
	fmt.Fprintf(d.talk, "finishing the update to serial %d, release %s\n", j.Snapshot.Serial, j.Snapshot.Release)
	if err := d.checkDatabase(ctx); err != nil {
		return u, err
	}
	now, err := d.installed(ctx)
	if err != nil {
		return u, err
	}
	// What has come already may lack a scriptlet, or bytes that were not yet on the
	// disk, and the version before it may still be in the database: installed again,
	// all three are mended.
	var again []string
	for _, p := range j.Plan {
		if _, ok := slices.BinarySearch(now, p); ok {
			again = append(again, p)
		}
	}
	f, op := d.frontend(), operation{security: j.Security, erasing: j.Erasing}
	attempt := func() error {
		if len(again) > 0 {
			if err := f.reinstall(ctx, again); err != nil {
				return err
			}
		}
		return f.apply(ctx, op)
	}
	// First with the feeds and the downloads of the interrupted update, as they are.
	// When they are gone, or are not the right ones, with new ones.
	err = d.verifyFeeds(f, j.Snapshot)
	if err == nil {
		err = attempt()
	}
	if err != nil {
		fmt.Fprintf(d.talk, "with what was downloaded it cannot be finished: %v\n", err)
		if ferr := d.fetchAgain(ctx, f, op, j); ferr != nil {
			return u, errs.Wrap(ferr, "download serial %d again", j.Snapshot.Serial)
		}
		if err := attempt(); err != nil {
			return u, err
		}
	}
	if err := d.sweep(ctx, j.Plan); err != nil {
		return u, err
	}
	return u, d.finish(ctx, j)
}

// fetchAgain fetches the metadata of a journal's snapshot from where the device's
// configuration says now.
func (d *Device) fetchAgain(ctx context.Context, f frontend, op operation, j *journal) error {
	if err := d.clearCache(); err != nil {
		return err
	}
	if err := d.writeFeeds(j.Snapshot.Serial); err != nil {
		return err
	}
	if _, _, err := f.resolve(ctx, op); err != nil {
		return err
	}
	return d.verifyFeeds(f, j.Snapshot)
}
