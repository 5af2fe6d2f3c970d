package device

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/timestamp"
)

const (
	stateFile   = stateDir + "/state.json"
	journalFile = stateDir + "/journal.json"
	lockFile    = stateDir + "/lock"
)

// state is what the device remembers for ever.
type state struct {
	Schema    int                 `json:"schema"`
	Seen      timestamp.Seen      `json:"seen"`
	Pointer   timestamp.Timestamp `json:"pointer"`   // the last one trusted, for status without a network
	Installed int                 `json:"installed"` // the serial of the last complete update; 0 is unknown
	Updated   time.Time           `json:"updated"`
}

// Phase is how far an update is.
type Phase string

// The phases. Up to Download nothing of the system is changed.
const (
	Download    Phase = "download"
	Transaction Phase = "transaction"
	Finish      Phase = "verify"
)

// journal is the update that is under way.
type journal struct {
	Schema   int                `json:"schema"`
	Phase    Phase              `json:"phase"`
	Snapshot timestamp.Snapshot `json:"snapshot"` // where it goes; its signature was good
	Security bool               `json:"security,omitempty"`
	Erasing  bool               `json:"erasing,omitempty"` // packages may be removed
	Plan     []string           `json:"plan,omitempty"`    // name-[epoch:]version-release.arch of what comes
	Before   []string           `json:"before,omitempty"`  // of what was installed
	Started  time.Time          `json:"started"`
}

func (d *Device) readState() (state, error) {
	s := state{Schema: 1}
	err := d.readJSON(stateFile, &s)
	if errs.Is(err, errs.NotFound) {
		return s, nil
	}
	if err != nil {
		return s, errs.E(errs.Invalid, "/"+stateFile, err, errs.Hint("it is damaged. Removing it makes this device forget the newest serial that it saw"))
	}
	return s, nil
}

// readJournal gives nil when no update is under way.
func (d *Device) readJournal() (*journal, error) {
	var j journal
	err := d.readJSON(journalFile, &j)
	if errs.Is(err, errs.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, errs.E(errs.Invalid, "/"+journalFile, err, errs.Hint("remove it and run: slipway-device update"))
	}
	return &j, nil
}

func (d *Device) readJSON(name string, into any) error {
	b, err := os.ReadFile(d.path(name))
	if os.IsNotExist(err) {
		return errs.E(errs.NotFound, "no /"+name)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

func (d *Device) writeJSON(name string, v any) error { return d.write(name, distro.CanonicalJSON(v)) }

// write replaces a file: after a crash it holds the old bytes or the new ones.
func (d *Device) write(name string, data []byte) error {
	path := d.path(name)
	say := func(err error) error { return errs.E(errs.Unavailable, "write /"+name, err) }
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return say(err)
	}
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return say(err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return say(err)
	}
	return nil
}

// remove deletes a file for good.
func (d *Device) remove(name string) error {
	path := d.path(name)
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return errs.E(errs.Unavailable, "remove /"+name, err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// lock keeps other slipway-device processes out; the kernel lets go of it when
// this process ends, however it ends. Errors: Locked, with the owner.
func (d *Device) lock() (release func(), err error) {
	if err := os.MkdirAll(d.path(stateDir), 0o755); err != nil {
		return nil, errs.E(errs.Unavailable, "lock this device", err, errs.Hint("run as root"))
	}
	f, err := os.OpenFile(d.path(lockFile), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, errs.E(errs.Unavailable, "lock this device", err, errs.Hint("run as root"))
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner, _ := os.ReadFile(d.path(lockFile))
		f.Close()
		return nil, errs.E(errs.Locked, "another slipway-device is at work: process "+strings.TrimSpace(string(owner)), errs.Hint("wait for it to end"))
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(fmt.Sprintln(os.Getpid())), 0)
	}
	return func() { f.Close() }, nil
}
