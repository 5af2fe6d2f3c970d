package litefile

import "time"

// checkAt is how many pages of 4 KiB the WAL holds before they are moved into the
// file. More of them means that a page written often is moved once.
const checkAt = 16_000

// fewPages is how many pages the writer moves itself: others wait for that long.
const fewPages = 400

// checkpoints is what the writer knows of the moving of pages. The bulk is moved
// beside the work, by a connection of its own, until little is left; the writer
// moves that little, so that the WAL can start anew with the next commit. Nobody
// waits for the bulk, as long as the disk keeps up.
type checkpoints struct {
	at    uint32    // checkAt, but for tests
	next  uint32    // not before the WAL has so many pages: the last try was in vain
	frame uint32    // pages of the WAL when it was last looked at
	busy  bool      // pages are moved beside the work
	done  chan bool // whether pages could be moved
	conn  *Conn     // that moves them
}

// checkpoint moves the WAL into the file when it has grown. It runs in the writer,
// between two transactions. An error comes again at the next write.
func (f *File) checkpoint() {
	c := &f.check
	n := f.counter.frames()
	if n < c.frame { // it has begun anew
		c.next = 0
	}
	c.frame = n
	ended := func(moved bool) {
		if c.busy = false; !moved {
			c.next = n + c.at/4 // a reader needs the pages: the WAL grows meanwhile
		}
	}
	select {
	case moved := <-c.done:
		ended(moved)
	default:
	}
	switch {
	case !c.busy:
	case n >= 6*c.at: // the disk does not keep up: the writer waits, rather than the WAL grow
		ended(<-c.done)
	case n >= 4*c.at: // it slows down first
		t := time.NewTimer(20 * time.Millisecond)
		select {
		case moved := <-c.done:
			ended(moved)
		case <-t.C:
		}
		t.Stop()
	}
	if c.busy || n < max(c.at, c.next) {
		return
	}
	// What was moved beside the work may have ended while the last transaction was
	// written, time and again: its pages are more than few. The WAL must not grow for ever.
	if n >= 6*c.at || f.counter.backlog() <= fewPages {
		f.w.Row(`PRAGMA wal_checkpoint(PASSIVE)`)
		c.next = n + c.at/4 // unless it can begin anew
		return
	}
	c.busy = true
	go f.movePages()
}

// movePages moves pages until few are left, or none can be: a reader needs them.
func (f *File) movePages() {
	c := &f.check
	moved := false
	defer func() { c.done <- moved }()
	if c.conn == nil {
		var err error
		if c.conn, err = connect(f.path, "_pragma=busy_timeout(1000)"); err != nil {
			return
		}
	}
	for range 8 {
		if moved = f.counter.backlog() <= fewPages/2; moved {
			return
		}
		before := f.counter.moved()
		c.conn.Row(`PRAGMA wal_checkpoint(PASSIVE)`)
		if moved = f.counter.moved() > before; !moved {
			return
		}
	}
}

// endCheckpoints waits for what is under way. The writer calls it when it ends.
func (f *File) endCheckpoints() {
	c := &f.check
	if c.busy {
		<-c.done
		c.busy = false
	}
	if c.conn != nil {
		c.conn.close()
		c.conn = nil
	}
}
