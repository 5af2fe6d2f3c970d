// Package source hands a release to people who want to build it themselves, and
// change it: from binary to source.
//
//   - [Export] writes a folder with everything that a BitBake of theirs needs to come to
//     the same bits: layers at their commits, the configuration as it was, the addresses
//     of cache and sources, the PR and hash databases, the packages' digests. As plain
//     conf files, for kas, or for bitbake-setup.
//   - [Mirror] puts the released cache, signed, and the sources into the publication.
//   - [Diagnose] looks whether all that the folder names answers, before hours are spent.
//   - [Compare] says which packages of a build are those that were published.
//
// Numbers of a user's own packages lie below the official ones (r0.1 -> r0.1.0), by a
// PR server of his own that asks a copy of the official database; docs/prserv.md says
// why. Objects of the cache are taken only with a signature, so the user's own objects
// are signed by a key of his own, which ./prepare of the folder makes.
//
// docs/from-binary-to-source.md is the page for users, docs/format/source-export.md
// describes the folder.
package source
