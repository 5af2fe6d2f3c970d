// Package prdb is the database of a PR server: which number the output of a
// recipe got. For BitBake a package's version is PN-PV-PR plus such a number, and
// it must only rise: a device that has 3 does not update to 2.
//
// A number belongs to (version, package architecture, checksum of the output).
// [DB.Get] gives the number of an output, a new one when need be: one more than
// the greatest. The table is BitBake's own PRMAIN, so that its server can read
// the file; the tables of older versions are taken over once. A second table
// keeps the highest number ever given for each (version, architecture): numbers
// of rejected builds stay burned.
//
// When Get returns, the number is on the disk: a power cut does not make the
// server give it again.
package prdb
