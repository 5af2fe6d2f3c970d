// Package feedindex keeps the metadata of a plain folder of RPMs: what
// `slipway feed index DIR` does in createrepo_c's place.
//
// [Index] looks at every file's name, size and time, reads what is new, and
// writes DIR/repodata/ at the cost of what changed (package rpmmd does that). It
// needs no workspace, no keys and no settings.
//
// # Promises
//
// repodata/repomd.xml is replaced last and by a rename: clients see the old or the
// new index, and every file that either names is there at that moment. A bad
// package, a full disk or a kill leaves the old index in force. When nothing
// changed, nothing is written. Two at once on one folder: the second gets
// errs.Locked.
//
// # What it remembers
//
// repodata/slipway-<id>.state holds what the last run knew
// (docs/format/index-state.md). It belongs to the three data files that its id
// is made from; gone, damaged or of other data files, the index is made again
// from the packages, and [Result.Rebuilt] says why. Records of other tools in
// repomd.xml (comps, updateinfo, modules) stay.
//
// New packages go to the end of the metadata: what is there keeps its place, so
// that little is written. The order has no meaning to clients.
package feedindex
