// Package distro holds Slipway's nouns and rules. It does no I/O and imports
// nothing of the project but errs. Its glossary, one word for one thing:
//
//   - distribution: what is maintained; series: a maintained line of it ("1",
//     "2026.1"), with one definition, slipway.yaml.
//   - revision: the exact inputs of a build, content-addressed ([Revision]).
//   - build: one execution of a revision for a reserved version, "1.3-b2"; it
//     ends as the candidate "1.3-c2", or failed ([BuildID]).
//   - version of a release: <series>.<n> ([Version]).
//   - artifact: a file of a build, with class and digest ([Artifact], [Class]).
//   - content of a package: payload, file attributes, dependencies, scripts; not
//     build time, build host, rpm version, compression, signature ([Content]).
//   - header digest: sha256 of a package's main header; a package's identity,
//     which signing does not change.
//   - number: the part of a package's release that the builder gives, by the PR
//     database; burned when it was ever given.
//   - check, finding, gate, verdict, waiver, approval: the questions, the
//     answers, the policy, its decision, and persons' decisions.
//   - release: an approved candidate, immutable for ever ([Statement]).
//   - scope: what a feed is for ("noarch", "x86_64"); feed: the packages of one
//     scope; snapshot: an immutable signed index of all feeds of a series, with a
//     serial that only rises.
//   - publication: the public tree that clients read.
package distro
