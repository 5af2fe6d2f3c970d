// Package hashdb is the database of a hash equivalence server: which task hash
// is known under which unified hash, and which output hashes made it so.
//
// A (method, task hash) gets a unihash once, and keeps it until it is removed or
// collected. [DB.Report] is how it gets one: the oldest other task with the same
// output decides. Everything else is looking up ([DB.Unihash], [DB.Exists],
// [DB.ByTask], [DB.ByOutput]), users, and collecting garbage ([DB.Mark],
// [DB.Sweep], [DB.CleanUnused]).
//
// The tables are compact and described in docs/format/hashserv-database.md;
// databases of BitBake's server are taken over when they are opened, and
// [DB.Export] writes one for it. Unihashes are also held in memory, up to
// [Options.IndexBytes]; the index fills behind the first requests, notices what
// other processes write, and when it does not hold all, the rest is asked from
// the file.
//
// When a writing method returns, the change is in the file and survives the
// process. Removals of many rows are many small transactions: others write in
// between, and after a crash the rest is still there to be removed.
package hashdb
