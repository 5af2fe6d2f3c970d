package litefile

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"

	"modernc.org/sqlite"

	"slipway/internal/errs"
)

// The primary result codes of https://sqlite.org/rescode.html that a user can cure.
const (
	codePerm, codeBusy, codeLocked, codeReadOnly, codeIO = 3, 5, 6, 8, 10
	codeCorrupt, codeFull, codeCantOpen, codeNotADB      = 11, 13, 14, 26
)

// fault says what to do about an error of SQLite or of the file system.
func fault(err error, doing, path string) error {
	var e *sqlite.Error
	code := 0
	if errors.As(err, &e) {
		code = e.Code() & 0xff
	}
	is := func(target error) bool { return errors.Is(err, target) }
	what := doing + " the database " + path
	switch {
	case err == nil:
		return nil
	case code == codeBusy, code == codeLocked:
		return errs.E(errs.Locked, what, errs.Hint("another process has held the database for long: wait for it to end"), err)
	case code == codeCorrupt, code == codeNotADB:
		return errs.E(errs.Unavailable, what+": it is damaged, or no SQLite database", errs.Hintf("stop the server, put back a copy of %s from a backup or a release", filepath.Base(path)), err)
	case code == codeFull, is(syscall.ENOSPC), is(syscall.EDQUOT):
		return errs.E(errs.Unavailable, what+": the disk is full", errs.Hintf("free space on the file system of %s; the server goes on by itself", filepath.Dir(path)), err)
	case code == codeIO, is(syscall.EIO):
		return errs.E(errs.Unavailable, what+": the disk is full or reports an error", errs.Hintf("see df and dmesg for %s", filepath.Dir(path)), err)
	case code == codePerm, code == codeReadOnly, code == codeCantOpen, is(fs.ErrPermission), is(syscall.EROFS):
		return errs.E(errs.Denied, what, errs.Hintf("%s must exist, and it and the files in it must be writable for the user who runs the server", filepath.Dir(path)), err)
	}
	return errs.E(errs.Internal, what, err)
}

// Magic numbers of statfs(2) for file systems on which SQLite's locks or shared
// memory do not work.
var network = map[int64]string{
	0x6969: "NFS", 0xff534d42: "CIFS", 0xfe534d42: "SMB", 0x517b: "SMB", 0x65735546: "FUSE",
	0x01021997: "9P", 0x5346414f: "AFS", 0x00c36400: "Ceph", 0x47504653: "GPFS", 0x0bd00bd0: "Lustre",
}

// local refuses a folder on a network file system.
func local(dir string) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return errs.E(errs.NotFound, "folder "+dir+" of the database", errs.Hint("make it first"), err)
	}
	return remote(int64(uint32(st.Type)), dir)
}

// remote refuses a type of file system, as statfs(2) gives it.
func remote(magic int64, dir string) error {
	if name := network[magic]; name != "" {
		return errs.E(errs.Refused, "the database would lie on "+name+" ("+dir+")",
			errs.Hint("SQLite loses data there: put the database on a local disk, and let other machines talk to this server"))
	}
	return nil
}
