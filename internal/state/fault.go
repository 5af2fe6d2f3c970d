package state

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"

	"modernc.org/sqlite"

	"slipway/internal/errs"
)

// fault turns an error of SQLite or of the file system into one that says what to
// do. Errors of others pass through.
func fault(err error, doing, path string) error {
	var e *sqlite.Error
	var no syscall.Errno
	if !errors.As(err, &e) && !errors.As(err, &no) {
		return err
	}
	if hint := cure(err, path); hint != "" {
		return errs.E(errs.Unavailable, doing+" the state "+path, hint, err)
	}
	return errs.Wrap(err, "%s the state %s", doing, path)
}

// The primary result codes of https://sqlite.org/rescode.html that a user can
// cure.
const (
	codePerm, codeBusy, codeLocked, codeReadOnly, codeIO = 3, 5, 6, 8, 10
	codeCorrupt, codeFull, codeCantOpen, codeNotADB      = 11, 13, 14, 26
)

// code gives the primary result code of SQLite, 0 for other errors.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// cure says what to do, "" when nothing is known.
func cure(err error, path string) errs.Hint {
	dir := filepath.Dir(path)
	is := func(target error) bool { return errors.Is(err, target) }
	c := code(err)
	switch {
	case c == codeBusy, c == codeLocked:
		return "another process has held the database for long: wait for it to end, then run the command again"
	case c == codeCorrupt, c == codeNotADB:
		return errs.Hintf("the file is damaged: put back a copy of %s and %[1]s-wal from a backup; store and publication were not touched", filepath.Base(path))
	case c == codeFull, is(syscall.ENOSPC), is(syscall.EDQUOT):
		return errs.Hintf("free space on the file system of %s, then run the same command again", dir)
	case c == codeIO, is(syscall.EIO):
		return errs.Hintf("the disk of %s is full or reports an error (see df and dmesg): mend it, then run the same command again", dir)
	case c == codePerm, c == codeReadOnly, c == codeCantOpen, is(fs.ErrPermission), is(syscall.EROFS):
		return errs.Hintf("make %s and the files in it writable for the user who runs slipway", dir)
	case is(syscall.ENOTDIR), is(fs.ErrExist):
		return errs.Hintf("%s must be a folder", dir)
	}
	return ""
}
