// Package state keeps what a workspace knows: documents with compare-and-set and
// a log of events, in one SQLite file.
//
// A document is JSON under a kind and an id ("build", "1.10"). Every write names
// the revision that it read, and several documents and events change together or
// not at all ([Store].Apply), so that two commands can never half-overwrite each
// other; the loser gets errs.Conflict. [Load], [LoadAll], [Update] and [Upsert]
// do this for a Go type. The package knows no type of the services.
//
// # Promises
//
// When Apply returns nil, the change survives a power cut. When it fails, or the
// process is killed in it, the change is there whole or not at all. Readers
// ([OpenReadOnly]) never wait for a writer and never make it wait. A damaged or
// locked database is errs.Unavailable with the cure; one of a newer Slipway is
// refused. docs/format/workspace.md describes the tables.
package state
