package device

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"slipway/internal/errs"
)

// incomingFile is a file that a downloaded package brings.
type incomingFile struct {
	path string
	size int64
}

// reserve is what stays free on every file system, for logs and for the rpm
// database, in bytes.
const reserve = 16 << 20

// free gives the bytes that may still be written there, and which file system it is.
func free(dir string) (bytes int64, device uint64, err error) {
	var fs syscall.Statfs_t
	var st syscall.Stat_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, 0, err
	}
	if err := syscall.Stat(dir, &st); err != nil {
		return 0, 0, err
	}
	return int64(fs.Bavail) * int64(fs.Bsize), uint64(st.Dev), nil
}

// needDownload tells whether so many bytes fit into the cache.
func (d *Device) needDownload(size int64) error {
	if err := os.MkdirAll(d.path(cacheDir), 0o755); err != nil {
		return err
	}
	have, _, err := d.free(d.path(cacheDir))
	if err != nil {
		return err
	}
	if have < size+reserve {
		return tooFull("/"+cacheDir, size+reserve, have)
	}
	return nil
}

// needInstall tells whether the incoming files fit, on each file system by
// itself. rpm writes a file beside the old one and then replaces it: what is
// needed is the growth of all and the largest one twice.
func (d *Device) needInstall(files []incomingFile) error {
	type fileSystem struct {
		dir           string
		have          int64
		grow, largest int64
	}
	all, dirs := map[uint64]*fileSystem{}, map[string]*fileSystem{}
	var order []*fileSystem
	for _, f := range files {
		dir := filepath.Dir(f.path)
		fs := dirs[dir]
		if fs == nil {
			real := d.path(dir)
			for !exists(real) && real != d.root {
				real = filepath.Dir(real)
			}
			have, id, err := d.free(real)
			if err != nil {
				return err
			}
			if fs = all[id]; fs == nil {
				fs = &fileSystem{dir: dir, have: have}
				all[id] = fs
				order = append(order, fs)
			}
			dirs[dir] = fs
		}
		const block = 4096
		size := (f.size + block - 1) / block * block
		var old int64
		if st, err := os.Lstat(d.path(f.path)); err == nil && !st.IsDir() { // a folder stays
			old = (st.Size() + block - 1) / block * block
		}
		fs.grow += size - old
		fs.largest = max(fs.largest, size)
	}
	var bad errs.List
	for _, fs := range order {
		if need := fs.grow + fs.largest + reserve; need > fs.have {
			bad = append(bad, tooFull(fs.dir, need, fs.have))
		}
	}
	return bad.Err()
}

func tooFull(dir string, need, have int64) error {
	return errs.E(errs.Unavailable, fmt.Sprintf("not enough space at %s: %d MiB needed, %d MiB free", dir, need>>20+1, have>>20), errs.Hint("nothing was changed; make room and run it again"))
}
