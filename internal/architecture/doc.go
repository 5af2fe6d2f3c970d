// Package architecture holds no code, only the test that keeps the arrows true:
//
//	delivery -> services -> adapters -> formats -> core (distro, errs)
//
// A package imports from levels below its own, and from its own level only what
// the short list [peers] of the test names with a reason. The test also knows
// who alone may use SQL, OpenPGP, YAML and the like, who may start which
// program, and a few rules of size and names. It reads what `go list` says, so
// it holds without any linter.
//
// A new package fails the test until it has a place: add a row to the table
// [levels] in table_test.go. docs/design/0001-architecture.md says why.
package architecture
