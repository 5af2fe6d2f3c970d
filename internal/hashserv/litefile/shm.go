package litefile

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"slipway/internal/errs"
)

// counter is the count of transactions in SQLite's WAL index: the third word of
// its header, iChange in https://sqlite.org/walformat.html, section 2.1. Every
// process that has the database open shares these bytes.
type counter struct {
	id   fileID
	mem  []byte
	file *os.File
	refs int
}

type fileID struct{ dev, ino uint64 }

// counters are the mapped WAL indexes of this process, one for a file: closing a
// descriptor drops the POSIX locks that SQLite holds on the same file, so it may
// only be closed when nobody in the process has the database open.
var counters = struct {
	sync.Mutex
	m map[fileID]*counter
}{m: map[fileID]*counter{}}

func openCounter(path string) (*counter, error) {
	counters.Lock()
	defer counters.Unlock()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return nil, errs.Wrap(err, "look at %s", path)
	}
	id := fileID{st.Dev, st.Ino}
	if c := counters.m[id]; c != nil {
		c.refs++
		return c, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, errs.Wrap(err, "open %s", path)
	}
	// The first page of the index is 32 KiB; a smaller file would fault when read.
	if st.Size < 32<<10 {
		return nil, errs.E(errs.Internal, fmt.Sprintf("the WAL index %s has %d bytes", path, st.Size))
	}
	mem, err := syscall.Mmap(int(f.Fd()), 0, 4096, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, errs.Wrap(err, "map %s", path) // f stays open, see counters
	}
	c := &counter{id, mem, f, 1}
	counters.m[id] = c
	return c, nil
}

func (c *counter) load() uint32 {
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(&c.mem[8])))
}

// frames is how many pages the WAL holds: mxFrame, the fifth word.
func (c *counter) frames() uint32 {
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(&c.mem[16])))
}

// moved is how many of them are in the file: nBackfill of the checkpoint info,
// behind the two copies of the header.
func (c *counter) moved() uint32 {
	return atomic.LoadUint32((*uint32)(unsafe.Pointer(&c.mem[96])))
}

// backlog is how many of them are not in the file yet.
func (c *counter) backlog() uint32 {
	done := c.moved()
	return max(c.frames(), done) - done
}

// close is called after the connections of its File are closed.
func (c *counter) close() {
	counters.Lock()
	defer counters.Unlock()
	if c.refs--; c.refs > 0 {
		return
	}
	delete(counters.m, c.id)
	syscall.Munmap(c.mem)
	c.file.Close()
}
