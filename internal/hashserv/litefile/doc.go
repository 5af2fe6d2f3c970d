// Package litefile keeps one SQLite file of BitBake's servers: many readers, one
// writer that commits in groups, and a cheap way to see that another process has
// written.
//
// [File.Write] runs a function inside a transaction that it may share with the
// functions of other callers: those who come while a commit is under way wait
// for the next one together. When Write returns nil the change is committed and
// survives the process's death (with [Options.Full] also a power cut). When a
// shared transaction fails, its functions run again, each in one of its own, so
// that nobody suffers for another's error; a function must therefore do nothing
// but through its [Tx] before it returns.
//
// [File.Fresh] tells in nanoseconds whether somebody else has committed since
// [File.Settle]: SQLite's WAL index, which all processes share in memory, counts
// transactions. Package hashdb holds an index in memory on the strength of it.
//
// SQLite alone decides what a locked, damaged or full file means; [Open] refuses
// network file systems, where its locks and shared memory do not work.
package litefile
