// Package store keeps bytes so that no crash, full disk or second writer can
// leave half of them to be seen.
//
// [Blobs] is content-addressed: what was put is found again by its digest, for
// ever the same. [Tree] is named: files are created once and never replaced; only
// pointers, small files such as current.json, are swapped, atomically.
// [OpenBlobs] and [OpenTree] keep both in folders; further implementations pass
// the suite in storetest. [Acquire] takes the lock that lets one writer work on a
// workspace at a time; readers never lock.
//
// # Promises
//
// When Put or Swap returns nil, the bytes survive a power cut. Files of Create
// are whole whenever they are visible, and survive a power cut once [Tree].Sync,
// or any later Swap, has returned. A kill at any moment leaves at most a hidden
// temporary file, which the next writer removes; the same call again finishes.
//
// A full disk, a read-only file system, missing permission or an input/output
// error is errs.Unavailable with the path and the cure. docs/format/workspace.md
// describes the folders, docs/design/0002-order-of-writes.md the order of writes.
package store
