// Package rpmdb reads rpm's database of a device or an image, from its bytes alone:
// it starts neither rpm nor SQLite, and writes nothing.
//
//	db, err := rpmdb.Read(file, wal)
//	for _, p := range db.Packages { fmt.Println(p.NEVRA()) }
//
// The file is rpmdb.sqlite (rpm 4.16 and later), with what its write-ahead log
// holds. Everything in it is taken as made by a stranger: a damaged one is
// errs.Invalid, and nothing is allocated because a file claims it.
//
// The formats: https://www.sqlite.org/fileformat2.html; the table Packages of rpm's
// lib/backend/sqlite.cc, (hnum INTEGER PRIMARY KEY, blob BLOB).
package rpmdb

import (
	"cmp"
	"fmt"
	"slices"

	"slipway/internal/distro"
	"slipway/internal/errs"
	"slipway/internal/rpm"
)

// Where rpm keeps its database, in the order in which they are looked for.
var Folders = []string{"var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm"}

// File and WAL are the names in the folder.
const (
	File = "rpmdb.sqlite"
	WAL  = "rpmdb.sqlite-wal"
)

// Others are databases that are known and not read, by file name.
var Others = map[string]string{"Packages": "Berkeley DB (rpm before 4.16)", "Packages.db": "ndb"}

// keyPackage is how rpm keeps a public key that was imported.
const keyPackage = "gpg-pubkey"

// Database is what was read.
type Database struct {
	Packages []*rpm.Package // by name, version and architecture
	Keys     []*rpm.Package // imported public keys: Version is the key's short id
}

// Read reads a database; wal may be nil.
func Read(file, wal []byte) (*Database, error) {
	blobs, err := readTable(file, wal, "Packages", 1)
	if err != nil {
		return nil, err
	}
	db := &Database{}
	for i, b := range blobs {
		p, err := rpm.ParseInstalled(b, fmt.Sprintf("header %d of the rpm database", i+1))
		if err != nil {
			return nil, err
		}
		if p.Name == keyPackage {
			db.Keys = append(db.Keys, p)
		} else if p.Arch == "" {
			return nil, errs.E(errs.Invalid, "rpm database: "+p.Name+" has no architecture")
		} else {
			db.Packages = append(db.Packages, p)
		}
	}
	order := func(a, b *rpm.Package) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), distro.CompareEVR(a.Epoch, a.Version, a.Release, b.Epoch, b.Version, b.Release), cmp.Compare(a.Arch, b.Arch))
	}
	slices.SortStableFunc(db.Packages, order)
	slices.SortStableFunc(db.Keys, order)
	return db, nil
}
