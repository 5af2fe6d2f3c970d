// Package tlog is the transparency log of a publication: an append-only list of
// what was ever published, in a form in which nobody, the publisher included, can
// take an entry back, change it or slip an older one in without being seen.
//
// A leaf stands for a release's statement or for a snapshot, and holds the digest
// of its file. The statement holds the Merkle root of the files of the release.
// So any file is proved in two hops: [Prove] and [CheckFile] lead from the file to
// the statement, [Log.Prove] and [CheckLeaf] from the statement to the checkpoint,
// which the log key signs. [Verify] reads a whole log as a stranger would, and
// compares it with the checkpoint that the stranger saw last ([Seen]).
//
// The files are those of C2SP's tlog-tiles, below log/ (docs/format/tlog.md): any
// tool for such logs reads them. The tree's arithmetic and the signed notes are
// golang.org/x/mod's.
//
// # Promises
//
// [Append] writes entries, then tiles, waits until they are durable, then swaps
// the checkpoint. A kill leaves the old checkpoint, and entries that the next
// append takes in; the same append again changes nothing. There is one writer: the
// holder of the publication's lock.
//
// An append and a Verify read every leaf, some 300 bytes each: a log of ten
// thousand leaves is 3 MB. What they write is the change alone.
package tlog
