// Package device is what slipway-device does: it keeps a device at one snapshot of
// its distribution, with the device's own dnf (or zypper) and rpm.
//
//	d, err := device.Open(device.Options{Root: "/"})
//	p, err := d.Check(ctx)                 // the signed pointer: is the feed what it says?
//	u, err := d.Update(ctx, device.UpdateOptions{})
//	u, err = d.Resume(ctx)                 // at boot, after a power cut
//
// What it adds to dnf:
//
//   - It follows the signed pointer timestamp.json, so that an old copy of a feed
//     (replayed) and a feed that is cut off (frozen) are found; see
//     internal/timestamp for the rules.
//   - An update goes to exactly one snapshot. The pointer names snapshot.json by
//     digest, that names each scope's repomd.xml by digest, and what the client
//     has fetched is compared with it before anything is installed. So no
//     metadata of another day gets in, however well it is signed, and no unsigned
//     package under a client (zypper) that would take one.
//   - Everything is downloaded before anything is changed, space is looked for
//     before that, and each phase is written to a journal first. After a power
//     cut Resume brings the device to the snapshot that it was on its way to, or
//     tells that nothing had begun.
//
// Files below Root: etc/slipway-device.conf (optional), etc/dnf/vars,
// etc/yum.repos.d, etc/pki/rpm-gpg are read; var/lib/slipway-device holds the
// state, the journal and a lock, var/cache/slipway-device the downloads of one update.
// Every write there is to a new file, fsync, rename, fsync of the folder.
//
// Errors of what a signature, a digest or the pointer forbids are errs.Denied;
// a [timestamp.Refusal] says which rule. [Reason] and [ExitCode] tell them apart.
package device

import (
	"errors"

	"slipway/internal/errs"
	"slipway/internal/timestamp"
)

// Signature is the reason of a pointer or snapshot whose signature does not fit.
const Signature timestamp.Reason = "signature"

// Mismatch is the reason of bytes that are not the ones that a signed document names.
const Mismatch timestamp.Reason = "mismatch"

type refusal struct {
	reason timestamp.Reason
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// Reason says in one word what is wrong with a feed; "" for any other error.
func Reason(err error) timestamp.Reason {
	var t *timestamp.Refusal
	var r *refusal
	switch {
	case errors.As(err, &r):
		return r.reason
	case errors.As(err, &t):
		return t.Reason
	}
	return ""
}

// ExitCode is errs.ExitCode, with a code of its own for each reason.
func ExitCode(err error) int {
	switch Reason(err) {
	case timestamp.Replayed:
		return 41
	case timestamp.Frozen:
		return 42
	case Signature, Mismatch:
		return 43
	case timestamp.Clock:
		return 44
	case timestamp.Foreign:
		return 45
	}
	return errs.ExitCode(err)
}
