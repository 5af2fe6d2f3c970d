package compose

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"slipway/internal/errs"
)

// sweep lists the folders in which only what packages own stays: logs, caches,
// and what dnf and rpm leave on a device of which they will be new.
var sweep = []string{"dev", "run", "tmp", "var/cache", "var/lib/dnf", "var/log", "var/tmp"}

// Clean makes a root tell of its packages and of nothing else, in place: logs,
// caches and dnf's and rpm's leftovers go, the rpm database is built anew, times
// are those of the packages, or date where no package says one. Two roots with
// the same packages are the same afterwards. docs/format/images.md lists it all.
//
// It never leaves root, whatever symbolic links a package brings. It can be
// repeated, and is after a crash. Give it a clone ([dnf.Root.Clone]) of a root
// that is still needed: dnf no longer knows there why a package was installed.
func Clean(ctx context.Context, root string, date time.Time) error {
	return errs.Wrap(space(clean(ctx, root, date.UTC().Truncate(time.Second))), "clean %s", root)
}

func clean(ctx context.Context, root string, date time.Time) error {
	if date.Unix() <= 0 || date.Unix() > 1<<32-1 {
		return errs.E(errs.Invalid, "no date for the files of an image", errs.Hint("take the time of the commit that the revision is made of"))
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	headers, err := rebuildDatabase(ctx, root, date)
	if err != nil {
		return err
	}
	files, err := owners(root, headers)
	if err != nil {
		return err
	}
	for _, dir := range sweep {
		if err := sweepFolder(root, dir, files); err != nil {
			return err
		}
	}
	db, err := inside(root, dbFolder)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(db)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != dbFile {
			if err := os.RemoveAll(filepath.Join(db, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := identity(root, files); err != nil {
		return err
	}
	for _, name := range []string{"etc/shadow", "etc/shadow-"} {
		if err := shadowDates(root, name, date); err != nil {
			return err
		}
	}
	return setTimes(ctx, root, date, files)
}

// owners maps the real path of each packaged file below root to the times that
// packages give it, and each folder above one to nil.
func owners(root string, headers []*header) (map[string][]uint32, error) {
	files, dirs := map[string][]uint32{}, map[string]string{}
	for _, h := range headers {
		list, err := h.files()
		if err != nil {
			return nil, err
		}
		for _, f := range list {
			dir, ok := dirs[f.dir]
			if !ok {
				if dir, err = inside(root, f.dir); errors.Is(err, fs.ErrNotExist) {
					dir = filepath.Join(root, f.dir) // a ghost, or removed by a scriptlet
				} else if err != nil {
					return nil, err
				}
				dirs[f.dir] = dir
				for up := dir; len(up) > len(root); up = filepath.Dir(up) {
					if _, ok := files[up]; !ok {
						files[up] = nil
					}
				}
			}
			path := filepath.Join(dir, f.base)
			files[path] = append(files[path], f.mtime)
		}
	}
	return files, nil
}

// inside gives the real path of name below root, with every link on the way
// followed as a process whose root it is would.
func inside(root, name string) (string, error) {
	real, todo := root, strings.Split(name, "/")
	for links := 0; len(todo) > 0; {
		c := todo[0]
		todo = todo[1:]
		switch c {
		case "", ".":
			continue
		case "..":
			if real != root {
				real = filepath.Dir(real)
			}
			continue
		}
		path := filepath.Join(real, c)
		st, err := os.Lstat(path)
		if err != nil {
			return "", err
		}
		if st.Mode()&fs.ModeSymlink == 0 {
			real = path
			continue
		}
		target, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		if links++; links > 40 {
			return "", errs.E(errs.Invalid, "symbolic links go in circles: /"+name)
		}
		if filepath.IsAbs(target) {
			real = root
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return real, nil
}

// sweepFolder removes what no package owns.
func sweepFolder(root, name string, files map[string][]uint32) error {
	dir, err := inside(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	var walk func(dir string) error
	walk = func(dir string) error {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			if _, owned := files[path]; !owned {
				err = os.RemoveAll(path)
			} else if e.IsDir() {
				err = walk(path)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := walk(dir); err != nil {
		return err
	}
	if _, owned := files[dir]; !owned && name == "var/lib/dnf" {
		return os.Remove(dir)
	}
	return nil
}

// identity takes away what must be each device's own: systemd's scriptlets make
// a machine id and a seed where they run. An empty machine-id is filled by the
// first boot.
func identity(root string, files map[string][]uint32) error {
	if path, err := inside(root, "etc/machine-id"); err == nil {
		if err := os.Truncate(path, 0); err != nil {
			return err
		}
	}
	for _, name := range []string{"var/lib/dbus/machine-id", "var/lib/systemd/random-seed", "var/lib/urandom/random-seed"} {
		dir, err := inside(root, filepath.Dir(name))
		if err != nil {
			continue
		}
		path := filepath.Join(dir, filepath.Base(name))
		if st, err := os.Lstat(path); err == nil && st.Mode().IsRegular() {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// shadowDates sets the day of the last change of a password back to date, where
// a scriptlet's useradd wrote a later one: the day of the installation.
func shadowDates(root, name string, date time.Time) error {
	path, err := inside(root, name)
	if err != nil {
		return nil // no such file
	}
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	day := date.Unix() / 86400
	lines := strings.Split(string(old), "\n")
	for i, l := range lines {
		f := strings.Split(l, ":")
		if len(f) > 2 {
			if n, err := strconv.ParseInt(f[2], 10, 64); err == nil && n > day {
				f[2] = strconv.FormatInt(day, 10)
				lines[i] = strings.Join(f, ":")
			}
		}
	}
	text := []byte(strings.Join(lines, "\n"))
	if bytes.Equal(text, old) {
		return nil
	}
	return os.WriteFile(path, text, 0o600) // keeps the mode of a file that is there
}

// setTimes gives every file a time that does not depend on the installation. A
// packaged file keeps the one that its package says (rpm -Va looks at it); a
// folder's tells when something was put into it.
func setTimes(ctx context.Context, root string, date time.Time, files map[string][]uint32) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if d.Type()&fs.ModeSocket != 0 {
			return os.Remove(path) // no image can hold one
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		mtime := date
		if !d.IsDir() {
			for _, t := range files[path] {
				if int64(t) == st.ModTime().Unix() {
					mtime = time.Unix(int64(t), 0)
				}
			}
		}
		return lutimes(path, date, mtime)
	})
}

// lutimes sets the times of a file, of a link itself. The standard library
// follows links.
func lutimes(path string, atime, mtime time.Time) error {
	p, err := syscall.BytePtrFromString(path)
	if err != nil {
		return err
	}
	ts := [2]syscall.Timespec{syscall.NsecToTimespec(atime.UnixNano()), syscall.NsecToTimespec(mtime.UnixNano())}
	at, noFollow := -100, uintptr(0x100) // AT_FDCWD, AT_SYMLINK_NOFOLLOW
	_, _, errno := syscall.Syscall6(syscall.SYS_UTIMENSAT, uintptr(at), uintptr(unsafe.Pointer(p)), uintptr(unsafe.Pointer(&ts[0])), noFollow, 0, 0)
	if errno != 0 {
		return &os.PathError{Op: "utimensat", Path: path, Err: errno}
	}
	return nil
}
