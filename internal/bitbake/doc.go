// Package bitbake is the adapter to BitBake, and the only package that starts it:
// a builder that turns pinned Yocto layers into packages, as package rpmbuild
// does with spec files.
//
//   - [Builder.Prepare] finds BitBake and OE-Core among the layers, checks what
//     stops a build before hours are spent, and writes the configuration
//     ([Configuration]).
//   - [Builder.Build] runs BitBake once per board, one after the other in one
//     TMPDIR, as an ordinary user in an environment of our making, and reads its
//     console ([Console]): progress, and errors with recipe, task and the end of
//     the log.
//   - [Builder.Environment] asks `bitbake -e` what a board is: architectures, tune,
//     SoC family ([Environment.DescribeBoard]). [Assert] judges the answer: does this
//     configuration make a binary distribution that can be updated?
//   - [Builder.Collect] gives every artifact from where BitBake leaves it.
//
// In the build's folder, plan.json and console.log are ours; topdir/ is BitBake's
// TOPDIR and belongs to the build user, but for topdir/conf; databases/ is the fork
// of the series' PR and hash databases that [Options].Servers serves.
//
// A build that was stopped goes on with the same calls: BitBake's stamps and the
// sstate of what was done are in topdir/. Nothing that the build user wrote is
// followed out of topdir/ when it is collected.
//
// docs/builder-bitbake.md is the page for users.
package bitbake
